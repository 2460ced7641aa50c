"""What a plugin's author pays a message for: ``python -m benchmarks.plugins [CASE …]``.

Each case is one session written in two ways that do the same, run in this process on stand-ins
for layer, clock and socket (but Twisted's own buffer, where writes are compared). CPU is what is
measured; the ratio is that of the other way to the first, formed in turn within one run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, Final, NamedTuple, TypedDict

from twisted.internet.abstract import FileDescriptor

from gateway.core.layers import codec
from gateway.core.layers.base import OK, Outcome
from gateway.core.layers.edge import ANNOUNCED, GROUP, JOIN, MESSAGE, OUTCOME
from gateway.core.plugin import (
    Action,
    Context,
    Emit,
    LineSession,
    Message,
    NoConfig,
    Peer,
    ProtocolPlugin,
    Session,
    Timer,
    Write,
)
from gateway.testing.fakes import FakeEdge, ManualClock

ROUNDS: Final = 9
SECONDS: Final = 0.15
"""CPU of one way in one round: long beside what a collection of garbage takes."""
LINES: Final = 64
"""Lines that come in one piece."""
MEMBERS: Final = 1000
"""Members of the group."""
TEXT: Final = "T 21.5"

Step = Callable[[], None]


class Receive(TypedDict, total=False):
    """What every case emits."""

    text: str
    lines: list[str]


class Reply(TypedDict, total=False):
    """What every case understands."""

    text: str


class Plugin(ProtocolPlugin):
    """The plugin of every case; its sessions differ."""

    name = "toy"
    messages: ClassVar[Any] = SimpleNamespace(KINDS={"receive": Receive}, REPLY=Reply)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Plain(LineSession):
    """The usual session: a line is a message, its outcome is not told, a reply is a line."""

    def line(self, line: bytes) -> Iterable[Action]:
        return [Emit("receive", {"text": line.decode()})]

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        return [Write(f"{reply['text']}\n".encode())]


class Framed(Plain):
    """It makes a group's frame once."""

    @classmethod
    def frame(cls, reply: Message) -> bytes:
        return f"{reply['text']}\n".encode()


class Short(Framed):
    """It has replies to one connection take the group's road."""

    frames_replies = True


class Gathered(Session):
    """It makes one message of all the lines of a piece."""

    _tail = b""

    def received(self, data: bytes) -> Iterable[Action]:
        *lines, self._tail = (self._tail + data).split(b"\n")
        return [Emit("receive", {"lines": [line.decode() for line in lines]})] if lines else []

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        return ()


class Numbered(Plain):
    """It gives every message a token, and does nothing when it was accepted."""

    def line(self, line: bytes) -> Iterable[Action]:
        return [Emit("receive", {"text": line.decode()}, token=line)]

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        return ()


class Deaf(Numbered):
    """The same, and it says so."""

    heeds_accepted = False


class Generating(Plain):
    """It yields its actions."""

    def line(self, line: bytes) -> Iterable[Action]:
        yield Emit("receive", {"text": line.decode()})


class Conversing(Plain):
    """It has a conversation for every hundredth of its lines."""

    _count = 0

    def line(self, line: bytes) -> Iterable[Action]:
        self._count = count = (self._count + 1) % 100
        return [Emit("receive", {"text": line.decode()}, conversation=str(count))]


class Timed(Plain):
    """It sets a timer anew at every line."""

    def line(self, line: bytes) -> Iterable[Action]:
        return [Timer("silence", 60), *super().line(line)]


