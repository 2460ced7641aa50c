"""Sessions of connections, and browsers' sessions in consumers."""

import inspect
from importlib import import_module

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

import gateway
from django_gateway import route
from django_gateway.asgi import channel_layers
from django_gateway.attendance import attend
from django_gateway.message import Message
from django_gateway.routing import Router
from django_gateway.sessions import (
    channel_and_http_session,
    channel_session,
    enforce_ordering,
    http_session,
    session_for_reply_channel,
)
from gateway.core.layers.base import Outcome as Verdict
from tests.django.connected import Line, make_tables, queries_made
from tests.django.peer import Outcome

BACKENDS = "django.contrib.sessions.backends."
DB = BACKENDS + "db"


@pytest.fixture(autouse=True)
def _tables():
    make_tables()
    Session.objects.all().delete()


@pytest.fixture(params=["db", "cache", "cached_db", "file"])
def engine(request, tmp_path):
    with override_settings(
        SESSION_ENGINE=BACKENDS + request.param, SESSION_FILE_PATH=str(tmp_path)
    ):
        yield import_module(BACKENDS + request.param)


@pytest.fixture
def database():
    with override_settings(SESSION_ENGINE=DB):
        yield import_module(DB)


def count(message):
    message.channel_session["seen"] = message.channel_session.get("seen", 0) + 1
    message.reply(str(message.channel_session["seen"]))


async def acount(message):
    seen = await message.channel_session.aget("seen", 0) + 1
    await message.channel_session.aset("seen", seen)
    message.reply(str(seen))


@channel_session
async def decorated_acount(message):
    count(message)


COUNTING = {
    "plain": count,
    "decorated": channel_session(count),
    "async": acount,
    "decorated async": decorated_acount,
}


def table(consumer):
    return [route([f"websocket.{kind}" for kind in ("connect", "receive", "disconnect")], consumer)]


@pytest.mark.parametrize("counting", COUNTING)
def test_from_message_to_message(work, peer, engine, counting):
    """What a consumer keeps is there for the connection's next message, whichever worker runs it
    in whatever engine; not for another connection, and not once it has ended.
    """
    routing = table(COUNTING[counting])
    work(routing)
    work(routing)
    one, other = Line(peer), Line(peer)
    assert one.connect() == ["1"]
    assert one.say() == ["2"]
    assert other.connect() == ["1"]
    assert [one.say() for _ in range(5)] == [["3"], ["4"], ["5"], ["6"], ["7"]]
    key = session_for_reply_channel(one.name).wanted
    assert engine.SessionStore().exists(key)
    assert one.leave() == ["8"]
    assert not engine.SessionStore().exists(key)
    assert other.say() == ["2"]


@pytest.mark.parametrize("counting", COUNTING)
def test_nothing_is_saved_of_a_consumer_that_raises(work, peer, database, counting):
    """As what it sent, what a consumer changed in the session never was if it raised."""
    consumer = COUNTING[counting]

    def fail(message):
        count(message)
        raise RuntimeError("on purpose")

    async def afail(message):
        await acount(message)
        raise RuntimeError("on purpose")

    work(
        [
            route("websocket.receive", afail if "async" in counting else fail, text="fail"),
            route("websocket.receive", consumer),
        ]
    )
    line = Line(peer)
    assert line.settle("fail") == ([], Outcome("failed", cause="RuntimeError"))
    assert not Session.objects.exists()
    assert line.say() == ["1"]
    line.settle("fail")
    assert line.say() == ["2"]


def refusing(get_outcome):
    def middleware(message, consumer):
        outcome = get_outcome(message, consumer)
        return Verdict("rejected", 4000) if message.text == "refuse" else outcome

    async def amiddleware(message, consumer):
        outcome = await get_outcome(message, consumer)
        return Verdict("rejected", 4000) if message.text == "refuse" else outcome

    return amiddleware if iscoroutinefunction(get_outcome) else middleware


def swallowing(get_outcome):
    def middleware(message, consumer):
        try:
            return get_outcome(message, consumer)
        except RuntimeError:
            return Verdict("accepted")

    async def amiddleware(message, consumer):
        try:
            return await get_outcome(message, consumer)
        except RuntimeError:
            return Verdict("accepted")

    return amiddleware if iscoroutinefunction(get_outcome) else middleware


for one in (refusing, swallowing):
    one.sync_capable = one.async_capable = True


@pytest.mark.parametrize("counting", ["plain", "async"])
def test_middleware_that_decides_otherwise(work, peer, database, counting):
    """Nothing is saved either where middleware refuses what was done, or swallows the failure."""

    def consumer(message):
        count(message)
        if message.text == "fail":
            raise RuntimeError("on purpose")

    async def aconsumer(message):
        await acount(message)
        if message.text == "fail":
            raise RuntimeError("on purpose")

    work(
        [route("websocket.receive", consumer if counting == "plain" else aconsumer)],
        middleware=[f"{__name__}.refusing", f"{__name__}.swallowing"],
    )
    line = Line(peer)
    assert line.settle("refuse")[1].kind == "rejected"
    assert line.settle("fail") == ([], Outcome("accepted"))
    assert line.say() == ["1"]


