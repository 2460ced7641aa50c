"""What is said: messages, outcomes, replies, groups; however the bytes are cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_type_hints

import msgspec

from gateway.core.layers.base import (
    ACCEPTED,
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
)
from gateway.core.layers.base import MAX_TRIES as TRIES
from gateway.core.plugin import Message
from gateway.testing.plugin_suite.voice import LONG, Voice, shown
from gateway.testing.rig import Client, Rig

SIZES: Final = (1, 2, 3, 7)
"""Sizes of the pieces that a conversation is cut into: lone bytes, and odd ones."""
CUTS: Final = 100
"""Places at most where the bytes of each turn are cut in two: all of them, mostly."""
EXAMPLES: Final = 30
"""Random cuttings of the conversation: a second's worth."""
NO_HYPOTHESIS: Final = "hypothesis is not installed: pip install 'gateway[testing]'"
_BASIC: Final = ("reply_channel", "order", "client", "server")


class Talks(Voice):
    """The checks of what is said."""

    def test_conversation(self) -> None:
        """The conversation is heard, settled and answered as it is told."""
        with self.rig() as rig:
            client = self.connect(rig)
            for turn in self.turns:
                self.take_turn(rig, client, turn)

    def test_pieces(self) -> None:
        """Whatever pieces the bytes come in, messages and answers are the same."""
        self._need_stream()
        with self.rig() as rig:
            for size in SIZES:
                self._cut(rig, f"in pieces of {size}", [size] * len(self.turns))
            for number, turn in enumerate(self.turns):
                step = max(1, len(turn.sends) // CUTS)
                for place in range(1, len(turn.sends), step):
                    cuts: list[Any] = [()] * len(self.turns)
                    cuts[number] = (place,)
                    begin, rest = turn.sends[:place], turn.sends[place:]
                    self._cut(rig, f"with {shown(begin)} before {shown(rest)}", cuts)

    def test_any_cutting(self) -> None:
        """So it is for cuttings that hypothesis looks for."""
        self._need_stream()
        try:
            from hypothesis import HealthCheck, Phase, given, settings
            from hypothesis import strategies as st
        except ImportError:
            self.skip(NO_HYPOTHESIS)

        places = [
            st.lists(st.integers(1, max(1, len(turn.sends) - 1)), max_size=8) for turn in self.turns
        ]
        with self.rig() as rig:

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],  # the shortest is the business of the fixed cuttings
                suppress_health_check=list(HealthCheck),
            )
            @given(st.tuples(*places))
            def cut(cuts: tuple[list[int], ...]) -> None:
                self._cut(rig, f"cut at {cuts}", cuts)

            cut()

    def test_pipelined(self) -> None:
        """A client that goes on before it has heard the answers has the same messages heard."""
        self._need_stream()
        if not self.pipelined:
            self.skip("pipelined = False: a client waits for each answer")
        with self.rig() as rig:
            client = self.opened(rig)
            client.send(b"".join(turn.sends for turn in self.conversation))
            for turn in self.conversation:
                try:
                    self.worker_hears(rig, turn)
                except AssertionError as error:
                    raise AssertionError(
                        f"all turns in one piece: {error}; pipelined = False says that a client "
                        "must not do so"
                    ) from None

    def _need_stream(self) -> None:
        if not self.cuttable:
            self.skip("cuttable = False: a datagram is never cut")

    def _cut(self, rig: Rig, how: str, cuts: Any) -> None:
        client = self.connect(rig)
        try:
            for turn, places in zip(self.turns, cuts, strict=True):
                self.take_turn(rig, client, turn, places)
        except AssertionError as error:
            raise AssertionError(f"{how}: {error}") from None
        client.cut()
        self.finish(rig)

    # ------------------------------------------------ schemas

    def test_messages_fit_their_schemas(self) -> None:
        """Every message fits its kind's schema, and counts on by one in its conversation."""
        orders: dict[str, int] = {}
        with self.rig() as rig:
            client = self.connect(rig)
            for turn in self.turns:
                for heard in self.take_turn(rig, client, turn):
                    self._fits(heard.kind, heard.message, orders)
            client.leave()
            for message in self.finish(rig):
                self._fits("disconnect", message, orders)

    def _fits(self, kind: str, message: Mapping[str, Any], orders: dict[str, int]) -> None:
        name = f"{self.plugin.name}.{kind}"
        for key in _BASIC:
            self.that(key in message, f"{name} has no {key!r}, which the core adds")
        schema = self.plugin.messages.KINDS[kind]
        own = {key: value for key, value in message.items() if key not in {*_BASIC, "identity"}}
        unknown = sorted(set(own) - set(get_type_hints(schema)))
        self.that(not unknown, f"{name} has {', '.join(unknown)}, which its schema does not know")
        try:
            msgspec.convert(own, schema)
        except msgspec.ValidationError as error:
            raise AssertionError(f"{name} does not fit its schema: {error}") from None
        channel, order = message["reply_channel"], message["order"]
        due = orders.get(channel, -1) + 1
        self.that(order == due, f"{name} has order {order}; in its conversation {due} is due")
        orders[channel] = order

    def test_replies_fit_their_schema(self) -> None:
        """Every reply that the conversation shows is one that the plugin understands."""
        replies = [reply for turn in self.turns for reply in turn.replies]
        if not replies:
            self.skip("no turn has a reply")
        known = self.reply_keys
        for reply in replies:
            unknown = sorted(set(reply) - set(known))
            self.that(not unknown, f"{reply!r}: REPLY has no {', '.join(unknown)}")
            try:
                msgspec.convert(reply, self.plugin.messages.REPLY)
            except msgspec.ValidationError as error:
                raise AssertionError(f"{reply!r} does not fit REPLY: {error}") from None
        with self.rig() as rig:
            client = self.connect(rig)
            for turn in self.turns:
                self.take_turn(rig, client, turn)
            invalid = rig.metrics.dropped().get("invalid", 0)
            self.that(not invalid, f"the plugin dropped replies as invalid: {invalid}")

    # ------------------------------------------------ outcomes

    def test_accepted(self) -> None:
        """A question that was accepted is answered so."""
        self._outcome(ACCEPTED)

    def test_rejected(self) -> None:
        """A question that was rejected is answered so."""
        self._outcome(REJECTED)

    def test_failed(self) -> None:
        """A question whose consumer failed is answered so."""
        self._outcome(FAILED)

    def test_released(self) -> None:
        """A question that is released until the tries are spent is answered so."""
        self._outcome(RELEASED)

    def test_unrouted(self) -> None:
        """A question that its worker does not route is answered so."""
        self._outcome(UNROUTED)

    def _outcome(self, kind: str) -> None:
        with self.rig(layer={"expiry": 600.0}) as rig:
            client = self.opened(rig)
            client.send(self.question)
            # The layer offers what is released again, until its tries are spent.
            for _ in range(TRIES if kind == RELEASED else 1):
                self.settle(rig.hear(LONG), kind)
            self.that(kind in self.answers, f"answers has nothing for {kind!r}")
            asked = f"to {shown(self.question)}, {kind},"
            self.expect(rig, client, self.answers[kind], asked)
            self.ready(rig, client, kind)
            said = "" if kind in self.closes else f"; where it is to, closes has {kind!r}"
            rig.run()
            ended = client.ended == (kind in self.closes)
            self.that(ended, f"after {kind} the plugin closed{said}")

    def test_nobody_routes_it(self) -> None:
        """A question that no living worker routes is answered as unrouted, and reaches nobody."""
        with self.rig() as rig:
            client = self.opened(rig)
            rig.announce(["nothing"])
            client.send(self.question)
            self.expect(rig, client, self.answers[UNROUTED], "where nobody routes the question")
            heard = rig.hear_any()
            self.that(
                heard is None or heard.kind == "disconnect", "the worker hears it all the same"
            )

    # ------------------------------------------------ replies and groups

    def heard_of(self, rig: Rig, client: Client, replies: list[tuple[str, Message]]) -> bytes:
        """Send replies; return what the client hears, without what differs each time."""
        for channel, reply in replies:
            rig.send(channel, reply)
        rig.run(1.0)
        return self.normal(client.take())

    def test_group(self) -> None:
        """A group's message sounds to each member as a reply to that one does."""
        said = self.chatter(0)
        with self.rig() as rig:
            alone, *members = (self.opened(rig) for _ in range(3))
            channels = []
            for client in (alone, *members):
                client.send(self.question)
                channels.append(self.heard(rig).message["reply_channel"])
            self.that(
                len(set(channels)) == len(channels), "two clients have the same reply channel"
            )
            direct = self.heard_of(rig, alone, [(channels[0], dict(said))])
            self.that(direct, f"the client hears nothing of {said!r}")
            rig.group_add("members", *channels[1:])
            rig.group_send("members", dict(said))
            rig.run(1.0)
            for client in members:
                came = self.normal(client.take())
                self.that(
                    came == direct,
                    f"of a group's {said!r} a member hears {shown(came)}; of a reply "
                    f"{shown(direct)}: send() and frame() differ",
                )

    def test_ack(self) -> None:
        """An ``ack`` is answered once the reply was taken, ``failed`` once the client is gone."""
        if not {"ack", "ack_channel"} <= set(self.reply_keys):
            self.skip("REPLY has no ack and ack_channel: nobody can ask for one")
        with self.rig() as rig:
            client = self.opened(rig)
            client.send(self.question)
            heard = rig.hear()
            channel = heard.message["reply_channel"]
            acks = rig.worker.new_channel("acks?")
            reply = {**self.chatter(0), "ack": 5, "ack_channel": acks}
            rig.send(channel, reply)
            if self.confirms:
                client.send(self.confirms)
            self._acknowledged(rig, acks, "accepted", f"after {reply!r}")
            heard.settle(OK)
            client.leave()
            self.finish(rig)
            rig.send(channel, reply)
            self._acknowledged(rig, acks, "failed", "once the client is gone")

    def _acknowledged(self, rig: Rig, acks: str, outcome: str, when: str) -> None:
        found: Any = rig.wait(lambda: rig.worker.receive([acks], block=0)[1])
        self.that(found, f"{when} the ack is not answered")
        answer = (found["ack"], found["outcome"])
        self.that(answer == (5, outcome), f"{when} the ack 5 is to be {outcome!r}, and is {answer}")
