"""Who sent a message: found out once for a connection, believed for a while, on any worker."""

import logging
import time
from functools import partial
from importlib import import_module
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.http import HttpRequest
from django.test import override_settings
from django.utils import crypto

from django_gateway import (
    Channel,
    HttpConsumer,
    Reject,
    auth_settings,
    checks,
    endings,
    route,
    route_class,
    users,
)
from django_gateway.asgi import channel_layers
from django_gateway.attendance import attend
from django_gateway.auth import (
    Credentials,
    adisconnect_user,
    authenticate,
    channel_and_http_session_user_from_http,
    channel_session_user,
    channel_session_user_from_http,
    disconnect_user,
    http_session_user,
    transfer_user,
    user_group,
)
from django_gateway.credentials import credentials_of, session_key_of
from django_gateway.message import Message
from django_gateway.routing import Router
from django_gateway.sessions import channel_session, session_for_reply_channel
from tests.django.connected import Line, log_in, make_tables, make_user, queries_made
from tests.django.peer import Outcome

BACKENDS = "django.contrib.sessions.backends."
HERE = "tests.django.test_auth."


@pytest.fixture(autouse=True)
def _clean():
    make_tables()
    Session.objects.all().delete()
    users.remembered.clear()


@pytest.fixture(params=["db", "cache"])
def engine(request):
    with override_settings(SESSION_ENGINE=BACKENDS + request.param):
        yield import_module(BACKENDS + request.param)


@pytest.fixture
def database():
    with override_settings(SESSION_ENGINE=BACKENDS + "db"):
        yield import_module(BACKENDS + "db")


@pytest.fixture
def clock(monkeypatch):
    """Seconds that have passed, as far as users are concerned."""
    passed = [0.0]
    real = time.monotonic
    monkeypatch.setattr(users, "time", Clock(passed, real))
    return passed


class Clock:
    def __init__(self, passed, real):
        self._passed, self._real = passed, real

    def monotonic(self):
        return self._real() + self._passed[0]

    def time(self):
        return time.time() + self._passed[0]


def who(message):
    message.reply(str(message.user.username or "nobody"))


async def awho(message):
    assert await message.auser() is message.user
    message.reply(str(message.user.username or "nobody"))


@channel_session_user
async def decorated_awho(message):
    who(message)


ASKING = {
    "plain": who,
    "async": awho,
    "http_session_user": http_session_user(who),
    "channel_session_user": channel_session_user(who),
    "channel_session_user_from_http": channel_session_user_from_http(who),
    "decorated async": decorated_awho,
    "all": channel_and_http_session_user_from_http(who),
}


def table(consumer):
    return [route([f"websocket.{kind}" for kind in ("connect", "receive", "disconnect")], consumer)]


# ---------------------------------------------------------------- for as long as it is connected


@pytest.mark.parametrize("asking", ASKING)
def test_the_user_of_a_cookie(work, peer, engine, asking):
    """The session cookie of the handshake says who the user is: then, in every later message on
    any worker, also one that has not seen the connection, and when it is over.
    """
    work(table(ASKING[asking]))
    work(table(ASKING[asking]))
    user = make_user()
    line = Line(peer, log_in(user, engine).session_key)
    assert line.connect() == [user.username]
    assert [line.say() for _ in range(3)] == [[user.username]] * 3
    users.remembered.clear()  # as another process has it
    assert line.say() == [user.username]
    assert line.leave() == [user.username]


@pytest.mark.parametrize("asking", ASKING)
@pytest.mark.parametrize("cookie", [None, "unknown123456789"])
def test_nobody(work, peer, engine, asking, cookie):
    """Without a session, or with one that there is not, it is an AnonymousUser, throughout."""
    work(table(ASKING[asking]))
    line = Line(peer, cookie)
    assert line.connect() == ["nobody"]
    users.remembered.clear()
    assert [line.say(), line.say(), line.leave()] == [["nobody"]] * 3


