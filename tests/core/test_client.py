"""Ready I/O for plugins that connect out: kept connections, addresses, one holder."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import types
from typing import TypedDict

import msgspec
import pytest

from gateway.core import client
from gateway.core.client import ClientPlugin, Target, target
from gateway.core.errors import ConfigError, RemoteProtocolError
from gateway.core.layers.base import OK
from gateway.core.names import address
from gateway.core.plugin import Accepted, Close, Emit, LineSession, Write
from gateway.testing.stage import PATIENCE, Staged, wait_until
from tests.certificates import Authority


class Line(TypedDict):
    text: str


class Reply(TypedDict, total=False):
    text: str
    close: bool
    ack: int
    ack_channel: str


class Config(msgspec.Struct, frozen=True, kw_only=True):
    connect: str | tuple[str, ...] = ()
    connect_timeout: float = 5.0
    retry_longest: float = 0.2
    ca: str = ""
    verify: bool = True


class Chat(LineSession):
    """A line is ``ROOM text``; ``!`` breaks, ``?`` is wrong; a reply to a room is a line."""

    def opened(self, peer):
        return [Write(b"HELLO\n")]

    def line(self, line):
        if line == b"!":
            raise RuntimeError("a bug")
        if line == b"?":
            raise RemoteProtocolError("it asks", b"NO\n")
        room, _, text = line.decode().partition(" ")
        return [Emit("receive", {"text": text}, conversation=room or None)]

    def send(self, conversation, reply, token):
        if "text" in reply:
            yield Write(f"{conversation or '-'} {reply['text']}\n".encode())
        if reply.get("close"):
            yield Close(b"BYE\n")

    def draining(self, retry_after):
        return [Close(b"QUIT\n")]


class ChatPlugin(ClientPlugin):
    name = "chat"
    Config = Config
    messages = types.SimpleNamespace(KINDS={"receive": Line}, REPLY=Reply)

    def session(self, target):
        self.made = [*getattr(self, "made", []), target]
        return Chat()


class Server:
    """A peer: takes connections, one at a time."""

    def __init__(self, context=None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.port = self.listener.getsockname()[1]
        self.context = context
        self.connections = []

    def accept(self, greeting=b"HELLO\n"):
        sock, _ = self.listener.accept()
        sock.settimeout(PATIENCE)
        if self.context is not None:
            sock = self.context.wrap_socket(sock, server_side=True)
        self.connections.append(sock)
        lines = sock.makefile("rb")
        if greeting:
            assert lines.readline() == greeting
        return sock, lines

    @property
    def where(self):
        return f"127.0.0.1:{self.port}"

    def close(self):
        self.listener.close()
        for sock in self.connections:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Failures are waited after for a moment only."""
    monkeypatch.setattr(client, "FIRST_WAIT", 0.02)


def staged_chat(*where, plugin=ChatPlugin, settings=None, **config):
    config = Config(connect=where[0] if len(where) == 1 else where, **config)
    return Staged(plugin, config, **(settings or {}))


def facts(staged, name=None):
    targets = staged.plugin.health()["targets"]
    return targets[name] if name else next(iter(targets.values()))


def number(staged, name):
    return staged.metrics.snapshot().get(f"gateway_chat_{name}", 0)


def test_connects(server):
    """It connects after the start, knows both ends, and says how it is."""
    with staged_chat(server.where) as staged:
        sock, _ = server.accept()
        assert facts(staged) == {"state": "connected", "attempts": 1}
        assert (number(staged, "connected"), number(staged, "connect_attempts_total")) == (1, 1)
        sock.sendall(b"lobby hello\n")
        message = staged.hear().message
        assert message["client"] == list(sock.getsockname())
        assert message["server"] == list(sock.getpeername())


