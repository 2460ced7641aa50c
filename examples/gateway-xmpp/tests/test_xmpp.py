"""Xmpp, by stanzas; the test is server and worker."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from gateway import address
from gateway.core.plugin import (
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
    Close,
    Emit,
    LocalProtocolError,
    Outcome,
    Peer,
    Refusal,
    RemoteProtocolError,
    Timer,
    Write,
)
from gateway.testing.stage import PATIENCE, Staged, wait_until

from gateway_xmpp import XmppPlugin
from gateway_xmpp.config import XmppConfig
from gateway_xmpp.conformance import HANDSHAKE, HEAD, XmppSuite
from gateway_xmpp.translate import XmppSession

SEND = "xmpp.send"
HELLO = (
    b"<message from='alice@localhost/phone' to='bot@bot.localhost' id='7' type='chat'>"
    b"<body>1 &lt; 2 \xc3\xa9</body><request xmlns='urn:xmpp:receipts'/></message>"
)
CONFIG = XmppConfig(secret="shared")


class TestXmpp(XmppSuite):
    """Everything that holds for every plugin."""


def said(actions: list[object]) -> bytes:
    """Return what of it is written."""
    return b"".join(action.output for action in actions if isinstance(action, Write))


def open_session() -> XmppSession:
    """Return a session after the handshake."""
    session = XmppSession(CONFIG)
    list(session.opened(Peer()))
    assert said(list(session.received(HEAD))) == HANDSHAKE
    assert list(session.received(b"<handshake/>")) == [Timer("handshake", None)]
    return session


# ---------------------------------------------------------------- the session


def test_opening() -> None:
    """A component says whose it is, and proves it with the server's id."""
    timer, begin = XmppSession(CONFIG).opened(Peer())
    assert isinstance(timer, Timer)
    assert isinstance(begin, Write)
    assert b"jabber:component:accept" in begin.output
    assert begin.output.endswith(b" to='bot.localhost'>")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pieces(size: int) -> None:
    """Whatever pieces the bytes come in, the actions are the same."""
    stream = HEAD + b"<handshake/>" + HELLO * 2 + b" \n" + HELLO + b"<broken></wrong>" + HELLO
    session = XmppSession(CONFIG)
    found: list[object] = []
    with pytest.raises(RemoteProtocolError, match="no XML"):  # noqa: PT012 - it raises amid it
        for start in range(0, len(stream), size):
            for action in session.received(stream[start : start + size]):
                found.append(action)
    assert [type(action) for action in found] == [Write, Timer, Emit, Emit, Emit]


def test_message() -> None:
    """What somebody writes is a message, in a conversation with them."""
    (emit,) = open_session().received(HELLO)
    assert isinstance(emit, Emit)
    assert (emit.kind, emit.conversation) == ("receive", "alice@localhost")
    assert emit.message == {
        "sender": "alice@localhost",
        "resource": "phone",
        "id": "7",
        "text": "1 < 2 é",
    }


@pytest.mark.parametrize(
    ("outcome", "condition"),
    [
        (Outcome(REJECTED, reason="not <now>\n"), b"<not-allowed"),
        (Outcome(FAILED), b"<internal-server-error"),
        (Outcome(RELEASED), b"<resource-constraint"),
        (Outcome(UNROUTED), b"<service-unavailable"),
    ],
)
def test_errors(outcome: Outcome, condition: bytes) -> None:
    """Whose message comes to nothing hears why; who sends an error hears nothing."""
    session = open_session()
    (emit,) = session.received(HELLO)
    assert isinstance(emit, Emit)
    answer = said(list(session.outcome(emit.token, outcome)))
    assert condition in answer
    assert b" id='7' type='error'>" in answer
    assert (b"not &lt;now&gt;</text>" in answer) == bool(outcome.reason)
    assert list(open_session().received(answer)) == []


def test_refused() -> None:
    """A message that reaches no worker is one to send again."""
    session = open_session()
    (emit,) = session.received(HELLO)
    assert isinstance(emit, Emit)
    assert b"<resource-constraint" in said(list(session.refused(emit.token, Refusal.FULL)))


def test_receipt() -> None:
    """Who asks for a receipt has one once the message was accepted, and nobody else."""
    session = open_session()
    (emit,) = session.received(HELLO)
    assert isinstance(emit, Emit)
    assert b"<received xmlns='urn:xmpp:receipts' id='7'/>" in said(
        list(session.outcome(emit.token, OK))
    )
    (emit,) = session.received(HELLO.replace(b"<request xmlns='urn:xmpp:receipts'/>", b""))
    assert isinstance(emit, Emit)
    assert list(session.outcome(emit.token, OK)) == []


@pytest.mark.parametrize(
    ("stanza", "answer"),
    [
        (b"<iq from='a@b' to='c' id='1' type='get'><ping/></iq>", b"<service-unavailable"),
        (b"<iq from='a@b' to='c' id='1' type='result'/>", b""),
        (b"<presence from='a@b' to='c' type='subscribe'/>", b" type='subscribed'/>"),
        (b"<presence from='a@b' to='c'/>", b""),
        (b"<message from='a@b' to='x@bot.localhost'><body>?</body></message>", b"<item-not-found"),
        (b"<message from='a@b' to='bot@bot.localhost'><composing/></message>", b""),
        (b"<message type='error' from='a@b' to='bot@bot.localhost'><body/></message>", b""),
    ],
)
def test_other_stanzas(stanza: bytes, answer: bytes) -> None:
    """What must be answered is, to whom it came from; what must not is not."""
    found = said(list(open_session().received(stanza)))
    assert answer in found
    assert bool(found) == bool(answer)
    if found:
        assert b" to='a@b'" in found


