"""``gateway.v1``: what a client that offers it is sent, by table and over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
from websockets.asyncio.client import connect

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import OK, Accepted, Close, Emit, Timer, Write
from gateway.core.websockets import frames
from gateway.core.websockets.handshake import Accept
from gateway.plugins.websocket.deflate import ContextDeflater, Deflater, Inflater
from gateway.plugins.websocket.envelope import NAME, ObjectContextSession, ObjectSession
from gateway.plugins.websocket.translate import (
    CONNECT,
    OPEN,
    PENDING,
    WebsocketSession,
    deflating,
)
from tests.plugins.http.http2.websockets import Line
from tests.plugins.websocket.peers import Talk, server_frames
from tests.plugins.websocket.serving import ECHO, Serving, accept, on_loop, wait_until

TEXT, BINARY, CLOSE = 1, 2, 8
OFFER = f"Sec-WebSocket-Protocol: {NAME}"
LONG = "Hello, hello, hello! " * 100


def talking(**settings: Any) -> Talk:
    """Return a session that offered it, and another."""
    return Talk(kind=ObjectSession, subprotocols=["chat", NAME], **settings)


def heard(data: bytes) -> list[Any]:
    """Return what frames say: objects, and bytes."""
    return [
        json.loads(payload) if opcode == TEXT else payload
        for opcode, payload in server_frames(data)
    ]


# ---------------------------------------------------------------- accepting


ACCEPTED = [
    Accepted(),
    Timer("decision", None),
    Write(Accept(NAME, [])),
    Timer("ping", 7.0),
    Write(frames.text_frame('{"keep_alive":7.0}')),
    Timer("beat", 7.0),
]


@pytest.mark.parametrize(
    ("reply", "after"),
    [
        ({"accept": True}, []),
        ({"accept": True, "subprotocol": NAME}, []),
        ({"text": "hi"}, [{"text": "hi"}]),
        ({"bytes": b"hi", "id": "1"}, [{"bytes": "aGk=", "id": "1"}]),
        ({"accept": True, "id": "1"}, [{"id": "1"}]),
    ],
)
def test_the_gateway_chooses_it(reply: dict[str, Any], after: list[Any]) -> None:
    """Whatever accepts, the answer names the subprotocol, and how often a heartbeat comes."""
    talk = talking(ping_interval=7.0)
    actions = list(talk.session.send(None, reply, None))
    assert actions[:6] == ACCEPTED
    assert [heard(write.output) for write in actions[6:]] == [after][: len(after)]
    assert talk.session.state is OPEN


def test_the_outcome_accepts() -> None:
    """So does a connect consumer that returns."""
    assert talking(ping_interval=7.0).session.outcome(CONNECT, OK) == ACCEPTED


def test_without_heartbeats() -> None:
    """Where there are no pings there are no heartbeats, and the client is told so."""
    actions = list(talking(ping_interval=0).session.send(None, {"accept": True}, None))
    assert heard(actions[-1].output) == [{"keep_alive": 0}]
    assert [action for action in actions if isinstance(action, Timer)] == [Timer("decision", None)]


@pytest.mark.parametrize("name", ["chat", "other"])
def test_another_is_refused(name: str) -> None:
    """An application that chooses another subprotocol is told what is spoken, and to choose none.

    Nothing is decided by that.
    """
    talk = talking()
    with pytest.raises(LocalProtocolError, match=r"gateway\.v1.*leave subprotocol out"):
        talk.send(accept=True, subprotocol=name)
    assert talk.session.state is PENDING


@pytest.mark.parametrize(
    ("query", "expected"), [(b"", ""), (b"a=b", ""), (b"last_event_id=1-2", "1-2")]
)
def test_last_event_id(query: bytes, expected: str) -> None:
    """The connect message has its last_event_id, empty where the query has none."""
    _, emit = talking(query=query).opened
    assert isinstance(emit, Emit)
    assert emit.message["last_event_id"] == expected


# ---------------------------------------------------------------- what is said


SAID: list[tuple[dict[str, Any], list[Any]]] = [
    ({"text": "hi"}, [{"text": "hi"}]),
    ({"text": ""}, [{"text": ""}]),
    ({"text": 'é"\\\u2028\U0001f600\n'}, [{"text": 'é"\\\u2028\U0001f600\n'}]),
    ({"text": "hi", "id": "1-a"}, [{"text": "hi", "id": "1-a"}]),
    ({"text": "hi", "missed": True}, [{"text": "hi", "missed": True}]),
    ({"bytes": b"\x00\xff"}, [b"\x00\xff"]),
    ({"bytes": b""}, [b""]),
    ({"bytes": b"\x00", "id": "1-a"}, [{"bytes": "AA==", "id": "1-a"}]),
    ({"id": "1-a"}, [{"id": "1-a"}]),
    ({"id": ""}, [{"id": ""}]),
    ({"missed": True}, [{"missed": True}]),
    ({"missed": True, "id": "1-a"}, [{"missed": True, "id": "1-a"}]),
]
KINDS: list[tuple[type[WebsocketSession], Callable[[], tuple[Any, ...]]]] = [
    (ObjectSession, tuple),
    (deflating(ObjectSession, Deflater(12, 3, 128)), tuple),
    (ObjectContextSession, lambda: (ContextDeflater(12, 3, 128),)),
]
NAMES = ["plain", "deflate", "context"]


@pytest.mark.parametrize(("kind", "more"), KINDS, ids=NAMES)
@pytest.mark.parametrize(("reply", "expected"), SAID, ids=range(len(SAID)))
def test_objects(
    kind: type[WebsocketSession], more: Any, reply: dict[str, Any], expected: list[Any]
) -> None:
    """A reply to one client says what the protocol has for it, in one write."""
    talk = Talk(kind=kind, subprotocols=[NAME], more=more()).open()
    (write,) = talk.send(**reply)
    assert heard(write.output) == expected


@pytest.mark.parametrize(("kind", "more"), KINDS[:2], ids=NAMES[:2])
@pytest.mark.parametrize(("reply", "expected"), SAID, ids=range(len(SAID)))
def test_frames(
    kind: type[WebsocketSession], more: Any, reply: dict[str, Any], expected: list[Any]
) -> None:
    """A group's message is framed once for all members, as if each were written to."""
    frame = kind.frame(reply)
    assert frame is not None
    assert heard(frame) == expected


