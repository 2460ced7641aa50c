"""Middleware of consumers: what it sees and may change, both kinds, wrong entries."""

import asyncio
import threading

import pytest
from asgiref.sync import sync_to_async
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import override_settings

from django_gateway import Channel, ConsumeLater, Group, Reject, asgi, route, route_class
from django_gateway.generic.http import HttpConsumer
from django_gateway.generic.websockets import WebsocketConsumer
from django_gateway.middleware import Middleware
from django_gateway.routing import Router
from gateway.core.errors import ConfigError
from tests.django.peer import Outcome
from tests.django.project import middleware as module
from tests.django.project.views import noted

OK = Outcome("accepted")
HERE = "tests.django.project.middleware."


def paths(*names):
    return [HERE + name for name in names]


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


def of_kind(kind, consumer):
    async def twin(message, **kwargs):
        consumer(message, **kwargs)

    twin.__name__ = consumer.__name__
    return twin if kind == "async" else consumer


@KINDS
def test_order(work, peer, noted, kind):
    """The first of the list is outermost; each sees the consumer, its arguments and the outcome."""

    def consumer(message, room):
        noted.append(f"runs in {room}")
        message.reply("hi")

    table = [route("a", of_kind(kind, consumer), path=r"/(?P<room>\w+)/")]
    work(table, middleware=paths("first", "Second"))
    message = {"reply_channel": peer.new_reply_channel(), "path": "/attic/"}
    assert peer.settled("a", message) == ([{"text": "hi"}], [OK])
    name = "test_order.<locals>.consumer" if kind == "sync" else "of_kind.<locals>.twin"
    assert list(noted) == [
        "first before",
        (f"{__name__}.{name}", "consumer", {"room": "attic"}, kind == "async"),
        "runs in attic",
        "first accepted",
    ]


RAISED = {
    "turned": (KeyError("x"), Outcome("rejected", 4004, "no such thing"), [], "Reject"),
    "swallowed": (ZeroDivisionError(), OK, [{"text": "divided by zero"}], "accepted"),
    "let through": (ValueError(), Outcome("failed", cause="ValueError"), [], "ValueError"),
    "a decision": (Reject(4000, "no"), Outcome("rejected", 4000, "no"), [], "Reject"),
}


@KINDS
@pytest.mark.parametrize("case", RAISED)
def test_exceptions(work, peer, noted, caplog, kind, case):
    """What a consumer raises may be turned, swallowed or let through; its sends are dropped."""
    error, outcome, replies, seen = RAISED[case]

    def consumer(message):
        message.reply("never sent")
        raise error

    worker = work({"a": of_kind(kind, consumer)}, middleware=paths("first", "Second"))
    message = {"reply_channel": peer.new_reply_channel()}
    assert peer.settled("a", message) == (replies, [outcome])
    assert noted[-1] == f"first {seen}"
    assert worker.metrics.dropped() == {"discarded": 1}
    assert bool(caplog.records) == (outcome.kind == "failed")


@KINDS
def test_consume_later(work, peer, noted, kind):
    """A release passes through as the exception that it is."""

    def consumer(message):
        if message.attempt < 2:
            raise ConsumeLater(0)

    work({"a": of_kind(kind, consumer)}, middleware=paths("first"))
    assert peer.outcome("a", {}) == OK
    assert list(noted) == [
        "first before",
        "first ConsumeLater",
        "first before",
        "first accepted",
    ]


