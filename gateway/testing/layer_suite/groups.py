"""Groups, seen from processes without an edge."""

from __future__ import annotations

from gateway.core.errors import ChannelFull
from gateway.core.layers.base import Layer
from gateway.testing.layer_suite.harness import Harness, numbers, own


class Groups(Harness):
    """``group_add`` and its kin."""

    def mixed(self, layer: Layer) -> list[str]:
        """Return one member of each kind, added to the group ``g``."""
        found = ["x", "y!a", f"z.{layer.process}!c"]
        for channel in found:
            layer.group_add("g", channel)
        return found

    def test_members(self) -> None:
        """Members of every kind are listed with their meta, and counted."""
        layer, other = self.join(), self.join()
        layer.group_add("g", "x", {"nick": "ann"})
        layer.group_add("g", "y!a")
        other.group_add("g", f"z.{other.process}!c", {"nick": "bob"})
        expected = {
            "x": {"nick": "ann"},
            "y!a": None,
            f"z.{other.process}!c": {"nick": "bob"},
        }
        assert layer.group_members("g") == expected
        assert sorted(other.group_channels("g")) == sorted(expected)
        assert layer.group_count("g") == 3

    def test_an_empty_group(self) -> None:
        """A group that nobody joined has no members; sending to it does nothing."""
        layer = self.join()
        layer.send_group("g", {})
        assert layer.group_channels("g") == []
        assert layer.group_members("g") == {}
        assert layer.group_count("g") == 0

    def test_added_twice(self) -> None:
        """A member that is added again is a member once, with its latest meta."""
        layer = self.join()
        for n in range(3):
            layer.group_add("g", "x", {"n": n})
            layer.group_add("g", own(layer), {"n": n})
        assert layer.group_members("g") == {"x": {"n": 2}, own(layer): {"n": 2}}
        assert layer.group_count("g") == 2
        layer.send_group("g", {"n": 1})
        assert self.drained(layer, "x") == [{"n": 1}]

    def test_discard(self) -> None:
        """``group_discard`` ends a membership; where there is none nothing happens."""
        layer = self.join()
        members = self.mixed(layer)
        for n, channel in enumerate(members, 1):
            for _ in range(2):
                layer.group_discard("g", channel)
            assert layer.group_count("g") == len(members) - n
        layer.group_discard("h", "x")
        layer.send_group("g", {})
        assert layer.receive(["x", "y!", own(layer)]) == (None, None)

    def test_groups_are_apart(self) -> None:
        """A channel is in several groups; leaving one leaves the others."""
        layer = self.join()
        layer.group_add("g", "x")
        layer.group_add("h", "x")
        layer.group_discard("g", "x")
        layer.send_group("g", {"n": 1})
        layer.send_group("h", {"n": 2})
        assert self.drained(layer, "x") == [{"n": 2}]

    def test_every_kind_of_member(self) -> None:
        """A group send reaches normal channels, addresses and names of processes."""
        layer, other = self.join(), self.join()
        process = self.mixed(layer)[2]
        other.send_group("g", {"n": 1})
        assert layer.receive(["x"]) == ("x", {"n": 1})
        assert layer.receive(["y!"]) == ("y!a", {"n": 1})
        assert self.inbox(layer, 1) == [(process, {"n": 1})]

    def test_members_get_copies(self) -> None:
        """Each member gets a message of its own; the sender may change its dict."""
        layer = self.join()
        layer.group_add("g", "x")
        layer.group_add("g", "y")
        message = {"list": [1]}
        layer.send_group("g", message)
        message["list"].append(2)
        self.received(layer, "x")["list"].append(3)
        assert self.received(layer, "y") == {"list": [1]}

    def test_order(self) -> None:
        """Group sends and direct sends of one writer keep their order."""
        layer = self.join()
        layer.group_add("g", own(layer))
        layer.group_add("g", "x")
        for n in range(0, 10, 2):
            layer.send_group("g", {"n": n})
            layer.send("x", {"n": n + 1})
            layer.send(own(layer), {"n": n + 1})
        assert self.drained(layer, "x") == numbers(10)
        assert [message for _, message in self.inbox(layer, 10)] == numbers(10)

    def test_exclude(self) -> None:
        """``exclude`` covers members of every kind."""
        layer = self.join()
        members = self.mixed(layer)
        for excluded in members:
            layer.send_group("g", {}, exclude=[excluded, "nobody"])
            found = {layer.receive(["x", "y!", own(layer)])[0] for _ in range(3)}
            assert found == {*members, None} - {excluded}

    def test_exclude_all(self) -> None:
        """Who excludes every member sends nothing."""
        layer = self.join()
        layer.send_group("g", {}, exclude=iter(self.mixed(layer)))
        assert layer.receive(["x", "y!", own(layer)]) == (None, None)

    def test_a_full_member(self) -> None:
        """A group send never raises ChannelFull: a member without room is left out, counted."""
        layer = self.join(capacity=1)
        for channel in ("x", "y", "z!a"):
            layer.group_add("g", channel)
        layer.send("x", {"n": 1})
        layer.send("z!a", {"n": 1})
        layer.send_group("g", {"n": 2})
        assert self.drained(layer, "x") == self.drained(layer, "z!") == [{"n": 1}]
        assert self.drained(layer, "y") == [{"n": 2}]
        self.dropped(layer, full=2)

    def test_a_full_inbox(self) -> None:
        """So is a process whose inbox has no room."""
        layer = self.join(process_capacity=1)
        layer.group_add("g", own(layer))
        layer.group_add("g", "x")
        layer.send(own(layer), {})
        layer.send_group("g", {})
        self.inbox(layer, 1)
        self.silence(layer)
        assert self.drained(layer, "x") == [{}]
        self.dropped(layer, full=1)

    def test_group_expiry(self) -> None:
        """A normal channel or address stays for ``group_expiry`` seconds after it was last
        added; a name of a process stays.
        """  # noqa: D205 - one sentence
        layer = self.join(group_expiry=100.0)
        for channel in ("x", "y", "z!a", own(layer)):
            layer.group_add("g", channel)
        self.advance(60)
        layer.group_add("g", "y")
        self.advance(60)
        assert sorted(layer.group_channels("g")) == sorted(["y", own(layer)])
        assert layer.group_count("g") == 2
        layer.send_group("g", {})
        assert layer.receive(["x", "z!"]) == (None, None)
        assert self.drained(layer, "y") == [{}]

    def test_count_after_expiry(self) -> None:
        """``group_count`` does not count members whose time is over."""
        layer = self.join(group_expiry=100.0)
        layer.group_add("g", "x")
        self.advance(101)
        assert layer.group_count("g") == 0

    def test_a_process_that_leaves(self) -> None:
        """The members of a process leave with it."""
        layer, other, third = self.join(), self.join(), self.join()
        for process in (layer, other, third):
            process.group_add("g", own(process))
        other.close()
        self.kill(third)
        self.until(lambda: layer.group_channels("g") == [own(layer)])
        assert layer.group_count("g") == 1
        layer.send_group("g", {})
        self.inbox(layer, 1)

    def test_a_member_that_is_gone(self) -> None:
        """A name of a process that is gone becomes no member."""
        layer, other = self.join(), self.join()
        other.send("x", {})
        other.close()
        layer.group_add("g", own(other))
        assert layer.group_channels("g") == []

    def test_expiry_and_capacity_apply(self) -> None:
        """A group message expires and takes room as any other."""
        layer = self.join(capacity=1, expiry=60.0)
        layer.group_add("g", "x")
        layer.send_group("g", {})
        try:
            layer.send("x", {})
        except ChannelFull:
            self.advance(61)
        layer.send("x", {"n": 1})
        assert self.drained(layer, "x") == [{"n": 1}]
