"""The small parent process of ``gateway run``: sockets and child processes.

It binds the hub's socket and every listener, so that they outlive a crash of the gateway
process, and starts one gateway process (the hub inside it) and the workers; or several gateway
processes, and the hub as a process of its own. A dead child is started again. A stop goes in
order: the gateways refuse, drain and settle; then the workers; then the hub, which they needed
until then.

Each child has a socket pair to the supervisor (`gateway.core.child`). It is told ``S`` (stop);
the gateway is told ``R`` (reload) at every SIGHUP, and says ``D`` (drained); each says ``W``
(ready), a worker ``N`` (to be replaced), see `gateway.core.rolling`; an end of file tells a child
that it is not needed any more, or that the supervisor died, so that no child outlives it::

    supervisor ─── S ───► gateway
               ◄── D ────           ; drained, its hub still runs
               ─── S ───► workers
               ◄─ exits ─
               ── EOF ──► gateway   ; ends with its hub

Of several gateways each ends when it is drained, and the end of file at last is the hub's.
"""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gateway.core.child import (
    CANNOT_START,
    CUT_OFF,
    DRAINED,
    MARGIN,
    READY,
    RELOAD,
    STOP,
    WORN,
)
from gateway.core.children import Child, Nursery, told
from gateway.core.config import Settings
from gateway.core.control import Control
from gateway.core.listen import Listen
from gateway.core.listeners import Listeners, bind_hub
from gateway.core.rolling import STOPPING, Answer, Rolling

log = logging.getLogger("gateway.supervisor")


