"""`GatewayClient` and WebSockets, channels, time: what a test sees of the whole site."""

import asyncio
import json
import re

import pytest
from django.test import override_settings

from django_gateway import Channel, ConsumeLater, Group, Reject, route
from django_gateway.asgi import channel_layers
from django_gateway.testing import InvalidReplyError, StuckError
from django_gateway.testing import inline as inline_module
from tests.django.toys import ECHO, Told, aecho, echo, join, tell

# ---------------------------------------------------------------- websocket


@pytest.mark.parametrize("consumer", [echo, aecho])
def test_what_is_said_is_answered_when_the_verb_returns(client_of, consumer):
    """Sending runs the consumer and all that follows, synchronous or not."""
    client = client_of(route("websocket.receive", consumer))
    with client.websocket("/chat/") as ws:
        ws.send_text("hi")
        assert [str(event) for event in ws.received] == ["text 'hi'"]
        assert ws.expect_text("hi") == "hi"
        assert ws.expect_nothing() is None


def test_what_came_may_be_forgotten(client_of):
    """The next expectation is of what comes afterwards; `received` has all of it still."""
    client = client_of(route("websocket.receive", echo))
    with client.websocket("/chat/") as ws:
        ws.send_text("one")
        ws.send_text("two")
        ws.forget()
        assert ws.waiting == []
        ws.expect_nothing()
        ws.send_text("three")
        ws.expect_text("three")
        assert [event.value for event in ws.received] == ["one", "two", "three"]


def test_each_kind_of_message_has_its_expectation(client_of):
    """Texts, bytes and JSON are expected as such; a regular expression is searched for."""

    def answer(message):
        if message.get("bytes") is not None:
            message.reply(message["bytes"][::-1])
        else:
            message.reply(json.dumps({"got": json.loads(message.text)}))

    client = client_of(route("websocket.receive", answer))
    with client.websocket("/") as ws:
        ws.send_bytes(b"abc")
        assert ws.expect_bytes(b"cba") == b"cba"
        ws.send_json([1, "é"])
        assert ws.expect_json({"got": [1, "é"]}) == {"got": [1, "é"]}
        ws.send_json(2)
        assert ws.expect_text(re.compile(r"got.*2")) == '{"got": 2}'
        ws.send_json(3)
        assert ws.expect("text") == '{"got": 3}'


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 300_000])
def test_messages_of_any_length_arrive_whole(client_of, size):
    """The three ways of writing a frame's length are known, in both directions."""
    with client_of(ECHO).websocket("/") as ws:
        ws.send_text("x" * size)
        assert ws.expect_text() == "x" * size


def test_a_connect_carries_what_the_client_asked_with(client_of):
    """Path, query, headers, cookies, subprotocols and scheme are those of the call."""
    connect = Told(lambda message: message.accept(subprotocol="v2"))
    client = client_of(route("websocket.connect", connect), ECHO, headers={"x-all": "1"})
    client.cookies["colour"] = "red"
    asked = {"headers": {"X-One": "2"}, "query_params": {"a": "b c"}, "secure": True}
    with client.websocket("/caf\xe9/?", subprotocols=["v1", "v2"], **asked) as ws:
        assert ws.subprotocol == "v2"
    [message] = connect.messages
    headers = dict(message["headers"])
    assert message["path"] == "/café/"
    assert message["query_string"] == b"a=b+c"
    assert message["scheme"] == "wss"
    assert message["subprotocols"] == ["v1", "v2"]
    assert headers[b"cookie"] == b"colour=red"
    assert (headers[b"x-all"], headers[b"x-one"]) == (b"1", b"2")
    assert message["order"] == 0


@pytest.mark.parametrize(
    ("decide", "status"),
    [
        (lambda message: message.reply(accept=False), 403),
        (lambda message: message.reply(status=429, content=b"slowly"), 429),
        (lambda message: message.close(), 403),
    ],
)
def test_a_refusal_is_a_status(client_of, decide, status):
    """A connect that is refused is not accepted, and has the status of the response."""
    client = client_of(route("websocket.connect", decide), ECHO)
    with client.websocket("/") as ws:
        assert (ws.accepted, ws.rejected, ws.pending) == (False, status, False)
        assert ws.response.status == status