def test_no_query_for_a_message(work, peer, database):
    """Once it is known, the user of a message is asked of no database, on threads or the loop."""
    for consumer in (who, awho):
        worker = work(table(consumer))
        user = make_user()
        line = Line(peer, log_in(user, database).session_key)
        line.connect()
        with queries_made() as queries:
            assert [line.say() for _ in range(3)] == [[user.username]] * 3
        assert not queries
        worker.finish()


def test_nothing_where_nobody_asks(work, peer, database):
    """A project whose consumers do not ask has no query, no session and no group for its users."""

    def receive(message):
        message.reply("fine")

    work([route(["websocket.connect", "websocket.receive"], receive)])
    user = make_user()
    line = Line(peer, log_in(user, database).session_key)
    with queries_made() as queries:
        assert [line.connect(), line.say()] == [["fine"], ["fine"]]
    assert not queries
    assert Session.objects.count() == 1
    assert user_group(user).count() == 0


def test_how_fast_it_is(work, peer, database):
    """The user of a later message costs microseconds: bound here twenty times what was measured."""
    work(table(who))
    line = Line(peer, log_in(make_user(), database).session_key)
    line.connect()
    content = {"reply_channel": line.name, "text": ""}
    best = min(_seconds_for_users(content) for _ in range(20))
    assert best < 200e-6


def _seconds_for_users(content):
    start = time.perf_counter()
    for _ in range(20):
        _ = Message(content, "websocket.receive").user
    return (time.perf_counter() - start) / 20


def test_each_message_has_its_own(work, peer, database):
    """What a consumer changes on the user and does not save, the next message does not see."""

    def receive(message):
        message.reply(message.user.first_name)
        message.user.first_name = "changed"

    work([route("websocket.connect", who), route("websocket.receive", receive)])
    line = Line(peer, log_in(make_user(first_name="Ann"), database).session_key)
    line.connect()
    assert [line.say(), line.say()] == [["Ann"], ["Ann"]]


def test_it_is_refused_and_leaves_nothing(work, peer, database):
    """A connect that is refused leaves neither a session nor members behind."""

    def connect(message):
        raise Reject(403, message.user.username)

    work([route("websocket.connect", connect)])
    user = make_user()
    line = Line(peer, log_in(user, database).session_key)
    assert line.settle_connect()[1] == Outcome("rejected", 403, user.username)
    assert Session.objects.count() == 1
    assert user_group(user).count() == 0


# ---------------------------------------------------------------- until something changes


def deactivate(user, session):
    user.is_active = False
    user.save()


def delete(user, session):
    user.delete()


def change_password(user, session):
    user.password = "second"
    user.save()


def log_out(user, session):
    session.flush()


def log_in_as_another(user, session):
    other = make_user()
    session[auth.SESSION_KEY] = str(other.pk)
    session[auth.HASH_SESSION_KEY] = other.get_session_auth_hash()
    session.save()


@pytest.mark.parametrize(
    "change", [deactivate, delete, change_password, log_out, log_in_as_another]
)
def test_it_is_seen_at_the_expiry(work, peer, database, clock, change):
    """Up to `expiry` seconds a worker believes what it knows; then it sees that the user is gone,
    whatever became of it, and the connection is refused anything more with the close code.
    """
    work(table(who))
    user = make_user()
    session = log_in(user, database)
    line = Line(peer, session.session_key)
    line.connect()
    name = user.username
    change(user, session)
    assert line.say() == [name]
    clock[0] = 61
    assert line.settle() == ([], Outcome("rejected", 4401, users.GONE))
    assert line.settle() == ([], Outcome("rejected", 4401, users.GONE))
    assert line.leave() == (["nobody"] if change in (delete, deactivate) else [name])


def test_what_has_not_changed(work, peer, database, clock):
    """What still holds goes on; fields are those of the database then."""
    work(table(who))
    user = make_user()
    line = Line(peer, log_in(user, database).session_key)
    line.connect()
    user.username += "-renamed"
    user.save()
    clock[0] = 61
    assert line.say() == [user.username]


