"""Stateful consumers: one instance for each connection, and what becomes of it."""

import asyncio
import itertools
import threading

import pytest
from django.test import override_settings

import gateway
from django_gateway import (
    ConsumeLater,
    Consumer,
    Group,
    Reject,
    WebsocketConsumer,
    path,
    route_class,
)
from django_gateway.instances import Instances
from django_gateway.message import Message
from django_gateway.routing import Router
from gateway.core.errors import LayerUnavailable
from gateway.core.layers.base import OK, Outcome
from gateway.core.layers.edge import MESSAGE, OUTCOME
from gateway.core.metrics import Metrics
from gateway.testing.layer_suite import Server
from tests.django.connected import make_tables

RESTARTED = {"close": 1012, "reason": "the worker was replaced"}
_names = itertools.count(1)


@pytest.fixture
def server(url):
    """A protocol server on the test's layer."""
    server = Server(gateway.open_layer(url), 5.0)
    yield server
    server.close()


class Line:
    """One connection, as a gateway has it: pinned if a reply says so, settled one by one."""

    def __init__(self, server):
        self.server = server
        self.name = f"websocket.send.{server.process}!{next(_names)}"
        self.order = 0
        self.pin = None
        server.do(lambda edge: edge.register(self.name, "websocket.disconnect", b"\x80"))

    def settled(self, kind, **more):
        """Send a message; return the replies to it, and its outcome."""
        receipt = next(_names)
        message = {"reply_channel": self.name, "order": self.order, "path": "/a/", **more}
        self.order += 1
        self.server.post(f"websocket.{kind}", message, receipt=receipt, pin=self.pin)
        replies = []
        while True:
            (item,) = self.server.heard()
            if item[0] == OUTCOME and item[1] == receipt:
                return replies, item[3]
            if item[0] == MESSAGE and item[1] == self.name:
                replies += self._taken(item[2])

    def heard(self):
        """What is sent to it by itself."""
        while True:
            (item,) = self.server.heard()
            if item[0] == MESSAGE:
                assert item[1] == self.name
                return item[2]

    def _taken(self, reply):
        self.pin = reply.pop("pin", self.pin)
        return [reply] if reply else []

    def connect(self):
        assert self.settled("connect") == ([{"accept": True}], OK)
        return self

    def say(self, text):
        """The texts that it is answered with."""
        replies, outcome = self.settled("receive", text=text)
        assert outcome == OK
        return [reply["text"] for reply in replies]

    def leave(self):
        assert self.settled("disconnect", code=1000) == ([], OK)
        self.server.do(lambda edge: edge.end(self.name))


def pin_of(worker):
    return f"pin.{worker.layer.process}"


def held(worker):
    return worker.metrics.snapshot()["gateway_stateful_instances"]


class Counting(WebsocketConsumer):
    stateful = True
    noted = []

    def connect(self, message, **kwargs):
        self.said = []
        self.accept()

    def receive(self, text=None, bytes=None, **kwargs):
        if text == "fail":
            raise ZeroDivisionError
        self.said.append(text)
        self.send(" ".join(self.said))

    def disconnect(self, message, **kwargs):
        self.noted.append(None if self.state_lost else self.said)


class Going(Counting):
    def reconnected(self, message, **kwargs):
        self.said = ["…"]


class Async(Counting):
    async def connect(self, message, **kwargs):
        Counting.connect(self, message)

    async def receive(self, text=None, bytes=None, **kwargs):
        super().receive(text)

    async def disconnect(self, message, **kwargs):
        Counting.disconnect(self, message)


class AsyncGoing(Async):
    async def reconnected(self, message, **kwargs):
        self.said = ["…"]


class Mixed(Counting):
    """Its `receive` runs on threads, the others on the loop."""

    connect = Async.connect
    disconnect = Async.disconnect
    reconnected = AsyncGoing.reconnected


class MixedToo(Async):
    """Its `reconnected` runs on threads."""

    reconnected = Going.reconnected