def test_reject_is_an_outcome_and_no_exception(client_of):
    """`Reject` is a decision: nothing is raised in the test, the outcome tells of it."""

    def connect(message):
        raise Reject(404, "no such room")

    def receive(message):
        raise Reject(4001, "not here")

    client = client_of(
        route("websocket.connect", connect, path="^/closed"), route("websocket.receive", receive)
    )
    with client.websocket("/closed/") as ws:
        assert ws.rejected == 404
        assert b"no such room" in ws.response.content
        assert (ws.outcome.kind, ws.outcome.code, ws.outcome.reason) == (
            "rejected",
            404,
            "no such room",
        )


def test_the_application_closes(client_of):
    """A close has its code and reason, after what was said before it."""

    def receive(message):
        message.reply("bye", close=4003, reason="go")

    disconnect = Told()
    client = client_of(
        route("websocket.receive", receive), route("websocket.disconnect", disconnect)
    )
    with client.websocket("/") as ws:
        ws.send_text("?")
        ws.expect_text("bye")
        assert ws.expect_close(4003, "go") == 4003
        assert ws.closed
        with pytest.raises(AssertionError, match="it is not open: nothing can be sent"):
            ws.send_text("more")
    assert [message["code"] for message in disconnect.messages] == [4003]


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        (lambda ws: ws.close(), 1000),
        (lambda ws: ws.close(4000, "done"), 4000),
        (lambda ws: ws.close(None), 1005),
        (lambda ws: ws.cut(), 1006),
        (lambda ws: None, 1000),
    ],
)
def test_each_accepted_connection_has_one_disconnect(client_of, leave, code):
    """However a client leaves, or the block ends, one disconnect is run."""
    disconnect = Told()
    client = client_of(ECHO, route("websocket.disconnect", disconnect))
    with client.websocket("/") as ws:
        leave(ws)
        ws.close()
    assert [message["code"] for message in disconnect.messages] == [code]


def test_a_connection_needs_no_block(client_of):
    """`connect` and `close` do what the block does."""
    disconnect = Told()
    client = client_of(ECHO, route("websocket.disconnect", disconnect))
    ws = client.websocket("/").connect()
    ws.send_text("a")
    ws.expect_text("a")
    ws.close()
    assert len(disconnect.messages) == 1
    with pytest.raises(RuntimeError, match="was connected before"):
        ws.connect()


def test_a_group_of_ten(client_of):
    """Ten members hear what one says, who is left out; each in its own connection."""
    client = client_of(route("websocket.connect", join), route("websocket.receive", tell))
    sockets = [client.websocket(f"/{number}/").connect() for number in range(10)]
    sockets[0].send_text("hello")
    for ws in sockets[1:]:
        ws.expect_text("hello")
    for ws in sockets:
        ws.expect_nothing()
    Group("room").send({"text": "from the test"})
    for ws in sockets:
        ws.expect_text("from the test")


def test_clients_of_one_site_share_everything_but_cookies(client_of):
    """`another` is a second browser at the same site; a client of its own is another site."""
    ann = client_of(route("websocket.connect", join), route("websocket.receive", tell))
    bob = ann.another(headers={"x-name": "bob"})
    stranger = client_of(route("websocket.connect", join))
    ann.cookies["a"] = "1"
    assert not bob.cookies
    with ann.websocket("/") as one, bob.websocket("/") as two, stranger.websocket("/") as three:
        one.send_text("hi")
        two.expect_text("hi")
        three.expect_nothing()


def test_what_is_sent_together_is_run_after_all_of_it_was_sent(client_of):
    """Within `together` nothing is run; what waited behind an unsettled message leaves as one."""
    seen = []

    def receive(message):
        seen.append(message.text)
        Group("room").send({"text": message.text})

    client = client_of(route("websocket.connect", join), route("websocket.receive", receive))
    with client.websocket("/") as one, client.websocket("/") as two:
        with client.together():
            for text in ("a", "b", "c"):
                one.send_text(text)
            two.send_text("d")
            assert seen == []
        assert sorted(seen) == ["a", "b", "c", "d"]
        assert [text for text in seen if text != "d"] == ["a", "b", "c"]


