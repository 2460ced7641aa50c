"""Whether every message is accounted for: what clients saw against what consumers wrote. Pure.

The equation is ``sent = handled + told + broken``: each message was handled, or its sender was
told otherwise in its protocol's words, or its connection broke because the gateway process that
held it was killed. Beside it: nothing is handled twice or out of order, and each accepted
connection has exactly one disconnect.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

End = Literal["closed", "told", "broken"]
"""Closed by the client, with every answer; by the gateway, with a close frame; or not at all."""


class Entry(NamedTuple):
    """What a consumer wrote before it answered."""

    kind: str
    subject: str
    number: int
    pid: int


class Socket(NamedTuple):
    """What a client saw of one accepted WebSocket: numbers from 1 to ``sent`` went out."""

    name: str
    sent: int
    heard: tuple[int, ...]
    end: End


class Request(NamedTuple):
    """What a client saw of one HTTP request; no status: its connection broke."""

    number: int
    status: int | None


class Verdict(NamedTuple):
    """What is wrong, and the terms of the equation."""

    faults: list[str]
    terms: Counter[str]


def read(lines: Iterable[str]) -> list[Entry]:
    """Return the ledger's entries."""
    found = []
    for line in lines:
        kind, subject, number, pid = line.split()
        found.append(Entry(kind, subject, int(number), int(pid)))
    return found


def judge(
    entries: Iterable[Entry],
    sockets: Iterable[Socket],
    requests: Iterable[Request],
    killed: Mapping[int, str],
) -> Verdict:
    """Judge a run in which the processes ``killed`` were, by their roles."""
    by_kind: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_kind[entry.kind].append(entry)
    faults: list[str] = []
    terms: Counter[str] = Counter()
    _judge_sockets(by_kind, list(sockets), faults, terms)
    _judge_disconnects(by_kind, faults, terms, killed)
    _judge_requests(by_kind["request"], requests, faults, terms)
    if terms["broken"] and "gateway" not in killed.values():
        faults.append("connections broke although no gateway process was killed")
    sent = terms["sent"]
    if sent != terms["handled"] + terms["told"] + terms["broken"]:
        faults.append(f"sent {sent} is not handled + told + broken: {dict(terms)}")
    return Verdict(faults, terms)


def _judge_sockets(
    by_kind: dict[str, list[Entry]],
    sockets: list[Socket],
    faults: list[str],
    terms: Counter[str],
) -> None:
    handled: dict[str, list[int]] = defaultdict(list)
    for entry in by_kind["receive"]:
        handled[entry.subject].append(entry.number)
    disconnected = {entry.subject for entry in by_kind["disconnect"]}
    for socket in sockets:
        numbers = handled.pop(socket.name, [])
        left = socket.sent - len(numbers)
        terms["sent"] += socket.sent
        terms["handled"] += len(numbers)
        if numbers != list(range(1, len(numbers) + 1)):
            faults.append(f"{socket.name}: handled {numbers}, which is not 1, 2, 3, …")
        if list(socket.heard) != numbers[: len(socket.heard)]:
            faults.append(f"{socket.name}: heard {socket.heard} of {numbers}")
        if socket.end == "closed" and (left or len(socket.heard) != socket.sent):
            faults.append(f"{socket.name}: {socket.sent} sent, {len(numbers)} handled, in silence")
        terms["broken" if socket.end == "broken" else "told"] += left
        if socket.name not in disconnected:
            faults.append(f"{socket.name}: accepted, and it has no disconnect ({socket.end})")
    faults += [f"{name}: messages of a connection that no client knows" for name in handled]


def _judge_disconnects(
    by_kind: dict[str, list[Entry]],
    faults: list[str],
    terms: Counter[str],
    killed: Mapping[int, str],
) -> None:
    connected = {entry.subject for entry in by_kind["connect"]}
    runs: dict[str, list[int]] = defaultdict(list)
    for entry in by_kind["disconnect"]:
        runs[entry.subject].append(entry.pid)
    for name, pids in runs.items():
        if name not in connected:
            faults.append(f"{name}: a disconnect without a connect")
        for pid in pids[:-1]:
            if pid in killed:  # it may have died before it settled: then another one ran it
                terms["disconnects run again"] += 1
            else:
                faults.append(f"{name}: two disconnects, by {pids}")


def _judge_requests(
    entries: Iterable[Entry],
    requests: Iterable[Request],
    faults: list[str],
    terms: Counter[str],
) -> None:
    handled = Counter(int(entry.subject) for entry in entries)
    faults += [f"request {number}: handled twice" for number, n in handled.items() if n > 1]
    for number, status in requests:
        terms["sent"] += 1
        if handled[number]:
            terms["handled"] += 1
        elif status == 200:
            faults.append(f"request {number}: answered 200, and nobody handled it")
        elif status is None:
            terms["broken"] += 1
        elif status in {500, 503, 504}:
            terms["told"] += 1
        else:
            faults.append(f"request {number}: {status}")
