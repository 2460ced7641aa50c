"""The face of a protocol server: posts that never wait, and everything that comes in."""

from __future__ import annotations

from functools import partial

import pytest

from gateway.core.errors import LayerError
from gateway.core.layers import codec
from gateway.core.layers.base import FAILED, OK, RELEASED, Outcome
from gateway.core.layers.base import group_add as joining
from gateway.core.layers.base import group_send as group_sending
from gateway.core.layers.base import send as sending
from gateway.core.layers.edge import FULL, GROUP, JOIN, MESSAGE, OUTCOME, PART, Edge
from gateway.testing.layer_suite.harness import Harness, Server, numbers, zero

GO = codec.encode({"go": True})


def _watch(channel: str, process: str, edge: Edge) -> None:
    edge.watch(channel, process)


class Edges(Harness):
    """``Layer.edge``: ``post``, ``send``, ``cancel``, ``listen``, ``leave``."""

    def test_post(self) -> None:
        """A post is taken as one delivery; its outcomes come one for each message."""
        server, worker = self.server(), self.join()
        server.post("x", *numbers(3), receipt=1)
        delivery = self.taken(worker, "x")
        assert delivery.messages == numbers(3)
        worker.settle(delivery, [OK, OK, OK])
        assert server.heard(3) == [(OUTCOME, 1, n, OK) for n in range(3)]

    def test_process(self) -> None:
        """The edge speaks for the process of its layer, and is available."""
        server = self.server()
        assert server.edge.process == server.process
        assert server.edge.available is True

    def test_once(self) -> None:
        """A layer has one edge."""
        server = self.server()
        with pytest.raises(LayerError):
            server.do(lambda _edge: server.layer.edge(lambda _: None))

    def test_outcome_in_full(self) -> None:
        """An outcome comes as the worker gave it."""
        server, worker = self.server(), self.join()
        server.post("x", {}, receipt=1)
        no = Outcome("rejected", code=403, reason="no", cause="")
        worker.settle(self.taken(worker, "x"), [no])
        assert server.heard() == [(OUTCOME, 1, 0, no)]

    def test_posts_of_a_turn_keep_their_order(self) -> None:
        """What is posted in one turn of the loop leaves in order."""
        server, worker = self.server(), self.join()
        payloads = [codec.encode(message) for message in numbers(20)]

        def turn(edge: Edge) -> None:
            for payload in payloads:
                edge.post("x", [payload])

        server.do(turn)
        found = [self.received(worker, "x") for _ in range(20)]
        assert found == numbers(20)

    def test_never_from_within_a_verb(self) -> None:
        """Nothing is delivered from within a verb: what comes of it comes in a later turn."""
        server = self.server()

        def turn(edge: Edge) -> int:
            edge.send(f"x.{server.process}!a", GO)
            return len(server.news(MESSAGE))

        assert server.do(turn) == 0
        assert server.heard() == [(MESSAGE, f"x.{server.process}!a", {"go": True})]

    def test_full(self) -> None:
        """A post that is refused whole is answered by FULL, and by no outcome."""
        server, worker = self.server(capacity=3), self.join()
        server.post("x", *numbers(2), receipt=1)
        server.post("x", *numbers(2, 2), receipt=2)
        assert server.heard() == [(FULL, 2, "x")]
        self.settled(worker, self.taken(worker, "x"), OK, OK)
        assert server.heard(2) == [(OUTCOME, 1, n, OK) for n in range(2)]
        server.silence(worker)
        assert worker.global_statistics().full == 2

    def test_handled_in_parts(self) -> None:
        """Each message of a post has one outcome, in order, whatever parts it is settled in."""
        server, worker = self.server(), self.join()
        server.post("x", *numbers(6), receipt=1)
        delivery = self.taken(worker, "x")
        self.settled(worker, delivery, OK)
        self.settled(worker, delivery, OK, OK, OK, sends=[sending(f"y.{server.process}!a", {})])
        self.settled(worker, delivery, OK)
        assert worker.channel_statistics("x").in_hand == 1
        self.settled(worker, delivery, Outcome(FAILED, cause="Error"))
        heard = server.heard(7)
        assert [item for item in heard if item[0] == OUTCOME] == [
            *[(OUTCOME, 1, n, OK) for n in range(5)],
            (OUTCOME, 1, 5, Outcome(FAILED, cause="Error")),
        ]
        assert heard[1] == (MESSAGE, f"y.{server.process}!a", {})
        server.silence(worker)

    def test_full_without_a_receipt(self) -> None:
        """Without a receipt a refusal is dropped, counted."""
        server, worker = self.server(capacity=1), self.join()
        server.post("x", {})
        server.post("x", {})
        server.do(lambda edge: edge.send("x", GO))
        self.dropped(worker, full=2)
        server.silence(worker)

    def test_expiry_of_a_post(self) -> None:
        """A post that nobody took in its time comes back ``released``, cause ``expired``."""
        server, worker = self.server(expiry=60.0), self.join()
        server.post("x", {}, receipt=1)
        server.post("x", {}, receipt=2, expiry=5.0)
        self.until(lambda: worker.channel_statistics("x").pending == 2)
        self.advance(6)
        assert server.heard() == [(OUTCOME, 2, 0, Outcome(RELEASED, cause="expired"))]
        self.advance(55)
        assert server.heard() == [(OUTCOME, 1, 0, Outcome(RELEASED, cause="expired"))]

    def test_cancel(self) -> None:
        """``cancel`` withdraws a post; one outcome for each message follows."""
        server, worker = self.server(), self.join()
        server.post("x", *numbers(2), receipt=1)
        server.do(lambda edge: edge.cancel(1))
        cancelled = Outcome(RELEASED, cause="cancelled")
        assert server.heard(2) == [(OUTCOME, 1, n, cancelled) for n in range(2)]
        assert worker.take(["x"]) is None
        self.dropped(worker, cancelled=2)
        server.silence(worker)

    def test_cancel_too_late(self) -> None:
        """What is in hand is not withdrawn: its true outcome follows."""
        server, worker = self.server(), self.join()
        server.post("x", {}, receipt=1)
        delivery = self.taken(worker, "x")
        server.do(lambda edge: edge.cancel(1))
        server.silence(worker)
        worker.settle(delivery, [OK])
        assert server.heard() == [(OUTCOME, 1, 0, OK)]
        server.do(lambda edge: edge.cancel(1))
        server.do(lambda edge: edge.cancel(77))
        server.silence(worker)

    def test_messages(self) -> None:
        """Messages for names of the process come with the full name, in order."""
        server, worker = self.server(), self.join()
        names = [f"x.{server.process}!{n % 3}" for n in range(10)]
        for n, name in enumerate(names):
            worker.send(name, {"n": n})
        assert server.heard(10) == [(MESSAGE, name, {"n": n}) for n, name in enumerate(names)]

    def test_messages_from_before(self) -> None:
        """What waited in the inbox before the edge was opened comes first."""
        layer, worker = self.join(), self.join()
        layer.announced()
        worker.send(f"x.{layer.process}!a", {"n": 1})
        server = self.server(layer)
        worker.send(f"x.{layer.process}!a", {"n": 2})
        assert [item[2] for item in server.heard(2)] == numbers(2, 1)

    def test_replies_precede_the_outcome(self) -> None:
        """A consumer's replies come before the outcome of its message."""
        server, worker = self.server(), self.join()
        name = f"x.{server.process}!a"
        server.post("x", {}, receipt=1)
        replies = [sending(name, message) for message in numbers(2)]
        worker.settle(self.taken(worker, "x"), [OK], replies)
        assert server.heard(3) == [
            (MESSAGE, name, {"n": 0}),
            (MESSAGE, name, {"n": 1}),
            (OUTCOME, 1, 0, OK),
        ]

    def test_send_many_of_its_layer(self) -> None:
        """With an edge open the outcome of ``Layer.send_many`` comes as an item too."""
        layer, worker = self.join(), self.join()
        server = self.server(layer)
        layer.send_many("x", [{}], receipt=8)
        worker.settle(self.taken(worker, "x"), [OK])
        assert server.heard() == [(OUTCOME, 8, 0, OK)]

    def test_listen(self) -> None:
        """``listen`` reads a normal channel: its messages come settled as accepted."""
        server, sender = self.server(), self.join()
        sender.send("x", {"n": 0})
        server.do(lambda edge: edge.listen("x"))
        sender.send_many("x", numbers(2, 1), receipt=4)
        assert server.heard(3) == [(MESSAGE, "x", {"n": n}) for n in range(3)]
        assert self.outcomes(sender, 2) == [(4, n, "accepted", "") for n in range(2)]
        self.until(lambda: zero(sender.global_statistics()))

    def test_listen_to_addresses(self) -> None:
        """``listen`` reads addresses by their prefix."""
        server, sender = self.server(), self.join()
        server.do(lambda edge: edge.listen("x!"))
        for n in range(20):
            sender.send(f"x!{n % 2}", {"n": n})
        found = server.heard(20)
        for which in (0, 1):
            mine = [item[2]["n"] for item in found if item[1] == f"x!{which}"]
            assert mine == list(range(which, 20, 2))

    def test_unlisten(self) -> None:
        """After ``unlisten`` messages wait for another reader; it may listen again."""
        server, other, sender = self.server(), self.server(), self.join()
        server.do(lambda edge: edge.listen("x!"))
        sender.send("x!a", {"n": 0})
        assert server.heard() == [(MESSAGE, "x!a", {"n": 0})]
        server.do(lambda edge: edge.unlisten("x!"))
        server.do(lambda edge: edge.unlisten("y"))
        server.silence(sender)
        sender.send("x!a", {"n": 1})
        server.silence(sender)
        assert sender.channel_statistics("x!").pending == 1
        other.do(lambda edge: edge.listen("x!"))
        assert other.heard() == [(MESSAGE, "x!a", {"n": 1})]
        other.do(lambda edge: edge.unlisten("x!"))
        other.silence(sender)
        server.do(lambda edge: edge.listen("x!"))
        sender.send("x!a", {"n": 2})
        assert server.heard() == [(MESSAGE, "x!a", {"n": 2})]

    def test_two_listeners(self) -> None:
        """One of several listeners gets each message."""
        first, second, sender = self.server(), self.server(), self.join()
        for server in (first, second):
            server.do(lambda edge: edge.listen("x"))
        for message in numbers(20):
            sender.send("x", message)
        self.until(lambda: len(first.news(MESSAGE)) + len(second.news(MESSAGE)) == 20)
        found = first.news(MESSAGE) + second.news(MESSAGE)
        assert sorted(codec.decode(item[2])["n"] for item in found) == list(range(20))

    def test_watch(self) -> None:
        """``watch`` says in the inbox when a process ends, behind what it sent; or at once."""
        server, other = self.server(), self.join()
        name = f"gone.{server.process}!it"
        other.announced()
        process = other.process
        server.do(lambda edge: edge.watch(name, process))
        server.silence(self.join())
        other.send(name, {"n": 0})
        other.close()
        assert server.heard(2) == [(MESSAGE, name, {"n": 0}), (MESSAGE, name, {"closed": True})]
        for gone in (process, "p_nobody"):
            server.do(partial(_watch, name, gone))
            assert server.heard() == [(MESSAGE, name, {"closed": True})]

    def test_leave(self) -> None:
        """``leave`` ends the lease after all that was posted."""
        server, worker = self.server(), self.join()

        def turn(edge: Edge) -> None:
            edge.post("x", [GO], 1)
            edge.group_add("g", f"x.{server.process}!a")
            edge.leave()

        server.do(turn)
        delivery = self.taken(worker, "x")
        assert delivery.messages == [{"go": True}]
        self.until(lambda: worker.group_channels("g") == [])
        self.settled(worker, delivery, OK)

    def test_a_turn_with_everything(self) -> None:
        """Posts, joins, group sends and ends of one turn happen in their order."""
        server, worker = self.server(), self.join()
        name = f"x.{server.process}!a"

        def turn(edge: Edge) -> None:
            edge.group_add("g", name)
            edge.group_add("g", "y")
            edge.group_send("g", GO)
            edge.group_discard("g", "y")
            edge.group_send("g", GO, exclude=[name])
            edge.end(name)
            edge.group_send("g", GO)
            edge.send("y", codec.encode({"last": True}))

        server.do(turn)
        assert [self.received(worker, "y") for _ in range(2)] == [{"go": True}, {"last": True}]
        found = server.heard(2)
        assert found == [(GROUP, "g", {"go": True}, []), (GROUP, "g", {"go": True}, [name])]
        server.silence(worker)