class Dispatching(Going):
    def dispatch(self, message, **kwargs):
        return super().dispatch(message, **kwargs)


GOING = [Going, AsyncGoing, Mixed, MixedToo, Dispatching]
EACH = [Counting, Async, *GOING]


@pytest.fixture(autouse=True)
def _fresh():
    Counting.noted.clear()


@pytest.mark.parametrize("kind", EACH)
def test_the_state_of_a_connection(work, server, kind):
    """What is set on ``self`` in connect is there in receive and disconnect, whichever of several
    workers runs the connect; each connection has its own, and its end ends the instance.
    """
    workers = [work([route_class(kind)]) for _ in range(2)]
    lines = [Line(server).connect() for _ in range(10)]
    assert {line.pin for line in lines} <= {pin_of(worker) for worker in workers}
    for n in range(10):
        for i, line in enumerate(lines):
            assert line.say(f"{i}-{n}") == [" ".join(f"{i}-{m}" for m in range(n + 1))]
    assert sum(held(worker) for worker in workers) == 10
    for line in lines:
        line.leave()
    assert Counting.noted == [[f"{i}-{n}" for n in range(10)] for i in range(10)]
    assert [held(worker) for worker in workers] == [0, 0]


def test_a_message_at_a_time(work, server):
    """``self.message`` and ``self.kwargs`` are those of the message that runs, and messages that
    are delivered together run in order.
    """

    class Room(Consumer):
        protocols = ["websocket"]
        stateful = True

        def connect(self, message, room):
            self.seen = []

        def receive(self, message, room):
            self.seen.append(self.message["text"])
            self.reply(f"{self.kwargs['room']} {self.seen}")

    work([route_class(Room, path=path("<slug:room>/"))])
    line = Line(server)
    assert line.settled("connect") == ([], OK)
    more = {"reply_channel": line.name, "path": "/a/"}
    both = [{**more, "text": text, "order": order} for order, text in enumerate("xy", 1)]
    server.post("websocket.receive", *both, receipt=999, pin=line.pin)
    assert [line.heard()["text"] for _ in both] == ["a ['x']", "a ['x', 'y']"]


@pytest.mark.parametrize("size", [4096, 4097])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("key", ["text", "bytes"])
def test_what_an_idle_instance_keeps_of_its_latest_message(work, server, key, size, fails):
    """All of it, but for a text or bytes that are large: of many connections that were too much."""
    kept = []

    class Keeping(Consumer):
        protocols = ["websocket"]
        stateful = True

        def receive(self, message):
            kept.append(self)
            message.marked = True
            assert len(self.message[key]) == size
            if fails:
                raise ZeroDivisionError

    work([route_class(Keeping)])
    line = Line(server).connect()
    _, outcome = line.settled("receive", **{key: "x" * size if key == "text" else b"x" * size})
    assert outcome.kind == ("failed" if fails else "accepted")
    (one,) = kept
    assert (key in one.message) is (size == 4096)
    assert str(one.reply_channel) == line.name
    assert one.path == "/a/"
    assert one.message.marked


@pytest.mark.parametrize("kind", GOING)
def test_a_worker_that_drains(work, server, kind):
    """When the worker stops the next message makes an instance on another, whose ``reconnected``
    comes first, and which is pinned there from then on; nobody is closed.
    """
    old = work([route_class(kind)])
    lines = [Line(server).connect() for _ in range(3)]
    assert [line.say("a") for line in lines] == [["a"]] * 3
    new = work([route_class(kind)])
    third = work([route_class(kind)])
    old.finish()
    assert held(old) == 0
    for line in lines:
        before = line.pin
        assert line.say("b") == ["… b"]
        assert before != line.pin
        assert line.say("c") == ["… b c"]
        assert line.pin in {pin_of(new), pin_of(third)}
    assert old.layer.group_channels(f"gateway.stateful.{old.layer.process}") == []
    for line in lines:
        line.leave()
    assert Counting.noted == [["…", "b", "c"]] * 3
    assert held(new) == held(third) == 0


