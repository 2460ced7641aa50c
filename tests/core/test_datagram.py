"""Ready I/O for datagram protocols: peers, their sessions, and every way to lose a datagram."""

from __future__ import annotations

import errno
import socket
import types
from typing import TypedDict

import pytest

from gateway.core import datagram
from gateway.core.datagram import DatagramPlugin
from gateway.core.errors import ConfigError, RemoteProtocolError
from gateway.core.layers.base import OK, group_add, group_send
from gateway.core.plugin import Accepted, Close, Emit, Session, Write
from gateway.testing.stage import Staged, wait_until


class Data(TypedDict):
    data: bytes


class Gone(TypedDict):
    seen: int


class Reply(TypedDict, total=False):
    bytes: bytes
    close: bool | int
    ack: int
    ack_channel: str


class Raw(Session):
    """Echoes; ``?`` asks the application, ``!`` closes, ``~`` breaks."""

    def __init__(self):
        self.seen = 0

    def received(self, data):
        self.seen += 1
        if data.startswith(b"?"):
            return [Emit("receive", {"data": data}, data)]
        if data.startswith(b"!"):
            raise RemoteProtocolError("rude", b"rude")
        if data.startswith(b"~"):
            raise RuntimeError("a bug")
        if data.startswith(b"#"):
            return [Write(b"x" * int(data[1:]))]
        return [Write(b"%d %b" % (self.seen, data))]

    def send(self, conversation, reply, token):
        if "bytes" in reply:
            yield Write(reply["bytes"])
        if reply.get("close"):
            yield Close(b"bye")

    @classmethod
    def frame(cls, reply):
        return reply.get("bytes")

    def draining(self, retry_after):
        return [Close(b"restart")]


class RawPlugin(DatagramPlugin):
    name = "raw"
    messages = types.SimpleNamespace(KINDS={"receive": Data}, REPLY=Reply)

    def session(self, peer):
        if peer.client[1] == getattr(self.config, "port_without", 0):
            raise RuntimeError("a bug")
        self.peers = [*getattr(self, "peers", []), peer]
        return Raw()


class Greeted(Raw):
    def received(self, data):
        self.seen += 1
        return [Emit("connect", {"data": data}, "hello")] if self.seen == 1 else []

    def outcome(self, token, outcome):
        return [Accepted(), Write(b"welcome")]

    def ended(self):
        return {"seen": self.seen}


class GreetedPlugin(RawPlugin):
    name = "greeted"
    messages = types.SimpleNamespace(
        KINDS={"connect": Data, "receive": Data, "disconnect": Gone}, REPLY=Reply
    )

    def session(self, peer):
        return Greeted()


def staged_raw(plugin=RawPlugin, listen="udp:127.0.0.1:0", config=None, **more):
    return Staged(plugin, types.SimpleNamespace(**(config or {})), listen=listen, **more)


def asks(client, question):
    client.send(question)
    return client.recv(70_000)


def peers(staged):
    return staged.plugin.health()["peers"]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_peers(host):
    """Each address has a session of its own, which knows both ends; answers come from the socket
    that was asked.
    """
    with staged_raw(listen=f"udp:{host}:0") as staged:
        one, two = staged.connect(), staged.connect()
        assert [asks(one, b"a"), asks(one, b"b"), asks(two, b"a")] == [b"1 a", b"2 b", b"1 a"]
        first, second = staged.plugin.peers
        assert first.client == one.getsockname()[:2]
        assert second.client == two.getsockname()[:2]
        assert first.server == (host.strip("[]"), staged.port)
        assert peers(staged) == 2


def test_messages_and_replies():
    """A datagram becomes a message, and a reply a datagram, to the peer that it is for."""
    with staged_raw() as staged:
        one, two = staged.connect(), staged.connect()
        one.send(b"?one")
        two.send(b"?two")
        for _ in range(2):
            heard = staged.hear()
            assert heard.message["order"] == 0
            heard.settle(OK, {"bytes": heard.message["data"] + b"!"})
        assert (one.recv(100), two.recv(100)) == (b"?one!", b"?two!")


def test_empty_datagram():
    """A datagram may be empty, in both directions."""
    with staged_raw() as staged:
        client = staged.connect()
        assert asks(client, b"") == b"1 "
        client.send(b"?")
        staged.hear().settle(OK, {"bytes": b""})
        assert client.recv(100) == b""


def test_group():
    """Peers are members of groups as any connection is."""
    with staged_raw() as staged:
        clients = [staged.connect() for _ in range(5)]
        for client in clients:
            client.send(b"?")
            heard = staged.hear()
            staged.worker.apply([group_add("all", heard.message["reply_channel"])])
            heard.settle(OK)
        staged.worker.apply([group_send("all", {"bytes": b"news"})])
        assert [client.recv(100) for client in clients] == [b"news"] * 5


