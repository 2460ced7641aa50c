"""When mails are tried, and how many connections there are: pure, on a clock of the test's."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.plugins.email.client.config import Delivery, Smarthost
from gateway.plugins.email.client.destinations import Destination, destination, is_public, parted
from gateway.plugins.email.client.envelope import Entry, Recipient
from gateway.plugins.email.client.queue import Queue

A, B = Destination(domain="a.example"), Destination(domain="b.example")


def queue(**more) -> Queue:
    return Queue(Delivery(**{"retry_first": 10.0, "retry_longest": 100.0, **more}))


def test_a_mail_is_tried_when_it_is_due():
    """Nothing is begun before a mail is due, and the queue says when that is."""
    q = queue()
    q.put("m", {A: 5.0}, 0.0)
    assert not list(q.begin(4.9))
    assert q.next_alarm() == 5.0
    [lane] = q.begin(5.0)
    part = q.next(lane, 5.0)
    assert (part.name, part.destination) == ("m", A)
    assert q.next(lane, 5.0) is None
    q.done(part)
    q.ended(lane)
    assert len(q) == 0
    assert q.next_alarm() is None


def test_a_mail_put_twice_is_tried_once():
    """A mail that is put again while it waits, or while it is tried, is not tried beside itself."""
    q = queue()
    for _ in range(3):
        q.put("m", {A: 0.0}, 0.0)
    [lane] = q.begin(1.0)
    part = q.next(lane, 1.0)
    q.put("m", {A: 0.0}, 0.0)
    assert q.next(lane, 1.0) is None
    assert not list(q.begin(2.0))
    q.again(part, 9.0)
    q.ended(lane)
    assert not list(q.begin(8.9))
    [lane] = q.begin(9.0)
    assert q.next(lane, 9.0) is part
    assert q.next(lane, 9.0) is None


def test_of_what_is_done_nothing_is_left():
    """Of a destination for which nothing waits nothing is kept, though it was never reached."""
    q = queue()
    q.put("m", {A: 0.0}, 0.0)
    [lane] = q.begin(1.0)
    part = q.next(lane, 1.0)
    q.failed(lane, 1.0, "no")
    q.again(part, 50.0)
    q.ended(lane)
    assert q[A] is lane
    [lane] = q.begin(200.0)
    q.done(q.next(lane, 200.0))
    q.ended(lane)
    assert q[A] is None


def test_connections_are_bounded():
    """There are no more connections to one destination, or to all, than may be."""
    q = queue(connections=5, connections_per_destination=2)
    for number in range(10):
        q.put(f"a{number}", {A: 0.0}, 0.0)
        q.put(f"b{number}", {Destination(domain=f"b{number}"): 0.0}, 0.0)
    begun = []
    for _ in range(3):
        begun += q.begin(1.0)
    count = Counter(lane.destination for lane in begun)
    assert (len(begun), q.active) == (5, 5)
    assert count[A] <= 2
    q.ended(begun[0])
    assert len(list(q.begin(1.0))) == 1


def test_one_probe_where_nothing_came_through():
    """Where a connection failed, nothing is tried before its time, and then by one connection."""
    q = queue(connections_per_destination=3)
    for number in range(5):
        q.put(f"m{number}", {A: 0.0}, 0.0)
    lanes = [*q.begin(0.0), *q.begin(0.0), *q.begin(0.0)]
    assert len(lanes) == 3
    lane = lanes[0]
    part = q.next(lane, 0.0)
    until = q.failed(lane, 0.0, "no")
    q.again(part, until)
    for one in lanes:
        q.ended(one)
    assert 6.6 < until <= 10.0
    assert not list(q.begin(until - 0.01))
    [probe] = [*q.begin(until), *q.begin(until)]
    q.came_through(probe)
    assert q.next(probe, until).name == "m1"  # not the one that was tried before
    q.ended(probe)
    assert len([*q.begin(until), *q.begin(until)]) == 2


def test_waits_double_to_a_bound():
    """Each wait is twice as long as the one before, less up to a third, and bounded."""
    q = queue()
    waits = [q.wait(tries) for tries in range(1, 8)]
    for wait, most in zip(waits, [10, 20, 40, 80, 100, 100, 100], strict=True):
        assert most * 2 / 3 <= wait <= most
    assert q.wait(10_000) <= 100


def test_what_is_overdue_is_taken():
    """Mails from before a time are taken from a lane at once, whenever they are due."""
    q = queue()
    q.put("old", {A: 1000.0}, 0.0)
    q.put("new", {A: 1000.0}, 50.0)
    lane = next(q.lanes())
    assert [part.name for part in q.overdue(lane, 10.0)] == ["old"]
    assert list(q.overdue(lane, 10.0)) == []


def test_dropped_and_hurried():
    """A dropped mail is not tried; a hurried one at once, though its destination waits."""
    q = queue()
    q.put("m", {A: 0.0}, 0.0)
    [lane] = q.begin(0.0)
    part = q.next(lane, 0.0)
    q.again(part, q.failed(lane, 0.0, "no"))
    q.ended(lane)
    q.put("m", {A: 0.0}, 0.0)
    assert not list(q.begin(1.0))
    q.hurry("m")
    [lane] = q.begin(1.0)
    assert q.next(lane, 1.0).name == "m"
    q.drop("m")
    q.ended(lane)
    assert "m" not in q


@given(
    st.lists(
        st.tuples(st.sampled_from("pbndafhx"), st.integers(0, 5), st.sampled_from([A, B])),
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_or_tried_twice_at_once(steps):
    """Whatever happens, a mail is in one hand at most, and what is not done is tried in the end."""
    q = queue(connections=3, connections_per_destination=2)
    now, held, lanes, wanted = 0.0, {}, [], set()
    for what, number, where in steps:
        now += number
        key = (f"m{number}", where)
        if what == "p":
            q.put(
                key[0],
                {where: now} | {d: now for n, d in wanted if n == key[0] and d != where},
                now,
            )
            wanted.add(key)
        elif what == "b":
            lanes += q.begin(now)
        elif what == "n" and lanes:
            lane = lanes[number % len(lanes)]
            part = q.next(lane, now)
            if part is not None:
                found = (part.name, part.destination)
                assert found not in held
                assert found in wanted
                held[found] = part
        elif what == "d" and held:
            key, part = held.popitem()
            q.done(part)
            wanted.discard(key)
        elif what == "a" and held:
            q.again(held.popitem()[1], now + number)
        elif what == "f" and lanes:
            q.failed(lanes[0], now, "no")
        elif what == "h":
            q.hurry(key[0])
        elif what == "x" and lanes:
            q.ended(lanes.pop(0))
        assert len(lanes) <= 3
        assert max(Counter(lane.destination for lane in lanes).values(), default=0) <= 2
    for part in held.values():
        q.again(part, now)
    for lane in lanes:
        q.ended(lane)
    seen = set()
    for _ in range(100):
        now += 1000.0
        for lane in q.begin(now):
            while (part := q.next(lane, now)) is not None:
                seen.add((part.name, part.destination))
                q.done(part)
            q.ended(lane)
    assert seen == wanted
    assert len(q) == q.active == 0


# ------------------------------------------------ destinations


def test_smarthosts_by_domain():
    """The most fitting smarthosts take a recipient's mail; without one its domain does."""
    hosts = {
        "own": Smarthost(connect="a:1", domains=("example.org", ".example.org")),
        "one": Smarthost(connect="b:1"),
        "two": Smarthost(connect="c:1"),
    }
    assert destination("a@EXAMPLE.org", hosts).smarthosts == ("own",)
    assert destination("a@b.example.org", hosts).smarthosts == ("own",)
    assert destination("a@notexample.org", hosts).smarthosts == ("one", "two")
    assert str(destination("a@b.c", {"own": hosts["own"]})) == "b.c"
    assert destination("a@[192.0.2.1]", {}).domain == "192.0.2.1"


def test_recipients_are_parted():
    """The recipients of a mail that wait are parted by where they are."""
    recipients = [Recipient(address=one) for one in ("a@a.example", "b@b.example", "c@a.example")]
    recipients.append(Recipient(address="d@a.example", state="failed"))
    entry = Entry(id="i", mail_from="", created=0.0, size=1, recipients=recipients)
    found = {str(d): [r.address for r in rs] for d, rs in parted(entry, {}).items()}
    assert found == {"a.example": ["a@a.example", "c@a.example"], "b.example": ["b@b.example"]}


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "224.0.0.1", "100.64.0.1", "::"],
)  # fmt: skip
def test_private_addresses(address):
    """An address of no public network is told, in whatever way it is written."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808"])
def test_public_addresses(address):
    """An address of the Internet's is told."""
    assert is_public(address)