class Counting(Plain):
    """It counts every line in a counter of the plugin's own."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def line(self, line: bytes) -> Iterable[Action]:
        self._context.count("lines_total")
        return super().line(line)


class Piecemeal(Plain):
    """It writes a reply in four pieces."""

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        return [Write(b"T "), Write(reply["text"].encode()), Write(b" C"), Write(b"\n")]


class Joined(Plain):
    """It writes the same at once."""

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        return [Write(b"T " + reply["text"].encode() + b" C\n")]


class _Edge(FakeEdge):
    """Keeps what was posted last, and nothing else."""

    posted: tuple[Any, int] | None = None

    def post(self, channel: str, payloads: Any, receipt: Any = None, *_: Any) -> None:
        self.posted = (receipt, len(payloads))


class _Wire:
    """Takes what is written."""

    def write(self, output: Any) -> None: ...

    def close(self, data: Any, *, abort: bool) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class _Nothing:
    """A reactor that does nothing."""

    def addWriter(self, _: Any) -> None: ...  # noqa: N802 - Twisted's name

    def removeWriter(self, _: Any) -> None: ...  # noqa: N802 - Twisted's name


class _Buffer(FileDescriptor):
    """What Twisted does with what is written, but for the system call."""

    connected = 1

    def writeSomeData(self, data: bytes) -> int:  # noqa: N802 - Twisted's name
        return len(data)


class _Buffered(_Wire):
    """A wire into that buffer, which is emptied in each turn."""

    def __init__(self) -> None:
        self._buffer = _Buffer(_Nothing())  # type: ignore[no-untyped-call] # Twisted's

    def write(self, output: Any) -> None:
        self._buffer.write(output)

    def turn(self) -> None:
        """Do what the reactor does at the end of a turn."""
        self._buffer.doWrite()  # type: ignore[no-untyped-call] # Twisted's


def _stage() -> tuple[_Edge, Any, Any]:
    edge = _Edge()
    engine = edge.engine(ManualClock())  # type: ignore[abstract] # nothing else is asked of it
    engine.deliver([(ANNOUNCED, frozenset({"toy.receive"}))])
    return edge, engine, engine.context(Plugin, NoConfig())


def lines(make: Callable[[Any], Session]) -> Step:
    """Return a step that hands in a piece of many lines, and settles all that is emitted."""
    edge, engine, context = _stage()
    connection = context.attach(make(context), _Wire(), Peer())
    piece = f"{TEXT}\n".encode() * LINES

    def step() -> None:
        connection.received(piece)
        while edge.posted is not None:
            (receipt, count), edge.posted = edge.posted, None
            engine.deliver([(OUTCOME, receipt, index, OK) for index in range(count)])

    return step


def single(make: Callable[[Any], Session]) -> Step:
    """Return a step that hands in one line after the other, and settles each."""
    edge, engine, context = _stage()
    connection = context.attach(make(context), _Wire(), Peer())
    line = f"{TEXT}\n".encode()

    def step() -> None:
        for _ in range(LINES):
            connection.received(line)
            assert edge.posted is not None
            engine.deliver([(OUTCOME, edge.posted[0], 0, OK)])

    return step


def group(make: Callable[[Any], Session]) -> Step:
    """Return a step that sends one message to a large group."""
    _, engine, context = _stage()
    payload = codec.encode({"text": TEXT})
    for _ in range(MEMBERS):
        connection = context.attach(make(context), _Wire(), Peer())
        engine.deliver([(JOIN, "all", connection.reply_channel, None, False)])

    def step() -> None:
        engine.deliver([(GROUP, "all", payload, ())])
        while engine.groups.busy:
            engine.loop.advance()

    return step


def replies(make: Callable[[Any], Session]) -> Step:
    """Return a step that hands replies to one connection."""
    _, engine, context = _stage()
    wire = _Buffered()
    connection = context.attach(make(context), wire, Peer())
    items = [(MESSAGE, connection.reply_channel, codec.encode({"text": TEXT}))] * LINES

    def step() -> None:
        engine.deliver(items)
        wire.turn()

    return step


class Case(NamedTuple):
    """Two ways to do the same."""

    says: str
    step: Callable[[Callable[[Any], Session]], Step]
    operations: int
    first: Callable[[Any], Session]
    other: Callable[[Any], Session]


def _of(session: Callable[[], Session]) -> Callable[[Any], Session]:
    return lambda _: session()


CASES: Final[dict[str, Case]] = {
    "frame": Case(
        "a group's message, a member: with frame / without",
        group,
        MEMBERS,
        _of(Framed),
        _of(Plain),
    ),
    "frames_replies": Case(
        "a reply: with frames_replies / without", replies, LINES, _of(Short), _of(Framed)
    ),
    "gather": Case(
        "a line, 64 in a piece: one Emit a piece / one a line",
        lines,
        LINES,
        _of(Gathered),
        _of(Plain),
    ),
    "token": Case(
        "a message: without a token / with one that nothing is done for",
        single,
        LINES,
        _of(Plain),
        _of(Numbered),
    ),
    "heeds_accepted": Case(
        "a message with a token: heeds_accepted = False / True",
        single,
        LINES,
        _of(Deaf),
        _of(Numbered),
    ),
    "conversation": Case(
        "a message: of the connection / of one of 100 conversations in it",
        single,
        LINES,
        _of(Plain),
        _of(Conversing),
    ),
    "generator": Case(
        "a message: from a list / from a generator", single, LINES, _of(Plain), _of(Generating)
    ),
    "timer": Case("a message: no timer / set anew", single, LINES, _of(Plain), _of(Timed)),
    "count": Case("a message: not counted / by context.count", single, LINES, _of(Plain), Counting),
    "write": Case("a reply: one Write / four", replies, LINES, _of(Joined), _of(Piecemeal)),
}


def _cpu(step: Step, number: int) -> float:
    began = time.process_time()
    for _ in range(number):
        step()
    return (time.process_time() - began) / number


def compare(case: Case, rounds: int, seconds: float) -> tuple[float, float, float]:
    """Return the microseconds of an operation, both ways, and the median of the ratios."""
    steps = (case.step(case.first), case.step(case.other))
    numbers = [max(1, int(seconds / max(_cpu(step, 3), 1e-7))) for step in steps]
    found = [
        [_cpu(step, number) for step, number in zip(steps, numbers, strict=True)]
        for _ in range(rounds)
    ]
    first, other = (min(times) / case.operations * 1e6 for times in zip(*found, strict=True))
    return first, other, statistics.median(one[1] / one[0] for one in found)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare the cases that were asked for, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plugins", description=__doc__)
    parser.add_argument("case", nargs="*", help=f"one of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="does it run? its figures say nothing")
    options: SimpleNamespace = parser.parse_args(argv)  # type: ignore[assignment]
    rounds, seconds = (1, 0.0) if options.quick else (ROUNDS, SECONDS)
    for name in options.case or CASES:
        if name not in CASES:
            parser.error(f"there is no case {name!r}")
        first, other, ratio = compare(CASES[name], rounds, seconds)
        print(
            f"{name:<16}{first:6.2f} {other:6.2f} µs  x {ratio:5.2f}  {CASES[name].says}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
