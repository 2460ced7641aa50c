"""What is kept for those who come back: the log, groups with a history, joins with ``since``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core import names
from gateway.core.layers.base import OK, History, Layer, Message
from gateway.core.layers.base import group_add as joining
from gateway.core.layers.base import group_send as group_sending
from gateway.core.layers.base import send as sending
from gateway.core.layers.edge import GAP, GROUP, JOIN, MESSAGE, OUTCOME
from gateway.testing.layer_suite.harness import Harness, numbers, own

LARGE = {"data": b"x" * 10_000}
"""A message beside which its overhead is little."""


class Logs(Harness):
    """``log_append``, ``log_read``, ``log_keys``."""

    def entries(self, layer: Layer, key: str = "k") -> list[Message]:
        """Return what is kept of a key."""
        return [entry for _, entry in layer.log_read(key).entries]

    def test_appended(self) -> None:
        """What was appended is read with its offset, the oldest first, by any process."""
        layer, other = self.join(), self.join()
        positions = [layer.log_append("k", message, 10) for message in numbers(3)]
        entries = [(at[1], m) for at, m in zip(positions, numbers(3), strict=True)]
        assert other.log_read("k") == History(entries, positions[-1], False)
        assert other.log_read("k") == layer.log_read("k")

    def test_nothing_kept(self) -> None:
        """Of a key that nothing was appended to nothing is kept, and nothing missed."""
        layer = self.join()
        entries, position, missed = layer.log_read("k")
        assert (entries, missed) == ([], False)
        assert layer.log_read("k", position) == ([], position, False)

    def test_one_offset_for_all(self) -> None:
        """The offset counts on by one over all keys; the epoch is one."""
        layer = self.join()
        found = [layer.log_append(key, {}, 10) for key in ("a", "b", "a", "c")]
        assert [offset - found[0][1] for _, offset in found] == [0, 1, 2, 3]
        assert len({epoch for epoch, _ in found}) == 1
        assert layer.log_read("c").position == found[-1]

    def test_since(self) -> None:
        """After a position is read what came later; the position may be of another key."""
        layer = self.join()
        positions = [layer.log_append("kj"[n % 2], {"n": n}, 10) for n in range(6)]
        assert [entry["n"] for _, entry in layer.log_read("k", positions[1]).entries] == [2, 4]
        assert layer.log_read("k", positions[4]).entries == []
        assert not layer.log_read("k", positions[0]).missed

    def test_limit(self) -> None:
        """The last ``limit`` of a key are kept, whatever other keys have."""
        layer = self.join()
        for message in numbers(5):
            layer.log_append("k", message, 3)
            layer.log_append("j", message, 10)
        assert self.entries(layer) == numbers(5)[2:]
        assert self.entries(layer, "j") == numbers(5)
        layer.log_append("k", {"n": 6}, 1)
        assert self.entries(layer) == [{"n": 6}]
        self.dropped(layer)

    def test_a_limit_of_none(self) -> None:
        """With a limit of 0 nothing is kept of the key."""
        layer = self.join()
        before = layer.log_append("k", {"n": 1}, 3)
        after = layer.log_append("k", {"n": 2}, 0)
        assert layer.log_read("k") == ([], after, False)
        assert layer.log_read("k", before) == ([], after, True)
        assert after[1] == before[1] + 1

    def test_seconds(self) -> None:
        """What was kept for its ``seconds`` is not kept any more, each for itself; without them it
        stays.
        """  # noqa: D205 - one sentence
        layer = self.join()
        for n, seconds in enumerate((None, 60.0, 10.0, 60.0)):
            layer.log_append("k", {"n": n}, 10, seconds)
        self.advance(9)
        assert len(self.entries(layer)) == 4
        self.advance(2)
        assert self.entries(layer) == [{"n": 0}, {"n": 1}, {"n": 3}]
        self.advance(60)
        assert self.entries(layer) == [{"n": 0}]
        self.dropped(layer)

    def test_the_oldest_of_all_give_way(self) -> None:
        """Beyond ``history_bytes`` the oldest of all keys are kept no more, counted."""
        layer = self.join(history_bytes=55_000)
        for n in range(7):
            layer.log_append(f"k{n % 3}", {**LARGE, "n": n}, 10)
        left = [entry["n"] for key in ("k0", "k1", "k2") for entry in self.entries(layer, key)]
        assert sorted(left) == [2, 3, 4, 5, 6]
        self.dropped(layer, evicted=2)

    def test_what_fits_nowhere(self) -> None:
        """What is larger than ``history_bytes`` alone is not kept, and leaves nothing else."""
        layer = self.join(history_bytes=5_000)
        before = layer.log_append("k", {"n": 1}, 10)
        layer.log_append("k", LARGE, 10)
        assert self.entries(layer) == []
        assert layer.log_read("k", before).missed
        self.dropped(layer, evicted=2)

    def test_bytes_come_back_by_themselves(self) -> None:
        """What expires gives its bytes back then, without anybody reading."""
        layer = self.join(history_bytes=55_000)
        for n in range(5):
            layer.log_append(f"k{n}", LARGE, 10, 60.0)
        self.advance(61)
        for n in range(5):
            layer.log_append(f"j{n}", LARGE, 10, 60.0)
        self.dropped(layer)

    @pytest.mark.parametrize("how", ["limit", "seconds", "bytes", "empty"])
    def test_missed(self, how: str) -> None:
        """``missed`` says whether something after the position is not kept, whatever it was that
        ended it; not for what came before the position, nor of another key.
        """  # noqa: D205 - one sentence
        layer = self.join(history_bytes=25_000)
        start = layer.log_append("other", {}, 10)
        first = layer.log_append("k", LARGE, 10, 60.0)
        if how == "limit":
            layer.log_append("k", LARGE, 1)
        elif how == "seconds":
            layer.log_append("k", LARGE, 10)
            self.advance(61)
        elif how == "bytes":
            layer.log_append("k", LARGE, 10)
            layer.log_append("k", LARGE, 10)
        else:
            self.advance(61)
            assert self.entries(layer) == []
        assert layer.log_read("k", start).missed
        assert not layer.log_read("k", first).missed
        assert not layer.log_read("quiet", start).missed

    def test_missed_in_the_middle(self) -> None:
        """So where what is missing stands between what is kept."""
        layer = self.join()
        first = layer.log_append("k", {"n": 1}, 10)
        gone = layer.log_append("k", {"n": 2}, 10, 10.0)
        layer.log_append("k", {"n": 3}, 10)
        self.advance(11)
        entries, _, missed = layer.log_read("k", first)
        assert ([entry["n"] for _, entry in entries], missed) == ([3], True)
        assert not layer.log_read("k", gone).missed

    def test_no_such_position(self) -> None:
        """A position of another epoch, or of the future, is one from before the beginning."""
        layer = self.join()
        epoch, offset = layer.log_append("k", {"n": 1}, 10)
        for nowhere in ((epoch + 1, offset), (epoch + 1, 0), (epoch, offset + 1), (epoch, 2**63)):
            found = layer.log_read("k", nowhere)
            assert ([entry for _, entry in found.entries], found.missed) == ([{"n": 1}], True)

    def test_keys(self) -> None:
        """``log_keys`` lists the keys that begin so and of which something is kept."""
        layer = self.join()
        for key in ("a.1", "a.2", "b.1", "a.gone", "ü/#"):
            layer.log_append(key, {}, 1, 10.0 if key == "a.gone" else None)
        self.advance(11)
        assert sorted(layer.log_keys("a.")) == ["a.1", "a.2"]
        assert sorted(layer.log_keys()) == ["a.1", "a.2", "b.1", "ü/#"]
        assert layer.log_keys("nothing") == []

    def test_flushed_logs(self) -> None:
        """``flush`` keeps nothing; whoever has an older position has missed what came after."""
        layer = self.join()
        first = layer.log_append("k", {}, 10)
        last = layer.log_append("k", {}, 10)
        layer.flush()
        assert layer.log_keys() == []
        assert layer.log_read("k", last) == ([], last, False)
        assert layer.log_read("k", first).missed
        layer.log_append("k", {"n": 1}, 10)
        assert self.entries(layer) == [{"n": 1}]

    def test_refusals(self) -> None:
        """Bad keys, limits and times raise ValueError or TypeError; nothing is appended."""
        layer = self.join()
        wrong: list[tuple[Callable[[], Any], type[Exception]]] = [
            (lambda: layer.log_append("", {}, 1), ValueError),
            (lambda: layer.log_append("k" * 1001, {}, 1), ValueError),
            (lambda: layer.log_append(5, {}, 1), TypeError),  # type: ignore[arg-type]
            (lambda: layer.log_append("k", [], 1), TypeError),  # type: ignore[arg-type]
            (lambda: layer.log_append("k", {}, -1), ValueError),
            (lambda: layer.log_append("k", {}, 1, 0), ValueError),
            (lambda: layer.log_append("k", {}, 1, -1.0), ValueError),
            (lambda: layer.log_append("k", {}, 1, True), TypeError),
            (lambda: layer.log_read(""), ValueError),
            (lambda: layer.log_read("k", "1f-a"), TypeError),  # type: ignore[arg-type]
            (lambda: layer.log_read("k", (1, 2.0)), TypeError),  # type: ignore[arg-type]
            (lambda: layer.log_read("k", (1,)), TypeError),  # type: ignore[arg-type]
            (lambda: layer.log_keys(5), TypeError),  # type: ignore[arg-type]
            (lambda: layer.send_group("g", {}, history=-1), ValueError),
            (lambda: layer.send_group("g", {}, history=True), TypeError),
            (lambda: layer.send_group("g", {}, history_seconds=5), TypeError),
            (lambda: layer.send_group("g", {}, history=5, history_seconds=0), ValueError),
            (lambda: layer.group_add("g", "x", since=5), TypeError),  # type: ignore[arg-type]
        ]
        for verb, error in wrong:
            with pytest.raises(error):
                verb()
        assert layer.log_keys() == []
        assert layer.group_channels("g") == []


class Histories(Harness):
    """``send_group(history=…)`` and ``group_add(since=…)``."""

    def present(self, layer: Layer) -> str:
        """Return the present position as text."""
        return names.position(*layer.log_read("k").position)

    def keep(self, layer: Layer, *many: int, group: str = "g") -> list[tuple[int, Message]]:
        """Send numbered messages that are kept; return them with their offsets."""
        first = layer.log_read("k").position[1] + 1
        for n in many:
            layer.send_group(group, {"n": n}, history=100)
        return [(first + at, {"n": n}) for at, n in enumerate(many)]

    def test_the_log_of_a_group(self) -> None:
        """What a group keeps is in the log ``group:GROUP``: so many, for so long."""
        layer = self.join()
        for message in numbers(4):
            layer.send_group("g", message, history=3, history_seconds=60)
        layer.send_group("g", {"n": 9})
        assert [e for _, e in layer.log_read("group:g").entries] == numbers(4)[1:]
        self.advance(61)
        assert layer.log_read("group:g").entries == []

    def test_an_hour(self) -> None:
        """Where nothing is said it is kept for an hour."""
        layer = self.join()
        layer.send_group("g", {"n": 1}, history=3)
        self.advance(3599)
        assert len(layer.log_read("group:g").entries) == 1
        self.advance(2)
        assert layer.log_read("group:g").entries == []

    def test_sent_with_its_position(self) -> None:
        """An edge hears a kept message with its position, any other without."""
        server, layer = self.server(), self.join()
        layer.group_add("g", f"x.{server.process}!a")
        layer.send_group("g", {"n": 1}, history=3)
        layer.send_group("g", {"n": 2})
        at = layer.log_read("group:g").position
        assert server.heard(3)[1:] == [(GROUP, "g", {"n": 1}, [], at), (GROUP, "g", {"n": 2}, [])]

    def test_sent_by_an_edge(self) -> None:
        """An edge's ``group_send`` keeps as well."""
        server, layer = self.server(), self.join()
        with pytest.raises(ValueError, match="history"):
            server.do(lambda edge: edge.group_send("g", b"\x80", history=-1))
        server.do(lambda edge: edge.group_send("g", b"\x80", history=3, history_seconds=60))
        self.until(lambda: [e for _, e in layer.log_read("group:g").entries] == [{}])

    def test_what_a_connection_missed(self) -> None:
        """A connection that joins with ``since`` gets what was kept after it with the JOIN, the
        present position, and whether more was missed; what is sent later follows.
        """  # noqa: D205 - one sentence
        server, layer = self.server(), self.join()
        name = f"x.{server.process}!a"
        self.keep(layer, 1)
        since = self.present(layer)
        missed = self.keep(layer, 2, 3)
        self.keep(layer, 4, group="other")
        at = layer.log_read("k").position
        layer.group_add("g", name, {"nick": "ann"}, since=since)
        [(offset, later)] = self.keep(layer, 5)
        assert server.heard(2) == [
            (JOIN, "g", name, {"nick": "ann"}, False, (missed, at, False)),
            (GROUP, "g", later, [], (at[0], offset)),
        ]

    def test_from_now_on(self) -> None:
        """With an empty ``since`` it gets the position alone."""
        server, layer = self.server(), self.join()
        self.keep(layer, 1)
        layer.group_add("g", f"x.{server.process}!a", since="")
        assert server.heard(1)[0][5] == ([], layer.log_read("k").position, False)

    @pytest.mark.parametrize(
        "since", ["garbage", "1-1", "-", "g-1", "1-", "00-1", " ", "1-1-1", "é", "9" * 40]
    )
    def test_no_such_position_of_a_group(self, since: str) -> None:
        """What is no position of this layer is one from before the beginning: all that is kept, and
        missed.
        """  # noqa: D205 - one sentence
        server, layer = self.server(), self.join()
        found = self.keep(layer, 1, 2)
        layer.group_add("g", f"x.{server.process}!a", since=since)
        assert server.heard(1)[0][5] == (found, layer.log_read("k").position, True)

    def test_the_future(self) -> None:
        """So with a position of the future."""
        server, layer = self.server(), self.join()
        found = self.keep(layer, 1, 2)
        epoch, offset = layer.log_read("k").position
        layer.group_add("g", f"x.{server.process}!a", since=names.position(epoch, offset + 1))
        assert server.heard(1)[0][5] == (found, (epoch, offset), True)

    def test_more_was_missed(self) -> None:
        """A join says so where more was kept since than is now."""
        server, layer = self.server(), self.join()
        name = f"x.{server.process}!a"
        layer.send_group("g", {"n": 0}, history=2)
        since = self.present(layer)
        for message in numbers(3):
            layer.send_group("g", message, history=2)
        layer.group_add("g", name, since=since)
        backlog, _, missed = server.heard(1)[0][5]
        assert ([m for _, m in backlog], missed) == (numbers(3)[1:], True)

    def test_excluded(self) -> None:
        """Who was excluded does not get it when it joins anew, either."""
        server, layer = self.server(), self.join()
        name = f"x.{server.process}!a"
        layer.send_group("g", {"n": 1}, exclude=[name], history=5)
        for rest in ("a", "b"):
            layer.group_add("g", f"x.{server.process}!{rest}", since="0-0")
        assert [len(item[5][0]) for item in server.heard(2)] == [0, 1]

    def test_in_one_step_of_a_consumer(self) -> None:
        """A consumer's joins and sends are done in its order, with its outcome: before it is told
        what was missed is.
        """  # noqa: D205 - one sentence
        server, worker = self.server(), self.join()
        name = f"x.{server.process}!a"
        [(first, _)] = self.keep(worker, 1)
        epoch = worker.log_read("k").position[0]
        server.post("x", {}, receipt=1)
        sends = [
            group_sending("g", {"n": 2}, history=5),
            joining("g", name, since="0-0"),
            sending(name, {"n": 3}),
            joining("h", name, since="0-0", announce=True),
            group_sending("g", {"n": 4}, history=5, history_seconds=1),
        ]
        worker.settle(self.taken(worker, "x"), [OK], sends)
        found = [(first, {"n": 1}), (first + 1, {"n": 2})]
        at = (epoch, first + 1)
        assert server.heard(5) == [
            (JOIN, "g", name, None, False, (found, at, True)),
            (MESSAGE, name, {"n": 3}),
            (JOIN, "h", name, None, True, ([], at, True)),
            (GROUP, "g", {"n": 4}, [], (epoch, first + 2)),
            (OUTCOME, 1, 0, OK),
        ]

    def test_a_join_that_resumes_is_announced(self) -> None:
        """A join with ``since`` is told as any other."""
        layer = self.join()
        layer.group_add("g", "x", announce=True, since="")
        expected = {"group": "g", "channel": "x", "meta": None}
        assert self.received(layer, "presence.join") == expected

    def test_of_the_edge_itself(self) -> None:
        """An edge that adds its own connection with ``since`` hears a JOIN; of another process's
        connection that process does.
        """  # noqa: D205 - one sentence
        server, other, layer = self.server(), self.server(), self.join()
        found = self.keep(layer, 1)
        at = layer.log_read("k").position
        mine, theirs = f"x.{server.process}!a", f"x.{other.process}!a"
        server.do(lambda edge: edge.group_add("g", mine, since="0-0"))
        assert server.heard(1) == [(JOIN, "g", mine, None, False, (found, at, True))]
        server.do(lambda edge: edge.group_add("g", theirs, since="0-0"))
        assert other.heard(1) == [(JOIN, "g", theirs, None, False, (found, at, True))]
        server.silence(layer)

    def test_members_without_an_edge(self) -> None:
        """Normal channels, addresses and the names of a process without an edge get what was kept
        as messages.
        """  # noqa: D205 - one sentence
        layer = self.join()
        self.keep(layer, 1, 2)
        for channel in ("x", "y!a", own(layer)):
            layer.group_add("g", channel, since="0-0")
        assert self.drained(layer, "x") == numbers(3)[1:]
        assert self.drained(layer, "y!") == numbers(3)[1:]
        assert [m for _, m in self.inbox(layer, 2)] == numbers(3)[1:]
        layer.group_add("g", "x", since=self.present(layer))
        layer.group_add("g", "z")
        assert self.drained(layer, "x", "z") == []

    def test_no_room(self) -> None:
        """What such a member has no room for is dropped, counted."""
        layer = self.join(capacity=2)
        self.keep(layer, 1, 2, 3)
        layer.group_add("g", "x", since="0-0")
        assert self.drained(layer, "x") == [{"n": 1}, {"n": 2}]
        self.dropped(layer, full=1)

    def test_a_gap(self) -> None:
        """A gateway process that had no room for kept messages of a group hears that some are
        missing, where they are; of others it hears nothing.
        """  # noqa: D205 - one sentence
        server, layer = self.server(process_capacity=2), self.join()
        for group in "gh":
            layer.group_add(group, f"x.{server.process}!a")
        assert [item[0] for item in server.heard(2)] == [JOIN, JOIN]
        layer.apply(
            [group_sending("g", {"n": n}, history=5) for n in range(5)]
            + [group_sending("h", {"n": n}) for n in range(2)]
        )
        *items, gap = server.heard(3)
        assert gap == (GAP, "g")
        assert [(item[1], item[2]["n"]) for item in items] == [("g", 0), ("g", 1)]
        layer.send_group("g", {"n": 9}, history=5)
        assert [item[2] for item in server.heard(1)] == [{"n": 9}]
        self.dropped(layer, full=5)

    def test_a_gap_behind_a_join(self) -> None:
        """Who joins behind a gap hears of the next one."""
        server, layer = self.server(process_capacity=1), self.join()
        layer.group_add("g", f"x.{server.process}!a")
        server.heard(1)
        sends = [group_sending("g", {"n": n}, history=5) for n in range(4)]
        joins = [joining("g", f"x.{server.process}!b", since="0-0")]
        layer.apply([*sends[:3], *joins, sends[3]])
        assert [item[0] for item in server.heard(4)] == [GROUP, GAP, JOIN, GAP]

    def test_who_resumes_is_gone(self) -> None:
        """A member of a process that is gone is none, counted, and gets nothing."""
        layer = self.join()
        self.keep(layer, 1)
        layer.group_add("g", "x.p_gone!a", since="0-0")
        assert layer.group_count("g") == 0
        self.dropped(layer, gone=1)

    def test_a_large_backlog(self) -> None:
        """However much many members missed, it reaches them, and takes no room from what is newer:
        ``process_bytes`` is for that.
        """  # noqa: D205 - one sentence
        server = self.server(process_bytes=200_000)
        layer = self.join()
        for _ in range(30):
            layer.send_group("g", LARGE, history=30)
        for n in range(60):
            layer.group_add("g", f"x.{server.process}!{n}", since="0-0")
            layer.send_group("g", {"n": n})
        items = server.heard(120)
        assert [len(item[5][0]) for item in items[::2]] == [30] * 60
        assert [item[2]["n"] for item in items[1::2]] == list(range(60))
        self.dropped(layer)

    def test_joins_of_one_connection_stay_together(self) -> None:
        """What a connection missed of several groups comes in one batch, however large it is."""
        server, layer = self.server(), self.join()
        batches: list[list[Any]] = []

        def heard(items: list[Any]) -> None:
            batches.append(items)
            server.items.extend(items)

        for group in "ghi":
            for _ in range(60):
                layer.send_group(group, {**LARGE, "data": b"x" * 20_000}, history=60)
        server.do(lambda edge: setattr(edge, "_deliver", heard))
        name = f"x.{server.process}!a"
        layer.apply([joining(group, name, since="0-0") for group in "ghi"])
        assert [item[1] for item in server.heard(3)] == ["g", "h", "i"]
        assert [sum(item[0] == JOIN for item in batch) for batch in batches] == [3]

    def test_no_gap_and_no_double(self) -> None:
        """Whenever a member joins while others send, it gets each message once, in order."""
        server, joiner = self.server(), self.join()
        senders = [self.join() for _ in range(2)]
        since = self.present(joiner)
        total = 2 * 60
        go = threading.Event()

        def send(layer: Layer) -> None:
            go.wait(self.patience)
            for n in range(total // 2):
                layer.send_group("g", {"n": n}, history=total)

        threads = [threading.Thread(target=send, args=(layer,)) for layer in senders]
        for thread in threads:
            thread.start()
        go.set()
        for n in range(10):
            joiner.group_add("g", f"x.{server.process}!{n}", since=since)
        for thread in threads:
            thread.join(self.patience)
        got: dict[str, list[int]] = {}
        wanted = list(
            range(int(since.partition("-")[2], 16) + 1, joiner.log_read("k").position[1] + 1)
        )

        def complete() -> bool:
            got.clear()
            for item in list(server.items):
                if item[0] == JOIN:
                    got[item[2]] = [offset for offset, _ in item[5][0]]
                elif item[0] == GROUP:
                    for offsets in got.values():
                        offsets.append(item[4][1])
            return len(got) == 10 and all(len(offsets) >= total for offsets in got.values())

        server.wait(complete, "each has all")
        assert all(offsets == wanted for offsets in got.values())

    def test_twins(self) -> None:
        """Each twin does what its verb does."""
        layer = self.join()

        async def main() -> None:
            epoch, offset = await layer.alog_append("group:g", {"n": 1}, 5, 60.0)
            await layer.asend_group("g", {"n": 2}, history=5, history_seconds=60.0)
            entries = [(offset, {"n": 1}), (offset + 1, {"n": 2})]
            assert await layer.alog_read("group:g") == (entries, (epoch, offset + 1), False)
            assert (await layer.alog_read("group:g", (epoch, offset))).entries == entries[1:]
            assert await layer.alog_keys("group:") == ["group:g"]
            await layer.agroup_add("g", "x", since=names.position(epoch, offset))
            await layer.agroup_add("g", "y", since="")
            assert await layer.areceive(["x", "y"]) == ("x", {"n": 2})
            assert await layer.areceive(["x", "y"]) == (None, None)
            await layer.aclose()

        asyncio.run(main())
