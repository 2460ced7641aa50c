"""What the suite asks of a layer's author, and the tools its tests share.

The tests are synchronous. Where a test needs a protocol server it starts a `Server`: an
`Edge` on an asyncio loop of a thread of its own, with everything that it heard.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, ClassVar, TypeVar

import pytest

from gateway.core.layers import codec
from gateway.core.layers.base import Delivery, Layer, Message, Outcome, Send, Statistics
from gateway.core.layers.edge import ANNOUNCED, DOWN, GROUP, JOIN, MESSAGE, UP, Edge, Item
from gateway.testing.fakes import apart

T = TypeVar("T")

_NEWS = frozenset({ANNOUNCED, DOWN, UP})
"""Items about the layer itself, which come whenever they like."""


class Harness:
    """The hooks that a layer's author fills in, and the tests' tools.

    The hooks are called from the thread of the test, never on an event loop.
    """

    lacks: ClassVar[frozenset[str]] = frozenset()
    """What the layer does not have: names of the suite's modules (``outage``, ``edges``,
    ``intakes``, …), whose tests are then skipped."""

    patience: ClassVar[float] = 5.0
    """Seconds of real time after which something that should happen counts as not happening;
    a working layer never needs them."""

    # ------------------------------------------------ hooks

    def start(self) -> None:
        """Begin a new, empty layer state, with a manual clock. Called before each test, and
        before each run of the property tests.
        """  # noqa: D205 - one sentence

    def stop(self) -> None:
        """Throw that state away. All processes have been closed before."""

    def open(self, **options: Any) -> Layer:
        """Return a further process on the state.

        ``options`` are fields of `LayerOptions`; those of the first call after `start`
        count, where the state itself is what has options.
        """
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Move the layer's clock. What is due has happened when this returns.

        Processes that are neither frozen nor killed give their signs of life meanwhile.
        """
        raise NotImplementedError

    def kill(self, layer: Layer) -> None:
        """Let the process of ``layer`` die without a good-bye: its connections end."""
        raise NotImplementedError

    def freeze(self, layer: Layer) -> None:
        """Let the process of ``layer`` stand still: its connections stay, no sign of life.

        The tests call none of its verbs until `thaw`.
        """
        raise NotImplementedError

    def thaw(self, layer: Layer) -> None:
        """Let the process go on; it does not know that it stood still."""
        raise NotImplementedError

    def cut(self) -> None:
        """Make the layer unreachable for everybody; connections to it end."""
        raise NotImplementedError

    def mend(self) -> None:
        """Make the layer reachable again; it has forgotten every process."""
        raise NotImplementedError

    # ------------------------------------------------ the life of a test

    _layers: list[Layer]
    _servers: list[Server]

    def begin(self) -> None:
        """Start a state with nobody on it."""
        self._layers = []
        self._servers = []
        self.start()

    def finish(self) -> None:
        """Close what the test opened."""
        try:
            for server in self._servers:
                server.close()
            for layer in self._layers:
                layer.close()
        finally:
            self.stop()

    @pytest.fixture(autouse=True)
    def _state(self, request: pytest.FixtureRequest) -> Iterator[None]:
        room = request.function.__module__.rpartition(".")[2]
        if room in self.lacks:
            pytest.skip(f"{type(self).__name__} lacks {room}")
        self.begin()
        yield
        self.finish()

    # ------------------------------------------------ tools

    def join(self, **options: Any) -> Layer:
        """Open a further process that the layer knows, closed at the end of the test."""
        layer = self.open(**options)
        self._layers.append(layer)
        layer.announced()  # the first verb makes it known
        return layer

    def server(self, layer: Layer | None = None, **options: Any) -> Server:
        """Open a protocol server, closed at the end of the test."""
        server = Server(layer or self.open(**options), self.patience)
        self._servers.append(server)
        return server

    def until(self, condition: Callable[[], object], *, what: str = "") -> None:
        """Wait until ``condition`` is true, at most `patience` seconds."""
        wait_until(condition, self.patience, what)

    def taken(self, layer: Layer, *channels: str) -> Delivery:
        """Take a delivery that must be there."""
        delivery = layer.take(channels, block=self.patience)
        assert delivery is not None, f"nothing to take from {channels}"
        return delivery

    def received(self, layer: Layer, *channels: str) -> Message:
        """Receive a message that must be there."""
        _, message = layer.receive(channels, block=self.patience)
        assert message is not None, f"nothing to receive from {channels}"
        return message

    def drained(self, layer: Layer, *channels: str) -> list[Message]:
        """Receive all that waits."""
        found: list[Message] = []
        while (message := layer.receive(channels)[1]) is not None:
            found.append(message)
        return found

    def settled(
        self,
        layer: Layer,
        delivery: Delivery,
        *outcomes: Outcome,
        sends: Sequence[Send] = (),
    ) -> None:
        """Settle, and return once the layer has the settlement: a verb with an answer follows."""
        layer.settle(delivery, outcomes, sends)
        layer.global_statistics()

    def inbox(self, layer: Layer, count: int) -> list[tuple[str, Message]]:
        """Receive ``count`` messages of a process's own inbox."""
        found: list[tuple[str, Message]] = []
        for _ in range(count):
            channel, message = layer.receive([own(layer)], block=self.patience)
            assert channel is not None, f"{len(found)} of {count} in the inbox: {found}"
            assert message is not None
            found.append((channel, message))
        return found

    def outcomes(self, layer: Layer, count: int) -> list[tuple[int, int, str, str]]:
        """Receive ``count`` outcomes as (receipt, index, kind, cause)."""
        found = []
        for channel, message in self.inbox(layer, count):
            assert channel == f"outcome.{layer.process}!"
            found.append(told(message))
        return found

    def silence(self, layer: Layer) -> None:
        """Assert that nothing waits in the inbox of ``layer``."""
        assert layer.receive([own(layer)]) == (None, None)

    def drops(self, layer: Layer) -> dict[str, int]:
        """Return the drops of the whole layer by cause, those that are not zero."""
        return {cause: n for cause, n in layer.global_statistics().drops.items() if n}

    def dropped(self, layer: Layer, **causes: int) -> None:
        """Assert that the whole layer has dropped exactly these, or will have in a moment."""
        self.until(lambda: self.drops(layer) == causes, what=f"{self.drops(layer)} == {causes}")


