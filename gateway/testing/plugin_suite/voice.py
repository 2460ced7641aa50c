"""What a protocol sounds like, which its author says; and what every check is made of."""

from __future__ import annotations

import re
import unittest
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NoReturn, get_type_hints

import msgspec

from gateway.core.layers.base import ACCEPTED, OK, Outcome
from gateway.core.plugin import Message, ProtocolPlugin
from gateway.testing.heard import Heard
from gateway.testing.rig import PATIENCE, Client, Rig

Expected = tuple[str, Mapping[str, Any]]
"""The kind of a message, and some of its keys with their values."""
Answer = bytes | re.Pattern[bytes]
"""What a client hears: these bytes, or what the pattern matches as a whole. `Voice.normal` takes
out before what differs each time."""

WHOLE: Final = 1 << 20
"""The size of pieces where the bytes come as they were said."""
LONG: Final = 120.0
"""Virtual seconds after which whatever was to end has: beyond every timeout that is usual."""


class Turn(msgspec.Struct, frozen=True):
    """One exchange: the client sends, the worker hears, settles and replies, the client hears."""

    sends: bytes = b""
    hears: Expected | Sequence[Expected] = ()
    outcome: Outcome = OK
    """The outcome of each message."""
    replies: Sequence[Message] = ()
    """What the worker sends with the outcome of the last."""
    answer: Answer = b""
    """All that the client hears then."""

    def expected(self) -> Sequence[Expected]:
        """Return what the worker hears, as a sequence."""
        if self.hears and isinstance(self.hears[0], str):
            return (self.hears,)  # type: ignore[return-value] # it is one of them
        return self.hears  # type: ignore[return-value] # it is several