def test_the_reply_is_checked_as_the_gateway_checks_it(client_of):
    """A reply that the real gateway would drop fails the test, with the gateway's reason."""

    def receive(message):
        message.reply(text="a", bytes=b"b")

    with client_of(route("websocket.receive", receive)).websocket("/") as ws:
        with pytest.raises(InvalidReplyError, match="both 'text' and 'bytes'"):
            ws.send_text("?")
        ws.expect_nothing()


def test_pings_are_answered(client_of):
    """A connection that says nothing lives on: its end answers the gateway's pings."""
    with client_of(ECHO).websocket("/") as ws:
        ws._client.clock.advance(600)
        ws.send_text("still here")
        ws.expect_text("still here")


# ---------------------------------------------------------------- what goes wrong


def broken(message):
    raise ZeroDivisionError("oops")


async def abroken(message):
    raise ZeroDivisionError("oops")


@pytest.mark.parametrize("consumer", [broken, abroken])
def test_what_a_consumer_raises_is_raised_in_the_test(client_of, consumer):
    """The exception itself arrives, once, with a note that says where it was raised."""
    with client_of(route("websocket.receive", consumer)).websocket("/") as ws:
        with pytest.raises(ZeroDivisionError, match="oops") as caught:
            ws.send_text("?")
        [note] = caught.value.__notes__
        assert note.endswith("broken, on websocket.receive")
        ws.expect_close(1011)


@pytest.mark.parametrize("consumer", [broken, abroken])
def test_exceptions_may_be_outcomes(client_of, consumer):
    """With raise_request_exception=False a test sees what a client outside sees."""
    client = client_of(route("websocket.receive", consumer), raise_request_exception=False)
    with client.websocket("/") as ws:
        ws.send_text("?")
        ws.expect_close(1011)
        assert (ws.outcome.kind, ws.outcome.cause) == ("failed", "ZeroDivisionError")


def test_a_failed_expectation_tells_the_whole_story(client_of):
    """The text says what was wanted, what came, what was run, what waits and what was dropped."""

    def receive(message):
        message.reply(f"you said {message.text}")
        Channel("thumbnails.make").send({"id": 7})

    client = client_of(route("websocket.receive", receive))
    with client.websocket("/chat/lobby/") as ws:
        ws.send_text("hi")
        with pytest.raises(AssertionError) as caught:
            ws.expect_text("hello")
        assert str(caught.value) == GOLDEN_OTHER
        with pytest.raises(AssertionError) as caught:
            ws.expect_bytes()
        assert str(caught.value) == GOLDEN_NOTHING


GOLDEN_OTHER = """\
/chat/lobby/: expected text 'hello', got text 'you said hi'
  it was sent:
    text 'you said hi'
  the application ran:
    websocket.receive path='/chat/lobby/' text='hi': accepted
  nobody has taken:
    thumbnails.make id=7"""

GOLDEN_NOTHING = """\
/chat/lobby/: expected bytes, and nothing came: nothing is left to do
  it was sent:
    text 'you said hi'
  the application ran:
    websocket.receive path='/chat/lobby/' text='hi': accepted
  nobody has taken:
    thumbnails.make id=7"""


def test_a_failed_expectation_is_chained_to_what_a_consumer_raised(client_of):
    """Where failures are outcomes the exception is the cause of the failed expectation."""

    def later(message):
        raise ConsumeLater(5) if message.attempt == 1 else ZeroDivisionError("oops")

    client = client_of(route("websocket.receive", later), raise_request_exception=False)
    with client.websocket("/") as ws:
        with client.together():
            ws.send_text("?")
        with pytest.raises(AssertionError) as caught:
            ws.expect_text()
        assert str(caught.value) == GOLDEN_LATER
        ws._site.worker.work_until(lambda: False, 5)  # as advance, without looking at failures
        with pytest.raises(
            AssertionError, match="got close 1011 'the application failed'"
        ) as again:
            ws._expect("text", "x")
        assert isinstance(again.value.__cause__, ZeroDivisionError)


