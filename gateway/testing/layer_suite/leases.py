"""Processes that die, stand still or leave, and all that ends with them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from gateway.core.errors import LayerError
from gateway.core.layers import codec
from gateway.core.layers.base import OK, REJECTED, RELEASED, Outcome
from gateway.core.layers.base import send as sending
from gateway.core.layers.edge import ANNOUNCED, FENCED, OUTCOME, Edge
from gateway.testing.layer_suite.harness import Harness, Server, numbers, own, zero

BYE = codec.encode({"code": "server-lost"})
LEFT = codec.encode({"code": 1000})


class Losses(Harness):
    """A taker that dies."""

    def test_in_hand_fails(self) -> None:
        """What a process that dies has in hand fails, cause lost, and is offered to nobody."""
        sender, taker, other = self.join(), self.join(), self.join()
        sender.send_many("x", numbers(2), receipt=1)
        self.taken(taker, "x")
        self.kill(taker)
        assert self.outcomes(sender, 2) == [(1, n, "failed", "lost") for n in range(2)]
        assert other.take(["x"]) is None
        assert zero(sender.global_statistics())
        self.dropped(sender, failed=2)

    def test_only_what_is_unsettled(self) -> None:
        """A lost taker fails only what is unsettled."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(3), receipt=1)
        self.settled(taker, self.taken(taker, "x"), OK)
        self.kill(taker)
        assert self.outcomes(sender, 3) == [
            (1, 0, "accepted", ""),
            (1, 1, "failed", "lost"),
            (1, 2, "failed", "lost"),
        ]

    def test_what_waits_stays(self) -> None:
        """What its sender sent and nobody took is still there when the sender has died."""
        sender, taker = self.join(), self.join()
        sender.send("x", {"n": 1})
        self.kill(sender)
        assert self.received(taker, "x") == {"n": 1}

    def test_a_sender_that_died(self) -> None:
        """A settlement for a sender that has died is taken as any other."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", numbers(2), receipt=1)
        self.kill(sender)
        self.settled(taker, self.taken(taker, "x"), OK, OK, sends=[sending("y", {})])
        assert self.drained(taker, "y") == [{}]
        assert zero(taker.global_statistics())

    def test_handed_over_and_not_begun(self) -> None:
        """So fails what an intake was handed and had not begun, as nobody can know."""
        sender, taker = self.join(), self.join()
        for n in range(3):
            sender.send_many("x", [{}], receipt=n + 1)
        assert taker.intake(["x"]).take(self.patience) is not None
        self.until(lambda: sender.channel_statistics("x").in_hand == 3)
        self.kill(taker)
        found = self.outcomes(sender, 3)
        assert sorted(found) == [(n + 1, 0, "failed", "lost") for n in range(3)]

    def test_close(self) -> None:
        """A process that closes fails what it has in hand, too."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", [{}], receipt=1)
        self.taken(taker, "x")
        taker.close()
        assert self.outcomes(sender, 1) == [(1, 0, "failed", "lost")]

    def test_close_after_the_last_settlement(self) -> None:
        """Called after ``Intake.close`` and the last settlement ``close`` loses nothing."""
        sender, taker = self.join(), self.join()
        for n in range(3):
            sender.send_many("x", [{}], receipt=n + 1)
        intake = taker.intake(["x"])
        delivery = intake.take(self.patience)
        assert delivery is not None
        intake.close()
        taker.settle(delivery, [OK], [sending("y", {})])
        taker.close()
        assert self.outcomes(sender, 1) == [(1, 0, "accepted", "")]
        assert self.received(sender, "y") == {}
        assert len(self.drained(sender, "x")) == 2
        self.dropped(sender)