@pytest.mark.parametrize(
    ("data", "condition"),
    [
        (b"<!DOCTYPE x []>", b"restricted-xml"),
        (HEAD + b"<a></b>", b"not-well-formed"),
        (HEAD + b"<a>" + b"x" * 300_000, b"policy-violation"),
        (HEAD + b"x" * 300_000, b"policy-violation"),
    ],
)
def test_what_is_wrong(data: bytes, condition: bytes) -> None:
    """What is no XMPP ends the stream, and says why."""
    session = XmppSession(CONFIG)
    with pytest.raises(RemoteProtocolError) as found:
        list(session.received(data))
    assert condition in found.value.answer


def test_no_end_of_good_stanzas() -> None:
    """The bound is one of a stanza, not of the connection."""
    session = open_session()
    for _ in range(5000):
        assert len(list(session.received(HELLO + b"\n"))) == 1


def test_end() -> None:
    """Each side's end is answered by the other's."""
    assert list(open_session().received(b"</stream:stream>")) == [Close(b"</stream:stream>")]
    assert list(open_session().draining(1.0)) == [Close(b"</stream:stream>")]


def test_replies() -> None:
    """A text is quoted; what XML or chat cannot have is invalid."""
    session = open_session()
    (write,) = session.send("o'hara@x", {"text": "<a> & 'b'"}, None)
    assert isinstance(write, Write)
    assert b" to='o&apos;hara@x' " in write.output
    assert b"<body>&lt;a&gt; &amp; &apos;b&apos;</body>" in write.output
    assert list(session.send("a@b", {"close": True}, None)) == []
    for conversation, reply in (
        ("a@b", {"bytes": b"x"}),
        ("a@b", {"text": "\0"}),
        ("a b", {"text": "x"}),
        (None, {"text": "x"}),
    ):
        with pytest.raises(LocalProtocolError):
            list(session.send(conversation, reply, None))


def test_early_replies() -> None:
    """What is sent before the server lets us in waits for that, in order; not without bound."""
    session = XmppSession(CONFIG)
    for number in range(100):
        assert list(session.send("a@b", {"text": f"{number:02}"}, None)) == []
    with pytest.raises(LocalProtocolError, match="let us in"):
        list(session.send("a@b", {"text": "100"}, None))
    list(session.received(HEAD))
    _, *writes = session.received(b"<handshake/>")
    assert [f"<body>{number:02}<".encode() in said([w]) for number, w in enumerate(writes)] == (
        [True] * 100
    )


# ---------------------------------------------------------------- the plugin


class Server:
    """What the plugin connects to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self._connections: list[socket.socket] = []
        host, port = self._listener.getsockname()
        self.config = XmppConfig(connect=f"{host}:{port}", secret="shared")

    def accept(self) -> socket.socket:
        """Return the plugin's next connection, after the handshake."""
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE)
        self._connections.append(connection)
        self.until(connection, b" to='bot.localhost'>")
        connection.sendall(HEAD)
        self.until(connection, HANDSHAKE)
        connection.sendall(b"<handshake/>")
        return connection

    @staticmethod
    def until(connection: socket.socket, end: bytes) -> bytes:
        """Read up to that."""
        came = b""
        while not came.endswith(end):
            piece = connection.recv(1)
            assert piece, came
            came += piece
        return came

    def close(self) -> None:
        """End it."""
        for one in (self._listener, *self._connections):
            one.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Yield a server; end it after the test."""
    made = Server()
    yield made
    made.close()


def test_conversation(server: Server) -> None:
    """Somebody is answered at their address; a receipt follows the reply."""
    with Staged(XmppPlugin, server.config) as staged:
        connection = server.accept()
        connection.sendall(HELLO)
        heard = staged.hear()
        assert heard.message["reply_channel"] == address(SEND, "alice@localhost")
        heard.settle(OK, {"text": "hi"})
        assert b"<body>hi</body>" in server.until(connection, b"</message>")
        assert b"<received" in server.until(connection, b"</message>")


def test_address_and_a_new_connection(server: Server) -> None:
    """Who never wrote can be written to; after a connection's end by the next one."""
    with Staged(XmppPlugin, server.config) as staged:
        for _ in range(2):
            connection = server.accept()
            staged.worker.send(address(SEND, "bob@localhost"), {"text": "hi"})
            assert b" to='bob@localhost' " in server.until(connection, b"</message>")
            connection.close()


def test_wrong_secret(server: Server) -> None:
    """Why a server does not let us in is what operators read."""
    config = XmppConfig(connect=server.config.connect, secret="shared")
    with Staged(XmppPlugin, config) as staged:
        server.accept().sendall(
            b"<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
            b"</stream:error></stream:stream>"
        )

        def said_why() -> bool:
            facts = staged.plugin.health()["targets"].values()
            return any("the server says not-authorized" in str(fact) for fact in facts)

        wait_until(said_why)
