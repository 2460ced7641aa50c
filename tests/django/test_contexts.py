"""What surrounds a consumer: context variables, the loop or none, and a guarded ORM."""

import asyncio
import contextvars
import threading

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation

from django_gateway import Channel, route
from tests.django.peer import Outcome
from tests.django.project import middleware as module

OK = Outcome("accepted")
marker = contextvars.ContextVar("marker", default="unset")


def no_loop():
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_the_orm_is_guarded(work, peer, caplog):
    """An asynchronous consumer that calls the ORM as synchronous code fails by Django's guard."""

    async def consumer(message):
        list(User.objects.all())

    work({"a": consumer})
    assert peer.outcome("a", {}) == Outcome("failed", cause="SynchronousOnlyOperation")
    assert "use a thread or sync_to_async" in caplog.text


def test_the_orm_of_async_views_is_guarded(work, peer, caplog):
    """So does an asynchronous view; Django answers 500."""
    work()
    assert peer.ask("/async-orm/").status == 500
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info[0] is SynchronousOnlyOperation


def test_plain_consumers_see_no_loop(work, peer):
    """A plain consumer never sees a running loop, on a thread or aside of the loop; nor does what
    an asynchronous one calls by sync_to_async.
    """
    threads = []

    def plain(message):
        no_loop()
        threads.append(threading.current_thread().name)

    async def awaited(message):
        asyncio.get_running_loop()
        await sync_to_async(plain)(message)

    work([route("a", awaited, kind="awaited"), route("a", plain)])
    kinds = ("plain", "awaited", "plain", "awaited")
    _, outcomes = peer.settled("a", *({"kind": kind} for kind in kinds))
    assert outcomes == [OK] * 4
    assert "loop" not in threads


def test_async_code_of_a_plain_consumer(work, peer):
    """A plain consumer may call asynchronous code; what that sends is buffered with the rest."""

    async def tell(channel):
        await asyncio.sleep(0)
        await channel.asend({"text": "2"})

    def consumer(message):
        message.reply("1")
        async_to_sync(tell)(message.reply_channel)
        message.reply("3")

    work({"a": consumer})
    replies, outcomes = peer.settled("a", {"reply_channel": peer.new_reply_channel()})
    assert [reply["text"] for reply in replies] == ["1", "2", "3"]
    assert outcomes == [OK]


def test_plain_sends_of_async_code(work, peer):
    """A plain send in an asynchronous consumer is buffered, so that it blocks nothing; one that is
    to act at once raises, and names its twin.
    """

    async def consumer(message):
        Channel("b").send({"n": 1})
        with pytest.raises(RuntimeError, match=r"await Channel\.asend\(\) instead"):
            Channel("b").send({"n": 2}, immediately=True)
        await Channel("b").asend({"n": 3}, immediately=True)

    work({"a": consumer})
    assert peer.outcome("a", {}) == OK
    assert [peer.layer.receive(["b"])[1] for _ in range(3)] == [{"n": 3}, {"n": 1}, None]


def test_variables_are_carried(work, peer):
    """What an asynchronous consumer sets its synchronous code sees, and the other way round; of
    two that run at once neither sees the other's.
    """
    both = asyncio.Event()
    running = []

    def inner(name):
        assert marker.get() == name
        marker.set(f"{name}, changed")

    async def consumer(message):
        assert marker.get() == "unset"
        marker.set(message["name"])
        running.append(message["name"])
        if len(running) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 5)
        await sync_to_async(inner)(message["name"])
        message.reply(marker.get())

    work({"a": consumer})
    names = {name: peer.new_reply_channel() for name in ("one", "two")}
    for name, reply_channel in names.items():
        peer.post("a", {"reply_channel": reply_channel, "name": name})
    heard = [peer.hear() for _ in range(4)]
    assert [message for place, message in heard if place == "outcome"] == [OK, OK]
    said = {place: message["text"] for place, message in heard if place != "outcome"}
    assert said == {names[name]: f"{name}, changed" for name in names}


def setting(get_outcome):
    """Set a variable around the consumer, and tell what it left in it."""

    def before():
        assert marker.get() == "unset"
        marker.set("of the middleware")

    def after(message):
        message.reply(f"left {marker.get()}")

    if iscoroutinefunction(get_outcome):

        async def call(message, consumer):
            before()
            outcome = await get_outcome(message, consumer)
            after(message)
            return outcome

    else:

        def call(message, consumer):
            before()
            outcome = get_outcome(message, consumer)
            after(message)
            return outcome

    return call


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("capable", [("sync",), ("async",), ("sync", "async")])
def test_variables_of_middleware(work, peer, monkeypatch, kind, capable):
    """A variable that a middleware sets the consumer sees, and the other way round, adapted or
    not.
    """

    def factory(get_outcome):
        return setting(get_outcome)

    factory.sync_capable = "sync" in capable
    factory.async_capable = "async" in capable
    monkeypatch.setattr(module, "of_this_test", factory, raising=False)

    def consumer(message):
        message.reply(f"found {marker.get()}")
        marker.set("of the consumer")

    async def twin(message):
        consumer(message)

    work(
        {"a": twin if kind == "async" else consumer},
        middleware=["tests.django.project.middleware.of_this_test"],
    )
    message = {"reply_channel": peer.new_reply_channel()}
    for _ in range(2):
        replies, outcomes = peer.settled("a", message)
        assert [reply["text"] for reply in replies] == [
            "found of the middleware",
            "left of the consumer",
        ]
        assert outcomes == [OK]