def test_start_waits_for_nobody():
    """The start does not wait for a connection; while there is none, health says why, and is well."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with staged_chat(where) as staged:
            wait_until(lambda: facts(staged)["attempts"] > 2)
            assert staged.plugin.health()["ok"] is True
            wait_until(lambda: "refused" in facts(staged).get("error", "").lower())
            assert number(staged, "connected") == 0
            assert number(staged, "connect_failures_total") >= 2


def test_connects_again(server):
    """A connection that ends is replaced by the next, with a session of its own."""
    with staged_chat(server.where) as staged:
        for text in ("one", "two", "three"):
            sock, _ = server.accept()
            sock.sendall(f"lobby {text}\n".encode())
            heard = staged.hear()
            assert (heard.message["text"], heard.message["order"]) == (text, 0)
            heard.settle(OK)
            sock.shutdown(socket.SHUT_RDWR)
        assert len(staged.plugin.made) >= 3


def test_later_and_later():
    """After each failure it waits longer, up to a bound, and never all in step."""
    pauses = []

    class Context:
        outbound = True
        log = types.SimpleNamespace(
            warning=lambda text, *values: pauses.append(values[-1]), info=print
        )
        loop = types.SimpleNamespace(time=lambda: now[0])

        def count(self, name, n, **labels):
            pass

    now = [0.0]
    lasts = [0.0] * 8 + [100.0, 0.0]

    async def connect(connected):
        if not lasts:
            raise asyncio.CancelledError
        connected()
        now[0] += lasts.pop(0)

    async def main():
        with contextlib.suppress(asyncio.CancelledError):
            await client.keep_connected(connect, Context(), client.Link(), longest=0.1)

    asyncio.run(main())
    bounds = [0.02, 0.04, 0.08, 0.1, 0.1, 0.1, 0.1, 0.1, 0.02, 0.04]
    assert all(bound / 2 <= pause <= bound for bound, pause in zip(bounds, pauses, strict=True))
    assert len(set(pauses)) == len(pauses)


def test_a_peer_that_does_not_want_us_back_soon():
    """What a plugin knows of the next attempt is waited at least, once."""
    pauses = []
    log = types.SimpleNamespace(warning=lambda text, *values: pauses.append(values[-1]))
    context = types.SimpleNamespace(count=lambda *_, **__: None, log=log, outbound=True)
    link = client.Link()

    async def connect(connected):
        if len(pauses) == 3:
            raise asyncio.CancelledError
        link.least = 0.0 if pauses else 0.15
        raise OSError("banned")

    async def main():
        with contextlib.suppress(asyncio.CancelledError):
            await client.keep_connected(connect, context, link, longest=0.02)

    asyncio.run(main())
    assert pauses[0] == 0.15
    assert all(pause <= 0.02 for pause in pauses[1:])


def test_peer_that_does_not_answer(monkeypatch):
    """An attempt has ``connect_timeout`` seconds, TLS included, and others are served meanwhile."""
    mute = Server()
    with staged_chat(f"tls:{mute.where}", connect_timeout=0.1) as staged:
        wait_until(lambda: "no connection within 0.1 s" in facts(staged).get("error", ""))
        assert staged.call(lambda: True)
    mute.close()


def test_reply_channel_is_an_address(server):
    """A conversation is answered at its address, whatever connection it came by."""
    with staged_chat(server.where) as staged:
        sock, lines = server.accept()
        sock.sendall(b"lobby hello\n")
        heard = staged.hear()
        channel = heard.message["reply_channel"]
        assert channel == "chat.send!lobby" == address("chat.send", "lobby")
        heard.settle(OK, {"text": "hi"})
        assert lines.readline() == b"lobby hi\n"
        sock.shutdown(socket.SHUT_RDWR)
        sock, lines = server.accept()
        staged.worker.send(channel, {"text": "again"})
        assert lines.readline() == b"lobby again\n"


def test_address_nobody_spoke_at(server):
    """An address may be written to before anything came from there, escaped as it may be."""
    with staged_chat(server.where) as staged:
        _, lines = server.accept()
        staged.worker.send(address("chat.send", "café #1"), {"text": "hi"})
        assert lines.readline().decode() == "café #1 hi\n"
        staged.worker.send(address("chat.send", "café #1"), {"txet": "hi"})
        wait_until(lambda: staged.metrics.dropped() == {"invalid": 1})


def test_addresses_while_disconnected(server):
    """What is sent to an address while there is no connection is dropped; its ack says so."""
    with staged_chat(server.where) as staged:
        server.listener.close()
        wait_until(lambda: facts(staged)["state"] == "waiting")
        staged.worker.send("chat.send!lobby", {"text": "x", "ack": 7, "ack_channel": "a?b"})
        _, answer = staged.worker.receive(["a?b"], block=PATIENCE)
        assert (answer["ack"], answer["outcome"]) == (7, "failed")
        assert answer["reply_channel"] == "chat.send!lobby"
        assert staged.metrics.dropped() == {"gone": 1}


def test_groups_of_addresses(server):
    """An address is a member of groups in its own right, and outlives a connection there."""
    with staged_chat(server.where) as staged:
        sock, lines = server.accept()
        staged.worker.group_add("news", "chat.send!lobby")
        staged.worker.send_group("news", {"text": "one"})
        assert lines.readline() == b"lobby one\n"
        sock.shutdown(socket.SHUT_RDWR)
        _, lines = server.accept()
        staged.worker.send_group("news", {"text": "two"})
        assert lines.readline() == b"lobby two\n"


class NamedPlugin(ChatPlugin):
    name = "chat"

    def targets(self):
        return [
            target(text, "chat.connect", name)
            for text, name in zip(self.config.connect, ("red.example", "blue"), strict=True)
        ]


def test_several_targets(server):
    """Each target is kept; addresses begin with its name, and its own is that name alone."""
    other = Server()
    with staged_chat(server.where, other.where, plugin=NamedPlugin) as staged:
        red, red_lines = server.accept()
        _, blue_lines = other.accept()
        red.sendall(b"lobby hello\n")
        heard = staged.hear()
        assert heard.message["reply_channel"] == address("chat.send", "red.example", "lobby")
        heard.settle(OK)
        red.sendall(b" hello\n")
        heard = staged.hear()
        assert heard.message["reply_channel"] == address("chat.send", "red.example")
        heard.settle(OK, {"text": "you"})
        assert red_lines.readline() == b"- you\n"
        staged.worker.send(address("chat.send", "blue", "x.y"), {"text": "hi"})
        assert blue_lines.readline() == b"x.y hi\n"
        staged.worker.send(address("chat.send", "green", "x"), {"text": "hi"})
        wait_until(lambda: staged.metrics.dropped() == {"gone": 1})
        assert number(staged, 'connected{target="blue"}') == 1
        assert set(staged.plugin.health()["targets"]) == {"red.example", "blue"}
        other.close()
        wait_until(lambda: number(staged, 'connected{target="blue"}') == 0)
        assert number(staged, 'connected{target="red.example"}') == 1


class Greeting(Chat):
    def line(self, line):
        return [Emit("connect", {"text": "hi"}, "connect")] if line == b"hi" else super().line(line)

    def outcome(self, token, outcome):
        return [Accepted(), Write(b"JOINED\n")]

    def ended(self):
        return {"text": "gone"}


class GreetingPlugin(ChatPlugin):
    messages = types.SimpleNamespace(
        KINDS={"connect": Line, "receive": Line, "disconnect": Line}, REPLY=Reply
    )

    def session(self, target):
        return Greeting()

    def targets(self):
        return [target(self.config.connect, "chat.connect", "home")]


def test_disconnects(server):
    """Each connection that was accepted has one disconnect, by the same address, in order."""
    with staged_chat(server.where, plugin=GreetingPlugin) as staged:
        for _ in range(2):
            sock, lines = server.accept()
            sock.sendall(b"hi\n")
            heard = staged.hear()
            assert (heard.kind, heard.message["order"]) == ("connect", 0)
            heard.settle(OK)
            assert lines.readline() == b"JOINED\n"
            sock.shutdown(socket.SHUT_RDWR)
            heard = staged.hear()
            assert (heard.kind, heard.message["order"]) == ("disconnect", 1)
            assert heard.message["reply_channel"] == "chat.send!home"
            heard.settle(OK)


def test_fault_of_a_session(server):
    """An exception in a session costs that connection: there is a next one."""
    with staged_chat(server.where) as staged:
        sock, _ = server.accept()
        sock.sendall(b"!\n")
        server.accept()
        assert number(staged, "session_errors_total") == 1


class BrokenPlugin(ChatPlugin):
    def session(self, target):
        if not getattr(self, "made", None):
            self.made = [target]
            raise RuntimeError("a bug")
        return super().session(target)


def test_fault_in_making_a_session(server):
    """An exception in making a session costs that attempt."""
    with staged_chat(server.where, plugin=BrokenPlugin):
        server.accept(greeting=b"")
        server.accept()


def test_closed_from_this_side(server):
    """A session that closes says its last words, and the next connection follows."""
    with staged_chat(server.where) as staged:
        _, lines = server.accept()
        staged.worker.send("chat.send!lobby", {"close": True})
        assert lines.readline() == b"BYE\n"
        server.accept()


def test_fault_of_the_peer(server):
    """Why a session finds fault with its peer is what operators read of the connection's end."""
    with staged_chat(server.where, retry_longest=60.0) as staged:
        sock, lines = server.accept()
        server.listener.close()
        sock.sendall(b"?\n")
        assert lines.readline() == b"NO\n"
        sock.close()
        wait_until(lambda: facts(staged).get("error"))
        assert facts(staged)["error"] == "it asks"