@pytest.mark.parametrize(("kind", "more"), KINDS[1:], ids=NAMES[1:])
def test_what_is_long_is_compressed(kind: type[WebsocketSession], more: Any) -> None:
    """An object travels compressed where permessage-deflate was agreed on, its id inside."""
    talk = Talk(kind=kind, subprotocols=[NAME], more=more()).open()
    inflater = Inflater(15, 1 << 20, context=kind is ObjectContextSession)
    for number in ("1-1", "1-2"):
        (write,) = talk.send(text=LONG, id=number)
        first, size = write.output[0], write.output[1]
        assert first == frames.TEXT | frames.RSV1
        assert size < 126
        assert json.loads(inflater.text(write.output[2:]) or "") == {"text": LONG, "id": number}


@pytest.mark.parametrize("reply", [{"text": "x", "subprotocol": NAME}, {"close": 1000}, {}])
def test_what_is_no_data_has_no_frame(reply: dict[str, Any]) -> None:
    """What asks for more than to be sent is left to each session."""
    assert ObjectSession.frame(reply) is None


def test_data_then_close() -> None:
    """Data, its id and the close frame go out in this order."""
    write, close = talking().open().send(bytes=b"x", id="1", close=4000)
    assert heard(write.output) == [{"bytes": "eA==", "id": "1"}]
    assert isinstance(close, Close)
    assert close.data == frames.close_frame(4000)


def test_what_says_nothing() -> None:
    """``missed`` that is false is nothing to be sent."""
    assert talking().open().send(missed=False) == []


@pytest.mark.parametrize("reply", [{"id": "1"}, {"missed": True}])
def test_a_raw_client_is_not_told(reply: dict[str, Any]) -> None:
    """A WebSocket without gateway.v1 hears of no ids; data that has one is sent as it is."""
    talk = Talk().open()
    assert talk.send(**reply) == []
    assert talk.send(text="hi", **reply) == [Write(frames.text_frame("hi"))]
    assert not WebsocketSession.__dict__.get("resumes", False)
    assert ObjectSession.resumes


def test_heartbeats() -> None:
    """A heartbeat goes out every ping_interval, whatever else does, until the end."""
    talk = talking(ping_interval=7.0).open()
    beat = [Write(frames.text_frame("{}")), Timer("beat", 7.0)]
    assert list(talk.session.timeout("beat")) == beat
    assert list(talk.session.timeout("ping")) == [Write(b"\x89\x00"), Timer("pong", 20.0)]
    assert list(talk.session.timeout("beat")) == beat
    talk.send(close=True)
    assert list(talk.session.timeout("beat")) == []


# ---------------------------------------------------------------- over sockets


