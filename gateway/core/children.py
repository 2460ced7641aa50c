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

from gateway.core.child import LAYER_VARIABLE, VARIABLE, Orders, Role

log = logging.getLogger("gateway.supervisor")

FIRST_PAUSE: Final = 0.1
"""Seconds before a dead child is started again: one crash is hardly noticed."""
LONGEST_PAUSE: Final = 10.0
"""What the pause doubles up to: a child that cannot start costs little, and returns soon."""
STEADY: Final = 10.0
"""Seconds after which a child counts as running: its next death begins at FIRST_PAUSE."""


class Child:
    """One child process, again and again."""

    def __init__(self, role: Role, number: int) -> None:
        self.role: Role = role
        self.number = number
        self.name = role if role == "gateway" else f"{role} {number}"
        self.process: subprocess.Popen[bytes] | None = None
        self.line: socket.socket | None = None
        """The supervisor's end of the socket pair."""
        self.drained = False
        """Whether it said, during a stop, that only its hub is left."""
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
    def lived(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    def start_later(self) -> float:
        """Have a dead child started again after a pause, which is returned."""
        if self.lived >= STEADY:
            self.pause = FIRST_PAUSE
        pause = self.pause
        self.due = time.monotonic() + pause
        self.pause = min(LONGEST_PAUSE, pause * 2)
        return pause

    def kill(self) -> None:
        """Have it killed, if it runs."""
        if self.process is not None:
            self.process.kill()


class Nursery:
    """Starts children with ``command`` on the layer at ``url``, and hears them on one selector."""

    def __init__(self, command: Sequence[str], url: str) -> None:
        self._command = list(command)
        self._url = url
        self.selector = selectors.DefaultSelector()
        """Its events for children have the `Child` as their data."""

    def start(
        self,
        child: Child,
        hub: socket.socket | None = None,
        listen: Mapping[str, list[list[int]]] | None = None,
    ) -> None:
        """Start a child, with the hub's socket and the listening ones if it is to have them."""
        ours, theirs = socket.socketpair()
        sockets = dict(listen or {})
        told = Orders(
            child.role,
            child.number,
            theirs.fileno(),
            -1 if hub is None else hub.fileno(),
            sockets,
            first=child.starts == 0,
        )
        numbers = chain.from_iterable(chain.from_iterable(sockets.values()))
        environ = os.environ | {
            VARIABLE: msgspec.json.encode(told).decode(),
            LAYER_VARIABLE: self._url,
        }
        with theirs:
            # A process group of its own: Ctrl-C reaches the supervisor alone, which then stops
            # its children in order.
            child.process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                env=environ,
                pass_fds={told.parent, told.hub, *numbers} - {-1},
                process_group=0,
            )
        ours.setblocking(False)
        child.line = ours
        self.selector.register(ours, selectors.EVENT_READ, child)
        child.due = None
        child.starts += 1
        child.started = time.monotonic()
        if child.starts > 1:
            log.info("%s started again (pid %d)", child.name, child.process.pid)

    def hear(self, child: Child) -> bytes:
        """Return what a child says; nothing once it has hung up, and then we have, too."""
        said = b""
        if child.line is not None:
            with contextlib.suppress(OSError):
                said = child.line.recv(64)
        if not said:
            self.hang_up(child)
        return said

    def hang_up(self, child: Child) -> None:
        """Close the line: the child is not needed any more."""
        if child.line is not None:
            self.selector.unregister(child.line)
            child.line.close()
            child.line = None


def told(status: int) -> str:
    """Return in words how a process ended."""
    if status >= 0:
        return f"exited with status {status}"
    return f"was killed by {signal.Signals(-status).name}"
