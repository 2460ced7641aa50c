"""The threads of a worker, and who stands in for one that waits for a slow client.

Synchronous code may depend on its thread (a database cursor does), so it cannot be moved to the
loop while its client takes, or sends, a piece. It keeps its thread, and another one takes
messages in its place. There are `stand_ins` of those; who would need one more has the client
given up that has kept a thread waiting longest.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from django_gateway.database import worker_thread
from django_gateway.exceptions import RequestAborted
from gateway.core.errors import LayerError
from gateway.core.layers.base import Layer

PATIENCE: Final = 0.005
"""Seconds that a thread waits for a client without a stand-in: longer than a round trip through
the layer, shorter than one over a slow line."""

_of_thread = threading.local()


class Wait:
    """One thread's wait for a client; ``wake`` ends it."""

    __slots__ = ("given_up", "stand_in", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.stand_in = False
        """Whether a thread was added for it."""
        self.given_up = False
        """Whether it was ended for the sake of others."""


class Crew:
    """``size`` threads that do ``work``: a loop that ends when `spare` says so.

    ``aside`` is called by a thread that begins to wait for a client, ``given_up`` for each
    client that was given up for the sake of others.
    """

    def __init__(
        self,
        size: int,
        stand_ins: int,
        work: Callable[[], None],
        aside: Callable[[], None],
        given_up: Callable[[], None],
    ) -> None:
        self._size = size
        self._stand_ins = stand_ins
        self._work = work
        self._aside = aside
        self._given_up = given_up
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._started = 0
        self._waits: dict[Wait, None] = {}
        """The threads that wait for a client, the longest first."""
        self._over = 0
        """How many threads there are beyond those that are wanted."""
        self._room = asyncio.Semaphore(max(1, size))
        """For threads that are lent to the loop."""

    # ---------------------------------------------------------------- its threads

    def start(self) -> None:
        """Start the threads."""
        with self._lock:
            for _ in range(self._size):
                self._add()

    def _add(self) -> None:
        """Start one more. Call with the lock held."""
        self._started += 1
        thread = threading.Thread(target=self._run, name=f"consumer-{self._started}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _run(self) -> None:
        self.enlist()
        try:
            self._work()
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def enlist(self, back: Callable[[], None] | None = None) -> None:
        """Have this thread know its crew; ``back`` gives it back, if it is lent."""
        _of_thread.crew = self
        _of_thread.back = back

    def spare(self) -> bool:
        """Return whether this thread is one too many; it has to end then."""
        if self._over <= 0:
            return False
        with self._lock:
            if self._over <= 0:
                return False
            self._over -= 1
            self._threads.discard(threading.current_thread())
            return True

    def join(self, end: float) -> bool:
        """Wait for the threads until ``end`` (monotonic); return whether they have ended."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    # ---------------------------------------------------------------- waiting for clients

    @contextmanager
    def away(self, wake: Callable[[], None]) -> Iterator[Wait]:
        """Have a stand-in while the block waits for a client; ``wake`` has to end that wait."""
        wait = Wait(wake)
        longest: Wait | None = None
        back: Callable[[], None] | None = _of_thread.back
        with self._lock:
            wait.stand_in = back is None
            if len(self._waits) >= self._stand_ins and self._waits:
                longest = next(iter(self._waits))
                del self._waits[longest]
                longest.given_up = True
            self._waits[wait] = None
            if wait.stand_in:
                if longest is not None and longest.stand_in:
                    longest.stand_in = False  # whose stand-in is ours from now on
                elif self._over:
                    self._over -= 1
                else:
                    self._add()
        (back or self._aside)()
        if longest is not None:
            self._given_up()
            with suppress(LayerError):
                longest.wake()
        try:
            yield wait
        finally:
            with self._lock:
                self._waits.pop(wait, None)
                if wait.stand_in:
                    self._over += 1

    # ---------------------------------------------------------------- for the loop

    async def lend(self, call: Callable[[], Any]) -> Any:
        """Run ``call`` on a thread of its own, in this context; there are ``size`` of those."""
        loop = asyncio.get_running_loop()
        await self._room.acquire()
        done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
        context = contextvars.copy_context()
        given_back = False

        def back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                loop.call_soon_threadsafe(self._room.release)

        def finish(result: Any, error: BaseException | None) -> None:
            if not done.done():
                done.set_result((result, error))

        def run() -> None:
            self.enlist(back)
            found: tuple[Any, BaseException | None]
            with worker_thread():
                try:
                    found = context.run(call), None
                except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                    found = None, error
            with suppress(RuntimeError):  # the loop has ended
                back()
                loop.call_soon_threadsafe(finish, *found)

        threading.Thread(target=run, name="consumer-lent", daemon=True).start()
        result, error = await done
        if error is not None:
            raise error
        return result


async def on_thread(call: Callable[[], Any]) -> Any:
    """Run ``call`` on a thread of the crew that this loop belongs to."""
    crew: Crew = _of_thread.crew
    return await crew.lend(call)


def await_client(layer: Layer, channel: str, seconds: float) -> dict[str, Any] | None:
    """Wait on this thread for what a client sends or takes; None if there was nothing in time.

    Raises `RequestAborted` where the client was given up for the sake of others.
    """
    _, message = layer.receive([channel], block=PATIENCE)
    if message is not None:
        return message
    crew: Crew | None = getattr(_of_thread, "crew", None)
    if crew is None:
        return layer.receive([channel], block=seconds)[1]
    with crew.away(lambda: layer.send(channel, {"closed": True})) as wait:
        _, message = layer.receive([channel], block=seconds)
    if wait.given_up:
        raise RequestAborted("too slow a client: its thread was needed for others")
    return message