@KINDS
def test_sends(work, peer, noted, kind):
    """Buffered sends can be read, dropped and added; arguments can be changed."""

    def consumer(message, room):
        Channel("secret").send({"room": room})
        Group("g").add(message.reply_channel)
        Group("g").send({"text": room}, exclude=["b"])
        Group("g").discard(message.reply_channel)
        message.reply("done")

    table = [route("a", of_kind(kind, consumer), path="/(?P<room>[a-z]+)")]
    work(table, middleware=paths("censor"))
    name = peer.new_reply_channel()
    replies, outcomes = peer.settled("a", {"reply_channel": name, "path": "/attic"})
    assert outcomes == [OK]
    assert list(noted) == [
        ("send", "seen", {"before": True}, None),
        ("send", "secret", {"room": "ATTIC"}, None),
        ("group_add", "g", None, name),
        ("group_send", "g", {"text": "ATTIC"}, None),
        ("group_discard", "g", None, name),
        ("send", name, {"text": "done"}, None),
        "<send secret {'room': 'ATTIC'}>",
    ]
    assert peer.layer.receive(["seen", "secret"]) == ("seen", {"before": True})
    assert peer.layer.receive(["seen", "secret"]) == ("seen", {"after": True})
    assert peer.layer.receive(["seen", "secret"]) == (None, None)
    assert {"text": "done"} in replies


@KINDS
@pytest.mark.parametrize(
    ("name", "replies", "outcome"),
    [("gate", [], Outcome("rejected", 4003, "closed")), ("answers", [{"text": "not today"}], OK)],
)
def test_without_the_consumer(work, peer, kind, name, replies, outcome):
    """A middleware may decide before the consumer runs."""
    ran = []

    def consumer(message):
        ran.append(message)

    work({"a": of_kind(kind, consumer)}, middleware=paths(name))
    message = {"reply_channel": peer.new_reply_channel()}
    assert peer.settled("a", message) == (replies, [outcome])
    assert not ran


def test_a_sync_middleware_of_an_async_consumer(work, peer, noted):
    """It runs on a thread without a loop, the consumer on the worker's loop."""

    async def consumer(message):
        noted.append(threading.current_thread().name)

    work({"a": consumer}, middleware=paths("where"))
    assert peer.outcome("a", {}) == OK
    (_, thread), no_loop, consumers = noted
    assert no_loop == "no loop"
    assert consumers == "loop"
    assert thread != "loop"


def test_an_async_middleware_of_a_sync_consumer(work, peer, noted):
    """It runs on a loop, the consumer on its own thread, where no loop runs."""

    work({"a": of_kind("sync", lambda message: noted.append(_where()))}, middleware=paths("awhere"))
    assert peer.outcome("a", {}) == OK
    (_, thread), consumers = noted
    assert consumers.startswith("consumer-")
    assert thread != consumers


def _where():
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    return threading.current_thread().name


@KINDS
def test_mixed_kinds(work, peer, noted, kind):
    """Middleware of both kinds alternate around a consumer of either."""

    def consumer(message):
        message.reply("hi")

    names = ("where", "awhere", "first", "where", "awhere")
    work({"a": of_kind(kind, consumer)}, middleware=paths(*names))
    message = {"reply_channel": peer.new_reply_channel()}
    for _ in range(3):
        assert peer.settled("a", message) == ([{"text": "hi"}], [OK])
    assert [item[0] for item in noted if isinstance(item, tuple)] == [
        "where",
        "awhere",
        "where",
        "awhere",
    ] * 3


def test_more_adapted_ones_than_threads(work, peer):
    """Asynchronous consumers behind a synchronous middleware wait for its threads, and for none
    of theirs: what they run by sync_to_async runs where their middleware waits.
    """

    async def consumer(message):
        await asyncio.sleep(0.01)
        message.reply(await sync_to_async(lambda: threading.current_thread().name)())

    work({"a": consumer}, threads=2, middleware=paths("where"))
    name = peer.new_reply_channel()
    for _ in range(20):
        peer.post("a", {"reply_channel": name})
    heard = [peer.hear() for _ in range(40)]
    assert [said for place, said in heard if place == "outcome"] == [OK] * 20
    assert len({said["text"] for place, said in heard if place == name}) == 2


