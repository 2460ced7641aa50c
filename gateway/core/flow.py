"""From conversations to the layer and back: windows, runs, outcomes, waiting for room.

A conversation is in one of four places::

    idle ──push──► flying ──OUTCOME──► idle              (the hot path)
                     │ FULL
                     ▼
                   waiting for room (`Queue` of the full channel) ──probe──► flying
    idle ──no worker, or no layer──► parked ──ANNOUNCED or UP──► idle

and in each of them its own queue takes what its session emits meanwhile.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from gateway.core.config import GatewaySettings
from gateway.core.conversation import LOST
from gateway.core.deadlines import Clock
from gateway.core.farewell import landed
from gateway.core.kinds import Entry
from gateway.core.layers.base import ACCEPTED, FAILED, RELEASED, UNROUTED, Outcome
from gateway.core.layers.edge import Edge
from gateway.core.metrics import Drop
from gateway.core.plugin import Refusal
from gateway.core.room import Queue
from gateway.core.together import leave

if TYPE_CHECKING:
    from gateway.core.attached import Connection
    from gateway.core.conversation import Conversation

RETRY: Final = 0.02
"""Seconds between probes of a full channel: a burst drains within a few of them."""
PARKED: Final = 0.1
"""Seconds between looks at what waits for a worker: its patience is counted in seconds."""
MOST_PROBES: Final = 64
"""Conversations let go in one retry of a channel that refused nothing of late."""

UNANNOUNCED: Final = Outcome(UNROUTED, cause="unannounced")
IMPLIED: Final = Outcome(ACCEPTED, cause="unannounced")
"""A ``connect`` that nobody routes is accepted where ``receive`` is routed."""
NO_WORKER: Final = Outcome(RELEASED, cause="no_worker")
DISCARDED: Final = Outcome(RELEASED, cause="closed")
"""Of what waited where its connection was ended."""

LOST_BY: Final = {FAILED: Drop.FAILED, RELEASED: Drop.EXPIRED, UNROUTED: Drop.UNROUTED}
"""What a message that was sent and not handled counts as; a rejection is an answer."""


class Flow:
    """The deliveries of one process that are on their way to a consumer."""

    def __init__(
        self, edge: Edge, settings: GatewaySettings, clock: Clock, unavailable_timeout: float
    ) -> None:
        self.edge = edge
        self.announced = edge.announced
        self.flights: dict[int, Conversation] = {}
        self.loose: dict[int, tuple[Connection, Any]] = {}
        """Posts outside every conversation, by receipt: whose, and the author's token."""
        self.full: dict[str, Queue] = {}
        self.parked: list[Conversation] = []
        self.later: dict[Conversation, int] = {}
        """Conversations that wait to hand in again what failed: how many at their head."""
        self.gathered: dict[Conversation, list[Entry]] | None = None
        """What waits for the end of the input that brings it; see `together`."""
        self._retried: Any = None
        """The token of what was put there last."""
        self._clock = clock
        self._unavailable_timeout = unavailable_timeout
        self.run_messages = settings.run_messages
        self.run_bytes = settings.run_bytes
        self._receipt = 0
        self._latest = 0.0
        """The latest moment at which something began to wait."""
        self._timer: Any = None
        self._until: float | None = clock.time() + settings.start_timeout
        """Until when the first worker is waited for; None once there was one."""

    # ------------------------------------------------ on the way out

    def push(self, conversation: Conversation, entry: Entry) -> None:
        """Take one message of a conversation: send it, or keep it until its turn comes."""
        kind = entry[0]
        kind.emitted.value += 1
        gathered = self.gathered
        if gathered is not None:
            run = gathered.get(conversation)
            if run is not None:
                run.append(entry)
            elif conversation.flight is None and not conversation.queue:
                gathered[conversation] = [entry]
            else:
                self.keep(conversation, entry)
            return
        if conversation.flight is None and not conversation.queue and not self.full:
            announced = self.announced
            if announced is not None and kind.channel in announced and self.edge.available:
                owner = conversation.owner
                owner.flights += 1
                self.fly(conversation, owner, kind.channel, [entry], (entry[1],))
                return
        self.keep(conversation, entry)
        self.pump(conversation)

    def hold(self, conversation: Conversation, entry: Entry) -> None:
        """Keep one message of a conversation until its connection is `accepted`, or lets go."""
        entry[0].emitted.value += 1
        if self.gathered and (before := self.gathered.pop(conversation, None)) is not None:
            leave(self, conversation, before)
        self.keep(conversation, entry)

    def accepted(self, connection: Connection) -> None:
        """Let leave what was held until then."""
        self.pump(connection)
        for branch in (connection.branches or {}).values():
            self.pump(branch)

    def keep(self, conversation: Conversation, entry: Entry) -> None:
        """Have one message of a conversation wait in its queue."""
        queue = conversation.queue
        if queue is None:
            queue = conversation.queue = deque()
        queue.append(entry)
        conversation.owner.waits(1, len(entry[1]))

    def post_loose(self, connection: Connection, channel: str, payload: bytes, token: Any) -> None:
        """Send one message outside every conversation; without a token nobody hears of it."""
        if token is None:
            self.edge.send(channel, payload)
            return
        self._receipt = receipt = self._receipt + 1
        self.loose[receipt] = (connection, token)
        if connection.loose is None:
            connection.loose = set()
        connection.loose.add(receipt)
        self.edge.post(channel, (payload,), receipt)

    def withdraw(self, receipts: Iterable[int]) -> None:
        """Withdraw messages outside every conversation, whose connection is gone."""
        for receipt in receipts:
            del self.loose[receipt]
            self.edge.cancel(receipt)

    def pump(self, conversation: Conversation) -> None:
        """Let the head of its queue leave, unless something of it is unsettled or waits."""
        while conversation.queue and conversation.flight is None and conversation.place is None:
            owner = conversation.owner
            if owner.abandoned:
                self.discard(conversation)
                return
            if owner.leaving is not None:
                return
            kind = conversation.queue[0][0]
            announced = self.announced
            if not self.edge.available:
                if not kind.opening:
                    self._park(conversation)
                    return
                self._refuse(conversation, Refusal.UNAVAILABLE, Drop.LAYER_LOST)
            elif announced is None:
                self._park(conversation)
                return
            elif kind.channel not in announced:
                if kind.fallback in announced:
                    self._answer(conversation, IMPLIED)
                else:
                    self._answer(conversation, UNANNOUNCED, Drop.UNROUTED)
            else:
                full = self.full.get(owner.pin or kind.channel)
                if full is None:
                    self._depart(conversation, self.run_messages)
                else:
                    self._wait_since_now(conversation)
                    full.join(conversation)
                    return

    def discard(self, conversation: Conversation) -> None:
        """Drop what waits, counted: its connection was ended."""
        queue = conversation.queue
        if self.later.pop(conversation, 0):
            conversation.place = None
        if queue:
            owner = conversation.owner
            owner.context.drop(Drop.CLOSED, len(queue))
            conversation.order -= len(queue)
            size = sum(len(payload) for _, payload, _ in queue)
            tokens = [token for _, _, token in queue]
            queue.clear()
            if owner.session.heeds_late:
                for token in tokens:
                    owner.tell(token, DISCARDED)
            owner.moved_on(len(tokens), size)

    def again(self, conversation: Conversation, entry: Entry, seconds: float) -> None:
        """Hand in once more what failed, in so many seconds, before what is newer."""
        self._retried = entry[2]
        queue = conversation.queue
        if queue is None:
            queue = conversation.queue = deque()
        count = self.later.get(conversation, 0)
        queue.insert(count, entry)  # behind what failed before it
        self.later[conversation] = count + 1
        conversation.owner.waits(1, len(entry[1]))
        if not count:
            conversation.place = self.later
            self._clock.call_later(seconds, self._again_due, conversation)

    def _again_due(self, conversation: Conversation) -> None:
        if self.later.pop(conversation, 0):
            conversation.place = None
            self.pump(conversation)

    def _is_retried(self, token: Any) -> bool:
        """Whether the session has said that it is to be handed in again, in the meantime."""
        retried, self._retried = self._retried, None
        return token is not None and retried is token

    def _depart(self, conversation: Conversation, most: int) -> None:
        """Send the longest run of waiting messages for one channel, up to the bounds."""
        queue = conversation.queue
        assert queue  # noqa: S101 - for the type checker; every caller looked
        entry = queue.popleft()
        kind, payload, _ = entry
        run = [entry]
        payloads = [payload]
        size = len(payload)
        if not kind.alone:
            while queue and len(run) < most and queue[0][0] is kind:
                more = size + len(queue[0][1])
                if more > self.run_bytes:
                    break
                size = more
                entry = queue.popleft()
                run.append(entry)
                payloads.append(entry[1])
        owner = conversation.owner
        owner.flights += 1
        self.fly(conversation, owner, kind.channel, run, payloads)
        owner.moved_on(len(run), size)

    def fly(
        self,
        conversation: Conversation,
        owner: Connection,
        channel: str,
        run: list[Entry],
        payloads: Any,
    ) -> None:
        """Send a run of a conversation, of which nothing is unsettled; its owner counts it."""
        self._receipt = receipt = self._receipt + 1
        conversation.flight = run
        conversation.receipt = receipt
        self.flights[receipt] = conversation
        if owner.pin is None:
            self.edge.post(channel, payloads, receipt)
        else:
            self.edge.post(channel, payloads, receipt, pin=owner.pin)

    # ------------------------------------------------ what the layer says

    def outcome(self, receipt: int, index: int, outcome: Outcome) -> None:
        """Hear what became of one message of a post."""
        conversation = self.flights.get(receipt)
        if conversation is None:
            connection, token = self._landed(receipt)
            if connection is not None:
                connection.tell(token, outcome)
            return
        run = conversation.flight
        assert run is not None  # noqa: S101 - for the type checker; a flight has a run
        owner = conversation.owner
        cause = outcome.cause
        if cause and outcome.kind == FAILED:
            if cause == "skipped":
                self._put_back(receipt, conversation, run[index:])
                self.pump(conversation)
                return
            if cause == "layer_lost":
                self._lose(receipt, conversation, run[index:])
                return
        kind, _, token = run[index]
        last = index + 1 == len(run)
        if last:
            del self.flights[receipt]
            conversation.flight = None
            conversation.since = 0.0
            owner.flights -= 1
        owner.settled(kind, token, outcome)
        if outcome.kind in LOST_BY and not self._is_retried(token):
            owner.context.drop(LOST_BY[outcome.kind])
        if self.full:
            full = self.full.get(owner.pin or kind.channel)
            if full is not None:
                self._let_go(full, 1)
        if last:
            if owner.leaving is not None:
                landed(owner)
            if conversation.queue:
                self.pump(conversation)
            elif owner.state >= LOST:
                owner.part()

    def handled(self, receipt: int, index: int, number: int) -> None:
        """Hear that so many messages of a post, from ``index`` on, were accepted."""
        conversation = self.flights.get(receipt)
        if conversation is None:
            return  # what is outside every conversation is posted alone
        run = conversation.flight
        assert run is not None  # noqa: S101 - for the type checker; a flight has a run
        owner = conversation.owner
        last = index + number == len(run)
        if last:
            del self.flights[receipt]
            conversation.flight = None
            conversation.since = 0.0
            owner.flights -= 1
        if owner.session.heeds_accepted:
            handled = run if number == len(run) else run[index : index + number]
            owner.handled([token for _, _, token in handled])
        if self.full:
            full = self.full.get(owner.pin or run[index][0].channel)
            if full is not None:
                self._let_go(full, number)
        if last:
            if owner.leaving is not None:
                landed(owner)
            if conversation.queue:
                self.pump(conversation)
            elif owner.state >= LOST:
                owner.part()

    def refused(self, receipt: int, channel: str) -> None:
        """Hear that a channel had no room for a post."""
        conversation = self.flights.get(receipt)
        if conversation is None:
            connection, token = self._landed(receipt)
            if connection is not None:
                connection.refuse(token, Refusal.FULL, Drop.FULL)
            return
        run = conversation.flight
        assert run is not None  # noqa: S101 - for the type checker; a flight has a run
        self._put_back(receipt, conversation, run)
        if conversation.owner.abandoned:
            self.discard(conversation)
            return
        full = self.full.get(channel)
        if full is None:
            full = self.full[channel] = Queue()
        full.refused = True
        full.probes = 1
        self._wait_since_now(conversation)
        full.join(conversation)

    def announce(self, channels: frozenset[str] | None) -> None:
        """Hear what living workers route; what waited for a worker goes on."""
        self.announced = channels
        if channels is not None:
            self._until = None
            self._unpark()

    def down(self) -> None:
        """Hear that the layer is away. What was in flight has had its outcome before."""
        self.announced = self.edge.announced
        full, self.full = self.full, {}
        for queue in full.values():
            for conversation in queue.waiting:
                conversation.place = None
                self.pump(conversation)

    def up(self) -> None:
        """Hear that the layer is back."""
        self.announced = self.edge.announced
        self._unpark()

    def forget(self) -> None:
        """Drop everything without a word: the lease of this process has ended."""
        self.flights.clear()
        self.loose.clear()
        self.full.clear()
        self.parked.clear()
        self.later.clear()

    def _lose(self, receipt: int, conversation: Conversation, run: list[Entry]) -> None:
        """Give up a flight whose fate nobody knows, since the layer went away.

        It is refused as unavailable, and its connection ends, so that nothing overtakes it.
        The edge has counted it.
        """
        del self.flights[receipt]
        conversation.flight = None
        owner = conversation.owner
        owner.flights -= 1
        for _, _, token in run:
            owner.refuse(token, Refusal.UNAVAILABLE)
        owner.end()
        self.pump(conversation)
        if owner.state >= LOST:
            owner.part()

    def _landed(self, receipt: int) -> tuple[Connection | None, Any]:
        """Return whose a message outside every conversation was, and its token."""
        connection, token = self.loose.pop(receipt, (None, None))
        if connection is not None and connection.loose is not None:
            connection.loose.discard(receipt)
        return connection, token

    # ------------------------------------------------ waiting

    def _wait_since_now(self, conversation: Conversation) -> None:
        if not conversation.since:
            # No two alike: who is refused in the same turn keeps the order of posting.
            self._latest = max(self._clock.time(), math.nextafter(self._latest, math.inf))
            conversation.since = self._latest
        self._tick_later()

    def _put_back(self, receipt: int, conversation: Conversation, run: list[Entry]) -> None:
        """Land a flight: what did not run stands at the head of the conversation again."""
        del self.flights[receipt]
        conversation.flight = None
        queue = conversation.queue
        if queue is None:
            queue = conversation.queue = deque()
        again = self.later.get(conversation, 0)
        queue.rotate(-again)  # behind what is handed in again: that was before it
        queue.extendleft(reversed(run))
        queue.rotate(again)
        owner = conversation.owner
        owner.flights -= 1
        owner.waits(len(run), sum(len(payload) for _, payload, _ in run))
        if owner.leaving is not None:
            landed(owner)

    def _park(self, conversation: Conversation) -> None:
        self._wait_since_now(conversation)
        conversation.place = self
        self.parked.append(conversation)

    def _unpark(self) -> None:
        parked, self.parked = self.parked, []
        for conversation in parked:
            conversation.place = None
            conversation.since = 0.0
            self.pump(conversation)

    def _let_go(self, full: Queue, probes: int) -> None:
        """Send one message each of the conversations that waited longest."""
        while probes and full.waiting:
            conversation = full.waiting.popleft()
            conversation.place = None
            if conversation.owner.abandoned:
                self.discard(conversation)
            elif conversation.queue:
                self._depart(conversation, 1)
                probes -= 1

    def _tick_later(self) -> None:
        if self._timer is None:
            self._timer = self._clock.call_later(RETRY if self.full else PARKED, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.time()
        for channel, full in list(self.full.items()):
            self._expire(full, now)
            if full.refused:
                full.probes = 1
            elif full.waiting:
                full.probes = min(full.probes * 2, MOST_PROBES)
            else:
                del self.full[channel]
                continue
            full.refused = False
            self._let_go(full, full.probes)
        if self.parked:
            self._expire_parked(now)
        if self.full or self.parked:
            self._tick_later()

    def _expire(self, full: Queue, now: float) -> None:
        while full.waiting:
            conversation = full.waiting[0]
            queue = conversation.queue
            if queue and now < conversation.since + queue[0][0].patience:
                return
            full.waiting.popleft()
            conversation.place = None
            conversation.since = 0.0
            # What stands behind it for the same channel has no better prospects.
            kind = queue[0][0] if queue else None
            while queue and queue[0][0] is kind and conversation.place is None:
                self._refuse(conversation, Refusal.FULL, Drop.FULL)
            self.pump(conversation)

    def _expire_parked(self, now: float) -> None:
        away = not self.edge.available
        parked, self.parked = self.parked, []
        for conversation in parked:
            queue = conversation.queue
            patience = self._unavailable_timeout
            if queue and queue[0][0].opening:
                patience = queue[0][0].patience
            if queue and (
                now < conversation.since + patience
                or (self._until is not None and now < self._until and not away)
            ):
                self.parked.append(conversation)
                continue
            conversation.place = None
            conversation.since = 0.0
            if queue:
                if away:
                    self._refuse(conversation, Refusal.UNAVAILABLE, Drop.LAYER_LOST)
                else:
                    self._answer(conversation, NO_WORKER, Drop.EXPIRED)
            self.pump(conversation)

    # ------------------------------------------------ what never left

    def _refuse(self, conversation: Conversation, refusal: Refusal, drop: Drop) -> None:
        """Tell the session of the head of the queue that it never reached a consumer."""
        _, payload, token = _behead(conversation)
        owner = conversation.owner
        owner.refuse(token, refusal)
        if not self._is_retried(token):
            owner.context.drop(drop)
        owner.moved_on(1, len(payload))

    def _answer(
        self, conversation: Conversation, outcome: Outcome, drop: Drop | None = None
    ) -> None:
        """Give the head of the queue an outcome that no consumer gave."""
        kind, payload, token = _behead(conversation)
        owner = conversation.owner
        owner.settled(kind, token, outcome)
        if drop is not None and not self._is_retried(token):
            owner.context.drop(drop)
        owner.moved_on(1, len(payload))


def _behead(conversation: Conversation) -> Entry:
    assert conversation.queue  # noqa: S101 - for the type checker; every caller looked
    return conversation.queue.popleft()
