"""The blocking client of a hub: all threads of a process over one connection.

Leader and followers: of the threads that wait for something, one, the leader, reads the
socket and hands out what comes; the others sleep. A thread with something to do leaves;
who follows it is woken at once where consumers are slow, and otherwise by the *minder*, a
thread that looks every millisecond while there is work. So short consumers run one after
the other in one thread, which is cheapest under the GIL, and nothing waits behind a slow
one while a thread is idle. The minder also writes settlements that nobody else wrote,
reconnects, and gives signs of life.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import select
import socket
import threading
import time
from asyncio import _get_running_loop
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.core.errors import LayerUnavailable
from gateway.core.layers import wire
from gateway.core.layers.base import Delivery, Outcome, Send
from gateway.core.layers.journal import LASTING
from gateway.core.layers.verbs import DO_ANNOUNCE

if TYPE_CHECKING:
    from gateway.core.layers.intake import ThreadIntake
    from gateway.core.layers.unix import UnixLayer

log = logging.getLogger("gateway.layer")

READ: Final = 65536
"""Bytes a read: below malloc's mmap threshold (128 KiB), so that no page is mapped anew."""
FLUSH_AFTER: Final = 0.0005
"""Seconds that a settlement may wait for company while its thread has more to run: each write
wakes the hub. Measured behind Django's default middleware: 0.2 ms costs 4 % more CPU a request,
0.1 ms 7 %."""
MIND: Final = 0.001
"""Seconds between two looks of the minder while there is work."""
MIND_ON: Final = 100
"""Looks without work after which the minder sleeps until there is some."""
ANSWER: Final = 10.0
"""Seconds after which a question without an answer counts as a lost layer."""
SLOW: Final = 0.001
"""Seconds a consumer from which on it counts as slow: then credit falls, followers wake."""
MAX_BACKOFF: Final = 1.0


class _Call:
    """A question and its answer."""

    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None


class _Follower:
    """A thread that sleeps until ``ready`` or until it should lead."""

    __slots__ = ("asleep", "lock", "ready")

    def __init__(self, ready: Callable[[], bool]) -> None:
        self.ready = ready
        self.lock = threading.Lock()
        self.lock.acquire()
        self.asleep = True

    def wake(self) -> None:
        if self.asleep:
            self.asleep = False
            self.lock.release()


class Hand:
    """One connection's hold on deliveries: those of an earlier one are not in hand any more."""

    __slots__ = ("client",)

    def __init__(self, client: Any) -> None:
        self.client = client


