"""The sockets of several processes that share endpoints."""

from __future__ import annotations

import contextlib
import socket

import pytest

from gateway.core.listen import parse
from gateway.core.listeners import Listeners


@pytest.fixture
def shared(tmp_path):
    """A TCP and a Unix endpoint for three processes."""
    listeners = Listeners({"a": [parse("127.0.0.1:0"), parse(f"unix:{tmp_path}/a.sock")]}, 3)
    listeners.bind()
    yield listeners
    listeners.close()


def test_each_process_has_its_own_first(shared):
    """At a TCP address each of them has its own socket, then the others'; a Unix socket is one."""
    found = [shared.descriptors(number)["a"] for number in range(3)]
    assert len({tcp[0] for tcp, _ in found}) == 3
    assert len({frozenset(tcp) for tcp, _ in found}) == 1
    assert len({tuple(unix) for _, unix in found}) == 1


def test_the_others_are_spares(shared, tmp_path):
    """A process that adopts them listens at its own, and names each place once."""
    adopted = Listeners({"a": [parse("127.0.0.1:0"), parse(f"unix:{tmp_path}/a.sock")]})
    numbers = shared.descriptors(1)
    with contextlib.ExitStack() as stack:
        copies = {
            "a": [
                [
                    stack.enter_context(
                        socket.fromfd(n, socket.AF_INET, socket.SOCK_STREAM)
                    ).detach()
                    for n in group
                ]
                for group in numbers["a"]
            ]
        }
    adopted.adopt(copies)
    try:
        assert [listen.spare for listen in adopted.endpoints("a")] == [False, True, True, False]
        assert adopted.places("a") == shared.places("a")
        assert len(adopted.places("a")) == 2
    finally:
        for groups in adopted._sockets.values():
            for sock in (sock for group in groups for sock in group):
                sock.close()
