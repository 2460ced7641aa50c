"""Deliveries: what is taken and settled, and what a consumer sends with it."""

from __future__ import annotations

import pytest

from gateway.core.errors import ChannelFull
from gateway.core.layers import codec
from gateway.core.layers.base import (
    ACCEPTED,
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
    Outcome,
    group_add,
    group_discard,
    group_send,
)
from gateway.core.layers.base import send as sending
from gateway.testing.layer_suite.harness import Harness, numbers, own, zero

NO = Outcome(REJECTED, code=4, reason="no")
AGAIN = Outcome(RELEASED)


class Deliveries(Harness):
    """``send_many``, ``take`` and ``settle``."""

    def test_a_delivery(self) -> None:
        """A delivery carries the channel's full name, the messages in order, and attempt 1."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(3))
        delivery = self.taken(taker, "x")
        assert delivery.channel == "x"
        assert delivery.messages == numbers(3)
        assert [bytes(payload) for payload in delivery.payloads] == [
            codec.encode(message) for message in numbers(3)
        ]
        assert (delivery.attempt, delivery.settled) == (1, 0)

    def test_messages_decode_anew(self) -> None:
        """A consumer that changes its message changes nobody else's."""
        layer = self.join()
        layer.send("x", {"n": 1})
        delivery = self.taken(layer, "x")
        delivery.messages[0]["n"] = 2
        assert delivery.messages == [{"n": 1}]

    def test_nothing_to_take(self) -> None:
        """``take`` returns None where nothing waits, or when its seconds are over."""
        layer = self.join()
        assert layer.take(["x"]) is None
        assert layer.take(["x"], block=0.02) is None

    def test_to_one_taker(self) -> None:
        """Messages sent together go to one taker; what follows goes to anybody."""
        sender, first, second = self.join(), self.join(), self.join()
        sender.send_many("x", numbers(3))
        sender.send_many("x", numbers(2, 3))
        assert self.taken(first, "x").messages == numbers(3)
        assert self.taken(second, "x").messages == numbers(2, 3)

    def test_no_message(self) -> None:
        """``send_many`` of no message is a ValueError."""
        with pytest.raises(ValueError, match=r"."):
            self.join().send_many("x", [])

    def test_in_hand(self) -> None:
        """A delivery stays in hand of its taker, offered to nobody, until it is settled."""
        sender, taker, other = self.join(), self.join(), self.join()
        sender.send_many("x", numbers(2))
        delivery = self.taken(taker, "x")
        assert other.take(["x"]) is None
        statistics = sender.channel_statistics("x")
        assert (statistics.pending, statistics.in_hand) == (0, 2)
        self.settled(taker, delivery, OK, OK)
        assert other.take(["x"]) is None
        assert zero(sender.channel_statistics("x"))

    @pytest.mark.parametrize(
        "outcome",
        [
            OK,
            NO,
            Outcome(FAILED, cause="ValueError"),
            Outcome(UNROUTED),
        ],
        ids=lambda outcome: outcome.kind,
    )
    def test_outcomes(self, outcome: Outcome) -> None:
        """The sender hears the outcome as the taker gave it."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", [{}], receipt=5)
        self.settled(taker, self.taken(taker, "x"), outcome)
        ((_, message),) = self.inbox(sender, 1)
        assert message == {
            "receipt": 5,
            "index": 0,
            "kind": outcome.kind,
            "code": outcome.code,
            "reason": outcome.reason,
            "cause": outcome.cause,
        }
        assert zero(sender.global_statistics())

    def test_without_a_receipt(self) -> None:
        """Without a receipt nobody is told."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", [{}])
        self.settled(taker, self.taken(taker, "x"), OK)
        self.silence(sender)

    def test_each_message_has_its_outcome(self) -> None:
        """With a receipt each message's outcome comes as (receipt, index, outcome), in order."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(3), receipt=5)
        self.settled(taker, self.taken(taker, "x"), OK, OK, OK)
        assert self.outcomes(sender, 3) == [(5, n, ACCEPTED, "") for n in range(3)]
        self.silence(sender)

    def test_receipts_are_the_senders(self) -> None:
        """Two senders may use the same receipt; each hears of its own messages."""
        first, second, taker = self.join(), self.join(), self.join()
        first.send_many("x", [{"n": 1}], receipt=1)
        second.send_many("x", [{"n": 2}], receipt=1)
        self.settled(taker, self.taken(taker, "x"), OK)
        self.settled(taker, self.taken(taker, "x"), NO)
        assert self.outcomes(first, 1) == [(1, 0, ACCEPTED, "")]
        assert self.outcomes(second, 1) == [(1, 0, REJECTED, "")]

    def test_settled_in_parts(self) -> None:
        """``settle`` may be called several times, each settling the next messages."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(4), receipt=5)
        delivery = self.taken(taker, "x")
        self.settled(taker, delivery, OK)
        assert delivery.settled == 1
        assert self.outcomes(sender, 1) == [(5, 0, ACCEPTED, "")]
        assert sender.channel_statistics("x").in_hand == 3
        self.settled(taker, delivery, OK, OK)
        assert self.outcomes(sender, 2) == [(5, 1, ACCEPTED, ""), (5, 2, ACCEPTED, "")]
        self.silence(sender)
        self.settled(taker, delivery, NO)
        assert self.outcomes(sender, 1) == [(5, 3, REJECTED, "")]
        assert zero(sender.channel_statistics("x"))

    def test_more_outcomes_than_messages(self) -> None:
        """More outcomes than messages, or none, are a ValueError, and settle nothing."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(2))
        delivery = self.taken(taker, "x")
        with pytest.raises(ValueError, match=r"."):
            taker.settle(delivery, [])
        with pytest.raises(ValueError, match=r"."):
            taker.settle(delivery, [OK, OK, OK])
        self.settled(taker, delivery, OK)
        with pytest.raises(ValueError, match=r"."):
            taker.settle(delivery, [OK, OK])
        assert sender.channel_statistics("x").in_hand == 1

    @pytest.mark.parametrize("kind", [REJECTED, FAILED, UNROUTED])
    def test_the_rest_is_skipped(self, kind: str) -> None:
        """After the first outcome other than accepted the rest settles failed, skipped."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(4), receipt=5)
        self.settled(taker, self.taken(taker, "x"), OK, Outcome(kind))
        assert self.outcomes(sender, 4) == [
            (5, 0, ACCEPTED, ""),
            (5, 1, kind, ""),
            (5, 2, FAILED, "skipped"),
            (5, 3, FAILED, "skipped"),
        ]
        assert taker.take(["x"]) is None
        assert zero(sender.global_statistics())

    def test_settled_twice(self) -> None:
        """The first settlement of a message wins; a later one is refused, counted, not raised,
        and its sends with it.
        """  # noqa: D205 - one sentence
        sender, taker = self.join(), self.join()
        sender.send_many("x", [{}], receipt=5)
        delivery = self.taken(taker, "x")
        self.settled(taker, delivery, OK)
        delivery.settled = 0
        self.settled(taker, delivery, NO, sends=[sending("y", {})])
        assert self.outcomes(sender, 1) == [(5, 0, ACCEPTED, "")]
        self.silence(sender)
        assert taker.receive(["y"]) == (None, None)
        self.until(lambda: self.drops(sender).get("stale", 0) >= 1)

    def test_outcomes_need_no_capacity(self) -> None:
        """An outcome reaches an inbox that is full."""
        sender, taker = self.join(process_capacity=2), self.join()
        sender.send_many("x", numbers(3), receipt=1)
        for message in numbers(2):
            taker.send(own(sender), message)
        with pytest.raises(ChannelFull):
            taker.send(own(sender), {})
        self.settled(taker, self.taken(taker, "x"), OK, OK, OK)
        assert [message for _, message in self.inbox(sender, 2)] == numbers(2)
        assert self.outcomes(sender, 3) == [(1, n, ACCEPTED, "") for n in range(3)]

    def test_outcomes_do_not_expire(self) -> None:
        """An outcome waits as long as its process lives."""
        sender, taker = self.join(expiry=60.0), self.join()
        sender.send_many("x", [{}], receipt=1)
        self.settled(taker, self.taken(taker, "x"), OK)
        self.advance(1000)
        assert self.outcomes(sender, 1) == [(1, 0, ACCEPTED, "")]


