"""What an author who says nothing of it gets: replies that are uniform, refusals that are heard."""

from __future__ import annotations

import pytest

from gateway.core.layers import codec
from gateway.core.plugin import RELEASED, Emit, Refusal, Session, UniformReply, Write
from gateway.core.reply import InvalidReply, ReplyReader


class Tells(Session):
    def received(self, data):
        return [Emit("receive", {}, data)]

    def send(self, conversation, reply, token):
        return ()

    def outcome(self, token, outcome):
        return [Write((token, outcome.kind, outcome.cause))]


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_is_heard_as_an_outcome(refusal):
    """A session that says nothing of refusals hears each as released, and why."""
    assert list(Tells().refused(7, refusal)) == [Write((7, RELEASED, refusal.value))]


class Reply(UniformReply, total=False):
    data: bytes


def test_a_reply_on_the_uniform_one():
    """A protocol's reply is the uniform one and its own keys, and no other."""
    reader = ReplyReader(Reply, "tells")
    reply = {"text": "a", "accept": True, "close": 3, "ack": 1, "ack_channel": "a?b", "data": b"x"}
    assert reader.read(codec.encode(reply)) == reply
    with pytest.raises(InvalidReply, match="unknown key 'topic'"):
        reader.read(codec.encode({"topic": "a"}))
    with pytest.raises(InvalidReply, match="pin"):
        reader.read(codec.encode({"pin": "elsewhere"}))