def retrying(get_outcome):
    def middleware(message, consumer):
        message.channel_session["tried"] = True
        try:
            return get_outcome(message, consumer)
        except OSError:
            return get_outcome(message, consumer)

    async def amiddleware(message, consumer):
        await message.channel_session.aset("tried", True)
        try:
            return await get_outcome(message, consumer)
        except OSError:
            return await get_outcome(message, consumer)

    return amiddleware if iscoroutinefunction(get_outcome) else middleware


retrying.sync_capable = retrying.async_capable = True


@pytest.mark.parametrize("counting", ["plain", "async"])
def test_middleware_that_tries_again(work, peer, database, counting):
    """What the failed try changed in a session never was, what the next one changes is saved, and
    so is what the middleware changed before.
    """
    tries = []

    def consumer(message):
        count(message)
        message.reply(f"and {message.channel_session['tried']}")
        tries.append(message)
        if len(tries) == 1:
            raise OSError("try again")

    async def aconsumer(message):
        await acount(message)
        message.reply(f"and {await message.channel_session.aget('tried')}")
        tries.append(message)
        if len(tries) == 1:
            raise OSError("try again")

    work(
        [route("websocket.receive", consumer if counting == "plain" else aconsumer)],
        middleware=[f"{__name__}.retrying"],
    )
    line = Line(peer)
    assert line.say() == ["1", "and True"]
    assert line.say() == ["2", "and True"]


def test_untouched_costs_nothing(work, peer, database):
    """A session that is not touched is not looked for; one that is only read is not written."""

    def receive(message):
        if message.text:
            message.reply(str(message.channel_session.get("seen")))

    work([route("websocket.receive", receive)])
    line = Line(peer)
    with queries_made() as queries:
        line.say()
    assert not queries
    with queries_made() as queries:
        assert line.say("look") == ["None"]
    assert [query.partition(" ")[0] for query in queries] == ["SELECT"]
    assert not Session.objects.exists()


def test_the_key_is_nobodys_to_guess(database):
    """Who knows the name of a connection cannot tell the key of its session: as a cookie it would
    be a login. It depends on SECRET_KEY.
    """
    name = "websocket.send.p_abc!1"
    key = session_for_reply_channel(name).wanted
    assert session_for_reply_channel(name).wanted == key
    assert len(key) == 32
    with override_settings(SECRET_KEY="another"):
        assert session_for_reply_channel(name).wanted != key


def test_sessions_in_cookies(work, peer):
    """Sessions that live in cookies cannot be those of connections; the error says what to set."""
    message = Message({"reply_channel": "websocket.send.p_x!1"}, "websocket.receive")
    with (
        override_settings(SESSION_ENGINE=BACKENDS + "signed_cookies"),
        pytest.raises(ImproperlyConfigured, match=r"set CHANNEL_SESSION_ENGINE = '[a-z.]+\.db'"),
    ):
        _ = message.channel_session
    with override_settings(SESSION_ENGINE=BACKENDS + "signed_cookies", CHANNEL_SESSION_ENGINE=DB):
        work(table(count))
        line = Line(peer)
        assert [line.connect(), line.say()] == [["1"], ["2"]]


@pytest.mark.parametrize("name", ["cache", "cached_db"])
@pytest.mark.parametrize("backend", ["locmem.LocMemCache", "dummy.DummyCache"])
def test_caches_that_workers_do_not_share(tmp_path, name, backend):
    """A cache that each worker has to itself is refused where workers are processes."""
    layer = gateway.open_layer(f"unix://{tmp_path}/hub.sock")
    channel_layers.use(layer)
    caches = {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}}
    try:
        with (
            override_settings(SESSION_ENGINE=BACKENDS + name, CACHES=caches),
            pytest.raises(ImproperlyConfigured, match="each worker has to itself"),
        ):
            session_for_reply_channel("websocket.send.p_x!1")
    finally:
        channel_layers.use(None)
        layer.close()


@pytest.mark.parametrize(
    ("channel", "content", "reason"),
    [
        ("thumbnails.make", {}, "no reply_channel"),
        ("http.request", {"reply_channel": "http.send.p_x!1"}, "no other follows it"),
    ],
)
def test_messages_without_a_connection(database, channel, content, reason):
    """A message that belongs to no connection has no channel session."""
    with pytest.raises(LookupError, match=reason):
        _ = Message(content, channel).channel_session