def test_views_are_not_wrapped(work, peer, noted):
    """Views have Django's own middleware; this one is not around them."""
    work({"a": lambda message: None}, middleware=paths("gate", "first"))
    assert peer.ask("/").content == b"hello"
    assert peer.ask("/async/").status == 200
    assert not noted
    assert peer.outcome("a", {}) == Outcome("rejected", 4003, "closed")


def test_made_once():
    """A factory is called at the start, once for each kind of consumers that there is."""

    async def twin(message):
        """Do nothing."""

    def plain(message):
        """Do nothing."""

    for table, expected in (
        ({"a": plain, "b": plain}, [False]),
        ({"a": twin}, [True]),
        ({"a": plain, "b": twin}, [False, True]),
    ):
        module.made.clear()
        Middleware(paths("counted"), Router(table))
        assert sorted(module.made) == expected


def test_not_used(work, peer, noted, caplog):
    """MiddlewareNotUsed leaves it out, with a word to the log where DEBUG is on."""
    with override_settings(DEBUG=True), caplog.at_level("DEBUG", "django.gateway"):
        work({"a": lambda message: None}, middleware=paths("unused", "first"))
    assert f"MiddlewareNotUsed: '{HERE}unused': not here" in caplog.text
    assert peer.outcome("a", {}) == OK
    assert list(noted) == ["first before", "first accepted"]


WRONG_RESULTS = {
    "a result": (
        "wrong_result",
        "sync",
        (
            "returned 'done': return what get_outcome(message, consumer) returned, or nothing; to "
            "refuse, raise Reject"
        ),
    ),
    "a coroutine": (
        "secretly_async",
        "sync",
        (
            "returned a coroutine around a synchronous consumer, where get_outcome is none to be "
            "awaited: return what it returned, or decorate the factory with "
            "django.utils.decorators.async_only_middleware"
        ),
    ),
    "no coroutine": (
        "secretly_sync",
        "async",
        (
            "was given an asynchronous get_outcome and returned None: what it makes must be async def "
            "here, or the factory be decorated with django.utils.decorators.sync_only_middleware"
        ),
    ),
}


@pytest.mark.parametrize("case", WRONG_RESULTS)
def test_wrong_results(work, peer, caplog, case):
    """A middleware that returns something else fails the message, with a text that names it."""
    name, kind, text = WRONG_RESULTS[case]
    work({"a": of_kind(kind, lambda message: None)}, middleware=paths(name))
    assert peer.outcome("a", {}) == Outcome("failed", cause="TypeError")
    assert f"the middleware {HERE}{name} {text}" in caplog.text


