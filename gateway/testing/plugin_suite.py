r"""`PluginSuite`: what every plugin over byte streams must do, tested by bytes alone.

Subclass it in a test module, say what the protocol sounds like, and pytest does the rest::

    class TestSensor(PluginSuite):
        plugin = Sensor
        config = SensorConfig()
        conversation = (
            Turn(b"S 1 20.5\n", hears=("receive", {"value": 20.5}), answer=b"OK 1\n"),
        )
        question = b"S 7 1\n"
        answers = {"accepted": b"OK 7\n", "rejected": b"NO 7\n", …}

The plugin is really started, on loopback; the test is client and worker. Every message is
checked against the schema of its kind, every reply against the schema of replies.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from gateway.core.layers.base import (
    ACCEPTED,
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
    Outcome,
)
from gateway.core.layers.base import MAX_TRIES as TRIES
from gateway.core.plugin import Message, ProtocolPlugin
from gateway.testing.stage import PATIENCE, Heard, Staged, wait_until

Expected = tuple[str, Mapping[str, Any]]
"""The kind of a message, and some of its keys with their values."""


class Turn(msgspec.Struct, frozen=True):
    """One exchange: the client sends, the worker hears, settles and replies, the client reads."""

    sends: bytes = b""
    hears: Expected | Sequence[Expected] = ()
    outcome: Outcome = OK
    """The outcome of each message."""
    replies: Sequence[Message] = ()
    """What the worker sends with the outcome of the last."""
    answer: bytes = b""
    """All that the client reads then."""

    def expected(self) -> Sequence[Expected]:
        """Return what the worker hears, as a sequence."""
        if self.hears and isinstance(self.hears[0], str):
            return (self.hears,)  # type: ignore[return-value] # it is one of them
        return self.hears  # type: ignore[return-value] # it is several


class PluginSuite:
    """The tests. What a subclass says is the protocol's voice."""

    plugin: ClassVar[type[ProtocolPlugin]]
    config: ClassVar[Any] = None
    """Its settings; None: the defaults."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Fields of ``[gateway]`` that differ from the defaults."""

    opening: ClassVar[Sequence[Turn]] = ()
    """What is exchanged before anything else: a connect and its greeting."""
    conversation: ClassVar[Sequence[Turn]]
    """A conversation after that; the more of the protocol it shows, the better."""
    question: ClassVar[bytes]
    """Something to which the outcome is the answer."""
    answers: ClassVar[Mapping[str, bytes]]
    """What a client hears to ``question`` by the kind of its outcome; all five."""
    closes: ClassVar[frozenset[str]] = frozenset()
    """The kinds of outcome after which the plugin closes the connection."""
    full: ClassVar[bytes]
    """What a client hears to ``question`` while the channel has no room."""
    too_much: ClassVar[bytes]
    """Input beyond the protocol's bounds."""
    too_much_answer: ClassVar[bytes] = b""
    """What a client hears to that before, or instead of, the end."""
    farewell: ClassVar[bytes] = b""
    """What a client hears when the gateway shuts down."""

    # ------------------------------------------------ the tests

    @pytest.mark.parametrize("size", [1 << 20, 1, 2, 3, 7])
    def test_conversation_however_it_is_cut(self, size: int) -> None:
        """Whatever pieces the bytes come in, messages and answers are the same."""
        with self.staged() as staged:
            client = staged.connect()
            for turn in (*self.opening, *self.conversation):
                self.take_turn(staged, client, turn, size)
            client.close()
            self.finish(staged)

    def test_one_disconnect_for_a_connect(self) -> None:
        """Wherever a client leaves, one disconnect follows an accepted connect."""
        turns = (*self.opening, *self.conversation)
        for after in range(1, len(turns) + 1):
            with self.staged() as staged:
                client = staged.connect()
                for turn in turns[:after]:
                    self.take_turn(staged, client, turn)
                client.close()
                assert len(self.finish(staged)) == self.disconnects(after)

    def test_client_that_leaves_unheard(self) -> None:
        """A client that leaves before its question is settled costs one disconnect, after it."""
        with self.staged() as staged:
            client = self.opened(staged)
            client.sendall(self.question)
            heard = staged.hear()
            client.close()
            assert staged.hear_any() is None
            heard.settle(OK)
            assert len(self.finish(staged)) == self.disconnects(len(self.opening) + 1)

    @pytest.mark.parametrize("kind", [ACCEPTED, REJECTED, FAILED, RELEASED, UNROUTED])
    def test_each_outcome_has_its_answer(self, kind: str) -> None:
        """Each outcome of a question is answered in the protocol's own words."""
        with self.staged(layer={"expiry": 60.0}) as staged:
            client = self.opened(staged)
            client.sendall(self.question)
            outcome = Outcome(kind)
            # The layer offers what is released again, until its tries are spent.
            for _ in range(TRIES if kind == RELEASED else 1):
                staged.hear().settle(outcome)
            self.expect(client, self.answers[kind])
            if kind in self.closes:
                assert staged.read_all(client) == b""
            client.close()
            self.finish(staged)

    def test_nobody_routes_it(self) -> None:
        """A question that no worker routes is answered as unrouted, and reaches nobody."""
        with self.staged() as staged:
            client = self.opened(staged)
            staged.worker.announce(["something.else"])
            wait_until(lambda: staged.call(lambda: staged.context.routed("nothing") is False))
            wait_until(lambda: not staged.call(self._routed, staged))
            client.sendall(self.question)
            self.expect(client, self.answers[UNROUTED])
            assert staged.hear_any() is None

    def test_full_layer(self) -> None:
        """Where the channel stays full, the client is told; then things go on."""
        with self.staged(layer={"capacity": 1, "capacities": {}}, full_timeout=0.1) as staged:
            client = self.opened(staged)
            client.sendall(self.question)
            heard = staged.hear()
            filler = dict(heard.message)
            heard.settle(OK)
            self.expect(client, self.answers[ACCEPTED])
            staged.worker.send(heard.channel, filler)
            client.sendall(self.question)
            self.expect(client, self.full)
            assert staged.metrics.dropped()["full"] >= 1
            staged.hear().settle(OK)

    def test_too_much_input(self) -> None:
        """Input beyond the bounds is answered, and costs no other client anything."""
        with self.staged() as staged:
            client, other = self.opened(staged), self.opened(staged)
            client.sendall(self.too_much)
            self.expect(client, self.too_much_answer)
            other.sendall(self.question)
            while (heard := staged.hear()).kind == "disconnect":
                heard.settle(OK)
            heard.settle(OK)
            self.expect(other, self.answers[ACCEPTED])

    def test_drain_in_the_middle(self) -> None:
        """A shutdown says farewell, finishes what is in hand, and disconnects once."""
        with self.staged() as staged:
            client = self.opened(staged)
            client.sendall(self.question)
            heard = staged.hear()
            staged.drain()
            heard.settle(OK)
            rest = staged.read_all(client)
            assert rest in {self.farewell, self.answers[ACCEPTED] + self.farewell}
            client.close()
            assert len(self.finish(staged)) == self.disconnects(len(self.opening) + 1)

    def test_start_stop_start(self) -> None:
        """A plugin that was stopped can be started again; neither leaves a socket open."""
        before = _sockets()
        for _ in range(2):
            with self.staged() as staged:
                client = staged.connect()
                for turn in (*self.opening, *self.conversation):
                    self.take_turn(staged, client, turn)
                port = staged.port
            assert _sockets() == before
            with pytest.raises(ConnectionError), socket.socket() as again:
                again.connect(("127.0.0.1", port))

    def test_nothing_is_left(self) -> None:
        """After many clients that end in every way nothing of them is left."""
        with self.staged() as staged:
            for n in range(20):
                client = self.opened(staged)
                client.sendall(self.question if n % 2 else self.question[:-1])
                client.close()
                self.finish(staged)
            wait_until(lambda: not staged.left_over())

    # ------------------------------------------------ its parts

    def staged(self, **options: Any) -> Staged:
        """Return the plugin, to be started."""
        return Staged(self.plugin, self.config, **{**self.settings, **options})

    def opened(self, staged: Staged) -> socket.socket:
        """Return a client after the opening."""
        client = staged.connect()
        for turn in self.opening:
            self.take_turn(staged, client, turn)
        return client

    def take_turn(
        self, staged: Staged, client: socket.socket, turn: Turn, size: int = 1 << 20
    ) -> None:
        """Do one exchange, the bytes in pieces of ``size``."""
        for piece in _pieces(turn.sends, size):
            client.sendall(piece)
        expected = turn.expected()
        for number, (kind, keys) in enumerate(expected, 1):
            heard = staged.hear()
            assert heard.kind == kind
            self.check(heard)
            assert {key: heard.message.get(key) for key in keys} == dict(keys)
            replies = turn.replies if number == len(expected) else ()
            for reply in replies:
                msgspec.convert(reply, self.plugin.messages.REPLY)
            heard.settle(turn.outcome, *replies)
        self.expect(client, turn.answer)

    def check(self, heard: Heard) -> None:
        """Check a message against the schema of its kind, and its common keys."""
        message = dict(heard.message)
        assert message.pop("reply_channel").startswith(f"{self.plugin.name}.send.p_")
        assert type(message.pop("order")) is int
        for side in ("client", "server"):
            address = message.pop(side)
            assert address is None or (type(address[0]) is str and type(address[1]) is int)
        message.pop("identity", None)
        schema = self.plugin.messages.KINDS[heard.kind]
        assert set(message) <= set(schema.__annotations__)
        msgspec.convert(message, schema)

    def expect(self, client: socket.socket, answer: bytes) -> None:
        """Read exactly that from the plugin."""
        assert Staged.read(client, len(answer)) == answer

    def finish(self, staged: Staged) -> list[Message]:
        """Settle what is left; return the disconnects; assert that nothing else is left."""
        disconnects = []
        wait_until(lambda: not staged.call(lambda: staged.engine.by_channel), PATIENCE)
        while (heard := staged.hear_any()) is not None:
            if heard.kind == "disconnect":
                self.check(heard)
                disconnects.append(heard.message)
            heard.settle(OK)
        wait_until(lambda: not staged.left_over())
        return disconnects

    def disconnects(self, turns: int) -> int:
        """Return how many disconnects are due after so many turns of opening and conversation."""
        heard = [
            (kind, turn.outcome.kind)
            for turn in (*self.opening, *self.conversation)[:turns]
            for kind, _ in turn.expected()
        ]
        return int(("connect", ACCEPTED) in heard)

    def _routed(self, staged: Staged) -> bool:
        return any(staged.context.routed(kind) for kind in staged.kinds)


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _sockets() -> int:
    """Return how many sockets this process has open."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            count += str(descriptor.readlink()).startswith("socket:")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return count