def test_nobody_ends_it(work, peer, database):
    """The session goes with its connection although no consumer of its end is decorated, or there
    is none at all, or its filter does not match.
    """

    def bye(message):
        message.reply("bye")

    for rest in (
        [],
        [route("websocket.disconnect", bye)],
        [route("websocket.disconnect", bye, path="/a")],
    ):
        routing = attend(Router([route("websocket.receive", channel_session(count)), *rest]).routes)
        worker = work(routing)
        line = Line(peer)
        line.say()
        assert Session.objects.count() == 1
        assert line.leave() == (["bye"] if rest and not rest[0].filters else [])
        assert not Session.objects.exists()
        worker.finish()


def test_a_table_without_sessions_stays_as_it_is():
    """Where nothing is decorated, nothing is added."""
    routes = Router([route(["websocket.receive", "websocket.disconnect"], count)]).routes
    assert attend(routes) == routes


def test_a_quicker_message(work, peer, database):
    """Who finds that another message of the connection has made the session is run again."""

    def slow(message):
        message.channel_session["mine"] = 1
        if message.attempt == 1:
            other = session_for_reply_channel(message.content["reply_channel"])
            other["theirs"] = 2
            other.save(must_create=other.fresh)
        message.reply(f"{sorted(message.channel_session.keys())}")

    work([route("websocket.receive", slow)])
    assert Line(peer).say() == ["['mine', 'theirs']"]


def test_a_store_that_was_cleared(work, peer, database):
    """A session whose row has vanished meanwhile is saved anew; a stale one of a lost worker is
    overwritten by the connect.
    """

    def receive(message):
        if message.text == "vanish":
            _ = message.channel_session["seen"]
            Session.objects.all().delete()
        count(message)

    work([route("websocket.connect", count), route("websocket.receive", receive)])
    line = Line(peer)
    assert line.connect() == ["1"]
    assert line.say("vanish") == ["2"]
    assert line.say() == ["3"]
    assert line.connect() == ["1"]
    assert line.say() == ["2"]


def test_flush_and_new_keys(database):
    """A channel session can be emptied, and keeps its key whatever is done to it."""
    message = Message({"reply_channel": "websocket.send.p_x!flush"}, "websocket.receive")

    @channel_session
    def consumer(message):
        message.channel_session["seen"] = 1
        message.channel_session.cycle_key()

    consumer(message)
    session = session_for_reply_channel("websocket.send.p_x!flush")
    assert session["seen"] == 1
    session.flush()
    session.finish()
    assert session.session_key == session.wanted
    assert "seen" not in session_for_reply_channel("websocket.send.p_x!flush")


def test_how_long_it_is_kept(database):
    """A channel session is kept for as long as GATEWAY_AUTH says, not as browsers' are."""
    with override_settings(GATEWAY_AUTH={"session_age": 99}, SESSION_COOKIE_AGE=7):
        assert session_for_reply_channel("websocket.send.p_x!1").get_expiry_age() == 99


# ---------------------------------------------------------------- the browser's


def browser(engine, **content):
    session = engine.SessionStore()
    session.update(content)
    session.save()
    return session


def cart(message):
    session = message.http_session
    message.reply("no cookie" if session is None else str(session.get("cart")))


async def acart(message):
    cart(message)


@pytest.mark.parametrize(
    "consumer", [cart, http_session(cart), http_session(acart), channel_and_http_session(acart)]
)
def test_the_browsers_session(work, peer, engine, consumer):
    """Consumers see the session of the handshake's cookie, at once and with every later message,
    and what views have changed in it since.
    """
    work(table(consumer))
    work(table(consumer))
    session = browser(engine, cart=1)
    line = Line(peer, session.session_key)
    assert line.connect() == ["1"]
    session["cart"] = 2
    session.save()
    assert [line.say() for _ in range(4)] == [["2"]] * 4
    assert line.leave() == ["2"]
    line = Line(peer)
    assert [line.connect(), line.say(), line.leave()] == [["no cookie"]] * 3


def test_signed_cookies_are_read(work, peer):
    """Browsers' sessions may live in their cookies."""
    name = BACKENDS + "signed_cookies"
    with override_settings(SESSION_ENGINE=name, CHANNEL_SESSION_ENGINE=DB):
        session = import_module(name).SessionStore()
        session["cart"] = 3
        session.save()
        work(table(cart))
        line = Line(peer, session.session_key)
        assert [line.connect(), line.say()] == [["3"], ["3"]]


