"""Demultiplexers: several consumers on one connection, each with its stream."""

import asyncio
import datetime as dt

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_gateway import (
    Channel,
    Consumer,
    Demultiplexer,
    Group,
    JsonWebsocketConsumer,
    Multiplexer,
    Reject,
    WebsocketConsumer,
    WebsocketDemultiplexer,
    WebsocketMultiplexer,
    path,
    route_class,
)
from django_gateway.exceptions import SendNotAvailableOnDemultiplexer
from django_gateway.generic import BaseConsumer
from django_gateway.routing import Router
from tests.django.connected import make_tables, make_user


def where():
    """Whether the caller runs on a thread or on the loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "thread"
    return "loop"


class Noting:
    """Notes what is called, by whom, where."""

    noted = []

    def note(self, what):
        self.noted.append((type(self).__name__, what, where()))


@pytest.fixture(autouse=True)
def calls():
    Noting.noted.clear()
    return Noting.noted


class Json(Noting, JsonWebsocketConsumer):
    def connect(self, message, multiplexer, **kwargs):
        self.note("connect")
        multiplexer.send({"hello": multiplexer.stream})

    def receive(self, content, multiplexer, **kwargs):
        self.note("receive")
        multiplexer.send({"got": content})

    def disconnect(self, message, multiplexer, **kwargs):
        self.note("disconnect")


class Frames(Noting, WebsocketConsumer):
    groups = ["frames"]

    def receive(self, text, multiplexer, **kwargs):
        self.note("receive")
        multiplexer.send(text)

    def disconnect(self, message, multiplexer, **kwargs):
        self.note("disconnect")


class Async(Noting, Consumer):
    async def connect(self, message, multiplexer, **kwargs):
        self.note("connect")

    async def receive(self, message, multiplexer, **kwargs):
        self.note("receive")
        multiplexer.send(f"async {message.text}")

    async def disconnect(self, message, multiplexer, **kwargs):
        self.note("disconnect")


class Page(Noting, WebsocketDemultiplexer):
    consumers = {"json": Json, "frames": Frames}

    def connect(self, message, **kwargs):
        self.note("connect")
        super().connect(message, **kwargs)

    def disconnect(self, message, **kwargs):
        self.note("disconnect")


class Mixed(Page):
    consumers = {"json": Json, "async": Async, "frames": Frames}


class Room(Page):
    consumers = {"json": Json}


# ---------------------------------------------------------------- to whom a message goes


def test_each_stream_has_its_consumer(client_of, calls):
    """A message goes to its stream's consumer, and the answer says which that is."""
    with client_of(route_class(Page)).websocket("/") as ws:
        ws.expect_json({"stream": "json", "payload": {"hello": "json"}})
        ws.send_json({"stream": "json", "payload": {"a": [1, None, "é"]}})
        ws.expect_json({"stream": "json", "payload": {"got": {"a": [1, None, "é"]}}})
        ws.send_json({"stream": "frames", "payload": {"b": 2}})
        ws.expect_json({"stream": "frames", "payload": '{"b": 2}'})
        ws.send_json({"stream": "json", "payload": 3, "more": "is left alone"})
        ws.expect_json({"stream": "json", "payload": {"got": 3}})
        ws.expect_nothing()
    assert calls == [
        ("Page", "connect", "thread"),
        ("Json", "connect", "thread"),
        ("Json", "receive", "thread"),
        ("Frames", "receive", "thread"),
        ("Json", "receive", "thread"),
        ("Page", "disconnect", "thread"),
        ("Json", "disconnect", "thread"),
        ("Frames", "disconnect", "thread"),
    ]