class Server:
    """A protocol server: an `Edge` on a loop in a thread of its own, and what it heard."""

    def __init__(self, layer: Layer, patience: float) -> None:
        self.layer = layer
        self.process = layer.process
        self.edge: Edge
        self.items: list[Item] = []
        """Everything heard, in order."""
        self.errors: list[dict[str, Any]] = []
        self._seen = 0
        self._patience = patience
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        if not self._ready.wait(patience):
            raise AssertionError("the edge did not open")
        self.wait(lambda: self.edge.available, "the edge is available")

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self._end = asyncio.Event()
        self.edge = self.layer.edge(lambda items: self.items.extend(apart(items)))
        self._ready.set()
        await self._end.wait()
        await self.layer.aclose()

    def close(self) -> None:
        """Leave the layer, in order."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(self._patience)
        assert not self._thread.is_alive(), "the server does not close"
        assert not self.errors, self.errors

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until ``condition`` is true."""
        wait_until(condition, self._patience, what)

    def do(self, verbs: Callable[[Edge], T]) -> T:
        """Run ``verbs`` in one turn of the loop."""
        future: Future[T] = Future()

        def turn() -> None:
            try:
                future.set_result(verbs(self.edge))
            except BaseException as error:  # noqa: BLE001 - it is raised in the test's thread
                future.set_exception(error)

        self._loop.call_soon_threadsafe(turn)
        return future.result(self._patience)

    def post(
        self,
        channel: str,
        *messages: Message,
        receipt: int | None = None,
        expiry: float | None = None,
        pin: str | None = None,
    ) -> None:
        """Post messages as one delivery."""
        payloads = [codec.encode(message) for message in messages]
        self.do(lambda edge: edge.post(channel, payloads, receipt, expiry, pin))

    def heard(self, count: int = 1) -> list[Item]:
        """Return the next ``count`` items, decoded, without those about the layer itself."""
        found: list[Item] = []

        def enough() -> bool:
            while len(found) < count and self._seen < len(self.items):
                item = self.items[self._seen]
                self._seen += 1
                if item[0] not in _NEWS:
                    found.append(_decoded(item))
            return len(found) == count

        self.wait(enough, f"heard {found} of {count}")
        return found

    def silence(self, other: Layer) -> None:
        """Assert that nothing has been heard that was caused before now, by this process or by
        ``other``, another one: each sends a mark into the inbox, which is in order.
        """  # noqa: D205 - one sentence
        channel = f"mark.{self.process}!{time.monotonic_ns()}"
        self.do(lambda edge: edge.send(channel, codec.encode({})))
        assert self.heard() == [(MESSAGE, channel, {})]
        other.send(channel, {})
        assert self.heard() == [(MESSAGE, channel, {})]

    def news(self, kind: int) -> list[Item]:
        """Return the items of that kind heard so far."""
        return [item for item in self.items if item[0] == kind]


def _decoded(item: Item) -> Item:
    if item[0] == MESSAGE:
        return (MESSAGE, item[1], codec.decode(item[2]))
    if item[0] == GROUP:
        return (GROUP, item[1], codec.decode(item[2]), sorted(item[3]), *map(tuple, item[4:]))
    if item[0] == JOIN:
        meta = None if item[3] is None else codec.decode(item[3])
        return (JOIN, item[1], item[2], meta, item[4], *map(_resumed, item[5:]))
    return item


def _resumed(missed: Any) -> Any:
    """Return what a member missed, its messages decoded."""
    backlog, position, more = missed
    found = [(offset, codec.decode(payload)) for offset, payload in backlog]
    return found, tuple(position), more


def wait_until(condition: Callable[[], object], patience: float, what: str = "") -> None:
    """Wait until ``condition`` is true, at most ``patience`` seconds of real time."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not in {patience} s: {what or condition}")
        time.sleep(0.001)


def own(layer: Layer) -> str:
    """Return a name by which ``layer`` reads its inbox."""
    return f"inbox.{layer.process}!"


def told(message: Message) -> tuple[int, int, str, str]:
    """Return an outcome message as (receipt, index, kind, cause)."""
    return (message["receipt"], message["index"], message["kind"], message["cause"])


def numbers(count: int, start: int = 0) -> list[Message]:
    """Return messages ``{"n": start}``, ``{"n": start + 1}``, …."""
    return [{"n": n} for n in range(start, start + count)]


def zero(statistics: Statistics) -> bool:
    """Return whether nothing waits and nothing is in hand."""
    return statistics.pending == 0 and statistics.in_hand == 0