@pytest.mark.parametrize("kind", [Counting, Async])
def test_a_worker_that_drains_what_cannot_go_on(work, server, kind):
    """Without ``reconnected`` connections are closed by the worker that stops, without waiting for
    their next message; ``disconnect`` is run by an instance that knows that it has no state.
    """
    old = work([route_class(kind)])
    lines = [Line(server).connect() for _ in range(3)]
    work([route_class(kind)])
    old.finish()
    assert {line.heard()["close"] for line in lines[:1]} == {1012}
    assert lines[1].heard() == RESTARTED
    assert lines[2].heard() == RESTARTED
    lines[0].leave()
    assert Counting.noted == [None]


@pytest.mark.parametrize("kind", [Counting, Going])
def test_a_method_that_runs_while_its_worker_drains(work, server, kind):
    """It finishes, with its state; only then its connection is closed, if it has to be."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(kind):
        def receive(self, text=None, bytes=None):
            begun.set()
            assert go_on.wait(5)
            super().receive(text)

    old = work([route_class(Slow)])
    line = Line(server).connect()
    message = {"reply_channel": line.name, "order": 1, "text": "a", "path": "/"}
    server.post("websocket.receive", message, receipt=99, pin=line.pin)
    assert begun.wait(5)
    stopping = threading.Thread(target=old.finish)
    stopping.start()
    go_on.set()
    assert line.heard() == {"text": "a"}
    if kind is Counting:
        assert line.heard() == RESTARTED
    stopping.join(5)
    assert held(old) == 0


@pytest.mark.parametrize("kind", [Counting, Async])
def test_a_worker_that_dies(work, server, kind):
    """The next message of a class without ``reconnected`` closes the connection, unrun."""
    work([route_class(kind)])
    line = Line(server).connect()
    line.pin = "pin.p_killed"
    line.order += 1
    assert line.settled("receive", text="a") == (
        [],
        Outcome("rejected", 1012, "the worker was replaced"),
    )
    line.leave()
    assert Counting.noted == [None]


def test_what_cannot_go_on_in_a_protocol_without_a_code_for_it(work, server):
    """The connection is closed with the protocol's default."""

    class Odd(Counting):
        protocols = ()
        method_mapping = {
            "odd.connect": "connect",
            "odd.say": "raw_receive",
            "odd.disconnect": "disconnect",
        }

    old = work([route_class(Odd)])
    message = {"reply_channel": f"odd.send.{server.process}!1", "order": 7, "text": "a"}
    server.post("odd.say", message, receipt=1)
    assert server.heard() == [(OUTCOME, 1, 0, Outcome("rejected", None, "the worker was replaced"))]
    server.post("odd.connect", message, receipt=2, pin=pin_of(old))
    assert [item[2] for item in server.heard(4) if item[0] == MESSAGE][-1] == {"accept": True}
    old.finish()
    assert server.heard()[0][2] == {**RESTARTED, "close": True}


class Failing(Counting):
    error = None

    def connect(self, message):
        super().connect(message)
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [Reject(403), ConsumeLater(0.0), ZeroDivisionError()])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_connect_that_fails(work, server, error, is_async):
    """No instance is left of a connect that is refused, put back, or fails; nor is it pinned."""

    class Refusing(Failing):
        async def aconnect(self, message):
            super().connect(message)

        if is_async:
            connect = aconnect

    worker = work([route_class(Refusing)])
    Failing.error = error
    try:
        line = Line(server)
        replies, outcome = line.settled("connect")
        assert replies == []
        assert outcome.kind != "accepted"
        assert line.pin is None
        assert held(worker) == 0
    finally:
        Failing.error = None


def test_a_receive_that_fails(work, server):
    """The instance stays: whether the connection does is the gateway's to decide."""
    work([route_class(Going)])
    line = Line(server).connect()
    line.say("a")
    assert line.settled("receive", text="fail")[1].kind == "failed"
    assert line.say("b") == ["a b"]