def test_who_changed_the_password_stays(work, peer, database, clock):
    """The session in which the password was changed stays logged in, and so do its connections."""
    work(table(who))
    user = make_user()
    session = log_in(user, database)
    line = Line(peer, session.session_key)
    line.connect()
    user.password = "second"
    user.save()
    session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    clock[0] = 61
    assert line.say() == [user.username]


def test_a_new_secret_key(work, peer, database):
    """A session signed with a former SECRET_KEY is believed, and keeps its key and its content:
    nothing could tell the browser of another.
    """
    work(table(who))
    user = make_user()
    session = log_in(user, database)
    with override_settings(SECRET_KEY="second", SECRET_KEY_FALLBACKS=["only-for-tests"]):
        line = Line(peer, session.session_key)
        assert [line.connect(), line.say()] == [[user.username]] * 2
    assert database.SessionStore(session.session_key)[auth.SESSION_KEY] == str(user.pk)


def test_a_stale_hash_ends_no_session(work, peer, database):
    """A handshake with a session of another password finds nobody, and leaves the session be."""
    work(table(who))
    user = make_user()
    session = log_in(user, database)
    change_password(user, session)
    assert Line(peer, session.session_key).connect() == ["nobody"]
    assert database.SessionStore().exists(session.session_key)


def test_a_connection_that_lasts(work, peer, database, clock):
    """A record in use outlives its age, counted from the connect."""
    work(table(who))
    with override_settings(GATEWAY_AUTH={"session_age": 3600}):
        user = make_user()
        line = Line(peer, log_in(user, database).session_key)
        line.connect()
        key = Session.objects.get(session_key__startswith="chn")
        clock[0] = 1900
        assert line.say() == [user.username]
        assert Session.objects.get(pk=key.pk).expire_date > key.expire_date


def test_the_memory_has_a_bound(work, peer, database):
    """A worker remembers so many connections and no more; the others are looked up."""
    work(table(who))
    with override_settings(GATEWAY_AUTH={"cache_size": 2}):
        user = make_user()
        cookie = log_in(user, database).session_key
        lines = [Line(peer, cookie) for _ in range(3)]
        for line in lines:
            line.connect()
        assert len(users.remembered._found) == 2
        with queries_made() as queries:
            assert lines[0].say() == [user.username]
        assert queries


# ---------------------------------------------------------------- what cannot be told


@pytest.mark.parametrize(
    ("channel", "content", "text"),
    [
        ("thumbnails.make", {}, "belongs to no connection. Send what names the user along"),
        ("websocket.receive", {"reply_channel": "a.p_b!c"}, "'at_connect': True"),
        ("websocket.disconnect", {"reply_channel": "a.p_b!c"}, "in its connect consumer too"),
    ],
)
def test_messages_that_cannot_tell(database, channel, content, text):
    """Where nobody can know the user it is an error that says what to do, and never anonymous."""
    with pytest.raises(LookupError, match=text):
        _ = Message(content, channel).user


def test_on_the_loop(database):
    """On an event loop message.user says that auser has to be awaited first."""

    async def ask():
        return Message({"headers": [], "reply_channel": "a.p_b!c"}, "websocket.connect").user

    with pytest.raises(RuntimeError, match=r"user = await message\.auser\(\)"):
        async_to_sync(ask)()


def test_no_user_model(database):
    """Without django.contrib.auth there are no users, and the error says what to install."""
    with (
        override_settings(INSTALLED_APPS=["django_gateway"]),
        pytest.raises(ImproperlyConfigured, match=r"django\.contrib\.contenttypes"),
    ):
        _ = Message({"headers": []}, "http.request").user


# ---------------------------------------------------------------- whom to believe


def by_token(credentials):
    if credentials.bearer == "secret" or credentials.query_token == "secret":
        return get_user_model().objects.get(username="robot")
    return authenticate(credentials)


async def aby_token(credentials):
    if credentials.bearer == "secret":
        return await get_user_model().objects.aget(username="robot")
    return None


def by_nonsense(credentials):
    return "robot"


