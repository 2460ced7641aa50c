"""Sends that wait for a transaction: on_commit=True."""

import asyncio

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, connections, transaction
from django.db.utils import ConnectionDoesNotExist

import gateway
from django_gateway import Channel, Group, Reject, asgi
from tests.django.peer import Outcome

OK = Outcome("accepted")


@pytest.fixture
def layer(url):
    """The default layer of this process."""
    layer = gateway.open_layer(url)
    asgi.channel_layers.use(layer)
    yield layer
    asgi.channel_layers.use(None)
    layer.close()
    connections.close_all()


def received(layer, channel="a"):
    found = []
    while (message := layer.receive([channel])[1]) is not None:
        found.append(message)
    return found


# ---------------------------------------------------------------- outside consumers


def test_at_the_commit(layer):
    """What is sent in a transaction leaves when it is committed, in order, as it was then."""
    content = {"n": 1}
    with transaction.atomic():
        Channel("a").send(content, on_commit=True)
        content["n"] = 3
        with transaction.atomic():
            Channel("a").send({"n": 2}, on_commit=True)
        assert received(layer) == []
        Channel("a").send({"n": 0})
        assert received(layer) == [{"n": 0}]
    assert received(layer) == [{"n": 1}, {"n": 2}]


def test_rolled_back(layer):
    """What was sent in a transaction, or a savepoint, that is rolled back never leaves."""

    @transaction.atomic
    def undone():
        Channel("a").send({"n": 2}, on_commit=True)
        raise KeyError

    with pytest.raises(KeyError):
        undone()
    with transaction.atomic():
        Channel("a").send({"n": 1}, on_commit=True)
        with pytest.raises(KeyError):
            undone()
    assert received(layer) == [{"n": 1}]


def test_groups(layer):
    """Members join, leave and hear at the commit."""
    Group("g").add("gone")
    with transaction.atomic():
        Group("g").add("a", on_commit=True)
        Group("g").discard("gone", on_commit=True)
        Group("g").send({"n": 1}, on_commit=True)
        assert Group("g").channels() == ["gone"]
    assert Group("g").channels() == ["a"]
    assert received(layer) == [{"n": 1}]


def test_without_a_transaction(layer):
    """Where there is none it leaves at once, and no connection is opened for the question."""
    connections.close_all()
    Channel("a").send({"n": 1}, on_commit=True)
    assert received(layer) == [{"n": 1}]
    assert connection.connection is None


@pytest.fixture
def other(tmp_path):
    """A second database: in a file, since Django never closes one in memory."""
    before = connections.settings
    connections.settings["other"] = {**before["default"], "NAME": tmp_path / "other.sqlite3"}
    yield
    connections["other"].close()
    del connections["other"]
    del connections.settings["other"]


@pytest.mark.usefixtures("other")
def test_using(layer):
    """``using`` says which database's transaction it is."""
    with transaction.atomic(using="other"):
        Channel("a").send({"of": "default"}, on_commit=True)  # has none: at once
        Channel("a").send({"of": "other"}, on_commit=True, using="other")
        with transaction.atomic():
            Channel("a").send({"of": "inner"}, on_commit=True)
            assert received(layer) == [{"of": "default"}]
        assert received(layer) == [{"of": "inner"}]
    assert received(layer) == [{"of": "other"}]


def test_on_a_loop(layer):
    """The twins ask the thread of synchronous code for its transaction."""

    def save():
        with transaction.atomic():
            async_to_sync(tell)()
            assert received(layer) == []

    async def tell():
        await Channel("a").asend({"n": 1}, on_commit=True)
        await Group("g").aadd("b", on_commit=True)
        await Group("g").asend({"n": 2}, on_commit=True)

    async def run():
        await sync_to_async(save)()
        assert await Group("g").achannels() == ["b"]
        await Group("g").adiscard("b", on_commit=True)  # has no transaction: at once
        assert await Group("g").acount() == 0

    asyncio.run(run())
    assert (received(layer), received(layer, "b")) == ([{"n": 1}], [{"n": 2}])