def test_stop(server):
    """A shutdown is said in the protocol's words; it is not connected again; nothing is left."""
    with staged_chat(server.where) as staged:
        _, lines = server.accept()
        staged.drain()
        staged.call(lambda: asyncio.ensure_future(staged.plugin.stop()))
        assert lines.readline() == b"QUIT\n"
        assert lines.readline() == b""
        wait_until(lambda: not staged.left_over())
        server.listener.settimeout(0.3)
        with pytest.raises(TimeoutError):
            server.listener.accept()


def test_stop_amid_an_attempt():
    """A stop waits for no attempt."""
    mute = Server()
    with staged_chat(f"tls:{mute.where}", connect_timeout=30) as staged:
        wait_until(lambda: facts(staged)["state"] == "connecting")
        staged.call(lambda: asyncio.ensure_future(staged.plugin.stop()))
        wait_until(lambda: not staged.left_over())
    mute.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure(authority):
    """A server with a certificate for 127.0.0.1, which accepts on a thread."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("server", "127.0.0.1"))
    made = Server(context)
    yield made
    made.close()


def test_tls(secure, authority):
    """TLS is spoken with whom ``ca`` vouches for."""
    with staged_chat(f"tls:{secure.where}", ca=str(authority.path)) as staged:
        sock, _ = secure.accept()
        sock.sendall(b"lobby hello\n")
        assert staged.hear().message["text"] == "hello"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_tls_not_verified(secure, authority, name):
    """Whose certificate nobody vouches for, or is for another name, is not spoken with."""
    trusted = str(authority.path) if name == "localhost" else ""
    where = f"tls:{name}:{secure.port}"
    ended = threading.Event()

    def refuse():
        while not ended.is_set():
            with contextlib.suppress(OSError):
                secure.accept(greeting=b"")

    secure.listener.settimeout(0.1)
    thread = threading.Thread(target=refuse)
    thread.start()
    try:
        with staged_chat(where, ca=trusted) as staged:
            wait_until(lambda: "certificate is not good" in facts(staged).get("error", ""))
            assert not getattr(staged.plugin, "made", None)
    finally:
        ended.set()
        thread.join()


def test_tls_unverified(secure):
    """``verify = False`` speaks with anybody."""
    with staged_chat(f"tls:{secure.where}", verify=False) as staged:
        secure.accept()
        wait_until(lambda: facts(staged)["state"] == "connected")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://x", "this is a URL"),
        ("fd:3", "expected 'host:port'"),
        ("host:0", "expected 'host:port'"),
        ("udp:53", "expected 'host:port'"),
        ("", "expected 'host:port'"),
        ("chat.example", "expected 'host:port', 'tls:host:port' or 'unix:/path' of a peer$"),
        ("tls:chat.example", "expected 'host:port', 'tls:host:port' or 'unix:/path' of a peer$"),
        ("tls:chat.example:ircd:1", "expected 'host:port'"),
        ("tls:tls:x:1", "expected 'host:port'"),
        ("/run/x", "write 'unix:/run/x'"),
    ],
)
def test_wrong_targets(text, says):
    """A wrong endpoint stops the start, by the name of the setting."""
    with pytest.raises(ConfigError, match=f"^chat.connect: .*{says}"):
        staged_chat(text).__enter__()


def test_same_target_twice(server):
    """A target that is there twice stops the start."""
    with pytest.raises(ConfigError, match=r"^chat\.connect: .* is there twice"):
        staged_chat(server.where, server.where).__enter__()


def test_missing_ca():
    """A file of authorities that is not there stops the start, by the name of the setting."""
    with pytest.raises(ConfigError, match=r"^chat\.ca: '/nowhere'"):
        staged_chat("tls:127.0.0.1:1", ca="/nowhere").__enter__()


def test_nothing_to_connect_to():
    """Without a target it does nothing."""
    with staged_chat() as staged:
        assert staged.plugin.health()["targets"] == {}
        assert not staged.left_over()


def test_target():
    """A target is called what it is given for a name, or where it is."""
    assert target("tls:chat.example:6697") == Target(host="chat.example", port=6697, tls=True)
    assert target("unix:/run/x").label == "/run/x"
    assert target("x:1", name="home").label == "home"
    assert target("x:1").label == "x:1"