GOLDEN_LATER = """\
/: expected text, and nothing came: nothing is left to do
  the application ran:
    websocket.receive path='/' text='?': released (for 5 s)
  nobody has taken:
    websocket.receive path='/' text='?', in 5 s"""


def test_wrong_states_are_told(client_of):
    """An expectation of a connection that was refused, or never made, says so."""
    client = client_of(route("websocket.connect", lambda message: message.close()))
    with client.websocket("/no/") as ws, pytest.raises(AssertionError) as caught:
        ws.expect_text("hi")
    assert "(it was refused: 403)" in str(caught.value)
    with pytest.raises(AssertionError, match="use it in a with block, or call connect"):
        client.websocket("/").expect_text("hi")
    with client.websocket("/") as ws, pytest.raises(TypeError, match="there are send_bytes"):
        ws.send_text(b"hi")
    with pytest.raises(ValueError, match="a path begins with '/': '/chat/'"):
        client.websocket("chat/")
    with pytest.raises(TypeError, match="takes no 'subprotocol': subprotocols, headers"):
        client.websocket("/", subprotocol="v1")


def test_a_consumer_that_never_ends_is_told(client_of, monkeypatch):
    """A test does not hang: what runs too long is named."""
    monkeypatch.setattr(inline_module, "PATIENCE", 0.2)

    async def forever(message):
        await asyncio.get_running_loop().create_future()

    client = client_of(route("websocket.receive", forever))
    with client.websocket("/") as ws:
        with pytest.raises(StuckError, match=r"still running: websocket\.receive"):
            ws.send_text("?")
        client.raise_request_exception = False


def test_a_consumer_that_waits_for_ever_is_told(client_of, monkeypatch):
    """Neither does a test hang whose consumer waits for messages again and again."""
    monkeypatch.setattr(inline_module, "PATIENCE", 0.2)

    def forever(message):
        while True:
            channel_layers["default"].receive(["nobody.sends"], block=60)

    client = client_of(route("websocket.receive", forever))
    with client.websocket("/") as ws, pytest.raises(StuckError, match="went on waiting"):
        ws.send_text("?")


# ---------------------------------------------------------------- time


def test_consume_later_follows_the_clock(client_of):
    """A message that is put back is offered again when its delay is over, and not before."""
    attempts = []

    def receive(message):
        attempts.append(message.attempt)
        if message.attempt < 3:
            raise ConsumeLater(10)
        message.reply("now")

    client = client_of(route("websocket.receive", receive))
    with client.websocket("/") as ws:
        ws.send_text("?")
        assert ws.outcome.kind == "released"
        client.clock.advance(9.9)
        assert attempts == [1]
        client.clock.advance(0.2)
        assert attempts == [1, 2]
        ws.expect_nothing()
        client.clock.advance(10)
        ws.expect_text("now")


@override_settings(GATEWAY={"websocket": {"implicit_accept": False}})
def test_a_decision_may_be_waited_for(client_of):
    """A pending connection is refused when the time for its decision is over."""
    client = client_of(route("websocket.connect", Told()), ECHO)
    with client.websocket("/") as ws:
        assert ws.pending
        client.clock.advance(9)
        assert ws.pending
        client.clock.advance(2)
        assert ws.rejected == 503
    told = Told()
    client = client_of(route("websocket.connect", told), ECHO)
    with client.websocket("/") as ws:
        Channel(told.messages[0]["reply_channel"]).send({"accept": True})
        client.run()
        assert ws.accepted


def test_messages_expire(client_of):
    """What nobody takes is gone when its lifetime is over."""
    client = client_of(ECHO)
    Channel("somebody.else").send({"a": 1})
    client.clock.advance(59)
    Channel("somebody.else").send({"a": 2})
    client.clock.advance(2)
    assert client.expect("somebody.else") == {"a": 2}
    client.expect_nothing("somebody.else")


