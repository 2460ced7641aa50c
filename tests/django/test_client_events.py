"""`GatewayClient` and the protocols whose clients come back: event streams, long polls, gateway.v1.

One consumer serves all three, and the same test drives each.
"""

import asyncio
import gc
import re
import threading

import pytest
from django.test import override_settings

from django_gateway import Consumer, Demultiplexer, Group, Multiplexer, Reject, path, route
from django_gateway import route_class as routes_of
from django_gateway.testing import GatewayClient, InvalidReplyError
from tests.django.toys import Told

PLUGINS = ["http", "websocket", "sse", "longpoll"]
NEVER = "ffff-0"


class Room(Consumer):
    protocols = ["websocket", "sse", "longpoll"]
    groups = ["room"]

    def receive(self, message):
        Group("room").send({"text": message.text}, history=5)


class AsyncRoom(Room):
    async def receive(self, message):
        await Group("room").asend({"text": message.text}, history=5)


def begin_websocket(client, where="/", **asked):
    return client.websocket(where, subprotocols=["gateway.v1"], **asked)


def begin_sse(client, where="/", **asked):
    return client.sse(where, posts=True, **asked)


def begin_longpoll(client, where="/", **asked):
    return client.longpoll(where, **asked)


BEGIN = [begin_websocket, begin_sse, begin_longpoll]
IDS = ["websocket", "sse", "longpoll"]
each = pytest.mark.parametrize("begin", BEGIN, ids=IDS)


@pytest.fixture
def site(client_of):
    """Make clients of a site with all four plugins."""
    return lambda *routes, **arguments: client_of(*routes, plugins=PLUGINS, **arguments)


# ---------------------------------------------------------------- one consumer, three protocols


@pytest.mark.parametrize("kind", [Room, AsyncRoom])
def test_one_consumer_serves_all(site, kind):
    """What any says all hear, with the same id; that id resumes any of the protocols."""
    client = site(routes_of(kind))
    with begin_websocket(client) as ws, begin_sse(client) as sse, begin_longpoll(client) as poll:
        assert Group("room").count() == 3
        ids = []
        for says, text in ((ws, "from ws"), (sse, "from sse"), (poll, "from poll")):
            says.send_text(text)
            heard = [one.receive() for one in (ws, sse, poll)]
            assert {(event.kind, event.value) for event in heard} == {("text", text)}
            assert len({event.id for event in heard}) == 1
            ids.append(heard[0].id)
            assert {one.last_event_id for one in (ws, sse, poll)} == {ids[-1]}
        assert len(set(ids)) == 3
    for begin in BEGIN:
        with begin(client, last_event_id=ids[0]) as again:
            assert [again.receive()[:3] for _ in range(2)] == [
                ("text", "from sse", ids[1]),
                ("text", "from poll", ids[2]),
            ]
            again.expect_nothing()
            assert again.last_event_id == ids[2]
    assert Group("room").count() == 0


@pytest.mark.parametrize("kind", [Room, AsyncRoom])
def test_on_a_loop(site, kind):
    """So do the verbs' twins, on an event loop."""
    client = site(routes_of(kind))

    async def main():
        async with (
            begin_websocket(client) as ws,
            begin_sse(client) as sse,
            begin_longpoll(client) as poll,
        ):
            assert (await sse.asend_text("one")).status_code == 204
            assert (await poll.asend_json("two")).status_code == 204
            await ws.asend_text("three")
            for one in (ws, sse, poll):
                event = await one.areceive()
                assert (event.value, bool(event.id)) == ("one", True)
                assert await one.aexpect_json("two") == "two"
                assert await one.aexpect_text("three") == "three"
                await one.aexpect_nothing()
            await poll.aclose()
            await sse.aclose()
            assert (poll.closed, sse.closed) == (True, True)
            assert await Group("room").acount() == 1
            with pytest.raises(RuntimeError, match=r"await asend_text\(\) instead"):
                sse.send_text("x")

    asyncio.run(main())


