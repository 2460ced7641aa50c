"""Channel, Group and Message: names, values, and acting at once outside a consumer."""

import asyncio

import pytest

import gateway
from django_gateway import Channel, Group, Message, Reject, asgi
from django_gateway.exceptions import ConsumeLater


@pytest.fixture
def layer(url):
    """The default layer of this process."""
    layer = gateway.open_layer(url)
    asgi.channel_layers.use(layer)
    yield layer
    asgi.channel_layers.use(None)
    layer.close()


def test_outside_a_consumer_sends_act_at_once(layer):
    """Outside a consumer there is no buffer."""
    Channel("a").send({"n": 1})
    assert layer.receive(["a"]) == ("a", {"n": 1})
    Group("g").add("a")
    Group("g").add(Channel("b"))
    assert Group("g").count() == 2
    assert sorted(Group("g").channels()) == ["a", "b"]
    Group("g").send({"n": 2}, exclude=[Channel("b")])
    Group("g").discard("a")
    assert layer.receive(["a", "b"]) == ("a", {"n": 2})
    assert layer.receive(["a", "b"]) == (None, None)
    assert Group("g").channels() == ["b"]


def test_on_a_loop_the_twins_act_at_once(layer):
    """On a loop the twins do the same; a plain verb there names its twin."""

    async def act():
        await Channel("a").asend({"n": 1})
        assert await layer.areceive(["a"]) == ("a", {"n": 1})
        await Group("g").aadd("a")
        await Group("g").aadd("b")
        assert await Group("g").acount() == 2
        await Group("g").asend({"n": 2}, exclude=["b"])
        await Group("g").adiscard("a")
        assert await layer.areceive(["a", "b"]) == ("a", {"n": 2})
        assert await Group("g").achannels() == ["b"]
        for call, said in (
            (lambda: Channel("a").send({}), "Channel.send() …: await Channel.asend() instead"),
            (lambda: Group("g").send({}), "Group.send() …: await Group.asend() instead"),
            (lambda: Group("g").add("a"), "Group.add() …: await Group.aadd() instead"),
            (lambda: Group("g").discard("a"), "Group.discard() …: await Group.adiscard() instead"),
            (lambda: Group("g").channels(), "Group.channels() …: await Group.achannels() instead"),
            (lambda: Group("g").count(), "Group.count() …: await Group.acount() instead"),
        ):
            with pytest.raises(RuntimeError) as caught:
                call()
            assert str(caught.value) == said.replace("…", "would block the running event loop")

    asyncio.run(act())


def test_a_full_channel_refuses(layer):
    """Acting at once, a send without room raises ChannelFull."""
    for _ in range(layer.options.capacity):
        Channel("a").send({})
    with pytest.raises(gateway.ChannelFull):
        Channel("a").send({})


def test_reply_outside_a_consumer(layer):
    """A message can be answered later, from anywhere."""
    Message({"reply_channel": "a"}, "b").reply("hi", subject="x")
    assert layer.receive(["a"]) == ("a", {"text": "hi", "subject": "x"})


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (lambda message: message.reply("hi"), {"text": "hi"}),
        (lambda message: message.reply(b"hi"), {"bytes": b"hi"}),
        (lambda message: message.reply(""), {"text": ""}),
        (lambda message: message.reply(status=404), {"status": 404}),
        (lambda message: message.reply("hi", close=True), {"text": "hi", "close": True}),
        (lambda message: message.accept(), {"accept": True}),
        (lambda message: message.accept(subprotocol="x"), {"accept": True, "subprotocol": "x"}),
        (lambda message: message.close(), {"close": True}),
        (lambda message: message.close(4000, "bye"), {"close": 4000, "reason": "bye"}),
    ],
)
def test_answers(layer, answer, content):
    """Each way to answer is the uniform reply."""
    answer(Message({"reply_channel": "a"}, "b"))
    assert layer.receive(["a"]) == ("a", content)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"text": "é"}, "é"),
        ({"text": ""}, ""),
        ({"bytes": "é".encode()}, "é"),
        ({"bytes": b"\xff"}, None),
        ({"bytes": None, "text": None}, None),
        ({}, None),
    ],
)
def test_text(content, text):
    """The text of a message is its text, or its bytes where they are UTF-8."""
    assert Message(content, "a").text == text