class EdgeGroups(Harness):
    """Groups with members that an edge holds."""

    def name(self, server: Server, rest: object = "a") -> str:
        """Return a connection's name."""
        return f"x.{server.process}!{rest}"

    def test_one_item_per_process(self) -> None:
        """A group send costs one item per process, however many members it holds."""
        servers = [self.server(), self.server()]
        sender = self.join()
        for server in servers:
            for n in range(50):
                server.do(lambda edge, n=n, s=server: edge.group_add("g", self.name(s, n)))  # type: ignore[misc] # bound now
        self.until(lambda: sender.group_count("g") == 100)
        sender.send_group("g", {"n": 1}, exclude=["other"])
        for server in servers:
            assert server.heard() == [(GROUP, "g", {"n": 1}, ["other"])]
            server.silence(sender)

    def test_processes_without_members(self) -> None:
        """A process without members hears nothing."""
        server, other, sender = self.server(), self.server(), self.join()
        server.do(lambda edge: edge.group_add("g", self.name(server)))
        self.until(lambda: sender.group_count("g") == 1)
        sender.send_group("g", {})
        assert server.heard() == [(GROUP, "g", {}, [])]
        other.silence(sender)

    def test_own_joins_are_not_told(self) -> None:
        """For what the edge adds and discards itself no JOIN or PART follows."""
        server, sender = self.server(), self.join()
        server.do(lambda edge: edge.group_add("g", self.name(server), codec.encode({"n": 1})))
        self.until(lambda: sender.group_members("g") == {self.name(server): {"n": 1}})
        server.do(lambda edge: edge.group_discard("g", self.name(server)))
        self.until(lambda: sender.group_count("g") == 0)
        server.silence(sender)

    def test_joins_from_elsewhere(self) -> None:
        """An add from elsewhere makes a member at once and is forwarded as JOIN, in order with
        sends; a discard as PART.
        """  # noqa: D205 - one sentence
        server, worker = self.server(), self.join()
        name = self.name(server)
        worker.send(name, {"n": 1})
        worker.group_add("g", name, {"nick": "ann"})
        assert worker.group_members("g") == {name: {"nick": "ann"}}
        worker.send_group("g", {"n": 2})
        worker.group_discard("g", name)
        worker.send_group("g", {"n": 3})
        worker.send(name, {"n": 4})
        assert server.heard(5) == [
            (MESSAGE, name, {"n": 1}),
            (JOIN, "g", name, {"nick": "ann"}, False),
            (GROUP, "g", {"n": 2}, []),
            (PART, "g", name),
            (MESSAGE, name, {"n": 4}),
        ]

    def test_joins_of_a_consumer(self) -> None:
        """So is one that a consumer buffered."""
        server, worker = self.server(), self.join()
        name = self.name(server)
        server.post("x", {}, receipt=1)
        sends = [joining("g", name), group_sending("g", {"n": 1}), sending(name, {"n": 2})]
        worker.settle(self.taken(worker, "x"), [OK], sends)
        assert server.heard(4) == [
            (JOIN, "g", name, None, False),
            (GROUP, "g", {"n": 1}, []),
            (MESSAGE, name, {"n": 2}),
            (OUTCOME, 1, 0, OK),
        ]

    def test_discard_of_no_member(self) -> None:
        """A discard of who is no member is not told."""
        server, worker = self.server(), self.join()
        worker.group_discard("g", self.name(server))
        server.silence(worker)

    def test_end_removes_memberships(self) -> None:
        """``end`` removes all memberships of the connection, and of no other."""
        server, worker = self.server(), self.join()
        for group in ("g", "h"):
            for rest in ("a", "b"):
                server.do(
                    lambda edge, g=group, r=rest: edge.group_add(g, self.name(server, r))  # type: ignore[misc] # bound now
                )
        server.do(lambda edge: edge.end(self.name(server, "a")))
        expected = [self.name(server, "b")]
        self.until(lambda: worker.group_channels("g") == worker.group_channels("h") == expected)
        server.silence(worker)

    def test_exclude_is_told(self) -> None:
        """The edge learns whom to leave out."""
        server, sender = self.server(), self.join()
        names = [self.name(server, rest) for rest in "ab"]
        for name in names:
            server.do(lambda edge, name=name: edge.group_add("g", name))  # type: ignore[misc] # bound now
        self.until(lambda: sender.group_count("g") == 2)
        sender.send_group("g", {}, exclude=[names[0]])
        assert server.heard() == [(GROUP, "g", {}, [names[0]])]

    def test_full_inbox(self) -> None:
        """A group send to a process without room is dropped, counted, never raised."""
        server, sender = self.server(process_bytes=2000), self.join()
        server.do(lambda edge: edge.group_add("g", self.name(server)))
        self.until(lambda: sender.group_count("g") == 1)
        sender.send_group("g", {"data": b"x" * 2000})
        self.dropped(sender, full=1)
        server.silence(sender)

    def test_the_edge_sends_to_groups(self) -> None:
        """``Edge.group_send`` reaches members everywhere, its own process included."""
        server, other = self.server(), self.server()
        worker = self.join()
        for s in (server, other):
            s.do(lambda edge, s=s: edge.group_add("g", self.name(s)))  # type: ignore[misc] # bound now
        self.until(lambda: worker.group_count("g") == 2)
        worker.group_add("g", "y")
        server.do(lambda edge: edge.group_send("g", GO, exclude=iter(["z"])))
        for s in (server, other):
            assert s.heard() == [(GROUP, "g", {"go": True}, ["z"])]
        assert self.received(worker, "y") == {"go": True}

    def test_members_leave_with_their_process(self) -> None:
        """The members of a protocol server leave with it."""
        server, worker = self.server(), self.join()
        server.do(lambda edge: edge.group_add("g", self.name(server)))
        self.until(lambda: worker.group_count("g") == 1)
        self.kill(server.layer)
        self.until(lambda: worker.group_count("g") == 0)
