"""Random runs with intakes, where the layer decides who gets what.

The model does not predict; it keeps books of what it saw. No delivery is in two hands, no
intake holds more than its credit, each reader sees each writer's order, each message with a
receipt has one outcome that fits what its taker did, and nothing that waits is forgotten
while an intake has credit.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core.layers.base import (
    ACCEPTED,
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    Delivery,
    Intake,
    Layer,
    Outcome,
)
from gateway.testing.layer_suite.harness import Harness, own, told

EXPIRY = 60.5
LEASE = 10.0
CHANNELS = ("a", "b", "d!1", "d!2")
NEW_CREDIT = st.integers(1, 3)
Plan = tuple[int, str | None, float]
PLANS = st.tuples(
    st.integers(0, 3),
    st.sampled_from([None, None, REJECTED, RELEASED, RELEASED]),
    st.sampled_from([0.0, 3.5]),
)
"""How a delivery is settled: how many are accepted, then what, after which delay."""
WISHES = st.sampled_from([("a",), ("a", "b"), ("d!",), ("a", "b", "d!")])


@dataclass(eq=False, slots=True)
class Sent:
    """One message."""

    receipt: int
    index: int
    seen: list[tuple[str, str]] = field(default_factory=list)
    """What its takers said of it, as (kind, cause)."""
    told: list[tuple[str, str]] = field(default_factory=list)
    """What its sender heard."""
    held: bool = False


@dataclass(eq=False, slots=True)
class Taker:
    """A process with an intake."""

    layer: Layer
    intake: Intake
    wishes: tuple[str, ...]
    credit: int
    hand: list[Delivery] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)


class Flow(RuleBasedStateMachine):
    """Random sends to takers with intakes."""

    def __init__(self, suite: Harness) -> None:
        super().__init__()
        self.suite = suite
        self.sent: dict[int, Sent] = {}
        self.receipts: dict[int, list[Sent]] = {}
        self.returned: set[int] = set()
        """Messages that an intake gave back unbegun: they may come after newer ones."""

    @initialize(credits=st.lists(NEW_CREDIT, min_size=2, max_size=2), wishes=WISHES)
    def begin(self, credits: list[int], wishes: tuple[str, ...]) -> None:  # noqa: A002 - a plural
        """Open a sender and two takers."""
        self.suite.begin()
        self.sender = self.suite.join(expiry=EXPIRY, lease=LEASE, capacity=1000)
        self.takers = [self.taker(credits[0], CHANNELS[:2]), self.taker(credits[1], wishes)]
        for n in range(8):
            self.send(CHANNELS[n % 4], 1 + n % 3)

    def taker(self, credit: int, wishes: tuple[str, ...]) -> Taker:
        """Open a taker, whose intake has begun."""
        layer = self.suite.join()
        taker = Taker(layer, layer.intake(wishes, credit), wishes, credit)
        self.take_from(taker, 0)
        return taker

    def teardown(self) -> None:
        """Take and settle everything; then each message has had one end."""
        try:
            if sys.exc_info()[0] is None:
                self.takers.append(self.taker(3, ("a", "b", "d!")))
                for _ in range(2000):
                    if not self.sweep():
                        break
                self.suite.advance(EXPIRY + 41)
                while self.sweep():
                    pass
                self.listen()
                for message in self.sent.values():
                    assert len(message.told) == 1, message
                statistics = self.sender.global_statistics()
                assert (statistics.pending, statistics.in_hand) == (0, 0)
        finally:
            self.suite.finish()

    def sweep(self) -> bool:
        """Let each taker take and settle once; return whether there was anything."""
        found = False
        for taker in self.takers:
            found |= self.take_from(taker, 0.002)
            self.finish_all(taker)
        return found

    # ------------------------------------------------ rules

    @rule(channel=st.sampled_from(CHANNELS), count=st.integers(1, 3))
    def send(self, channel: str, count: int) -> None:
        """Send a delivery with a receipt."""
        receipt = len(self.receipts) + 1
        messages = [Sent(receipt, index) for index in range(count)]
        self.receipts[receipt] = messages
        ids = [10 * receipt + index for index in range(count)]
        self.sent.update(zip(ids, messages, strict=True))
        self.sender.send_many(channel, [{"id": n} for n in ids], receipt)

    @rule(who=st.integers(0, 1), times=st.integers(1, 3))
    def take(self, who: int, times: int) -> None:
        """Take what was handed over."""
        for _ in range(times):
            self.take_from(self.takers[who], 0)

    @rule(plans=st.lists(PLANS, min_size=2, max_size=6))
    def work(self, plans: list[Plan]) -> None:
        """Let the takers take in turn, and settle what came first."""
        for n, plan in enumerate(plans):
            taker = self.takers[n % 2]
            self.take_from(taker, 0.001)
            if taker.hand:
                self.settle(taker, taker.hand[0], plan)

    @precondition(lambda self: any(taker.hand for taker in self.takers))
    @rule(pick=st.integers(0, 99), plan=PLANS)
    def settle_one(self, pick: int, plan: Plan) -> None:
        """Settle some of what somebody has in hand."""
        hands = [(taker, delivery) for taker in self.takers for delivery in taker.hand]
        self.settle(*hands[pick % len(hands)], plan)

    def settle(self, taker: Taker, delivery: Delivery, plan: Plan) -> None:
        """Settle as planned."""
        accepted, end, delay = plan
        left = len(delivery.payloads) - delivery.settled
        outcomes = [OK] * min(accepted, left)
        if end is not None and len(outcomes) < left:
            outcomes.append(Outcome(end, delay=delay if end == RELEASED else 0.0))
        self.finish_delivery(taker, delivery, outcomes or [OK])

    @precondition(lambda self: self.receipts)
    @rule(pick=st.integers(0, 999))
    def cancel(self, pick: int) -> None:
        """Withdraw what nobody has."""
        receipt = pick % len(self.receipts) + 1
        if self.sender.cancel(receipt):
            for message in self.receipts[receipt]:
                assert not message.held
                if not message.told and ("accepted", "") not in message.seen:
                    message.told.append((RELEASED, "cancelled"))

    @rule(who=st.integers(0, 1), credit=NEW_CREDIT, wishes=WISHES)
    def close(self, who: int, credit: int, wishes: tuple[str, ...]) -> None:
        """Close an intake, settle what it had begun, and open another."""
        taker = self.takers[who]
        self.returned.update(self.unseen())
        taker.intake.close()
        assert taker.intake.take(0) is None
        self.finish_all(taker)
        taker.layer.close()
        self.takers[who] = self.taker(credit, wishes)

    @rule(who=st.integers(0, 1), credit=NEW_CREDIT, wishes=WISHES, dead=st.booleans())
    def lose(self, who: int, credit: int, wishes: tuple[str, ...], dead: bool) -> None:
        """Let a taker die, or stand still too long."""
        taker = self.takers[who]
        if dead:
            self.suite.kill(taker.layer)
        else:
            self.suite.freeze(taker.layer)
            self.suite.advance(LEASE + 3)
            self.suite.thaw(taker.layer)
            self.returned.update(self.unseen())
            taker.intake.close()
            taker.layer.close()
        for delivery in taker.hand:
            self.let_go(delivery)
        self.takers[who] = self.taker(credit, wishes)

    @rule(seconds=st.sampled_from([1, 4, 30]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.suite.advance(seconds)

    # ------------------------------------------------ what must hold

    @invariant()
    def credit(self) -> None:
        """No taker holds more than its credit."""
        for taker in self.takers:
            assert len(taker.hand) <= taker.credit
        in_hand = self.sender.global_statistics().in_hand
        most = sum(3 * taker.credit for taker in self.takers)
        assert sum(message.held for message in self.sent.values()) <= in_hand <= most

    @invariant()
    def listen(self) -> None:
        """Each message has at most one outcome, which fits what its taker said."""
        while True:
            channel, message = self.sender.receive([own(self.sender)])
            if channel is None or message is None:
                return
            receipt, index, kind, cause = told(message)
            sent = self.receipts[receipt][index]
            sent.told.append((kind, cause))
            assert len(sent.told) == 1, sent
            if (kind, cause) not in {(FAILED, "lost"), (RELEASED, "expired")}:
                assert sent.seen[-1] == (kind, cause), sent
            assert not sent.held, sent

    # ------------------------------------------------ helpers

    def unseen(self) -> list[int]:
        """Return the messages that nobody has settled."""
        return [n for n, message in self.sent.items() if not message.told and not message.held]

    def take_from(self, taker: Taker, block: float) -> bool:
        """Take once; check what came."""
        delivery = taker.intake.take(block)
        if delivery is None:
            return False
        wished = delivery.channel[: delivery.channel.find("!") + 1] or delivery.channel
        assert wished in taker.wishes
        ids = [message["id"] for message in delivery.messages]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        for n in ids:
            message = self.sent[n]
            assert not message.held, f"{n} is in two hands"
            assert (ACCEPTED, "") not in message.seen, f"{n} was settled before"
            message.held = True
        if delivery.attempt == 1 and ids[0] not in self.returned:
            assert taker.newest.get(delivery.channel, 0) < ids[0]
            taker.newest[delivery.channel] = ids[-1]
        taker.hand.append(delivery)
        return True

    def finish_delivery(self, taker: Taker, delivery: Delivery, outcomes: list[Outcome]) -> None:
        """Settle, and write down what each message must hear."""
        ids = [message["id"] for message in delivery.messages][delivery.settled :]
        left = list(ids)
        self.suite.settled(taker.layer, delivery, *outcomes)
        for outcome in outcomes:
            message = self.sent[left.pop(0)]
            message.held = False
            if outcome.kind != RELEASED:
                message.seen.append((outcome.kind, ""))
            if outcome.kind != ACCEPTED:
                break
        if outcomes[-1].kind != ACCEPTED:
            for n in left:
                self.sent[n].held = False
                if outcomes[-1].kind != RELEASED:
                    self.sent[n].seen.append((FAILED, "skipped"))
            left = []
        if not left:
            taker.hand.remove(delivery)

    def finish_all(self, taker: Taker) -> None:
        """Settle all that a taker has in hand as accepted."""
        for delivery in taker.hand[:]:
            left = len(delivery.payloads) - delivery.settled
            self.finish_delivery(taker, delivery, [OK] * left)

    def let_go(self, delivery: Delivery) -> None:
        """Forget a delivery that was lost with its taker."""
        for message in delivery.messages[delivery.settled :]:
            self.sent[message["id"]].held = False
