"""The worker: threads for synchronous consumers, one loop for asynchronous ones.

The threads take from the layer themselves, so that synchronous code, which is the normal case,
never waits for a loop. A thread that took a message for an asynchronous consumer hands it to
the loop and goes on; channels that have only asynchronous ones are taken by the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import threading
import time
from typing import Any, Final, Protocol

from django.core.cache import InvalidCacheBackendError, caches

from django_gateway.crew import Crew
from django_gateway.database import worker_thread
from django_gateway.instances import Instances, current
from django_gateway.routing import Router
from django_gateway.runner import Runner, Running
from django_gateway.signals import worker_ready, worker_stopping
from gateway.core import malloc
from gateway.core.config import WorkerSettings
from gateway.core.errors import LayerError, LayerUnavailable
from gateway.core.layers.base import Delivery, Intake, Layer
from gateway.core.loop import new_loop
from gateway.core.metrics import Drop, Metrics
from gateway.core.names import PIN
from gateway.core.recycling import Limits

log = logging.getLogger("gateway.worker")

CREDIT: Final = 32
"""Deliveries that the layer hands over ahead: far above the threads, so that none waits for
the wire; more gained nothing."""
RETRY: Final = 0.5
"""Seconds between two tries to announce to a layer that is away."""
SETTLING: Final = 1.0
"""Seconds that cancelled consumers get for their own clean-up, past the grace."""


class WorkerConfig(Protocol):
    """What the worker reads of the settings table ``[workers]``."""

    threads: int
    stand_ins: int
    async_limit: int
    version: str


class Worker:
    """One worker on a layer: `start`, then `stop`. The layer is its owner's to close."""

    def __init__(
        self, layer: Layer, router: Router, config: WorkerConfig, metrics: Metrics | None = None
    ) -> None:
        self.layer = layer
        self.router = router
        self.metrics = Metrics() if metrics is None else metrics
        self.ready = threading.Event()
        """Set once the channels are announced and taken."""
        self._runner = Runner(layer, router, self.metrics, config.threads)
        self.instances = Instances(layer, self.metrics)
        mixed, alone = _split(router)
        self._intake: Intake = layer.intake([*mixed, PIN] if mixed else [], CREDIT)
        self._loop_intake: Intake | None = None
        if alone:
            own = alone if mixed else [*alone, PIN]
            self._loop_intake = layer.intake(own, config.async_limit)
        self._stopping = threading.Event()
        self._crew = Crew(
            config.threads if mixed else 0,
            config.stand_ins,
            self._take,
            self._set_aside,
            self._given_up,
        )
        self._in_hand = threading.local()
        """Its ``delivery`` is the one that this thread runs."""
        self._announcer = threading.Thread(target=self._announce, name="announcer", daemon=True)
        self._sweeper = threading.Thread(
            target=self.instances.keep_swept, args=(self._stopping,), name="sweeper", daemon=True
        )
        self._loop = new_loop()
        self._loop_thread = threading.Thread(target=self._serve, name="loop", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._async_limit = config.async_limit
        self._version = config.version

    def start(self) -> None:
        """Start taking, and return at once."""
        self._loop_thread.start()
        self._crew.start()
        self._announcer.start()
        if any(getattr(one.consumer, "stateful", False) for one in self.router.routes):
            self._sweeper.start()

    def stop(self, grace: float) -> bool:
        """Take no more, let what runs finish for up to ``grace`` seconds; return whether it did.

        Blocks: not for a thread that runs an event loop. What was handed over and not begun is
        released. Asynchronous consumers that are not done by then are cancelled.
        """
        end = time.monotonic() + grace
        self._stopping.set()
        worker_stopping.send_robust(Worker, worker=self)
        if self._loop_intake is not None:
            self._loop_intake.close()
        self._intake.close()  # last: it lifts pins, and nothing is to come back to this worker
        self.instances.part()
        done = self._crew.join(end)
        self._announcer.join(max(0.0, end - time.monotonic()))
        if self._sweeper.ident is not None:
            self._sweeper.join(max(0.0, end - time.monotonic()))
        finishing = asyncio.run_coroutine_threadsafe(
            self._finish(max(0.0, end - time.monotonic())), self._loop
        )
        done = finishing.result() and done
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join(SETTLING)
        return done

    def handled(self) -> int:
        """Return how many messages it has run."""
        return self._runner.handled()

    # ---------------------------------------------------------------- threads

    @worker_thread()
    def _take(self) -> None:
        _make_caches()
        current.set(self.instances)
        base = contextvars.copy_context()
        take, run, hand_over = self._intake.take, self._runner.run, self._hand_over
        spare, in_hand = self._crew.spare, self._in_hand
        while not spare():
            try:
                delivery = take()
                if delivery is not None:
                    in_hand.delivery = delivery
                    run(delivery, base, hand_over)
                elif self._stopping.is_set():
                    return
            except Exception:
                self.metrics.count("gateway_errors_total")
                log.exception("the layer failed; the thread goes on")

    def _set_aside(self) -> None:
        """Let others have the credit of what this thread runs: it waits for a client."""
        self._intake.set_aside(self._in_hand.delivery)

    def _given_up(self) -> None:
        """Count a client that was given up: its thread was needed for others."""
        self.metrics.drop(Drop.SLOW, where="worker")

    def _announce(self) -> None:
        while not self._stopping.is_set():
            try:
                self.layer.announce(self.router.table, self._version)
            except LayerUnavailable:
                self._stopping.wait(RETRY)
            except LayerError:
                log.exception("the channels could not be announced")
                self._stopping.wait(RETRY)
            else:
                self.ready.set()
                worker_ready.send_robust(Worker, worker=self)
                return

    # ---------------------------------------------------------------- the loop

    def _hand_over(self, delivery: Delivery, index: int, running: Running | None) -> None:
        if len(self._tasks) < self._async_limit:  # beyond it they hold the threads' credit
            self._intake.set_aside(delivery)
        self._loop.call_soon_threadsafe(self._begin, delivery, index, running)

    def _begin(self, delivery: Delivery, index: int = 0, running: Running | None = None) -> None:
        task = self._loop.create_task(self._runner.arun(delivery, index, running))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.metrics.count("gateway_errors_total")
            log.error("the layer failed; the loop goes on", exc_info=error)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._crew.enlist()
        current.set(self.instances)
        if self._loop_intake is not None:
            self._loop.create_task(self._atake(self._loop_intake))
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _atake(self, intake: Intake) -> None:
        while True:
            try:
                delivery = await intake.atake()
                if delivery is not None:
                    self._begin(delivery)
                elif self._stopping.is_set():
                    return
            except Exception:
                self.metrics.count("gateway_errors_total")
                log.exception("the layer failed; the loop goes on")

    async def _finish(self, grace: float) -> bool:
        if not self._tasks:
            return True
        _, late = await asyncio.wait(set(self._tasks), timeout=grace)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=SETTLING)
        return not late