class Leases(Harness):
    """A taker that stands still."""

    def test_a_frozen_taker(self) -> None:
        """A process that gives no sign of life for a lease time has lost what it held."""
        sender, taker = self.join(lease=10.0), self.join()
        sender.send_many("x", numbers(2), receipt=1)
        self.settled(taker, self.taken(taker, "x"), OK)
        assert self.outcomes(sender, 1) == [(1, 0, "accepted", "")]
        self.freeze(taker)
        self.advance(9)
        self.silence(sender)
        self.advance(3)
        assert self.outcomes(sender, 1) == [(1, 1, "failed", "lost")]

    def test_living_processes_stay(self) -> None:
        """A process that lives keeps what it holds, however long."""
        sender, taker = self.join(lease=10.0), self.join()
        sender.send_many("x", [{}], receipt=1)
        delivery = self.taken(taker, "x")
        self.advance(100)
        self.settled(taker, delivery, OK)
        assert self.outcomes(sender, 1) == [(1, 0, "accepted", "")]

    def test_thawed_in_time(self) -> None:
        """A process that goes on within the lease time has lost nothing."""
        sender, taker = self.join(lease=10.0), self.join()
        sender.send_many("x", [{}], receipt=1)
        delivery = self.taken(taker, "x")
        self.freeze(taker)
        self.advance(8)
        self.thaw(taker)
        self.advance(8)
        self.settled(taker, delivery, OK)
        assert self.outcomes(sender, 1) == [(1, 0, "accepted", "")]

    def test_stale_writes(self) -> None:
        """What a process writes after its lease ended is refused: settlements, not raised but
        counted, and their sends.
        """  # noqa: D205 - one sentence
        sender, taker = self.join(lease=10.0), self.join()
        sender.send_many("x", [{}], receipt=1)
        delivery = self.taken(taker, "x")
        self.freeze(taker)
        self.advance(12)
        assert self.outcomes(sender, 1) == [(1, 0, "failed", "lost")]
        self.thaw(taker)
        taker.settle(delivery, [Outcome(REJECTED)], [sending("y", {})])
        self.until(lambda: self.drops(sender).get("stale", 0) >= 1)
        self.silence(sender)
        assert sender.receive(["y"]) == (None, None)

    def test_it_goes_on_under_a_new_name(self) -> None:
        """A process whose lease has ended is refused, until it goes on under a new name."""
        layer, other = self.join(lease=10.0), self.join()
        name = other.process
        self.freeze(other)
        self.advance(12)
        self.thaw(other)
        verbs: list[Callable[[], None]] = [
            lambda: other.send("x", {}),
            lambda: other.group_add("g", f"x.{name}!a"),
            lambda: other.announce(["x"]),
            lambda: other.send_group("g", {}),
        ]
        for verb in verbs:
            with contextlib.suppress(LayerError):
                verb()
                assert other.process != name
        assert layer.group_channels("g") == []

    def test_members_leave(self) -> None:
        """The memberships of a frozen process end with its lease."""
        layer, other = self.join(lease=10.0), self.join()
        other.group_add("g", own(other))
        self.freeze(other)
        self.advance(12)
        assert layer.group_channels("g") == []

    def test_fenced(self) -> None:
        """A protocol server that stood still hears FENCED, and nothing after it."""
        server, worker = self.server(lease=10.0), self.join()
        server.do(lambda edge: edge.register(f"x.{server.process}!a", "x.gone", BYE))
        server.silence(worker)
        self.freeze(server.layer)
        self.advance(12)
        assert self.received(worker, "x.gone") == {"code": "server-lost"}
        self.thaw(server.layer)
        assert server.heard() == [(FENCED,)]

    def test_announcements_end(self) -> None:
        """What a frozen worker announced ends with its lease."""
        layer, worker = self.join(lease=10.0), self.join()
        worker.announce(["x"])
        self.freeze(worker)
        self.advance(9)
        assert layer.announced() == frozenset({"x"})
        self.advance(3)
        assert layer.announced() is None


