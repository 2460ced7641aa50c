"""A model of deliveries and settlement, and random runs of a layer against it.

The model knows every message, and where it is: the layer must agree at every step, with
each delivery, each outcome and all its numbers.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core.errors import ChannelFull
from gateway.core.layers.base import (
    ACCEPTED,
    FAILED,
    MAX_TRIES,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
    Delivery,
    Layer,
    Outcome,
)
from gateway.core.layers.base import send as sending
from gateway.testing.layer_suite.harness import Harness, own, told

CAPACITY = 6
EXPIRY = 60.5
"""Never a whole number of seconds, while the clock moves by whole ones: nothing happens on a
boundary, which the contract leaves open."""
LONG = 200.5
"""The longest of all lives."""
LEASE = 10.0
CHANNELS = ("a", "b", "d!1", "d!2")
READS = ("a", "b", "d!")
TIGHT = "tight"
"""A channel for one message, so that sends are refused."""


@dataclass(eq=False, slots=True)
class Parcel:
    """One delivery, as the model sees it."""

    number: int
    channel: str
    ids: list[int]
    sender: int
    receipt: int | None
    deadline: float
    done: int = 0
    tries: int = 0
    ready: float = 0.0
    place: str = "waiting"
    taker: Layer | None = None
    delivery: Delivery | None = None

    @property
    def left(self) -> int:
        """How many messages have no end yet."""
        return len(self.ids) - self.done


@dataclass(eq=False, slots=True)
class Book:
    """The model's numbers."""

    now: float = 0.0
    parcels: list[Parcel] = field(default_factory=list)
    messages: int = 0
    full: int = 0
    settled: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    told: list[list[tuple[Any, ...]]] = field(default_factory=lambda: [[], []])
    """What each sender's inbox must hold."""

    def waiting(self, channel: str) -> list[Parcel]:
        """Return what waits on a channel, delayed or not, oldest first."""
        return [p for p in self.parcels if p.place == "waiting" and p.channel == channel]

    def pending(self, channel: str | None = None) -> int:
        """Return how many messages wait."""
        return sum(
            p.left for p in self.parcels if p.place == "waiting" and channel in (None, p.channel)
        )

    def in_hand(self) -> list[Parcel]:
        """Return what is in hand."""
        return [p for p in self.parcels if p.place == "hand"]

    def heads(self, reads: list[str]) -> list[Parcel]:
        """Return what a take from ``reads`` may return."""
        busy = {p.channel for p in self.in_hand() if "!" in p.channel}
        found = []
        for channel in (*CHANNELS, TIGHT):
            asked = channel in reads or channel[: channel.find("!") + 1] in reads
            ready = [p for p in self.waiting(channel) if p.ready <= self.now]
            if asked and ready and channel not in busy:
                found.append(min(ready, key=lambda p: p.number))
        return found

    def drop(self, cause: str, n: int) -> None:
        """Count drops."""
        if n:
            self.drops[cause] = self.drops.get(cause, 0) + n

    def tell(self, parcel: Parcel, index: int, kind: str, cause: str = "") -> None:
        """Expect an outcome in the sender's inbox."""
        if parcel.receipt is not None:
            self.told[parcel.sender].append((parcel.receipt, index, kind, cause))

    def end(self, parcel: Parcel, kind: str, cause: str, drop: str | None) -> None:
        """End all that is left of a parcel in one way."""
        for index in range(parcel.done, len(parcel.ids)):
            self.tell(parcel, index, kind, cause)
        if drop is None:
            self.settled += parcel.left
        else:
            self.drop(drop, parcel.left)
        parcel.place = "over"
        parcel.taker = None

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        for parcel in self.parcels:
            if parcel.place == "waiting" and parcel.deadline <= self.now:
                self.end(parcel, RELEASED, "expired", "expired")

    def release(self, parcel: Parcel, delay: float) -> None:
        """Put what is left back."""
        parcel.tries += 1
        parcel.place = "waiting"
        parcel.taker = None
        parcel.ready = self.now + delay
        if parcel.tries >= MAX_TRIES or parcel.deadline <= self.now:
            self.end(parcel, RELEASED, "expired", "expired")

    def settle(self, parcel: Parcel, outcomes: list[Outcome], *, refused: bool) -> None:
        """Settle as a layer must."""
        for place, given in enumerate(outcomes):
            outcome = given
            if outcome.kind == RELEASED:
                self.release(parcel, outcome.delay)
                return
            if refused and place == len(outcomes) - 1 and outcome.kind == ACCEPTED:
                outcome = Outcome(FAILED, cause="full")
            self.tell(parcel, parcel.done, outcome.kind, outcome.cause)
            parcel.done += 1
            self.settled += 1
            if given.kind != ACCEPTED:
                self.end(parcel, FAILED, "skipped", None if parcel.receipt else "failed")
                return
        if not parcel.left:
            parcel.place = "over"
            parcel.taker = None