def test_the_time_passes_while_a_consumer_waits(client_of):
    """A blocking receive in a consumer costs virtual time, and others are run meanwhile."""

    def ask(message):
        layer = channel_layers["default"]
        mine = layer.new_channel("answers?")
        Channel("work.do").send({"answer": mine}, immediately=True)
        message.reply(layer.receive([mine], block=30)[1]["text"])
        message.reply(str(layer.receive([mine], block=30)[1]))

    async def work(message):
        await Channel(message["answer"]).asend({"text": "done"}, immediately=True)

    client = client_of(route("websocket.receive", ask), route("work.do", work))
    before = client.clock.time()
    with client.websocket("/") as ws:
        ws.send_text("?")
        ws.expect_text("done")
        ws.expect_text("None")
    assert client.clock.time() - before == pytest.approx(30, abs=0.2)


# ---------------------------------------------------------------- channels


def test_channels_of_ones_own(client_of):
    """A routed channel is sent to; what goes to one that nobody routes is expected."""

    def make(message):
        Channel("email.send").send({"text": f"made {message['id']}"})

    client = client_of(route("thumbnails.make", make))
    client.send("thumbnails.make", {"id": 7})
    assert client.expect("email.send", {"text": "made 7"}) == {"text": "made 7"}
    client.expect_nothing("email.send")
    client.send("thumbnails.make", {"id": 8})
    with pytest.raises(AssertionError) as caught:
        client.expect("email.send", {"text": "made 9"})
    assert str(caught.value) == (
        "expected {'text': 'made 9'} on 'email.send', got {'text': 'made 8'}\n"
        "  the application ran:\n"
        "    thumbnails.make id=7: accepted\n"
        "    thumbnails.make id=8: accepted"
    )
    with pytest.raises(AssertionError, match=r"expected a message on 'email.send', and there is n"):
        client.expect("email.send")
    with pytest.raises(ValueError, match=r"is routed to .*make, which has had its messages"):
        client.expect("thumbnails.make")


def test_addresses_are_expected_by_their_names(client_of):
    """What is sent to an address waits under that name."""
    client = client_of(ECHO)
    Channel("mqtt.publish!lamp").send({"text": "on"})
    assert client.expect("mqtt.publish!lamp") == {"text": "on"}


# ---------------------------------------------------------------- loops


def test_a_test_may_bring_its_own_loop(client_of):
    """Without Django's test cases the twins work on any loop, one site with several at once."""

    async def ask(message):
        layer = channel_layers["default"]
        mine = layer.new_channel("answers?")
        await Channel("work.do").asend({"answer": mine}, immediately=True)
        _, answer = await layer.areceive([mine], block=30)
        message.reply(answer["text"])

    def work(message):
        Channel(message["answer"]).send({"text": "done"})

    client = client_of(route("websocket.receive", ask), route("work.do", work))

    async def talk(path):
        async with client.websocket(path) as ws:
            for _ in range(3):
                await ws.asend_text("?")
                await ws.aexpect_text("done")
            await ws.aexpect_nothing()

    async def run():
        before = client.clock.time()
        await talk("/0/")
        assert client.clock.time() == before, "time passed although there was work"
        async with client.websocket("/1/") as one, client.websocket("/2/") as two:
            async with client.together():
                await one.asend_text("?")
                await two.asend_text("?")
            await one.aexpect_text("done")
            await two.aexpect_text("done")
        answer = await client.aget("/async/")
        assert answer.status_code == 200

    asyncio.run(run())


def test_several_failures_are_one(client_of):
    """The first is raised, and tells how many came with it."""
    client = client_of(route("websocket.receive", broken))
    one, two = client.websocket("/1/").connect(), client.websocket("/2/").connect()

    def both():
        with client.together():
            one.send_text("?")
            two.send_text("?")

    with pytest.raises(ZeroDivisionError) as caught:
        both()
    assert caught.value.__notes__[1] == "and 1 more failed: ZeroDivisionError, on websocket.receive"
    one.expect_close(1011)
    two.expect_close(1011)