def test_it_is_written_where_that_was_said(work, peer, database):
    """Changes are saved by the decorator if the consumer returns; elsewhere they are refused, with
    a text that says what to do.
    """

    def write(message):
        message.http_session["cart"] = message.text or "connected"

    @http_session
    def fail(message):
        write(message)
        raise RuntimeError("on purpose")

    work(
        [
            route("websocket.connect", http_session(write)),
            route("websocket.receive", write, text="plain"),
            route("websocket.receive", fail, text="fail"),
            route("websocket.receive", http_session(write)),
        ]
    )
    session = browser(database, cart="")
    line = Line(peer, session.session_key)

    def seen():
        return database.SessionStore(session.session_key)["cart"]

    line.connect()
    assert seen() == "connected"
    assert line.settle("plain") == ([], Outcome("failed", cause="TypeError"))
    assert line.settle("fail") == ([], Outcome("failed", cause="RuntimeError"))
    assert seen() == "connected"
    line.say("third")
    assert seen() == "third"
    message = Message({"headers": line.headers, "reply_channel": "a.p_b!c"}, "websocket.connect")
    with pytest.raises(TypeError, match=r"decorate the consumer with @http_session"):
        message.http_session["cart"] = "x"
    with pytest.raises(TypeError, match=r"decorate the consumer with @http_session"):
        message.http_session.flush()
    with pytest.raises(TypeError, match="no cookie can be set"):
        message.http_session.cycle_key()
    assert seen() == "third"


def test_a_browsers_session_that_has_ended(database):
    """What is written to a session that has ended is an error; nothing makes it anew."""

    @http_session
    def consumer(message):
        database.SessionStore().delete(message.http_session.session_key)
        message.http_session["cart"] = 1

    session = browser(database, cart=0)
    headers = [[b"cookie", f"sessionid={session.session_key}".encode()]]
    content = {"headers": headers, "reply_channel": "websocket.send.p_x!1"}
    with pytest.raises(SessionInterrupted):
        consumer(Message(content, "websocket.connect"))
    with pytest.raises(SessionInterrupted):
        consumer(Message(content, "websocket.connect"))
    assert not database.SessionStore().exists(session.session_key)


def test_a_consumer_ends_the_browsers_session(database):
    """A decorated consumer may end the browser's session."""

    @http_session
    def consumer(message):
        message.http_session.flush()

    session = browser(database, cart=0)
    headers = [[b"cookie", f"sessionid={session.session_key}".encode()]]
    consumer(Message({"headers": headers, "reply_channel": "a.p_b!c"}, "websocket.connect"))
    assert not database.SessionStore().exists(session.session_key)


def test_nobody_asked_when_it_was_opened(work, peer, database, caplog):
    """A later message cannot tell the browser's session if nobody asked at first: it says so."""
    work([route("websocket.receive", cart)])
    assert Line(peer).settle() == ([], Outcome("failed", cause="LookupError"))
    assert "Use message.http_session in its connect consumer too" in caplog.text


def test_requests_have_it(work, peer, database):
    """A consumer of requests has the session of its cookie."""

    def consumer(message):
        message.reply(status=200, content=str(message.http_session["cart"]).encode())

    work([route("http.request", consumer)])
    cookie = f"sessionid={browser(database, cart=5).session_key}".encode()
    replies, _ = peer.settled("http.request", peer.request(headers=[[b"cookie", cookie]]))
    assert replies[0]["content"] == b"5"


def test_on_the_loop(work, peer, database, caplog):
    """On the loop, a later message's http_session needs the decorator, and says so."""
    work([route("websocket.connect", cart), route("websocket.receive", acart)])
    line = Line(peer)
    line.connect()
    assert line.settle() == ([], Outcome("failed", cause="RuntimeError"))
    assert "decorate the consumer with @http_session" in caplog.text


# ---------------------------------------------------------------- decorators


@pytest.mark.parametrize("decorate", [channel_session, http_session, channel_and_http_session])
def test_decorated_consumers(decorate, database):
    """A decorated consumer keeps its name; methods may be decorated; what is no consumer is told."""

    class Room:
        @decorate
        def receive(self, message, room):
            """Say so."""
            return message.channel_name + room

    content = {"reply_channel": "websocket.send.p_x!1", "headers": []}
    assert inspect.getdoc(Room.receive) == "Say so."
    assert Room().receive(Message(content, "websocket.connect"), room="7") == "websocket.connect7"
    with pytest.raises(TypeError, match=f"@{decorate.__name__} is for consumers"):
        Room().receive("message", room="7")


def test_a_test_calls_consumers(database):
    """Called outside a worker, a decorated consumer saves its sessions itself, plain or async."""
    for name in ("decorated", "decorated async"):
        Session.objects.all().delete()
        message = Message({"reply_channel": "websocket.send.p_x!1"}, "websocket.receive")
        message.reply = lambda text: None
        consumer = COUNTING[name]
        (async_to_sync(consumer) if "async" in name else consumer)(message)
        assert session_for_reply_channel("websocket.send.p_x!1")["seen"] == 1


def test_enforce_ordering():
    """The decorator of Channels 1 changes nothing, in both of its forms."""
    assert enforce_ordering(count) is count
    assert enforce_ordering(slight=True)(count) is count
