"""The worker: outcomes, buffered sends, order, threads and loop, drain."""

import asyncio
import contextvars
import logging
import threading
from collections import deque

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.utils import translation

from django_gateway import Channel, ConsumeLater, Group, Reject, route
from django_gateway.channel import outbox
from django_gateway.signals import (
    consumer_finished,
    consumer_started,
    worker_ready,
    worker_stopping,
)
from gateway.core.errors import LayerUnavailable, MessageTooLarge
from gateway.core.layers import codec, edge, open_layer
from tests.django.peer import Outcome, wait_until

OK = Outcome("accepted")


def both(*consumers):
    """Parametrize a test with each consumer, plain and ``async def``."""

    def make(sync):
        async def twin(message):
            sync(message)

        return twin

    return pytest.mark.parametrize(
        "consumer",
        [*consumers, *(make(one) for one in consumers)],
        ids=[*(one.__name__ for one in consumers), *(f"a{one.__name__}" for one in consumers)],
    )


# ---------------------------------------------------------------- outcomes


def echo(message):
    message.reply(message.text)


def rejects(message):
    message.reply("never sent")
    raise Reject(4000, "not you")


def rejects_plainly(message):
    raise Reject


def fails(message):
    message.reply("never sent")
    Group("g").send({"text": "never sent"})
    raise KeyError("secret-of-the-consumer")


def exits(message):
    raise SystemExit(3)


def too_much(message):
    message.reply("x" * 2_000_000)


def bad_value(message):
    message.reply(value=object())


@both(echo)
def test_accepted(work, peer, consumer):
    """A consumer that returns has accepted; its reply precedes the outcome."""
    work({"a": consumer})
    name = peer.new_reply_channel()
    peer.post("a", {"reply_channel": name, "text": "hi"})
    assert peer.hear() == (name, {"text": "hi"})
    assert peer.hear() == ("outcome", OK)


OUTCOMES = {
    "rejects": (rejects, Outcome("rejected", 4000, "not you")),
    "rejects_plainly": (rejects_plainly, Outcome("rejected")),
    "fails": (fails, Outcome("failed", cause="KeyError")),
    "exits": (exits, Outcome("failed", cause="SystemExit")),
    "too_much": (too_much, Outcome("failed", cause="MessageTooLarge")),
    "bad_value": (bad_value, Outcome("failed", cause="TypeError")),
}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("case", OUTCOMES)
def test_outcomes(work, peer, kind, case):
    """What a consumer raises is its message's outcome, and what it sent vanishes, counted."""
    consumer, expected = OUTCOMES[case]

    async def twin(message):
        consumer(message)

    worker = work({"a": twin if kind == "async" else consumer})
    message = {"reply_channel": peer.new_reply_channel(), "text": "hi"}
    assert peer.settled("a", message) == ([], [expected])
    discarded = {"rejects": 1, "fails": 2}.get(case)
    assert worker.metrics.dropped() == ({"discarded": discarded} if discarded else {})
    assert worker.metrics.snapshot()[
        f'gateway_consumed_total{{channel="a",outcome="{expected.kind}"}}'
    ]
    # the thread, and the loop, go on
    assert peer.outcome("http.request", peer.request("/")) == OK


@pytest.mark.parametrize("options", [{"message_bytes": 4 << 20}])
@both(echo)
def test_large_messages(peer, work, consumer):
    """Where the layer lets larger messages through, consumers get and send them."""
    work({"a": consumer})
    message = {"reply_channel": peer.new_reply_channel(), "text": "x" * 3_000_000}
    assert peer.settled("a", message) == ([{"text": message["text"]}], [OK])
    Channel("b").send({"text": message["text"]})
    assert peer.layer.receive(["b"]) == ("b", {"text": message["text"]})
    with pytest.raises(MessageTooLarge, match="over 4194304"):
        Channel("b").send({"text": "x" * (4 << 20)})


