"""Ready I/O for stream protocols: over TCP, Unix sockets and Twisted's endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import subprocess
import sys
import threading
import types
from typing import TypedDict

import pytest

from gateway.core import accept, stream
from gateway.core.config import GatewaySettings
from gateway.core.errors import ConfigError, RemoteProtocolError
from gateway.core.layers.base import OK
from gateway.core.plugin import Close, Emit, Session, Write
from gateway.core.stream import StreamPlugin
from gateway.testing.stage import Staged, wait_until
from tests.certificates import Authority


class Data(TypedDict):
    data: bytes


class Reply(TypedDict, total=False):
    bytes: bytes
    close: bool | int


class Raw(Session):
    """Echoes; ``!`` closes in its own words, ``?`` asks the application."""

    def __init__(self):
        self.eofs = 0

    def received(self, data):
        if data.startswith(b"!"):
            raise RemoteProtocolError("rude", b"rude\n")
        if data.startswith(b"?"):
            return [Emit("receive", {"data": data}, data)]
        return [Write(data)]

    def eof(self):
        return [Write(b"eof\n"), Close()]

    def send(self, conversation, reply, token):
        return [Write(reply["bytes"])]

    def draining(self, retry_after):
        return [Close(b"restart\n")]


class RawPlugin(StreamPlugin):
    name = "raw"
    messages = types.SimpleNamespace(KINDS={"receive": Data}, REPLY=Reply)

    def session(self, peer):
        self.peers = [*getattr(self, "peers", []), peer]
        return Raw()

    def crowded(self):
        return b"crowded\n"


def echoes(client):
    client.sendall(b"hello")
    return client.recv(100) == b"hello"


def test_tcp():
    """A connection over TCP has a session, and knows both addresses."""
    with Staged(RawPlugin) as staged:
        client = staged.connect()
        assert echoes(client)
        [peer] = staged.plugin.peers
        assert peer.client == client.getsockname()
        assert peer.server == ("127.0.0.1", staged.port)
        assert peer.tls is False
        assert staged.plugin.health() == {"ok": True, "connections": 1}
        client.close()
        wait_until(lambda: staged.plugin.health()["connections"] == 0)


def test_unix(tmp_path):
    """Over a Unix socket too; stopping leaves the file to who bound it."""
    path = tmp_path / "raw.sock"
    with Staged(RawPlugin, listen=f"unix:{path}") as staged:
        assert echoes(staged.connect())
        [peer] = staged.plugin.peers
        assert (peer.client, peer.server) == (None, None)
    assert path.exists()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def port_of(staged):
    return staged.call(lambda: staged.plugin._ports[0].getHost().port)


def test_twisted_endpoint():
    """Any endpoint of Twisted's can be listened at, by its description."""
    listen = "haproxy:tcp:0:interface=127.0.0.1"
    with (
        Staged(RawPlugin, listen=listen) as staged,
        socket.create_connection(("127.0.0.1", port_of(staged)), 5) as client,
    ):
        client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n")
        assert echoes(client)


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # Twisted's business
def test_twisted_tls(authority):
    """An endpoint of Twisted's with TLS works, in both directions and to its end."""
    certificate = authority.issue("localhost", "localhost")
    listen = f"ssl:0:interface=127.0.0.1:privateKey={certificate}:certKey={certificate}"
    context = authority.client()
    with Staged(RawPlugin, listen=listen) as staged:
        plain = socket.create_connection(("127.0.0.1", port_of(staged)), 5)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            assert echoes(client)
            assert staged.plugin.peers[0].tls is True
            client.sendall(b"x" * 300_000)
            assert staged.read(client, 300_000) == b"x" * 300_000
            client.sendall(b"!")
            assert staged.read_all(client) == b"rude\n"
        wait_until(lambda: staged.plugin.health()["connections"] == 0)