@each
def test_a_client_that_comes_back_too_late(site, begin):
    """It is told that more was missed than is kept, first; then what is, and where it is."""
    client = site(routes_of(Room))
    with begin(client) as first:
        first.send_text("0")
        since = first.receive().id
    for n in range(1, 8):
        Group("room").send({"text": str(n)}, history=5)
    with begin(client, last_event_id=since) as again:
        assert again.receive().kind == "missed"
        assert [again.expect_text() for _ in range(5)] == list("34567")
        again.expect_nothing()
    with begin(client, last_event_id=NEVER) as stranger:
        assert stranger.expect("missed") is True
        assert str(stranger.received[0]) == "missed"


@each
def test_a_new_client_is_told_where_it_is(site, begin):
    """One without an id gets none of what was kept, and the present position."""
    client = site(routes_of(Room))
    Group("room").send({"text": "before"}, history=5)
    with begin(client) as new:
        new.expect_nothing()
        assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", new.last_event_id)
    Group("room").send({"text": "after"}, history=5)
    with begin(client, last_event_id=new.last_event_id) as again:
        again.expect_text("after")


@each
def test_bytes(site, begin):
    """Bytes arrive as bytes, whatever the protocol makes of them, with their id."""
    client = site(routes_of(Room))
    with begin(client) as one:
        Group("room").send({"bytes": b"\x00\xff"}, history=5)
        event = one.receive()
        assert event[:2] == ("bytes", b"\x00\xff")
        assert event.id == one.last_event_id
        Group("room").send({"bytes": b"plain"})
        assert one.expect_bytes(b"plain") == b"plain"
        assert str(event) == f"bytes b'\\x00\\xff' id={event.id!r}"


@each
def test_bytes_are_sent(site, begin):
    """What is sent as bytes is bytes to the consumer."""
    told = Told()
    protocols = ("websocket", "sse", "longpoll")
    client = site(route([f"{protocol}.receive" for protocol in protocols], told))
    with begin(client) as one:
        one.send_bytes(b"\x00\xff")
        one.send_json({"a": "é"})
    assert told.messages[0]["bytes"] == b"\x00\xff"
    assert told.messages[1]["text"] == '{"a": "\\u00e9"}'


@each
def test_a_close_of_the_application(site, begin):
    """It comes last, with its code and reason, and the connection is over."""

    class Closing(Room):
        def receive(self, message):
            self.reply("bye", close=4001, reason="enough")

    client = site(routes_of(Closing))
    with begin(client) as one:
        one.send_text("x")
        one.expect_text("bye")
        assert one.expect_close(4001, "enough") == 4001
        assert one.closed
        with pytest.raises(AssertionError, match="it is not open: nothing can be sent"):
            one.send_text("y")
    assert Group("room").count() == 0


@each
def test_refused(site, begin):
    """A refused connect has its status, and every expectation says so."""

    class Refusing(Room):
        def connect(self, message):
            raise Reject(401, "who are you?")

    client = site(routes_of(Refusing))
    with begin(client) as one:
        assert (one.accepted, one.rejected, one.pending) == (False, 401, False)
        assert b"who are you?" in one.response.content
        with pytest.raises(AssertionError, match=r"nothing came.*\(it was refused: 401\)"):
            one.receive()


@each
def test_undecided(site, begin):
    """A connect that nobody decides on is pending, until the gateway's time for it is over."""

    class Undecided(Room):
        def connect(self, message):
            pass

    table = {"implicit_accept": False}
    with override_settings(GATEWAY={"websocket": table, "sse": table, "longpoll": table}):
        client = site(routes_of(Undecided))
        with begin(client) as one:
            assert one.pending
            with pytest.raises(AssertionError, match="nobody has decided on it yet"):
                one.expect_text()
            client.clock.advance(11)
            assert one.rejected == 503


