"""Consumers that are classes, of any protocol: what is called, where, and what it may do."""

import asyncio
import sys
import threading
import types

import pytest

from django_gateway import (
    Consumer,
    Group,
    JsonWebsocketConsumer,
    MqttConsumer,
    Reject,
    WebsocketConsumer,
    path,
    route_class,
)
from django_gateway.generic import BaseConsumer, protocols
from django_gateway.routing import Router
from tests.django.peer import Outcome

OK = Outcome("accepted")


def where():
    """Whether the caller runs on a thread or on the loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "thread"
    return "loop"


class Noting(Consumer):
    protocols = ["websocket"]
    noted = []

    def note(self, what):
        self.noted.append((what, where()))


class Meant(MqttConsumer):
    topics = ["sensors/+"]
    topic = "alerts"

    def receive(self, message): ...

    @property
    def protocol(self): ...


class InGroups(WebsocketConsumer):
    group = "all"

    def groups(self):
        return [self.group]

    def receive(self, text=None, bytes=None): ...


@pytest.mark.parametrize("kind", [Meant, InGroups])
def test_attributes_of_ones_own(kind):
    """A class may have attributes of its own, beside those that a consumer has."""
    assert Router([route_class(kind)]).routes


class Sync(Noting):
    def groups(self, room):
        self.note("groups")
        return [f"room-{room}"]

    def connect(self, message, room):
        self.note("connect")
        self.accept()

    def receive(self, message, room):
        self.note("receive")
        Group(f"room-{room}").send({"text": message.text})

    def disconnect(self, message, room):
        self.note("disconnect")


class Async(Noting):
    async def groups(self, room):
        self.note("groups")
        return [f"room-{room}"]

    async def connect(self, message, room):
        self.note("connect")
        self.accept()

    async def receive(self, message, room):
        self.note("receive")
        await Group(f"room-{room}").asend({"text": message.text})

    async def disconnect(self, message, room):
        self.note("disconnect")


class AsyncGroups(Sync):
    groups = Async.groups


class AsyncConnect(Sync):
    connect = Async.connect


class AsyncReceive(Sync):
    receive = Async.receive


class Overridden(Sync):
    groups = None

    def connection_groups(self, room):
        self.note("groups")
        return [Group(f"room-{room}")]


WHERE = {
    Sync: "thread thread thread thread thread",
    Async: "loop loop loop loop loop",
    AsyncGroups: "loop thread thread loop thread",
    AsyncConnect: "thread loop thread thread thread",
    AsyncReceive: "thread thread loop thread thread",
    Overridden: "thread thread thread thread thread",
}


@pytest.fixture(autouse=True)
def _fresh():
    Noting.noted.clear()


def conversation(peer, name, place="/rooms/hall/"):
    """Play a connection from its begin to its end; return what came besides outcomes."""
    common = {"reply_channel": name, "path": place}
    heard = []
    for kind, more in (("connect", {}), ("receive", {"text": "hi"}), ("disconnect", {})):
        replies, outcomes = peer.settled(f"websocket.{kind}", {**common, **more})
        heard += replies
        assert outcomes == [OK]
    return heard


@pytest.mark.parametrize("kind", WHERE, ids=lambda kind: kind.__name__)
def test_each_method_runs_where_it_may(work, peer, kind):
    """A def runs on a thread and an async def on the loop, whatever its neighbours are; all of
    them get what the filters capture.
    """
    work([route_class(kind, path=path("rooms/<slug:room>/"))])
    conversation(peer, peer.new_reply_channel())
    calls = ["groups", "connect", "receive", "groups", "disconnect"]
    assert Noting.noted == list(zip(calls, WHERE[kind].split(), strict=True))


@pytest.mark.parametrize("kind", [Sync, Async, AsyncGroups, Overridden])
def test_groups(work, peer, kind):
    """A connection is in its groups from its connect on until its disconnect."""
    work([route_class(kind, path=path("rooms/<slug:room>/"))])
    name = peer.new_reply_channel()
    common = {"reply_channel": name, "path": "/rooms/hall/"}
    assert peer.settled("websocket.connect", common)[0][-1] == {"accept": True}
    assert peer.layer.group_channels("room-hall") == [name]
    peer.settled("websocket.disconnect", common)
    assert peer.layer.group_channels("room-hall") == []


@pytest.mark.parametrize("groups", [["news"], ("news",), [Group("news")]])
def test_groups_alone(work, peer, groups):
    """A class may do nothing but put whoever connects into groups."""

    class News(Consumer):
        protocols = ["websocket"]

    News.groups = groups
    work([route_class(News)])
    name = peer.new_reply_channel()
    replies, outcomes = peer.settled("websocket.connect", {"reply_channel": name})
    assert outcomes == [OK]
    assert replies[-1] == {"accept": True}
    assert peer.layer.group_channels("news") == [name]
    assert "websocket.receive" not in Router([route_class(News)]).channels()


def test_who_is_refused_is_in_no_group(work, peer):
    """A connect that raises Reject leaves nobody in a group."""

    class Closed(Consumer):
        protocols = ["websocket"]
        groups = ["members"]

        def connect(self, message):
            raise Reject(403)

    work([route_class(Closed)])
    name = peer.new_reply_channel()
    assert peer.outcome("websocket.connect", {"reply_channel": name}) == Outcome("rejected", 403)
    assert peer.layer.group_channels("members") == []


def test_groups_that_a_method_gets_wrong(work, peer, caplog):
    """A method that returns one name instead of a list fails, with a text that says so."""

    class Wrong(Consumer):
        protocols = ["websocket"]

        def groups(self):
            return "room"

    work([route_class(Wrong)])
    message = {"reply_channel": peer.new_reply_channel()}
    assert peer.outcome("websocket.connect", message).kind == "failed"
    assert "groups is 'room'; write a list of names: groups = ['room'], or return one" in (
        caplog.text
    )


def test_an_instance_for_each_message(work, peer):
    """What a method keeps on self is gone with its message; message and kwargs are there."""

    class Counting(Consumer):
        protocols = ["websocket"]
        count = 0

        def receive(self, message, room):
            self.count += 1
            assert self.message is message
            self.reply(f"{self.count} {self.kwargs} {self.path} {self.reply_channel.name[:4]}")

    work([route_class(Counting, path=path("<slug:room>/"))])
    message = {"reply_channel": peer.new_reply_channel(), "path": "/x/", "text": ""}
    replies, _ = peer.settled("websocket.receive", message, message)
    assert replies == [{"text": "1 {'room': 'x'} /x/ test"}] * 2


def test_several_protocols(work, peer):
    """One class takes the messages of several protocols, by the kinds that each has."""

    class Both(Consumer):
        protocols = ["websocket", "http"]

        def receive(self, message):
            self.reply(f"you said {message.text}")

        def request(self, message):
            self.reply("you asked")

    assert Both.channel_names() == {
        "websocket.connect",
        "websocket.receive",
        "websocket.disconnect",
        "http.request",
    }
    work([route_class(Both)])
    message = {"reply_channel": peer.new_reply_channel(), "text": "hi"}
    assert peer.settled("websocket.receive", message)[0] == [{"text": "you said hi"}]
    assert peer.settled("http.request", peer.request())[0] == [{"text": "you asked"}]


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Install a plugin that this worker could not run, with kinds of its own."""
    files = {
        "gateway_lamp/__init__.py": "raise ImportError('what a lamp needs is not here')\n",
        "gateway_lamp/messages.py": "KINDS = dict.fromkeys(['connect', 'receive', 'switch'])\n",
        "lamp-1.dist-info/METADATA": "Name: lamp\nVersion: 1\n",
        "lamp-1.dist-info/entry_points.txt": "[gateway.plugins]\nlamp = gateway_lamp\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("installed")
def test_kinds_of_other_protocols():
    """A plugin's own kinds have methods too, on a worker that has not what the plugin needs."""

    class Lamp(Consumer):
        protocols = ["lamp", "websocket"]

        def receive(self, message):
            """Do nothing."""

        async def switch(self, message):
            """Do nothing."""

        def brightness(self):
            """Be no kind of message."""

    routes = {channel: one for one in route_class(Lamp).routes for channel in one.channels}
    assert set(routes) == {
        *("lamp.connect", "lamp.receive", "lamp.switch"),
        *("websocket.connect", "websocket.receive", "websocket.disconnect"),
    }
    assert routes["lamp.receive"] is routes["websocket.receive"]
    assert routes["lamp.switch"].is_async
    assert not routes["lamp.receive"].is_async
    assert routes["lamp.switch"].name.endswith("Lamp.switch")
    assert "gateway_lamp" not in sys.modules


def test_kinds_of_the_built_in_protocols():
    """What the messages' files say is what the plugins say."""
    from gateway.plugins.http import messages as http
    from gateway.plugins.websocket import messages as websocket

    protocols._kinds.cache_clear()
    assert protocols.kinds_of("x", "http") == tuple(http.KINDS)
    assert protocols.kinds_of("x", "websocket") == tuple(websocket.KINDS)


def test_channels_of_ones_own(work, peer):
    """method_mapping leads any channel, addresses too, to a method."""

    class Mails(BaseConsumer):
        method_mapping = {"mail.in!": "take", "thumbnails.make": "make"}

        def take(self, message):
            self.reply(message.channel_name)

        async def make(self, message):
            self.reply("made")

    work([Mails.as_route()])
    message = {"reply_channel": peer.new_reply_channel()}
    assert peer.settled("mail.in!info", message)[0] == [{"text": "mail.in!info"}]
    assert peer.settled("thumbnails.make", message)[0] == [{"text": "made"}]


@pytest.mark.parametrize("kind", [Sync, Async, AsyncReceive])
def test_dispatch_stands_around_all_methods(work, peer, kind):
    """An overridden dispatch is called for every message, and may refuse it."""

    class Guarded(kind):
        def dispatch(self, message, **kwargs):
            if message.get("text") == "no":
                raise Reject(4000)
            return super().dispatch(message, **kwargs)

    work([route_class(Guarded, path=path("rooms/<slug:room>/"))])
    conversation(peer, peer.new_reply_channel())
    assert [what for what, _ in Noting.noted][-1] == "disconnect"
    message = {"path": "/rooms/x/", "text": "no", "reply_channel": peer.new_reply_channel()}
    assert peer.outcome("websocket.receive", message) == Outcome("rejected", 4000)


def test_async_dispatch(work, peer):
    """A dispatch may be async def where all methods are."""

    class Guarded(Async):
        async def dispatch(self, message, **kwargs):
            self.note("dispatch")
            await super().dispatch(message, **kwargs)

    work([route_class(Guarded, path=path("rooms/<slug:room>/"))])
    conversation(peer, peer.new_reply_channel())
    assert Noting.noted[:3] == [("dispatch", "loop"), ("groups", "loop"), ("connect", "loop")]


def test_dispatch_by_get_handler(work, peer):
    """get_handler says what is called, as in Channels 1; addresses are known by their prefix."""

    class Louder(BaseConsumer):
        method_mapping = {"mail.in!": "take"}

        def get_handler(self, message, **kwargs):
            handler = super().get_handler(message, **kwargs)
            return lambda message, **kwargs: self.reply(handler(message).upper())

        def take(self, message):
            return "taken"

    work([route_class(Louder)])
    message = {"reply_channel": peer.new_reply_channel()}
    assert peer.settled("mail.in!info", message)[0] == [{"text": "TAKEN"}]


def test_attrs(work, peer):
    """as_route gives the class other attributes for this route, and keeps its name."""

    class News(Consumer):
        protocols = ["websocket"]
        groups = ["all"]

    table = [
        News.as_route(path=path("sports/"), attrs={"groups": ["sports"]}),
        News.as_route(path=path("")),
    ]
    work(table)
    for place, group in (("/", "all"), ("/sports/", "sports")):
        name = peer.new_reply_channel()
        peer.settled("websocket.connect", {"reply_channel": name, "path": place})
        assert peer.layer.group_channels(group) == [name]
    assert {one.name for one in Router(table).routes} == {
        f"{__name__}.test_attrs.<locals>.News.{kind}" for kind in ("connect", "disconnect")
    }


def test_dotted_path(monkeypatch):
    """A class may be named by its dotted path, and be included."""
    from django_gateway import include

    monkeypatch.setitem(sys.modules, "app", types.SimpleNamespace(Sync=Sync))
    table = [include([route_class("app.Sync", path=path("<slug:room>/"))], path=path("rooms/"))]
    assert Router(table).rows()[0] == (
        "websocket.connect",
        "path=rooms/ <slug:room>/",
        f"{__name__}.Sync.connect",
    )


@pytest.mark.parametrize(
    ("attribute", "module", "decorator"),
    [
        ("channel_session", "sessions", "channel_session"),
        ("http_session", "sessions", "http_session"),
        ("channel_session_user", "auth", "channel_session_user"),
        ("http_user", "auth", "channel_session_user_from_http"),
        ("http_user_and_session", "auth", "channel_session_user_from_http"),
    ],
)
@pytest.mark.parametrize("kind", [Sync, Async])
def test_sessions(monkeypatch, work, peer, kind, attribute, module, decorator):
    """An attribute puts the decorator of its name around every method."""
    from functools import wraps

    from django_gateway.routing import is_async

    def decorate(consumer):
        if is_async(consumer):

            @wraps(consumer)
            async def decorated(message, **kwargs):
                Noting.noted.append((decorator, where()))
                await consumer(message, **kwargs)
        else:

            @wraps(consumer)
            def decorated(message, **kwargs):
                Noting.noted.append((decorator, where()))
                consumer(message, **kwargs)

        return decorated

    name = f"django_gateway.{module}"
    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**{decorator: decorate}))
    one = kind.as_route(path=path("rooms/<slug:room>/"), attrs={attribute: True})
    work([one])
    conversation(peer, peer.new_reply_channel())
    assert [what for what, _ in Noting.noted] == [
        *(decorator, "groups", "connect"),
        *(decorator, "receive"),
        *(decorator, "groups", "disconnect"),
    ]
    assert len({place for _, place in Noting.noted}) == 1