def test_each_runs_where_it_may(client_of, calls):
    """Where one stream's consumer is async the others stay on threads."""
    with client_of(route_class(Mixed)).websocket("/") as ws:
        ws.expect_json()
        for stream in ("json", "async", "frames"):
            ws.send_json({"stream": stream, "payload": 1})
        ws.expect_json({"stream": "json", "payload": {"got": 1}})
        ws.expect_json({"stream": "async", "payload": "async 1"})
        ws.expect_json({"stream": "frames", "payload": "1"})
    assert calls == [
        ("Mixed", "connect", "thread"),
        ("Json", "connect", "thread"),
        ("Async", "connect", "loop"),
        ("Json", "receive", "thread"),
        ("Async", "receive", "loop"),
        ("Frames", "receive", "thread"),
        ("Mixed", "disconnect", "thread"),
        ("Json", "disconnect", "thread"),
        ("Async", "disconnect", "loop"),
        ("Frames", "disconnect", "thread"),
    ]


def test_filters_go_to_all(client_of):
    """What the path captures is given to the demultiplexer and to its consumers."""
    told = []

    class One(JsonWebsocketConsumer):
        def receive(self, content, multiplexer, room):
            told.append((content, room, self.kwargs["multiplexer"] is multiplexer, self.path))

    class Rooms(WebsocketDemultiplexer):
        consumers = {"one": One}

        def connect(self, message, room):
            told.append(room)
            self.accept()

    with client_of(route_class(Rooms, path=path("rooms/<int:room>/"))).websocket("/rooms/5/") as ws:
        ws.send_json({"stream": "one", "payload": "x"})
    assert told == [5, ("x", 5, True, "/rooms/5/")]


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        ("{", 1007, 'not {"stream": …, "payload": …}'),
        ("[]", 1007, 'not {"stream": …, "payload": …}'),
        ('{"stream": "json"}', 1007, 'not {"stream": …, "payload": …}'),
        ('{"payload": {}}', 1007, 'not {"stream": …, "payload": …}'),
        ('{"stream": 1, "payload": {}}', 1007, 'not {"stream": …, "payload": …}'),
        ('{"stream": "no", "payload": {}}', 1008, "there is no stream 'no'"),
        (b"{}", 1003, "messages of streams are text"),
    ],
)
@pytest.mark.parametrize("kind", [Page, Mixed])
def test_what_nobody_takes_closes(client_of, kind, sent, code, reason):
    """A message without a known stream closes the connection, with what is wrong."""
    with client_of(route_class(kind)).websocket("/") as ws:
        ws.forget()
        (ws.send_bytes if isinstance(sent, bytes) else ws.send_text)(sent)
        ws.expect_close(code, reason)


def test_a_stream_that_takes_nothing(client_of):
    """A stream whose consumer only sends refuses what it is sent."""

    class Ticker(Consumer):
        def connect(self, message, multiplexer):
            multiplexer.send("tick")

    class Tickers(WebsocketDemultiplexer):
        consumers = {"ticker": Ticker}

    with client_of(route_class(Tickers)).websocket("/") as ws:
        ws.expect_json({"stream": "ticker", "payload": "tick"})
        ws.send_json({"stream": "ticker", "payload": "tock"})
        ws.expect_close(1008, "stream 'ticker' takes no messages")


# ---------------------------------------------------------------- connecting and leaving


@pytest.mark.parametrize("kind", [Page, Mixed])
def test_groups_are_joined_by_each(client_of, kind):
    """A stream's groups are joined at connect; a group's message for a stream reaches it."""
    client = client_of(route_class(kind))
    with client.websocket("/") as ws:
        ws.forget()
        assert Group("frames").count() == 1
        WebsocketMultiplexer.group_send("frames", "frames", {"day": dt.date(2026, 1, 2)})
        ws.expect_json({"stream": "frames", "payload": {"day": "2026-01-02"}})
        WebsocketMultiplexer.group_send("frames", "frames", None, close=True)
        ws.expect_json({"stream": "frames", "payload": None})
        ws.expect_close(1000)
    assert Group("frames").count() == 0


