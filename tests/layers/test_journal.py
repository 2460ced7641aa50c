"""The journal of registrations: its records, its file."""

import os
import stat
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.layers import codec, journal
from gateway.core.layers.base import OK, RELEASED, Outcome
from gateway.core.layers.journal import END, HEAD, LASTING, OFFER, REGISTER, SETTLED, pack, replay
from gateway.core.layers.journalfile import LEAST, JournalFile
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.records import Reader
from gateway.core.layers.state import State

BYE = b"\x81\xa1c\x01"
LEFT = b"\x81\xa1c\x02"

words = st.text(st.characters(codec="ascii", categories=["L"]), max_size=3)
payloads = st.binary(max_size=40)
tags = st.integers(LASTING, LASTING + 5)
records = st.one_of(
    st.tuples(st.just(REGISTER), words, words, words, payloads),
    st.tuples(st.just(END), words),
    st.tuples(st.just(OFFER), tags, words, words, payloads),
    st.tuples(st.just(OFFER), tags, words, st.none(), st.none()),
    st.tuples(st.just(SETTLED), tags),
    st.tuples(st.just(journal.WORKER), words),
    st.tuples(st.just(journal.GONE), words),
    st.tuples(st.just(journal.PARTED), words),
)


def said(left):
    """Return all that a journal says."""
    return (left.orphans, left.owned, left.offered, left.workers, left.parted, left.last)


@given(st.lists(records, max_size=12), st.data())
def test_any_truncation_is_read_up_to_its_last_whole_record(found, data):
    """A journal that is cut anywhere says what its whole records say, and how long they are."""
    packed = [pack(record) for record in [(HEAD, journal.VERSION), *found]]
    whole = b"".join(packed)
    cut = data.draw(st.integers(0, len(whole)))
    number = size = 0
    while number < len(packed) and size + len(packed[number]) <= cut:
        size += len(packed[number])
        number += 1
    left, read = replay(whole[:cut])
    assert read == size
    assert said(left) == said(replay(b"".join(packed[:number]))[0])


@given(st.binary(max_size=200), st.lists(records, max_size=4))
def test_whatever_stands_in_it_reading_never_fails(rubbish, found):
    """Rubbish after the records costs nothing of what they say."""
    whole = b"".join(map(pack, found))
    left, read = replay(whole + rubbish)
    assert read >= len(whole)
    if read == len(whole):
        assert said(left) == said(replay(whole)[0])


@given(st.lists(records, max_size=12), st.data())
def test_a_bit_that_flipped_is_noticed(found, data):
    """No record is believed whose bytes are not those that were written."""
    whole = bytearray(b"".join(map(pack, [(HEAD, journal.VERSION), *found])))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    assert replay(bytes(whole))[1] <= place


def test_another_version_is_not_read():
    """What a hub of another version wrote is not guessed at."""
    left, read = replay(pack((HEAD, 99)) + pack((REGISTER, "", "c", "gone", BYE)))
    assert (read, bool(left)) == (0, False)


def test_another_version_is_named(tmp_path, caplog):
    """The log says that it is of another version, not that its hub was killed while it wrote."""
    path = tmp_path / "hub.journal"
    path.write_bytes(pack((HEAD, 99)) + pack((REGISTER, "", "c", "gone", BYE)))
    assert not JournalFile(str(path)).read()
    assert "its format is 99, this one's 1" in caplog.text
    assert "no whole record" not in caplog.text


class Life:
    """Hubs one after the other over one file, driven by hand."""

    def __init__(self, path):
        self.path = str(path)
        self.now = 0.0
        self.woken = 0
        self.begin()

    def begin(self):
        """Start a hub, and let it take over what is left."""
        self.file = JournalFile(self.path, mode=0o640, wake=self.wake)
        self.state = State(LayerOptions(), lambda: self.now)
        left = self.file.read()
        self.state.inherit(left, LASTING, self.file)
        self.file.open(self.state.to_journal)

    def wake(self):
        self.woken += 1

    def kill(self):
        """Kill the hub with what it wrote."""
        self.file.flush()
        os.close(self.file._fd)
        self.begin()

    def local(self):
        """Join a process that lives with the hub."""
        return self.state.join(None, leased=False)

    def worker(self, name="w", channels=("gone",)):
        """Join a worker; return its link and what is pushed to it."""
        link = self.state.join(name, leased=True)
        found = []
        self.state.announce(link, channels)
        self.state.read(Reader(link, 100, found.append, standing=True), channels)
        return SimpleNamespace(link=link, found=found)

    def passed(self, seconds):
        """Let time pass; everybody gives signs of life."""
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            for process in self.state.processes.values():
                process.still = 0.0
            self.state.tick()


