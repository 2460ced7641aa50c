"""`Postman`: delivers what is in the spool, of all gateway processes that share it alone.

It hears at once of what its own process spools; what others spool, and what ``gateway mail`` does,
it sees by the directory's time, once a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from gateway.core.deadlines import Deadline
from gateway.core.metrics import Drop
from gateway.core.plugin import Context
from gateway.plugins.email.client.config import Outgoing
from gateway.plugins.email.client.destinations import Destination, parted
from gateway.plugins.email.client.dialogue import Dialogue, Unreached, Verdict
from gateway.plugins.email.client.envelope import (
    DELIVERED,
    GIVEN_UP,
    WAITING,
    Entry,
    Recipient,
    Refused,
    packed,
)
from gateway.plugins.email.client.mx import NoRoute
from gateway.plugins.email.client.outbox import Outbox
from gateway.plugins.email.client.queue import Lane, Part, Queue
from gateway.plugins.email.client.reports import MOST, enveloped, report
from gateway.plugins.email.client.routes import Routes
from gateway.plugins.email.client.shared import Shared
from gateway.plugins.email.client.spool import Spool, read_head

LOOK: Final = 1.0
"""Seconds between two looks at the spool, and at whether another process delivers."""
STOP: Final = 10.0
"""Seconds for what is being sent to be answered, once the gateway stops: who is cut off in
between may get a mail twice."""
CLEAR: Final = 600.0
"""Seconds between two looks for what processes have left that died."""
AGAIN: Final = 60.0
"""Seconds until what went wrong here, and not at a server, is tried again."""


class Postman:
    """Delivers from a spool while no other process does."""

    def __init__(
        self,
        config: Outgoing,
        context: Context,
        spool: Spool,
        outbox: Outbox,
        routes: Routes,
        hostname: str,
    ) -> None:
        self._config = config
        self._delivery = config.delivery
        self._context = context
        self._spool = spool
        self._outbox = outbox
        self._routes = routes
        self._hostname = hostname
        self._queue = Queue(config.delivery)
        self._wake = asyncio.Event()
        self._alarm = Deadline(self._wake.set)
        self._stamps: dict[str, int | None] = {}
        """By mail: the stamp of the envelope that the queue has."""
        self._claims: dict[str, Shared] = {}
        self._claiming = asyncio.Lock()
        self._unreported: dict[str, float] = {}
        """Mails of which a report could not be spooled, and when that is tried again."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._troubles: dict[Destination, Verdict] = {}
        self._unstored: dict[str, Shared] = {}
        """Mails whose envelope could not be written: they stay claimed until it can be."""
        self._held: int | None = None
        """What locks the spool for this process."""
        self.delivers = False
        """Whether this process is the one that delivers."""
        self._seconds = context.histogram(
            "delivery_seconds", (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
        )

    # ------------------------------------------------ from the start to the end

    async def run(self) -> None:
        """Deliver, once no other process does, until cancelled."""
        run = self._outbox.run
        while (held := self._spool.deliverer()) is None:
            self._wake.clear()
            await self._sleep(LOOK)
            if self._closing:
                return
        self._held = held
        self.delivers = True
        seen: int | None = None
        looked = cleared = 0.0
        while not self._closing:
            self._wake.clear()
            try:
                if not cleared or time.monotonic() - cleared > CLEAR:
                    await run(self._spool.clear)
                    cleared = time.monotonic()
                if time.monotonic() - looked >= LOOK:
                    # What this process does changes it all the time, and is known here.
                    looked = time.monotonic()
                    changed = await run(self._spool.changed)
                    if changed != seen:
                        await self._look()
                        seen = changed
                await self._again()
            except OSError as error:
                self._context.log.error("the spool cannot be read: %s", error)  # noqa: TRY400 - the reason is all there is to tell
                seen = None
            except Exception:
                self._context.count("delivery_errors_total")
                self._context.log.exception("a mistake of the gateway in reading the spool")
                seen = None
            now = time.time()
            if self._delivery.enabled:
                for lane in self._queue.begin(now):
                    self._begin(lane)
            alarm = self._queue.next_alarm() if self._delivery.enabled else None
            wait = LOOK if alarm is None else max(0.0, min(LOOK, alarm - time.time()))
            await self._sleep(wait)

    async def _sleep(self, seconds: float) -> None:
        """Wait until something happens here, or for so long."""
        self._context.deadlines.set(self._alarm, seconds)
        await self._wake.wait()

    async def close(self) -> None:
        """Begin nothing more; return once what is being sent is answered."""
        self._closing = True
        self._context.deadlines.forget(self._alarm)
        self._wake.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._store_again()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def taken(self, entry: Entry) -> None:
        """Hear of a mail that this process has spooled."""
        if self.delivers and entry.id not in self._queue:
            self._put(entry)
            self._stamps[entry.id] = None
        self._wake.set()

    def health(self) -> Mapping[str, Any]:
        """Return facts for a health check. A server that is away is no illness of the gateway."""
        refused = [
            one
            for destination, one in self._troubles.items()
            if destination.smarthosts and one.status.startswith("4.7.")
        ]
        return {
            "ok": not refused,
            "delivers": self.delivers,
            "spooled": self._spool.messages,
            "connections": self._queue.active,
            "troubles": {str(d): one.reason for d, one in list(self._troubles.items())[:10]},
        }

    def connections(self) -> float:
        """Return how many connections there are: a gauge."""
        return float(self._queue.active)

    # ------------------------------------------------ what is in the spool

    def _put(self, entry: Entry) -> None:
        # What was written down by a clock that ran ahead does not wait for years.
        latest = time.time() + self._delivery.retry_longest
        parts = {
            where: min(latest, *(one.due for one in recipients))
            for where, recipients in parted(entry, self._config.smarthosts).items()
        }
        self._queue.put(entry.id, parts, entry.created)

    async def _look(self) -> None:
        """See what others have done to the spool."""
        before = set(self._stamps)
        stamps = await self._outbox.run(self._stamped)
        for name in before - stamps.keys():
            self._queue.drop(name)
            self._stamps.pop(name, None)
        for name, stamp in stamps.items():
            if name in self._claims or self._stamps.get(name, -1) == stamp:
                continue
            known = self._stamps.get(name, -1)
            # None: it is our own, as it was spooled.
            entry = None if known is None else await self._outbox.run(self._spool.read, name)
            self._stamps[name] = stamp
            if entry is None or name in self._claims:
                continue
            self._put(entry)
            if entry.given_up():
                self._unreported[name] = 0.0
            if known != -1:
                self._queue.hurry(name)  # somebody has asked for that

    def _stamped(self) -> dict[str, int]:
        found = {name: self._spool.stamp(name) for name in self._spool.names()}
        return {name: stamp for name, stamp in found.items() if stamp is not None}

    async def _claim(self, name: str) -> Shared | None:
        async with self._claiming:
            shared = self._claims.get(name)
            if shared is None:
                claim = await self._outbox.run(self._spool.claim, name)
                if claim is None:
                    return None
                shared = self._claims[name] = Shared(claim)
            shared.users += 1
            return shared

    def _release(self, shared: Shared) -> None:
        shared.users -= 1
        if not shared.users:
            self._claims.pop(shared.claim.entry.id, None)
            shared.claim.close()

    # ------------------------------------------------ connections

    def _begin(self, lane: Lane) -> None:
        task = self._context.spawn(self._serve(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, lane: Lane) -> None:
        """Have one connection of a lane, and send what is due by it."""
        part = self._queue.next(lane, time.time())
        dialogue: Dialogue | None = None
        try:
            if part is not None and await self._still_there(part):
                dialogue = await self._connect(lane, part)
            sent = 0
            while dialogue is not None and part is not None:
                await self._deliver(dialogue, lane, part)
                sent += 1
                part = None
                if self._may_go_on(dialogue, sent):
                    part = self._queue.next(lane, time.time())
        except Exception:
            self._context.count("delivery_errors_total")
            self._context.log.exception("%s: delivery failed in the gateway", lane.destination)
        finally:
            if part is not None and part.in_hand:
                self._queue.again(part, time.time() + AGAIN)
            try:
                if dialogue is not None:
                    await dialogue.close()
            finally:
                self._queue.ended(lane)
                if self._queue[lane.destination] is None:
                    self._troubles.pop(lane.destination, None)
                self._wake.set()

    def _may_go_on(self, dialogue: Dialogue, sent: int) -> bool:
        fresh = sent < self._delivery.mails_per_connection
        return dialogue.is_open and fresh and not self._closing

    async def _still_there(self, part: Part) -> bool:
        if await self._outbox.run(self._spool.knows, part.name):
            return True
        self._forget(part)
        return False

    async def _connect(self, lane: Lane, part: Part) -> Dialogue | None:
        """Return a connection; where there is none, do what follows for the part."""
        delivery = self._delivery
        verdict = Verdict(WAITING, 0, "4.4.1", "there is no server to ask")
        try:
            servers = await self._routes.servers(lane.destination)
        except NoRoute as error:
            servers = []
            permanent = error.status.startswith("5")
            verdict = Verdict(GIVEN_UP if permanent else WAITING, 0, error.status, str(error))
        for server in servers:
            dialogue = Dialogue(
                server,
                self._hostname,
                connect_timeout=delivery.connect_timeout,
                timeout=delivery.timeout,
                data_timeout=delivery.data_timeout,
            )
            try:
                await dialogue.open()
            except Unreached as error:
                verdict = error.verdict
                continue
            self._queue.came_through(lane)
            self._troubles.pop(lane.destination, None)
            return dialogue
        if verdict.state == WAITING:
            await self._fail(lane, part, verdict)
        else:
            await self._judge(lane, part, verdict)
        return None

    async def _fail(self, lane: Lane, part: Part, verdict: Verdict) -> None:
        """Have a lane wait, as no connection came to be, and give up what has waited too long."""
        now = time.time()
        until = self._queue.failed(lane, now, verdict.reason)
        self._troubles[lane.destination] = verdict
        self._context.count("unreached_total")
        self._context.log.warning(
            "%s: no mail can be delivered (%s); again in %.0f s",
            lane.destination,
            verdict.reason,
            until - now,
        )
        await self._judge(lane, part, verdict)
        for overdue in self._queue.overdue(lane, now - self._delivery.max_age):
            try:
                await self._judge(lane, overdue, verdict)
            finally:
                if overdue.in_hand:
                    self._queue.again(overdue, now + AGAIN)

    async def _judge(self, lane: Lane, part: Part, verdict: Verdict) -> None:
        """Have all recipients of a part be told the same, without a connection."""
        shared = await self._claim(part.name)
        if shared is None:
            self._elsewhere(part)
            return
        try:
            recipients = self._recipients(shared, part)
            if not recipients:
                self._forget(part)
                return
            verdicts = dict.fromkeys((one.address for one in recipients), verdict)
            await self._settle(shared, lane, part, verdicts)
        finally:
            self._release(shared)

    def _recipients(self, shared: Shared, part: Part) -> list[Recipient]:
        found = parted(shared.claim.entry, self._config.smarthosts)
        return found.get(part.destination, [])

    def _elsewhere(self, part: Part) -> None:
        """Put off what somebody else works on, or what is gone."""
        self._queue.again(part, time.time() + LOOK)

    def _forget(self, part: Part) -> None:
        self._queue.done(part)
        if part.name not in self._queue:
            self._stamps.pop(part.name, None)

    # ------------------------------------------------ mails

    async def _deliver(self, dialogue: Dialogue, lane: Lane, part: Part) -> None:
        if not await self._still_there(part):
            return
        shared = await self._claim(part.name)
        if shared is None:
            self._elsewhere(part)
            return
        began = time.monotonic()
        try:
            entry, recipients = shared.claim.entry, self._recipients(shared, part)
            if not recipients:
                self._forget(part)
                return
            try:
                verdicts = await dialogue.send(entry, recipients, shared.claim.descriptor)
            except Unreached as error:
                self._queue.failed(lane, time.time(), error.verdict.reason)
                verdicts = dict.fromkeys((one.address for one in recipients), error.verdict)
            self._seconds.observe(time.monotonic() - began)
            await self._settle(shared, lane, part, verdicts)
        finally:
            self._release(shared)

    async def _settle(
        self, shared: Shared, lane: Lane, part: Part, verdicts: Mapping[str, Verdict]
    ) -> None:
        """Write down what became of recipients, and do what follows from it."""
        async with shared.lock:
            entry = shared.claim.entry
            due = self._apply(entry, self._recipients(shared, part), verdicts, lane.blocked)
            entry.forget([one for one in entry.recipients if one.state == DELIVERED])
            if not entry.bounces:
                entry.forget(entry.given_up())
            await self._stored(shared)
            if entry.given_up():
                await self._report(shared, entry.given_up())
            elif due is not None:
                await self._warn(shared)
            if due is None:
                self._forget(part)
            else:
                self._queue.again(part, due)

    def _apply(
        self,
        entry: Entry,
        recipients: Iterable[Recipient],
        verdicts: Mapping[str, Verdict],
        blocked: float,
    ) -> float | None:
        """Change recipients as verdicts say; return when the rest is due, None: there is none."""
        now = time.time()
        due: float | None = None
        late = entry.created + self._delivery.max_age <= now
        for one in recipients:
            found = verdicts[one.address]
            one.tries += 1
            one.tried = now
            one.code, one.status = found.code, found.status
            one.reason, one.server = found.reason, found.server
            one.state = found.state
            if found.state == WAITING and late:
                one.state = GIVEN_UP
                one.status = "5.4.7"
                one.reason = f"it was tried for too long; at last: {found.reason}"
                self._context.drop(Drop.EXPIRED)
            elif found.state == WAITING:
                one.due = max(blocked, now + self._queue.wait(one.tries))
                due = one.due if due is None else min(due, one.due)
            elif found.state == GIVEN_UP and not entry.bounces:
                self._context.drop(Drop.FAILED)
            self._told(entry, one)
        return due

    def _told(self, entry: Entry, one: Recipient) -> None:
        """Count what became of a recipient, and log it."""
        word = {DELIVERED: "delivered", WAITING: "deferred", GIVEN_UP: "undeliverable"}[one.state]
        self._context.count("recipients_total", result=word)
        said = " ".join(part for part in (str(one.code or ""), one.status, one.reason) if part)
        level = self._context.log.info if one.state != GIVEN_UP else self._context.log.warning
        level("%s to <%s>: %s: %s", entry.id, one.address, word, said)

    async def _stored(self, shared: Shared) -> None:
        """Have an entry on disk as it is: now, or as soon as that can be."""
        entry = shared.claim.entry
        try:
            await self._store(entry)
        except OSError as error:
            self._context.log.error("%s: its envelope cannot be written: %s", entry.id, error)  # noqa: TRY400 - the reason is all there is to tell
            if entry.id not in self._unstored:
                # It stays claimed: nobody is to read what is not true any more, and send it again.
                shared.users += 1
                self._unstored[entry.id] = shared

    async def _store(self, entry: Entry) -> None:
        if not entry.recipients:
            self._stamps.pop(entry.id, None)
            await self._outbox.run(self._spool.remove, entry)
            return
        stamp = await self._outbox.run(self._spool.update, entry.id, packed(entry))
        self._stamps[entry.id] = stamp

    # ------------------------------------------------ reports

    async def _report(self, shared: Shared, recipients: list[Recipient]) -> None:
        """Tell the sender that a mail could not be delivered, and forget those recipients."""
        entry = shared.claim.entry
        try:
            await self._send_report(shared, recipients)
        except Refused as error:
            self._context.log.error("%s: its report cannot be spooled: %s", entry.id, error)  # noqa: TRY400 - the reason is all there is to tell
            self._unreported[entry.id] = time.time() + AGAIN
            return
        self._context.count("reports_total")
        entry.forget(recipients)
        await self._stored(shared)

    async def _warn(self, shared: Shared) -> None:
        """Tell the sender, once, that a mail takes long, where that is wanted."""
        entry, delay = shared.claim.entry, self._delivery.delay_warning
        if not delay or entry.warned or not entry.bounces or time.time() < entry.created + delay:
            return
        until = entry.created + self._delivery.max_age
        with suppress(Refused):
            await self._send_report(shared, entry.waiting(), until)
            entry.warned = True
            await self._stored(shared)

    async def _send_report(
        self, shared: Shared, recipients: list[Recipient], until: float = 0.0
    ) -> None:
        entry = shared.claim.entry
        # The same report has the same id: one that is made again after a crash is the same.
        text = " ".join([str(until > 0), *sorted(one.address for one in recipients)])
        mark = hashlib.sha256(text.encode()).hexdigest()[:12]
        name = f"{entry.id[:20]}-{mark}"
        if await self._outbox.run(self._spool.knows, name):
            return
        head = await self._outbox.run(read_head, shared.claim.descriptor, MOST)
        content = report(
            entry,
            recipients,
            entry.before.encode() + head,
            hostname=self._hostname,
            now=time.time(),
            message_id=f"<{name}@{self._hostname}>",
            delayed_until=until,
        )
        envelope = enveloped(entry, name, self._hostname)
        await self._outbox.submit(envelope, content, forced=True)

    # ------------------------------------------------ what could not be done before

    async def _again(self) -> None:
        """Make the reports that could not be made, or that a crash came before."""
        await self._store_again()
        now = time.time()
        for name in [name for name, due in self._unreported.items() if due <= now]:
            del self._unreported[name]
            shared = await self._claim(name)
            if shared is None:
                if await self._outbox.run(self._spool.knows, name):
                    self._unreported[name] = now + AGAIN  # somebody looks at it
                continue
            try:
                async with shared.lock:
                    if failed := shared.claim.entry.given_up():
                        await self._report(shared, failed)
            finally:
                self._release(shared)

    async def _store_again(self) -> None:
        for name, shared in list(self._unstored.items()):
            async with shared.lock:
                if name not in self._unstored:
                    continue  # it was stored while this waited
                with suppress(OSError):
                    await self._store(shared.claim.entry)
                    del self._unstored[name]
                    self._release(shared)
