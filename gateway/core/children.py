"""The supervisor's child processes, one by one: start, line, pause before the next start.

Which of them run, and in which order they stop, `gateway.core.supervisor` decides.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

import msgspec

from gateway.core.child import CANNOT, CUT_OFF, LAYER_VARIABLE, VARIABLE, Orders, Role

log = logging.getLogger("gateway.supervisor")

FIRST_PAUSE: Final = 0.1
"""Seconds before a dead child is started again: one crash is hardly noticed."""
LONGEST_PAUSE: Final = 10.0
"""What the pause doubles up to: a child that cannot start costs little, and returns soon."""
LONGEST_BREAK: Final = 1.0
"""What it doubles up to for a child that did serve: something kills it now and then, and in
between it is of use."""
STEADY: Final = 10.0
"""Seconds after which a child counts as running: its next death begins at FIRST_PAUSE."""


class Child:
    """One child process, again and again."""

    def __init__(self, role: Role, number: int) -> None:
        self.role: Role = role
        self.number = number
        self.name = f"{role} {number}" if number else role
        self.process: subprocess.Popen[bytes] | None = None
        self.line: socket.socket | None = None
        """The supervisor's end of the socket pair."""
        self.generation = 1
        """The number of the reload that it belongs to (`gateway.core.rolling`)."""
        self.ready = False
        """Whether it said that it serves."""
        self.drained = False
        """Whether it said, during a stop, that only its hub is left."""
        self.cut_off = False
        """Whether it was ended while consumers ran."""
        self.error = ""
        """Why it cannot start, in its own words."""
        self.pid = 0
        """That of its process, or of the last one."""
        self.starts = 0
        self.started = 0.0
        self.pause = FIRST_PAUSE
        self.due: float | None = 0.0
        """When to start it (monotonic), None while it runs or is not wanted."""

    def say(self, word: bytes) -> None:
        """Say something to the child, if it is there."""
        if self.line is not None:
            with contextlib.suppress(OSError):
                self.line.send(word)

    @property
    def told(self) -> str:
        """Its name and its process."""
        return f"{self.name} (pid {self.pid})"

    @property
    def lived(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    @property
    def steady(self) -> bool:
        """Whether it has run for a while."""
        return self.lived >= STEADY

    def grow_pause(self, longest: float) -> float:
        """Return the pause that is due now; the next one is longer, until it is `steady`."""
        if self.steady:
            self.pause = FIRST_PAUSE
        pause = min(longest, self.pause)
        self.pause = min(longest, pause * 2)
        return pause

    def start_later(self) -> float:
        """Have a dead child started again after a pause, which is returned."""
        pause = self.grow_pause(LONGEST_BREAK if self.ready else LONGEST_PAUSE)
        self.due = time.monotonic() + pause
        return pause

    def start_again(self, how: str) -> None:
        """Have a child that has died unasked started again after a pause, and say so."""
        lived = self.lived
        pause = self.start_later()
        log.warning("%s %s after %.1f s; starting it again in %.1f s", self.told, how, lived, pause)

    def cannot_be_started(self, error: OSError) -> None:
        """Have it tried again after a pause, and say so."""
        pause = self.start_later()
        log.error("%s cannot be started: %s; trying again in %.1f s", self.name, error, pause)

    def kill(self) -> None:
        """Have it killed, if it runs."""
        if self.process is not None:
            self.process.kill()


class Nursery:
    """Starts children with ``command`` on the layer at ``url``, and hears them on one selector."""

    def __init__(self, command: Sequence[str], url: str) -> None:
        self._command = list(command)
        self._url = url
        self._named = _named_directory()
        self.selector = selectors.DefaultSelector()
        """Its events for children have the `Child` as their data."""

    def start(
        self,
        child: Child,
        hub: socket.socket | None = None,
        listen: Mapping[str, list[list[int]]] | None = None,
    ) -> None:
        """Start a child, with the hub's socket and the listening ones if it is to have them.

        Raises OSError where the system does not: no memory, or an interpreter that is gone.
        """
        ours, theirs = socket.socketpair()
        sockets = dict(listen or {})
        told = Orders(
            child.role,
            child.number,
            theirs.fileno(),
            -1 if hub is None else hub.fileno(),
            sockets,
            first=child.starts == 0,
            generation=child.generation,
        )
        numbers = chain.from_iterable(chain.from_iterable(sockets.values()))
        environ = os.environ | {
            VARIABLE: msgspec.json.encode(told).decode(),
            LAYER_VARIABLE: self._url,
        }
        child.due = None
        child.starts += 1
        child.started = time.monotonic()
        with theirs:
            try:
                # A process group of its own: Ctrl-C reaches the supervisor alone, which then stops
                # its children in order.
                child.process = subprocess.Popen(  # noqa: S603 - our own command
                    self._command,
                    env=environ,
                    cwd=self._directory(),
                    pass_fds={told.parent, told.hub, *numbers} - {-1},
                    process_group=0,
                )
            except OSError:
                ours.close()
                raise
        child.pid = child.process.pid
        child.ready = child.drained = child.cut_off = False
        child.error = ""
        ours.setblocking(False)
        child.line = ours
        self.selector.register(ours, selectors.EVENT_READ, child)
        if child.starts > 1:
            log.info("%s started again (pid %d)", child.name, child.pid)

    def _directory(self) -> str | None:
        """Return where to start a child: what our directory's name means now."""
        return self._named if self._named is not None and os.path.isdir(self._named) else None  # noqa: PTH112 - a name, which may end in a link

    def hear(self, child: Child) -> bytes:
        """Return what a child says; nothing once it has hung up, and then we have, too.

        What follows CANNOT is why it cannot start, up to the end: that becomes its ``error``.
        """
        said = b""
        if child.line is not None:
            with contextlib.suppress(OSError):
                said = child.line.recv(4096)
        if not said:
            self.hang_up(child)
        if child.error:
            child.error += said.decode(errors="replace")
            return b""
        words, found, text = said.partition(CANNOT)
        if found:
            child.error = text.decode(errors="replace")
        return words

    def bury(self, child: Child) -> None:
        """Take notice of a child's end, and of what it said last."""
        child.process = None
        while child.line is not None:
            child.cut_off |= CUT_OFF in self.hear(child)

    def hang_up(self, child: Child) -> None:
        """Close the line: the child is not needed any more."""
        if child.line is not None:
            self.selector.unregister(child.line)
            child.line.close()
            child.line = None


def _named_directory() -> str | None:
    """Return the name by which the shell came here: a link in it may lead elsewhere later."""
    named = os.environ.get("PWD")
    with contextlib.suppress(OSError):
        if named and os.path.samefile(named, "."):  # noqa: PTH121 - as above
            return named
    return None


def told(status: int) -> str:
    """Return in words how a process ended."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # most real-time signals have none
        name = f"signal {-status}"
    return f"was killed by {name}"