KEY = "CHANNEL_LAYERS['default']['MIDDLEWARE']"
WRONG = {
    "a str": (
        HERE + "first",
        f"is a list of dotted paths: ['shop.middleware.timing'], not '{HERE}first'",
    ),
    "a function": (
        [module.not_callable],
        "holds 3: write its dotted path, such as 'shop.middleware.timing'",
    ),
    "no module": (["nowhere.first"], ": there is no module 'nowhere' (from 'nowhere.first')"),
    "no name": (
        paths("third"),
        ": the module 'tests.django.project.middleware' has no 'third'",
    ),
    "not callable": (
        paths("not_callable"),
        (
            f": '{HERE}not_callable' is no middleware but int; a middleware is a function of "
            "get_outcome that returns a function of (message, consumer)"
        ),
    ),
    "async factory": (
        paths("afactory"),
        (
            f": '{HERE}afactory' is async def; the factory is a plain def, what it returns may be "
            "async def"
        ),
    ),
    "async def": (
        paths("openly_async"),
        (
            f": '{HERE}openly_async' made an async def around a synchronous consumer; decorate the "
            "factory with django.utils.decorators.async_only_middleware, or with "
            "sync_and_async_middleware and have it make a plain function where "
            "iscoroutinefunction(get_outcome) is false"
        ),
    ),
    "incapable": (
        paths("incapable"),
        f": '{HERE}incapable' has neither sync_capable nor async_capable set to True",
    ),
    "nothing made": (
        paths("returns_none"),
        (
            f": the factory '{HERE}returns_none' returned None; does it return the function that it "
            "makes?"
        ),
    ),
    "text made": (
        paths("returns_text"),
        f": the factory '{HERE}returns_text' returned 'call', which cannot be called",
    ),
    "of views": (
        paths("of_views"),
        (
            f": what '{HERE}of_views' makes, {HERE}of_views.<locals>.middleware(request), cannot be "
            "called with (message, consumer); a middleware of views stands in MIDDLEWARE"
        ),
    ),
    "arguments": (
        paths("greedy"),
        (
            f": what '{HERE}greedy' makes, {HERE}greedy.<locals>.call(message, consumer, more), cannot "
            "be called with (message, consumer); write def call(message, consumer)"
        ),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_entries(case):
    """A wrong entry stops the start, and fails the check, with a text that names the fix."""
    given, text = WRONG[case]
    text = f"{KEY}{text}" if text.startswith(":") else f"{KEY} {text}"
    layer = {"ROUTING": "tests.django.project.routing.routes", "MIDDLEWARE": given}
    with override_settings(CHANNEL_LAYERS={"default": layer}):
        with pytest.raises(ImproperlyConfigured) as caught:
            asgi.router()
        assert str(caught.value) == text
        (error,) = run_checks(tags=["gateway"])
        assert (error.id, error.msg) == ("gateway.E004", text)


def test_the_settings_are_read(monkeypatch):
    """The settings' middleware is around the consumers of the settings' table; none costs none."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.django.project.settings")
    application = asgi.DjangoApplication()
    layer = {"ROUTING": "tests.django.project.routing.routes", "MIDDLEWARE": paths("first")}
    with override_settings(CHANNEL_LAYERS={"default": layer}):
        assert asgi.router().middleware is not None
        assert run_checks(tags=["gateway"]) == []
    for nothing in ({}, {"MIDDLEWARE": []}, {"MIDDLEWARE": ()}):
        with override_settings(CHANNEL_LAYERS={"default": nothing}):
            assert asgi.router().middleware is None
    layer = {**layer, "MIDDLEWARE": ["nowhere.first"]}
    with (
        override_settings(CHANNEL_LAYERS={"default": layer}),
        pytest.raises(ConfigError, match="there is no module 'nowhere'"),
    ):
        application.channels()


class Room(WebsocketConsumer):
    """Plain and asynchronous methods."""

    def receive(self, text=None, bytes=None):
        noted.append("receives")
        self.reply(text)

    async def disconnect(self, message, **kwargs):
        noted.append("disconnects")


class Lamp(HttpConsumer):
    def get(self, request):
        return HttpResponse("on")


def test_classes(work, peer, noted):
    """Classes are wrapped as functions are, each method by the chain of its kind; a class for
    requests has Django's middleware.
    """
    work([route_class(Room), route_class(Lamp)], middleware=paths("first", "Second"))
    name = peer.new_reply_channel()
    message = {"reply_channel": name, "path": "/", "text": "hi", "bytes": None}
    assert peer.settled("websocket.receive", message) == ([{"text": "hi"}], [OK])
    message = {"reply_channel": name, "path": "/", "code": 1000, "reason": ""}
    assert peer.settled("websocket.disconnect", message) == ([], [OK])
    assert [what for what in noted if isinstance(what, str)] == [
        "first before",
        "receives",
        "first accepted",
        "first before",
        "disconnects",
        "first accepted",
    ]
    told = [what for what in noted if not isinstance(what, str)]
    assert [is_async for _, _, _, is_async in told] == [False, True]
    assert {name.rpartition(".")[2] for name, _, _, _ in told} <= {"Room", "receive", "disconnect"}
    noted.clear()
    assert peer.ask("/").content == b"on"
    assert not noted
