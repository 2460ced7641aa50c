"""Random runs of what is kept: appends, time, reads and joins, each checked against the model."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from gateway.core import names
from gateway.testing.layer_suite.harness import Harness

KEYS = st.sampled_from(["group:a", "group:b", "c"])
SECONDS = st.sampled_from([None, 5.0, 20.0])


@dataclass(eq=False, slots=True)
class Record:
    """One message, as the model sees it."""

    key: str
    number: int
    offset: int
    expires: float
    kept: bool = True


class Annals(RuleBasedStateMachine):
    """Appends to a few logs by two processes; what is read is what the model keeps."""

    def __init__(self, suite: Harness) -> None:
        super().__init__()
        self.suite = suite
        self.records: list[Record] = []
        self.now = 0.0
        self.number = 0
        self.flushed = 0
        """The offset at the last flush, which remembers no keys."""
        self.positions: list[tuple[int, int]] = []

    @initialize()
    def begin(self) -> None:
        """Open two processes."""
        self.suite.begin()
        self.layers = [self.suite.join(capacity=1000) for _ in range(2)]
        self.positions = [self.layers[0].log_read("c").position]

    def teardown(self) -> None:
        """Close them."""
        self.suite.finish()

    # ------------------------------------------------ rules

    @rule(who=st.integers(0, 1), key=KEYS, limit=st.integers(0, 4), seconds=SECONDS)
    def append(self, who: int, key: str, limit: int, seconds: float | None) -> None:
        """Append to a log."""
        position = self.layers[who].log_append(key, self.entry(), limit, seconds)
        assert position == (self.positions[0][0], self.positions[-1][1] + 1)
        self.appended(position, key, limit, seconds)

    @rule(who=st.integers(0, 1), limit=st.integers(1, 4), seconds=SECONDS)
    def group_send(self, who: int, limit: int, seconds: float | None) -> None:
        """Send to a group that keeps it."""
        layer = self.layers[who]
        layer.send_group("a", self.entry(), history=limit, history_seconds=seconds)
        until = 3600.0 if seconds is None else seconds
        self.appended(layer.log_read("c").position, "group:a", limit, until)

    @rule(seconds=st.sampled_from([1.0, 6.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        """Let what is due expire."""
        self.suite.advance(seconds)
        self.now += seconds
        for record in self.records:
            record.kept &= record.expires > self.now

    @rule(who=st.integers(0, 1), key=KEYS)
    def read_all(self, who: int, key: str) -> None:
        """Read all that is kept of a key."""
        found = self.layers[who].log_read(key)
        assert [(at, entry["n"]) for at, entry in found.entries] == self.kept(key)
        assert (found.position, found.missed) == (self.positions[-1], False)

    @rule(who=st.integers(0, 1), key=KEYS, data=st.data())
    def read(self, who: int, key: str, data: st.DataObject) -> None:
        """Read what came after a position."""
        since = data.draw(st.sampled_from(self.positions))
        found = self.layers[who].log_read(key, since)
        assert [(at, entry["n"]) for at, entry in found.entries] == self.kept(key, since[1])
        assert (found.position, found.missed) == (self.positions[-1], self.missed(key, since[1]))

    @rule(who=st.integers(0, 1), group=st.sampled_from("ab"), data=st.data())
    def resume(self, who: int, group: str, data: st.DataObject) -> None:
        """Join a group, and leave it."""
        since = data.draw(st.sampled_from(self.positions))
        layer = self.layers[who]
        layer.group_add(group, "x", since=names.position(*since))
        layer.group_discard(group, "x")
        expected = [number for _, number in self.kept(f"group:{group}", since[1])]
        assert [message["n"] for message in self.suite.drained(layer, "x")] == expected

    @precondition(lambda self: len(self.records) > 5)
    @rule(who=st.integers(0, 1))
    def flush(self, who: int) -> None:
        """Forget everything."""
        self.layers[who].flush()
        for record in self.records:
            record.kept = False
        self.flushed = self.positions[-1][1]

    # ------------------------------------------------ the model

    def entry(self) -> dict[str, int]:
        """Return a message that was not there before."""
        self.number += 1
        return {"n": self.number}

    def appended(
        self, position: tuple[int, int], key: str, limit: int, seconds: float | None
    ) -> None:
        """Take note of a message."""
        expires = float("inf") if seconds is None else self.now + seconds
        self.positions.append(position)
        self.records.append(Record(key, self.number, position[1], expires))
        kept = [record for record in self.records if record.key == key and record.kept]
        for record in kept[: max(0, len(kept) - limit)]:
            record.kept = False

    def kept(self, key: str, since: int = -1) -> list[tuple[int, int]]:
        """Return what is kept of a key after an offset."""
        found = [r for r in self.records if r.key == key and r.kept and r.offset > since]
        return [(record.offset, record.number) for record in found]

    def missed(self, key: str, since: int) -> bool:
        """Return whether more was appended to a key than is kept."""
        lost = (r.offset for r in self.records if r.key == key and not r.kept)
        return since < max(self.flushed, *lost, 0)
