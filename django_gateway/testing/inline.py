"""A worker on the test's own thread, which runs everything that is due and then stands still.

It runs what a real worker runs (`Runner`, the routing table, Django's handler), takes from the
layer as a real one does, and differs in who waits: synchronous consumers run on the thread
of the test, so that they see its database transaction; asynchronous ones on a loop whose blocking
code comes back to that thread. Where a consumer waits for a message of the layer, others are run
meanwhile, and where there is nothing to run, the virtual time passes.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from asgiref.sync import async_to_sync, sync_to_async
from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from django_gateway.asgi import channel_layers
from django_gateway.channel import outbox
from django_gateway.crew import Crew, Wait
from django_gateway.database import left_alone
from django_gateway.exceptions import RequestAborted
from django_gateway.instances import Instances, current
from django_gateway.message import Message
from django_gateway.routing import Router
from django_gateway.runner import Runner, Running
from django_gateway.testing.story import Failure, Run, Story
from gateway.core.layers import codec
from gateway.core.layers.base import FAILED, Delivery, Outcome, Send
from gateway.core.layers.memory import MemoryIntake, MemoryLayer
from gateway.core.metrics import Metrics
from gateway.core.names import PIN
from gateway.testing.memory import MemoryGateway

CREDIT: Final = 32
"""Deliveries that are handed over ahead, as to a real worker."""
PATIENCE: Final = 5.0
"""Real seconds that consumers may run before one of them counts as stuck."""
LOOK: Final = 0.001
"""Real seconds between two looks at what runs on another thread."""
STEP: Final = 0.1
"""Virtual seconds that pass at once while a consumer waits: what the layer's clock resolves."""


class StuckError(AssertionError):
    """A consumer does not come to its end."""


class RecordingRunner(Runner):
    """Runs as ever, and keeps what consumers raise."""

    def __init__(self, layer: InlineLayer, router: Router, metrics: Metrics, story: Story) -> None:
        super().__init__(layer, router, metrics, 0)
        self._story = story

    def _outcome_of(self, error: BaseException, route: str, subject: Message | Delivery) -> Outcome:
        outcome = super()._outcome_of(error, route, subject)
        if outcome.kind == FAILED and not isinstance(error, RequestAborted):
            channel = subject.channel_name if isinstance(subject, Message) else subject.channel
            self._story.failures.append(Failure(error, route, channel))
        return outcome


class InlineLayer(MemoryLayer):
    """The worker's process on the gateway's layer; waiting on it runs what others have to do."""

    def __init__(self, gateway: MemoryGateway, worker: InlineWorker) -> None:
        super().__init__("memory://", gateway.shared.state.options, shared=gateway.shared)
        self._worker = worker

    def _take(
        self, channels: Sequence[str], block: float, *, inbox: bool, settled: bool
    ) -> Delivery | None:
        found = super()._take(channels, 0, inbox=inbox, settled=settled)
        if found is not None or block <= 0:
            return found
        with self._worker.waiting(block) as wait:
            while True:
                self._worker.others(wait)
                found = super()._take(channels, 0, inbox=inbox, settled=settled)
                if found is not None or wait.is_over():
                    return found
                wait.pass_time()

    async def _atake(
        self, channels: Sequence[str], block: float, *, inbox: bool, settled: bool
    ) -> Delivery | None:
        found = await super()._atake(channels, 0, inbox=inbox, settled=settled)
        if found is not None or block <= 0:
            return found
        with self._worker.waiting(block) as wait:
            while True:
                self._worker.gateway.loop.run()
                idle = not self._worker.is_busy()  # asked first: what runs may send meanwhile
                found = await super()._atake(channels, 0, inbox=inbox, settled=settled)
                if found is not None or wait.is_over():
                    return found
                if idle:
                    wait.pass_time()
                await asyncio.sleep(0 if idle else LOOK)

    def settle(
        self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send] = ()
    ) -> None:
        """As any layer's; what becomes of each message is kept."""
        for index, outcome in enumerate(outcomes, delivery.settled):
            message = codec.decode(delivery.payloads[index])
            self._worker.story.runs.append(Run(delivery.channel, message, outcome))
        super().settle(delivery, outcomes, sends)