@pytest.fixture
def robot():
    user = make_user(username="robot")
    yield user
    user.delete()


@pytest.mark.parametrize("consumer", [who, awho])
@pytest.mark.parametrize("hook", ["by_token", "aby_token"])
def test_a_token(work, peer, database, robot, clock, consumer, hook):
    """The project's own function, plain or async, says who has a token; from then on the user is
    looked up, without the token, which is kept nowhere.
    """
    with override_settings(GATEWAY_AUTH={"authenticate": HERE + hook}):
        work(table(consumer))
        line = Line(peer, headers=[(b"authorization", b"Bearer secret")])
        assert line.connect() == ["robot"]
        users.remembered.clear()
        assert line.say() == ["robot"]
        record = Session.objects.get()
        assert "secret" not in str(record.get_decoded())
        assert Line(peer, headers=[(b"authorization", b"Bearer wrong")]).connect() == ["nobody"]
        change_password(robot, None)
        clock[0] = 61
        assert line.settle() == ([], Outcome("rejected", 4401, users.GONE))


def test_a_token_of_the_query(work, peer, database, robot):
    """A token of the query counts where its name is configured."""
    work(table(who))
    said = {"authenticate": HERE + "by_token"}
    with override_settings(GATEWAY_AUTH=said):
        assert Line(peer, query=b"token=secret").connect() == ["nobody"]
    with override_settings(GATEWAY_AUTH={**said, "query_token": "token"}):
        assert Line(peer, query=b"a=b&token=secret").connect() == ["robot"]
        assert Line(peer, query=b"token=secret&token=other").connect() == ["nobody"]


def test_what_is_no_user(work, peer, database, caplog):
    """What the function returns has to be a user: the error says so."""
    work(table(who))
    with override_settings(GATEWAY_AUTH={"authenticate": HERE + "by_nonsense"}):
        assert Line(peer).settle_connect() == ([], Outcome("failed", cause="TypeError"))
    assert "returned a str: it returns a saved User (AUTH_USER_MODEL) or None" in caplog.text


def test_several_backends(work, peer, database, robot, caplog):
    """With several backends the function has to name the user's."""
    several = ["django.contrib.auth.backends.ModelBackend"] * 2
    work(table(who))
    with override_settings(
        GATEWAY_AUTH={"authenticate": HERE + "by_token"}, AUTHENTICATION_BACKENDS=several
    ):
        Line(peer, headers=[(b"authorization", b"Bearer secret")]).settle_connect()
    assert "user.backend = 'path.of.the.Backend'" in caplog.text


def test_requests_are_asked_each(work, peer, database):
    """A consumer of requests has the user of each; nothing is kept of it."""

    def consumer(message):
        message.reply(status=200, content=message.user.username.encode())

    work([route("http.request", consumer)])
    user = make_user()
    session = log_in(user, database)
    headers = [[b"cookie", f"sessionid={session.session_key}".encode()]]
    replies, _ = peer.settled("http.request", peer.request(headers=headers))
    assert replies[0]["content"] == user.username.encode()
    assert Session.objects.count() == 1
    session.flush()
    replies, _ = peer.settled("http.request", peer.request(headers=headers))
    assert replies[0]["content"] == b""


def test_credentials():
    """Credentials are what a message brought, whatever its protocol; their repr holds no secret."""
    content = {
        "headers": [[b"authorization", b"bearer  t0ken "], [b"x", b"y"]],
        "query_string": b"key=qu3ry",
        "client": ["192.0.2.1", 5],
    }
    found = credentials_of("websocket.connect", content, None, "key")
    assert found == Credentials(
        "websocket", bearer="t0ken", query_token="qu3ry", client=("192.0.2.1", 5)
    )
    content = {"identity": "CN=ann", "username": "ann", "password": "pa55", "client": None}
    other = credentials_of("mqtt.connect", content, object(), "key")
    assert (other.identity, other.username, other.password) == ("CN=ann", "ann", "pa55")
    said = f"{found!r} {found} {other!r} {other}"
    assert not any(secret in said for secret in ("t0ken", "qu3ry", "pa55"))
    assert repr(other) == "<Credentials of mqtt: session, identity, username, password>"
    with pytest.raises(AttributeError):
        found.bearer = "another"


