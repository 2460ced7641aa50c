"""The watchdog: names what blocks the event loop, with its stack."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

from gateway.core.metrics import Metrics

log = logging.getLogger("gateway.watchdog")


class Watchdog:
    """A thread that notices that the loop has not turned for ``seconds``.

    It logs the stack of the loop's thread once per blockage, and once more, with its
    length, when it is over; counted in ``gateway_loop_blocked_total``. Started and stopped
    on the loop.
    """

    def __init__(
        self, seconds: float, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._blocked = metrics.counter("gateway_loop_blocked_total")
        self._over = threading.Event()
        self._turned = clock()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch the running loop."""
        loop = asyncio.get_running_loop()
        ident = threading.get_ident()
        # Four signs of life in the time allowed: late by a quarter at most, and cheap.
        pause = self.seconds / 4

        def turn() -> None:
            self._turned = self._clock()
            self._timer = loop.call_later(pause, turn)

        turn()
        self._thread = threading.Thread(
            target=self._watch, args=(ident, pause), name="gateway-watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. Safe without a start."""
        if self._timer is not None:
            self._timer.cancel()
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, ident: int, pause: float) -> None:
        told: float | None = None
        while not self._over.wait(pause):
            turned = self._turned
            if told is not None and turned != told:
                log.warning("the event loop turns again, after %.1f s", turned - told)
                told = None
            if told is None and self._clock() - turned >= self.seconds:
                told = turned
                self._blocked.value += 1
                frame = sys._current_frames().get(ident)  # noqa: SLF001 - the only way to look
                stack = "".join(traceback.format_stack(frame)) if frame else "(it has ended)\n"
                log.error(
                    "the event loop has not turned for %.1f s; it is in:\n%s", self.seconds, stack
                )
