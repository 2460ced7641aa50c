"""Keys of a reply that are one protocol's own: for its members laid over the rest."""

from __future__ import annotations

import pytest

from gateway.core.layers import codec
from gateway.core.plugin import Peer
from gateway.core.reply import InvalidReply, ReplyReader
from gateway.testing.fakes import FakeWire

from .toys import Recorder, Reply, Requests, Talks, World, talking

NAMES = ("talk", "ask", "mail")
CHANNELS = ("talk.connect", "talk.receive", "talk.disconnect")


@pytest.fixture
def reader():
    return ReplyReader(Reply, "talk", NAMES)


def read(reader, **reply):
    return reader.read(codec.encode(reply))


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"text": "a", "mail": {"subject": "A"}}, {"text": "a"}),
        ({"text": "a", "talk": {"text": "b", "close": 7}}, {"text": "b", "close": 7}),
        ({"text": "a", "talk": {"bytes": b"b"}, "mail": {}}, {"bytes": b"b"}),
        ({"bytes": b"a", "talk": {"text": "b"}}, {"text": "b"}),
        ({"text": "a", "talk": {}}, {"text": "a"}),
        ({"talk": {"close": True}}, {"close": True}),
        ({"ack": 1, "ack_channel": "a?b", "mail": {}}, None),
        ({"mail": {"subject": "A"}, "ask": {"anything": [1]}}, None),
        ({"talk": {}}, None),
    ],
)
def test_own_keys_are_laid_over_the_rest(reader, reply, said):
    """A protocol's own keys are laid over the common ones, of text and bytes one for the other;
    other protocols' keys are not read, and a reply of nothing else is none.
    """
    assert read(reader, **reply) == said


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"text": "a", "mial": {"subject": "A"}}, "^unknown key 'mial'; did you mean 'mail'[?]$"),
        (
            {"text": "a", "talk": {"txet": "b"}},
            "^unknown key 'txet' in 'talk'; did you mean 'text'[?]$",
        ),
        ({"text": "a", "mail": "hunter2"}, "^'mail' is a protocol: what is for it alone is a dict"),
        ({"text": "a", "talk": None}, "^'talk' is a protocol"),
        ({"text": 1, "mail": {}}, r"^Expected `str`, got `int` at `\$.text`$"),
        (
            {"text": "a", "talk": {"password": "hunter2"}},
            r"^Expected `str` of length <= 4 at `\$.password`, together with what is in 'talk'$",
        ),
        ({"talk": {"text": "a", "bytes": b"b"}}, "^both 'text' and 'bytes'$"),
        ({"text": "a", "bytes": b"b", "mail": {}}, "^both 'text' and 'bytes'$"),
    ],
)
def test_own_keys_that_are_wrong(reader, reply, reason):
    """A name that no plugin has, a key or type that the protocol does not know: an invalid reply,
    whose reason shows no value.
    """
    with pytest.raises(InvalidReply, match=reason) as caught:
        read(reader, **reply)
    assert "hunter2" not in str(caught.value)


def test_a_key_of_the_schema_is_no_protocol():
    """Where a protocol's own format has a key that another plugin is called by, it is that key."""
    reader = ReplyReader(Reply, "talk", ("password", "text"))
    assert read(reader, password="pw", text="a") == {"password": "pw", "text": "a"}
    with pytest.raises(InvalidReply, match=r"at `.*password`"):
        read(reader, password={"text": "a"})


def test_a_key_twice_beside_own_keys(reader):
    """Own keys do not hide that a key stands twice."""
    payload = b"\x83\xa4mail\x80\xa4text\xa1a\xa4text\xa1b"
    with pytest.raises(InvalidReply, match=r"^a key stands twice$"):
        reader.read(payload)


def test_direct_replies():
    """A direct reply has its protocol's own keys; one for others alone says nothing, and its ack
    is answered.
    """
    world = talking(protocols=NAMES)
    channel = world.connection.reply_channel
    world.edge.reply(channel, {"text": "a", "talk": {"text": "b"}, "mail": {"subject": "A"}})
    world.edge.reply(channel, {"mail": {"subject": "A"}})
    world.edge.reply(channel, {"mail": {}, "ack": 5, "ack_channel": "acks?x"})
    assert world.wire.written == ["welcome", "b"]
    assert world.dropped == {}
    [(name, answer)] = world.edge.called("send")
    assert (name, answer["ack"], answer["outcome"]) == ("acks?x", 5, "accepted")
    assert answer["reply_channel"] == channel