@pytest.fixture
def life(tmp_path):
    found = Life(tmp_path / "hub.journal")
    yield found
    if found.file._fd >= 0:
        os.close(found.file._fd)


def payloads_of(worker):
    return [entry.payloads[0] for entry in worker.found]


def test_connections_of_the_dead_hubs_own_process_are_offered_when_a_worker_is_there(life):
    """Who lived in the process that was killed cannot come back: nobody is waited for."""
    link = life.local()
    for name in ("a", "b", "c"):
        life.state.register(link, name, "gone", BYE)
    life.state.end(link, "b", "gone", None)
    life.kill()
    assert payloads_of(life.worker("other", ["x"])) == []
    worker = life.worker()
    assert payloads_of(worker) == [BYE, BYE]
    for entry in worker.found:
        life.state.settle(worker.link, entry.tag, (OK,), ())
    life.kill()
    life.passed(30)
    assert payloads_of(life.worker()) == []


def test_an_accepted_connection_is_written_before_the_accept_can_leave(life):
    """A registration of the hub's own process is in the file when the call returns."""
    life.state.register(life.local(), "a", "gone", BYE)
    assert replay(life.file.file.read_bytes())[0].orphans == {"a": ("gone", BYE)}


def test_who_rejoins_speaks_for_its_connections(life):
    """Connections of a process that lives on are its own again, and are not offered."""
    gateway = life.state.join("p_g", leased=True)
    life.state.register(gateway, "a", "gone", BYE)
    life.kill()
    worker = life.worker()
    again = life.state.join("p_g", leased=True)
    life.passed(30)
    assert payloads_of(worker) == []
    life.state.end(again, "a", "gone", LEFT)
    assert payloads_of(worker) == [LEFT]


def test_who_does_not_rejoin_within_a_lease_is_lost(life):
    """Its disconnects are offered after one lease time, not before; its name is used up."""
    gateway = life.state.join("p_g", leased=True)
    life.state.register(gateway, "a", "gone", BYE)
    life.kill()
    worker = life.worker()
    life.passed(9)
    assert payloads_of(worker) == []
    life.passed(2)
    assert payloads_of(worker) == [BYE]
    assert life.state.join("p_g", leased=True).process.name != "p_g"


def test_who_rejoins_and_dies_is_reaped(life):
    """What it had registered with the hub before stands under its lease again."""
    gateway = life.state.join("p_g", leased=True)
    life.state.register(gateway, "a", "gone", BYE)
    life.kill()
    worker = life.worker()
    life.state.cut(life.state.join("p_g", leased=True))
    assert payloads_of(worker) == [BYE]


def test_offered_and_not_settled_is_offered_again(life):
    """A disconnect that waited, or was in the hands of a worker that died, is offered again."""
    link = life.local()
    life.state.end(link, "waits", "gone", BYE)
    worker = life.worker()
    life.state.settle(worker.link, worker.found[0].tag, (Outcome(RELEASED),), ())
    life.kill()
    other = life.worker("other")
    assert payloads_of(other) == []  # w may have it in hand
    life.passed(11)
    assert payloads_of(other) == [BYE]


def test_all_workers_are_back_and_none_has_it(life):
    """Nobody is waited for longer than until all workers that there were are back."""
    worker = life.worker()
    life.state.end(life.local(), "a", "gone", BYE)
    assert payloads_of(worker) == [BYE]
    life.kill()
    assert payloads_of(life.worker()) == [BYE]


def test_a_worker_that_has_it_in_hand_keeps_it(life):
    """What a worker claims is given to nobody else, and it settles it with the new hub."""
    worker = life.worker()
    life.state.end(life.local(), "a", "gone", BYE)
    tag = worker.found[0].tag
    life.kill()
    again = life.state.join("w", leased=True)
    life.state.claim(again, [tag], [])
    worker = life.worker()
    life.passed(30)
    assert payloads_of(worker) == []
    assert life.state.settle(again, tag, (OK,), ())
    life.kill()
    life.passed(30)
    assert payloads_of(life.worker()) == []