def test_unrouted(work, peer):
    """A message that no route matches is unrouted."""
    work([route("a", echo, path="^/x")])
    assert peer.outcome("a", {"path": "/y"}) == Outcome("unrouted")


def test_a_failure_is_logged_once_without_the_message(work, peer, caplog):
    """A failure is logged once, with consumer, channel and connection, not with the message."""
    work({"a": fails})
    name = peer.new_reply_channel()
    peer.outcome("a", {"reply_channel": name, "text": "hi", "password": "hunter2"})
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == "django.gateway"
    assert record.getMessage() == f"{__name__}.fails failed, on a for {name}: KeyError"
    assert record.exc_info[0] is KeyError
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("raised", [Reject(), ConsumeLater(30)])
def test_decisions_are_not_logged(work, peer, caplog, raised):
    """Reject and ConsumeLater are decisions: nothing is logged."""
    ran = threading.Event()

    def decides(message):
        ran.set()
        raise raised

    work({"a": decides})
    peer.post("a", {})
    assert ran.wait(5)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_consume_later(work, peer, kind):
    """ConsumeLater puts the message back; it is offered again, and knows its attempt."""
    attempts = []

    def consumer(message):
        attempts.append(message.attempt)
        message.reply(f"attempt {message.attempt}")
        if message.attempt < 3:
            raise ConsumeLater(0)

    async def twin(message):
        consumer(message)

    work({"a": twin if kind == "async" else consumer})
    name = peer.new_reply_channel()
    assert peer.settled("a", {"reply_channel": name}) == ([{"text": "attempt 3"}], [OK])
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_was_read_cannot_be_closed(work, peer, caplog, kind):
    """What a consumer read is let go of once it has returned, all of it; what fails there is
    logged, and leaves the outcome and the thread as they are.
    """
    closed = []

    def broken():
        closed.append("broken")
        raise OSError(28, "No space left on device")

    def consumer(message):
        outbox.get().close_later(broken)
        outbox.get().close_later(lambda: closed.append("whole"))
        message.reply("hi")

    async def twin(message):
        consumer(message)

    work({"a": twin if kind == "async" else consumer}, threads=1)
    message = {"reply_channel": peer.new_reply_channel()}
    for _ in range(2):
        assert peer.settled("a", message) == ([{"text": "hi"}], [OK])
    assert closed == ["broken", "whole"] * 2
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [OSError] * 2


def test_the_delay_doubles():
    """Without a delay of its own ConsumeLater waits 0.1 s, then twice as long, at most 30 s."""
    from django_gateway.message import Message
    from django_gateway.routing import Router
    from django_gateway.runner import Runner

    runner = Runner(None, Router(), None, 1)
    delays = [
        runner._outcome_of(ConsumeLater(), "", Message({}, "a", attempt)).delay
        for attempt in range(1, 11)
    ]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 30


def test_a_coroutine_of_a_plain_function(work, peer):
    """A plain consumer that returns a coroutine has failed: nobody awaits it."""

    async def inner():
        """Do nothing."""

    def consumer(message):
        return inner()

    work({"a": consumer})
    assert peer.outcome("a", {}) == Outcome("failed", cause="TypeError")


def test_a_filter_that_breaks(work, peer, caplog):
    """An exception in the routing table itself fails the message, and no thread."""
    worker = work({"a": echo}, threads=1)
    worker.router.match = lambda message: 1 / 0
    assert peer.outcome("a", {}) == Outcome("failed", cause="ZeroDivisionError")
    del worker.router.match
    assert peer.outcome("a", {"reply_channel": peer.new_reply_channel(), "text": "x"}) == OK