def test_a_message_is_a_mapping():
    """A message's content can be read from the message."""
    message = Message({"path": "/", "n": 1}, "a.b")
    assert message["path"] == "/"
    assert message.get("x", 3) == 3
    assert "n" in message
    assert list(message) == list(message.keys()) == ["path", "n"]
    assert list(message.values()) == ["/", 1]
    assert dict(message.items()) == message.content
    assert len(message) == 2
    assert message.channel == Channel("a.b")
    assert repr(message) == "<Message of a.b with path, n>"
    message.user = "somebody"  # what a decorator may add


def test_names():
    """Channels and groups are equal by name, and print as their names."""
    assert Channel("a") == Channel("a") != Channel("b")
    assert Group("a") == Group("a") != Channel("a")
    assert len({Channel("a"), Channel("a"), Group("a"), Group("a")}) == 2
    assert (str(Channel("a")), repr(Channel("a"))) == ("a", "Channel('a')")
    assert (str(Group("g")), repr(Group("g"))) == ("g", "Group('g')")


WRONG = {
    "no name": (lambda: Channel(3), TypeError, "a channel name is a str, not int"),
    "bad name": (
        lambda: Channel("a b"),
        ValueError,
        (
            "channel name 'a b' is not valid: ASCII letters, digits, '.', '-', '_', and one '?' or "
            "'!' that is not first"
        ),
    ),
    "bad group": (
        lambda: Group("a!b"),
        ValueError,
        "group name 'a!b' is not valid: ASCII letters, digits, '.', '-' and '_'",
    ),
    "a message as a member": (
        lambda: Group("g").add(Message({}, "a")),
        TypeError,
        (
            "a channel is a Channel or its name, not Message; the connection of a message is "
            "message.reply_channel"
        ),
    ),
    "one excluded": (
        lambda: Group("g").send({}, exclude="a"),
        TypeError,
        "Group.send(exclude=…) takes several channels: write exclude=['a']",
    ),
    "no dict": (
        lambda: Channel("a").send("text"),
        TypeError,
        "a message is a dict such as {'text': 'hello'}, not str",
    ),
    "reply of a dict": (
        lambda: Message({"reply_channel": "a"}, "b").reply({"text": "x"}),
        TypeError,
        (
            "message.reply() takes a str, bytes, or keys, not dict; write message.reply(**content) "
            "for a dict, or a text with json.dumps(…)"
        ),
    ),
    "empty reply": (
        lambda: Message({"reply_channel": "a"}, "b").reply(),
        TypeError,
        "message.reply() needs something to say",
    ),
    "nobody to reply to": (
        lambda: Message({}, "b").reply("x"),
        LookupError,
        "a message of 'b' has no reply_channel: nobody waits",
    ),
    "a reason as a code": (
        lambda: Reject("no"),
        TypeError,
        (
            "Reject(code, reason): the code is an int or None, not str; write Reject(reason=…) for a "
            "reason alone"
        ),
    ),
    "a reason that is no text": (
        lambda: Reject(403, 4),
        TypeError,
        "Reject(code, reason): the reason is a str, not 4",
    ),
    "a delay in the past": (
        lambda: ConsumeLater(-1),
        TypeError,
        "ConsumeLater(delay): seconds, zero or more, not -1",
    ),
    "another layer": (
        lambda: asgi.channel_layers["other"],
        KeyError,
        "\"there is no channel layer 'other', only 'default'\"",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(layer, case):
    """A wrong usage is refused with a text that names the fix."""
    use, error, text = WRONG[case]
    with pytest.raises(error) as caught:
        use()
    assert str(caught.value) == text
