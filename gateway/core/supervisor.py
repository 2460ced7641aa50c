"""The small parent process of ``gateway run``: sockets and child processes.

It binds the hub's socket and every listener, so that they outlive a crash of the gateway
process, and starts one gateway process (the hub inside it) and the workers. A dead child is
started again. A stop goes in order: the gateway refuses, drains and settles; then the
workers; then the hub, which they needed until then.

Each child has a socket pair to the supervisor (`gateway.core.child`). It is told ``S`` (stop);
the gateway is told ``R`` (reload) at every SIGHUP, and says ``D`` (drained); an end of file tells
a child that it is not needed any more, or that the supervisor died, so that no child outlives
it::

    supervisor ─── S ───► gateway
               ◄── D ────           ; drained, its hub still runs
               ─── S ───► workers
               ◄─ exits ─
               ── EOF ──► gateway   ; ends with its hub
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
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.child import (
    CANNOT_START,
    DRAINED,
    LAYER_VARIABLE,
    MARGIN,
    RELOAD,
    STOP,
    VARIABLE,
    Orders,
    Role,
    nothing,
)
from gateway.core.config import Settings
from gateway.core.listen import Listen
from gateway.core.listeners import Listeners, bind_hub

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
        self.name = role if role == "gateway" else f"worker {number}"
        self.process: subprocess.Popen[bytes] | None = None
        self.line: socket.socket | None = None
        """The supervisor's end of the socket pair."""
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


