"""Where the CPU of one operation goes: ``python -m benchmarks.micro [STAGE …] [--profile]``.

Each stage is a part of the path of a request or a WebSocket message, run alone in this
process on stand-ins for its neighbours: no sockets, no other processes, no waiting. So the
sum of the stages is less than what `benchmarks` measures; the rest is system calls, their
wake-ups, and caches that other processes use meanwhile. A figure is the least of several
runs, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import contextvars
import cProfile
import itertools
import pstats
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec

from benchmarks import servers, ws_load
from benchmarks.http_load import HEADERS, request
from gateway.core.access import AccessLog, OpenLog
from gateway.core.arrivals import Arrived
from gateway.core.config import LogSettings
from gateway.core.connection import Engine
from gateway.core.layers import codec, wire
from gateway.core.layers.base import OK, Delivery, send
from gateway.core.layers.edge import ANNOUNCED, GROUP, HANDLED, JOIN, MESSAGE, OUTCOME
from gateway.core.layers.journal import LASTING, Left
from gateway.core.layers.journalfile import JournalFile
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.records import Reader
from gateway.core.layers.state import State
from gateway.core.metrics import Metrics
from gateway.core.plugin import Peer
from gateway.core.web import Claim
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.port import PREFACE, Port
from gateway.plugins.http.server import HttpPlugin
from gateway.plugins.http.transport import HttpProtocol
from gateway.plugins.longpoll import LongpollPlugin
from gateway.plugins.longpoll.config import LongpollConfig
from gateway.plugins.longpoll.door import Door as PollsDoor
from gateway.plugins.mqtt import packets as mqtt
from gateway.plugins.mqtt.codec import Decoder, encode
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.plugin import MqttPlugin
from gateway.plugins.mqtt.server.device import Device, Limits
from gateway.plugins.mqtt.server.homes import Home
from gateway.plugins.mqtt.server.service import Server as MqttServer
from gateway.plugins.mqtt.server.wire import MqttWire
from gateway.plugins.sse import SsePlugin
from gateway.plugins.sse.config import SseConfig
from gateway.plugins.sse.door import Door as EventsDoor
from gateway.plugins.websocket import WebsocketPlugin
from gateway.plugins.websocket.config import WebsocketConfig
from gateway.plugins.websocket.door import Door
from gateway.testing.fakes import FakeEdge, ManualClock

OPENS = b"POST / HTTP/1.1\r\nHost: a\r\nPrefer: respond-async\r\nContent-Length: 0\r\n\r\n"
BATCH = 32
"""Messages of one turn, where a stage works on a turn's worth: the credit of a worker."""
MEMBERS = 100
"""Members of a group."""
MISSED = 10
"""Messages that a member missed that comes back."""
RUNS = 7
SECONDS = 0.2

REQUEST = request("/")
RESPONSE = codec.encode(
    {
        "status": 200,
        "headers": [[b"content-type", b"text/plain"]],
        "content": b"Hello, world!",
    }
)
HTTP_MESSAGE = codec.encode(
    {
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [
            [b"host", b"localhost"],
            [b"user-agent", b"benchmark"],
            [b"accept", b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"],
            [b"accept-encoding", b"gzip, deflate"],
            [b"accept-language", b"en"],
        ],
        "body": b"",
        "body_channel": None,
        "reply_channel": "http.send.p_AbCdEfGhIjKl!7f",
        "order": 0,
        "client": ["127.0.0.1", 50000],
        "server": ["127.0.0.1", 8000],
    }
)
TEXT_MESSAGE = codec.encode(
    {
        "path": "/echo",
        "text": ws_load.TEXT.decode(),
        "reply_channel": "websocket.send.p_AbCdEfGhIjKl!7f",
        "order": 7,
        "client": ["127.0.0.1", 50000],
        "server": ["127.0.0.1", 8000],
    }
)
DISCONNECT = codec.encode(
    {
        "code": 1006,
        "reason": "",
        "path": "/chat/lobby/",
        "reply_channel": "websocket.send.p_AbCdEfGhIjKl!7f",
        "order": 12,
    }
)
TEXT_REPLY = codec.encode({"text": ws_load.TEXT.decode()})

Step = Callable[[], None]


# ---------------------------------------------------------------- the gateway process


class _Transport:
    """Takes what is written; knows what the protocols ask of a transport."""

    protocol: Any = None

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 50000) if name in {"peername", "sockname"} else None

    def is_closing(self) -> bool:
        return False

    def is_reading(self) -> bool:
        return True

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None: ...


