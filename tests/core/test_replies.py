"""Replies: checked, handed on, bounded towards slow clients, acknowledged."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.layers import codec
from gateway.core.layers.base import OK, Outcome
from gateway.core.plugin import Accepted, Close, Done, Write
from gateway.core.reply import InvalidReply, ReplyReader, ack_of

from .toys import Recorder, Reply, Talks, World, talking


@pytest.fixture
def reader():
    return ReplyReader(Reply, "talk")


@pytest.mark.parametrize("keys", [0, 1, 15, 16, 70000])
def test_unknown_keys_are_counted_by_the_header(keys):
    """A key that the schema lacks is found whatever the size of the map, and is named."""
    reader = ReplyReader(Reply, "talk")
    message = {"text": "a", **{f"k{n}": n for n in range(keys)}}
    if keys:
        with pytest.raises(InvalidReply, match="unknown key 'k0'"):
            reader.read(codec.encode(message))
    else:
        assert reader.read(codec.encode(message)) == message


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (codec.encode({"text": 1}), r"^Expected `str`, got `int` at `\$.text`$"),
        (codec.encode({"text": "a", "bytes": b"b"}), "^both 'text' and 'bytes'$"),
        (codec.encode({"password": "hunter2"}), r"^Expected `str` of length <= 4 at"),
        (b"\x82\xa4text\xa1a\xa4text\xa1b", "^a key stands twice$"),
        (b"\x81", "^Input data was truncated$"),
        (b"\x93\x01\x02\x03", "^Expected `object`, got `array`$"),
    ],
    ids=["type", "both", "constraint", "twice", "cut", "no-dict"],
)
def test_invalid(reader, payload, reason):
    """A reply that its format does not allow is refused with a reason that shows no value."""
    with pytest.raises(InvalidReply, match=reason) as caught:
        reader.read(payload)
    assert "hunter2" not in str(caught.value)


def test_ack_of():
    """The ack of what nobody could deliver is found without a schema."""
    ack = {"ack": 7, "ack_channel": "acks?x"}
    assert ack_of(codec.encode(ack)) == (7, "acks?x")
    for wrong in ({"ack_channel": "acks?x"}, {**ack, "ack": "7"}, {**ack, "ack_channel": "acks"}):
        assert ack_of(codec.encode(wrong)) is None
    assert ack_of(b"\x81\xaback_channel") is None
    assert ack_of(codec.encode({**ack, "ack_channel": 5})) is None


def test_invalid_reply_is_logged_with_the_connection(caplog):
    """An invalid reply is dropped, counted, logged with connection and keys, never values."""
    world = talking()
    channel = world.connection.reply_channel
    world.edge.reply(channel, {"password": "hunter2"})
    world.edge.reply(channel, {"secret": "hunter2"})
    world.edge.reply(channel, {"text": "a", "bytes": b"hunter2"})
    world.edge.reply(channel, {"text": "fine"})
    assert world.wire.written == ["welcome", "fine"]
    assert world.dropped == {"invalid": 3}
    assert len(caplog.records) == 3
    assert all(channel in record.getMessage() for record in caplog.records)
    assert "hunter2" not in caplog.text


def test_impossible_reply(caplog):
    """What the protocol cannot do is an invalid reply; the connection goes on."""
    world = talking()
    world.edge.reply(world.connection.reply_channel, {"text": "impossible"})
    world.edge.reply(world.connection.reply_channel, {"text": "answerable"})
    world.edge.reply(world.connection.reply_channel, {"text": "fine"})
    assert world.wire.written == ["welcome", "sorry", "fine"]
    assert world.dropped == {"invalid": 2}
    assert world.wire.closed is None


def test_reply_that_breaks_the_session(caplog):
    """A session that raises in ``send`` is closed; its disconnect still comes."""
    world = talking()
    world.edge.reply(world.connection.reply_channel, {"text": "broken"})
    assert world.wire.closed == (b"", False)
    world.connection.lost()
    assert len(world.edge.called("end")) == 1


# ------------------------------------------------ slow clients


def slow(**settings):
    world = talking(**settings)
    world.connection.writable(False)
    world.wire.written.clear()
    return world


def test_outbox_keeps_order():
    """What waits for a client leaves in order once it reads, direct and group alike."""
    world = slow()
    channel = world.connection.reply_channel
    world.edge.join("g", channel)
    world.edge.reply(channel, {"text": "a"})
    world.edge.group_message("g", {"text": "b"})
    world.edge.reply(channel, {"text": "c"})
    assert world.wire.written == []
    world.connection.writable(True)
    assert world.wire.written == ["a", ("frame", "b"), "c"]
    world.edge.group_message("g", {"text": "d"})
    assert world.wire.written[3:] == [("frame", "d")]


def test_outbox_stops_where_the_client_does():
    """What waits leaves only as far as the client takes it."""
    world = slow()
    channel = world.connection.reply_channel
    for text in "abc":
        world.edge.reply(channel, {"text": text})
    write = world.wire.write

    def full(output):
        write(output)
        world.connection.writable(False)

    world.wire.write = full
    world.connection.writable(True)
    assert world.wire.written == ["a"]
    world.edge.join("g", channel)
    world.edge.group_message("g", {"text": "d"})
    world.wire.write = write
    world.connection.writable(True)
    assert world.wire.written == ["a", "b", "c", ("frame", "d")]


@pytest.mark.parametrize(
    ("policy", "written", "slow_drops"),
    [("drop_oldest", ["b", "c"], 1), ("drop_newest", ["a", "b"], 1)],
)
@pytest.mark.parametrize("bound", [{"outbox_messages": 2}, {"outbox_bytes": 20}])
def test_slow_consumer_drops(policy, written, slow_drops, bound):
    """A full outbox drops the oldest or the newest, counted, as it is told to."""
    world = slow(slow_consumer=policy, **bound)
    for text in "abc":
        world.edge.reply(world.connection.reply_channel, {"text": text})
    world.connection.writable(True)
    assert world.wire.written == written
    assert world.dropped == {"slow": slow_drops}
    assert world.wire.closed is None


def test_a_close_outlives_what_comes_after_it():
    """``drop_oldest`` drops around a close that waits: that client is ended, whatever follows."""
    world = slow(slow_consumer="drop_oldest", outbox_messages=2)
    for reply in ({"text": "a"}, {"close": True}, {"text": "b"}, {"text": "c"}):
        world.edge.reply(world.connection.reply_channel, reply)
    world.connection.writable(True)
    assert world.wire.closed is not None
    assert world.dropped["slow"] == 2


def test_slow_consumer_is_closed():
    """By default a client that does not read is cut off; its neighbours never notice."""
    world = slow(outbox_messages=2)
    other, wire = world.attach(Recorder())
    other.run([])
    for text in "abc":
        world.edge.reply(world.connection.reply_channel, {"text": text})
    assert world.wire.closed == (b"", True)
    assert wire.closed is None
    world.connection.lost()
    assert world.dropped == {"slow": 1, "gone": 2}


def test_close_is_never_dropped():
    """A slow client can be ended: its close waits beyond the bounds."""
    world = slow(slow_consumer="drop_newest", outbox_messages=1)
    channel = world.connection.reply_channel
    world.edge.reply(channel, {"text": "a"})
    world.edge.reply(channel, {"close": True})
    world.connection.writable(True)
    assert world.wire.written == ["a"]
    assert world.wire.closed == (b"bye", False)


def test_first_message_always_fits():
    """An empty outbox takes a message of any size."""
    world = slow(outbox_bytes=1)
    world.edge.reply(world.connection.reply_channel, {"text": "large"})
    world.connection.writable(True)
    assert world.wire.written == ["large"]


def test_direct_reply_decides_while_group_messages_wait():
    """A direct reply reaches a pending connection; a group's waits until it is accepted."""
    world = World(Talks, ("talk.connect", "talk.receive"))
    channel = world.connection.reply_channel
    world.edge.join("g", channel)
    world.edge.group_message("g", {"text": "group"})
    world.edge.reply(channel, {"text": "direct"})
    assert world.wire.written == ["direct"]
    world.connection.writable(False)
    world.edge.reply(channel, {"text": "decision"})
    assert world.wire.written == ["direct", "decision"]
    world.connection.writable(True)
    world.connection.run([Accepted(), Write("welcome")])
    assert world.wire.written == ["direct", "decision", "welcome", ("frame", "group")]