def test_a_claim_ends_with_its_worker(life):
    """A worker that dies with a claim loses it: the disconnect is offered to another."""
    worker = life.worker()
    life.state.end(life.local(), "a", "gone", BYE)
    tag = worker.found[0].tag
    life.kill()
    again = life.state.join("w", leased=True)
    life.state.claim(again, [tag], [])
    other = life.worker("other")
    life.state.announce(again, ["gone"])
    assert payloads_of(other) == []
    life.state.cut(again)
    assert payloads_of(other) == [BYE]


def test_a_settlement_that_the_dead_hub_did_not_hear(life):
    """A worker that says it has settled a disconnect has, whatever the journal says."""
    worker = life.worker()
    life.state.end(life.local(), "a", "gone", BYE)
    tag = worker.found[0].tag
    life.kill()
    again = life.state.join("w", leased=True)
    life.state.claim(again, [], [tag])
    worker = life.worker()
    life.passed(30)
    assert payloads_of(worker) == []
    assert life.state.owes == 0


def test_an_end_that_is_said_again_is_offered_once(life):
    """A gateway that does not know whether its word arrived says it to the next hub too."""
    worker = life.worker()
    gateway = life.state.join("p_g", leased=True)
    for name in ("a", "b"):
        life.state.register(gateway, name, "gone", BYE)
    life.state.end(gateway, "a", "gone", LEFT)
    life.state.settle(worker.link, worker.found[0].tag, (OK,), ())
    life.kill()
    worker = life.worker()
    again = life.state.join("p_g", leased=True)
    life.state.end_again(again, "a", "gone", LEFT)
    life.state.end_again(again, "b", "gone", LEFT)
    life.state.end_again(again, "never registered", "gone", LEFT)
    life.passed(30)
    assert payloads_of(worker) == [LEFT, LEFT]


def test_nobody_announces_the_channel_any_more(life):
    """What nobody announces within a lease is dropped, counted, and the journal forgets it."""
    life.state.end(life.local(), "a", "gone", BYE)
    life.state.register(life.local(), "b", "gone", BYE)
    life.kill()
    worker = life.worker("other", ["x"])
    life.passed(12)
    assert life.state.drops["unrouted"] == 2
    assert payloads_of(worker) == []
    assert life.state.owes == 0
    life.kill()
    assert not replay(life.file.file.read_bytes())[0]


def test_a_second_death_loses_nothing(life):
    """What a successor has not yet offered stands in its own journal too."""
    life.state.register(life.local(), "a", "gone", BYE)
    gateway = life.state.join("p_g", leased=True)
    life.state.register(gateway, "b", "gone", BYE)
    life.state.end(gateway, "c", "gone", LEFT)
    for _ in range(3):
        life.kill()
    worker = life.worker()
    assert sorted(payloads_of(worker)) == [BYE, LEFT]
    life.passed(11)
    assert sorted(payloads_of(worker)) == [BYE, BYE, LEFT]


def test_it_is_written_anew_as_it_grows(life):
    """Connections that come and go leave a bounded file, and it says what stands."""
    link = life.local()
    life.state.register(link, "stays", "gone", BYE)
    worker = life.worker()
    biggest = 0
    for number in range(20_000):
        name = f"websocket.send.p_AbCdEfGhIjKl!{number}"
        life.state.register(link, name, "gone", BYE)
        life.state.end(link, name, "gone", LEFT)
        life.state.settle(worker.link, worker.found[-1].tag, (OK,), ())
        life.file.flush()
        biggest = max(biggest, life.file.size)
    assert biggest <= LEAST + 1024
    assert life.file.size == life.file.file.stat().st_size
    left = replay(life.file.file.read_bytes())[0]
    assert (left.orphans, left.offered) == ({"stays": ("gone", BYE)}, {})


def test_one_write_a_turn(life):
    """It asks to be written once, whatever is said until it is."""
    gateway = life.state.join("p_g", leased=True)
    for number in range(10):
        life.state.register(gateway, str(number), "gone", BYE)
    assert life.woken == 1
    size = life.file.size
    life.file.flush()
    assert life.file.size > size
    life.state.register(gateway, "later", "gone", BYE)
    assert life.woken == 2


def test_what_is_torn_is_skipped(life, caplog):
    """A record that its hub was killed in is skipped with a line, and the rest is delivered."""
    life.state.register(life.local(), "a", "gone", BYE)
    life.file.file.write_bytes(life.file.file.read_bytes() + pack((SETTLED, 1))[:-1])
    life.kill()
    assert "the last 10 of" in caplog.text
    assert payloads_of(life.worker()) == [BYE]