class Voice:
    """What a subclass says is the protocol's voice. The first six are enough for most."""

    plugin: ClassVar[type[ProtocolPlugin]]
    conversation: ClassVar[Sequence[Turn]]
    """A conversation, after the opening; the more of the protocol it shows, the better."""
    question: ClassVar[bytes]
    """Something to which the outcome is the answer."""
    answers: ClassVar[Mapping[str, Answer]]
    """What a client hears to ``question`` by the kind of its outcome; all five."""
    full: ClassVar[Answer]
    """What a client hears to ``question`` while the channel has no room."""
    too_much: ClassVar[bytes]
    """Input beyond the protocol's bounds."""

    config: ClassVar[Any] = None
    """The plugin's settings; None: the defaults."""
    others: ClassVar[Mapping[str, Any]] = {}
    """Settings of the plugins that it requires, by name."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Fields of ``[gateway]`` that differ from the defaults."""
    replies: ClassVar[Sequence[Message]] = ()
    """What the worker sends with an accepted question, where that alone is no answer."""
    opening: ClassVar[Sequence[Turn]] = ()
    """What is exchanged before anything else: a connect and its greeting."""
    closes: ClassVar[frozenset[str]] = frozenset()
    """After which answers to ``question`` the plugin closes: kinds of outcome, ``full``,
    ``unavailable``."""
    too_much_answer: ClassVar[Answer] = b""
    """What a client hears to ``too_much`` before, or instead of, the end."""
    lost: ClassVar[Answer | None] = None
    """What a client hears to ``question`` if the layer goes away then; the core ends the connection
    afterwards. None: as ``unavailable``."""
    unavailable: ClassVar[Answer | None] = None
    """What a client hears to ``question`` while the layer is away. None: as ``full``."""
    farewell: ClassVar[Answer] = b""
    """What a client hears when the gateway shuts down."""
    confirms: ClassVar[bytes] = b""
    """What a client says to confirm ``chatter``, where the protocol has such a thing."""
    cuttable: ClassVar[bool] = True
    """Whether the bytes are a stream, which may come in any pieces. False: datagrams."""
    pipelined: ClassVar[bool] = True
    """Whether a client may go on with the conversation before it has heard the answers."""

    # ------------------------------------------------ what may be said in another way

    def connect(self, rig: Rig) -> Client:
        """Return a new client: over what carries this protocol's bytes."""
        return rig.connect()

    def normal(self, data: bytes) -> bytes:
        """Return what a client heard without what differs each time: dates, ids."""
        return data

    def chatter(self, number: int) -> Message:
        """Return a reply that a client hears, the ``number``-th to one connection, from 0.

        The default is the first of the conversation. SkipTest: there is none.
        """
        for turn in (*self.conversation, *self.opening):
            for reply in turn.replies:
                if not {"accept", "close", "ack"} & set(reply):
                    return dict(reply)
        raise unittest.SkipTest("no turn has a reply: the protocol says nothing but answers")

    def disconnects(self, turns: int, *, asked: bool = False) -> int:
        """Return how many disconnects are due to a client that leaves after so many turns.

        ``asked``: it left while its question was with a worker.
        """
        if "disconnect" not in self.plugin.messages.KINDS:
            return 0
        if "connect" not in self.plugin.messages.KINDS:
            return 1
        heard = [
            (kind, turn.outcome.kind)
            for turn in (*self.opening, *self.conversation)[:turns]
            for kind, _ in turn.expected()
        ]
        return int(("connect", ACCEPTED) in heard)

    # ------------------------------------------------ the parts of a check

    @staticmethod
    def skip(reason: str) -> NoReturn:
        """Say why a check does not apply."""
        raise unittest.SkipTest(reason)

    @staticmethod
    def that(fact: object, sentence: str) -> None:
        """Check a fact: AssertionError with the sentence where it is none."""
        if not fact:
            raise AssertionError(sentence)

    def rig(self, **options: Any) -> Rig:
        """Return the plugin, to be started."""
        named = {"config": self.config, "others": self.others, **self.settings, **options}
        return Rig(self.plugin, **named)

    def opened(self, rig: Rig) -> Client:
        """Return a client after the opening."""
        client = self.connect(rig)
        for turn in self.opening:
            self.take_turn(rig, client, turn)
        return client

    @property
    def turns(self) -> Sequence[Turn]:
        """The opening and the conversation."""
        return (*self.opening, *self.conversation)

    def take_turn(
        self, rig: Rig, client: Client, turn: Turn, cuts: int | Sequence[int] = WHOLE
    ) -> list[Heard]:
        """Do one exchange, the bytes cut at those places or into pieces of one size."""
        for piece in pieces(turn.sends, cuts):
            client.send(piece)
        heard = self.worker_hears(rig, turn)
        self.expect(rig, client, turn.answer, f"to {shown(turn.sends)}")
        return heard

    def worker_hears(self, rig: Rig, turn: Turn) -> list[Heard]:
        """Hear, settle and answer what a turn's client has said."""
        expected = turn.expected()
        found = []
        for number, (kind, keys) in enumerate(expected, 1):
            heard = rig.hear_any(PATIENCE)
            said = f"to {shown(turn.sends)} the worker was to hear {kind!r}"
            if heard is None:
                raise AssertionError(f"{said}, and hears nothing")
            self.that(heard.kind == kind, f"{said}, and hears {heard.kind!r}")
            for key, value in keys.items():
                came = heard.message.get(key)
                self.that(came == value, f"{said} with {key} = {value!r}, and it is {came!r}")
            found.append(heard)
            heard.settle(turn.outcome, *(turn.replies if number == len(expected) else ()))
        return found

    def expect(
        self, rig: Rig, client: Client, answer: Answer, when: str, seconds: float = PATIENCE
    ) -> None:
        """Check that the client hears just that now."""
        came = bytearray()

        def heard() -> bool:
            came.extend(client.take())
            return matches(answer, self.normal(bytes(came)))

        if rig.wait(heard, seconds):
            came.extend(client.take())
        found = self.normal(bytes(came))
        self.that(
            matches(answer, found),
            f"{when} the client was to hear {shown(answer)}, and hears {shown(found)}",
        )

    def finish(self, rig: Rig) -> list[Message]:
        """Settle what is left once every connection has ended; return the disconnects."""
        ended = rig.wait(lambda: not rig.engine.by_channel, LONG)
        self.that(ended, f"a connection does not end: {', '.join(rig.engine.by_channel)}")
        return self.settled(rig)

    def settled(self, rig: Rig) -> list[Message]:
        """Settle what the worker has to hear now; return the disconnects."""
        found = []
        while (heard := rig.hear_any()) is not None:
            if heard.kind == "disconnect":
                found.append(heard.message)
            heard.settle(OK)
        return found

    def answered(self, rig: Rig, client: Client, kind: str = ACCEPTED) -> None:
        """Ask the question, have it settled, and check that it is answered."""
        client.send(self.question)
        while (heard := rig.hear()).kind == "disconnect":
            heard.settle(OK)  # of another client, before this one
        self.settle(heard, kind)
        self.expect(rig, client, self.answers[kind], f"to {shown(self.question)}, {kind},")

    def heard(self, rig: Rig) -> Heard:
        """Return the question, which the worker hears; where it is the connect, it is accepted."""
        heard = rig.hear()
        if heard.kind == "connect":
            heard.settle(OK)
        return heard

    def settle(self, heard: Heard, kind: str = ACCEPTED) -> None:
        """Settle the question, with the replies that belong to it."""
        heard.settle(Outcome(kind), *(self.replies if kind == ACCEPTED else ()))

    def ready(self, rig: Rig, client: Client, after: str) -> Client:
        """Return a client that may ask again after such an answer: a new one where it closes."""
        if after not in self.closes:
            return client
        ended = rig.wait(lambda: client.ended, LONG)
        self.that(ended, f"closes has {after!r}, and the plugin does not close")
        client.leave()
        self.settled(rig)
        return self.opened(rig)

    @property
    def reply_keys(self) -> Mapping[str, Any]:
        """The keys of the plugin's replies, and their types."""
        return get_type_hints(self.plugin.messages.REPLY, include_extras=True)

    def errors(self, rig: Rig) -> int:
        """Return how many sessions of the plugin raised what they must not."""
        name = f"gateway_{self.plugin.name}_session_errors_total"
        return int(rig.metrics.snapshot().get(name, 0)) + int(
            rig.metrics.snapshot().get("gateway_errors_total", 0)
        )


def pieces(data: bytes, cuts: int | Sequence[int]) -> Iterator[bytes]:
    """Cut bytes: into pieces of one size, or at places."""
    places = range(cuts, len(data), cuts) if isinstance(cuts, int) else sorted(set(cuts))
    start = 0
    for place in (*places, len(data)):
        if start < place <= len(data):
            yield data[start:place]
            start = place


def matches(answer: Answer, data: bytes) -> bool:
    """Return whether that is what a client was to hear."""
    if isinstance(answer, bytes):
        return data == answer
    return answer.fullmatch(data) is not None


def shown(answer: Answer) -> str:
    """Return bytes as one reads them in a sentence, shortened."""
    if isinstance(answer, re.Pattern):
        return f"what matches {answer.pattern!r}"
    if not answer:
        return "nothing"
    return repr(answer) if len(answer) <= 80 else f"{answer[:60]!r}… ({len(answer)} bytes)"
