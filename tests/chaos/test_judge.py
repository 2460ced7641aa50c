"""The judge of a chaotic run sees what it is to see."""

from __future__ import annotations

import pytest

from tests.chaos.judge import Entry, Request, Socket, judge

A, B = 101, 102
"""Workers; B was killed."""
GATEWAY = 103


def entries(*lines: str) -> list[Entry]:
    return [
        Entry(kind, subject, int(number), int(pid))
        for kind, subject, number, pid in (line.split() for line in lines)
    ]


FINE = entries(
    f"connect s 0 {A}",
    f"receive s 1 {A}",
    f"receive s 2 {B}",
    f"disconnect s 0 {A}",
    f"request 7 0 {A}",
)
SOCKET = Socket("s", 2, (1, 2), "closed")
REQUEST = Request(7, 200)
KILLED = {B: "worker", GATEWAY: "gateway"}


def test_nothing_to_say() -> None:
    """A run in which all was handled has no fault, and its equation holds."""
    faults, terms = judge(FINE, [SOCKET], [REQUEST], KILLED)
    assert faults == []
    assert terms == {"sent": 3, "handled": 3, "told": 0}


@pytest.mark.parametrize(
    ("socket", "request_", "term"),
    [
        (Socket("s", 4, (1, 2), "told"), REQUEST, "told"),
        (Socket("s", 4, (1,), "broken"), REQUEST, "broken"),
        (Socket("s", 2, (1, 2), "closed"), Request(8, 503), "told"),
        (Socket("s", 2, (1, 2), "closed"), Request(8, None), "broken"),
    ],
)
def test_what_a_kill_may_do(socket: Socket, request_: Request, term: str) -> None:
    """What is not handled is told, or breaks off with its gateway process."""
    faults, terms = judge(FINE, [socket], [request_], KILLED)
    assert faults == []
    assert terms[term] > 0


@pytest.mark.parametrize(
    ("changed", "socket", "request_", "says"),
    [
        (FINE, Socket("s", 3, (1, 2), "closed"), REQUEST, "in silence"),
        (FINE[:2] + FINE[3:], Socket("s", 2, (1, 2), "told"), REQUEST, "heard (1, 2) of [1]"),
        (FINE[:1] + FINE[2:], Socket("s", 2, (2,), "told"), REQUEST, "not 1, 2, 3"),
        ([*FINE, FINE[2]], SOCKET, REQUEST, "not 1, 2, 3"),
        (FINE[:3] + FINE[4:], SOCKET, REQUEST, "no disconnect"),
        ([*FINE, FINE[3]], SOCKET, REQUEST, "two disconnects"),
        (FINE[1:], SOCKET, REQUEST, "without a connect"),
        ([*FINE, FINE[4]], SOCKET, REQUEST, "handled twice"),
        (FINE[:4], SOCKET, REQUEST, "nobody handled it"),
        (FINE, SOCKET, Request(8, 404), "404"),
        ([*FINE, *entries(f"receive t 1 {A}")], SOCKET, REQUEST, "no client knows"),
    ],
)
def test_what_it_may_not(
    changed: list[Entry], socket: Socket, request_: Request, says: str
) -> None:
    """Silence, doubles, disorder, a missing or a second disconnect: each is a fault."""
    faults, _ = judge(changed, [socket], [request_], KILLED)
    assert any(says in fault for fault in faults), faults


def test_a_disconnect_is_run_again_if_its_worker_was_killed() -> None:
    """It may have died before it settled: that is the one double there may be."""
    twice = [*FINE[:3], *entries(f"disconnect s 0 {B}"), *FINE[3:]]
    faults, terms = judge(twice, [SOCKET], [REQUEST], KILLED)
    assert faults == []
    assert terms["disconnects run again"] == 1


def test_connections_do_not_break_of_themselves() -> None:
    """Where no gateway process was killed every connection ends with a word."""
    faults, _ = judge(FINE, [Socket("s", 2, (1, 2), "broken")], [REQUEST], {B: "worker"})
    assert faults == []
    faults, _ = judge(FINE, [Socket("s", 3, (1, 2), "broken")], [REQUEST], {B: "worker"})
    assert faults == ["connections broke although no gateway process was killed"]