class Supervisor:
    """Runs the children until a signal, or until one cannot start.

    ``command`` is what starts a child (it finds its `Orders` in the environment), ``listen``
    the endpoints by plugin, ``workers`` how many there are, ``control`` the path of the socket
    that ``gateway reload`` speaks to. Where it ``joins``, the hub at ``url`` is another's.
    """

    def __init__(
        self,
        settings: Settings,
        command: Sequence[str],
        listen: Mapping[str, Sequence[Listen]],
        url: str,
        workers: int,
        control: str,
        *,
        joins: bool = False,
    ) -> None:
        self._settings = settings
        count = settings.gateway.count
        self._listeners = Listeners(listen, count)
        self._url = url
        self._hub: socket.socket | None = None
        self._nursery = Nursery(command, url)
        self._joins = joins
        self._gateways = [Child("gateway", number) for number in _numbers(count)]
        self._hubs = [Child("hub", 0)] if count > 1 and not joins else []
        """The hub, where it is a process of its own."""
        self._rolling = Rolling(workers, settings.workers, self._nursery.start)
        self._control = Control(control, self._nursery.selector, self._reload)
        self._signals: deque[int] = deque()
        """Those that were caught and not looked at."""
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
            before = {number: signal.signal(number, self._note) for number in wanted}
            old = signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)
            try:
                if not self._joins:
                    self._hub = bind_hub(self._settings.layer, self._url)
                self._listeners.bind()
                self._control.open()
                self._nursery.selector.register(wake, selectors.EVENT_READ)
                self._watch(wake)
            finally:
                self._control.close()
                signal.set_wakeup_fd(old)
                for number, handler in before.items():
                    signal.signal(number, handler)
                self._nursery.selector.close()
                self._listeners.close()
                self._release_hub()
        return self._status

    def _release_hub(self) -> None:
        if self._hub is not None:
            self._hub.close()
            Path(self._url.partition("://")[2]).unlink(missing_ok=True)
            self._hub = None

    # ------------------------------------------------ the loop

    def _children(self) -> Iterator[Child]:
        yield from self._hubs
        yield from self._gateways
        yield from self._rolling.children()

    def _note(self, number: int, frame: object) -> None:
        """Take a signal, in the middle of anything, for the loop. One SIGHUP does for several.

        What arrives at the wake-up descriptor only ends the wait: once that is full, as under a
        storm of signals while a child is being started, numbers are lost there.
        """
        if number != signal.SIGCHLD and (number != signal.SIGHUP or number not in self._signals):
            self._signals.append(number)

    def _watch(self, wake: socket.socket) -> None:
        while True:
            self._start_due()
            if self._stopping and not _running(self._children()):
                return
            for key, _ in self._nursery.selector.select(self._until_due()):
                if key.fileobj is wake:
                    wake.recv(4096)
                elif isinstance(key.data, Child):
                    self._hear(key.data)
                else:
                    key.data()
            while self._signals:
                self._signalled(self._signals.popleft())
            for child in list(self._children()):
                process = child.process
                if process is not None and process.poll() is not None:
                    self._ended(child, process)
            until = self._rolling.until()
            if until is not None and until <= time.monotonic() and not self._stopping:
                self._rolling.tick()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                log.error("not ended within its grace; killing what is left")
                self._kill()

    def _until_due(self) -> float | None:
        moments = [child.due for child in self._children() if child.due is not None]
        if self._deadline is not None:
            moments.append(self._deadline)
        if (until := self._rolling.until()) is not None and not self._stopping:
            moments.append(until)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _start_due(self) -> None:
        for child in self._children():
            if child.due is not None and child.due <= time.monotonic():
                try:
                    self._nursery.start(child, *self._sockets(child))
                except OSError as error:
                    child.cannot_be_started(error)

    def _sockets(self, child: Child) -> tuple[socket.socket | None, dict[str, list[list[int]]]]:
        """Return the hub's socket and the numbers of the listening ones, as the child has them."""
        if child.role == "hub":
            return self._hub, {}
        if child.role == "worker":
            return None, {}
        hub = None if self._hubs else self._hub
        return hub, self._listeners.descriptors(max(0, child.number - 1))

    def _hear(self, child: Child) -> None:
        said = self._nursery.hear(child)
        if DRAINED in said and self._stopping:
            child.drained = True
            self._stop_workers()
        if CUT_OFF in said:
            child.cut_off = True
        if READY in said:
            child.ready = True
            if child.role == "worker":
                self._rolling.ready(child)
        if WORN in said and not self._stopping:
            self._rolling.worn(child)

    def _ended(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        self._nursery.bury(child)
        status = process.returncode
        if self._stopping:
            if status not in {0, -signal.SIGKILL}:
                log.warning("%s %s while stopping", child.name, told(status))
            self._stop_workers()
        elif self._is_hopeless(child, status):
            log.error("%s cannot start; stopping", child.name)
            self._status = CANNOT_START
            self._stop()
        elif child.role == "worker":
            self._rolling.ended(child, told(status))
        else:
            child.start_again(told(status))

    def _is_hopeless(self, child: Child, status: int) -> bool:
        """Return whether a child of the very first says that it cannot start."""
        first = child.starts == 1 and child.generation == 1 and not child.ready
        return (
            first
            and status == CANNOT_START
            and not child.steady
            and not self._rolling.is_coming(child)
        )

    # ------------------------------------------------ the stop, step by step

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            if not self._stopping:
                log.info("%s: reloading", name)
                self._reload()
            return
        if self._stopping:
            log.warning("%s again: stopping at once", name)
            self._kill()
            return
        log.info("%s: draining; the same again stops at once", name)
        self._stop()

    def _reload(self, answer: Answer | None = None) -> None:
        """Have the gateway load its files again, and the workers replaced."""
        if not self._stopping:
            # A gateway that is just being started again reads everything anyway.
            for gateway in self._gateways:
                gateway.say(RELOAD)
            self._rolling.roll(answer)
        elif answer is not None:
            answer(STOPPING)

    def _stop(self) -> None:
        self._stopping = True
        self._rolling.stop()
        for child in self._children():
            child.due = None
        self._listeners.close()
        self._deadline = time.monotonic() + self._settings.gateway.grace + MARGIN
        for gateway in self._gateways:
            gateway.say(STOP)
        self._stop_workers()

    def _stop_workers(self) -> None:
        """Stop the workers once no gateway needs them, and end the hub once no worker does."""
        if any(not gateway.drained for gateway in self._gateways if gateway.process is not None):
            return
        if not self._workers_told:
            self._workers_told = True
            self._deadline = time.monotonic() + self._settings.workers.grace + MARGIN
            for worker in self._rolling.children():
                worker.say(STOP)
        if not _running(self._rolling.children()):
            for gateway in self._gateways:
                self._nursery.hang_up(gateway)
            if not _running(self._gateways):
                for hub in self._hubs:
                    self._nursery.hang_up(hub)

    def _kill(self) -> None:
        self._deadline = None
        self._status = self._status or 1
        for child in self._children():
            child.kill()


def _numbers(count: int) -> range:
    """Return the numbers of so many gateways: the only one has none."""
    return range(1, count + 1) if count > 1 else range(1)


def _running(children: Iterable[Child]) -> bool:
    return any(child.process is not None for child in children)