def run(worker: Worker, config: WorkerSettings) -> int:
    """Run a worker on the main thread until SIGTERM or SIGINT; return the exit status.

    The first signal drains it, a second one ends the process at once, with status 1. A limit of
    its settings drains it, too: its process manager starts another. SIGHUP, which asks a gateway
    to load its files again, does nothing here, and so ends nothing.
    """
    asked = threading.Event()
    limits = Limits(config)
    grace = config.grace

    def stop(*_: Any) -> None:
        if asked.is_set():
            os._exit(1)  # stopped at once
        asked.set()

    def stay(*_: Any) -> None:
        """Do nothing."""

    wanted = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: stay}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    worker.start()
    malloc.keep_objects()
    log.info("worker takes %s", ", ".join(worker.router.channels()))
    while not asked.wait(limits.look_every()):
        if (worn := limits.reached(worker.handled())) is not None:
            log.info("worker ends, to be started again by who started it: %s", worn)
            asked.set()
    log.info("worker stops: it finishes what runs, for up to %g s", grace)
    done = worker.stop(grace)
    worker.layer.close()
    if not done:
        log.warning("consumers that ran longer than %g s were cut off", grace)
        logging.shutdown()
        os._exit(0)  # the interpreter would wait for their threads
    for number, handler in before.items():
        signal.signal(number, handler)
    return 0


def _split(router: Router) -> tuple[list[str], list[str]]:
    """Return the channels for the threads, and those that the loop takes by itself."""
    mixed: list[str] = []
    alone: list[str] = []
    for channel in router.channels():
        only_async = all(one.is_async for one in router.of(channel))
        (alone if only_async else mixed).append(channel)
    return mixed, alone


def _make_caches() -> None:
    """Make the caches in the thread's own context, so that messages share them."""
    for alias in caches:
        try:
            caches[alias]
        except InvalidCacheBackendError:
            continue  # whoever uses it will hear