def test_marks_of_decorators():
    """What a decorator says of a method is said of the route's consumer, whose own name stays."""
    from functools import wraps

    def marked(method):
        @wraps(method)
        def around(self, message):
            return method(self, message)

        around.is_marked = True
        return around

    class Marked(Consumer):
        protocols = ["websocket"]

        @marked
        def receive(self, message):
            """Do nothing."""

    routes = {one.channels[0]: one for one in Router([route_class(Marked)]).routes}
    assert routes["websocket.receive"].consumer.is_marked
    assert not hasattr(routes["websocket.connect"].consumer, "is_marked")
    assert routes["websocket.receive"].name.endswith("Marked.receive")


@pytest.mark.parametrize("kind", [Sync, Async])
def test_decorators_of_functions(work, peer, kind):
    """A decorator of function consumers goes on a method by Django's method_decorator."""
    from django.utils.decorators import method_decorator

    from django_gateway.security.websockets import allowed_hosts_only

    class Careful(kind):
        connect = method_decorator(allowed_hosts_only)(kind.connect)

    work([route_class(Careful, path=path("rooms/<slug:room>/"))])
    message = {"reply_channel": peer.new_reply_channel(), "path": "/rooms/x/", "headers": []}
    outcome = peer.outcome("websocket.connect", message)
    assert outcome == Outcome("rejected", 403, "not for pages of another site")
    message["headers"] = [[b"origin", b"https://example.org"]]
    assert peer.outcome("websocket.connect", message) == OK
    assert Noting.noted[-1] == ("connect", WHERE[kind].split()[1])


