"""Any library of Twisted's or asyncio's can carry a protocol; what blocks the loop is named."""

from __future__ import annotations

import asyncio
import ftplib
import io
import threading
import time
import types
from typing import TypedDict

from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateway.core.layers.base import OK
from gateway.core.listen import bind
from gateway.core.plugin import Emit, Peer, ProtocolPlugin, Session, Write
from gateway.core.stream import StreamPlugin
from gateway.core.watchdog import Watchdog
from gateway.testing.stage import Staged, wait_until


class Text(TypedDict):
    text: str


class Reply(TypedDict, total=False):
    text: str


MESSAGES = types.SimpleNamespace(KINDS={"receive": Text}, REPLY=Reply)


class Talk(Session):
    """Text in, text out, in a library's own terms."""

    def received(self, data):
        return [Emit("receive", {"text": data})]

    def send(self, conversation, reply, token):
        return [Write(reply["text"])]


class Wire:
    """What the core drives: two functions of a library's connection."""

    traffic = None

    def __init__(self, write, end):
        self.write = write
        self._end = end

    def close(self, data, *, abort):
        self._end()

    def pause(self):
        pass

    resume = pause


class Lines(LineReceiver):
    """A protocol of Twisted's, as its documentation would have it."""

    delimiter = b"\n"

    def __init__(self, context):
        self.context = context

    def connectionMade(self):
        wire = Wire(lambda text: self.sendLine(text.encode()), self.transport.loseConnection)
        self.connection = self.context.attach(Talk(), wire, Peer())

    def lineReceived(self, line):
        self.connection.received(line.decode())

    def connectionLost(self, reason=None):
        self.connection.lost()


class TwistedPlugin(ProtocolPlugin):
    name = "twisted"
    messages = MESSAGES

    async def start(self):
        from twisted.internet import reactor

        factory = Factory.forProtocol(lambda: Lines(self.context))
        factory.noisy = False
        (listen,) = self.context.endpoints()
        with bind(listen) as sock:
            self.port = reactor.adoptStreamPort(sock.fileno(), sock.family, factory)

    async def stop(self):
        await self.port.stopListening().asFuture(self.context.loop)
        await self.context.idle()


def test_twisted():
    """A protocol of Twisted's, on Twisted's reactor, is a plugin of a few lines."""
    with Staged(TwistedPlugin) as staged:
        client = staged.connect()
        client.sendall(b"hello\n")
        staged.hear().settle(OK, {"text": "hi"})
        assert staged.read(client, 3) == b"hi\n"
        client.close()
        wait_until(lambda: not staged.left_over())


class FilesPlugin(ProtocolPlugin):
    """Twisted's own FTP server, whose uploads become messages."""

    name = "files"
    messages = MESSAGES

    async def start(self):
        from twisted.cred.checkers import AllowAnonymousAccess
        from twisted.cred.portal import Portal
        from twisted.internet import reactor
        from twisted.protocols.ftp import FTPFactory, FTPShell, IFTPShell
        from twisted.python.filepath import FilePath

        plugin = self

        class Shell(FTPShell):
            def makeDirectory(self, path):
                wire = Wire(print, print)
                connection = plugin.context.attach(Talk(), wire, Peer())
                connection.received("/".join(path))
                connection.lost()
                return super().makeDirectory(path)

        class Realm:
            def requestAvatar(self, avatar, mind, *interfaces):
                return IFTPShell, Shell(FilePath(plugin.config.directory)), lambda: None

        factory = FTPFactory(Portal(Realm(), [AllowAnonymousAccess()]))
        factory.noisy = False
        (listen,) = self.context.endpoints()
        with bind(listen) as sock:
            self.port = reactor.adoptStreamPort(sock.fileno(), sock.family, factory)

    async def stop(self):
        await self.port.stopListening().asFuture(self.context.loop)


def test_a_server_of_twisteds_own(tmp_path):
    """A whole server of Twisted's own runs in a plugin, with a real client."""
    with (
        Staged(FilesPlugin, types.SimpleNamespace(directory=str(tmp_path))) as staged,
        ftplib.FTP() as client,
    ):
        client.connect("127.0.0.1", staged.port, timeout=5)
        client.login()
        client.mkd("made")
        assert (tmp_path / "made").is_dir()
        assert staged.hear().message["text"] == "made"
        client.retrlines("LIST", (listing := io.StringIO()).write)
        assert "made" in listing.getvalue()
        client.quit()


class WebsocketsPlugin(ProtocolPlugin):
    """The websockets library: coroutines, one for each connection."""

    name = "other"
    messages = MESSAGES

    async def start(self):
        (listen,) = self.context.endpoints()
        self.server = await serve(self.talk, sock=bind(listen))

    async def talk(self, socket):
        queue = asyncio.Queue()
        wire = Wire(queue.put_nowait, lambda: queue.put_nowait(None))
        connection = self.context.attach(Talk(), wire, Peer())

        async def send():
            while (text := await queue.get()) is not None:
                await socket.send(text)
            await socket.close()

        sending = self.context.spawn(send())
        try:
            async for text in socket:
                connection.received(text)
        except ConnectionClosed:
            pass
        finally:
            connection.lost()
            sending.cancel()

    async def stop(self):
        self.server.close()
        await self.server.wait_closed()


def test_asyncio():
    """A library of asyncio's, with a coroutine for each connection, is a plugin as well."""
    with Staged(WebsocketsPlugin) as staged:
        with connect(f"ws://127.0.0.1:{staged.port}/") as client:
            client.send("hello")
            staged.hear().settle(OK, {"text": "hi"})
            assert client.recv(5) == "hi"
        wait_until(lambda: staged.context.open == 0)


class Sleepy(Talk):
    def received(self, data):
        self.consult_the_oracle(data)
        return [Write(data)]

    def consult_the_oracle(self, data):
        threading.Event().wait(0.4)


class SleepyPlugin(StreamPlugin):
    name = "sleepy"
    messages = MESSAGES

    def session(self, peer):
        return Sleepy()


def test_what_blocks_the_loop_is_named(caplog):
    """A session that blocks the loop is named, by file and line and function of the plugin."""
    with Staged(SleepyPlugin) as staged:
        dog = Watchdog(0.1, staged.metrics, time.monotonic)
        staged.call(dog.start)
        client = staged.connect()
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        wait_until(lambda: "turns again" in caplog.text)
        staged.call(dog.stop)
    assert "in consult_the_oracle" in caplog.text
    assert __file__ in caplog.text