# ---------------------------------------------------------------- sends


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_sends_keep_their_order(work, peer, kind):
    """Direct and group sends of a consumer arrive in order, before its outcome."""

    def consumer(message):
        mine = message.reply_channel
        message.reply("1")
        Group("g").add(mine)
        Group("g").send({"text": "2"})
        message.reply("3")
        Group("g").send({"text": "4"}, exclude=[mine])
        Group("g").send({"text": "5"})
        Group("g").discard(mine)
        Group("g").send({"text": "6"})
        mine.send({"text": "7"})

    async def twin(message):
        mine = message.reply_channel
        await mine.asend({"text": "1"})
        await Group("g").aadd(mine)
        await Group("g").asend({"text": "2"})
        await mine.asend({"text": "3"})
        await Group("g").asend({"text": "4"}, exclude=[mine])
        await Group("g").asend({"text": "5"})
        await Group("g").adiscard(mine)
        await Group("g").asend({"text": "6"})
        await mine.asend({"text": "7"})

    work({"a": twin if kind == "async" else consumer})
    # members of groups are the edge's: the peer joins with an edge, which hears it all
    name = peer.new_reply_channel()
    heard = []

    async def listen():
        edge = peer.layer.edge(heard.extend)
        edge.post("a", [codec.encode({"reply_channel": name})], 1)
        for _ in range(500):
            if any(item[0] == 5 for item in heard):
                break
            await asyncio.sleep(0.01)

    asyncio.run(listen())
    said = []
    for item in heard:
        if item[0] == edge.MESSAGE:
            said.append(codec.decode(item[2])["text"])
        elif item[0] == edge.GROUP and name not in item[3]:
            said.append("group " + codec.decode(item[2])["text"])
        elif item[0] == edge.JOIN:
            said.append("join")
        elif item[0] == edge.PART:
            said.append("part")
        elif item[0] == edge.OUTCOME:
            said.append(item[3].kind)
    assert said == ["1", "join", "group 2", "3", "group 5", "part", "7", "accepted"]


def test_sends_are_buffered(work, peer):
    """Nothing leaves before the consumer returned, but what is sent immediately."""
    go_on = threading.Event()

    def consumer(message):
        message.reply("buffered")
        message.reply_channel.send({"text": "at once"}, immediately=True)
        assert go_on.wait(5)

    work({"a": consumer})
    peer.post("a", {"reply_channel": peer.new_reply_channel()})
    assert peer.hear()[1] == {"text": "at once"}
    assert peer.nothing()
    go_on.set()
    assert peer.hear()[1] == {"text": "buffered"}


def test_what_was_sent_may_change_afterwards(work, peer):
    """A dict that was sent may be changed."""

    def consumer(message):
        content = {"text": "before"}
        message.reply_channel.send(content)
        content["text"] = "after"

    work({"a": consumer})
    replies, _ = peer.settled("a", {"reply_channel": peer.new_reply_channel()})
    assert replies == [{"text": "before"}]


def test_a_refused_send_fails_the_consumer(work, peer):
    """A buffered send that has no room fails the message; its other sends stand."""

    def consumer(message):
        for _ in range(101):  # the capacity is 100
            Channel("nobody.reads").send({})
        message.reply("sent")

    work({"a": consumer})
    replies, outcomes = peer.settled("a", {"reply_channel": peer.new_reply_channel()})
    assert replies == [{"text": "sent"}]
    assert outcomes == [Outcome("failed", cause="full")]


def test_a_task_that_outlives_its_consumer(work, peer):
    """What a task sends after its consumer was settled leaves at once."""
    tasks = set()

    async def consumer(message):
        async def afterwards():
            await wait_for_settled.wait()
            await message.reply_channel.asend({"text": "afterwards"})

        wait_for_settled = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, wait_for_settled.set)
        tasks.add(asyncio.create_task(afterwards()))

    work({"a": consumer})
    peer.post("a", {"reply_channel": peer.new_reply_channel()})
    assert peer.hear() == ("outcome", OK)
    assert peer.hear()[1] == {"text": "afterwards"}