class Waiting:
    """A consumer's wait for a message."""

    def __init__(self, worker: InlineWorker, seconds: float) -> None:
        self._worker = worker
        self._end = worker.gateway.loop.time() + seconds
        self._real_end = worker.deadline

    def is_over(self) -> bool:
        """Return whether the virtual time is up. Raises `StuckError` if the real one is."""
        if time.monotonic() > self._real_end:
            raise StuckError(f"a consumer went on waiting for messages for {PATIENCE:g} s")
        return self._worker.gateway.loop.time() >= self._end

    def pass_time(self) -> None:
        """Let a step of the virtual time pass: there is nothing else to do."""
        loop = self._worker.gateway.loop
        loop.run(min(STEP, max(0.0, self._end - loop.time())), self._worker.has_work)


class InlineCrew(Crew):
    """The threads of a worker that has none of its own."""

    def __init__(self) -> None:
        super().__init__(0, 0, _nothing, _nothing, _nothing)

    @contextmanager
    def away(self, wake: Callable[[], None]) -> Iterator[Wait]:
        """Need no stand-in: who waits has others run meanwhile."""
        yield Wait(wake)

    async def lend(self, call: Callable[[], Any]) -> Any:
        """Run ``call`` where blocking code runs."""
        return await sync_to_async(call)()


