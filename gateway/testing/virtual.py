"""An event loop whose time passes only when it is told to, on a thread of its own.

Unlike `gateway.testing.fakes.ManualClock` it is all of an event loop: what runs on it may
create tasks, futures and transports. Whoever drives it stands still meanwhile, so that the two
never run at once::

    loop = VirtualLoop()
    loop.do(server.start())     # a coroutine, to its end
    loop.run()                  # all that is ready
    loop.run(30.0)              # and what becomes due within 30 seconds, in order
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import weakref
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Real seconds that a turn of the loop may take: far more than it needs on a busy machine."""
START: Final = 1000.0
"""The first moment of a virtual time: not 0, which often stands for "never"."""


def _never() -> bool:
    return False


class _Turns:
    """Whose turn it is: the loop's, or its driver's."""

    def __init__(self) -> None:
        self.now = START
        self.target = START
        self.until: Callable[[], bool] = _never
        self.over = False
        self.errors: list[BaseException] = []
        self.driven: SimpleQueue[None] = SimpleQueue()
        self.rested: SimpleQueue[None] = SimpleQueue()
        self.owed = 1
        """How many turns the loop has not come back from."""

    def rest(self, timeout: float | None) -> None:
        """Let time pass towards the target; without one, wait to be driven again.

        Called by the loop, when it has nothing to do for ``timeout`` seconds (None: for good).
        """
        if self.now < self.target and not self.until():
            left = self.target - self.now
            self.now = self.target if timeout is None or timeout >= left else self.now + timeout
        elif not self.over:
            self.rested.put(None)
            self.driven.get()

    def drive(self) -> None:
        """Wake the loop. Called by the driver."""
        self.owed += 1
        self.driven.put(None)


class _Selector(selectors.DefaultSelector):
    """Never waits for files: where the loop would, it is the driver's turn."""

    def __init__(self, turns: _Turns) -> None:
        super().__init__()
        self._turns = turns

    def select(self, timeout: float | None = None) -> Any:
        """Return what is ready now."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        self._turns.rest(timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """The event loop itself."""

    def __init__(self, turns: _Turns) -> None:
        self._turns = turns
        super().__init__(_Selector(turns))
        self.set_exception_handler(self._keep)

    def time(self) -> float:
        """Return the present."""
        return self._turns.now

    def _keep(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._turns.errors.append(error or RuntimeError(context["message"]))


class VirtualLoop:
    """The driver's end of it. Closed at the latest when it is forgotten."""

    def __init__(self) -> None:
        self._turns = turns = _Turns()
        self.loop: asyncio.AbstractEventLoop = _Loop(turns)
        self._lock = threading.RLock()
        self._thread = threading.Thread(
            target=_serve, args=(self.loop,), name="gateway-virtual", daemon=True
        )
        self._thread.start()
        self.ident = self._thread.ident
        self.close = weakref.finalize(self, _end, self.loop, turns, self._thread)
        """End the loop; nothing on it runs any more."""
        self._wait()

    def time(self) -> float:
        """Return the present, in seconds."""
        return self._turns.now

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._turns.over

    def run(self, seconds: float = 0.0, until: Callable[[], bool] = _never) -> None:
        """Run what is ready, and what becomes due within ``seconds``; stop where ``until`` holds.

        Raises what a callback or a task of the loop raised and nobody caught.
        """
        turns = self._turns
        with self._lock:
            if turns.over:
                raise RuntimeError("the loop is closed")
            turns.target = turns.now + seconds
            turns.until = until
            turns.drive()
            self._wait()
            turns.target = turns.now
            if turns.errors:
                raise turns.errors.pop(0)

    def _wait(self) -> None:
        turns = self._turns
        while turns.owed:
            try:
                turns.rested.get(timeout=PATIENCE)
            except Empty:
                raise RuntimeError(f"the gateway's loop was busy for {PATIENCE:g} s") from None
            turns.owed -= 1

    def do(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that waits for nothing but the loop, and return its result."""
        future = asyncio.run_coroutine_threadsafe(coro, self.loop)
        self.run()
        return future.result(0)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on the loop and return its result."""

        async def body() -> T:
            return function(*args)

        return self.do(body())


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, turns: _Turns, thread: threading.Thread) -> None:
    turns.over = True
    loop.call_soon_threadsafe(loop.stop)
    turns.drive()
    thread.join(PATIENCE)