class _Kept(_Transport):
    """Keeps what was written last."""

    said = b""

    def write(self, data: bytes) -> None:
        self.said = data


class _Edge(FakeEdge):
    """Keeps the last receipt, and nothing else."""

    receipt = 0

    def post(self, channel: str, payloads: Any, receipt: Any = None, *_: Any) -> None:
        self.receipt = receipt


def _port(access: AccessLog | None = None, **settings: Any) -> tuple[_Edge, Any, ManualClock, Port]:
    clock = ManualClock()  # type: ignore[abstract] # what no stage asks of a loop is left out
    edge = _Edge()
    engine = edge.engine(clock, access=access)
    engine.deliver([(ANNOUNCED, frozenset({"http.request", "websocket.receive"}))])
    config = HttpConfig(max_requests=1 << 60)  # one connection for all of them
    port = Port(config, engine.context(HttpPlugin, config))
    config = WebsocketConfig(message_rate=0, **settings)  # this clock stands still
    door = Door(config, engine.context(WebsocketPlugin, config))
    port.claims = [Claim(door.matches, door.open, -10)]
    return edge, engine, clock, port


def _connected(
    port: Port, make: Callable[[], _Transport] = _Transport
) -> tuple[HttpProtocol, _Transport]:
    protocol = HttpProtocol(port)
    transport = make()
    protocol.connection_made(transport)  # type: ignore[arg-type]
    return protocol, transport


def http_in_out(access: AccessLog | None = None) -> Step:
    """A request's bytes to its message, the reply to the response's bytes (gateway)."""
    edge, engine, _, port = _port(access)
    protocol, _ = _connected(port)

    def step() -> None:
        protocol.data_received(REQUEST)
        channel = f"http.send.{engine.process}!{engine.attached:x}"
        engine.deliver([(MESSAGE, channel, RESPONSE), (OUTCOME, edge.receipt, 0, OK)])

    return step


def http_logged() -> Step:
    """The same with an access log in a file, its writing included (gateway)."""
    with tempfile.TemporaryDirectory() as room:  # the file goes with the process
        return http_in_out(OpenLog(LogSettings(access=f"{room}/access.log"), Metrics()))


def http_in() -> Step:
    """A request's bytes to its message, and the end of what then leaves (gateway)."""
    _, engine, _, port = _port()
    protocol, _ = _connected(port)

    def step() -> None:
        protocol.data_received(REQUEST)
        protocol.finish(keep_alive=True)
        engine.flow.flights.clear()

    return step


def http2_in_out() -> Step:
    """The same over HTTP/2: a HEADERS frame in, a frame of fields and one of content out."""
    from hpack import Encoder

    edge, engine, clock, port = _port()
    protocol, transport = _connected(port)
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]
    fields += [(b":authority", b"localhost")]
    lines = [line.split(b": ", 1) for line in HEADERS.split(b"\r\n")[1:] if line]
    fields += [(name.lower(), value) for name, value in lines]
    encoder = Encoder()
    block = encoder.encode(fields)

    def frame(number: int) -> bytes:
        return len(block).to_bytes(3) + b"\x01\x05" + number.to_bytes(4) + block

    def answer() -> None:
        channel = f"http.send.{engine.process}!{engine.attached:x}"
        engine.deliver([(MESSAGE, channel, RESPONSE), (OUTCOME, edge.receipt, 0, OK)])
        clock.advance()

    settings = b"\0\0\0\x04\0\0\0\0\0"
    window = b"\0\0\4\x08\0\0\0\0\0" + (2**31 - 65536).to_bytes(4)  # all there can be
    protocol.data_received(PREFACE + settings + window + frame(1))
    answer()
    if transport.protocol is None:
        raise RuntimeError("HTTP/2 is not spoken: is h2 installed?")
    received = transport.protocol.data_received
    block = encoder.encode(fields)  # from now on it consists of references
    numbers = itertools.count(3, 2)

    def step() -> None:
        received(frame(next(numbers)))
        answer()

    return step


OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
LINES = "".join(f'{{"id": {n}, "price": {n * 7919 % 1000}.25, "side": "buy"}}\n' for n in range(25))
"""What is compressed: 1 KiB of JSON."""


def _opened(port: Port, clock: ManualClock, more: bytes = b"") -> Any:
    """Return what a connection that was accepted is to be told when bytes arrive."""
    protocol, transport = _connected(port)
    head, _, _ = ws_load.handshake("/echo").rpartition(b"\r\n")
    protocol.data_received(head + OFFER + more + b"\r\n")
    clock.advance()
    if transport.protocol is None:  # nobody routes the connect: accepted in a turn of its own
        raise RuntimeError("the handshake was not accepted")
    return transport.protocol.data_received


def _echo(data: bytes, reply: bytes, more: bytes = b"", **settings: Any) -> Step:
    edge, engine, clock, port = _port(**settings)
    received = _opened(port, clock, more)
    channel = f"websocket.send.{engine.process}!{engine.attached:x}"

    def step() -> None:
        received(data)
        engine.deliver([(MESSAGE, channel, reply), (OUTCOME, edge.receipt, 0, OK)])

    return step


def websocket_in_out() -> Step:
    """A frame to its message, the reply to its frame (gateway)."""
    return _echo(ws_load.frame(ws_load.TEXT), TEXT_REPLY)


MQTT_PUBLISH = mqtt.Publish("sensors/7/temp", b"x" * 64, 1, packet_id=7)


def mqtt_decode() -> Step:
    """A QoS 1 PUBLISH of MQTT 5 read, of a read with many."""
    decoder = Decoder(protocol=mqtt.V5)
    data = encode(MQTT_PUBLISH, mqtt.V5) * BATCH

    def step() -> None:
        decoder.feed(data)

    return step


def mqtt_encode() -> Step:
    """A QoS 1 PUBLISH of MQTT 5 written."""

    def step() -> None:
        encode(MQTT_PUBLISH, mqtt.V5)

    return step


class _Homes:
    """Sessions of MQTT that are here at once."""

    def __init__(self, server: MqttServer) -> None:
        self.here: dict[str, Any] = {}
        self._server = server

    def claim(self, wire: Any, client_id: str, begin: Callable[..., None]) -> None:
        device = Device(client_id, Limits(1000, 1 << 20, time.time, lambda _: None))
        begin(Home(device, None, None), wire, False)  # type: ignore[arg-type] # nothing is held


def mqtt_in_out() -> Step:
    """A QoS 1 PUBLISH to its message, the outcome to its PUBACK, relayed to nobody (gateway)."""
    return _mqtt(1)


def mqtt_many() -> Step:
    """The same of as many as a worker's credit in one read: one delivery, one settlement."""
    return _mqtt(BATCH)