# ---------------------------------------------------------------- deliveries


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_delivery_is_run_in_sequence(work, peer, kind):
    """Several messages of one delivery run one after the other, and are settled one by one."""
    running = deque()

    def consumer(message):
        running.append(message["n"])
        assert len(running) == 1
        message.reply(str(message["n"]))
        running.pop()

    async def twin(message):
        running.append(message["n"])
        await asyncio.sleep(0)
        assert len(running) == 1
        message.reply(str(message["n"]))
        running.pop()

    work({"a": twin if kind == "async" else consumer}, threads=4)
    name = peer.new_reply_channel()
    messages = [{"reply_channel": name, "n": n} for n in range(20)]
    peer.post("a", *messages)
    heard = [peer.hear() for _ in range(40)]
    assert heard == [
        item for n in range(20) for item in ((name, {"text": str(n)}), ("outcome", OK))
    ]


def test_the_first_failure_ends_a_delivery(work, peer):
    """After an outcome other than accepted the rest of a delivery is not run."""
    ran = []

    def consumer(message):
        ran.append(message["n"])
        if message["n"] == 1:
            raise Reject

    work({"a": consumer})
    _, outcomes = peer.settled("a", *({"n": n} for n in range(4)))
    assert outcomes == [
        OK,
        Outcome("rejected"),
        Outcome("failed", cause="skipped"),
        Outcome("failed", cause="skipped"),
    ]
    assert ran == [0, 1]


def test_a_mixed_delivery(work, peer):
    """Messages of one delivery keep their order although some consumers are asynchronous."""
    threads = []

    def plain(message):
        threads.append(threading.current_thread().name)
        message.reply(message["kind"] + "!")

    async def awaited(message):
        threads.append(threading.current_thread().name)
        await asyncio.sleep(0)
        message.reply(message["kind"] + "?")

    work([route("a", plain, kind="plain"), route("a", awaited, kind="awaited")])
    name = peer.new_reply_channel()
    kinds = ["plain", "awaited", "plain", "awaited"]
    replies, outcomes = peer.settled(
        "a", *({"reply_channel": name, "kind": kind} for kind in kinds)
    )
    assert [reply["text"] for reply in replies] == ["plain!", "awaited?", "plain!", "awaited?"]
    assert outcomes == [OK] * 4
    assert threads[0].startswith("consumer-")
    assert threads[1] == threads[3] == "loop"
    assert threads[2] != "loop"


def test_a_thread_does_not_wait_for_an_async_consumer(work, peer):
    """A thread that took a message for an asynchronous consumer goes on taking."""
    waiting = []

    async def waits(message):
        waiting.append(event := asyncio.Event())
        await event.wait()
        message.reply("waited")

    work([route("a", waits, kind="async"), route("a", echo)], threads=1)
    name = peer.new_reply_channel()
    peer.post("a", {"reply_channel": name, "kind": "async"})
    wait_until(lambda: waiting)
    assert peer.settled("a", {"reply_channel": name, "text": "hi"}) == ([{"text": "hi"}], [OK])
    waiting[0]._loop.call_soon_threadsafe(waiting[0].set)
    assert peer.hear()[1] == {"text": "waited"}


def test_async_consumers_run_at_once(work, peer):
    """Asynchronous consumers run concurrently, up to the limit."""
    most = 0
    running = 0

    async def consumer(message):
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    work({"a": consumer}, async_limit=5)
    for _ in range(20):
        peer.post("a", {})
    for _ in range(20):
        assert peer.hear() == ("outcome", OK)
    assert most == 5


# ---------------------------------------------------------------- isolation

marker = contextvars.ContextVar("marker", default="clean")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_contexts_are_isolated(work, peer, kind):
    """What a consumer sets in its context (a language, a variable) the next does not see."""

    def consumer(message):
        message.reply(f"{marker.get()} {translation.get_language()}")
        marker.set("dirty")
        translation.activate("fr")

    async def twin(message):
        consumer(message)

    work({"a": twin if kind == "async" else consumer}, threads=1)
    name = peer.new_reply_channel()
    replies, _ = peer.settled("a", *({"reply_channel": name} for _ in range(3)))
    assert [reply["text"] for reply in replies] == ["clean en-us"] * 3