@pytest.mark.parametrize(
    "text", ["ssl:0:privateKey=/nonexistent", "nonsense:1:x=y", "ssl:0:bogus=1", "tcp6:0:0:0:0:x=1"]
)
def test_wrong_endpoint(text):
    """An endpoint that Twisted cannot read is a ConfigError that names setting and text."""
    with pytest.raises(ConfigError, match=f"^listen: '{text}': Twisted cannot listen there: ."):
        Staged(RawPlugin, listen=text).__enter__()


@pytest.fixture
def secured(authority):
    """Stage the plugin at an endpoint with TLS; settings of ``[tls]`` as arguments."""

    def make(config=None, *, settings=None, **more):
        tls = authority.tls(**(settings or {}))
        return Staged(RawPlugin, config, listen="tls:127.0.0.1:0", tls=tls, **more)

    return make


@pytest.fixture
def wrapped(authority):
    """Connect with TLS; closed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def make(staged, certificate=None, *, narrow=False):
            plain = socket.socket() if narrow else staged.connect()
            if narrow:  # the system may well take 30 MB for a client that does not read
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                plain.connect(("127.0.0.1", staged.port))
            sock = authority.client(certificate).wrap_socket(
                plain, server_hostname="localhost", suppress_ragged_eofs=False
            )
            return stack.enter_context(sock)

        yield make


def test_tls(secured, wrapped):
    """An endpoint with TLS works, in both directions and to its end, which is said."""
    with secured() as staged:
        client = wrapped(staged)
        assert echoes(client)
        (peer,) = staged.plugin.peers
        assert (peer.tls, peer.identity) == (True, None)
        assert peer.client == client.getsockname()
        assert peer.server == ("127.0.0.1", staged.port)
        for _ in range(100):  # in turn: two threads must not use one TLS connection
            client.sendall(b"x" * 30_000)
            assert staged.read(client, 30_000) == b"x" * 30_000
        client.sendall(b"!")
        assert staged.read_all(client) == b"rude\n"
        client.unwrap()
        wait_until(lambda: staged.plugin.health()["connections"] == 0)
        assert not staged.left_over()


def test_tls_identity(secured, wrapped, authority):
    """The session is told whose certificate the client has shown."""
    alice = authority.issue("alice", common_name="alice", organization_unit_name="Sales")
    with secured(settings={"client_ca": authority.path}) as staged:
        assert echoes(wrapped(staged, alice))
        assert staged.plugin.peers[0].identity.startswith("CN=alice,OU=Sales,O=trustme")


def test_tls_answer_before_the_end(secured, wrapped):
    """What is said last arrives even where the peer goes on sending."""
    with secured() as staged:
        client = wrapped(staged)
        client.sendall(b"!")
        with contextlib.suppress(OSError):
            for _ in range(20):
                client.sendall(b"x" * 10_000)
        assert staged.read_all(client) == b"rude\n"


class InMemory:
    """A TLS client that says its end, and reads on."""

    def __init__(self, plain, context):
        self._plain = plain
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._go, server_hostname="localhost")
        self._do(self._tls.do_handshake)

    def _do(self, what, *args):
        while True:
            try:
                result = what(*args)
            except ssl.SSLWantReadError:
                self._plain.sendall(self._go.read())
                self._come.write(self._plain.recv(65536))
            else:
                self._plain.sendall(self._go.read())
                return result

    def write(self, data):
        self._do(self._tls.write, data)

    def read(self):
        return self._do(self._tls.read, 65536)

    def end(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._plain.sendall(self._go.read())


def test_tls_end_of_the_peer(secured, authority):
    """A peer that ends with close_notify is heard to its end, and answered what is ready by then."""
    with secured() as staged:
        client = InMemory(staged.connect(), authority.client())
        client.write(b"hello")
        assert client.read() == b"hello"
        client.end()
        assert client.read() == b"eof\n"
        with pytest.raises(ssl.SSLZeroReturnError):
            client.read()
        wait_until(lambda: not staged.left_over())


def test_tls_draining(secured, wrapped):
    """A shutdown is said in the protocol's words over TLS, too."""
    with secured() as staged:
        client = wrapped(staged)
        assert echoes(client)
        staged.drain()
        assert staged.read_all(client) == b"restart\n"