def test_a_plain_method_that_returns_a_coroutine(work, peer, caplog):
    """A def that returns a coroutine has failed: nobody awaits it."""

    class Wrong(Consumer):
        protocols = ["websocket"]

        def receive(self, message):
            return asyncio.sleep(0)

    work([route_class(Wrong)])
    assert peer.outcome("websocket.receive", {}).kind == "failed"
    assert "Wrong.receive is no async def, yet returned a coroutine" in caplog.text


# ---------------------------------------------------------------- websockets


class Echo(WebsocketConsumer):
    def receive(self, text=None, bytes=None, **kwargs):
        match text:
            case "bye":
                self.send(text="bye", close=4001)
            case "close":
                self.close(4002, "because")
            case "all":
                self.group_send("everybody", text="hi all")
            case "nothing":
                self.send()
            case _:
                self.send(text=text, bytes=bytes)


class AsyncEcho(WebsocketConsumer):
    async def receive(self, text=None, bytes=None, **kwargs):
        if text == "all":
            await self.agroup_send("everybody", text="hi all")
        else:
            Echo.receive(self, text, bytes)


@pytest.mark.parametrize("kind", [Echo, AsyncEcho])
@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ({"text": "hi"}, {"text": "hi"}),
        ({"text": ""}, {"text": ""}),
        ({"bytes": b"\x00"}, {"bytes": b"\x00"}),
        ({"text": None, "bytes": b""}, {"bytes": b""}),
        ({"text": "bye"}, {"text": "bye", "close": 4001}),
        ({"text": "close"}, {"close": 4002, "reason": "because"}),
    ],
)
def test_frames(work, peer, kind, sent, answer):
    """receive gets a frame's text or bytes; send and close answer it."""
    work([route_class(kind)])
    message = {"reply_channel": peer.new_reply_channel(), **sent}
    assert peer.settled("websocket.receive", message) == ([answer], [OK])