@pytest.mark.parametrize(
    "headers",
    [
        [[b"authorization", b"Basic dTpw"]],
        [[b"authorization", b"Bearer"]],
        [[b"authorization", b"Bearer a"], [b"authorization", b"Bearer b"]],
    ],
)
def test_no_bearer(headers):
    """Other schemes are no tokens, and two headers are nobody's."""
    assert credentials_of("websocket.connect", {"headers": headers}, None, "").bearer is None


# ---------------------------------------------------------------- pages of other sites


@pytest.mark.parametrize(
    ("origin", "believed"),
    [
        (None, True),
        (b"https://example.org", True),
        (b"http://EXAMPLE.org:8000", True),
        (b"https://app.example.net", True),
        (b"https://a.partner.example", True),
        (b"http://a.partner.example", False),
        (b"https://evil.example", False),
        (b"https://example.org.evil.example", False),
        (b"null", False),
        (b"", False),
        (b"https://[", False),
    ],
)
@override_settings(CSRF_TRUSTED_ORIGINS=["https://app.example.net", "https://*.partner.example"])
def test_origins(origin, believed, caplog):
    """The cookie of another site's page is not believed, whatever the gateway lets in, unless
    CSRF_TRUSTED_ORIGINS names it; the log says so, and not the cookie.
    """
    headers = [[b"host", b"example.org"], [b"cookie", b"sessionid=abcdefgh"]]
    if origin is not None:
        headers.append([b"origin", origin])
    with caplog.at_level(logging.WARNING):
        key = session_key_of("websocket.connect", {"headers": headers})
    assert key == ("abcdefgh" if believed else None)
    assert ("CSRF_TRUSTED_ORIGINS" in caplog.text) is not believed
    assert "abcdefgh" not in caplog.text


def test_origins_of_requests():
    """For requests the origin matters where they change something, as in Django."""
    headers = [[b"cookie", b"sessionid=abcdefgh"], [b"origin", b"https://evil.example"]]
    content = {"headers": headers, "method": "GET"}
    assert session_key_of("http.request", content) == "abcdefgh"
    assert session_key_of("http.request", content | {"method": "POST"}) is None


@pytest.mark.parametrize(
    ("scheme", "origin", "believed"),
    [
        ("wss", b"http://example.org", False),
        ("wss", b"https://example.org", True),
        ("wss", b"HTTPS://example.org", True),
        ("https", b"http://example.org", False),
        ("ws", b"http://example.org", True),
        ("ws", b"https://example.org", True),  # a proxy that does not say what it ends
        ("wss", b"http://old.example", True),
    ],
)
@override_settings(CSRF_TRUSTED_ORIGINS=["http://old.example"])
def test_origins_without_tls(scheme, origin, believed):
    """A page that came without TLS may be anybody's, so it gets no cookie over TLS, as in Django."""
    headers = [[b"host", b"example.org"], [b"cookie", b"sessionid=abcdefgh"], [b"origin", origin]]
    content = {"headers": headers, "scheme": scheme, "method": "POST"}
    assert (session_key_of(f"{scheme}.connect", content) == "abcdefgh") is believed


def test_origins_behind_a_proxy():
    """Where Django believes X-Forwarded-Host, so do sessions."""
    headers = [
        [b"host", b"10.0.0.1"],
        [b"x-forwarded-host", b"example.org"],
        [b"cookie", b"sessionid=abcdefgh"],
        [b"origin", b"https://example.org"],
    ]
    assert session_key_of("websocket.connect", {"headers": headers}) is None
    with override_settings(USE_X_FORWARDED_HOST=True):
        assert session_key_of("websocket.connect", {"headers": headers}) == "abcdefgh"