class Patient(msgspec.Struct):
    close_timeout: float = 5.0


def test_a_close_waits_for_a_client_only_so_long():
    """What stands before a close is to be read within close_timeout, else the client is cut off."""
    world = slow(config=Patient())
    channel = world.connection.reply_channel
    world.edge.reply(channel, {"text": "a"})
    world.clock.advance(60)
    world.edge.reply(channel, {"close": True})
    world.edge.reply(channel, {"close": True})
    world.clock.advance(4.9)
    assert world.wire.closed is None
    world.clock.advance(0.3)
    assert world.wire.closed == (b"", True)
    world.connection.lost()
    world.nothing_left()


def test_a_close_that_is_read_in_time():
    """Once what stands before the close was read, the time for it is over."""
    world = slow(config=Patient())
    world.edge.reply(world.connection.reply_channel, {"text": "a", "close": False})
    world.edge.reply(world.connection.reply_channel, {"close": True})
    world.clock.advance(4)
    world.connection.writable(True)
    assert world.wire.written == ["a"]
    assert world.wire.closed == (b"bye", False)
    world.clock.advance(60)
    assert world.wire.closed == (b"bye", False)
    world.connection.lost()
    world.nothing_left()


# ------------------------------------------------ acknowledgements


def ack(world, number, **reply):
    world.edge.reply(
        world.connection.reply_channel, {"ack": number, "ack_channel": "acks?x", **reply}
    )