@pytest.mark.parametrize("kind", [Echo, AsyncEcho])
def test_group_send(work, peer, kind):
    """group_send reaches every member of a group, from a consumer and from anywhere."""
    work([route_class(kind)])
    name = peer.new_reply_channel()
    peer.layer.group_add("everybody", name)
    message = {"reply_channel": name, "text": "all"}
    replies, outcomes = peer.settled("websocket.receive", message)
    assert outcomes == [OK]
    kind.group_send("everybody", text="from outside", close=True)
    heard = [*replies, peer.hear()[1]]
    while {"text": "from outside", "close": True} not in heard:
        heard.append(peer.hear()[1])
    assert {"text": "hi all"} in [
        {key: value for key, value in (one or {}).items() if key == "text"} for one in heard
    ]


def test_group_send_to_whom_and_when(work, peer):
    """group_send takes what `Group.send` takes: whom to leave out, when to leave."""
    work([route_class(Echo)])
    told, left_out = peer.new_reply_channel(), peer.new_reply_channel()
    for name in (told, left_out):
        peer.layer.group_add("everybody", name)
    Echo.group_send("everybody", text="hi", exclude=[left_out], immediately=True)
    asyncio.run(AsyncEcho.agroup_send("everybody", text="hi again", exclude=[left_out]))
    JsonEcho.group_send("everybody", {"a": 1}, exclude=[left_out], on_commit=True)
    heard = [peer.hear() for _ in range(3)]
    assert [(place, message["text"]) for place, message in heard] == [
        (told, "hi"),
        (told, "hi again"),
        (told, '{"a": 1}'),
    ]
    with pytest.raises(TypeError, match=r"Group.send\(using='other'\) names the database"):
        Echo.group_send("everybody", text="hi", using="other")