class ThreadClient:
    """One connection to the hub, for the threads of this process. Thread-safe."""

    def __init__(self, layer: UnixLayer) -> None:
        self._layer = layer
        self._mutex = threading.Lock()
        self._writing = threading.Lock()
        self._sock: socket.socket | None = None
        self._frames = wire.Frames()
        self._hand = Hand(self)
        self._hello = _Call()
        self._out: list[Any] = []
        self._since = 0.0
        self._rids = itertools.count(1)
        self._calls: dict[int, _Call] = {}
        self._intakes: dict[int, ThreadIntake] = {}
        self._followers: list[_Follower] = []
        self._leading = False
        self._closed = False
        self._minder: threading.Thread | None = None
        self._work = threading.Lock()
        self._work.acquire()
        self._minding = False
        self.turns = 0
        """How many deliveries were begun: the minder sees by it whether work goes on."""
        self.mean = 0.0
        """Seconds that a consumer takes, a moving average."""

    # ---------------------------------------------------------------- the connection

    def _connect(self) -> None:
        """Connect and say who we are. Call with the mutex held. Raises `LayerUnavailable`."""
        if self._closed:
            raise LayerUnavailable("this layer was closed")
        if self._minder is None:
            self._minder = threading.Thread(
                target=self._mind, name="gateway-layer-minder", daemon=True
            )
            self._minder.start()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._layer.path)
        except OSError as error:
            sock.close()
            raise self._layer.away(error) from None
        self._sock = sock
        self._frames = wire.Frames()
        self._hand = Hand(self)
        hello = _Call()
        rid = next(self._rids)
        self._calls[rid] = hello
        self._hello = hello
        self._out = [(wire.HELLO, rid, wire.VERSION, self._layer.process)]
        self._out.extend(self._layer.held.claims())
        if self._layer.said is not None:
            self._out.append((DO_ANNOUNCE, 0, *self._layer.said))
        for number, intake in self._intakes.items():
            self._out.append((wire.SUBSCRIBE, 0, number, intake.channels, intake.credit))
        self._since = 0.0

    def _lose(self, sock: socket.socket, reason: str) -> None:
        """Take note that the connection is gone. Call with the mutex held."""
        if sock is not self._sock:
            return
        self._sock = None
        sock.close()
        self._out = []
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.done = True
            call.error = LayerUnavailable(f"the connection to the hub was lost: {reason}")
        for intake in self._intakes.values():
            intake.ready.clear()
        for follower in self._followers:
            follower.wake()
        if not self._closed:
            log.warning("the connection to the hub was lost (%s); reconnecting", reason)
        self._busy()

    def close(self) -> None:
        """Say good-bye; the lease ends."""
        with self._mutex:
            self._closed = True
            sock = self._sock
            if sock is not None:
                self._out.append((wire.BYE, 0))
        if sock is not None:
            self.flush()
            with self._mutex:
                if self._sock is not None:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
                if not self._leading:
                    self._lose(sock, "closed")
        self._busy()

    def let_go(self) -> None:
        """Close this process's end, in the child of a fork, without a word to the hub."""
        if self._sock is not None:
            self._sock.close()

    def flush(self) -> None:
        """Write what is to be said, in one write."""
        with self._writing:
            with self._mutex:
                sock = self._sock
                out = self._out
                if sock is None or not out:
                    return
                self._out = []
            try:
                sock.sendall(wire.pack(out))
            except OSError as error:
                with self._mutex:
                    if not self._leading:
                        self._lose(sock, error.strerror or "write failed")

    # ---------------------------------------------------------------- questions

    def ask(self, op: int, *args: Any) -> Any:
        """Run one operation and return its result. Raises what it raised."""
        call = _Call()
        with self._mutex:
            if self._sock is None:
                self._connect()
            rid = next(self._rids)
            self._calls[rid] = call
            self._out.append((op, rid, *args))
        self.flush()
        self._wait(lambda: call.done, time.monotonic() + ANSWER)
        if not call.done:
            with self._mutex:
                self._calls.pop(rid, None)
            raise LayerUnavailable(f"the hub did not answer within {ANSWER:.0f} s")
        if call.error is not None:
            raise call.error
        return call.result

    def pull(self, channels: Sequence[str], block: float, *, inbox: bool) -> Delivery | None:
        """Take one delivery within ``block`` seconds; while the hub is away, wait as long."""
        end = time.monotonic() + block
        while True:
            call = _Call()
            try:
                with self._mutex:
                    if self._sock is None:
                        self._connect()
                    rid = next(self._rids)
                    self._calls[rid] = call
                    self._out.append((wire.PULL, rid, channels, inbox, block > 0))
            except LayerUnavailable:
                if time.monotonic() >= end:
                    if block > 0:
                        return None
                    raise
                time.sleep(min(0.05, block))
                continue
            self.flush()
            done = self._wait(lambda call=call: call.done, end if block > 0 else end + ANSWER)  # type: ignore[misc]
            if not done:
                with self._mutex:
                    self._out.append((wire.UNPULL, 0, rid))
                self.flush()
                self._wait(lambda call=call: call.done, time.monotonic() + ANSWER)  # type: ignore[misc]
            if call.error is None:
                handed = call.result
                return None if handed is None else self.delivery(handed)
            if not isinstance(call.error, LayerUnavailable):
                raise call.error
            if time.monotonic() >= end:
                return None

    def delivery(self, handed: Sequence[Any]) -> Delivery:
        """Return the delivery that the hub handed over: tag, name, payloads, attempt."""
        if handed[0] >= LASTING:
            self._layer.held.begun(handed[0])
        return Delivery(handed[1], handed[2], handed[0], handed[3], self._hand)

    # ---------------------------------------------------------------- settlement

    def settle(
        self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send]
    ) -> None:
        """Settle, in company of others where that costs no time."""
        if not delivery.tag:
            if sends:
                self._layer.apply(sends)
            return
        now = time.monotonic()
        if delivery.since:
            took = now - delivery.since
            self.mean += ((min(1.0, took)) - self.mean) * 0.05
            delivery.since = now
        with self._mutex:
            if delivery.tag >= LASTING:
                if self._sock is None:
                    self._layer.held.keep(delivery, outcomes, sends)
                    return
                self._layer.held.settled(delivery.tag, outcomes)
            elif self._sock is None or delivery.source is not self._hand:
                self._layer.late(delivery, len(outcomes))
                return
            out = self._out
            first = not out
            if first:
                self._since = now
            wire.add_settle(out, delivery.tag, outcomes, sends)
            late = now - self._since > FLUSH_AFTER
            if not late and not self._minding:
                self._busy()
        if first or late:
            loop = _get_running_loop()  # a system call
            if loop is None:
                if late:
                    self.flush()
            elif first:
                loop.call_soon(self.flush)

    def set_aside(self, delivery: Delivery) -> None:
        """Take the credit of a delivery back before it is settled."""
        delivery.since = 0.0  # how long it waits elsewhere says nothing of the threads' pace
        with self._mutex:
            if self._sock is not None and delivery.source is self._hand:
                self._out.append((wire.ASIDE, 0, delivery.tag))
                self._busy()  # nobody else may have anything to write for seconds

    def put_back(self, delivery: Delivery) -> None:
        """Give back what is left of a delivery that was not begun."""
        self._layer.held.put_back(delivery.tag)
        with self._mutex:
            if self._sock is not None and delivery.source is self._hand:
                self._out.append((wire.PUT_BACK, 0, delivery.tag))
        self.flush()

    # ---------------------------------------------------------------- leader and followers

    def _wait(self, ready: Callable[[], bool], end: float | None) -> bool:
        """Return True once ``ready``, or False when the time is over or we were closed."""
        follower: _Follower | None = None
        while True:
            with self._mutex:
                if follower is not None and follower in self._followers:
                    self._followers.remove(follower)
                if ready():
                    if not self._leading and self._followers:
                        self._succeed()
                    return True
                left = None if end is None else end - time.monotonic()
                if (left is not None and left <= 0) or (self._closed and self._sock is None):
                    if not self._leading and self._followers:
                        self._followers[0].wake()
                    return False
                lead = not self._leading and self._sock is not None
                sock = self._sock
                if lead:
                    self._leading = True
                else:
                    follower = _Follower(ready)
                    self._followers.append(follower)
            if lead and sock is not None:
                self._lead(sock, left)
            elif follower is not None:
                follower.lock.acquire(timeout=-1 if left is None else left)

    def _succeed(self) -> None:
        """Wake who must act now that we leave. Call with the mutex held.

        Where consumers are quick, an intake's follower is left asleep: we are back soon, and
        if not, the minder sees it.
        """
        if self.mean > SLOW / 3 or any(not call.done for call in self._calls.values()):
            self._followers[0].wake()

    def _rouse(self) -> None:
        """Wake a follower where no thread came back for what there is. With the mutex held.

        A leader may wait for something else, for minutes: a slow client's next word.
        """
        if not self._leading:
            self._followers[0].wake()
            return
        for follower in self._followers:
            if follower.ready():
                follower.wake()
                return

    def _lead(self, sock: socket.socket, left: float | None) -> None:
        """Read once, and hand out what came. Call with the leadership."""
        self.flush()
        data: bytes | None = b""
        reason = "the hub closed it"
        try:
            if left is not None:
                poll = select.poll()
                poll.register(sock, select.POLLIN)
                if not poll.poll(left * 1000):
                    data = None
            if data is not None:
                data = sock.recv(READ)
        except OSError as error:
            reason = error.strerror or "read failed"
        with self._mutex:
            self._leading = False
            if data is None:
                return
            if not data:
                self._lose(sock, reason)
                return
            try:
                events = self._frames.feed(data)
            except (ValueError, msgspec.DecodeError) as error:
                self._lose(sock, f"what came was no frame: {error}")
                return
            for event in events:
                self._heard(event)

    def _heard(self, event: list[Any]) -> None:
        code = event[0]
        if code == wire.DELIVER:
            intake = self._intakes.get(event[1])
            if intake is not None:
                event.append(self._hand)
                intake.ready.append(event)
            else:  # closed meanwhile
                self._out.append((wire.PUT_BACK, 0, event[2]))
            self._busy()
            return
        if code == wire.ENDED:
            if self._sock is not None:
                log.error("the lease of %s has ended; rejoining", self._layer.process)
                self._lose(self._sock, "the lease has ended")
            return
        call = self._calls.pop(event[1], None)
        if call is None:
            return
        call.done = True
        if code == wire.ERROR:
            call.error = wire.unpack_error(event[2], event[3])
        else:
            call.result = event[2]
            if call is self._hello:
                self._layer.welcomed(event[2][0], event[2][2])
                self._busy()  # the hub's leases may be shorter than what the minder waits for
        for follower in self._followers:
            if follower.ready():
                follower.wake()

    # ---------------------------------------------------------------- the minder

    def _busy(self) -> None:
        """Have the minder look. Call with the mutex held or at the end."""
        if not self._minding:
            self._minding = True
            self._work.release()

    def _mind(self) -> None:
        beaten = time.monotonic()
        backoff = 0.05
        seen = -1
        quiet = 0
        while True:
            beat = self._layer.options.lease / 4  # the hub's, once it has welcomed us
            if quiet > MIND_ON:
                with self._mutex:
                    if self._minding:
                        self._minding = False
                        self._work.acquire(blocking=False)
                self._work.acquire(timeout=beat)
                with self._mutex:
                    self._minding = True
                quiet = 0
            else:
                time.sleep(MIND)
            now = time.monotonic()
            flush = False
            with self._mutex:
                if self._closed and (self._sock is None or not self._leading):
                    for follower in self._followers:
                        follower.wake()
                    return
                if self._sock is None:
                    if now - beaten >= backoff:
                        beaten = now
                        backoff = self._reconnect(backoff)
                    quiet = 0
                    flush = True
                else:
                    backoff = 0.05
                    if now - beaten >= beat:
                        beaten = now
                        self._out.append((wire.BEAT, 0))
                        flush = True
                    if self._out and (flush or now - self._since > FLUSH_AFTER):
                        flush = True
                    if self.turns == seen and self._followers:
                        self._rouse()
                    quiet = quiet + 1 if self.turns == seen and not flush else 0
                    seen = self.turns
            if flush:
                self.flush()

    def _reconnect(self, backoff: float) -> float:
        try:
            self._connect()
        except LayerUnavailable:
            return min(backoff * 2, MAX_BACKOFF)
        log.info("connected to the hub again")
        for follower in self._followers:
            follower.wake()
        return 0.05