def test_closed_by_a_reply():
    """After a close, the same address is somebody new."""
    with staged_raw() as staged:
        client = staged.connect()
        client.send(b"?")
        staged.hear().settle(OK, {"bytes": b"last"}, {"close": True})
        assert [client.recv(100), client.recv(100)] == [b"last", b"bye"]
        wait_until(lambda: peers(staged) == 0)
        assert asks(client, b"again") == b"1 again"


def test_rude_peer():
    """A peer that breaks the rules hears so, and its session ends."""
    with staged_raw() as staged:
        client = staged.connect()
        assert asks(client, b"a") == b"1 a"
        assert asks(client, b"!") == b"rude"
        assert asks(client, b"a") == b"1 a"
        assert staged.metrics.snapshot()["gateway_raw_peer_errors_total"] == 1


def test_fault_of_a_session():
    """An exception in a session costs that session: its peer begins anew, others do not notice."""
    with staged_raw() as staged:
        one, two = staged.connect(), staged.connect()
        assert [asks(one, b"a"), asks(two, b"a")] == [b"1 a", b"1 a"]
        one.send(b"~")
        wait_until(lambda: peers(staged) == 1)
        assert [asks(one, b"a"), asks(two, b"b")] == [b"1 a", b"2 b"]
        assert staged.metrics.snapshot()["gateway_raw_session_errors_total"] == 1


def test_fault_in_making_a_session():
    """An exception in making a session costs that datagram."""
    with staged_raw() as staged:
        client = staged.connect()
        staged.plugin.config.port_without = client.getsockname()[1]
        client.send(b"a")
        assert asks(staged.connect(), b"a") == b"1 a"
        assert peers(staged) == 1
        assert "_session_errors_total 1\n" in staged.metrics.text()


def test_silent_peer():
    """A peer from which nothing comes for a while is gone; its place is free, and it may return."""
    with staged_raw(config={"idle_timeout": 0.2}) as staged:
        client = staged.connect()
        assert asks(client, b"a") == b"1 a"
        wait_until(lambda: peers(staged) == 0)
        assert not staged.left_over()
        assert asks(client, b"b") == b"1 b"


def test_silent_peer_with_a_disconnect():
    """A peer that was accepted and fell silent has one disconnect."""
    with staged_raw(GreetedPlugin, config={"idle_timeout": 0.2}) as staged:
        client = staged.connect()
        client.send(b"hello")
        heard = staged.hear()
        assert heard.kind == "connect"
        heard.settle(OK)
        assert client.recv(100) == b"welcome"
        heard = staged.hear()
        assert (heard.kind, heard.message["seen"]) == ("disconnect", 1)
        heard.settle(OK)
        assert staged.hear_any() is None


def test_silent_while_waiting():
    """A peer that waits for an answer is not silent, however long a consumer takes."""
    with staged_raw(config={"idle_timeout": 0.1}) as staged:
        client = staged.connect()
        client.send(b"?")
        heard = staged.hear()
        other = staged.connect()
        assert asks(other, b"a") == b"1 a"
        wait_until(lambda: peers(staged) == 1)  # the other's time is over, which began later
        heard.settle(OK, {"bytes": b"at last"})
        assert client.recv(100) == b"at last"
        wait_until(lambda: peers(staged) == 0)


def test_too_many_peers():
    """Beyond ``max_peers`` a newcomer's datagram is dropped, counted; who is there is served."""
    with staged_raw(config={"max_peers": 2}) as staged:
        one, two, three = (staged.connect() for _ in range(3))
        assert [asks(one, b"a"), asks(two, b"a")] == [b"1 a", b"1 a"]
        three.send(b"a")
        wait_until(lambda: staged.metrics.dropped() == {"limited": 1})
        assert asks(two, b"b") == b"2 b"
        assert asks(one, b"!") == b"rude"
        assert asks(three, b"b") == b"1 b"


def test_too_large():
    """A datagram over ``max_datagram`` is dropped whole, counted; one just as large is taken."""
    with staged_raw(config={"max_datagram": 100}) as staged:
        client = staged.connect()
        client.send(b"x" * 101)
        assert asks(client, b"y" * 100) == b"1 " + b"y" * 100
        assert staged.metrics.dropped() == {"too_big": 1}


def test_largest():
    """The largest datagram that IPv4 carries passes in both directions; a larger one is counted."""
    with staged_raw() as staged:
        client = staged.connect()
        assert len(asks(client, b"x" * 65_505)) == 65_507
        client.send(b"#65508")
        wait_until(lambda: staged.metrics.dropped() == {"too_big": 1})
        assert asks(client, b"a") == b"3 a"


def test_application_is_behind():
    """What comes from a peer whose inbox is full is dropped, counted; the rest is in order."""
    with staged_raw(inbox_messages=4, run_messages=1) as staged:
        client = staged.connect()
        for number in range(50):
            client.send(b"?%d" % number)
        wait_until(lambda: staged.metrics.dropped().get("full"))
        assert asks(staged.connect(), b"a") == b"1 a"
        heard = []
        while (found := staged.hear_any()) is not None:
            heard.append(int(found.message["data"][1:]))
            found.settle(OK)
        assert heard[0] == 0
        assert heard == sorted(heard)
        assert len(heard) + staged.metrics.dropped()["full"] == 50
        client.send(b"?on")
        staged.hear().settle(OK, {"bytes": b"on"})
        assert client.recv(100) == b"on"


