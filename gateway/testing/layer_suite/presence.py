"""Presence: the joins and leaves of members that were added with ``announce``."""

from __future__ import annotations

import pytest

from gateway.core.errors import MessageTooLarge
from gateway.core.layers import codec
from gateway.core.layers.base import FAILED, OK, REJECTED, RELEASED, Layer, Message, Outcome
from gateway.core.layers.base import group_add as joining
from gateway.core.layers.base import group_discard as leaving
from gateway.core.layers.base import send as sending
from gateway.core.layers.edge import JOIN, Edge
from gateway.testing.layer_suite.harness import Harness, Server, own

JOINED = "presence.join"
LEFT = "presence.leave"
ANN = {"nick": "ann"}
NICK = codec.encode(ANN)


class Presence(Harness):
    """``group_add(announce=True)``."""

    def hears(self, layer: Layer, *expected: tuple[str, str, Message | None]) -> None:
        """Assert that these are told, each (``"+"`` or ``"-"``, member of ``g``, meta), and no
        more, however they are ordered between members.
        """  # noqa: D205 - one sentence
        found: list[tuple[str, str, Message | None]] = []
        for _ in expected:
            channel, message = layer.receive([JOINED, LEFT], block=self.patience)
            assert channel is not None, f"only {found} of {expected}"
            assert message is not None
            assert message.pop("group") == "g"
            found.append(("+" if channel == JOINED else "-", message["channel"], message["meta"]))
            assert sorted(message) == ["channel", "meta"]
        assert sorted(found, key=str) == sorted(expected, key=str)
        assert layer.receive([JOINED, LEFT]) == (None, None)

    def in_g(self, server: Server, rest: str = "a") -> str:
        """Make a connection of a server an announced member of ``g``; return its name."""
        name = f"x.{server.process}!{rest}"
        server.do(lambda edge: edge.group_add("g", name, NICK, announce=True))
        return name

    def test_presence_join_and_discard(self) -> None:
        """An announced membership of any kind has its join told, and its leave."""
        layer = self.join()
        for channel in ("x", "y!a", own(layer)):
            layer.group_add("g", channel, ANN, announce=True)
            self.hears(layer, ("+", channel, ANN))
            layer.group_discard("g", channel)
            self.hears(layer, ("-", channel, ANN))

    def test_presence_it_is_per_membership(self) -> None:
        """Of a membership that was not announced nothing is told; its neighbours' are."""
        layer = self.join()
        layer.group_add("g", "x")
        layer.group_add("g", "y", announce=True)
        layer.group_add("h", "y", ANN)
        layer.group_discard("h", "y")
        layer.group_discard("g", "x")
        layer.group_discard("g", "y")
        self.hears(layer, ("+", "y", None), ("-", "y", None))

    def test_presence_added_again(self) -> None:
        """To add a member again is no join; a later leave tells the latest meta."""
        layer = self.join()
        for channel in ("x", own(layer)):
            layer.group_add("g", channel, ANN, announce=True)
            layer.group_add("g", channel, {"nick": "ann2"}, announce=True)
            layer.group_add("g", channel, {"nick": "ann3"})
            self.hears(layer, ("+", channel, ANN))
            assert layer.group_members("g") == {channel: {"nick": "ann3"}}
            layer.group_discard("g", channel)
            self.hears(layer, ("-", channel, {"nick": "ann3"}))

    def test_presence_announced_later(self) -> None:
        """A member that was not announced joins, for those who are told, when it is announced."""
        layer = self.join()
        layer.group_add("g", "x", ANN)
        layer.group_add("g", "x", announce=True)
        layer.group_discard("g", "x")
        self.hears(layer, ("+", "x", None), ("-", "x", None))

    def test_presence_a_new_membership(self) -> None:
        """A membership that has ended leaves nothing behind: the next is announced or not."""
        layer = self.join()
        layer.group_add("g", "x", announce=True)
        layer.group_discard("g", "x")
        layer.group_add("g", "x")
        layer.group_discard("g", "x")
        self.hears(layer, ("+", "x", None), ("-", "x", None))

    def test_presence_end(self) -> None:
        """The end of a connection is a leave of all its announced groups."""
        server, worker = self.server(), self.join()
        name = self.in_g(server)
        server.do(lambda edge: edge.group_add("h", name))
        self.hears(worker, ("+", name, ANN))
        server.do(lambda edge: edge.end(name))
        self.hears(worker, ("-", name, ANN))

    def test_presence_death(self) -> None:
        """So is the end of a process, for all its members."""
        server, member, worker = self.server(), self.join(), self.join()
        names = [self.in_g(server, "a"), self.in_g(server, "b"), own(member)]
        member.group_add("g", own(member), announce=True)
        metas = [ANN, ANN, None]
        self.hears(worker, *[("+", n, m) for n, m in zip(names, metas, strict=True)])
        self.kill(server.layer)
        self.kill(member)
        self.hears(worker, *[("-", n, m) for n, m in zip(names, metas, strict=True)])

    def test_presence_lease(self) -> None:
        """So is the end of its lease."""
        worker, frozen = self.join(lease=10.0), self.join()
        frozen.group_add("g", own(frozen), ANN, announce=True)
        self.hears(worker, ("+", own(frozen), ANN))
        self.freeze(frozen)
        self.advance(9)
        self.hears(worker)
        self.advance(3)
        self.hears(worker, ("-", own(frozen), ANN))

    def test_presence_group_expiry(self) -> None:
        """So is ``group_expiry``, in its time, without anybody looking at the group."""
        layer = self.join(group_expiry=100.0)
        layer.group_add("g", "x", ANN, announce=True)
        layer.group_add("g", "silent")
        self.advance(60)
        layer.group_add("g", "y!a", announce=True)
        self.hears(layer, ("+", "x", ANN), ("+", "y!a", None))
        layer.group_add("g", "x", ANN)
        self.advance(60)
        self.hears(layer)
        self.advance(60)
        self.hears(layer, ("-", "x", ANN), ("-", "y!a", None))

    def test_presence_joins_anew_after_expiry(self) -> None:
        """Who is added again after its time was over has left, and joins anew."""
        layer = self.join(group_expiry=0.05)
        layer.group_add("g", "x", {"n": 1}, announce=True)
        self.advance(0.06)
        layer.group_add("g", "x", {"n": 2}, announce=True)
        self.hears(layer, ("+", "x", {"n": 1}), ("-", "x", {"n": 1}), ("+", "x", {"n": 2}))

    def test_presence_flush(self) -> None:
        """``flush`` tells nothing, and forgets what was announced."""
        layer = self.join()
        layer.group_add("g", "x", announce=True)
        layer.group_add("g", own(layer), announce=True)
        layer.flush()
        self.hears(layer)
        layer.group_add("g", "x")
        layer.group_discard("g", "x")
        self.hears(layer)
        layer.group_add("g", "y", announce=True)
        self.hears(layer, ("+", "y", None))

    def test_presence_nobody_is_there(self) -> None:
        """A name of a process that is gone becomes no member: nothing is told."""
        layer, other = self.join(), self.join()
        other.close()
        self.until(lambda: layer.send(own(other), {}) or self.drops(layer))
        layer.group_add("g", own(other), announce=True)
        self.hears(layer)

    def test_presence_of_a_consumer(self) -> None:
        """What a consumer buffered is told with its outcome."""
        layer = self.join()
        layer.send("in", {})
        sends = [joining("g", "x", ANN, announce=True), leaving("g", "x")]
        self.settled(layer, self.taken(layer, "in"), OK, sends=sends)
        self.hears(layer, ("+", "x", ANN), ("-", "x", ANN))

    def test_presence_no_room_is_needed(self) -> None:
        """Joins and leaves are exempt from capacity and expiry."""
        layer = self.join(capacity=1, expiry=60.0)
        layer.send(JOINED, {"group": "g", "channel": "0", "meta": None})
        for n in range(1, 5):
            layer.group_add("g", f"x{n}", announce=True)
        for n in range(1, 5):
            layer.group_discard("g", f"x{n}")
        self.received(layer, JOINED)
        self.advance(100)
        expected = [(what, f"x{n}", None) for n in range(1, 5) for what in "+-"]
        self.hears(layer, *expected)
        self.dropped(layer)

    def test_presence_nobody_routes_them(self) -> None:
        """What no living worker announced is dropped, counted; a leave does not wait for its
        join's reader.
        """  # noqa: D205 - one sentence
        layer = self.join()
        layer.announce(["x"])
        layer.group_add("g", "x", announce=True)
        layer.group_discard("g", "x")
        self.hears(layer)
        self.dropped(layer, unrouted=2)
        layer.announce([LEFT])
        layer.group_add("g", "x", announce=True)
        layer.group_discard("g", "x")
        self.hears(layer, ("-", "x", None))
        self.dropped(layer, unrouted=3)

    def test_presence_they_wait_for_a_worker(self) -> None:
        """While no worker lives they wait, and go to who announces their channel; one that the
        next workers do not announce is dropped, and what waited behind it goes on.
        """  # noqa: D205 - one sentence
        layer, worker = self.join(), self.join()
        layer.group_add("g", "x", announce=True)
        layer.group_discard("g", "x")
        self.advance(200)
        worker.announce([LEFT, "z"])
        self.hears(worker, ("-", "x", None))
        self.dropped(layer, unrouted=1)

    def test_presence_one_after_the_other(self) -> None:
        """A leave is not offered before its join has its outcome, whatever that is, nor the next
        join before the leave; other members do not wait for it.
        """  # noqa: D205 - one sentence
        layer, other = self.join(), self.join()
        for outcome in (OK, Outcome(REJECTED), Outcome(FAILED)):
            layer.group_add("g", "x", announce=True)
            layer.group_discard("g", "x")
            layer.group_add("g", "x", announce=True)
            join = self.taken(other, JOINED, LEFT)
            assert join.channel == JOINED
            assert layer.take([JOINED, LEFT]) is None
            layer.group_add("g", "y", announce=True)
            self.hears(layer, ("+", "y", None))
            self.settled(other, join, Outcome(RELEASED))
            join = self.taken(layer, JOINED, LEFT)
            assert join.channel == JOINED
            assert join.messages[0]["channel"] == "x"
            assert other.take([JOINED, LEFT]) is None
            self.settled(layer, join, outcome)
            leave = self.taken(layer, JOINED, LEFT)
            assert leave.channel == LEFT
            assert other.take([JOINED, LEFT]) is None
            self.settled(layer, leave, outcome)
            self.hears(other, ("+", "x", None))
            layer.group_discard("g", "x")
            layer.group_discard("g", "y")
            self.hears(other, ("-", "x", None), ("-", "y", None))

    def test_presence_a_teller_that_dies(self) -> None:
        """What a worker had in hand that died is offered again, still before what is newer."""
        layer, worker = self.join(), self.join()
        layer.group_add("g", "x", announce=True)
        self.taken(worker, JOINED)
        layer.group_discard("g", "x")
        self.kill(worker)
        self.hears(layer, ("+", "x", None), ("-", "x", None))

    def test_presence_sends_of_a_teller_precede_the_next(self) -> None:
        """What the consumer of a join sends is there before the leave is offered."""
        layer = self.join()
        layer.group_add("g", "x", announce=True)
        layer.group_discard("g", "x")
        self.settled(layer, self.taken(layer, JOINED), OK, sends=[sending("y", {"n": 1})])
        assert layer.channel_statistics("y").pending == 1
        self.hears(layer, ("-", "x", None))

    def test_presence_forwarded(self) -> None:
        """The process of a connection hears in the JOIN whether it is announced."""
        server, worker = self.server(), self.join()
        name = f"x.{server.process}!a"
        worker.group_add("g", name, ANN, announce=True)
        worker.group_add("g", name, ANN)
        assert server.heard(2) == [(JOIN, "g", name, ANN, True), (JOIN, "g", name, ANN, False)]

    def test_presence_again(self) -> None:
        """An edge that adds with ``again`` has no join told, but the leave."""
        server, worker = self.server(), self.join()
        name = f"x.{server.process}!a"

        def turn(edge: Edge) -> None:
            edge.group_add("g", name, NICK, announce=True, again=True)
            edge.end(name)

        server.do(turn)
        self.hears(worker, ("-", name, ANN))

    def test_presence_meta_is_small(self) -> None:
        """Meta over 64 KiB is refused, before anything is sent."""
        layer = self.join()
        for n, good in ((codec.MAX_META - 100, True), (codec.MAX_META, False)):
            meta = {"bytes": b"x" * n}
            if good:
                layer.group_add("g", "x", meta, announce=True)
                self.hears(layer, ("+", "x", meta))
            else:
                with pytest.raises(MessageTooLarge, match="meta of a member"):
                    layer.group_add("g", "y", meta)
                with pytest.raises(MessageTooLarge, match="meta of a member"):
                    joining("g", "y", meta)
        assert layer.group_channels("g") == ["x"]
