"""Workers replaced one by one, while the others serve: new code, and workers that are used up.

::

    old worker   serves ───────────────┬─ S ─► drains ─► ends
    new worker        starts ─► ready ─┘ serves ──────────────
    the next                                           └─ starts …

A new one that does not get ready changes nothing: the old ones go on, the roll is over. So there
is one worker more than usual at any time, and never one fewer.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from gateway.core.child import MARGIN, STOP
from gateway.core.children import LONGEST_PAUSE, Child
from gateway.core.config import WorkerSettings

log = logging.getLogger("gateway.supervisor")


class Result(NamedTuple):
    """What became of a roll."""

    done: bool
    text: str


Answer = Callable[[Result], None]
"""Is told the result, once."""
STOPPING: Final = Result(done=False, text="the gateway is stopping")


class Rolling:
    """The workers of a supervisor, and those that come and go.

    ``start`` starts a child. Who owns it calls `ready`, `worn`, `ended` as they happen, `tick`
    when `until` is over, and `stop` once there is nothing to replace any more.
    """

    def __init__(
        self, count: int, settings: WorkerSettings, start: Callable[[Child], None]
    ) -> None:
        self.generation = 1
        """The number of the roll that new workers belong to; 1 is the start."""
        self.workers = [Child("worker", number) for number in range(1, count + 1)]
        """Those that serve, or are to be started again."""
        self._settings = settings
        self._start = start
        self._coming: Child | None = None
        """The new one, until it is ready."""
        self._replaced: Child | None = None
        """Whom it is for."""
        self._leaving: Child | None = None
        """The old one that drains."""
        self._deadline = 0.0
        """When the coming, or the leaving one is out of time (monotonic)."""
        self._worn: dict[Child, float] = {}
        """Those that asked to be replaced, and when they are to be."""
        self._left: deque[Child] = deque()
        """Whom the roll has still to replace."""
        self._rolling = False
        self._began = 0.0
        self._count = 0
        """How many it has replaced."""
        self._new: set[Child] = set()
        """Those that it brought."""
        self._late = 0
        """How many were ended while consumers ran."""
        self._answers: list[Answer] = []
        self._again: list[Answer] | None = None
        """Who waits for the roll after this one; None where there is none."""

    def children(self) -> Iterator[Child]:
        """Iterate over all workers, those that come and go included."""
        yield from self.workers
        for child in (self._coming, self._leaving):
            if child is not None:
                yield child

    def is_coming(self, child: Child) -> bool:
        """Return whether a worker is to replace one that serves."""
        return child is self._coming

    # ---------------------------------------------------------------- a roll

    def roll(self, answer: Answer | None = None) -> None:
        """Replace every worker; during a roll, once more after it."""
        answers = [] if answer is None else [answer]
        if self._rolling:
            log.info("a reload is going on; workers are replaced once more after it")
            self._again = [*(self._again or ()), *answers]
            return
        self._begin(answers)

    def _begin(self, answers: list[Answer]) -> None:
        self.generation += 1
        self._rolling = True
        self._began = time.monotonic()
        self._answers = answers
        self._count = self._late = 0
        self._new = set()
        self._left = deque(self.workers)
        # One that is on its way has begun before, perhaps with the old code.
        self._send_back()
        self._next()

    def _over(self, result: Result) -> None:
        self._rolling = False
        self._left.clear()
        if result.done:
            log.info("%s", result.text)
        else:
            log.error("%s", result.text)
        answers, self._answers = self._answers, []
        for answer in answers:
            answer(result)
        again, self._again = self._again, None
        if again is not None:
            self._begin(again)

    def _failed(self, why: str) -> None:
        """Go on with whom the coming one, which will not serve, was to replace."""
        old, self._coming, self._replaced = self._replaced, None, None
        if old is not None:
            self._revive(old)
        if old in self._worn:
            self._worn[old] = time.monotonic() + LONGEST_PAUSE
        if self._rolling:
            done = f"{self._count} of {self._count + 1 + len(self._left)} workers replaced"
            text = f"reload failed, {done}, the others go on as they were: {why}"
            self._over(Result(done=False, text=text))
        else:
            log.error("%s; the worker that it was to replace goes on", why)
            self._next()

    def _send_back(self) -> bool:
        """Do without the coming one, if there is one; say whether there was."""
        old, coming = self._replaced, self._coming
        self._coming = self._replaced = None
        if old is None or coming is None:
            return False
        self._revive(old)
        self._dismiss(coming)
        return True

    def _revive(self, old: Child) -> None:
        """Have one that was to be replaced go on: if it died meanwhile, it is started again."""
        if old.process is None:
            old.generation = self.generation
            old.start_later()

    # ---------------------------------------------------------------- one by one

    def _next(self) -> None:
        """Begin with the next one, if there is one and nothing else goes on."""
        if self._coming is not None or self._leaving is not None:
            return
        while self._left:
            old = self._left.popleft()
            if old in self.workers:
                self._replace(old)
                return
        if self._rolling:
            self._over(Result(done=True, text=self._done()))
            return
        for old, due in self._worn.items():
            if due <= time.monotonic():
                self._replace(old)
                return

    def _done(self) -> str:
        seconds = time.monotonic() - self._began
        text = (
            f"reloaded: {_workers(self._count)} of generation {self.generation} in {seconds:.1f} s"
        )
        if self._late:
            grace = self._settings.grace
            text += (
                f"; {self._late} of the old ones had consumers that ran longer than "
                f"workers.grace ({grace:g} s): their messages failed"
            )
        return text

    def _replace(self, old: Child) -> None:
        coming = Child("worker", old.number)
        coming.generation = self.generation
        # One that is worn out at once, again and again, is replaced ever more seldom.
        coming.pause = old.pause
        old.due = None  # if it is dead, the new one takes its place
        self._coming, self._replaced = coming, old
        self._deadline = time.monotonic() + self._settings.start_timeout
        try:
            self._start(coming)
        except OSError as error:
            self._failed(f"the new {coming.name} cannot be started: {error}")

    def ready(self, child: Child) -> None:
        """Take notice that a worker serves now."""
        child.ready = True
        old = self._replaced
        if child is not self._coming or old is None:
            return
        self._coming = self._replaced = None
        self.workers[self.workers.index(old)] = child
        self._worn.pop(old, None)
        if self._rolling:
            self._count += 1
            self._new.add(child)
        log.info("%s is ready and takes the place of pid %d", child.told, old.pid)
        if old.process is None:
            self._next()
            return
        self._dismiss(old)

    def _dismiss(self, child: Child) -> None:
        self._leaving = child
        self._deadline = time.monotonic() + self._settings.grace + MARGIN
        child.say(STOP)

    def worn(self, child: Child) -> None:
        """Take notice that a worker has reached a limit, and asks to be replaced."""
        if child not in self.workers or child in self._worn:
            return
        pause = 0.0 if child.steady else child.grow_pause(LONGEST_PAUSE)
        self._worn[child] = time.monotonic() + pause
        self._next()

    # ---------------------------------------------------------------- ends

    def ended(self, child: Child, how: str) -> None:
        """Take notice that one has ended. ``how``: ``was killed by SIGKILL``."""
        self._worn.pop(child, None)
        if child is self._coming:
            why = f"cannot start: {child.error}" if child.error else how
            self._failed(f"the new {child.name} {why}")
        elif child is self._leaving:
            self._leaving = None
            self._late += child.cut_off
            self._next()
        elif child is self._replaced:
            log.warning("%s %s; the one that replaces it is on its way", child.told, how)
        else:
            child.generation = self.generation
            child.start_again(how)
            if self._rolling and child in self._new:
                self._stop_roll(f"the new {child.name} {how}")

    def _stop_roll(self, why: str) -> None:
        """Keep the old workers that are left: the new code does not keep running."""
        total = self._count + len(self._left) + self._send_back()
        text = f"reload stopped after {self._count} of {total} workers: {why}"
        self._over(Result(done=False, text=text))

    def until(self) -> float | None:
        """Return when `tick` is due (monotonic); None if it is not."""
        if self._coming is not None or self._leaving is not None:
            return self._deadline
        return min(self._worn.values(), default=None)

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        coming, leaving = self._coming, self._leaving
        if leaving is not None:
            if now >= self._deadline:
                log.error("%s has not ended within workers.grace; killing it", leaving.told)
                leaving.cut_off = True
                self._deadline = now + MARGIN
                leaving.kill()
        elif coming is not None:
            if now >= self._deadline:
                seconds = self._settings.start_timeout
                coming.error = f"it was not ready within workers.start_timeout ({seconds:g} s)"
                self._deadline = now + MARGIN
                coming.kill()
        else:
            self._next()

    def stop(self) -> None:
        """Replace nothing any more: it is the end."""
        self._worn.clear()
        self._left.clear()
        self._rolling = False
        answers = [*self._answers, *(self._again or ())]
        self._answers, self._again = [], None
        for answer in answers:
            answer(STOPPING)


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"
