"""One message: route it, run its consumer, settle it together with what it sent.

A delivery's messages are run in sequence and settled one by one; the first outcome other
than ``accepted`` ends it. Each consumer runs in a context of its own (`contextvars`), so that
what one sets (a language, a time zone, a URLconf) the next does not see.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle
from typing import Any, Final, NamedTuple

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async

from django_gateway.channel import Outbox, outbox
from django_gateway.database import opened_for_loop, tidy
from django_gateway.exceptions import ConsumeLater, Reject
from django_gateway.message import Message
from django_gateway.middleware import ConsumerCall, Middleware, check_result
from django_gateway.reports import report
from django_gateway.routing import Route, Router
from django_gateway.signals import consumer_finished, consumer_started
from gateway.core.layers.base import (
    ACCEPTED,
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
    Delivery,
    Layer,
    Outcome,
)
from gateway.core.layers.codec import decode
from gateway.core.metrics import Counter, Drop, Metrics

log = logging.getLogger("django.gateway")

NO_ROUTE: Final = Outcome(UNROUTED)
ONE_OK: Final = (OK,)
FIRST_DELAY: Final = 0.1
"""Seconds that `ConsumeLater` waits at first; it doubles, so ten tries span 51 seconds."""
LONGEST_DELAY: Final = 30.0
"""Seconds it waits at most: half of a message's lifetime."""

_TO_THREAD: Final = SyncToAsync.thread_handler.__code__
"""Where asgiref raises an exception that is being handled again, for a thread to see it: of no
interest to who reads the traceback."""


class Running(NamedTuple):
    """A consumer that goes on on the loop, begun by a thread."""

    work: Awaitable[Any]
    route: Route
    message: Message
    box: Outbox
    context: contextvars.Context


HandOver = Callable[[Delivery, int, Running | None], None]
"""Have a delivery run on the loop, from a message's index on."""