def test_a_foreign_page_finds_nobody(work, peer, database):
    """A page of another site does not act in the name of the user."""
    work(table(who))
    session = log_in(make_user(), database)
    evil = [(b"origin", b"https://evil.example")]
    assert Line(peer, session.session_key, headers=evil).connect() == ["nobody"]


# ---------------------------------------------------------------- what ends connections


def joined(peer, database, work, consumer=who):
    """A user with two connections of one session, and one of another; all three Lines."""
    work(table(consumer))
    user = make_user()
    one, other = log_in(user, database), log_in(user, database)
    lines = [Line(peer, session.session_key) for session in (one, one, other)]
    for line in lines:
        line.connect()
    return user, one, lines


def closed(peer, lines):
    """Which of the lines were told to close, by their place, and how."""
    names = [line.name for line in lines]
    found = {}
    while (item := peer.hear(block=False)) != (None, None):
        channel, message = item
        found[names.index(channel)] = (message["close"], message["reason"])
    return found


@pytest.mark.parametrize("consumer", [who, awho])
def test_disconnect_user(work, peer, database, consumer):
    """All connections of a user end, with a code; nobody else's."""
    user, _, lines = joined(peer, database, work, consumer)
    other = Line(peer, log_in(make_user(), database).session_key)
    other.connect()
    disconnect_user(user)
    assert closed(peer, [*lines, other]) == dict.fromkeys(range(3), (4401, endings.ENDED))
    disconnect_user(user.pk, code=4000, reason="bye")
    assert closed(peer, lines) == dict.fromkeys(range(3), (4000, "bye"))
    async_to_sync(adisconnect_user)(user, code=4001)
    assert closed(peer, lines) == dict.fromkeys(range(3), (4001, endings.ENDED))


@pytest.mark.parametrize("nobody", [None, AnonymousUser()])
def test_nobody_cannot_be_disconnected(nobody):
    """Nobody has connections that could be told from others'."""
    with pytest.raises(ValueError, match="anonymous"):
        disconnect_user(nobody)


@pytest.mark.parametrize("wrong", ["ann", "", [7], {"pk": 7}])
def test_what_is_no_primary_key(wrong):
    """A name in the place of a key would be in no group: it is refused with a text that says so."""
    with pytest.raises(ValueError, match="neither a user nor a primary key of User"):
        user_group(wrong)


def keyed(field, value=None):
    """A user model with such a primary key."""
    field.set_attributes_from_name("id")
    meta = type("Meta", (), {"pk": field})
    return type("Tenant", (), {"_meta": meta, "pk": value, "id": value})


def test_the_spelling_of_a_primary_key(monkeypatch):
    """However a key is spelt, it is that of the same user: a UUID's dashes and letters, zeros."""
    assert user_group("007") == user_group(7)
    one = UUID("0A2b0000000000000000000000000001")

    monkeypatch.setattr(endings, "get_user_model", lambda: keyed(models.UUIDField()))
    groups = {user_group(key) for key in (one, str(one), one.hex, one.hex.upper())}
    assert groups == {user_group(keyed(models.UUIDField(), one)())}


def test_groups_of_users(monkeypatch):
    """Any primary key makes a group's name; what has none is told."""
    assert str(user_group(42)) == "gateway.user.42"
    with pytest.raises(ValueError, match="not saved"):
        user_group(get_user_model()(username="new"))
    monkeypatch.setattr(endings, "get_user_model", lambda: keyed(models.CharField()))
    assert str(user_group("a b@c")) == "gateway.user.a_20b_40c"
    assert str(user_group("é" * 100)) != str(user_group("é" * 101))


def log_out_request(session, user):
    request = HttpRequest()
    request.session = session
    request.user = user
    return request


def test_log_out(work, peer, database):
    """Logging out ends the connections of that session, at once; other sessions go on."""
    endings.listen()
    user, session, lines = joined(peer, database, work)
    auth.logout(log_out_request(session, user))
    assert closed(peer, lines) == dict.fromkeys((0, 1), (4401, endings.LOGGED_OUT))
    assert lines[2].say() == [user.username]