@pytest.mark.parametrize("kind", [Page, Mixed])
def test_streams_resume(client_of, kind):
    """A client that comes back gets what the groups of each stream kept since."""
    client = client_of(route_class(kind))
    with client.websocket("/"):
        pass
    WebsocketMultiplexer.group_send("frames", "frames", {"n": 1}, history=5)
    with client.websocket("/?last_event_id=0-0") as ws:
        ws.expect_json({"stream": "json", "payload": {"hello": "json"}})
        ws.expect_json({"stream": "frames", "payload": {"n": 1}})


@pytest.mark.parametrize("kind", [Page, Mixed])
def test_one_refuses_for_all(client_of, monkeypatch, calls, kind):
    """Where a stream's consumer refuses the connect nothing of it was done."""

    def connect(self, message, multiplexer):
        raise Reject(401, "who are you?")

    monkeypatch.setattr(Frames, "connect", connect)
    with client_of(route_class(kind)).websocket("/") as ws:
        assert ws.rejected == 401
        assert Group("frames").count() == 0
    assert not [call for call in calls if call[1] == "disconnect"]


@pytest.mark.parametrize("kind", [Page, Mixed])
def test_each_hears_of_the_end(client_of, monkeypatch, calls, kind):
    """Every stream hears of the disconnect, whatever the others raise; the first is told."""

    def disconnect(self, message, multiplexer):
        raise ValueError("first")

    monkeypatch.setattr(Json, "disconnect", disconnect)
    client = client_of(route_class(kind), raise_request_exception=False)
    with client.websocket("/") as ws:
        pass
    assert ws.outcome.kind == "failed"
    assert ("Frames", "disconnect", "thread") in calls


# ---------------------------------------------------------------- what each keeps


class Counting(JsonWebsocketConsumer):
    stateful = True

    def connect(self, message, multiplexer):
        self.count = 0
        self.accept()

    def receive(self, content, multiplexer):
        self.count += content
        multiplexer.send(self.count)


def test_each_has_its_own_state(client_of):
    """The same stateful class on two streams has an instance for each."""

    class Both(WebsocketDemultiplexer):
        consumers = {"a": Counting, "b": Counting}

    client = client_of(route_class(Both))
    with client.websocket("/") as ws, client.websocket("/") as other:
        for stream, adding, expected in (("a", 1, 1), ("b", 10, 10), ("a", 2, 3), ("b", 5, 15)):
            ws.send_json({"stream": stream, "payload": adding})
            ws.expect_json({"stream": stream, "payload": expected})
        other.send_json({"stream": "a", "payload": 7})
        other.expect_json({"stream": "a", "payload": 7})
        assert client.site.gateway.metrics.snapshot()["gateway_stateful_instances"] == 4
    assert client.site.gateway.metrics.snapshot()["gateway_stateful_instances"] == 0


class Visits(JsonWebsocketConsumer):
    def connect(self, message, multiplexer):
        self.visit(message)

    def receive(self, content, multiplexer):
        multiplexer.send([self.message.user.username, self.visit(self.message)])

    def visit(self, message):
        session = message.channel_session
        session["visits"] = session.get("visits", 0) + 1
        return session["visits"]


class AsyncVisits(Consumer):
    channel_session = True

    async def receive(self, message, multiplexer):
        session = message.channel_session
        session["visits"] = session.get("visits", 0) + 1
        user = await message.auser()
        multiplexer.send([user.username, session["visits"]])


class Shared(WebsocketDemultiplexer):
    http_user = True
    consumers = {"a": Visits, "b": Visits}


class AsyncShared(WebsocketDemultiplexer):
    http_user = True
    consumers = {"a": Visits, "b": AsyncVisits}