class Sends(Harness):
    """What a consumer sends, applied with the settlement."""

    def test_before_the_outcome(self) -> None:
        """Sends are applied before the outcome is told: replies precede it in the inbox."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(2), receipt=1)
        delivery = self.taken(taker, "x")
        replies = [sending(f"reply.{sender.process}!c", message) for message in numbers(3)]
        self.settled(taker, delivery, OK, OK, sends=replies)
        found = self.inbox(sender, 5)
        assert [m for c, m in found if c.startswith("reply.")] == numbers(3)
        assert found[2] == (f"reply.{sender.process}!c", {"n": 2})
        assert found[4][1]["index"] == 1

    def test_in_order(self) -> None:
        """Sends, joins and discards are applied in the order they were made."""
        layer = self.join()
        layer.send("x", {})
        sends = [
            group_add("g", "a"),
            group_send("g", {"n": 1}),
            group_add("g", "b", {"nick": "bob"}),
            group_send("g", {"n": 2}),
            group_discard("g", "a"),
            group_send("g", {"n": 3}),
            sending("b", {"n": 4}),
            group_send("g", {"n": 5}, exclude=["b"]),
        ]
        self.settled(layer, self.taken(layer, "x"), OK, sends=sends)
        assert self.drained(layer, "a") == numbers(2, 1)
        assert self.drained(layer, "b") == numbers(3, 2)
        assert layer.group_members("g") == {"b": {"nick": "bob"}}

    def test_the_message_was_encoded_when_sent(self) -> None:
        """A consumer may change its dict after it made the action."""
        layer = self.join()
        message = {"n": 1}
        action = sending("x", message)
        message["n"] = 2
        layer.apply([action])
        assert self.drained(layer, "x") == [{"n": 1}]

    def test_a_refused_send(self) -> None:
        """A refused send is dropped, counted, and turns the message's outcome into failed
        (cause full); the others stand.
        """  # noqa: D205 - one sentence
        sender, taker = self.join(capacity=2, capacities={"in": 10}), self.join()
        sender.send_many("in", [{}], receipt=1)
        delivery = self.taken(taker, "in")
        for message in numbers(2):
            sender.send("x", message)
        sends = [sending("y", {"n": 1}), sending("x", {"n": 2}), sending("y", {"n": 3})]
        self.settled(taker, delivery, OK, sends=sends)
        assert self.outcomes(sender, 1) == [(1, 0, FAILED, "full")]
        assert self.drained(taker, "x") == numbers(2)
        assert self.drained(taker, "y") == [{"n": 1}, {"n": 3}]
        self.dropped(sender, full=1)

    def test_a_refused_send_of_several_messages(self) -> None:
        """Sends belong to the last of the messages settled with them: it fails, the others
        stand, and the delivery goes on.
        """  # noqa: D205 - one sentence
        sender, taker = self.join(capacity=1, capacities={"in": 10}), self.join()
        sender.send_many("in", numbers(3), receipt=1)
        delivery = self.taken(taker, "in")
        sender.send("x", {})
        self.settled(taker, delivery, OK, OK, sends=[sending("x", {})])
        assert self.outcomes(sender, 2) == [(1, 0, ACCEPTED, ""), (1, 1, FAILED, "full")]
        self.silence(sender)
        assert sender.channel_statistics("in").in_hand == 1
        self.settled(taker, delivery, OK, sends=[sending("y", {})])
        assert self.outcomes(sender, 1) == [(1, 2, ACCEPTED, "")]
        assert self.drained(sender, "y") == [{}]

    def test_to_a_process_that_is_gone(self) -> None:
        """A send to a process that has left is dropped, counted, and fails nothing."""
        sender, taker, other = self.join(), self.join(), self.join()
        name = own(other)
        other.send(name, {})
        other.close()
        sender.send_many("x", [{}], receipt=1)
        self.settled(taker, self.taken(taker, "x"), OK, sends=[sending(name, {})])
        assert self.outcomes(sender, 1) == [(1, 0, ACCEPTED, "")]
        self.dropped(sender, gone=2)

    def test_apply(self) -> None:
        """``apply`` does several sends at once, outside any delivery."""
        layer = self.join()
        layer.apply([sending("x", {"n": 0}), group_add("g", "x"), group_send("g", {"n": 1})])
        assert self.drained(layer, "x") == numbers(2)

    def test_apply_refused(self) -> None:
        """``apply`` raises ChannelFull for the first that was refused, after trying all."""
        layer = self.join(capacity=1)
        sends = [sending(name, {}) for name in ("x", "x", "y", "y", "z")]
        with pytest.raises(ChannelFull) as caught:
            layer.apply(sends)
        assert caught.value.channel == "x"
        assert [len(self.drained(layer, name)) for name in ("x", "y", "z")] == [1, 1, 1]