def answering(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Say what came, with an id; in bytes what came in bytes."""
    key = "text" if "text" in message else "bytes"
    return [{key: message[key], "id": f"1-{message['order']:x}"}]


CONSUMERS = {
    "websocket.connect": accept,
    "websocket.receive": answering,
    "websocket.disconnect": accept,
}


@on_loop
async def test_on_the_wire() -> None:
    """The answer to the handshake names it; objects follow; heartbeats come while all is silent."""
    async with Serving(CONSUMERS, ping_interval=0.2) as gateway:
        peer = await gateway.raw("/chat?last_event_id=1-f", OFFER)
        status, headers, _ = await peer.response()
        assert (status, headers["sec-websocket-protocol"]) == (101, NAME)
        assert await peer.frame() == (TEXT, b'{"keep_alive":0.2}')
        peer.send(TEXT, b"hi")
        while (found := await peer.frame()) == (TEXT, b"{}") or found[0] == 9:
            continue
        assert found == (TEXT, b'{"text":"hi","id":"1-1"}')
        beats = 0
        while beats < 3:
            beats += await peer.frame() == (TEXT, b"{}")
        (message,) = gateway.messages("connect")
        assert message["last_event_id"] == "1-f"
        assert message["subprotocols"] == [NAME]


@on_loop
async def test_another_subprotocol_is_not_decided_on() -> None:
    """A consumer that chooses another is told in the log; when it returns, this one is spoken."""

    def choose(message: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"accept": True, "subprotocol": "chat"}]

    async with Serving(ECHO | {"websocket.connect": choose}) as gateway:
        peer = await gateway.raw("/chat", f"Sec-WebSocket-Protocol: chat, {NAME}")
        _, headers, _ = await peer.response()
        assert headers["sec-websocket-protocol"] == NAME
        assert gateway.drops == {"invalid": 1}


@on_loop
async def test_a_group_of_both() -> None:
    """One group message reaches raw clients as it is, and these as an object."""
    async with Serving(CONSUMERS) as gateway:
        raw = await gateway.open()
        other = await gateway.open("/chat", OFFER)
        assert await other.frame() == (TEXT, b'{"keep_alive":20.0}')
        await wait_until(lambda: len(gateway.messages("connect")) == 2)
        for message in gateway.messages("connect"):
            await gateway.layer.agroup_add("room", message["reply_channel"])
        await gateway.layer.asend_group("room", {"text": "all"})
        assert await raw.frame() == (TEXT, b"all")
        assert await other.frame() == (TEXT, b'{"text":"all"}')


@on_loop
async def test_over_http2() -> None:
    """A WebSocket on a stream of HTTP/2 speaks it as any other."""
    async with Serving(CONSUMERS) as gateway:
        line = await Line.begin(gateway.port)
        gateway.peers.append(line)  # type: ignore[arg-type]
        peer = line.connect("/chat", OFFER)
        status, fields, _ = await peer.response()
        assert (status, fields["sec-websocket-protocol"]) == (101, NAME)
        assert await peer.frame() == (TEXT, b'{"keep_alive":20.0}')
        peer.send(BINARY, b"\x00\xff")
        assert await peer.frame() == (TEXT, b'{"bytes":"AP8=","id":"1-1"}')


@pytest.mark.parametrize("context", [False, True])
@on_loop
async def test_websockets(context: bool) -> None:
    """The websockets library, with permessage-deflate, either way of it."""
    settings: dict[str, Any] = {"compression": "deflate", "compression_context": context}
    async with (
        Serving(CONSUMERS, **settings) as gateway,
        connect(gateway.url, subprotocols=[NAME], proxy=None) as peer,  # type: ignore[list-item]
    ):
        assert peer.subprotocol == NAME
        assert json.loads(await peer.recv()) == {"keep_alive": 20.0}
        for number, text in enumerate((LONG, "short", LONG), 1):
            await peer.send(text)
            assert json.loads(await peer.recv()) == {"text": text, "id": f"1-{number}"}
        await peer.send(LONG.encode())
        coded = base64.b64encode(LONG.encode()).decode()
        assert json.loads(await peer.recv()) == {"bytes": coded, "id": "1-4"}


@on_loop
async def test_autobahn() -> None:
    """Autobahn's client takes the subprotocol; bytes that have an id are base64."""
    loop = asyncio.get_running_loop()
    events: list[Any] = []

    class Client(WebSocketClientProtocol):
        def onConnect(self, response: Any) -> None:
            events.append(response.protocol)

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            events.append(payload if isBinary else json.loads(payload))
            if len(events) == 2:
                self.sendMessage(b"one")
                self.sendMessage(b"\x00two", isBinary=True)
            elif isinstance(events[-1], dict) and events[-1].get("id") == "1-2":
                self.sendClose(1000)

        def onClose(self, wasClean: bool, code: int, reason: str) -> None:
            events.append((wasClean, code))

    async with Serving(CONSUMERS) as gateway:
        factory = WebSocketClientFactory(gateway.url, protocols=[NAME], loop=loop)
        factory.protocol = Client
        await loop.create_connection(factory, "127.0.0.1", gateway.port)
        await wait_until(lambda: events and isinstance(events[-1], tuple))
        assert events == [
            NAME,
            {"keep_alive": 20.0},
            {"text": "one", "id": "1-1"},
            {"bytes": "AHR3bw==", "id": "1-2"},
            (True, 1000),
        ]
