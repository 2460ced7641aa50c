"""Large responses: whole, at the client's pace, in constant memory, until the client leaves."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import Served, wait_until

MIB = 1024 * 1024
RISE = 32 * MIB
"""What a process may need for whatever is downloaded."""
SMALL = bytes(range(256)) * 8


class Files:
    """A folder of files to download, and a gateway with one worker thread that serves them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "small").write_bytes(SMALL)
        (folder / "page.html").write_bytes(b"<p>static</p>")
        self.crc: dict[str, int] = {}

    def sparse(self, name: str, size: int) -> None:
        """Make a file of ``size`` bytes, random at some places and zero elsewhere."""
        with (self.folder / name).open("wb") as file:
            for place in range(0, size, size // 7):
                file.seek(place)
                file.write(os.urandom(min(50_000, size - place)))
            file.truncate(size)
        with (self.folder / name).open("rb") as file:
            crc = 0
            while data := file.read(MIB):
                crc = zlib.crc32(data, crc)
        self.crc[name] = crc


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    files = Files(tmp_path_factory.mktemp("files"))
    files.sparse("big", 64 * MIB)
    return files


@pytest.fixture(scope="module")
def site(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with one worker of one thread: who holds it holds up everybody."""
    folder = tmp_path_factory.mktemp("site")
    with Served(folder, "--set", "workers.threads=1", E2E_FILES=str(files.folder)) as site:
        yield site


@pytest.fixture
def notes(site: Served) -> Path:
    """What the views note, emptied."""
    site.seen.unlink(missing_ok=True)
    return site.seen


class Download:
    """A raw client that reads as much as it is told to."""

    def __init__(self, site: Served, path: str, buffer: int) -> None:
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(15)
        self.socket.connect(("127.0.0.1", site.port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.crc = self.size = 0
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        self.head = head.decode()

    def read(self, most: int) -> bool:
        """Read up to ``most`` bytes; False at the end."""
        data = self.socket.recv(most)
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)
        return bool(data)

    def read_all(self, size: int) -> None:
        """Read until there are ``size`` bytes of content."""
        buffer = bytearray(MIB)
        view = memoryview(buffer)
        while self.size < size:
            count = self.socket.recv_into(view)
            assert count, f"it ended after {self.size} bytes"
            self.size += count
            self.crc = zlib.crc32(view[:count], self.crc)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def download(site: Served) -> Iterator[Begin]:
    """Begin a download: ``download(path, buffer=…)``; each is closed at the end."""
    with contextlib.ExitStack() as stack:

        def begin(path: str, *, buffer: int = 0, at: Served = site) -> Download:
            begun = Download(at, f"/transfers/{path}", buffer)
            stack.callback(begun.close)
            return begun

        yield begin


Begin = Callable[..., Download]


def is_quiet(site: Served) -> bool:
    """Whether nothing waits, is in hand, or is open any more."""
    numbers = site.numbers()
    return not (
        numbers["gateway_layer_pending"]
        or numbers["gateway_layer_in_hand"]
        or numbers['gateway_connections{plugin="http"}']
    )


def is_held_up(site: Served) -> bool:
    """Whether nothing moves any more: the client has to take something first."""
    before = site.total("gateway_replies_total")
    threading.Event().wait(0.2)
    return before == site.total("gateway_replies_total")


# ---------------------------------------------------------------- whole, in constant memory


@pytest.mark.timeout(90)
def test_a_gigabyte(site: Served, files: Files, download: Begin) -> None:
    """A FileResponse of 1 GiB arrives whole, with its length, in constant memory."""
    size = 1024 * MIB
    files.sparse("gigabyte", size)
    try:
        with site.rise(RISE):
            begun = download("file/gigabyte")
            assert f"content-length: {size}\r\n" in begun.head
            begun.read_all(size)
        assert begun.crc == files.crc["gigabyte"]
        assert site.get("/pid")[0] == 200
    finally:
        (files.folder / "gigabyte").unlink()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("path", ["file/big", "stream/1024", "astream/1024"])
def test_several_at_once(site: Served, files: Files, download: Begin, path: str) -> None:
    """Four downloads at once arrive whole, in constant memory."""
    size = 64 * MIB
    with site.rise(RISE):
        downloads = [download(path) for _ in range(4)]
        threads = [threading.Thread(target=_read_body, args=(one, size)) for one in downloads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    crc = files.crc["big"] if path == "file/big" else zlib.crc32(b"0123456789abcdef" * 4096 * 1024)
    assert [one.crc for one in downloads] == [crc] * 4
    wait_until(lambda: is_quiet(site))


def _read_body(download: Download, size: int) -> None:
    """Read a body of ``size`` bytes, by its length or in chunks (RFC 9112 section 7.1)."""
    if "content-length" in download.head:
        download.read_all(size)
        return
    with download.socket.makefile("rb") as file:
        while length := int(file.readline(), 16):
            data = file.read(length)
            download.size += len(data)
            download.crc = zlib.crc32(data, download.crc)
            assert file.readline() == b"\r\n"
    assert download.size == size


def test_curl(site: Served, files: Files) -> None:
    """curl gets the file and is satisfied."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    target = files.folder / "got"
    subprocess.run(
        ["curl", "-sSf", "-o", str(target), site.url("/transfers/file/big")],
        check=True,
        timeout=15,
    )
    assert zlib.crc32(target.read_bytes()) == files.crc["big"]
    target.unlink()


# ---------------------------------------------------------------- slow clients, and who leaves


@pytest.mark.parametrize("path", ["file/big", "stream/1024", "astream/1024"])
def test_slow_clients(site: Served, download: Begin, path: str) -> None:
    """While clients take a large response a little at a time, others are served by the only
    thread, and memory is constant.
    """
    with site.rise(RISE):
        downloads = [download(path, buffer=65536) for _ in range(8)]
        for _ in range(10):
            for one in downloads:
                assert one.read(65536)
            assert site.get("/pid")[0] == 200
    for one in downloads:
        one.close()
    wait_until(lambda: is_quiet(site))


def test_more_slow_streams_than_stand_ins(tmp_path: Path, download: Begin) -> None:
    """Of synchronous streams only so many wait for their clients; those that waited longest are
    cut off, and others are served.
    """
    with Served(tmp_path, "--set", "workers.threads=1", "--set", "workers.stand_ins=4") as site:
        downloads = [download("stream/1024", buffer=65536, at=site) for _ in range(12)]
        wait_until(lambda: site.seen.exists() and site.seen.read_text().count("closed") == 8)
        for _ in range(20):
            assert site.get("/pid")[0] == 200
        with pytest.raises((OSError, AssertionError, ValueError)):
            _read_body(downloads[0], 64 * MIB)
        _read_body(downloads[-1], 64 * MIB)
        for one in downloads:
            one.close()  # a stop would wait for them


@pytest.mark.parametrize("path", ["file/big", "stream/1024", "astream/1024"])
def test_a_client_that_leaves(site: Served, notes: Path, download: Begin, path: str) -> None:
    """Where the client leaves, the file is closed or the iterator stopped within a second,
    ``http.disconnect`` comes, what was under way is counted, the thread is free.
    """
    before = site.total("gateway_drops_total", cause="gone")
    (worker,) = site.processes()["worker"]

    def big() -> int:
        """How often the file is open: Django's answer 304 leaves it to the garbage collector."""
        return sum(file.endswith("/big") for file in site.files(worker))

    others = big()
    begun = download(path, buffer=65536)
    begun.read(MIB)
    assert not notes.exists()
    wait_until(lambda: is_held_up(site))
    begun.close()
    left = time.monotonic()
    wait_until(lambda: notes.exists() and len(notes.read_text().splitlines()) == 2)
    assert time.monotonic() - left < 5  # far below any timeout
    assert sorted(notes.read_text().splitlines()) == ["closed", f"left /transfers/{path}"]
    if path != "file/big":  # its one piece under way may be in the socket already
        assert site.total("gateway_drops_total", cause="gone") > before
    assert site.get("/pid")[0] == 200
    wait_until(lambda: big() <= others)
    wait_until(lambda: is_quiet(site))


def test_a_client_that_does_not_read(files: Files, tmp_path: Path, download: Begin) -> None:
    """Who takes nothing for ``http.write_timeout`` is cut off and counted; the file is closed."""
    with Served(tmp_path, "--set", "http.write_timeout=0.5", E2E_FILES=str(files.folder)) as site:
        begun = download("file/big", buffer=65536, at=site)
        wait_until(lambda: site.seen.exists() and "closed" in site.seen.read_text())
        wait_until(lambda: site.total("gateway_drops_total", cause="slow", where="http") == 1)
        with pytest.raises((ConnectionResetError, AssertionError)):
            begun.read_all(64 * MIB)


# ---------------------------------------------------------------- what goes with a download


def ask(
    site: Served, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """Make a request; return the response and its body."""
    client = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
    client.request(method, f"/transfers/{path}", headers=headers)
    response = client.getresponse()
    body = response.read()
    client.close()
    return response, body


@pytest.mark.parametrize(
    ("path", "length"),
    [("file/big", str(64 * MIB)), ("file/small", "2048"), ("static/page.html", "13")],
)
def test_head(site: Served, path: str, length: str) -> None:
    """HEAD has the length of GET, and no content."""
    response, body = ask(site, path, "HEAD")
    assert (response.status, response.headers["Content-Length"], body) == (200, length, b"")


def test_head_of_a_stream(site: Served, notes: Path) -> None:
    """HEAD of a stream has no length, as GET, and runs no iterator."""
    response, body = ask(site, "stream/1024", "HEAD")
    assert (response.status, body) == (200, b"")
    assert response.headers["Content-Length"] is None
    assert not notes.exists()


def test_not_modified(site: Served) -> None:
    """What the client has already is not sent again, whether Django's static view or its
    ConditionalGetMiddleware says so.
    """
    response, body = ask(site, "static/page.html")
    assert body == b"<p>static</p>"
    modified = response.headers["Last-Modified"]
    again, body = ask(site, "static/page.html", **{"If-Modified-Since": modified})
    assert (again.status, body) == (304, b"")
    again, body = ask(site, "dated/big", **{"If-Modified-Since": "Tue, 17 Nov 2026 10:00:00 GMT"})
    assert (again.status, body) == (304, b"")
    again, body = ask(site, "dated/small", **{"If-Modified-Since": "Mon, 16 Nov 2026 10:00:00 GMT"})
    assert (again.status, body) == (200, SMALL)


def test_ranges_of_a_view(site: Served) -> None:
    """Where a view answers ranges they pass unharmed: one, a file's, several, none that fits."""
    response, body = ask(site, "ranged/small", Range="bytes=10-19")
    assert (response.status, body) == (206, SMALL[10:20])
    assert response.headers["Content-Range"] == "bytes 10-19/2048"
    assert response.headers["Content-Length"] == "10"
    response, body = ask(site, "ranged/big", Range="bytes=0-")
    assert (response.status, len(body)) == (206, 64 * MIB)
    assert response.headers["Content-Length"] == str(64 * MIB)
    response, body = ask(site, "ranged/small", Range="bytes=0-1,-2")
    assert response.status == 206
    assert response.headers["Content-Type"] == "multipart/byteranges; boundary=cut"
    assert body == (
        b"--cut\r\nContent-Range: bytes 0-1/2048\r\n\r\n\x00\x01\r\n"
        b"--cut\r\nContent-Range: bytes 2046-2047/2048\r\n\r\n\xfe\xff\r\n--cut--\r\n"
    )
    response, body = ask(site, "ranged/small", Range="bytes=5000-")
    assert (response.status, body) == (416, b"")
    assert response.headers["Content-Range"] == "bytes */2048"


@pytest.mark.parametrize("path", ["file/small", "static/page.html"])
def test_django_answers_no_ranges(site: Served, path: str) -> None:
    """Django's own FileResponse and static view answer a Range with the whole, as RFC 9110
    section 14.2 allows; the gateway leaves it so.
    """
    response, body = ask(site, path, Range="bytes=0-3")
    assert response.status == 200
    assert len(body) == int(response.headers["Content-Length"])
    assert response.headers["Accept-Ranges"] is None