class Connections(Harness):
    """``register`` and ``end``: one disconnect for each accepted connection."""

    def name(self, server: Server, rest: object = "a") -> str:
        """Return a connection's reply channel."""
        return f"x.{server.process}!{rest}"

    def registered(self, server: Server, *rests: str) -> None:
        """Register connections, and wait until the layer knows them."""

        def turn(edge: Edge) -> None:
            for rest in rests:
                edge.register(self.name(server, rest), "gone", BYE)
            edge.send(self.name(server), codec.encode({}))

        server.do(turn)
        server.heard()

    def test_end(self) -> None:
        """``end`` offers its disconnect, once, and the registration is forgotten."""
        server, worker = self.server(), self.join()
        self.registered(server, "a")
        server.do(lambda edge: edge.end(self.name(server), "gone", LEFT))
        assert self.received(worker, "gone") == {"code": 1000}
        self.kill(server.layer)
        self.dropped(worker)
        assert worker.take(["gone"]) is None

    def test_end_without_a_disconnect(self) -> None:
        """``end`` without a disconnect offers none."""
        server, worker = self.server(), self.join()
        self.registered(server, "a")
        server.do(lambda edge: edge.end(self.name(server)))
        server.silence(worker)
        self.kill(server.layer)
        assert worker.take(["gone"], block=0.02) is None

    def test_end_unregistered(self) -> None:
        """A connection that was never registered can be ended, with a disconnect."""
        server, worker = self.server(), self.join()
        server.do(lambda edge: edge.end(self.name(server), "gone", LEFT))
        assert self.received(worker, "gone") == {"code": 1000}

    def test_killed(self) -> None:
        """If the process dies each registered connection's disconnect is offered, once."""
        server, worker = self.server(), self.join()
        self.registered(server, "a", "b", "c")
        server.do(lambda edge: edge.end(self.name(server, "b")))
        server.silence(worker)
        self.kill(server.layer)
        assert [self.received(worker, "gone") for _ in range(2)] == [{"code": "server-lost"}] * 2
        assert worker.take(["gone"], block=0.02) is None

    def test_left(self) -> None:
        """So if it leaves without having ended them."""
        server, worker = self.server(), self.join()
        self.registered(server, "a")
        server.do(lambda edge: edge.leave())
        assert self.received(worker, "gone") == {"code": "server-lost"}

    def test_registered_again(self) -> None:
        """A later registration of a connection replaces the former."""
        server, worker = self.server(), self.join()
        self.registered(server, "a")
        server.do(lambda edge: edge.register(self.name(server), "gone", LEFT))
        server.silence(worker)
        self.kill(server.layer)
        assert self.received(worker, "gone") == {"code": 1000}
        assert worker.take(["gone"], block=0.02) is None

    def test_exempt_from_capacity(self) -> None:
        """A disconnect finds room in a full channel."""
        server, worker = self.server(capacity=1), self.join()
        worker.send("gone", {"n": 0})
        for n in range(3):
            server.do(lambda edge, n=n: edge.end(self.name(server, n), "gone", LEFT))  # type: ignore[misc] # bound now
        server.silence(worker)
        assert self.drained(worker, "gone") == [{"n": 0}, *[{"code": 1000}] * 3]

    def test_exempt_from_expiry(self) -> None:
        """A disconnect does not expire."""
        server, worker = self.server(expiry=60.0), self.join()
        server.do(lambda edge: edge.end(self.name(server), "gone", LEFT))
        server.silence(worker)
        self.advance(1000)
        assert self.received(worker, "gone") == {"code": 1000}
        self.dropped(worker)

    def test_offered_again_until_settled(self) -> None:
        """A disconnect is offered again when its taker is lost or releases it, however often,
        until it is settled.
        """  # noqa: D205 - one sentence
        server, worker = self.server(), self.join()
        server.do(lambda edge: edge.end(self.name(server), "gone", LEFT))
        victim = self.join()
        self.taken(victim, "gone")
        self.kill(victim)
        for _ in range(12):
            self.settled(worker, self.taken(worker, "gone"), Outcome(RELEASED))
        delivery = self.taken(worker, "gone")
        assert delivery.messages == [{"code": 1000}]
        self.settled(worker, delivery, OK)
        assert worker.take(["gone"]) is None
        self.dropped(worker)

    def test_unannounced(self) -> None:
        """A disconnect for a channel that no living worker announced is dropped, counted."""
        server, worker = self.server(), self.join()
        worker.announce(["other"])
        server.do(lambda edge: edge.end(self.name(server), "gone", LEFT))
        self.dropped(worker, unrouted=1)
        assert worker.take(["gone"]) is None

    def test_announced(self) -> None:
        """A disconnect for a channel that a living worker announced is offered."""
        server, worker, other = self.server(), self.join(), self.join()
        worker.announce(["gone", "x"])
        other.announce(["y"])
        server.do(lambda edge: edge.end(self.name(server), "gone", LEFT))
        assert self.received(worker, "gone") == {"code": 1000}

    def test_an_unannounced_loss(self) -> None:
        """So is dropped the disconnect of a lost process."""
        server, worker = self.server(), self.join()
        self.registered(server, "a", "b")
        worker.announce(["other"])
        self.kill(server.layer)
        self.dropped(worker, unrouted=2)

    def test_after_what_was_posted(self) -> None:
        """A disconnect comes after what was posted before on its channel."""
        server, worker = self.server(), self.join()

        def turn(edge: Edge) -> None:
            edge.post("gone", [codec.encode({"n": 0})])
            edge.end(self.name(server), "gone", LEFT)

        server.do(turn)
        found = [self.received(worker, "gone") for _ in range(2)]
        assert found == [{"n": 0}, {"code": 1000}]