def test_tls_slow_reader(secured, wrapped):
    """What a client does not read waits in its outbox; then it comes, whole and in order."""
    with secured(outbox_bytes=1 << 26) as staged:
        client = wrapped(staged, narrow=True)
        client.sendall(b"?")
        heard = staged.hear()
        channel = heard.message["reply_channel"]
        heard.settle(OK)
        connection = staged.call(lambda: next(staged.context.connections()))
        pieces = [bytes([n % 256]) * 100_000 for n in range(80)]
        for piece in pieces:
            staged.worker.send(channel, {"bytes": piece})
        wait_until(lambda: not connection.ready)
        received = bytearray()
        while len(received) < 8_000_000:
            received += client.recv(65536)
        assert received == b"".join(pieces)
        wait_until(lambda: connection.direct)


def test_tls_burst(secured, wrapped):
    """A burst within one turn of the loop is not taken whole where the client does not read."""
    with secured() as staged:
        client = wrapped(staged, narrow=True)
        assert echoes(client)
        wire = staged.call(lambda: next(staged.context.connections())).wire

        def burst():
            for number in range(200):
                if wire._full:
                    return number
                wire.write(b"x" * 100_000)
            return 200

        assert staged.call(burst) < 100


def test_tls_full_inbox(secured, wrapped):
    """A client whose messages nobody takes is read no further, and loses nothing if it closes."""
    most = 20_000_000
    with secured(inbox_messages=4, run_messages=1) as staged:
        client = wrapped(staged)
        sent = 0

        def send():
            nonlocal sent
            while sent < most:
                client.sendall(b"?" * 1_000_000)
                sent += 1_000_000
            with contextlib.suppress(ssl.SSLError):  # it hears "eof" where it says the end
                client.unwrap()

        sender = threading.Thread(target=send)
        sender.start()
        connection = staged.call(lambda: next(staged.context.connections()))
        wait_until(lambda: connection._paused)
        sender.join(0.5)
        assert sent < most
        assert not connection.is_over(4)
        received = 0
        while received < most and (heard := staged.hear_any(2.0)) is not None:
            received += len(heard.message["data"])
            heard.settle(OK)
        sender.join()
        assert received == most


def test_tls_leaves_at_once(secured, authority):
    """What a client sends before it says its end and closes at once is heard, however late."""
    with secured(inbox_messages=4, run_messages=1) as staged:
        plain = staged.connect()
        client = InMemory(plain, authority.client())
        client.write(b"hello")
        assert client.read() == b"hello"  # and the session tickets: nothing unread is left here
        for _ in range(40):
            client.write(b"?" * 10_000)
        client.end()
        plain.close()
        received = 0
        while received < 400_000 and (heard := staged.hear_any(2.0)) is not None:
            received += len(heard.message["data"])
            heard.settle(OK)
        assert received == 400_000
        wait_until(lambda: not staged.left_over())


def test_tls_too_many_connections(secured, wrapped):
    """Who only connects takes a place; beyond the limit a connection is closed, counted."""
    with secured(types.SimpleNamespace(max_connections=2)) as staged:
        silent = staged.connect()
        client = wrapped(staged)
        assert echoes(client)
        with contextlib.suppress(ConnectionError):
            assert staged.connect().recv(100) == b""
        assert staged.metrics.dropped() == {"limited": 1}
        silent.close()
        wait_until(lambda: staged.plugin.health()["connections"] == 1)
        assert echoes(wrapped(staged))


def test_tls_not_spoken(secured):
    """Who speaks no TLS is closed without a word."""
    with secured() as staged:
        client = staged.connect()
        client.sendall(b"hello")
        with contextlib.suppress(ConnectionError):
            assert client.recv(100) == b""
        name = 'gateway_raw_tls_failures_total{why="garbage"}'
        assert staged.metrics.snapshot()[name] == 1