@pytest.mark.parametrize(("kind", "before"), [(Shared, 2), (AsyncShared, 1)])
def test_sessions_and_users_are_the_connections(client_of, kind, before):
    """All streams see one session and one user, read once, with what the others wrote."""
    make_tables()
    user = make_user()
    with (
        override_settings(CHANNEL_SESSION_ENGINE="django.contrib.sessions.backends.db"),
        client_of(route_class(kind)).websocket("/", user=user) as ws,
    ):
        for count, stream in enumerate(("a", "b", "a"), before + 1):
            ws.send_json({"stream": stream, "payload": None})
            ws.expect_json({"stream": stream, "payload": [user.username, count]})


def test_a_payload_may_be_large(client_of):
    """What is read is the payload's own text, of any size and depth that the protocol takes."""
    with client_of(route_class(Room)).websocket("/") as ws:
        ws.forget()
        payload = {"n": 12345678901234567890, "f": 0.1, "s": "\\u0000é" * 50_000, "d": [[[]]]}
        ws.send_json({"stream": "json", "payload": payload})
        ws.expect_json({"stream": "json", "payload": {"got": payload}})


# ---------------------------------------------------------------- answering


@pytest.mark.parametrize(
    "answer",
    [
        lambda self: self.send({"a": 1}),
        lambda self: self.reply("a"),
        lambda self: self.message.reply(b"a"),
        lambda self: self.reply(bytes=b"a"),
    ],
    ids=["send", "reply", "bytes", "keys"],
)
def test_what_has_no_stream_is_not_sent(client_of, answer):
    """A stream's consumer that answers the connection is told what to write instead."""

    class Wrong(JsonWebsocketConsumer):
        def receive(self, content, multiplexer):
            answer(self)

    class Wrongs(WebsocketDemultiplexer):
        consumers = {"wrong": Wrong}

    told = pytest.raises(SendNotAvailableOnDemultiplexer, match=r"'wrong'.*multiplexer\.send")
    with client_of(route_class(Wrongs)).websocket("/") as ws, told:
        ws.send_json({"stream": "wrong", "payload": 1})


def test_a_stream_does_not_choose_for_all(client_of):
    """Subprotocol and headers are the demultiplexer's to choose; closing is anybody's."""

    class Wrong(JsonWebsocketConsumer):
        def connect(self, message, multiplexer):
            if message["query_string"]:
                self.accept(subprotocol="v1")

        def receive(self, content, multiplexer):
            self.close(4000, "enough")

    class Wrongs(WebsocketDemultiplexer):
        consumers = {"wrong": Wrong}

    client = client_of(route_class(Wrongs))
    with pytest.raises(SendNotAvailableOnDemultiplexer, match="the demultiplexer's connect"):
        client.websocket("/?a", subprotocols=["v1"]).connect()
    with client.websocket("/") as ws:
        ws.send_json({"stream": "wrong", "payload": 1})
        ws.expect_close(4000, "enough")


def test_a_demultiplexer_does_not_send():
    """The demultiplexer itself has no stream to send on, and says whose that is."""
    with pytest.raises(SendNotAvailableOnDemultiplexer, match=r"multiplexer\.send\(payload\)"):
        Page().send({"a": 1})
    with pytest.raises(SendNotAvailableOnDemultiplexer, match=r"WebsocketMultiplexer\.group_send"):
        Page.group_send("frames", {"a": 1})
    with pytest.raises(TypeError, match="a stream is named by a str"):
        Multiplexer.encode(5, {})


def test_outside_of_consumers(client_of):
    """A multiplexer may be made anywhere, for a connection and a stream; on loops by its twins."""
    client = client_of(route_class(Page))
    with client.websocket("/") as ws:
        ws.forget()
        [name] = Group("frames").channels()
        WebsocketMultiplexer("frames", Channel(name)).send([1])
        ws.expect_json({"stream": "frames", "payload": [1]})

        async def on_loop():
            multiplexer = Multiplexer("frames", Channel(name))
            with pytest.raises(RuntimeError, match=r"Channel\.asend"):
                multiplexer.send([2])
            await multiplexer.asend([2])
            await Multiplexer.agroup_send("frames", "frames", [3], exclude=[name])
            await Multiplexer.agroup_send("frames", "frames", [4])

        asyncio.run(on_loop())
        ws.expect_json({"stream": "frames", "payload": [2]})
        ws.expect_json({"stream": "frames", "payload": [4]})