def test_log_out_on_the_loop(work, peer, database):
    """Logging out in an async view ends them as well."""
    endings.listen()
    user, session, lines = joined(peer, database, work)
    request = log_out_request(session, user)

    async def the_user():
        return user

    request.auser = the_user
    async_to_sync(auth.alogout)(request)
    assert set(closed(peer, lines)) == {0, 1}


def test_log_out_ends_nothing_if_that_is_wanted(work, peer, database):
    """The setting turns that off."""
    endings.listen()
    user, session, lines = joined(peer, database, work)
    with override_settings(GATEWAY_AUTH={"log_out": False}):
        auth.logout(log_out_request(session, user))
    assert closed(peer, lines) == {}


def test_log_out_of_sessions_in_cookies(work, peer):
    """A session that lives in its cookie is known by that."""
    endings.listen()
    with override_settings(
        SESSION_ENGINE=BACKENDS + "signed_cookies", CHANNEL_SESSION_ENGINE=BACKENDS + "db"
    ):
        work(table(who))
        user = make_user()
        session = log_in(user, import_module(BACKENDS + "signed_cookies"))
        line = Line(peer, session.session_key)
        assert line.connect() == [user.username]
        request = log_out_request(session, user)
        request.COOKIES["sessionid"] = line.headers[-1][1].decode().partition("sessionid=")[2]
        auth.logout(request)
        assert set(closed(peer, [line])) == {0}


def test_log_out_without_a_layer(tmp_path, database, caplog):
    """Where no gateway runs, users log out all the same; the log says how to have that silent."""
    import gateway

    endings.listen()
    layer = gateway.open_layer(f"unix://{tmp_path}/hub.sock")
    channel_layers.use(layer)
    try:
        user = make_user()
        session = log_in(user, database)
        auth.logout(log_out_request(session, user))
    finally:
        channel_layers.use(None)
        layer.close()
    assert session.session_key is None
    assert "set GATEWAY_AUTH = {'log_out': False}" in caplog.text


def test_group_names_tell_no_session():
    """The group of a session does not show its key."""
    assert "abcdefgh" not in str(endings.session_group("abcdefgh"))


def test_keys_are_the_same_with_any_django(monkeypatch, database):
    """A process with a newer Django, whose defaults are others, finds the same session and group."""
    before = endings.session_group("abc"), session_for_reply_channel("test.send.p_a!1").wanted
    defaults = {"algorithm": "sha512"}
    monkeypatch.setattr(crypto.salted_hmac, "__kwdefaults__", defaults)
    after = endings.session_group("abc"), session_for_reply_channel("test.send.p_a!1").wanted
    assert before == after


# ---------------------------------------------------------------- decorators and settings


def test_log_in_over_the_connection(work, peer, database):
    """A login that a consumer puts into the channel session is the connection's from then on."""
    user = make_user()
    session = log_in(user, database)

    @channel_session
    def log_in_by_text(message):
        transfer_user(database.SessionStore(message.text), message.channel_session)

    work(
        [
            route("websocket.receive", log_in_by_text, text=".{5}"),
            *table(channel_session_user(who)),
        ]
    )
    line = Line(peer)
    assert line.connect() == ["nobody"]
    assert line.say(session.session_key) == []
    assert line.say() == [user.username]
    assert transfer_user({}, {}) is None


def test_transfer_at_connect(work, peer, database, clock):
    """What Channels 1 had an application write at connect does what it did; the login ends with
    the browser's session.
    """

    def connect(message):
        transfer_user(message.http_session, message.channel_session)

    work(
        [route("websocket.connect", connect), route("websocket.receive", channel_session_user(who))]
    )
    user = make_user()
    session = log_in(user, database)
    line = Line(peer, session.session_key)
    line.connect()
    assert line.say() == [user.username]
    session.flush()
    clock[0] = 61
    assert line.settle()[1].kind == "rejected"


