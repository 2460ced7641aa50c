"""Large request bodies: whole, in constant memory, held up by who reads them; and slow ones."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import Served, wait_until

MIB = 1024 * 1024
RISE = 32 * MIB
"""What a process may need for whatever is uploaded."""
SIZE = 100 * MIB

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


class Source:
    """A file of 100 MiB, and what a view should say of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "source"
        block = os.urandom(MIB)
        crc = 0
        with self.path.open("wb") as file:
            for number in range(100):
                piece = number.to_bytes(4, "big") + block[4:]
                file.write(piece)
                crc = zlib.crc32(piece, crc)
        self.told = f"{SIZE} {crc}"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return Source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the gateway's workers keep temporary files, and the file ``go`` lets them read."""
    return tmp_path_factory.mktemp("folder")


@pytest.fixture(scope="module")
def site(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with one worker of one thread: who holds it holds up everybody."""
    with Served(
        tmp_path_factory.mktemp("site"),
        "--set", "workers.threads=1",
        "--set", "http.body_timeout=1",
        E2E_FILES=str(folder),
        TMPDIR=str(folder),
    ) as site:  # fmt: skip
        yield site


@pytest.fixture
def connect(site: Served) -> Iterator[Callable[[], socket.socket]]:
    """Open connections, which are closed at the end."""
    with contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", site.port), 10))

        yield connect


Connect = Callable[[], socket.socket]


def head(path: str, length: int, *lines: str) -> bytes:
    """Return the head of a POST."""
    more = "".join(f"{line}\r\n" for line in lines)
    return (
        f"POST /transfers/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
        f"{more}\r\n"
    ).encode()


def answer(client: socket.socket) -> tuple[int, bytes, bool]:
    """Read one response with a length: status, content, whether the connection is kept."""
    with client.makefile("rb") as file:
        status = int(file.readline().split()[1])
        length, kept = 0, True
        while (line := file.readline().lower()) != b"\r\n":
            assert line, "the connection ended within a head"
            name, _, value = line.partition(b":")
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                kept = value.strip() != b"close"
        return status, file.read(length), kept


def leftovers(site: Served, folder: Path) -> list[str]:
    """Return the temporary files that the worker still has."""
    (worker,) = site.processes()["worker"]
    return [file for file in site.files(worker) if file.startswith(str(folder))]


# ---------------------------------------------------------------- whole, in constant memory


def curl(site: Served, path: str, *options: str) -> subprocess.Popen[str]:
    """Start curl with an upload."""
    return subprocess.Popen(
        ["curl", "-sS", *options, site.url(f"/transfers/{path}")], stdout=subprocess.PIPE, text=True
    )


@needs_curl
@pytest.mark.timeout(60)
@pytest.mark.parametrize("path", ["upload", "streamed-upload"])
@pytest.mark.parametrize("way", ["length", "chunked", "form"])
def test_a_hundred_megabytes(
    site: Served, source: Source, folder: Path, path: str, way: str
) -> None:
    """An upload by curl arrives whole, whatever its framing (curl waits for 100 Continue), in
    constant memory; nothing of it is left.
    """
    options = {
        "length": ("-T", str(source.path)),
        "chunked": ("-T", str(source.path), "-H", "Transfer-Encoding: chunked"),
        "form": ("-F", f"file=@{source.path}"),
    }[way]
    with site.rise(RISE):
        told, _ = curl(site, path, *options).communicate(timeout=30)
    assert told == source.told
    if way == "form":
        assert "TemporaryUploadedFile" in site.seen.read_text()
    wait_until(lambda: not leftovers(site, folder))


@needs_curl
@pytest.mark.timeout(90)
def test_several_at_once(site: Served, source: Source) -> None:
    """Three of them at once, too, and others are served meanwhile."""
    with site.rise(RISE):
        uploads = [curl(site, "upload", "-F", f"file=@{source.path}") for _ in range(3)]
        assert site.get("/pid")[0] == 200
        assert [upload.communicate(timeout=60)[0] for upload in uploads] == [source.told] * 3


# ---------------------------------------------------------------- slow ones


def test_slow_uploads(site: Served, connect: Connect) -> None:
    """While uploads trickle in others are served by the only thread; then all are answered."""
    body = os.urandom(300_000)
    clients = [connect() for _ in range(8)]
    for client in clients:
        client.sendall(head("upload", len(body)) + body[:100_000])
    for start in range(100_000, 200_000, 10_000):
        for client in clients:
            client.sendall(body[start : start + 10_000])
        assert site.get("/pid")[0] == 200
    for client in clients:
        client.sendall(body[200_000:])
    told = f"{len(body)} {zlib.crc32(body)}".encode()
    assert [answer(client) for client in clients] == [(200, told, True)] * 8


def test_a_client_that_leaves(site: Served, folder: Path, connect: Connect) -> None:
    """Where a client leaves amid its body, its view is not called, ``http.disconnect`` comes,
    the temporary file is gone; that is no error.
    """
    site.seen.unlink(missing_ok=True)
    client = connect()
    client.sendall(head("upload", 10 * MIB) + bytes(MIB))
    wait_until(lambda: leftovers(site, folder))
    client.close()
    wait_until(lambda: not leftovers(site, folder))
    wait_until(site.seen.exists)
    assert site.seen.read_text() == "left /transfers/upload\n"
    assert "ERROR" not in site.text()
    assert site.get("/pid")[0] == 200


@pytest.mark.parametrize("path", ["upload", "streamed-upload"])
def test_a_client_that_stalls(site: Served, folder: Path, connect: Connect, path: str) -> None:
    """A client that sends nothing for ``http.body_timeout`` is answered 408, and counted."""
    before = site.total("gateway_http_refused_total", why="body-timeout")
    client = connect()
    client.sendall(head(path, 10 * MIB) + bytes(MIB))
    assert answer(client)[0] == 408
    assert site.total("gateway_http_refused_total", why="body-timeout") == before + 1
    wait_until(lambda: not leftovers(site, folder))
    assert site.get("/pid")[0] == 200


# ---------------------------------------------------------------- who does not read


def test_a_view_that_does_not_read(site: Served, connect: Connect) -> None:
    """It answers, and the connection can be used again."""
    client = connect()
    for _ in range(2):
        client.sendall(head("unread", MIB) + bytes(MIB))
        assert answer(client) == (200, b"who cares", True)


def test_a_streamed_body_that_is_not_read(site: Served, connect: Connect) -> None:
    """Who streams its body may answer before it came; then the connection ends."""
    client = connect()
    client.sendall(head("streamed-unread", SIZE) + bytes(MIB))
    assert answer(client) == (200, b"who cares", False)


def test_expect(site: Served, connect: Connect) -> None:
    """The client is told to go on before it sends its body (RFC 9110 section 10.1.1)."""
    client = connect()
    client.sendall(head("upload", 200_000, "Expect: 100-continue"))
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert client.recv(len(go_on), socket.MSG_WAITALL) == go_on
    client.sendall(bytes(200_000))
    assert answer(client)[1] == b"200000 %d" % zlib.crc32(bytes(200_000))


def test_a_slow_consumer(site: Served, folder: Path, connect: Connect) -> None:
    """A consumer that does not read holds the client up, in constant memory; when it reads, all
    comes.
    """
    client = connect()
    client.setblocking(False)
    pieces = memoryview(head("slurp", SIZE) + bytes(SIZE))
    sent = 0
    with site.rise(RISE):
        while select.select([], [client], [], 1.0)[1]:
            sent += client.send(pieces[sent:])
            assert sent < SIZE // 2, "nothing holds the client up"
    client.setblocking(True)
    sender = threading.Thread(target=client.sendall, args=(pieces[sent:],))
    sender.start()
    (folder / "go").touch()
    client.settimeout(15)
    assert answer(client)[:2] == (200, str(SIZE).encode())
    sender.join()