@each
def test_what_a_consumer_raises(site, begin):
    """It is raised in the test, by the verb that ran it; or it is an outcome."""

    class Broken(Room):
        def receive(self, message):
            raise ZeroDivisionError

    client = site(routes_of(Broken))
    with begin(client) as one, pytest.raises(ZeroDivisionError):
        one.send_text("x")
    patient = client.another(raise_request_exception=False)
    with begin(patient) as one:
        answer = one.send_text("x")
        if begin is begin_websocket:
            one.expect_close(1011)
        else:
            assert (answer.status_code, one.outcome.kind) == (500, "failed")


@pytest.mark.parametrize("begin", BEGIN[1:], ids=IDS[1:])
def test_what_is_posted_is_answered(site, begin):
    """A post is answered by what became of it, and closes nothing."""

    class Strict(Room):
        def receive(self, message):
            raise Reject(422, "not that")

    client = site(routes_of(Strict))
    with begin(client) as one:
        answer = one.send_text("x")
        assert (answer.status_code, b"not that" in answer.content) == (422, True)
        assert not one.closed
        with client.together():
            assert one.send_text("y") is None


@each
def test_each_brings_cookies_and_headers(site, begin):
    """The request that asks brings the client's cookies, its headers and the query."""
    told = Told()
    protocols = ("websocket", "sse", "longpoll")
    client = site(
        route([f"{protocol}.connect" for protocol in protocols], told), headers={"x-a": "1"}
    )
    client.cookies["colour"] = "red"
    asked = {"query_params": {"q": "a b"}, "headers": {"x-b": "2"}, "secure": True}
    with begin(client, "/caf\xe9/", last_event_id="5-é", **asked):
        pass
    [message] = told.messages
    headers = dict(message["headers"])
    assert (headers[b"cookie"], headers[b"x-a"], headers[b"x-b"]) == (b"colour=red", b"1", b"2")
    assert message["path"] == "/café/"
    assert message["query_string"].startswith(b"q=a+b")
    assert message["scheme"] in ("https", "wss")
    assert message["last_event_id"] == "5-é"


@each
def test_streams_over_any_protocol(site, begin):
    """A demultiplexer serves all three, and answers each refusal in its own words."""

    class Sums(Consumer):
        def receive(self, message, multiplexer):
            multiplexer.send(len(message.text))

    class Page(Demultiplexer):
        protocols = ["websocket", "sse", "longpoll"]
        groups = ["page"]
        consumers = {"sums": Sums}

    client = site(routes_of(Page, path=path("page/")))
    with begin(client, "/page/") as one:
        one.send_json({"stream": "sums", "payload": [1, 2]})
        one.expect_json({"stream": "sums", "payload": 6})
        Multiplexer.group_send("page", "sums", None, history=3)
        one.expect_json({"stream": "sums", "payload": None})
        assert one.last_event_id
        refused = [
            one.send_json({"stream": "none", "payload": 1})
            if status == 404
            else one.send_json({"stream": "sums"})
            if status == 400
            else one.send_bytes(b"x")
            for status in ((404,) if begin is begin_websocket else (404, 400, 415))
        ]
        if begin is begin_websocket:
            one.expect_close(1008, "there is no stream 'none'")
        else:
            assert [answer.status_code for answer in refused] == [404, 400, 415]


@each
def test_it_ends_when_the_client_leaves(site, begin):
    """Leaving a block ends it as that client does, and its consumer has one disconnect."""
    told = Told()
    protocols = ("websocket", "sse", "longpoll")
    client = site(
        route([f"{protocol}.receive" for protocol in protocols], Told()),
        route([f"{protocol}.disconnect" for protocol in protocols], told),
    )
    with begin(client) as one:
        pass
    assert one.closed
    assert len(told.messages) == 1