class Runner:
    """Runs deliveries, on any thread and on one loop."""

    def __init__(self, layer: Layer, router: Router, metrics: Metrics, threads: int) -> None:
        self._layer = layer
        self._router = router
        self._middleware: Middleware | None = router.middleware
        self._metrics = metrics
        self._counters: dict[tuple[str, str], Counter] = {}
        self._accepted: dict[str, Counter] = {}
        """Those of what was accepted, by channels that are no addresses."""
        self._aside: Iterator[Any] = cycle(
            [ThreadSensitiveContext() for _ in range(threads)] or [None]
        )
        """Where blocking code of asynchronous consumers runs: one thread each, so that there
        are no more database connections than twice the threads. Without threads: where that
        of whoever runs them does."""

    def handled(self) -> int:
        """Return how many messages were run."""
        return sum(counter.value for counter in list(self._counters.values()))

    # ---------------------------------------------------------------- on a thread

    def run(self, delivery: Delivery, base: contextvars.Context, hand_over: HandOver) -> None:
        """Run a delivery on this thread, each message in a copy of ``base``.

        From the first asynchronous consumer on it is handed over.
        """
        channel, attempt = delivery.channel, delivery.attempt
        match, call, settle = self._router.match, self._call, self._layer.settle
        most = self._layer.options.message_bytes
        accepted = self._accepted.get(channel) or self._counter(channel, ACCEPTED)
        for index, payload in enumerate(delivery.payloads):
            box = Outbox(most)
            try:
                message = Message(decode(payload), channel, attempt)
                matched = match(message)
                if matched is None:
                    outcome = NO_ROUTE
                else:
                    route, arguments = matched
                    if route.is_async or (route.on_loop is not None and route.on_loop(message)):
                        hand_over(delivery, index, None)
                        return
                    context = base.copy()
                    found = context.run(call, route, message, arguments, box)
                    if found.__class__ is not Outcome:
                        running = Running(found, route, message, box, context)
                        hand_over(delivery, index, running)
                        return
                    outcome = found
            except Exception as error:  # noqa: BLE001 - routing, which no consumer answers for
                outcome = self._outcome_of(error, "the routing table", delivery)
            if outcome is OK and not box.discarded and box.closers is None:  # nearly every message
                box.open = False
                accepted.value += 1
                settle(delivery, ONE_OK, box.sends)
                continue
            self._close(box, outcome, delivery)
            settle(delivery, (outcome,), box.sends)
            if outcome.kind != ACCEPTED:
                return

    def _call(self, route: Route, message: Message, arguments: dict[str, Any], box: Outbox) -> Any:
        """Return the outcome of a synchronous consumer, or what it left to be awaited."""
        outbox.set(box)
        try:
            if route.on_loop is not None:  # views, which have Django's own signals
                left = route.consumer(message, **arguments)
                return OK if left is None else left
            tidy()
            if consumer_started.receivers:
                consumer_started.send(Runner, message=message)
            try:
                if self._middleware is None:
                    consumer = route.consumer
                    result = consumer(message, **arguments) if arguments else consumer(message)
                    if result is not None:
                        check_result(route, result)
                    outcome = OK
                else:
                    chain = self._middleware.chain(is_async=False)
                    outcome = chain(message, ConsumerCall(route, arguments, box))
                if box.attended is not None and outcome.kind == ACCEPTED:
                    box.finish()
            finally:
                if consumer_finished.receivers:
                    consumer_finished.send(Runner, message=message)
                tidy()
        except BaseException as error:  # noqa: BLE001 - sys.exit() in a consumer ends no worker
            return self._outcome_of(error, route.name, message)
        return outcome

    # ---------------------------------------------------------------- on the loop

    async def arun(
        self, delivery: Delivery, index: int = 0, running: Running | None = None
    ) -> None:
        """Run a delivery on this loop, from ``index`` on, in a task of its own.

        ``running`` is the message at ``index``, begun by a thread.
        """
        payloads = delivery.payloads[index:]
        for payload in payloads:
            box = running.box if running else Outbox(self._layer.options.message_bytes)
            try:
                if running is not None:
                    outcome = await asyncio.create_task(
                        self._afinish(running), context=running.context
                    )
                    running = None
                else:
                    message = Message(decode(payload), delivery.channel, delivery.attempt)
                    match = self._router.match(message)
                    if match is None:
                        outcome = NO_ROUTE
                    else:
                        work = self._acall(match[0], message, match[1], box)
                        # a task has a context of its own: this one is enough for one message
                        outcome = await (work if len(payloads) == 1 else asyncio.create_task(work))
            except Exception as error:  # noqa: BLE001 - routing, which no consumer answers for
                outcome = await self._aoutcome_of(error, "the routing table", delivery)
            self._close(box, outcome, delivery)
            await self._layer.asettle(delivery, (outcome,), box.sends)
            if outcome.kind != ACCEPTED:
                return

    async def _acall(
        self, route: Route, message: Message, arguments: dict[str, Any], box: Outbox
    ) -> Outcome:
        SyncToAsync.thread_sensitive_context.set(next(self._aside))
        outbox.set(box)
        outcome = OK
        try:
            if not _on_loop(route, message):
                found = await sync_to_async(self._call)(route, message, arguments, box)
                if isinstance(found, Outcome):
                    return found
                await found
            elif route.on_loop is not None:
                await route.consumer.acall(message, **arguments)  # type: ignore[attr-defined]  # views have it
            else:
                if opened_for_loop():
                    await sync_to_async(tidy)()
                if consumer_started.receivers:
                    await consumer_started.asend(Runner, message=message)
                try:
                    if self._middleware is None:
                        result = await route.consumer(message, **arguments)
                        if result is not None:
                            check_result(route, result)
                    else:
                        chain = self._middleware.chain(is_async=True)
                        outcome = await chain(message, ConsumerCall(route, arguments, box))
                    if box.attended is not None and outcome.kind == ACCEPTED and box.due():
                        await sync_to_async(box.finish)()
                finally:
                    if consumer_finished.receivers:
                        await consumer_finished.asend(Runner, message=message)
                    if opened_for_loop():
                        await sync_to_async(tidy)()
        except BaseException as error:  # noqa: BLE001 - as in _call; and a cancelled one is settled
            return await self._aoutcome_of(error, route.name, message)
        return outcome

    async def _afinish(self, running: Running) -> Outcome:
        SyncToAsync.thread_sensitive_context.set(next(self._aside))
        try:
            await running.work
        except BaseException as error:  # noqa: BLE001 - as in _acall
            return await self._aoutcome_of(error, running.route.name, running.message)
        return OK

    # ---------------------------------------------------------------- outcomes

    def _outcome_of(self, error: BaseException, route: str, subject: Message | Delivery) -> Outcome:
        """Return what an exception comes to, and report it if it is an error.

        Call where it is being handled.
        """
        if isinstance(error, Reject):
            return Outcome(REJECTED, error.code, error.reason)
        if isinstance(error, ConsumeLater):
            if isinstance(subject, Message) and subject.__dict__.get("spent"):
                return Outcome(FAILED, cause="spent")  # what came beside it cannot be read again
            delay = error.delay
            if delay is None:
                delay = min(FIRST_DELAY * 2 ** (subject.attempt - 1), LONGEST_DELAY)
            return Outcome(RELEASED, delay=delay)
        report(error, route, subject)
        return Outcome(FAILED, cause=type(error).__name__)

    async def _aoutcome_of(
        self, error: BaseException, route: str, subject: Message | Delivery
    ) -> Outcome:
        """As `_outcome_of`; who hears of errors may block, a mail server's client for one."""
        if isinstance(error, Exception) and not isinstance(error, Reject | ConsumeLater):

            def told() -> Outcome:
                trace = error.__traceback__
                while trace is not None and trace.tb_frame.f_code is _TO_THREAD:
                    trace = trace.tb_next
                error.__traceback__ = trace
                return self._outcome_of(error, route, subject)

            return await sync_to_async(told)()
        return self._outcome_of(error, route, subject)

    def _close(self, box: Outbox, outcome: Outcome, delivery: Delivery) -> None:
        """Count, and let nothing more into the outbox."""
        channel = delivery.channel
        box.open = False
        if box.closers is not None:
            for close in box.closers:
                try:
                    close()
                except Exception:  # its message is to be settled all the same
                    log.exception("what a message on %s brought could not be closed", channel)
        if outcome.kind != ACCEPTED:
            box.discard()
        if box.discarded:
            where = channel[: channel.find("!") + 1] or channel
            self._metrics.drop(Drop.DISCARDED, box.discarded, where=where)
        self._counter(channel, outcome.kind).value += 1

    def _counter(self, channel: str, outcome: str) -> Counter:
        """Return the counter of what came by a channel and ended so."""
        if "!" in channel:
            channel = channel[: channel.index("!") + 1]
        counter = self._counters.get((channel, outcome))
        if counter is None:
            counter = self._metrics.counter(
                "gateway_consumed_total", channel=channel, outcome=outcome
            )
            self._counters[channel, outcome] = counter
            if outcome == ACCEPTED:
                self._accepted[channel] = counter
        return counter


def _on_loop(route: Route, message: Message) -> bool:
    return route.is_async or (route.on_loop is not None and route.on_loop(message))
