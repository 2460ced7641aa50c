"""Too much of everything: full channels, a layer that is away, slow and fast clients."""

from __future__ import annotations

from typing import Any, Final

from gateway.core.layers.base import ACCEPTED, OK
from gateway.testing.plugin_suite.voice import LONG, Voice, shown

ROOM: Final = 1024
"""Bytes that a client which does not read takes, at least: what a full network would."""
OUTBOX: Final = 8
"""Messages that may wait for it."""
MORE: Final = 60
"""Replies beyond that: far more than may wait."""
FLOOD: Final = 120
"""Questions of a client that does not wait."""
INBOX: Final = 4
"""Messages of it that may wait."""
TIMES: Final = 3
"""How far over that one piece of input may go."""


class Pressure(Voice):
    """The checks of bounds."""

    def test_full_layer(self) -> None:
        """Where the channel stays full the client is told; then things go on."""
        with self.rig(layer={"capacity": 1, "capacities": {}}) as rig:
            client = self.opened(rig)
            client.send(self.question)
            heard = rig.hear()
            filler = dict(heard.message)
            self.settle(heard)
            self.expect(rig, client, self.answers[ACCEPTED], "before the channel is full")
            client = self.ready(rig, client, ACCEPTED)
            rig.send(heard.channel, filler)
            client.send(self.question)
            self.expect(rig, client, self.full, "where the channel is full", LONG)
            counted = rig.wait(lambda: rig.metrics.dropped().get("full"), LONG)
            self.that(counted, "nothing is counted as dropped, full")
            while (rest := rig.hear_any()) is not None:
                rest.settle(OK)
            client = self.ready(rig, client, "full")
            self.answered(rig, client)

    def test_layer_lost_and_back(self) -> None:
        """Where the layer goes away clients are told, and when it is back things go on."""
        away = self.full if self.unavailable is None else self.unavailable
        with self.rig() as rig:
            asker, idle = self.opened(rig), self.opened(rig)
            asker.send(self.question)
            heard = rig.hear()
            rig.fail()
            lost = away if self.lost is None else self.lost
            self.expect(rig, asker, lost, "whose question is unsettled as the layer goes away")
            asker.leave()
            idle.send(self.question)
            self.expect(rig, idle, away, "while the layer is away", LONG)
            rig.restore()
            heard.settle(OK)
            self.settled(rig)
            clients = [idle, client := self.ready(rig, idle, "unavailable")]
            self.answered(rig, client)
            clients.append(client := self.opened(rig))
            self.answered(rig, client)
            for client in clients:
                client.leave()
            # Where the question is the connect, the last two were let in, and no others.
            ended = 2 if heard.kind == "connect" else 1 + len(set(map(id, clients)))
            due = ended * self.disconnects(len(self.opening) + 1)
            self.finish(rig)
            found = rig.heard["disconnect"]
            self.that(
                found == due,
                f"after the layer was away {due} disconnects are due, and {found} come",
            )
            self.that(not self.errors(rig), "a session raised an exception: see the log")

    def test_slow_client(self) -> None:
        """What waits for a client that does not read is bounded, and costs no other anything."""
        self.chatter(0)
        with self.rig(outbox_messages=OUTBOX) as rig:
            client, other = self.opened(rig), self.opened(rig)
            client.send(self.question)
            heard = rig.hear()
            channel = heard.message["reply_channel"]
            rig.send(channel, self.chatter(0))
            size = len(client.take())
            self.that(size, f"the client hears nothing of {self.chatter(0)!r}")
            room = max(ROOM, 4 * size)
            client.hold(room)
            for number in range(1, room // size + OUTBOX + MORE):
                if client.ended:
                    break
                rig.send(channel, self.chatter(number))
                self.that(
                    client.held <= room + (OUTBOX + 2) * size,
                    f"a client that does not read is written {client.held} bytes: writing goes "
                    "on although its transport said pause_writing()",
                )
            told = client.ended or rig.metrics.dropped().get("slow")
            self.that(told, "the client that does not read is neither ended nor loses anything")
            heard.settle(OK)
            client.cut()
            self.answered(rig, other)

    def test_fast_client(self) -> None:
        """A client that asks faster than workers answer is read no further, and loses nothing."""
        if not self.cuttable:
            self.skip("datagrams: who is too fast loses some")
        if ACCEPTED in self.closes:
            self.skip("a connection is for one question")
        if not self.pipelined:
            self.skip("pipelined = False: a client waits for each answer")
        with self.rig(inbox_messages=INBOX) as rig:
            client = self.opened(rig)
            for _ in range(FLOOD):
                client.send(self.question)
            first = rig.hear()
            waiting: list[Any] = rig.call(lambda: list(rig.context.connections()))
            bounded = not any(connection.is_over(TIMES) for connection in waiting)
            self.that(bounded, "reading goes on although the inbox is full: heed pause()")
            self.settle(first)
            for number in range(2, FLOOD + 1):
                heard = rig.hear_any(LONG)
                if heard is None:
                    raise AssertionError(f"of {FLOOD} questions the worker hears {number - 1}")
                self.settle(heard)
            answer = self.answers[ACCEPTED]
            if isinstance(answer, bytes):
                self.expect(rig, client, answer * FLOOD, f"to {FLOOD} questions")
            slow = rig.metrics.dropped().get("slow", 0)
            self.that(not slow, f"{slow} messages are dropped: reading goes on after pause()")

    def test_too_much_input(self) -> None:
        """Input beyond the bounds is answered, and costs no other client anything."""
        with self.rig() as rig:
            client, other = self.opened(rig), self.opened(rig)
            client.send(self.too_much)
            said = f"to too_much, {shown(self.too_much)},"
            self.expect(rig, client, self.too_much_answer, said)
            self.that(not self.errors(rig), f"{said} a session raised an exception: see the log")
            self.answered(rig, other)
