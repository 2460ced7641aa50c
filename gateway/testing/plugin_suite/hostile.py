"""What must cost nobody anything: garbage from clients, nonsense from the application."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from gateway.core.layers.base import OK
from gateway.testing.plugin_suite.talks import NO_HYPOTHESIS
from gateway.testing.plugin_suite.voice import Voice, shown
from gateway.testing.rig import Rig

CASES: Final = 150
"""Garbled conversations: every kind of damage dozens of times."""
EXAMPLES: Final = 40
"""Byte strings of hypothesis's: a second's worth."""
HEARD: Final = 50
"""Messages of one garbled client that are settled: more than it can mean."""
NONSENSE: Final[tuple[Any, ...]] = ({"a": [None]}, [[1.5]], "\ud7ff", -1.5, b"\xff", True, None)
"""Values of every type, of which some is wrong for any key."""
ODD: Final[tuple[Any, ...]] = (
    *("", "\n", "a\r\nb", "\x00", "\x7f\x1b[0m", "é\U0001f600", "x" * 100_000),
    *(b"", b"\r\n\xff\x00", b"\x80" * 100_000),
    *(0, -1, 1, 999, 1 << 31, (1 << 63) - 1, -(1 << 63), True, False, 0.5, float("inf")),
    *([], {}, None),
)
"""Values that a schema may allow and a protocol may not be able to say."""
CORES: Final = ("ack", "ack_channel", "pin")
"""Keys that the core heeds itself."""


class Hostile(Voice):
    """The checks of what must cost nobody anything."""

    def test_garbage(self) -> None:
        """Whatever a client sends, no session raises, and others are answered."""
        with self.rig() as rig:
            for data in self._garbage():
                self._survives(rig, data)
            self.answered(rig, self.opened(rig))

    def test_any_garbage(self) -> None:
        """So it is for bytes that hypothesis looks for."""
        try:
            from hypothesis import HealthCheck, given, settings
            from hypothesis import strategies as st
        except ImportError:
            self.skip(NO_HYPOTHESIS)

        words = [turn.sends for turn in self.turns if turn.sends] + [self.question]
        piece = st.one_of(st.binary(max_size=20), st.sampled_from(words))
        with self.rig() as rig:

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(st.lists(piece, max_size=6).map(b"".join))
            def survive(data: bytes) -> None:
                self._survives(rig, data)

            survive()

    def _garbage(self) -> Iterator[bytes]:
        chance = random.Random(0)  # noqa: S311 - the same each time
        told = b"".join(turn.sends for turn in self.turns) + self.question
        yield from (b"\x00", b"\xff" * 64, b"\r\n" * 64, b"\n", told * 2, told[::-1])
        for _ in range(CASES):
            data = bytearray(told)
            for _ in range(chance.randint(1, 4)):
                place = chance.randrange(len(data) + 1)
                match chance.randrange(5):
                    case 0:
                        data[place : place + 1] = chance.randbytes(1)
                    case 1:
                        del data[place : place + chance.randint(1, 8)]
                    case 2:
                        data[place:place] = chance.randbytes(chance.randint(1, 8))
                    case 3:
                        data[place:place] = data[: chance.randint(1, 16)]
                    case 4:
                        data[place:place] = chance.choice((b"\r", b"\n", b"\x00", b" ", b"-", b"9"))
            yield bytes(data)

    def _survives(self, rig: Rig, data: bytes) -> None:
        """Say it as a new client, and as one after the opening."""
        before = self.errors(rig)
        for begin in (self.connect, self.opened):
            client = begin(rig)
            client.send(data)
            for _ in range(HEARD):
                heard = rig.hear_any()
                if heard is None:
                    break
                heard.settle(OK)
            client.cut()
            self.finish(rig)
            self.that(
                self.errors(rig) == before,
                f"a client that says {shown(data)} makes the session raise: see the log; "
                "RemoteProtocolError is for what a client must not say",
            )

    # ------------------------------------------------ the application

    def test_replies_that_break_the_schema(self) -> None:
        """A reply that does not fit REPLY is dropped, and costs nobody anything."""
        with self.rig() as rig:
            client = self.opened(rig)
            client.send(self.question)
            heard = rig.hear()
            broken: list[dict[str, Any]] = [{"no such key": 1}]
            broken += [{key: value} for key in self.reply_keys for value in NONSENSE]
            broken = [reply for reply in broken if not self._fits_reply(reply)]
            for reply in broken:
                rig.send(heard.message["reply_channel"], reply)
            came = client.take()
            self.that(not came, f"of replies that break the schema the client hears {shown(came)}")
            found = rig.metrics.dropped().get("invalid", 0)
            self.that(found == len(broken), f"of {len(broken)} such replies {found} are dropped")
            self.settle(heard)
            self.expect(rig, client, self.answers["accepted"], "after such replies")

    def test_replies_that_cannot_be_said(self) -> None:
        """A reply that fits REPLY may be one that the protocol cannot say: no session raises."""
        with self.rig() as rig:
            for key in self.reply_keys:
                if key in CORES:
                    continue
                for value in ODD:
                    if self._fits_reply({key: value}):
                        self._is_said(rig, {key: value})
            self.answered(rig, self.opened(rig))

    def _fits_reply(self, reply: dict[str, Any]) -> bool:
        if not set(reply) <= set(self.reply_keys):
            return False
        try:
            msgspec.convert(reply, self.plugin.messages.REPLY)
        except msgspec.ValidationError:
            return False
        return True

    def _is_said(self, rig: Rig, reply: dict[str, Any]) -> None:
        before = self.errors(rig)
        client = self.opened(rig)
        client.send(self.question)
        heard = rig.hear()
        rig.send(heard.message["reply_channel"], reply)
        heard.settle(OK)
        client.cut()
        self.finish(rig)
        [(key, value)] = reply.items()
        said = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:40]}…"
        self.that(
            self.errors(rig) == before,
            f"the reply {{{key!r}: {said}}} fits REPLY, and makes the session raise: see the "
            "log; LocalProtocolError is for what the protocol cannot say",
        )