def _mqtt(number: int) -> Step:
    clock = ManualClock()  # type: ignore[abstract] # as above
    edge = _Edge()
    engine = edge.engine(clock)
    engine.deliver([(ANNOUNCED, frozenset({"mqtt.receive"}))])
    config = MqttConfig(message_rate=0)
    server = MqttServer(config, engine.context(MqttPlugin, config))
    server._homes = _Homes(server)  # type: ignore[assignment] # noqa: SLF001 - nobody else's
    wire = MqttWire(server, Arrived(Peer(), server.places.take()))
    wire.connection_made(_Transport())  # type: ignore[arg-type] # what a wire uses of one
    wire.data_received(encode(mqtt.Connect("d"), mqtt.V5))
    clock.advance()
    data = b"".join(
        encode(msgspec.structs.replace(MQTT_PUBLISH, packet_id=n + 1), mqtt.V5)
        for n in range(number)
    )

    def step() -> None:
        wire.data_received(data)
        one = (OUTCOME, edge.receipt, 0, OK)
        engine.deliver([one if number == 1 else (HANDLED, edge.receipt, 0, number)])
        server._flush()  # noqa: SLF001 - as the loop does at the end of a turn

    return step


def websocket_agreed() -> Step:
    """The same where compression was agreed on, for a message too short for it."""
    return _echo(ws_load.frame(ws_load.TEXT), TEXT_REPLY, compression="deflate")


def websocket_objects() -> Step:
    """The same with a client that speaks gateway.v1: the reply is an object."""
    offer = b"Sec-WebSocket-Protocol: gateway.v1\r\n"
    return _echo(ws_load.frame(ws_load.TEXT), TEXT_REPLY, offer)


def websocket_large() -> Step:
    """The same with 1 KiB of JSON, not compressed."""
    return _echo(ws_load.frame(LINES.encode()), codec.encode({"text": LINES}))