def test_tls_stop_amid_handshakes(secured):
    """A stop closes what is still shaking hands, and leaves nothing."""
    with secured() as staged:
        clients = [staged.connect(), staged.connect()]
        clients[1].sendall(b"\x16\x03\x01\x02")
        wait_until(lambda: staged.plugin.health()["connections"] == 2)
        wait_until(lambda: "tasks" in staged.left_over())
        staged.call(lambda: asyncio.ensure_future(staged.plugin.stop()))
        for client in clients:
            with contextlib.suppress(ConnectionError):
                assert client.recv(100) == b""
        wait_until(lambda: not staged.left_over())
        assert staged.plugin.health()["connections"] == 0


def test_tls_without_certificate():
    """An endpoint with TLS where there is no certificate is a ConfigError that says what to set."""
    with pytest.raises(ConfigError, match=r"set tls\.certificate"):
        Staged(RawPlugin, listen="tls:127.0.0.1:0").__enter__()


def test_half_close():
    """A peer that sends no more is heard to its end, and still reads its answers."""
    with Staged(RawPlugin) as staged:
        client = staged.connect()
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert staged.read_all(client) == b"helloeof\n"


def test_answer_before_the_end():
    """What is said last arrives even where the peer goes on sending."""
    with Staged(RawPlugin) as staged:
        client = staged.connect()
        client.sendall(b"!")
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                client.sendall(b"x" * 10_000)
        assert staged.read_all(client) == b"rude\n"


def test_too_many_connections():
    """A connection over the limit is told so and closed, counted; the others stay."""
    config = types.SimpleNamespace(max_connections=2)
    with Staged(RawPlugin, config) as staged:
        clients = [staged.connect(), staged.connect()]
        assert all(echoes(client) for client in clients)
        assert staged.read_all(staged.connect()) == b"crowded\n"
        assert staged.metrics.dropped() == {"limited": 1}
        clients[0].close()
        wait_until(lambda: staged.plugin.health()["connections"] == 1)
        assert echoes(staged.connect())


def test_slow_reader_pauses_writing():
    """What a client does not read waits in its outbox; then it comes, whole and in order."""
    with Staged(RawPlugin, outbox_bytes=1 << 26) as staged:
        client = staged.connect()
        client.sendall(b"?")
        heard = staged.hear()
        channel = heard.message["reply_channel"]
        heard.settle(OK)
        connection = staged.call(lambda: next(staged.context.connections()))
        pieces = [bytes([n % 256]) * 100_000 for n in range(100)]
        for piece in pieces:
            staged.worker.send(channel, {"bytes": piece})
        wait_until(lambda: not connection.ready)
        assert staged.read(client, 10_000_000) == b"".join(pieces)
        wait_until(lambda: connection.direct)