@pytest.mark.parametrize("consumer", [who, awho])
def test_at_connect(work, peer, database, consumer):
    """With `at_connect` later messages know the user although no connect consumer asks, or there
    is none; and nothing is left of it in the end.
    """

    def connect(message):
        message.reply("welcome")

    async def aconnect(message):
        message.reply("welcome")

    receive = route("websocket.receive", consumer)
    user = make_user()
    cookie = log_in(user, database).session_key
    with override_settings(GATEWAY_AUTH={"at_connect": True}):
        for one in (None, connect, aconnect):
            first = [] if one is None else [route("websocket.connect", one)]
            worker = work(attend(Router([*first, receive]).routes))
            line = Line(peer, cookie)
            assert line.connect() == ([] if one is None else ["welcome"])
            assert line.say() == [user.username]
            assert Session.objects.count() == 2
            assert line.leave() == []
            assert Session.objects.count() == 1
            worker.finish()


def retrying(get_outcome):
    def middleware(message, consumer):
        try:
            return get_outcome(message, consumer)
        except OSError:
            return get_outcome(message, consumer)

    return middleware


def test_middleware_that_tries_again(work, peer, database):
    """Whose connection it is, is noted by the try that succeeds; and it is in the user's group."""
    tries = []

    def connect(message):
        who(message)
        tries.append(message)
        if len(tries) == 1:
            raise OSError("try again")

    work(
        [route("websocket.connect", connect), route("websocket.receive", who)],
        middleware=[f"{HERE}retrying"],
    )
    user = make_user()
    line = Line(peer, log_in(user, database).session_key)
    assert line.connect() == [user.username]
    users.remembered.clear()
    assert line.say() == [user.username]
    assert peer.layer.group_channels(user_group(user).name) == [line.name]


class Telling:
    def __call__(self, message):
        message.reply("told")


@override_settings(GATEWAY_AUTH={"at_connect": True})
def test_what_is_attended_keeps_its_name():
    """Logs, middleware and tables name the project's consumer, an object or a partial too."""
    before = [
        route("websocket.connect", Telling()),
        route("websocket.receive", who),
        route("websocket.disconnect", partial(who)),
    ]
    after = attend(before)
    assert [one.name for one in after[:3]] == [one.name for one in before]
    assert after[0].consumer is not before[0].consumer


@override_settings(GATEWAY_AUTH={"at_connect": True})
def test_requests_are_no_connections():
    """A protocol of requests gets no route that it has no message for; what it has is as it was."""

    class Lamp(HttpConsumer):
        def get(self, request):
            """Never called here."""

        def disconnect(self, message):
            """Never called here."""

    table = Router([route_class(Lamp)]).routes
    assert attend(table) == table


def test_a_channel_of_ones_own_that_is_named_as_a_connections(work, peer, database):
    """It brings no reply channel, so it is nobody's connection: `at_connect` leaves it alone."""

    def tell(message):
        Channel(message["answer"]).send({"told": True})

    with override_settings(GATEWAY_AUTH={"at_connect": True}):
        for kind in ("connect", "disconnect"):
            worker = work(attend([route(f"crane.{kind}", tell)]))
            answer = peer.new_reply_channel()
            told = peer.settled(f"crane.{kind}", {"answer": answer})
            assert told == ([{"told": True}], [Outcome("accepted")])
            worker.finish()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], "GATEWAY_AUTH is a dict"),
        ({"expire": 3}, "did you mean 'expiry'"),
        ({"colour": 3}, "it may hold authenticate, at_connect"),
        ({"expiry": 0}, r"Expected `float` > 0.0 - at `\$.expiry`"),
        ({"authenticate": "tests.django.test_auth.nothing"}, "has no 'nothing'"),
        ({"authenticate": "tests.django.test_auth.HERE"}, "dotted path of a function"),
    ],
)
def test_wrong_settings(given, text):
    """What is wrong in GATEWAY_AUTH stops the start, and `manage.py check`, with a text that names it."""
    with override_settings(GATEWAY_AUTH=given):
        with pytest.raises(ImproperlyConfigured, match=text):
            auth_settings.check()
        (error,) = checks.check_auth()
        assert error.id == "gateway.E003"
    assert checks.check_auth() == []