@each
def test_a_site_ends_with_its_last_client(begin):
    """A connection that nobody closed keeps no site alive once it is forgotten."""
    before = set(threading.enumerate())
    client = GatewayClient(routing=[routes_of(Room)], plugins=PLUGINS)
    one = begin(client).connect()
    one.send_text("x")
    [own] = set(threading.enumerate()) - before
    del client, one
    gc.collect()
    assert not own.is_alive()


# ---------------------------------------------------------------- gateway.v1


def test_heartbeats(site):
    """A WebSocket that speaks gateway.v1 says how often something comes, and it does."""
    client = site(routes_of(Room))
    with begin_websocket(client) as ws:
        assert (ws.subprotocol, ws.keep_alive, ws.heartbeats) == ("gateway.v1", 20.0, 0)
        client.clock.advance(61)
        assert ws.heartbeats == 3
        ws.expect_nothing()


def test_a_raw_websocket_comes_back(site):
    """A raw WebSocket gets what it missed as plain messages; it is told no ids."""
    client = site(routes_of(Room))
    with begin_websocket(client) as ws:
        ws.send_text("0")
        since = ws.receive().id
    Group("room").send({"text": "1"}, history=5)
    with client.websocket("/?a=b", last_event_id=since) as raw:
        event = raw.receive()
        assert (event.value, event.id) == ("1", "")
        assert raw.last_event_id == since
        assert raw.keep_alive is None
    with client.websocket("/") as new:
        new.expect_nothing()


# ---------------------------------------------------------------- event streams


def test_events(site):
    """Events have names, ids of the application's own, and a moment to come back; comments pass."""

    class Named(Consumer):
        protocols = ["sse"]

        def connect(self, message):
            self.reply("hi\nthere", event="greeting", id="own-1", retry=5000, comment="hm")
            self.reply("second")
            self.reply(id="own-2")

    client = site(routes_of(Named))
    with client.sse("/") as stream:
        event = stream.expect_event("greeting", "hi\nthere")
        assert event == ("text", "hi\nthere", "own-1", "greeting", 5000)
        assert str(event) == "text 'hi\\nthere' name='greeting' id='own-1'"
        assert stream.receive() == ("text", "second", "", "", None)
        assert (stream.last_event_id, stream.retry) == ("own-2", 5000)
        assert "hm" in stream.comments
        before = len(stream.comments)
        client.clock.advance(31)
        assert len(stream.comments) > before
        with pytest.raises(AssertionError, match="expected event greeting 'x', and nothing came"):
            stream.expect_event("greeting", "x")


def test_another_event_came(site):
    """An event of another name fails an expectation, with both names."""

    class Named(Consumer):
        protocols = ["sse"]

        def connect(self, message):
            self.reply("hi", event="greeting")

    client = site(routes_of(Named))
    with client.sse("/") as stream, pytest.raises(AssertionError) as caught:
        stream.expect_event("news")
    assert "expected event news, got text 'hi' name='greeting'" in str(caught.value)


def test_a_stream_without_a_location(site):
    """A stream that did not ask for one has no location, and says so."""
    client = site(routes_of(Room))
    with client.sse("/") as stream:
        assert stream.location is None
        with pytest.raises(AssertionError, match=r"told no location.*posts=True\) is"):
            stream.send_text("x")
    with client.sse("/", posts=True) as stream:
        assert stream.location.startswith("/?gateway_connection=sse.p_")
        assert stream.keep_alive == 15.0


def test_not_to_come_back(site):
    """204 tells a page not to come back; a request that nobody routes is one of HTTP."""

    class Gone(Consumer):
        protocols = ["sse"]

        def connect(self, message):
            self.reply(status=204)

    client = site(routes_of(Gone, path=path("gone/")))
    with client.sse("/gone/") as stream:
        assert stream.rejected == 204
    with client.sse("/elsewhere/") as stream:
        assert stream.rejected == 404