def flood(client, most=40_000_000):
    """Send until no more is taken; return what was sent."""
    client.settimeout(0.5)
    sent = bytearray()
    with contextlib.suppress(TimeoutError):
        while len(sent) < most:
            piece = bytes([len(sent) // 50_000 % 26 + 97]) * 50_000
            sent += piece[: client.send(piece)]
    return bytes(sent)


def test_answers_that_nobody_reads():
    """A client that reads no answers is read no further; when it reads, nothing was lost."""
    with Staged(RawPlugin) as staged:
        client = staged.connect()
        sent = flood(client)
        assert 0 < len(sent) < 40_000_000
        wire = staged.call(lambda: next(staged.context.connections())).wire
        assert wire._owed < 2 * stream.OWED
        client.settimeout(5)
        assert staged.read(client, len(sent)) == sent
        assert echoes(client)
        flood(client)
        client.close()
        wait_until(lambda: not staged.left_over())


def test_tls_answers_that_nobody_reads(secured, wrapped):
    """So it is over TLS."""
    with secured() as staged:
        client = wrapped(staged, narrow=True)
        wire = staged.call(lambda: next(staged.context.connections())).wire
        sent = flood(client)
        assert 0 < len(sent) < 40_000_000
        assert wire._owed < 2 * stream.OWED
        client.settimeout(5)
        client.close()
        wait_until(lambda: not staged.left_over())


def test_full_inbox_pauses_reading():
    """A client whose messages nobody takes is read no further, and loses nothing."""
    with Staged(RawPlugin, inbox_messages=4, run_messages=1) as staged:
        client = staged.connect()
        client.setblocking(False)
        sent = 0
        stopped = 0
        while stopped < 20:
            try:
                sent += client.send(b"?" * 65536)
                stopped = 0
            except BlockingIOError:
                stopped += 1
                wait_until(lambda: True)
                staged.call(lambda: None)
        connection = staged.call(lambda: next(staged.context.connections()))
        assert connection._paused
        assert not connection.is_over(4)
        client.setblocking(True)
        client.shutdown(socket.SHUT_WR)
        received = 0
        while (heard := staged.hear_any(1.0)) is not None:
            received += len(heard.message["data"])
            heard.settle(OK)
            if received == sent:
                break
        assert received == sent
        assert staged.read_all(client) == b"eof\n"


def test_session_that_cannot_be_made(caplog):
    """A plugin that cannot make a session loses that connection only."""

    class Broken(RawPlugin):
        def session(self, peer):
            raise RuntimeError("a bug")

    with Staged(Broken) as staged:
        with contextlib.suppress(ConnectionError):
            assert staged.connect().recv(1) == b""
        wait_until(lambda: "a bug" in caplog.text)
        wait_until(lambda: staged.plugin.health()["connections"] == 0)
        assert "_session_errors_total 1\n" in staged.metrics.text()


def test_draining():
    """A shutdown is said in the protocol's words, and the plugin stops when all have gone."""
    with Staged(RawPlugin) as staged:
        client = staged.connect()
        assert echoes(client)
        staged.drain()
        assert staged.read_all(client) == b"restart\n"


def test_peer_that_never_leaves():
    """A peer that neither reads nor leaves is cut off a while after the end."""
    with Staged(RawPlugin) as staged:
        client = staged.connect()
        assert echoes(client)
        staged.drain()
        assert client.recv(100) == b"restart\n"
        wait_until(lambda: not staged.left_over(), stream.LINGER + 5)


class FullTable:
    """A listening socket that finds no descriptor, once."""

    def __init__(self, sock):
        self.sock = sock
        self.left = 1

    def fileno(self):
        return self.sock.fileno()

    def close(self):
        self.sock.close()

    def accept(self):
        if self.left:
            self.left -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self.sock.accept()


def test_no_descriptors_left(caplog, monkeypatch):
    """A process without descriptors waits and accepts again, and says so."""
    monkeypatch.setattr(accept, "NO_FILES", 0.01)
    with Staged(RawPlugin) as staged:
        acceptor = staged.plugin._acceptors[0]
        staged.call(lambda: setattr(acceptor, "socket", FullTable(acceptor.socket)))
        assert echoes(staged.connect())
        assert "Too many open files" in caplog.text


def test_importing_chooses_no_reactor():
    """Importing the module installs no reactor: that is for the gateway's loop to do."""
    code = (
        "import sys, gateway.core.stream, gateway.testing.plugin_suite;"
        "sys.exit('twisted.internet.reactor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_are_bounds():
    """A plugin's own settings override those of the gateway."""
    config = types.SimpleNamespace(inbox_messages=3, queue_timeout=0.5, slow_consumer="drop_oldest")
    with Staged(RawPlugin, config) as staged:
        context = staged.context
        assert (context.inbox_messages, context.queue_timeout) == (3, 0.5)
        assert context.slow_consumer == "drop_oldest"
        assert context.outbox_bytes == GatewaySettings().outbox_bytes