def test_a_reply_for_others_decides_nothing():
    """A reply that is for other protocols alone leaves a connection undecided."""
    world = talking(accept=False, protocols=NAMES)
    heard = []
    world.session.send = lambda conversation, reply, token: heard.append(reply) or ()
    world.edge.reply(world.connection.reply_channel, {"mail": {"accept": True}})
    assert heard == []


def test_own_keys_before_the_disconnect():
    """A reply for other protocols to a connection that is gone pins nothing."""
    world = talking(protocols=NAMES)
    world.connection.received("a")
    [post] = world.edge.take()
    world.connection.lost()
    world.edge.reply(world.connection.reply_channel, {"mail": {"pin": "pin.p_other0000000"}})
    assert world.connection.pin is None
    assert post.messages


def test_group_members_have_their_own():
    """Of one message of a group the members of each protocol get their own, framed once each."""
    world = talking(protocols=NAMES)
    asks = world.engine.context(Requests, None)
    wires = [FakeWire(), FakeWire()]
    for wire in wires:
        connection = asks.attach(Recorder(kind="request"), wire, Peer())
        world.edge.join("g", connection.reply_channel)
    world.edge.join("g", world.connection.reply_channel)
    world.edge.group_message("g", {"text": "door open", "ask": {"text": "DOOR"}, "mail": {}})
    world.edge.group_message("g", {"ask": {"text": "asks alone"}})
    world.edge.group_message("g", {"text": "for all"})
    assert world.wire.written == ["welcome", ("frame", "door open"), ("frame", "for all")]
    said = [("frame", "DOOR"), ("frame", "asks alone"), ("frame", "for all")]
    assert [wire.written for wire in wires] == [said, said]
    assert world.dropped == {}


def test_group_message_that_is_wrong_for_one(caplog):
    """A wrong key in one protocol's own costs its members the message, and nobody else."""
    world = talking(protocols=NAMES)
    asks = world.engine.context(Requests, None)
    wire = FakeWire()
    connection = asks.attach(Recorder(kind="request"), wire, Peer())
    world.edge.join("g", connection.reply_channel)
    world.edge.join("g", world.connection.reply_channel)
    world.edge.group_message("g", {"text": "a", "ask": {"txet": "b"}})
    assert wire.written == []
    assert world.wire.written == ["welcome", ("frame", "a")]
    assert world.dropped == {"invalid": 1}
    assert "dropped by ask: unknown key 'txet' in 'ask'" in caplog.text


def test_addresses_and_channels_that_a_plugin_reads(caplog):
    """What comes to an address or a channel of a plugin has its own keys, no others'; where it is
    for others alone the plugin does not hear it, and an ack is answered.
    """
    world = World(protocols=("ask", "talk"))
    heard = []
    world.context.listen("ask.out", lambda channel, message: heard.append((channel, message)))
    world.context.listen("ask.out!", lambda channel, message: heard.append((channel, message)))
    asks = {"ack": 3, "ack_channel": "acks?x"}
    world.edge.reply("ask.out!roof", {"text": "a", "talk": {"text": "b"}, "ask": {"close": 1}})
    world.edge.reply("ask.out", {"text": "a", "ask": {"bytes": b"b"}})
    world.edge.reply("ask.out", {"talk": {"text": "b"}, **asks})
    world.edge.reply("ask.out", {"text": "a", "talk": 5, **asks})
    world.edge.reply("ask.out", {"text": "plain", "more": "its own business"})
    assert heard == [
        ("ask.out!roof", {"text": "a", "close": 1}),
        ("ask.out", {"bytes": b"b"}),
        ("ask.out", {"text": "plain", "more": "its own business"}),
    ]
    answers = [(message["ack"], message["outcome"]) for _, message in world.edge.called("send")]
    assert answers == [(3, "accepted"), (3, "failed")]
    assert world.dropped == {"invalid": 1}
    assert "ask.out: invalid message dropped: 'talk' is a protocol" in caplog.text


def test_own_keys_of_a_listener_that_nobody_else_has():
    """A plugin's own name is known to it wherever it runs, without a list of the others."""
    world = World(Talks, CHANNELS)
    heard = []
    world.context.listen("talk.outgoing", lambda _, message: heard.append(message))
    world.edge.reply("talk.outgoing", {"talk": {"text": "b"}})
    assert heard == [{"text": "b"}]