WRONG = {
    "using alone": (
        lambda: Channel("a").send({}, using="default"),
        TypeError,
        (
            "Channel.send(using='default') names the database whose commit is waited for: write "
            "on_commit=True, too"
        ),
    ),
    "no such database": (
        lambda: Group("g").send({}, on_commit=True, using="nowhere"),
        ConnectionDoesNotExist,
        "The connection 'nowhere' doesn't exist.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(layer, case):
    """A wrong usage is refused with a text that names the fix."""
    use, error, text = WRONG[case]
    with pytest.raises(error) as caught:
        use()
    assert str(caught.value) == text


def test_commits_by_hand(layer):
    """Where commits are the application's own, nobody would hear of them: it is told so."""
    transaction.set_autocommit(False)
    try:
        with pytest.raises(transaction.TransactionManagementError, match=r"atomic\(\)"):
            Channel("a").send({}, on_commit=True)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def test_a_refusal_at_the_commit(layer):
    """A send that has no room at the commit raises where the transaction ends; it is committed."""
    for _ in range(layer.options.capacity):
        Channel("a").send({})
    with pytest.raises(gateway.ChannelFull), transaction.atomic():
        Channel("a").send({}, on_commit=True)
    assert not connection.in_atomic_block


# ---------------------------------------------------------------- in consumers and views


KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


def of_kind(kind, consumer):
    async def twin(message):
        await sync_to_async(consumer)(message)

    return twin if kind == "async" else consumer


@KINDS
def test_an_atomic_consumer(work, peer, kind):
    """In a consumer it leaves with the outcome, in the order of the commits."""

    @transaction.atomic
    def consumer(message):
        message.reply("1")
        Channel("a").send({"n": 1}, on_commit=True)
        message.reply_channel.send({"text": "3"}, on_commit=True)
        message.reply("2")
        assert received(peer.layer) == []

    work({"x": of_kind(kind, consumer)})
    replies, outcomes = peer.settled("x", {"reply_channel": peer.new_reply_channel()})
    assert replies == [{"text": "1"}, {"text": "2"}, {"text": "3"}]
    assert outcomes == [OK]
    assert received(peer.layer) == [{"n": 1}]


@KINDS
@pytest.mark.parametrize("when", ["in the transaction", "after it"])
def test_a_consumer_that_raises(work, peer, kind, when):
    """It vanishes with the transaction, and with the consumer after the commit, counted then."""

    def consumer(message):
        with transaction.atomic():
            Channel("a").send({}, on_commit=True)
            Channel("b").send({}, on_commit=True, immediately=True)
            if when == "in the transaction":
                raise Reject
        raise Reject

    worker = work({"x": of_kind(kind, consumer)})
    assert peer.outcome("x", {}) == Outcome("rejected")
    assert received(peer.layer) == []
    # what was to leave at the commit whatever comes has left with the one that was
    committed = when == "after it"
    assert received(peer.layer, "b") == ([{}] if committed else [])
    assert worker.metrics.dropped() == ({"discarded": 1} if committed else {})


def test_after_the_outcome(work, peer):
    """A transaction that ends after its consumer's outcome sends at once."""
    tasks = set()

    async def consumer(message):
        async def afterwards():
            await settled.wait()
            await sync_to_async(save)()

        settled = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, settled.set)
        tasks.add(asyncio.create_task(afterwards()))

    def save():
        with transaction.atomic():
            Channel("a").send({"n": 1}, on_commit=True)
            assert received(peer.layer) == []
        connection.close()  # this thread's, which is no worker's: nobody else does

    work({"x": consumer})
    assert peer.outcome("x", {}) == OK
    assert peer.layer.receive(["a"], block=5) == ("a", {"n": 1})


@pytest.mark.parametrize(
    ("query", "status", "left"),
    [("", 200, [{"n": 1}]), ("error", 500, []), ("missing", 404, []), ("back", 200, [])],
)
def test_atomic_requests(work, peer, monkeypatch, query, status, left):
    """With ATOMIC_REQUESTS it leaves with the response, and never if the view's work was undone."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    work()
    response = peer.ask("/commit/", query=query.encode())
    assert response.status == status
    assert received(peer.layer) == left


def test_views_without_atomic_requests(work, peer):
    """Without it there is no transaction: as any other send of a view."""
    work()
    assert peer.ask("/commit/").status == 200
    assert received(peer.layer) == [{"n": 1}]
    assert peer.ask("/commit/", query=b"missing").status == 404
    assert received(peer.layer) == [{"n": 1}]
    assert peer.ask("/commit/", query=b"error").status == 500
    assert received(peer.layer) == []