def test_nobody_there_any_more():
    """A peer that left no socket behind, of which its host may complain, disturbs nobody."""
    with staged_raw() as staged:
        client, other = staged.connect(), staged.connect()
        client.send(b"?")
        heard = staged.hear()
        client.close()
        heard.settle(OK, *[{"bytes": b"%d" % number} for number in range(10)])
        assert asks(other, b"a") == b"1 a"
        assert peers(staged) == 2


class Refusing:
    """A socket that takes what it is told to take."""

    def __init__(self, sock):
        self._socket = sock
        self.errors = []
        self.complaints = []
        self.sent = []

    def __getattr__(self, name):
        return getattr(self._socket, name)

    def sendto(self, data, address):
        if self.errors:
            raise OSError(self.errors.pop(0), "told to")
        self.sent.append(data)

    def recvfrom(self, most):
        if self.complaints:
            raise OSError(self.complaints.pop(0), "told to")
        return self._socket.recvfrom(most)


@pytest.fixture
def refusing():
    """A staged plugin, one peer of it, its reply channel, and the socket to be told."""
    with staged_raw() as staged:
        client = staged.connect()
        client.send(b"?")
        heard = staged.hear()
        heard.settle(OK)
        endpoint = staged.plugin._endpoints[0]
        sock = endpoint._socket = Refusing(endpoint._socket)
        yield staged, client, heard.message["reply_channel"], sock


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENETUNREACH, "gone"),
        (errno.ECONNREFUSED, "gone"),
        (errno.EPERM, "gone"),
        (errno.EMSGSIZE, "too_big"),
        (errno.ENOBUFS, "slow"),
    ],
)
def test_cannot_be_sent(refusing, number, cause):
    """A datagram that cannot be sent is dropped, by its cause, and the next one is sent."""
    staged, _, channel, sock = refusing
    sock.errors = [number]
    staged.worker.send(channel, {"bytes": b"one"})
    staged.worker.send(channel, {"bytes": b"two"})
    wait_until(lambda: sock.sent == [b"two"])
    assert staged.metrics.dropped() == {cause: 1}


def test_complaints_of_hosts(refusing):
    """What hosts and routers say of datagrams that were sent ends no endpoint."""
    staged, client, _, sock = refusing
    sock.complaints = [errno.ECONNREFUSED, errno.EHOSTUNREACH]
    client.send(b"a")
    wait_until(lambda: sock.sent == [b"2 a"])
    assert staged.metrics.snapshot()["gateway_raw_socket_errors_total"] == 2


def test_busy_socket(refusing, monkeypatch):
    """What the socket does not take now waits, in order, within bounds; the rest is dropped."""
    staged, _, channel, sock = refusing
    monkeypatch.setattr(datagram, "UNSENT", 10)

    def burst():
        wire = staged.plugin._endpoints[0].peers
        (peer,) = wire.values()
        sock.errors = [errno.EAGAIN]
        for piece in (b"aaaa", b"bbbb", b"cccc"):
            peer.write(piece)

    staged.call(burst)
    wait_until(lambda: sock.sent == [b"aaaa", b"bbbb"])
    assert staged.metrics.dropped() == {"slow": 1}
    staged.worker.send(channel, {"bytes": b"dddd"})
    wait_until(lambda: sock.sent[-1] == b"dddd")


def test_draining():
    """A shutdown is said to those who are there; newcomers are dropped, counted."""
    with staged_raw() as staged:
        client = staged.connect()
        assert asks(client, b"a") == b"1 a"
        staged.drain()
        assert client.recv(100) == b"restart"
        client.send(b"b")
        wait_until(lambda: staged.metrics.dropped() == {"drained": 1})


def test_same_socket_again():
    """Stopping leaves the socket to who bound it: what comes meanwhile is read by a successor."""
    with staged_raw() as staged:
        client = staged.connect()
        assert asks(client, b"a") == b"1 a"
        with Staged(RawPlugin, listen=f"udp:fd:{staged._socket.fileno()}") as second:
            staged.call(lambda: staged.plugin._endpoints.pop().close())
            assert asks(client, b"a") == b"1 a"
            assert second.plugin.health()["peers"] == 1


def test_stream_endpoint():
    """A plugin of datagrams does not listen by TCP; the error says what to write."""
    with pytest.raises(ConfigError, match=r"^listen: '127.0.0.1:0': .*write 'udp:' before it"):
        staged_raw(listen="127.0.0.1:0").__enter__()


def test_socket_of_connections():
    """A descriptor that is no UDP socket is refused by name."""
    with socket.socket() as sock, pytest.raises(ConfigError, match="is not a UDP socket"):
        Staged(RawPlugin, listen=f"udp:fd:{sock.fileno()}").__enter__()
