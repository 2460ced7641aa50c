"""A gateway as the guest of a process that is somebody else's, on a thread of its own.

It installs no signal handler, prints nothing and logs as its host does. The host starts it,
waits for it and stops it, from any thread; once in a process, since there is one reactor.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.core import loop
from gateway.core.access import AccessLog
from gateway.core.boot import Boot
from gateway.core.listeners import Listeners
from gateway.core.process import Process, Stop, served

MARGIN: Final = 3.0
"""Seconds beyond the grace of gateway and workers after which a stop is waited for no longer."""

Places = list[tuple[str, list[str]]]
"""The plugins in the order of their start, and where each is served."""


class Guest:
    """The gateway: `start`, `wait`, `stop`. ``access`` hears of requests and connections."""

    def __init__(self, boot: Boot, access: AccessLog | None = None) -> None:
        self.boot = boot
        self.access = access
        self.places: Places = []
        self._lock = threading.Lock()
        self._told = threading.Event()
        """Set once traffic flows, or it is over."""
        self._over = threading.Event()
        self._stop: Callable[[], object] | None = None
        self._asked = False
        self._status = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    def start(self) -> None:
        """Start, and return once traffic flows. Raises GatewayError if it cannot."""
        self._thread.start()
        self._told.wait()
        self._raise()

    def wait(self) -> None:
        """Wait until it has ended; raise what ended it, if it was not `stop`."""
        self._over.wait()
        self._raise()

    def stop(self) -> bool:
        """Drain and end, within the grace of the settings; return whether everything has ended.

        False where consumers still run: the interpreter would wait for some of their threads.
        Idempotent.
        """
        with self._lock:
            self._asked = True
            if self._stop is not None:
                self._stop()
        if self._thread.ident is not None:
            settings = self.boot.settings
            self._thread.join(settings.gateway.grace + settings.workers.grace + MARGIN)
        return not self._thread.is_alive() and not self._status

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    # ---------------------------------------------------------------- on its own thread

    def _run(self) -> None:
        try:
            self._status = loop.run(self._main)
        except BaseException as error:  # noqa: BLE001 - raised on the host's thread
            self._error = error
        finally:
            self._over.set()
            self._told.set()

    async def _main(self) -> int:
        process = _Process(self)
        try:
            return await process.run()
        finally:
            with self._lock:
                self._stop = None

    def may_stop(self, ask: Callable[[], None]) -> None:
        """Hear, on the loop, what asks the process to stop."""
        running = asyncio.get_running_loop()
        with self._lock:
            self._stop = partial(running.call_soon_threadsafe, ask)
            if self._asked:
                ask()

    def serves(self, listeners: Listeners) -> None:
        """Hear, on the loop, that traffic flows."""
        self.places = list(served(self.boot, listeners))
        self._told.set()


class _Process(Process):
    """The gateway process, where another one's word counts."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        super().__init__(guest.boot, None)

    def _make_stop(self) -> Stop:
        stop = Stop(None)
        self._guest.may_stop(stop.asked.set)
        return stop

    def _open_access(self) -> AccessLog | None:
        return self._guest.access

    def _tell(self) -> None:
        self._guest.serves(self._listeners)

    def _status(self) -> int:
        return int(self._cut_off)