class Supervisor:
    """Runs the children until a signal, or until one cannot start.

    ``command`` is what starts a child (it finds its `Orders` in the environment), ``listen``
    the endpoints by plugin, ``workers`` how many there are.
    """

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        listen: Mapping[str, Sequence[Listen]],
        url: str,
        workers: int,
    ) -> None:
        self._settings = settings
        self._command = list(command)
        self._listeners = Listeners(listen)
        self._url = url
        self._hub: socket.socket | None = None
        self._children = [
            Child("gateway", 0),
            *(Child("worker", number) for number in range(1, workers + 1)),
        ]
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._workers_told = False
        self._status = 0
        self._deadline: float | None = None

    def run(self) -> int:
        """Bind, start, watch; return the exit status once every child has ended.

        Raises ConfigError if a socket cannot be bound; nothing runs then. On the main
        thread, whose handlers of SIGTERM, SIGINT, SIGHUP and SIGCHLD it replaces meanwhile.
        """
        wake, signals = socket.socketpair()
        with wake, signals:
            wake.setblocking(False)
            signals.setblocking(False)
            wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
            # Their numbers arrive through the wake-up descriptor.
            before = {number: signal.signal(number, nothing) for number in wanted}
            old = signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)
            try:
                self._hub = bind_hub(self._settings.layer, self._url)
                self._listeners.bind()
                self._selector.register(wake, selectors.EVENT_READ)
                self._watch(wake)
            finally:
                signal.set_wakeup_fd(old)
                for number, handler in before.items():
                    signal.signal(number, handler)
                self._selector.close()
                self._listeners.close()
                self._release_hub()
        return self._status

    def _release_hub(self) -> None:
        if self._hub is not None:
            self._hub.close()
            Path(self._url.partition("://")[2]).unlink(missing_ok=True)
            self._hub = None

    # ------------------------------------------------ the loop

    def _watch(self, wake: socket.socket) -> None:
        while True:
            self._start_due()
            if self._stopping and all(child.process is None for child in self._children):
                return
            for key, _ in self._selector.select(self._until_due()):
                if key.fileobj is wake:
                    for number in wake.recv(64):
                        if number != signal.SIGCHLD:
                            self._signalled(number)
                else:
                    self._hear(key.data)
            for child in self._children:
                process = child.process
                if process is not None and process.poll() is not None:
                    self._ended(child, process)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                log.error("not ended within its grace; killing what is left")
                self._kill()

    def _until_due(self) -> float | None:
        moments = [child.due for child in self._children if child.due is not None]
        if self._deadline is not None:
            moments.append(self._deadline)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _start_due(self) -> None:
        for child in self._children:
            if child.due is not None and child.due <= time.monotonic():
                self._start(child)

    def _start(self, child: Child) -> None:
        ours, theirs = socket.socketpair()
        listen = self._listeners.descriptors() if child.role == "gateway" else {}
        hub = self._hub.fileno() if self._hub is not None and child.role == "gateway" else -1
        told = Orders(
            child.role, child.number, theirs.fileno(), hub, listen, first=child.starts == 0
        )
        sockets = chain.from_iterable(chain.from_iterable(listen.values()))
        descriptors = {told.parent, hub, *sockets} - {-1}
        environ = os.environ | {
            VARIABLE: msgspec.json.encode(told).decode(),
            LAYER_VARIABLE: self._url,
        }
        with theirs:
            # A process group of its own: Ctrl-C reaches the supervisor alone, which then stops
            # its children in order.
            child.process = subprocess.Popen(  # noqa: S603 - our own command
                self._command, env=environ, pass_fds=descriptors, process_group=0
            )
        ours.setblocking(False)
        child.line = ours
        self._selector.register(ours, selectors.EVENT_READ, child)
        child.due = None
        child.starts += 1
        child.started = time.monotonic()
        if child.starts > 1:
            log.info("%s started again (pid %d)", child.name, child.process.pid)

    def _hear(self, child: Child) -> None:
        said = b""
        if child.line is not None:
            with contextlib.suppress(OSError):
                said = child.line.recv(64)
        if not said:
            self._hang_up(child)
        elif DRAINED in said and self._stopping:
            self._stop_workers()

    def _hang_up(self, child: Child) -> None:
        """Close the line: the child is not needed any more."""
        if child.line is not None:
            self._selector.unregister(child.line)
            child.line.close()
            child.line = None

    def _ended(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        child.process = None
        self._hang_up(child)
        status = process.returncode
        lived = time.monotonic() - child.started
        if self._stopping:
            if status not in {0, -signal.SIGKILL}:
                log.warning("%s %s while stopping", child.name, _told(status))
            if child.role == "gateway":
                self._stop_workers()
            elif self._workers_told:
                self._end_hub()
            return
        if status == CANNOT_START and child.starts == 1 and lived < STEADY:
            log.error("%s cannot start; stopping", child.name)
            self._status = CANNOT_START
            self._stop()
            return
        if lived >= STEADY:
            child.pause = FIRST_PAUSE
        log.warning(
            "%s (pid %d) %s after %.1f s; starting it again in %.1f s",
            child.name,
            process.pid,
            _told(status),
            lived,
            child.pause,
        )
        child.due = time.monotonic() + child.pause
        child.pause = min(LONGEST_PAUSE, child.pause * 2)

    # ------------------------------------------------ the stop, step by step

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            if not self._stopping:
                log.info("%s: reloading", name)
                # A gateway that is just being started again reads everything anyway.
                self._children[0].say(RELOAD)
            return
        if self._stopping:
            log.warning("%s again: stopping at once", name)
            self._kill()
            return
        log.info("%s: draining; the same again stops at once", name)
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for child in self._children:
            child.due = None
        self._listeners.close()
        self._deadline = time.monotonic() + self._settings.gateway.grace + MARGIN
        gateway = self._children[0]
        if gateway.process is None:
            self._stop_workers()
        else:
            gateway.say(STOP)

    def _stop_workers(self) -> None:
        if self._workers_told:
            return
        self._workers_told = True
        self._deadline = time.monotonic() + self._settings.workers.grace + MARGIN
        for child in self._children[1:]:
            child.say(STOP)
        self._end_hub()

    def _end_hub(self) -> None:
        """Let the gateway end with its hub once no worker needs it."""
        if all(child.process is None for child in self._children[1:]):
            self._hang_up(self._children[0])

    def _kill(self) -> None:
        self._deadline = None
        self._status = self._status or 1
        for child in self._children:
            if child.process is not None:
                child.process.kill()


def _told(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    return f"was killed by {signal.Signals(-status).name}"
