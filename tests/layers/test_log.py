"""The log of a layer, as its state has it: bounds, what is remembered, and what it counts."""

from __future__ import annotations

import tracemalloc
from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.layers import codec, log
from gateway.core.layers.edge import JOIN, MESSAGE
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.queues import IDLE_CHECKS
from gateway.core.layers.state import State
from gateway.core.metrics import Drop

PAYLOAD = codec.encode({"text": "x"})


class Kept:
    """A state, and a clock."""

    def __init__(self, **options):
        self.now = 1000.0
        self.state = State(LayerOptions(**options), lambda: self.now)
        self.link = self.state.join(None, leased=False)

    def append(self, key, limit=100, seconds=None, payload=PAYLOAD):
        return self.state.log_append(self.link, key, payload, limit, seconds)[1]

    def read(self, key, since=None):
        """Return the offsets that are kept after one, and whether more is missed."""
        at = None if since is None else (self.state.epoch, since)
        found, _, missed = self.state.log_read(self.link, key, at)
        return [offset for offset, _ in found], missed

    def advance(self, seconds):
        self.now += seconds
        self.state.tick()


def test_two_states_have_two_epochs():
    """The epoch of a state is its own."""
    assert Kept().state.epoch != Kept().state.epoch


def test_nothing_is_left():
    """What was kept for its time leaves nothing behind but the latest offset of its key."""
    kept = Kept()
    for n in range(100):
        kept.append(f"k{n % 10}", seconds=5.0)
    assert kept.state.kept_bytes > 0
    kept.advance(6)
    state = kept.state
    assert (len(state.kept), state.kept_bytes, state._logs, state._ends) == (0, 0, {}, [])
    assert len(state._emptied) == 10


def test_ends_of_what_is_not_kept_are_cleared_away():
    """A busy log of long times holds no more ends than about twice what it keeps."""
    kept = Kept()
    for _ in range(20 * IDLE_CHECKS):
        kept.append("k", limit=10, seconds=86400.0)
    assert len(kept.state._ends) <= IDLE_CHECKS + 2 * 10
    kept.advance(86401)
    assert kept.read("k") == ([], False)


def test_emptied_logs_are_remembered_up_to_a_number(monkeypatch):
    """Of the logs that became empty first only the latest offset of all is remembered: who comes
    back from before that may have missed something, from after that has not.
    """
    monkeypatch.setattr(log, "MANY_LOGS", 3)
    kept = Kept()
    start = kept.append("other")
    offsets = {key: kept.append(key, seconds=5.0) for key in "abcde"}
    kept.advance(6)
    assert len(kept.state._emptied) == 3
    assert kept.read("a", start) == ([], True)
    assert kept.read("c", offsets["b"]) == ([], True)
    assert kept.read("c", offsets["c"]) == ([], False)
    assert kept.read("never", start) == ([], True)
    assert kept.read("never", offsets["b"]) == ([], False)
    # a log that begins again does not know better than before
    again = kept.append("a")
    assert kept.read("a", start) == ([again], True)
    assert kept.read("a", offsets["b"]) == ([again], False)


def test_what_gives_way_is_counted():
    """What is kept no more for lack of room is counted, by its cause."""
    kept = Kept(history_bytes=2 * (log.KEPT_SIZE + 20))
    for _ in range(5):
        kept.append("k")
    assert kept.state.drops == {Drop.EVICTED: 3}


def test_what_a_message_counts_for():
    """What is kept counts for at least what it takes."""
    kept = Kept(history_bytes=1 << 30)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(2000):
            kept.append(f"key-{n}", seconds=60.0, payload=bytes(100))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= kept.state.kept_bytes * 1.1
    assert kept.state.kept_bytes < 2 * taken


def test_who_does_not_get_a_message_counts_too():
    """The names of those that a group's message leaves out count for what they take."""
    kept = Kept(history_bytes=1 << 30)
    state = kept.state
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(50):
            left_out = [f"websocket.send.p_aaaaaaaaaaaa!{n}.{m}" for m in range(100)]
            state.send_group(kept.link, "g", PAYLOAD, left_out, 100, 60.0)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= state.kept_bytes * 1.1
    assert state.kept_bytes < 2 * taken


def test_what_one_connection_is_told_travels_together():
    """A drain of an inbox in pieces does not part the joins of one connection, nor for what is said
    between them; what is left counts for what it did.
    """
    kept = Kept()
    state, link = kept.state, kept.link
    process = link.process
    state.open_edge(link, lambda: None)
    state.drain(process)
    state.send_group(link, "g", PAYLOAD, (), 10)
    names = [f"websocket.send.{process.name}!{one}" for one in "abc"]
    for name in names:
        state.group_add(link, "g", name, b"meta", since=f"{state.epoch:x}-0")
        state.send(link, name, (PAYLOAD,))
        state.group_add(link, "h", name, b"meta", since=f"{state.epoch:x}-0")
    whole = process.inbox_bytes
    found = []
    while process.inbox:
        found.append(state.drain(process, 1))
        assert process.inbox_bytes == whole * (3 - len(found)) // 3
    assert [[item[0] for item in piece] for piece in found] == [[JOIN, MESSAGE, JOIN]] * 3


def test_a_long_log_is_no_slower():
    """What a message costs does not grow with how many its log keeps."""

    def cost(limit):
        kept = Kept(history_bytes=1 << 30)
        for _ in range(limit):
            kept.append("k", limit)
        begun = process_time()
        for _ in range(500):
            kept.append("k", limit)
        return process_time() - begun

    assert min(cost(100_000) for _ in range(2)) < 6 * max(cost(1000) for _ in range(2))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_missed_is_never_concealed(data, tmp_path_factory):
    """Whatever bound ends what is kept: a read returns it all, in order, and says so where
    something that was appended after the position is not in it.
    """
    limits, before = data.draw(st.integers(1, 3)), log.MANY_LOGS
    log.MANY_LOGS = limits
    try:
        kept = Kept(history_bytes=data.draw(st.integers(1, 8)) * (log.KEPT_SIZE + 20))
        appended = []
        for _ in range(data.draw(st.integers(1, 40))):
            key = data.draw(st.sampled_from("abcdef"))
            if data.draw(st.integers(0, 3)):
                seconds = data.draw(st.sampled_from([None, 2.0, 9.0]))
                appended.append((key, kept.append(key, data.draw(st.integers(1, 5)), seconds)))
            else:
                kept.advance(data.draw(st.sampled_from([1.0, 5.0])))
            since = data.draw(st.integers(0, len(appended)))
            found, missed = kept.read(key, since)
            after = [offset for one, offset in appended if one == key and offset > since]
            assert found == sorted(set(found))
            assert set(found) <= set(after)
            assert missed or found == after
        state = kept.state
        assert state.kept_bytes == sum(one.size for one in state.kept.values())
        assert state.kept_bytes <= state.options.history_bytes
        assert len(state._emptied) <= limits
    finally:
        log.MANY_LOGS = before


def test_no_two_rooms_of_the_suite_share_a_name():
    """A test of the layer suite hides none of another room."""
    from gateway.testing.layer_suite import LayerSuite

    seen = {}
    for room in LayerSuite.__mro__:
        for name in vars(room):
            if name.startswith("test_"):
                assert name not in seen, f"{name} of {room.__name__} and of {seen[name]}"
                seen[name] = room.__name__