def test_own_json(client_of):
    """The multiplexer's class says how payloads are written."""

    class Marked(Multiplexer):
        @classmethod
        def encode_json(cls, content):
            return super().encode_json({**content, "marked": True})

    class Own(WebsocketDemultiplexer):
        multiplexer_class = Marked
        consumers = {"json": Json}

    with client_of(route_class(Own)).websocket("/") as ws:
        ws.expect_json({"stream": "json", "payload": {"hello": "json"}, "marked": True})


# ---------------------------------------------------------------- what is no demultiplexer


class Plain(Consumer):
    def receive(self, message, multiplexer):
        pass


class Without(Consumer):
    def receive(self, message):
        pass


def written(**attributes):
    """A demultiplexer as somebody writes it."""
    return type("Written", (WebsocketDemultiplexer,), {"consumers": {"a": Plain}} | attributes)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"consumers": {}}, r"Written\.consumers is \{\}; write a dict"),
        ({"consumers": [Plain]}, r"Written\.consumers is \[.*write a dict"),
        ({"consumers": {1: Plain}}, r"a stream is named by a str, not by 1"),
        ({"consumers": {"a": Plain()}}, r"\['a'\] is an instance; write Plain without"),
        ({"consumers": {"a": dict}}, r"\['a'\] is <class 'dict'>; write a subclass"),
        ({"consumers": {"a": Page}}, r"\['a'\] is a demultiplexer itself"),
        ({"consumers": {"a": Without}}, r"write def receive\(self, message, multiplexer\)"),
        ({"protocols": ["http"]}, r"'http' has no messages to be shared"),
        ({"protocols": []}, r"write protocols = \['websocket'\]"),
        ({"receive": lambda self, content: None}, r"Written\.receive is never called.*dispatch"),
        ({"recieve": lambda self, content: None}, r"Written\.recieve is never called"),
    ],
    ids=range(11),
)
def test_wrong_usages(attributes, words):
    """What cannot work stops the start, with what to write instead."""
    with pytest.raises(ImproperlyConfigured, match=words):
        Router([route_class(written(**attributes))])


def test_arguments_by_name():
    """What is missing in a method of frames is named with what it gets besides."""

    class Frames(WebsocketConsumer):
        def receive(self, text=None, bytes=None):
            pass

    with pytest.raises(ImproperlyConfigured) as caught:
        Router([route_class(written(consumers={"a": Frames}), path=path("<int:room>/"))])
    assert "write def receive(self, text=None, *, multiplexer, room)" in str(caught.value)


def test_a_capture_of_its_name():
    """A filter cannot capture what the consumer is given anyway."""
    with pytest.raises(ImproperlyConfigured, match="capture 'multiplexer', which"):
        Router([route_class(written(), path=path("<int:multiplexer>/"))])


def test_any_class_of_consumers(client_of):
    """A class with a method_mapping of its own takes the channels that it names."""

    class Mapped(BaseConsumer):
        method_mapping = {"websocket.receive": "take"}

        def take(self, message, multiplexer):
            multiplexer.send(message.text)

    with client_of(route_class(written(consumers={"a": Mapped}))).websocket("/") as ws:
        ws.send_text('{"stream": "a", "payload":  [1, 2.50]}')
        ws.expect_json({"stream": "a", "payload": "[1, 2.50]"})


def test_the_documented_class():
    """A demultiplexer of other protocols has a route for each of their kinds."""
    assert issubclass(WebsocketDemultiplexer, Demultiplexer)
    channels = {one for route in written().routes() for one in route.channels}
    assert channels == {"websocket.connect", "websocket.receive", "websocket.disconnect"}