def test_a_first_message_after_the_loss_that_fails(work, server):
    """Nothing is kept, so that the next message finds the connection as this one did."""
    worker = work([route_class(Going)])
    line = Line(server).connect()
    line.pin = "pin.p_killed"
    line.order += 1
    assert line.settled("receive", text="fail")[1].kind == "failed"
    assert held(worker) == 0
    assert line.say("b") == ["… b"]
    assert line.say("c") == ["… b c"]
    assert held(worker) == 1


@pytest.mark.parametrize(("error", "left"), [(ZeroDivisionError, 0), (ConsumeLater, 1)])
def test_a_disconnect_that_fails(work, server, error, left):
    """It is the end of the instance, unless it was put back: then it comes again."""
    errors = [error]

    class Leaving(Counting):
        def disconnect(self, message):
            if errors:
                assert held(worker) == 1
                raise errors.pop()
            super().disconnect(message)

    worker = work([route_class(Leaving)])
    line = Line(server).connect()
    line.say("a")
    outcome = line.settled("disconnect")[1]
    assert held(worker) == 0
    assert outcome.kind == ("accepted" if left else "failed")
    assert Counting.noted == [["a"]] * left


def test_what_lost_its_pin_and_was_nowhere_else(work, server):
    """An instance goes on where a message lost its pin on the way, unless others have had
    messages of the connection since: a hub that comes back knows no pins at first.
    """
    work([route_class(Going)])
    line = Line(server).connect()
    mine = line.pin
    line.pin = "pin.p_unknown"
    assert line.say("a") == ["a"]
    assert line.say("b") == ["a b"]
    line.order += 1
    assert line.say("d") == ["… d"]
    assert line.pin == mine
    assert line.say("e") == ["… d e"]


def test_the_disconnect_of_a_gateway_that_was_lost_with_its_hub(work, server):
    """It tells no order, and ends the instance that is here."""
    worker = work([route_class(Counting)])
    line = Line(server).connect()
    line.say("a")
    message = {"reply_channel": line.name, "code": "server-lost", "path": "/"}
    server.post("websocket.disconnect", message, receipt=99, pin="pin.p_unknown")
    assert server.heard() == [(OUTCOME, 99, 0, OK)]
    assert held(worker) == 0
    assert Counting.noted == [["a"]]


@pytest.mark.parametrize("kind", [Counting, Going])
def test_connections_that_end_without_a_word(work, server, kind):
    """Whose connection ended without a disconnect here is let go at the second look; who lives
    stays, however idle.
    """
    worker = work([route_class(kind)])
    gone, lives = Line(server).connect(), Line(server).connect()
    server.do(lambda edge: edge.end(gone.name))
    worker.instances.sweep()
    assert held(worker) == 2
    worker.instances.sweep()
    worker.instances.sweep()
    assert held(worker) == 1
    assert lives.say("a") == ["a"]


def test_a_gateway_that_dies(work, url):
    """All instances of its connections are let go."""
    worker = work([route_class(Counting)])
    server = Server(gateway.open_layer(url), 5.0)
    for _ in range(3):
        Line(server).connect()
    assert held(worker) == 3
    server.close()
    worker.instances.sweep()
    worker.instances.sweep()
    assert held(worker) == 0


def test_a_layer_that_is_away(monkeypatch):
    """While nobody can tell which connections live, all instances stay, and looks go on; one that
    fails is counted.
    """
    layer = gateway.open_layer("memory://")
    metrics = Metrics()
    instances = Instances(layer, metrics)
    looks = []

    def sweep():
        looks.append(1)
        raise LayerUnavailable if len(looks) < 2 else ZeroDivisionError

    class Over:
        def wait(self, seconds):
            return len(looks) == 2

    monkeypatch.setattr(instances, "sweep", sweep)
    instances.keep_swept(Over())
    assert len(looks) == 2
    assert metrics.snapshot()["gateway_errors_total"] == 1
    layer.close()


