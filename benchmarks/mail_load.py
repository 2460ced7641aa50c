"""Mail to whoever takes it: the gateway and its consumer, or a handler of aiosmtpd's.

::

    Client ──MAIL, RCPT, DATA, the mail──► taker      one mail after the other, over each of several
           ◄──an answer to each, 250 last──           connections

The gateway is supervisor, gateway, hub and one worker with a synchronous consumer; aiosmtpd has no
application behind it: its handler returns ``250 OK``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.mqtt import Peer
from tests.house.serving import free_port

TAKERS = ("gateway", "aiosmtpd")
CONNECTIONS = 16
"""Mail servers that speak to us at once: a busy site's."""
SIZE = 2048
"""Bytes of a mail's text: what people write, with what their programs put around it."""
START_SECONDS = 30.0

SETTINGS = """
SECRET_KEY = "bench"
INSTALLED_APPS = ["django_gateway"]
CHANNEL_LAYERS = {"default": {"ROUTING": "bench_mail_routing.routing"}}
"""
ROUTING = """
from django_gateway import route

def receive(message):
    pass

routing = [route("email.receive", receive)]
"""
AIOSMTPD = """
import asyncio, sys
from aiosmtpd.smtp import SMTP

class Handler:
    async def handle_DATA(self, server, session, envelope):
        return "250 OK"

async def main():
    loop = asyncio.get_running_loop()
    def made():
        return SMTP(Handler(), hostname="bench.example", enable_SMTPUTF8=True)
    server = await loop.create_server(made, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""
MAIL = (
    b"Received: from a.example (a.example [192.0.2.1]) by b.example; Thu, 26 Nov 2026 12:00:00 GMT"
    b"\r\nFrom: Ann <ann@example.org>\r\nTo: Support <support@bench.example>\r\nSubject: A mail of"
    b" the usual size\r\nDate: Thu, 26 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%d.%d@example.org>"
    b"\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    + b"\r\n".join([b"x" * 70] * (SIZE // 72))
    + b"\r\n.\r\n"
)


@contextlib.contextmanager
def started(name: str) -> Iterator[Peer]:
    """Start a taker; end it and all that it started at the end."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        room = Path(folder)
        (room / "bench_mail_settings.py").write_text(SETTINGS)
        (room / "bench_mail_routing.py").write_text(ROUTING)
        (room / "bench_aiosmtpd.py").write_text(AIOSMTPD)
        environment = os.environ | {"PYTHONPATH": f"{room}{os.pathsep}{servers.ROOT}"}
        argv: tuple[str, ...] = (sys.executable, str(room / "bench_aiosmtpd.py"), str(port))
        if name == "gateway":
            argv = (
                sys.executable, "-m", "gateway", "run", "--plugins", "email", "--workers", "1",
                "--settings", "bench_mail_settings", "--layer", f"unix://{room}/hub",
                "--set", f"email.listen='127.0.0.1:{port}'",
                "--set", "email.domains=['bench.example']", "--set", "email.max_messages=1000000",
                "--set", f"email.spool='{room}/spool'", "--set", "email.check_senders=false",
            )  # fmt: skip
        with servers.child(argv, environment, room / "log") as process:
            peer = Peer(name, process.pid, port)
            end = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(OSError, ConnectionError, TimeoutError):
                    asyncio.run(asyncio.wait_for(deliver(peer, 1, 1), 5))
                    break
                if time.monotonic() > end or process.poll() is not None:
                    raise SystemExit(f"{name} does not answer\n{servers.tail(room / 'log')}")
                time.sleep(0.2)
            yield peer


class Client(asyncio.Protocol):
    """A mail server that has ``count`` mails for us; it waits for every answer."""

    def __init__(self, number: int, count: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._number = number
        self._left = count
        self._step = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Go on at the end of each answer."""
        last = data.rstrip(b"\r\n").rpartition(b"\r\n")[2]
        if last[3:4] == b"-" or not data.endswith(b"\r\n"):
            return
        if last[:1] not in (b"2", b"3"):
            self._fail(f"it says {last.decode()}")
            return
        transport = self._transport
        if transport is None:
            return
        step, self._step = self._step, self._step + 1
        if step == 0:
            transport.write(b"EHLO client.example\r\n")
        elif step % 4 == 1:
            if self._left == 0:
                transport.write(b"QUIT\r\n")
                self._transport = None
                return
            transport.write(b"MAIL FROM:<ann@example.org>\r\n")
        elif step % 4 == 2:
            transport.write(b"RCPT TO:<support@bench.example>\r\n")
        elif step % 4 == 3:
            transport.write(b"DATA\r\n")
        else:
            self._left -= 1
            transport.write(MAIL % (self._number, self._left))

    def connection_lost(self, exc: Exception | None) -> None:
        """It is done, where that is the answer to QUIT."""
        if self._transport is None and not self.done.done():
            self.done.set_result(None)
        self._fail("it has closed the connection")

    def _fail(self, why: str) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if not self.done.done():
            self.done.set_exception(ConnectionError(why))


async def deliver(peer: Peer, count: int, connections: int = CONNECTIONS) -> tuple[float, float]:
    """Return CPU (µs) a mail, and mails a second."""
    loop = asyncio.get_running_loop()
    before, begun = peer.cpu(), time.perf_counter()
    clients = []
    for number in range(connections):
        made = partial(Client, number, count // connections)
        clients.append((await loop.create_connection(made, "127.0.0.1", peer.port))[1])
    await asyncio.gather(*(client.done for client in clients))
    took = time.perf_counter() - begun
    cpu = peer.cpu() - before
    return cpu / count * 1e6, count / took