class InlineWorker:
    """Runs an application's consumers when it is told to, until nothing is left to do."""

    def __init__(self, gateway: MemoryGateway, router: Router) -> None:
        self.gateway = gateway
        self.router = router
        self.story = Story()
        self.deadline = 0.0
        """When, in real time, what runs counts as stuck."""
        self.held = 0
        """How many blocks hold everything up."""
        self._crew = InlineCrew()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._depth = 0
        self._driving: int | None = None
        self._begin_process()

    def _begin_process(self) -> None:
        """Be a worker process on the layer."""
        gateway, router = self.gateway, self.router
        self.layer = InlineLayer(gateway, self)
        self._runner = RecordingRunner(self.layer, router, gateway.metrics, self.story)
        self._instances = Instances(self.layer, gateway.metrics)
        intake = self.layer.intake([*router.channels(), PIN], CREDIT)
        assert isinstance(intake, MemoryIntake)  # noqa: S101 - for the type checker
        self._intake = intake
        gateway.loop.do(self.layer.aannounce(router.channels()))
        gateway.loop.do(intake.atake(0))  # begin to be handed over to

    def replace(self) -> None:
        """Be another process from now on, as by a reload: what was pinned to the old one is not
        any more. Call it when nothing is due.
        """  # noqa: D205 - one sentence
        if self.held:
            raise RuntimeError(
                "the worker cannot be replaced within together(), where nothing is run: do it "
                "before the block or after it"
            )
        layer, intake, instances = self.layer, self._intake, self._instances
        self._begin_process()
        intake.close()
        if sends := instances.partings():
            self.gateway.loop.do(layer.aapply(sends))
        if channel_layers.is_used(layer):
            channel_layers.use(self.layer)
        layer.close()

    # ------------------------------------------------ driving

    def work(self) -> None:
        """Run everything that is due. Raises `StuckError`."""
        if not self.held:
            with self._at_work():
                self._work()

    async def awork(self) -> None:
        """Async twin of `work`."""
        if not self.held:
            with self._at_work():
                await self._drive(())

    def work_until(self, done: Callable[[], bool], seconds: float) -> None:
        """Run everything that is due and let time pass, ``seconds`` at most, until ``done``."""
        with self._at_work():
            self._work()
            end = self.gateway.loop.time() + seconds
            while not done() and (left := end - self.gateway.loop.time()) > 0:
                self.gateway.loop.run(left, lambda: self.has_work() or done())
                self._work()

    async def awork_until(self, done: Callable[[], bool], seconds: float) -> None:
        """Async twin of `work_until`."""
        with self._at_work():
            await self._drive(())
            end = self.gateway.loop.time() + seconds
            while not done() and (left := end - self.gateway.loop.time()) > 0:
                self.gateway.loop.run(left, lambda: self.has_work() or done())
                await self._drive(())

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Have the layer be everybody's and the test's database connections be left alone."""
        if self._depth:
            yield
            return
        channel_layers.use(self.layer)
        kept = left_alone.set(True)
        box = outbox.set(None)
        instances = current.set(self._instances)
        # as Django's own test client does: they would close the connection of the test
        held = [
            s for s in (request_started, request_finished) if s.disconnect(close_old_connections)
        ]
        self._depth += 1
        self.deadline = time.monotonic() + PATIENCE
        try:
            yield
        finally:
            self._depth -= 1
            for one in held:
                one.connect(close_old_connections)
            current.reset(instances)
            outbox.reset(box)
            left_alone.reset(kept)

    def _work(self) -> None:
        while True:
            self.gateway.loop.run()
            delivery = self._intake.take(0)
            if delivery is None:
                return
            self._run(delivery)

    def _run(self, delivery: Delivery) -> None:
        begun: list[tuple[Delivery, int, Running | None]] = []
        base = contextvars.copy_context()
        self._runner.run(delivery, base, lambda *left: begun.append(left))
        if begun:
            async_to_sync(self._drive)(begun)

    async def _drive(self, begun: Sequence[tuple[Delivery, int, Running | None]]) -> None:
        """Run everything that is due on this loop, beginning with what a thread has begun."""
        before, self._driving = self._driving, threading.get_ident()
        self._crew.enlist()
        for one in begun:
            self._begin(*one)
        try:
            while True:
                self.gateway.loop.run()
                delivery = await self._intake.atake(0)
                if delivery is not None:
                    self._begin(delivery)
                elif self._tasks:
                    await self._look()
                else:
                    return
        finally:
            self._driving = before
            tasks, self._tasks = self._tasks, set()
            for task in tasks:
                task.cancel()

    def _begin(self, delivery: Delivery, index: int = 0, running: Running | None = None) -> None:
        self._intake.set_aside(delivery)
        work = self._runner.arun(delivery, index, running)
        self._tasks.add(asyncio.create_task(work, name=delivery.channel))

    async def _look(self) -> None:
        done, left = await asyncio.wait(
            self._tasks, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED
        )
        self._tasks = left
        for task in done:
            task.result()
        if not done and time.monotonic() > self.deadline:
            names = ", ".join(sorted(task.get_name() for task in left))
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=PATIENCE)
            self._tasks = set()
            raise StuckError(f"after {PATIENCE:g} s a consumer is still running: {names}")

    # ------------------------------------------------ consumers that wait

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[Waiting]:
        """Count a consumer that waits for a message; or the test itself."""
        with self._at_work():
            self._waiting += 1
            try:
                yield Waiting(self, seconds)
            finally:
                self._waiting -= 1

    def others(self, wait: Waiting) -> None:
        """Run what else there is while a consumer waits on this thread."""
        if self._driving is None:
            self._work()
            return
        self.gateway.loop.run()
        while self.is_busy() and not wait.is_over():
            time.sleep(LOOK)  # the loop is on another thread
            self.gateway.loop.run()

    def is_busy(self) -> bool:
        """Return whether something runs that does not wait for a message."""
        return self.has_work() or len(self._tasks) > self._waiting

    def has_work(self) -> bool:
        """Return whether a message waits to be run."""
        return self._intake.ready


def _nothing() -> None:
    """Do nothing."""
