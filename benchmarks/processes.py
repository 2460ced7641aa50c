"""What Linux tells about running processes: children, CPU time, memory, listening ports."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

_LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


def tree(root: int) -> list[int]:
    """Return ``root`` and all its descendants that live now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            # The second field, the command in parentheses, may hold spaces.
            parent = int(stat[stat.rindex(")") + 2 :].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(pid: int) -> float:
    """Return user and system time of all threads of a process, living and ended, in seconds.

    Read from the process's CPU clock (clock_getcpuclockid(3)): the sum of utime and stime of
    ``/proc/PID/stat``, in nanoseconds instead of ticks of 10 ms.
    """
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def sockets(pid: int) -> set[str]:
    """Return the inode numbers of the sockets that a process has open."""
    found = set()
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found


def listening_ports(pids: Iterable[int]) -> list[int]:
    """Return the IPv4 TCP ports that these processes listen on."""
    owned: set[str] = set().union(*(sockets(pid) for pid in pids))
    ports = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == _LISTENING and fields[9] in owned:
            ports.add(int(fields[1].rpartition(":")[2], 16))
    return sorted(ports)
