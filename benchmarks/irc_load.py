"""Lines of IRC to whoever takes them: the gateway and its consumer, or a bot of the irc library.

::

    Flood ──one channel, as fast as it is read──► taker ──"done", after the last──► Flood

To both takers it is a network of one server. What people say in a channel is one conversation, so
that a consumer has one line after the other. In the server role the same is said by clients, each
in a channel of its own, and the last line of each is answered to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.servers import ROOT

CHANNEL = "#bench"
LAST = "last"
DONE = "done"
TEXT = "the quick brown fox jumps over the lazy dog, as it is said in rooms"
PATIENCE = 60.0
"""Seconds after which a round is given up."""
CLIENTS = 16
"""Clients of the server role: enough for the bus to have several conversations at once."""
BURST = 500
"""Lines of a client that are written at once."""


class Flood:
    """A network that says what it is told to, and counts nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._members: dict[str, socket.socket] = {}
        self._joined = threading.Condition()
        self._done = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def rate(self, nick: str, count: int) -> float:
        """Return the lines a second that the one of this nick takes."""
        line = f":alice!al@users.test PRIVMSG {CHANNEL} :"
        lines = f"{line}{TEXT}\r\n" * (count - 1) + f"{line}{LAST}\r\n"
        self._done.clear()
        start = time.perf_counter()
        self._members[nick].sendall(lines.encode())
        if not self._done.wait(PATIENCE):
            raise TimeoutError(f"{nick}: not everything was taken in {PATIENCE:.0f} s")
        return count / (time.perf_counter() - start)

    def wait_for(self, nick: str) -> None:
        """Wait until somebody of this nick is there and answers."""
        with self._joined:
            if not self._joined.wait_for(lambda: nick in self._members, PATIENCE):
                raise TimeoutError(f"{nick} does not join")
        end = time.monotonic() + PATIENCE
        self._done.clear()
        while not self._done.wait(0.5):
            if time.monotonic() > end:
                raise TimeoutError(f"{nick} does not answer")
            said = f":alice!al@users.test PRIVMSG {CHANNEL} :{LAST}\r\n"
            self._members[nick].sendall(said.encode())

    def close(self) -> None:
        """End it."""
        self._listener.close()
        for member in self._members.values():
            member.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        nick = ""
        with contextlib.suppress(OSError), client.makefile("rb") as lines:
            for raw in lines:
                command, *params = raw.decode().split()
                if command == "NICK":
                    nick = params[0]
                answer = _answer(command, params, nick)
                if answer:
                    client.sendall(answer.encode())
                if command == "JOIN":
                    with self._joined:
                        self._members[nick] = client
                        self._joined.notify_all()
                if command == "PRIVMSG" and params[1:] == [f":{DONE}"]:
                    self._done.set()


def _answer(command: str, params: list[str], nick: str) -> str:
    if command == "USER":
        welcome = f":bench.test 001 {nick} :Welcome\r\n:bench.test 376 {nick} :End\r\n"
        return welcome + f":bench.test 005 {nick} CHANTYPES=# CASEMAPPING=ascii :are here\r\n"
    if command == "CAP":
        return "CAP * LS :\r\n" if params[0] == "LS" else ""
    if command == "PING":
        return f":bench.test PONG bench.test {params[0]}\r\n"
    if command == "JOIN":
        named = f":bench.test 353 {nick} = {CHANNEL} :{nick} alice\r\n"
        end = f":bench.test 366 {nick} {CHANNEL} :End\r\n"
        return f":{nick}!b@users.test JOIN {CHANNEL}\r\n{named}{end}"
    return ""


@contextlib.contextmanager
def bare(port: int, nick: str) -> Iterator[int]:
    """A bot of the irc library with a callback, in a process of its own; yields its pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.irc_load", str(port), nick], cwd=ROOT
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(5)


def take(port: int, nick: str) -> None:
    """Take lines by a callback."""
    from irc.client import SimpleIRCClient

    class Bot(SimpleIRCClient):
        def on_welcome(self, connection: Any, event: Any) -> None:
            connection.join(CHANNEL)

        def on_pubmsg(self, connection: Any, event: Any) -> None:
            if event.arguments[0] == LAST:
                connection.privmsg(CHANNEL, DONE)

    bot = Bot()
    bot.connect("127.0.0.1", port, nick)
    bot.start()


def options(port: int, nick: str) -> tuple[str, ...]:
    """Return what has a gateway join the network."""
    where = f'connect = "127.0.0.1:{port}", nick = "{nick}", channels = ["{CHANNEL}"]'
    found = f"{{bench = {{{where}}}}}"
    return ("--set", f"irc.networks={found}", "--set", "irc.listen=[]")


# ------------------------------------------------ the server role


def listening(port: int) -> tuple[str, ...]:
    """Return what has a gateway serve clients that may say as much as they like."""
    return ("--set", f"irc.listen='127.0.0.1:{port}'", "--set", "irc.line_rate=0")


async def clients_rate(port: int, count: int) -> float:
    """Return the lines a second that clients have taken by a consumer, all of them together."""
    loop = asyncio.get_running_loop()
    clients = []
    for number in range(CLIENTS):
        _, client = await loop.create_connection(
            lambda number=number: Client(number), "127.0.0.1", port
        )
        await client.until(b" 366 ")
        clients.append(client)
    each = count // CLIENTS
    start = time.perf_counter()
    await asyncio.wait_for(asyncio.gather(*(one.flood(each) for one in clients)), PATIENCE)
    took = time.perf_counter() - start
    for one in clients:
        one.transport.close()
    return each * CLIENTS / took


class Client(asyncio.Protocol):
    """A client that says much."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._heard = b""
        self._awaited: tuple[bytes, asyncio.Future[None]] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        hello = f"NICK b{self._number}\r\nUSER b 0 * :b\r\nJOIN {CHANNEL}{self._number}\r\n"
        transport.write(hello.encode())

    def data_received(self, data: bytes) -> None:
        self._heard = self._heard[-100:] + data
        if self._awaited is not None and self._awaited[0] in self._heard:
            self._awaited[1].set_result(None)
            self._awaited = None

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def until(self, word: bytes) -> None:
        """Wait for a word."""
        if word not in self._heard:
            self._awaited = (word, asyncio.get_running_loop().create_future())
            await asyncio.wait_for(self._awaited[1], PATIENCE)
        self._heard = b""

    async def flood(self, count: int) -> None:
        """Say so many lines, and wait for the answer to the last."""
        line = f"PRIVMSG {CHANNEL}{self._number} :"
        left = count - 1
        while left:
            now = min(left, BURST)
            await self._writable.wait()
            self.transport.write(f"{line}{TEXT}\r\n".encode() * now)
            left -= now
        self.transport.write(f"{line}{LAST}\r\n".encode())
        await self.until(f":{DONE}\r\n".encode())


if __name__ == "__main__":
    take(int(sys.argv[1]), sys.argv[2])