class Announcements(Harness):
    """``announce`` and ``announced``."""

    def test_nobody(self) -> None:
        """While nobody announced anything ``announced`` is None."""
        assert self.join().announced() is None

    def test_union(self) -> None:
        """``announced`` is the union of what living processes announced, replaced when they
        announce again.
        """  # noqa: D205 - one sentence
        layer, first, second = self.join(), self.join(), self.join()
        first.announce(["a", "b"])
        second.announce(["b", "c", "d!"])
        assert layer.announced() == frozenset({"a", "b", "c", "d!"})
        first.announce([])
        assert layer.announced() == frozenset({"b", "c", "d!"})
        second.close()
        self.until(lambda: layer.announced() == frozenset())
        self.kill(first)
        self.until(lambda: layer.announced() is None)

    def test_the_edge_knows(self) -> None:
        """An edge's ``announced`` is kept current, and ANNOUNCED says each change."""
        server = self.server()
        worker = self.join()
        worker.announce(["x"])
        server.wait(lambda: server.edge.announced == frozenset({"x"}), "told")
        worker.announce(["x", "y"])
        server.wait(lambda: server.edge.announced == frozenset({"x", "y"}), "told of the change")
        worker.close()
        server.wait(lambda: server.edge.announced is None, "told of the end")
        told = [(ANNOUNCED, {"x"}), (ANNOUNCED, {"x", "y"}), (ANNOUNCED, None)]
        server.wait(lambda: server.news(ANNOUNCED)[-3:] == told, "heard")

    def test_a_late_edge_knows(self) -> None:
        """An edge that opens later knows what was announced before."""
        worker = self.join()
        worker.announce(["x"])
        server = self.server()
        server.wait(lambda: server.edge.announced == frozenset({"x"}), "told")

    @pytest.mark.parametrize("name", ["", "a b", "x!c"])
    def test_bad_names(self, name: str) -> None:
        """``announce`` of what cannot be received from is a ValueError."""
        with pytest.raises(ValueError, match=r"."):
            self.join().announce([name])


class Watches(Harness):
    """``watch`` and ``unwatch``."""

    def test_closed(self) -> None:
        """``{"closed": True}`` is sent to the channel when the process ends."""
        reader, client, third = self.join(), self.join(), self.join()
        third.send(own(client), {})
        channels = [reader.new_channel("body?") for _ in range(2)]
        for channel in channels:
            reader.watch(channel, client.process)
            reader.watch(channel, third.process)
        reader.send(channels[0], {"n": 1})
        self.kill(client)
        assert [self.received(reader, channels[0]) for _ in range(2)] == [
            {"n": 1},
            {"closed": True},
        ]
        third.close()
        assert self.received(reader, channels[1]) == {"closed": True}

    def test_at_once(self) -> None:
        """At once, if its lease has ended already."""
        reader, client = self.join(), self.join()
        client.send("x", {})
        client.close()
        channel = reader.new_channel("body?")
        reader.watch(channel, client.process)
        assert self.received(reader, channel) == {"closed": True}

    def test_whatever_the_capacity(self) -> None:
        """The word finds room in a full channel."""
        reader, client = self.join(capacity=1), self.join()
        client.announced()
        channel = reader.new_channel("body?")
        reader.watch(channel, client.process)
        reader.send(channel, {})
        self.kill(client)
        assert [self.received(reader, channel) for _ in range(2)] == [{}, {"closed": True}]

    def test_unwatch(self) -> None:
        """After ``unwatch`` nothing is sent; what still waits there is dropped, counted."""
        reader, client = self.join(), self.join()
        client.announced()
        channel = reader.new_channel("body?")
        reader.watch(channel, client.process)
        client.send_many(channel, numbers(2), receipt=1)
        reader.unwatch(channel, client.process)
        assert reader.take([channel]) is None
        self.dropped(reader, gone=2)
        assert self.outcomes(client, 2) == [(1, n, "failed", "lost") for n in range(2)]
        self.kill(client)
        self.until(lambda: reader.global_statistics().pending == 0)
        assert reader.take([channel], block=0.02) is None

    def test_the_taker_of_a_server(self) -> None:
        """A consumer that reads from a protocol server watches its process."""
        server, worker = self.server(), self.join()
        channel = worker.new_channel("body?")
        server.post("x", {}, receipt=1)
        delivery = self.taken(worker, "x")
        worker.watch(channel, server.process)
        server.post(channel, {"n": 1}, receipt=2)
        assert self.received(worker, channel) == {"n": 1}
        assert server.heard() == [(OUTCOME, 2, 0, OK)]
        self.kill(server.layer)
        assert self.received(worker, channel) == {"closed": True}
        self.settled(worker, delivery, OK)