def websocket_deflate() -> Step:
    """The same with 1 KiB of JSON, compressed both ways."""
    deflater = zlib.compressobj(wbits=-12)
    small = (deflater.compress(LINES.encode()) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
    data = ws_load.frame(small, first=0xC1)
    return _echo(data, codec.encode({"text": LINES}), compression="deflate")


def _group(**settings: Any) -> Step:
    _, engine, clock, port = _port(**settings)
    for _ in range(MEMBERS):
        _opened(port, clock)
    for channel in list(engine.by_channel):
        engine.deliver([(JOIN, "room", channel, None, False)])
    payload = codec.encode({"text": LINES})

    def step() -> None:
        engine.deliver([(GROUP, "room", payload, [])])

    return step


def group() -> Step:
    """A group's message of 1 KiB to 100 members, for each of them (gateway)."""
    return _group()


def group_deflate() -> Step:
    """The same, compressed: once for all of them."""
    return _group(compression="deflate")


def group_context() -> Step:
    """The same with context takeover: compressed anew for each of them."""
    return _group(compression="deflate", compression_context=True)


def group_events() -> Step:
    """The same to event streams: an event's chunk, made once for all of them."""
    _, engine, clock, port = _port()
    engine.deliver([(ANNOUNCED, frozenset({"sse.connect"}))])
    door = EventsDoor(SseConfig(keep_alive=0), engine.context(SsePlugin, SseConfig()))
    port.claims = [Claim(door.matches, door.open)]
    for _ in range(MEMBERS):
        protocol, _ = _connected(port)
        protocol.data_received(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
    for channel in list(engine.by_channel):
        engine.deliver(
            [(JOIN, "room", channel, None, False), (MESSAGE, channel, codec.encode({"text": "hi"}))]
        )
    clock.advance()
    payload = codec.encode({"text": LINES})

    def step() -> None:
        engine.deliver([(GROUP, "room", payload, [])])

    return step


def group_polls() -> Step:
    """The same to long-polls that wait: each is answered, and its client's next one taken."""
    _, engine, clock, port = _port()
    engine.deliver([(ANNOUNCED, frozenset({"longpoll.connect"}))])
    config = LongpollConfig(max_connections_per_address=MEMBERS)
    door = PollsDoor(config, engine.context(LongpollPlugin, config))
    port.claims = [Claim(door.matches, door.open)]
    clients = []
    for _ in range(MEMBERS):
        transport = _Kept()
        protocol, _ = _connected(port, lambda kept=transport: kept)
        protocol.data_received(OPENS)
        channel = next(reversed(engine.by_channel))
        accepted = codec.encode({"accept": True})
        engine.deliver([(JOIN, "room", channel, None, False), (MESSAGE, channel, accepted)])
        clock.advance()
        location = transport.said.partition(b"location: ")[2].partition(b"\r\n")[0]
        poll = b"GET " + location + b" HTTP/1.1\r\nHost: a\r\nPrefer: wait=25\r\nIf-None-Match: "
        clients.append((protocol.data_received, poll))
    payload = codec.encode({"text": LINES})
    number = 0

    def step() -> None:
        nonlocal number
        for received, poll in clients:
            received(poll + b'"%d"\r\n\r\n' % number)
        number += 1
        engine.deliver([(GROUP, "room", payload, [])])
        clock.advance()

    return step


# ---------------------------------------------------------------- the hub


def group_kept() -> Step:
    """The same in a group that keeps it, to clients that speak gateway.v1 (gateway)."""
    _, engine, clock, port = _port()
    _resuming(engine, clock, port)
    payload = codec.encode({"text": LINES})
    offsets = itertools.count(1)

    def step() -> None:
        engine.deliver([(GROUP, "room", payload, [], (1, next(offsets)))])

    return step


def resume() -> Step:
    """What 100 such clients missed, 10 messages, for each message of each of them (gateway)."""
    _, engine, clock, port = _port()
    _resuming(engine, clock, port)
    channels = list(engine.by_channel)
    payload = codec.encode({"text": LINES})
    offsets = itertools.count(1)

    def step() -> None:
        backlog = [(offset, payload) for offset in itertools.islice(offsets, MISSED)]
        resumed = (backlog, (1, backlog[-1][0]), False)
        engine.deliver([(JOIN, "room", channel, None, False, resumed) for channel in channels])

    return step


def _resuming(engine: Engine, clock: ManualClock, port: Port) -> None:
    for _ in range(MEMBERS):
        _opened(port, clock, b"Sec-WebSocket-Protocol: gateway.v1\r\n")
    for channel in list(engine.by_channel):
        engine.deliver([(JOIN, "room", channel, None, False)])


def keep() -> Step:
    """A message of 1 KiB sent to a group that keeps the last 100: the layer's state alone."""
    state = State(LayerOptions(), time.monotonic)
    link = state.join(None, leased=False)
    payload = codec.encode({"text": LINES})

    def step() -> None:
        state.send_group(link, "room", payload, (), 100, 3600.0)

    return step


def hub_state() -> Step:
    """A message posted, given to a reader, answered and settled: the layer's state alone."""
    state = State(LayerOptions(), time.monotonic)
    front = state.join(None, leased=False)
    state.open_edge(front, lambda: None)
    worker = state.join(None, leased=False)
    given: list[Any] = []
    state.read(Reader(worker, BATCH, given.append, standing=True), ["http.request"])
    reply = f"http.send.{front.process.name}!7f"
    sends = [(1, reply, RESPONSE)]

    def step() -> None:
        state.post(front, "http.request", (HTTP_MESSAGE,), 1)
        state.settle(worker, given.pop().tag, (OK,), sends)
        state.drain(front.process)

    return step


def _visits(*, written: bool, leased: bool) -> Step:
    state = State(LayerOptions(), lambda: 0.0)
    room = tempfile.TemporaryDirectory()
    journal = JournalFile(f"{room.name}/journal")
    if written:
        state.inherit(Left(), LASTING, journal)
        journal.open(state.to_journal)
    worker = state.join("worker", leased=True)
    state.announce(worker, ["websocket.disconnect"])
    given: list[Any] = []
    wish = Reader(worker, 1000, given.append, standing=True)
    state.read(wish, ["websocket.disconnect"])
    link = state.join("p_AbCdEfGhIjKl", leased=leased)
    numbers = itertools.count()

    def step(_: Any = room) -> None:  # the folder lives as long as its steps
        for number in itertools.islice(numbers, BATCH):
            name = f"websocket.send.p_AbCdEfGhIjKl!{number:x}"
            state.register(link, name, "websocket.disconnect", DISCONNECT)
            state.end(link, name, "websocket.disconnect", DISCONNECT)
        if written:
            journal.flush()
        for entry in given:
            state.settle(worker, entry.tag, (OK,), ())
        given.clear()
        if written:
            journal.flush()

    return step


def visits() -> Step:
    """A connection in the hub: registered, ended, its disconnect settled; no journal."""
    return _visits(written=False, leased=True)


def visits_journal() -> Step:
    """The same with a journal, 32 in a turn of the loop, of another process than the hub's."""
    return _visits(written=True, leased=True)


def visits_here() -> Step:
    """The same of the hub's own process: a write for each registration."""
    return _visits(written=True, leased=False)


def wire_deliver() -> Step:
    """A delivery packed by the hub and cut out of its frame by the worker, in turns of 32."""
    events = [(wire.DELIVER, 1, n, "http.request", (HTTP_MESSAGE,), 1) for n in range(BATCH)]
    frames = wire.Frames()

    def step() -> None:
        frames.feed(wire.pack(events))

    return step


def wire_settle() -> Step:
    """A settlement packed by the worker and cut out of its frame by the hub, in turns of 32."""
    sends = [(1, "http.send.p_AbCdEfGhIjKl!7f", RESPONSE)]
    commands = [(wire.SETTLE, 0, n, [0], sends) for n in range(BATCH)]
    frames = wire.Frames()

    def step() -> None:
        frames.feed(wire.pack(commands))

    return step


# ---------------------------------------------------------------- the worker


class _Layer:
    """Takes settlements."""

    options = LayerOptions()
    process = "p_bench"

    def settle(self, delivery: Any, outcomes: Any, sends: Any) -> None: ...


def _worker(consumers: str, channel: str, payload: bytes, middleware: str = "none") -> Step:
    from django_gateway.runner import Runner

    router = _router(consumers, middleware)
    runner = Runner(_Layer(), router, Metrics(), 4)  # type: ignore[arg-type]
    delivery = Delivery(channel, (payload,), 1, 1, None)
    base = contextvars.copy_context()

    def step() -> None:
        runner.run(delivery, base, _nobody)

    return step


def _router(consumers: str, middleware: str) -> Any:
    import os

    sys.path.insert(0, str(servers.PROJECT))
    os.environ.update(
        DJANGO_SETTINGS_MODULE="settings_gateway",
        BENCH_CONSUMERS=consumers,
        BENCH_MIDDLEWARE=middleware,
    )
    import django
    from django.conf import settings

    from django_gateway import asgi

    django.setup()
    settings.CHANNEL_LAYERS["default"]["ROUTING"] = f"routing.{consumers}"  # not of the first stage
    return asgi.router()


def _nobody(*_: Any) -> None:
    raise RuntimeError("this consumer is not asynchronous")


def view() -> Step:
    """A message to a Django view without middleware and its reply encoded (worker)."""
    return _worker("sync_echo", "http.request", HTTP_MESSAGE)


def view_middleware() -> Step:
    """The same with the middleware of a new project (worker)."""
    return _worker("sync_echo", "http.request", HTTP_MESSAGE, "default")


def consumer() -> Step:
    """A message to a sync consumer that echoes, and its reply encoded (worker)."""
    return _worker("sync_echo", "websocket.receive", TEXT_MESSAGE)


def consumer_class() -> Step:
    """The same to a class: an instance and a method call more (worker)."""
    return _worker("class_echo", "websocket.receive", TEXT_MESSAGE)


def consumer_frame() -> Step:
    """The same to a WebsocketConsumer, by way of frames (worker)."""
    return _worker("frame_echo", "websocket.receive", TEXT_MESSAGE)


def consumer_stateful() -> Step:
    """The same to the WebsocketConsumer that is the connection's own (worker)."""
    from django_gateway.instances import Instances, current

    current.set(Instances(_Layer(), Metrics()))  # type: ignore[arg-type]
    _worker("stateful_echo", "websocket.connect", TEXT_MESSAGE)()
    return _worker("stateful_echo", "websocket.receive", TEXT_MESSAGE)


def encode_reply() -> Step:
    """A reply checked and encoded (worker)."""
    content = msgspec.msgpack.decode(RESPONSE)

    def step() -> None:
        send("http.send.p_AbCdEfGhIjKl!7f", content)

    return step


STAGES: dict[str, tuple[Callable[[], Step], int]] = {
    "http": (http_in_out, 1),
    "http-logged": (http_logged, 1),
    "http-in": (http_in, 1),
    "http2": (http2_in_out, 1),
    "mqtt": (mqtt_in_out, 1),
    "mqtt-many": (mqtt_many, BATCH),
    "mqtt-decode": (mqtt_decode, BATCH),
    "mqtt-encode": (mqtt_encode, 1),
    "websocket": (websocket_in_out, 1),
    "websocket-agreed": (websocket_agreed, 1),
    "websocket-objects": (websocket_objects, 1),
    "websocket-1k": (websocket_large, 1),
    "websocket-deflate": (websocket_deflate, 1),
    "group": (group, MEMBERS),
    "group-deflate": (group_deflate, MEMBERS),
    "group-context": (group_context, MEMBERS),
    "group-kept": (group_kept, MEMBERS),
    "resume": (resume, MEMBERS * MISSED),
    "keep": (keep, 1),
    "group-events": (group_events, MEMBERS),
    "group-polls": (group_polls, MEMBERS),
    "state": (hub_state, 1),
    "visits": (visits, BATCH),
    "visits-journal": (visits_journal, BATCH),
    "visits-here": (visits_here, BATCH),
    "wire-deliver": (wire_deliver, BATCH),
    "wire-settle": (wire_settle, BATCH),
    "view": (view, 1),
    "consumer": (consumer, 1),
    "consumer-class": (consumer_class, 1),
    "consumer-frame": (consumer_frame, 1),
    "consumer-stateful": (consumer_stateful, 1),
    "encode-reply": (encode_reply, 1),
    "view-middleware": (view_middleware, 1),
}
"""What makes a step, and how many operations a step does. The one with middleware stands
last: Django reads its settings once, so it runs only alone."""


def measure(step: Step, operations: int) -> float:
    """Return the microseconds of CPU of one operation."""
    number = 100
    while True:
        began = time.process_time()
        for _ in range(number):
            step()
        if time.process_time() - began > SECONDS / 10:
            break
        number *= 2
    best = float("inf")
    for _ in range(RUNS):
        began = time.process_time()
        for _ in range(number):
            step()
        best = min(best, time.process_time() - began)
    return best / number / operations * 1e6


def profile(step: Step, operations: int) -> None:
    """Print what the step spends its time in. The profiler's own cost weighs on small calls."""
    with cProfile.Profile() as profiler:
        for _ in range(20_000 // operations):
            step()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the stages that were asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=__doc__)
    parser.add_argument("stage", nargs="*", help=f"one of {', '.join(STAGES)}")
    parser.add_argument("--profile", action="store_true", help="print a profile as well")
    options: SimpleNamespace = parser.parse_args(argv)  # type: ignore[assignment]
    for name in options.stage or [name for name in STAGES if name != "view-middleware"]:
        if name not in STAGES:
            parser.error(f"there is no stage {name!r}")
        make, operations = STAGES[name]
        step = make()
        words = (make.__doc__ or "").strip()
        print(f"{name:<16} {measure(step, operations):7.2f} µs  {words}", flush=True)
        if options.profile:
            profile(step, operations)
    return 0


if __name__ == "__main__":
    sys.exit(main())