def test_a_frame_of_nothing(work, peer, caplog):
    """send() of nothing fails, with a text that says what it takes."""
    work([route_class(Echo)])
    message = {"reply_channel": peer.new_reply_channel(), "text": "nothing"}
    assert peer.outcome("websocket.receive", message).cause == "ValueError"
    assert "a frame has a text or bytes: send(text=…) or send(bytes=…)" in caplog.text


def test_frames_nobody_wants(work, peer):
    """A WebsocketConsumer without receive takes frames, and does nothing with them."""

    class Push(WebsocketConsumer):
        groups = ["news"]

    work([route_class(Push)])
    assert peer.settled("websocket.receive", {"text": "hi"}) == ([], [OK])


class JsonEcho(JsonWebsocketConsumer):
    def receive(self, content, **kwargs):
        self.send({"you": content}, close=content == "bye")


class AsyncJsonEcho(JsonWebsocketConsumer):
    async def receive(self, content, **kwargs):
        JsonEcho.receive(self, content)


@pytest.mark.parametrize("kind", [JsonEcho, AsyncJsonEcho])
@pytest.mark.parametrize(
    ("sent", "answer", "outcome"),
    [
        ({"text": '{"a": [1, null]}'}, [{"text": '{"you": {"a": [1, null]}}'}], OK),
        ({"text": '"bye"'}, [{"text": '{"you": "bye"}', "close": True}], OK),
        ({"text": "null"}, [{"text": '{"you": null}'}], OK),
        ({"text": "{"}, [], Outcome("rejected", 1007, "not JSON")),
        ({"text": ""}, [], Outcome("rejected", 1007, "not JSON")),
        ({"text": "[" * 500_000}, [], Outcome("rejected", 1007, "not JSON")),
        ({"text": "9" * 5000}, [], Outcome("rejected", 1007, "not JSON")),
        ({"bytes": b"{}"}, [], Outcome("rejected", 1003, "text alone")),
    ],
    ids=["json", "close", "null", "no json", "empty", "deep", "long", "bytes"],
)
def test_json(work, peer, caplog, kind, sent, answer, outcome):
    """receive gets what the JSON says; what is none closes the connection, and nothing is logged."""
    work([route_class(kind)])
    message = {"reply_channel": peer.new_reply_channel(), **sent}
    assert peer.settled("websocket.receive", message) == (answer, [outcome])
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_json_as_django_writes_it():
    """encode_json writes dates and the like as Django does."""
    import datetime as dt

    assert JsonEcho.encode_json({"on": dt.date(2026, 1, 2)}) == '{"on": "2026-01-02"}'


def test_json_groups(peer, work):
    """group_send of a JSON consumer sends JSON, and so does its twin."""
    work([route_class(JsonEcho)])
    name = peer.new_reply_channel()
    peer.layer.group_add("g", name)
    JsonEcho.group_send("g", {"a": 1})
    asyncio.run(JsonEcho.agroup_send("g", {"a": 2}, close=True))
    heard = []
    while len(heard) < 2:
        place, message = peer.hear()
        assert place is not None
        if "text" in message:
            heard.append((message["text"], message.get("close")))
    assert heard == [('{"a": 1}', None), ('{"a": 2}', True)]


def test_only_the_loop_takes_what_is_only_async(work, peer):
    """A worker's threads take no channel that has only async methods, and all others."""
    taken = []

    class Where(Consumer):
        protocols = ["websocket"]

        async def connect(self, message):
            taken.append(threading.current_thread().name)

        def receive(self, message):
            taken.append(threading.current_thread().name)

    work([route_class(Where)])
    peer.outcome("websocket.connect", {})
    peer.outcome("websocket.receive", {})
    assert taken[0] == "loop"
    assert taken[1].startswith("consumer-")