def test_invalid_replies(site):
    """What an event cannot say fails the test."""

    class Wrong(Consumer):
        protocols = ["sse"]

        def connect(self, message):
            self.reply("x", event="a\nb")

    client = site(routes_of(Wrong))
    with pytest.raises(InvalidReplyError, match="event holds CR, LF or NUL"):
        client.sse("/").connect()


# ---------------------------------------------------------------- long polls


def test_polls_of_the_test(site):
    """Where the test polls, what came waits until it does; an answer that was lost comes again."""
    client = site(routes_of(Room))
    with client.longpoll("/", polls=False) as poll:
        assert [event.value for event in poll.poll()] == []
        Group("room").send({"text": "1"})
        Group("room").send({"text": "2"})
        poll.expect_nothing()
        assert [event.value for event in poll.poll()] == ["1", "2"]
        assert poll.poll(wait=5) == []
        with pytest.raises(RuntimeError, match="a poll waits already"):
            poll.poll()
        Group("room").send({"text": "3"})
        poll.expect_text("1")
        assert [poll.expect_text() for _ in range(2)] == ["2", "3"]
        assert poll.poll(wait=5) == []
        client.clock.advance(6)
        assert poll.poll() == []


def test_who_does_not_poll_is_gone(site):
    """A client that vanishes, or does not poll, is over after a minute; one that polls is not."""
    client = site(routes_of(Room))
    with client.longpoll("/") as there, client.longpoll("/", polls=False) as silent:
        client.longpoll("/").connect().cut()
        silent.poll()
        client.clock.advance(59)
        assert Group("room").count() >= 2
        client.clock.advance(30)
        assert Group("room").count() == 1
        there.send_text("x")
        there.expect_text("x")
        assert silent.poll() == []
        assert silent.closed
        assert silent.outcome.kind == "accepted"


def test_polling_has_its_rules(site):
    """A connection that polls by itself is not polled; one that is not open neither."""
    client = site(routes_of(Room))
    with (
        client.longpoll("/") as poll,
        pytest.raises(RuntimeError, match=r"polls=False\) leaves it"),
    ):
        poll.poll()
    with pytest.raises(AssertionError, match="use it in a with block"):
        client.longpoll("/", polls=False).poll()


def test_a_close_ends_it(site):
    """The client says that it leaves: what is on its way is over, and the location unknown."""
    client = site(routes_of(Room))
    with client.longpoll("/") as poll:
        location = poll.location
        poll.close()
        assert poll.closed
        poll.close()
        assert Group("room").count() == 0
    assert client.post(location, "x", content_type="text/plain").status_code == 404


# ---------------------------------------------------------------- wrong usages


@pytest.mark.parametrize("name", ["sse", "longpoll"])
def test_a_plugin_that_is_not_served(client_of, name):
    """A protocol that the site does not have is named, with where it is said."""
    client = client_of(routes_of(Room), plugins=["http", "websocket"])
    with pytest.raises(LookupError, match=rf"needs the plugin '{name}'.*plugins=\["):
        getattr(client, name)("/").connect()


def test_wrong_arguments(site):
    """What no method takes is told, with what it does."""
    client = site(routes_of(Room))
    with pytest.raises(TypeError, match=r"sse\(\) takes no 'post': posts, headers"):
        client.sse("/", post=True)
    with pytest.raises(TypeError, match=r"longpoll\(\) takes no 'poll': polls, headers"):
        client.longpoll("/", poll=True)
    with pytest.raises(ValueError, match=r"sse\('news/'\): a path begins with '/': '/news/'"):
        client.sse("news/")
    with client.longpoll("/") as poll, pytest.raises(TypeError, match="there are send_bytes"):
        poll.send_text(b"x")


def test_the_fixture_has_them(gateway_client):
    """pytest's fixture is a client with the plugins of the settings."""
    assert isinstance(gateway_client, GatewayClient)
    with pytest.raises(LookupError, match="needs the plugin 'sse'"):
        gateway_client.sse("/").connect()