def test_a_worker_that_was_fenced(work, server, monkeypatch):
    """A worker whose lease had ended has lost its pins to others, and so its instances."""
    worker = work([route_class(Going)])
    line = Line(server).connect()
    line.say("a")
    message = Message(
        {"reply_channel": line.name, "order": 2, "text": "b", "path": "/"}, "websocket.receive"
    )
    monkeypatch.setattr(worker.layer, "process", "p_another")
    with pytest.raises(Reject, match="the worker was replaced"):
        worker.instances.begin(Counting, message, {})
    assert held(worker) == 0


def test_no_thread_where_nothing_is_stateful(work):
    """Only a worker with stateful consumers looks after them."""

    def sweepers():
        return [one for one in threading.enumerate() if one.name == "sweeper"]

    work({"x": print})
    assert sweepers() == []
    worker = work([route_class(Counting)])
    assert len(sweepers()) == 1
    worker.finish()
    assert sweepers() == []


def test_without_a_worker():
    """A stateful consumer that is called by hand says how it is tested."""
    (route,) = (r for r in Router([route_class(Counting)]).routes if "receive" in r.channels[0])
    with pytest.raises(RuntimeError, match=r"test it through GatewayClient"):
        route.consumer(Message({"reply_channel": "a", "text": ""}, "websocket.receive"))


# ---------------------------------------------------------------- the test client


def test_the_client(client_of):
    """A `GatewayClient` keeps instances, and ``replace_worker`` loses them as a reload does."""
    client = client_of(route_class(Going))
    with client.websocket("/") as ann, client.websocket("/") as bob:
        ann.send_text("a")
        ann.send_text("b")
        bob.send_text("c")
        assert [event.value for event in ann.received] == ["a", "a b"]
        bob.expect_text("c")
        client.replace_worker()
        bob.expect_nothing()
        bob.send_text("d")
        bob.expect_text("… d")
        bob.send_text("e")
        bob.expect_text("… d e")
    assert Counting.noted == [["…", "d", "e"], None]


def test_the_client_and_what_cannot_go_on(client_of):
    """Connections of a class without ``reconnected`` are closed at once."""
    client = client_of(route_class(Counting))
    with client.websocket("/") as ws:
        ws.send_text("a")
        ws.expect_text("a")
        client.replace_worker()
        ws.expect_close(1012, "the worker was replaced")
    assert Counting.noted == [None]
    with client.websocket("/") as ws:
        ws.send_text("b")
        ws.expect_text("b")
    assert Counting.noted == [None, ["b"]]


def test_the_client_on_a_loop(client_of):
    """``areplace_worker`` is its twin."""

    async def run():
        client = client_of(route_class(AsyncGoing))
        async with client.websocket("/") as ws:
            await ws.asend_text("a")
            await ws.aexpect_text("a")
            await client.areplace_worker()
            await ws.asend_text("b")
            await ws.aexpect_text("… b")
            with pytest.raises(RuntimeError, match="await areplace_worker"):
                client.replace_worker()

    asyncio.run(run())


def test_the_client_in_a_block(client_of):
    """Where nothing is run no worker is replaced, and the client says what to do."""
    client = client_of(route_class(Going))
    with client.together(), pytest.raises(RuntimeError, match="before the block or after it"):
        client.replace_worker()


def test_with_sessions_and_users(client_of):
    """What other attributes put around the methods is there for each message."""

    class Remembering(Going):
        channel_session = True
        groups = ["all"]

        def receive(self, text=None, bytes=None):
            seen = self.message.channel_session.get("seen", 0) + 1
            self.message.channel_session["seen"] = seen
            super().receive(f"{text}{seen}")

    make_tables()
    engine = "django.contrib.sessions.backends.db"
    with override_settings(CHANNEL_SESSION_ENGINE=engine):
        client = client_of(route_class(Remembering))
        with client.websocket("/") as ws:
            ws.send_text("a")
            ws.expect_text("a1")
            client.replace_worker()
            Group("all").send({"text": "still here"})
            ws.expect_text("still here")
            ws.send_text("b")
            ws.expect_text("… b2")