def test_a_corrupt_journal_stops_nothing(life, caplog):
    """What is no journal is skipped with a line; a new one is begun."""
    life.file.file.write_bytes(b"\xff" * 1000)
    life.kill()
    assert "the last 1000 of 1000 bytes" in caplog.text
    life.state.register(life.local(), "a", "gone", BYE)
    life.kill()
    assert payloads_of(life.worker()) == [BYE]


def test_what_cannot_be_read_or_written_stops_nothing(tmp_path, caplog):
    """A directory in its place is logged; the hub works without, and tries again."""
    path = tmp_path / "hub.journal"
    path.mkdir()
    life = Life(path)
    assert "cannot be read" in caplog.text
    assert "cannot be written" in caplog.text
    life.state.register(life.local(), "a", "gone", BYE)
    path.rmdir()
    life.file._retry = 0.001  # its pause is over
    life.file.flush()
    assert replay(path.read_bytes())[0].orphans == {"a": ("gone", BYE)}
    os.close(life.file._fd)


def test_a_full_disk(life, caplog):
    """A write that fails is logged once; when there is room again nothing is missing."""
    life.state.register(life.local(), "a", "gone", BYE)
    os.close(life.file._fd)
    life.file._fd = os.open("/dev/full", os.O_WRONLY)
    life.state.register(life.local(), "b", "gone", BYE)
    assert "No space left on device" in caplog.text
    life.state.register(life.local(), "c", "gone", BYE)
    life.file._retry = 0.001
    life.file.flush()
    assert set(replay(life.file.file.read_bytes())[0].orphans) == {"a", "b", "c"}


def test_killed_while_the_disk_is_full(life, caplog):
    """What was written before stays for a successor; the log says what that costs."""
    link = life.local()
    life.state.register(link, "a", "gone", BYE)
    os.close(life.file._fd)
    life.file._fd = os.open("/dev/full", os.O_WRONLY)
    life.state.register(link, "b", "gone", b"later")
    life.begin()
    assert payloads_of(life.worker()) == [BYE]
    assert "of connections since then are lost, and those told since then are told again" in (
        caplog.text
    )


def test_nothing_is_left_behind_once_all_is_settled(life):
    """A stop that owes nothing removes the file, one that owes leaves what it owes."""
    link = life.local()
    life.state.register(link, "a", "gone", BYE)
    life.state.cut(link)
    life.file.close(keep=life.state.owes > 0)
    assert len(replay(life.file.file.read_bytes())[0].offered) == 1
    life.begin()
    worker = life.worker()
    life.state.settle(worker.link, worker.found[0].tag, (OK,), ())
    life.file.close(keep=life.state.owes > 0)
    assert not life.file.file.exists()


def test_its_mode_is_the_sockets(life):
    """Who may read the socket may read the journal, nobody else, and nobody may run it."""
    assert stat.S_IMODE(life.file.file.stat().st_mode) == 0o640


def test_a_pin_ends_with_the_hub(life):
    """What was pinned is offered to anybody by a successor, and says so."""
    link = life.local()
    worker = life.worker("p_w")
    for name in ("open", "ended"):
        life.state.register(link, name, "gone", BYE)
        life.state.pin(link, name, "pin.p_w")
    life.state.end(link, "ended", "gone", LEFT)
    assert payloads_of(worker) == []  # it waits on a channel of the worker's own
    life.kill()
    life.kill()
    found = payloads_of(life.worker("p_w"))
    assert sorted(found) == sorted([codec.unpinned(BYE), codec.unpinned(LEFT)])


def test_a_claim_of_what_was_pinned_ends_with_its_worker(life):
    """A worker that dies with a claim of what was pinned to it loses it to another, who hears that
    it was.
    """
    link = life.local()
    first = life.state.join("p_w", leased=True)
    second = life.state.join("p_w", leased=True)
    life.state.announce(first, ["gone"])
    life.state.register(link, "a", "gone", BYE)
    life.state.pin(link, "a", "pin.p_w")
    life.state.end(link, "a", "gone", LEFT)
    entry = life.state.pull(first, ["pin.p_w"])
    life.state.cut(first)
    life.state.claim(second, [entry.tag], [])
    other = life.worker("other")
    assert life.state.pull(second, ["pin.p_w"]) is None
    life.state.cut(second)
    assert payloads_of(other) == [codec.unpinned(LEFT)]