def test_caches_are_shared(work, peer):
    """Messages of one thread share its caches' connections."""
    from django.core.cache import caches

    found = []

    def consumer(message):
        found.append(caches["default"])

    work({"a": consumer}, threads=1)
    peer.settled("a", {}, {})
    peer.settled("a", {})
    assert len({id(cache) for cache in found}) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_connections_are_closed(work, peer, kind):
    """A database connection that a consumer opened is closed after it (CONN_MAX_AGE is 0)."""
    found = []

    def consumer(message):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        found.append(connection._connections[connection._alias])

    async def twin(message):
        await sync_to_async(consumer)(message)

    work({"a": twin if kind == "async" else consumer})
    for _ in range(3):
        assert peer.outcome("a", {}) == OK
        wait_until(lambda: found[-1].connection is None)


def test_connections_are_closed_at_the_end(work, peer, monkeypatch):
    """Persistent connections of the threads are closed when the worker stops."""
    found = []
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)

    def consumer(message):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        found.append(connection._connections[connection._alias])

    worker = work({"a": consumer}, threads=1)
    assert peer.outcome("a", {}) == OK
    assert found[0].connection is not None
    worker.finish()
    assert found[0].connection is None


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_signals(work, peer, kind):
    """consumer_started and consumer_finished are sent around each consumer, raise or not."""
    heard = []

    def started(sender, message, **kwargs):
        heard.append(("started", message["n"]))

    def finished(sender, message, **kwargs):
        heard.append(("finished", message["n"]))

    def consumer(message):
        heard.append(("runs", message["n"]))
        if message["n"] == 2:
            raise Reject

    async def twin(message):
        consumer(message)

    work({"a": twin if kind == "async" else consumer})
    consumer_started.connect(started)
    consumer_finished.connect(finished)
    try:
        peer.settled("a", {"n": 1}, {"n": 2})
    finally:
        consumer_started.disconnect(started)
        consumer_finished.disconnect(finished)
    assert heard == [(what, n) for n in (1, 2) for what in ("started", "runs", "finished")]


# ---------------------------------------------------------------- life


def test_announce(work, peer):
    """A worker announces what its table names, http.request in any case, until it stops."""
    worker = work({"a": echo})
    assert peer.layer.announced() == frozenset({"a", "http.request"})
    worker.layer.close()
    assert peer.layer.announced() is None


def test_worker_signals(work):
    """worker_ready and worker_stopping are sent once each."""
    heard = []

    def hear(sender, signal, worker, **kwargs):
        heard.append((signal, worker))

    worker_ready.connect(hear)
    worker_stopping.connect(hear)
    try:
        worker = work({"a": echo})
        wait_until(lambda: heard)
        worker.finish()
    finally:
        worker_ready.disconnect(hear)
        worker_stopping.disconnect(hear)
    assert heard == [(worker_ready, worker), (worker_stopping, worker)]


def test_drain(work, peer):
    """At the end what runs finishes, and what waits is released to other workers."""
    begun = threading.Semaphore(0)
    go_on = threading.Event()

    def slow(message):
        begun.release()
        assert go_on.wait(5)
        message.reply(f"{message['n']}")

    worker = work({"a": slow}, threads=2)
    name = peer.new_reply_channel()
    for n in range(10):
        peer.post("a", {"reply_channel": name, "n": n})
    for _ in range(2):
        assert begun.acquire(timeout=5)
    stopping = threading.Thread(target=worker.finish)
    stopping.start()
    wait_until(lambda: peer.layer.channel_statistics("a").pending == 8)
    go_on.set()
    stopping.join(5)
    assert not stopping.is_alive()
    heard = [peer.hear() for _ in range(4)]
    assert sorted(message["text"] for place, message in heard if place == name) == ["0", "1"]
    assert peer.nothing()
    go_on.set()
    work({"a": slow}, threads=2)
    heard = [peer.hear() for _ in range(16)]
    texts = sorted(message["text"] for place, message in heard if place == name)
    assert texts == [str(n) for n in range(2, 10)]