PLANS = st.tuples(
    st.integers(0, 3),
    st.sampled_from([None, None, REJECTED, FAILED, UNROUTED, RELEASED, RELEASED, RELEASED]),
    st.sampled_from([0.0, 3.5, 3.5, 40.5]),
)
"""How a delivery is settled: how many are accepted, then what, after which delay."""


class Ledger(RuleBasedStateMachine):
    """Random sends, takes, settlements, deaths and pauses, each checked against `Book`."""

    def __init__(self, suite: Harness) -> None:
        super().__init__()
        self.suite = suite
        self.book = Book()
        self.stale = 0
        self.spent: list[tuple[Layer, Delivery]] = []
        """Deliveries that are no longer in hand of a process that lives."""
        self.first_seen: dict[tuple[str, int, str], int] = {}
        """The newest message that a reader got at its first attempt, by writer and channel."""

    @initialize()
    def begin(self) -> None:
        """Open two senders and two takers."""
        self.suite.begin()
        capacities = {TIGHT: 1, "d!*": 1000}
        self.senders = [
            self.suite.join(capacity=CAPACITY, capacities=capacities, expiry=EXPIRY, lease=LEASE)
        ]
        self.senders.append(self.suite.join())
        self.takers = [self.suite.join(), self.suite.join()]
        self.senders[0].group_add("g", "a")
        self.senders[0].group_add("g", "d!1")
        self.senders[0].group_add("g", TIGHT)
        for n, channel in enumerate(CHANNELS):
            self.send(n % 2, channel, 1 + n % 3, receipt=True, expiry=None)

    def teardown(self) -> None:
        """Settle everything, and see that nothing is left."""
        try:
            if sys.exc_info()[0] is None:
                for parcel in self.book.in_hand():
                    self.settle_with(parcel, [Outcome(REJECTED)])
                self.pass_time(LONG + 1)
                self.agree()
                assert self.book.pending() == 0
                assert not self.book.in_hand()
        finally:
            self.suite.finish()

    # ------------------------------------------------ rules

    @rule(
        who=st.integers(0, 1),
        channel=st.sampled_from(CHANNELS),
        count=st.integers(1, 3),
        receipt=st.booleans(),
        expiry=st.sampled_from([None, None, 5.5, LONG]),
    )
    def send(self, who: int, channel: str, count: int, receipt: bool, expiry: float | None) -> None:
        """Send a delivery; it is refused exactly where there is no room."""
        parcel = self.parcel(who, channel, count, EXPIRY if expiry is None else expiry)
        parcel.receipt = parcel.number if receipt else None
        messages = [{"id": n} for n in parcel.ids]
        layer = self.senders[who]
        if "!" not in channel and self.book.pending(channel) + count > CAPACITY:
            with pytest.raises(ChannelFull):
                layer.send_many(channel, messages, parcel.receipt, expiry)
            self.book.full += count
            return
        layer.send_many(channel, messages, parcel.receipt, expiry)
        self.book.parcels.append(parcel)
        self.book.messages += count

    @rule(who=st.integers(0, 1), exclude=st.sampled_from([(), ("a",), ("d!1", "b")]))
    def send_group(self, who: int, exclude: tuple[str, ...]) -> None:
        """Send to a group: who has no room is left out."""
        number = self.book.messages + self.book.full
        self.senders[who].send_group("g", {"id": -number}, exclude)
        for channel, room in (("a", CAPACITY), ("d!1", 1000), (TIGHT, 1)):
            if channel in exclude:
                continue
            if self.book.pending(channel) >= room:
                self.book.full += 1
                self.book.drop("full", 1)
                continue
            parcel = self.parcel(who, channel, 1, EXPIRY)
            parcel.ids = [-number]
            self.book.parcels.append(parcel)
            self.book.messages += 1

    @rule(
        who=st.integers(0, 1),
        reads=st.lists(st.sampled_from((*READS, TIGHT)), min_size=1, max_size=4, unique=True),
    )
    def take(self, who: int, reads: list[str]) -> None:
        """Take: the oldest that waits on one of the channels, or None where nothing does."""
        taker = self.takers[who]
        delivery = taker.take(reads)
        heads = self.book.heads(reads)
        if delivery is None:
            assert heads == []
            return
        parcel = self.match(heads, delivery.channel, [m["id"] for m in delivery.messages])
        assert delivery.attempt == parcel.tries + 1
        if delivery.attempt == 1:
            self.in_order(who, parcel)
        parcel.place, parcel.taker, parcel.delivery = "hand", taker, delivery

    @rule(who=st.integers(0, 1), read=st.sampled_from(READS))
    def receive(self, who: int, read: str) -> None:
        """Receive one message, settled; what was sent with it stays first."""
        channel, message = self.takers[who].receive([read])
        heads = self.book.heads([read])
        if message is None or channel is None:
            assert heads == []
            return
        parcel = self.match(heads, channel, [message["id"]])
        if parcel.tries == 0:
            self.in_order(who, parcel)
        self.book.settle(parcel, [OK], refused=False)

    @precondition(lambda self: self.book.in_hand())
    @rule(pick=st.integers(0, 99), plan=PLANS, replies=st.integers(0, 2), tight=st.booleans())
    def settle(
        self, pick: int, plan: tuple[int, str | None, float], replies: int, tight: bool
    ) -> None:
        """Settle some of what is in hand, with sends of which one may be refused."""
        hand = self.book.in_hand()
        parcel = hand[pick % len(hand)]
        self.settle_with(parcel, planned(parcel, plan), replies=replies, tight=tight)

    @rule(who=st.integers(0, 1), plans=st.lists(PLANS, min_size=1, max_size=4))
    def work(self, who: int, plans: list[tuple[int, str | None, float]]) -> None:
        """Take whatever there is, and settle it."""
        for plan in plans:
            self.take(who, list(READS))
            held = [p for p in self.book.in_hand() if p.taker is self.takers[who]]
            if held:
                self.settle_with(held[-1], planned(held[-1], plan))

    @precondition(lambda self: self.spent)
    @rule(pick=st.integers(0, 99), kind=st.sampled_from([ACCEPTED, REJECTED, RELEASED]))
    def settle_again(self, pick: int, kind: str) -> None:
        """Settle a second time: it changes nothing but the count of stale ones."""
        taker, delivery = self.spent[pick % len(self.spent)]
        delivery.settled = 0
        self.suite.settled(taker, delivery, Outcome(kind), sends=[sending("a", {"id": 0})])
        self.see_stale()

    @precondition(lambda self: any(p.receipt for p in self.book.parcels))
    @rule(pick=st.integers(0, 99))
    def cancel(self, pick: int) -> None:
        """Withdraw: it succeeds exactly where nobody has it in hand."""
        parcels = [p for p in self.book.parcels if p.receipt]
        parcel = parcels[pick % len(parcels)]
        assert parcel.receipt is not None
        withdrawn = self.senders[parcel.sender].cancel(parcel.receipt)
        assert withdrawn == (parcel.place == "waiting")
        if withdrawn:
            parcel.receipt = None
            self.book.end(parcel, RELEASED, "cancelled", "cancelled")

    @rule(seconds=st.sampled_from([1, 4, 4, 30]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.suite.advance(seconds)
        self.book.advance(seconds)

    @precondition(lambda self: self.book.in_hand())
    @rule(who=st.integers(0, 1), trouble=st.sampled_from(["kill", "freeze", "pause"]))
    def trouble(self, who: int, trouble: str) -> None:
        """Let a taker die or stand still."""
        getattr(self, trouble)(who)

    def kill(self, who: int) -> None:
        """Let a taker die: what it has in hand fails."""
        taker = self.takers[who]
        self.suite.kill(taker)
        self.lose(taker)
        self.takers[who] = self.suite.join()
        self.spent = [found for found in self.spent if found[0] is not taker]

    def pause(self, who: int) -> None:
        """Let a taker stand still for less than a lease time: nothing happens."""
        self.suite.freeze(self.takers[who])
        self.pass_time(LEASE - 3)
        self.suite.thaw(self.takers[who])
        self.pass_time(1)

    def freeze(self, who: int) -> None:
        """Let a taker stand still for longer: what it has in hand fails, its writes are stale."""
        taker = self.takers[who]
        held = [p.delivery for p in self.book.in_hand() if p.taker is taker]
        self.suite.freeze(taker)
        self.pass_time(LEASE + 3)
        self.lose(taker)
        self.agree()
        self.suite.thaw(taker)
        self.takers[who] = self.suite.join()
        self.spent = [found for found in self.spent if found[0] is not taker]
        for delivery in held:
            if delivery is not None:
                taker.settle(delivery, [OK], [sending("a", {"id": 0})])
                self.see_stale()

    # ------------------------------------------------ what must hold at every step

    @invariant()
    def agree(self) -> None:
        """Layer and model agree in all numbers, and each outcome is told exactly once."""
        book = self.book
        for who, expected in enumerate(book.told):
            found = [told(m) for _, m in self.suite.inbox(self.senders[who], len(expected))]
            assert sorted(found) == sorted(expected)
            self.suite.silence(self.senders[who])
            expected.clear()
        in_hand = sum(p.left for p in book.in_hand())
        expected_numbers = (book.messages, book.pending(), in_hand, book.full, book.drops)
        self.suite.until(
            lambda: self.numbers() == expected_numbers,
            what=f"{self.numbers()} is {expected_numbers}",
        )
        ended = sum(n for cause, n in book.drops.items() if cause != "full")
        assert book.messages == book.settled + book.pending() + in_hand + ended

    def numbers(self) -> tuple[int, int, int, int, dict[str, int]]:
        """Return the layer's numbers as the model keeps them."""
        found = self.senders[0].global_statistics()
        drops = {cause: n for cause, n in found.drops.items() if n and cause != "stale"}
        return found.messages, found.pending, found.in_hand, found.full, drops

    # ------------------------------------------------ helpers

    def parcel(self, who: int, channel: str, count: int, expiry: float) -> Parcel:
        """Return a new parcel."""
        number = len(self.book.parcels) + self.book.full + 1
        ids = [1000 * number + n for n in range(count)]
        return Parcel(number, channel, ids, who, None, self.book.now + expiry)

    def match(self, heads: list[Parcel], channel: str, ids: list[int]) -> Parcel:
        """Return the one of ``heads`` that was delivered."""
        for parcel in heads:
            if parcel.channel == channel and parcel.ids[parcel.done :][: len(ids)] == ids:
                return parcel
        raise AssertionError(f"{ids} of {channel} is not the oldest: {heads}")

    def in_order(self, who: int, parcel: Parcel) -> None:
        """At first attempts one reader gets one writer's messages in order."""
        key = (self.takers[who].process, parcel.sender, parcel.channel)
        assert self.first_seen.get(key, 0) <= parcel.number
        self.first_seen[key] = parcel.number

    def settle_with(
        self, parcel: Parcel, outcomes: list[Outcome], *, replies: int = 0, tight: bool = False
    ) -> None:
        """Settle, and see that the replies precede the outcome."""
        taker, delivery, sender = parcel.taker, parcel.delivery, self.senders[parcel.sender]
        assert taker is not None
        assert delivery is not None
        sends = [sending(own(sender), {"reply": n}) for n in range(replies)]
        refused = False
        if tight:
            extra = self.parcel(parcel.sender, TIGHT, 1, EXPIRY)
            sends.insert(len(sends) // 2, sending(TIGHT, {"id": extra.ids[0]}))
            refused = self.book.pending(TIGHT) > 0
            if refused:
                self.book.full += 1
                self.book.drop("full", 1)
            else:
                self.book.parcels.append(extra)
                self.book.messages += 1
        self.suite.settled(taker, delivery, *outcomes, sends=sends)
        self.book.settle(parcel, outcomes, refused=refused)
        self.book.messages += replies
        self.book.settled += replies
        found = self.suite.inbox(sender, replies + len(self.book.told[parcel.sender]))
        said = [m["reply"] for _, m in found if "reply" in m]
        assert said == list(range(replies))
        outcomes_told = [m for _, m in found if "reply" not in m]
        assert [told(m) for m in outcomes_told] == self.book.told[parcel.sender]
        if replies and outcomes_told:
            assert "reply" not in found[-1][1]
        self.book.told[parcel.sender].clear()
        if parcel.place != "hand":
            self.spent.append((taker, delivery))

    def lose(self, taker: Layer) -> None:
        """Fail what a taker has in hand."""
        for parcel in self.book.in_hand():
            if parcel.taker is taker:
                self.book.end(parcel, FAILED, "lost", "failed")

    def see_stale(self) -> None:
        """One more stale settlement is counted."""
        layer = self.senders[0]
        self.suite.until(lambda: self.suite.drops(layer).get("stale", 0) > self.stale)
        self.stale = self.suite.drops(layer)["stale"]


def planned(parcel: Parcel, plan: tuple[int, str | None, float]) -> list[Outcome]:
    """Return the outcomes of a plan that fit what is left of a parcel, at least one."""
    accepted, end, delay = plan
    outcomes = [OK] * min(accepted, parcel.left)
    if end is not None and len(outcomes) < parcel.left:
        outcomes.append(Outcome(end, delay=delay if end == RELEASED else 0.0))
    return outcomes or [OK]
