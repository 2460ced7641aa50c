"""Random runs of pinned conversations, as a gateway posts them: a window of one.

Workers die, drain and release at random; the model knows of each message whether its pin still
holds, and so who may get it and what it says.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core.layers.base import FAILED, OK, RELEASED, Delivery, Layer, Outcome
from gateway.core.layers.edge import OUTCOME
from gateway.testing.layer_suite.harness import Harness

CONVERSATIONS = 5
WORKERS = 3
KINDS = (OK, Outcome(RELEASED), Outcome(RELEASED, delay=3.5))


@dataclass(eq=False, slots=True)
class Parcel:
    """One message, as the model sees it."""

    receipt: int
    conversation: int
    pin: str | None
    marked: bool
    taker: Layer | None = None
    delivery: Delivery | None = None
    over: bool = False
    ready: float = 0.0
    """When a delayed release of it is over."""


class Pinned(RuleBasedStateMachine):
    """Posts to pins that hold or not, each checked against the model."""

    def __init__(self, suite: Harness) -> None:
        super().__init__()
        self.suite = suite
        self.parcels: list[Parcel] = []
        self.expected: list[tuple[int, int, int, Outcome]] = []
        self.seen = 0
        self.now = 0.0
        self.pins: list[str | None] = [None] * CONVERSATIONS
        self.lifted: set[str] = set()
        self.ran: list[list[int]] = [[] for _ in range(CONVERSATIONS)]

    @initialize()
    def begin(self) -> None:
        """Open a server and its workers."""
        self.suite.begin()
        self.server = self.suite.server(capacity=1000, expiry=1e6)
        self.workers = [self.suite.join() for _ in range(WORKERS)]

    def teardown(self) -> None:
        """Settle everything, and see that nothing is left."""
        try:
            if sys.exc_info()[0] is None:
                for _ in range(2):  # what was delayed, and what stood behind it
                    self.pass_time()
                    for who in range(WORKERS):
                        while self.took(who):
                            pass
                    for parcel in [p for p in self.parcels if p.taker is not None]:
                        self.settle_one(parcel, OK)
                self.told()
                assert all(parcel.over for parcel in self.parcels)
                assert self.workers[0].global_statistics().pending == 0
                assert self.workers[0].global_statistics().in_hand == 0
        finally:
            self.suite.finish()

    # ------------------------------------------------ rules

    @rule(conversation=st.integers(0, CONVERSATIONS - 1))
    def post(self, conversation: int) -> None:
        """Post the next message of a conversation, unless one of it is unsettled."""
        if any(p.conversation == conversation and not p.over for p in self.parcels):
            return
        pin = self.pins[conversation]
        receipt = len(self.parcels) + 1
        parcel = Parcel(receipt, conversation, pin, marked=pin in self.lifted)
        before = self.workers[0].global_statistics().messages
        self.server.post("x", {"id": receipt}, receipt=receipt, pin=pin)
        self.suite.until(lambda: self.workers[0].global_statistics().messages == before + 1)
        self.parcels.append(parcel)

    @rule(conversation=st.integers(0, CONVERSATIONS - 1), who=st.integers(-1, WORKERS - 1))
    def pin(self, conversation: int, who: int) -> None:
        """Pin a conversation to a worker, or not any more."""
        self.pins[conversation] = None if who < 0 else f"pin.{self.workers[who].process}"

    @rule(who=st.integers(0, WORKERS - 1), both=st.booleans())
    def take(self, who: int, *, both: bool) -> None:
        """Take: what is pinned to this worker, or to nobody; the oldest of either."""
        self.took(who, both=both)

    def took(self, who: int, *, both: bool = True) -> bool:
        """Take, and return whether there was anything."""
        worker = self.workers[who]
        delivery = worker.take(["x", "pin."] if both else ["pin."])
        waiting = self.waiting()
        free = [p for p in waiting if p.pin is None or p.marked] if both else []
        own = [p for p in waiting if p.pin == f"pin.{worker.process}" and not p.marked]
        heads = [min(some, key=lambda p: p.receipt) for some in (free, own) if some]
        if delivery is None:
            assert not heads
            return False
        self.taken(worker, delivery, heads)
        return True

    def taken(self, worker: Layer, delivery: Delivery, heads: list[Parcel]) -> None:
        """Check what was taken, and note it."""
        assert delivery.channel == "x"
        [message] = delivery.messages
        [parcel] = [p for p in heads if p.receipt == message["id"]]
        assert message.get("unpinned", False) is parcel.marked
        parcel.taker, parcel.delivery = worker, delivery

    def waiting(self) -> list[Parcel]:
        """Return what is neither in hand nor over nor delayed."""
        found = [p for p in self.parcels if p.taker is None and not p.over]
        return [p for p in found if p.ready <= self.now]

    @rule(
        conversation=st.integers(0, CONVERSATIONS - 1),
        who=st.integers(0, WORKERS - 1),
        end=st.sampled_from(["kill", "drain", "stay"]),
        before=st.sampled_from([None, *KINDS]),
        after=st.sampled_from([None, *KINDS]),
    )
    def story(
        self, conversation: int, who: int, end: str, before: Outcome | None, after: Outcome | None
    ) -> None:
        """Pin, post, take, settle and end in a row, as it is most often."""
        self.pin(conversation, who)
        self.post(conversation)
        self.took(who, both=False)
        worker = self.workers[who]
        hand = [p for p in self.parcels if p.taker is worker]
        if hand and before is not None:
            self.settle_one(hand[0], before)
        if end == "kill":
            self.kill(who)
        elif end == "drain":
            self.drain(who, 2)
        hand = [p for p in self.parcels if p.taker is worker]
        if hand and after is not None:
            self.settle_one(hand[0], after)

    @rule()
    def pass_time(self) -> None:
        """Let time pass until nothing is delayed any more."""
        self.suite.advance(4)
        self.now += 4

    @precondition(lambda self: any(p.taker for p in self.parcels))
    @rule(pick=st.integers(0, 99), kind=st.sampled_from([OK, *KINDS]))
    def settle(self, pick: int, kind: Outcome) -> None:
        """Settle something that is in hand."""
        hand = [p for p in self.parcels if p.taker is not None]
        self.settle_one(hand[pick % len(hand)], kind)

    def settle_one(self, parcel: Parcel, outcome: Outcome) -> None:
        """Settle one; what was released under a pin that was lifted meanwhile is marked."""
        assert parcel.taker is not None
        assert parcel.delivery is not None
        self.suite.settled(parcel.taker, parcel.delivery, outcome)
        parcel.ready = self.now + outcome.delay
        spent = parcel.delivery.attempt >= 10
        parcel.taker = None
        if outcome is OK:
            self.over(parcel, OK)
            self.ran[parcel.conversation].append(parcel.receipt)
        elif spent:
            self.over(parcel, Outcome(RELEASED, cause="expired"))

    @rule(who=st.integers(0, WORKERS - 1))
    def kill(self, who: int) -> None:
        """Let a worker die: what it has in hand is lost, what waits for it is for all."""
        worker = self.workers[who]
        self.suite.kill(worker)
        for parcel in self.parcels:
            if parcel.taker is worker:
                parcel.taker = None
                self.over(parcel, Outcome(FAILED, cause="lost"))
        self.workers[who] = self.suite.join()
        self.lift(worker)

    @rule(who=st.integers(0, WORKERS - 1), credit=st.integers(1, 4))
    def drain(self, who: int, credit: int) -> None:
        """Let a worker close its intake: what it has not begun is for all. Then a new one comes,
        and the old one goes on with what it has in hand.
        """  # noqa: D205 - one sentence
        worker = self.workers[who]
        intake = worker.intake(["pin."], credit)
        delivery = intake.take(0)
        if delivery is not None:
            own = f"pin.{worker.process}"
            heads = [p for p in self.waiting() if p.pin == own and not p.marked][:1]
            self.taken(worker, delivery, heads)
        intake.close()
        worker.announced()
        worker.announced()
        self.workers[who] = self.suite.join()
        self.lift(worker)

    def lift(self, worker: Layer) -> None:
        """Take note that the pins to a worker are lifted."""
        pin = f"pin.{worker.process}"
        self.lifted.add(pin)
        for parcel in self.parcels:
            if parcel.pin == pin and not parcel.over:
                parcel.marked = True

    # ------------------------------------------------ what must hold

    def over(self, parcel: Parcel, outcome: Outcome) -> None:
        """Expect the outcome of a message."""
        parcel.over = True
        self.expected.append((OUTCOME, parcel.receipt, 0, outcome))

    @invariant()
    def told(self) -> None:
        """Each message has one outcome, told once; those of a conversation ran in order."""
        if not hasattr(self, "server"):
            return
        found = self.server.heard(len(self.expected) - self.seen)
        assert sorted(found, key=str) == sorted(self.expected[self.seen :], key=str)
        self.seen = len(self.expected)
        for ran in self.ran:
            assert ran == sorted(set(ran))