def answers(world):
    found = [message for channel, message in world.edge.called("send") if channel == "acks?x"]
    assert all(m["reply_channel"].startswith("talk.send.") for m in found)
    return [(message["ack"], message["outcome"], message["reason"]) for message in found]


def test_ack():
    """An ack is answered once the reply is written."""
    world = talking()
    ack(world, 1, text="a")
    assert world.wire.written == ["welcome", "a"]
    assert world.edge.called("send") == [
        (
            "acks?x",
            {
                "ack": 1,
                "outcome": "accepted",
                "code": None,
                "reason": "",
                "reply_channel": world.connection.reply_channel,
            },
        )
    ]


def test_ack_waits_for_the_client():
    """An ack waits while the client does not take the bytes."""
    world = slow()
    ack(world, 1, text="a")
    assert answers(world) == []
    world.connection.writable(True)
    assert answers(world) == [(1, "accepted", "")]
    write = world.wire.write
    world.wire.write = lambda output: (write(output), world.connection.writable(False))
    ack(world, 2, text="b")
    assert len(answers(world)) == 1
    world.connection.writable(True)
    assert answers(world)[1:] == [(2, "accepted", "")]


def test_ack_of_a_session_that_knows_better():
    """A session that acknowledges says itself when it is done, and how."""
    world = talking()
    tokens = []

    class Acknowledging(Recorder):
        acknowledges = True

        def send(self, conversation, reply, token):
            tokens.append(token)
            return [Write(reply["text"])]

    world.session = Acknowledging()
    world.connection, world.wire = world.attach(world.session)
    ack(world, 1, text="a")
    ack(world, 2, text="b")
    assert answers(world) == []
    world.connection.run([Done(tokens[1], Outcome("rejected", 135, "no")), Done(tokens[0])])
    world.connection.run([Done(tokens[0])])
    assert answers(world) == [(2, "rejected", "no"), (1, "accepted", "")]


def test_ack_when_it_is_gone():
    """An ack is answered ``failed`` when the connection is gone, before or after."""
    world = slow()
    ack(world, 1, text="a")
    world.connection.lost()
    ack(world, 2, text="b")
    assert answers(world) == [
        (1, "failed", "the connection is gone"),
        (2, "failed", "the connection is gone"),
    ]
    other = talking()
    other.connection.run([Close()])
    ack(other, 3, text="c")
    assert answers(other) == [(3, "failed", "the connection is gone")]


def test_ack_of_an_invalid_reply(caplog):
    """An ack of what the protocol cannot do is ``failed``; without a channel it is invalid."""
    world = talking()
    ack(world, 1, text="impossible")
    assert answers(world) == [(1, "failed", "the reply is not valid")]
    for wrong in ({"ack": 1}, {"ack_channel": "acks?x"}, {"ack": 1, "ack_channel": "acks"}):
        world.edge.reply(world.connection.reply_channel, {"text": "a", **wrong})
    assert world.wire.written == ["welcome"]
    assert world.dropped == {"invalid": 4}


def test_ack_of_what_a_slow_client_loses():
    """An ack of a reply that is dropped for a slow client is ``failed``."""
    world = slow(slow_consumer="drop_oldest", outbox_messages=1)
    ack(world, 1, text="a")
    ack(world, 2, text="b")
    assert answers(world) == [(1, "failed", "the client does not read")]
    world.connection.writable(True)
    assert answers(world)[1:] == [(2, "accepted", "")]


def test_nothing_left():
    """After acks, slow clients and errors nothing of a connection is left."""
    world = slow()
    ack(world, 1, text="a")
    world.edge.join("g", world.connection.reply_channel)
    world.edge.group_message("g", {"text": "b"})
    world.connection.received("c")
    post = world.edge.take()[0]
    world.connection.lost()
    world.edge.settle(post, OK)
    world.nothing_left()


class Framing(Recorder):
    """Its frames serve replies to one connection as well."""

    frames_replies = True

    @classmethod
    def frame(cls, reply):
        if reply.get("text") == "broken":
            raise RuntimeError("a bug")
        return super().frame(reply)


def test_frames_of_replies():
    """A reply that a frame serves is written so; what cannot be framed is the session's to refuse."""
    world = talking()
    connection, wire = world.attach(Framing([Accepted()]))
    for text in ("one", "impossible", "answerable", "two"):
        world.edge.reply(connection.reply_channel, {"text": text})
    assert wire.written == [("frame", "one"), ("frame", "answerable"), ("frame", "two")]
    assert world.dropped == {"invalid": 1}


def test_a_frame_that_fails():
    """A fault in a frame costs the connection that the reply was for, and no other."""
    world = talking()
    connection, wire = world.attach(Framing([Accepted()]))
    world.edge.reply(connection.reply_channel, {"text": "broken"})
    assert wire.closed == (b"", False)
    assert world.wire.closed is None
    assert "gateway_errors_total" not in world.metrics.snapshot()
