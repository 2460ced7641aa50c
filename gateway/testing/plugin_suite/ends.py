"""How connections end: one disconnect for an accepted connect, and nothing that is left."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

from gateway.core.client import ClientPlugin
from gateway.core.layers.base import ACCEPTED, OK, REJECTED, Outcome
from gateway.testing.plugin_suite.voice import LONG, Answer, Voice, matches, shown
from gateway.testing.rig import Client, Rig

MANY: Final = 24
"""Clients after which what is left of each shows."""
NEARLY: Final = 0.9
"""How much of the grace a farewell may take: after that the core cuts clients off."""
KEPT: Final = 2
"""Sessions that may still be known then: the last one or two."""


def leave(client: Client) -> None:
    """End it politely."""
    client.leave()


def cut(client: Client) -> None:
    """Vanish."""
    client.cut()


class Ends(Voice):
    """The checks of how connections end."""

    def test_client_leaves(self) -> None:
        """Wherever a client leaves, one disconnect follows an accepted connect."""
        self._ends("leaves", leave)

    def test_client_vanishes(self) -> None:
        """Wherever a client vanishes, one disconnect follows an accepted connect."""
        self._ends("vanishes", cut)

    def _ends(self, how: str, end: Callable[[Client], None]) -> None:
        with self.rig() as rig:
            for after in range(1, len(self.turns) + 1):
                client = self.connect(rig)
                for turn in self.turns[:after]:
                    self.take_turn(rig, client, turn)
                end(client)
                self._disconnected(rig, self.disconnects(after), f"{how} after {after} turns")

    def _disconnected(self, rig: Rig, due: int, how: str) -> None:
        found = len(self.finish(rig))
        # whoever announces one twice may do it late
        rig.run(LONG)
        found += len(self.finish(rig))
        self.that(
            found == due, f"a client that {how} is to have {due} disconnects, and has {found}"
        )

    def test_client_leaves_unanswered(self) -> None:
        """A client that leaves before its question is settled has its disconnect after that."""
        with self.rig() as rig:
            client = self.opened(rig)
            client.send(self.question)
            heard = rig.hear()
            client.cut()
            early = rig.hear_any()
            self.that(early is None, "a message overtakes the question, which is not settled yet")
            heard.settle(OK)
            due = self.disconnects(len(self.opening) + 1, asked=True)
            self._disconnected(rig, due, "leaves its question unanswered")

    def test_connect_is_refused(self) -> None:
        """A client that is not let in is ended, and no disconnect follows."""
        if "connect" not in self.plugin.messages.KINDS:
            self.skip("there is no connect: nobody decides on a connection")
        with self.rig() as rig:
            client = self.connect(rig)
            for turn in self.turns:
                if any(kind == "connect" for kind, _ in turn.expected()):
                    client.send(turn.sends)
                    break
                self.take_turn(rig, client, turn)
            else:
                raise AssertionError("no turn has the worker hear a connect")
            rig.hear().settle(Outcome(REJECTED))
            ended = rig.wait(lambda: client.ended, LONG)
            self.that(ended, "the client is not ended that was not let in")
            client.leave()
            self._disconnected(rig, 0, "is not let in")

    def test_closed_by_a_reply(self) -> None:
        """The application can end a connection, which has one disconnect then."""
        if "close" not in self.reply_keys:
            self.skip("REPLY has no close")
        if issubclass(self.plugin, ClientPlugin):
            self.skip("the plugin connects out: what a reply ends is a conversation, if anything")
        with self.rig() as rig:
            client = self.opened(rig)
            client.send(self.question)
            heard = self.heard(rig)
            rig.send(heard.message["reply_channel"], {"close": True})
            heard.settle(OK)
            ended = rig.wait(lambda: client.ended, LONG)
            self.that(ended, "the client is not ended that a reply closes")
            client.leave()
            self._disconnected(rig, self.disconnects(len(self.opening) + 1), "is closed by a reply")

    # ------------------------------------------------ shutting down

    def test_drain_in_the_middle(self) -> None:
        """A shutdown finishes what is in hand, says farewell, and disconnects once."""
        with self.rig() as rig:
            client = self.opened(rig)
            client.send(self.question)
            heard = rig.hear()
            over = rig.drain()
            self.settle(heard)
            if heard.kind == "connect":  # who is not accepted yet hears it at once
                self._shut(rig, client, over, b"", due=0)
            else:
                self._shut(rig, client, over, self.answers[ACCEPTED])

    def test_drain_while_idle(self) -> None:
        """A shutdown ends a client that asks nothing, with a farewell and one disconnect."""
        with self.rig() as rig:
            client = self.opened(rig)
            if not self.opening:  # who has said nothing may be nobody yet
                self.take_turn(rig, client, self.conversation[0])
            self._shut(rig, client, rig.drain(), b"")

    def _shut(
        self,
        rig: Rig,
        client: Client,
        over: Callable[[], bool],
        answer: Answer,
        *,
        due: int | None = None,
    ) -> None:
        ended = rig.wait(lambda: client.ended, rig.engine.settings.grace * NEARLY)
        self.that(ended, "a shutdown does not end the client: only the end of the grace does")
        came = self.normal(client.take())
        said = any(
            matches(answer, came[:place]) and matches(self.farewell, came[place:])
            for place in range(len(came) + 1)
        )
        self.that(
            said,
            f"at a shutdown the client was to hear {shown(answer)}, and then "
            f"{shown(self.farewell)}, and hears {shown(came)}",
        )
        client.leave()
        if due is None:
            due = self.disconnects(len(self.opening) + 1)
        found = len(self.finish(rig))
        self.that(found == due, f"a shutdown is to cost {due} disconnects, and costs {found}")
        self.that(rig.wait(over, LONG), "the shutdown does not come to its end")

    # ------------------------------------------------ what is left

    def test_nothing_is_left(self) -> None:
        """Of clients that ended in every way no task, timer, reply channel or session is left."""
        with self.rig() as rig:
            for number in range(MANY):
                client = self.opened(rig)
                if number % 4 == 0:
                    client.send(self.question[:-1])
                elif number % 4 == 1:
                    client.send(self.question)
                    self.settle(rig.hear())
                elif number % 4 == 2:
                    client.send(self.question)
                (cut if number % 8 < 4 else leave)(client)
                self.finish(rig)
                del client
            rig.wait(lambda: not rig.left_over(), LONG)
            found = rig.left_over()
            self.that(not found, f"of {MANY} clients that are gone is left: {found}")
            gc.collect()
            self.that(
                rig.sessions <= KEPT,
                f"of {MANY} clients that are gone {rig.sessions} sessions are still referred to",
            )