def test_drain_of_the_loop(work, peer):
    """At the end asynchronous consumers finish too."""
    begun = threading.Event()

    async def slow(message):
        begun.set()
        await asyncio.sleep(0.1)
        message.reply("done")

    worker = work({"a": slow})
    peer.post("a", {"reply_channel": peer.new_reply_channel()})
    assert begun.wait(5)
    worker.finish()
    assert peer.hear()[1] == {"text": "done"}
    assert peer.hear() == ("outcome", OK)


def test_grace_is_bounded(work, peer, caplog):
    """An asynchronous consumer that runs past the grace is cancelled, and fails."""
    begun = threading.Event()
    cleaned = threading.Event()

    async def endless(message):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    worker = work({"a": endless})
    peer.post("a", {})
    assert begun.wait(5)
    with pytest.raises(AssertionError, match="did not finish in time"):
        worker.finish(0.05)
    assert cleaned.is_set()
    assert peer.hear() == ("outcome", Outcome("failed", cause="CancelledError"))


def test_an_exception_of_the_layer_ends_no_thread(work, peer, caplog, monkeypatch):
    """What the layer raises is logged; the thread goes on."""
    worker = work({"a": echo}, threads=1)
    settle = worker.layer.settle
    broken = deque([LayerUnavailable("away")])

    def settles(*args):
        if broken:
            raise broken.pop()
        settle(*args)

    monkeypatch.setattr(worker.layer, "settle", settles)
    peer.post("a", {"reply_channel": peer.new_reply_channel(), "text": "lost"})
    wait_until(lambda: not broken)
    replies, outcomes = peer.settled("a", {"reply_channel": peer.new_reply_channel(), "text": "hi"})
    assert (replies, outcomes) == ([{"text": "hi"}], [OK])
    assert "the layer failed; the thread goes on" in caplog.text
    assert "gateway_errors_total 1\n" in worker.metrics.text()


def test_an_exception_of_the_layer_does_not_end_the_loop(work, peer, caplog, monkeypatch):
    """What the layer raises on the loop is logged and counted, each time; the loop goes on."""

    async def aecho(message):
        message.reply(message.text)

    worker = work({"a": aecho})
    settle = worker.layer.asettle
    broken = deque([LayerUnavailable("away")])

    async def settles(*args):
        if broken:
            raise broken.pop()
        await settle(*args)

    monkeypatch.setattr(worker.layer, "asettle", settles)
    peer.post("a", {"reply_channel": peer.new_reply_channel(), "text": "lost"})
    wait_until(lambda: "gateway_errors_total 1\n" in worker.metrics.text())
    intake = worker._loop_intake
    take = intake.atake
    broken.append(LayerUnavailable("away"))

    async def takes():
        if broken:
            raise broken.pop()
        return await take()

    monkeypatch.setattr(intake, "atake", takes)
    for text in ("hi", "ho"):  # the first is taken by what waits since before
        name = peer.new_reply_channel()
        assert peer.settled("a", {"reply_channel": name, "text": text}) == ([{"text": text}], [OK])
    assert caplog.text.count("the layer failed; the loop goes on") == 2
    assert "gateway_errors_total 2\n" in worker.metrics.text()


def test_announcing_is_tried_again(url, monkeypatch):
    """A worker whose layer is away announces when it is back."""
    from django_gateway import worker as module
    from django_gateway.routing import Router
    from gateway.core.config import WorkerSettings

    monkeypatch.setattr(module, "RETRY", 0.01)
    layer = open_layer(url)
    tries = []

    def announce(channels, version):
        tries.append(channels)
        if len(tries) < 3:
            raise LayerUnavailable("away")

    monkeypatch.setattr(layer, "announce", announce)
    worker = module.Worker(layer, Router({"a": echo}), WorkerSettings(threads=1))
    worker.start()
    try:
        assert worker.ready.wait(5)
    finally:
        assert worker.stop(5)
        layer.close()
    assert tries == [["a"]] * 3
