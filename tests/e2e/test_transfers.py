"""Large transfers over TLS and over HTTP/2, by curl: whole, in constant memory."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator

import pytest

from tests.certificates import Authority
from tests.e2e.serving import Served, wait_until
from tests.e2e.test_downloads import MIB, RISE, Files

SIZE = 64 * MIB
WAYS = {
    "HTTP/1.1 over TLS": ("https", "--http1.1"),
    "HTTP/2 over TLS": ("https", "--http2"),
    "HTTP/2": ("http", "--http2-prior-knowledge"),
}

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    files = Files(tmp_path_factory.mktemp("files"))
    files.sparse("big", SIZE)
    return files


@pytest.fixture(scope="module")
def site(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that speaks TLS and plain HTTP, with one worker of one thread."""
    folder = tmp_path_factory.mktemp("site")
    certificate = Authority(folder).issue("site", "127.0.0.1")
    with Served(
        folder,
        *("--listen", "tls:127.0.0.1:0", "--set", f"tls.certificate={certificate}"),
        *("--set", "workers.threads=1"),
        E2E_FILES=str(files.folder),
    ) as site:
        yield site


def curl(site: Served, way: str, path: str, *options: str) -> subprocess.Popen[bytes]:
    """Start curl, which says at last which version of HTTP it spoke."""
    scheme, version = WAYS[way]
    (port,) = re.findall(rf"{scheme}://127\.0\.0\.1:(\d+)", site.text())
    url = f"{scheme}://127.0.0.1:{port}/transfers/{path}"
    return subprocess.Popen(
        ["curl", "-sSkf", version, "-w", "%{stderr}%{http_version}", *options, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def version(way: str) -> bytes:
    return b"1.1" if "1.1" in way else b"2"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", WAYS)
def test_downloads(site: Served, files: Files, way: str) -> None:
    """Two downloads at once arrive whole, while others are served, in constant memory."""
    with site.rise(RISE):
        clients = [curl(site, way, "file/big") for _ in range(2)]
        assert site.get("/pid")[0] == 200
        for client in clients:
            assert client.stdout is not None
            crc = size = 0
            while data := client.stdout.read(MIB):
                size += len(data)
                crc = zlib.crc32(data, crc)
            _, said = client.communicate(timeout=10)
            assert (size, crc, said) == (SIZE, files.crc["big"], version(way))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["upload", "streamed-upload"])
def test_uploads(site: Served, files: Files, way: str, path: str) -> None:
    """Two uploads at once arrive whole, while others are served, in constant memory."""
    source = files.folder / "big"
    with site.rise(RISE):
        clients = [curl(site, way, path, "-T", str(source)) for _ in range(2)]
        assert site.get("/pid")[0] == 200
        for client in clients:
            told, said = client.communicate(timeout=40)
            assert (told, said) == (f"{SIZE} {files.crc['big']}".encode(), version(way))


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_leaves(site: Served, way: str) -> None:
    """A client that leaves ends its download, and is no error."""
    site.seen.unlink(missing_ok=True)
    client = curl(site, way, "file/big")
    assert client.stdout is not None
    assert client.stdout.read(MIB)
    client.kill()
    client.communicate()
    wait_until(lambda: site.seen.exists() and site.seen.read_text().count("\n") >= 2)
    assert sorted(site.seen.read_text().splitlines()) == ["closed", "left /transfers/file/big"]
    assert "ERROR" not in site.text()
