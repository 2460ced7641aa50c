"""What a child process of the supervisor is told, and how it hears from it later.

A child is stopped over its line and takes no notice of SIGTERM, SIGINT and SIGHUP: process
managers and terminals send those to every process at once, and a stop has an order
(`gateway.core.supervisor`).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from itertools import chain
from typing import Final, Literal, NoReturn

import msgspec

log = logging.getLogger("gateway.child")

VARIABLE: Final = "_GATEWAY_CHILD"
LAYER_VARIABLE: Final = "GATEWAY_LAYER_URL"
"""Where the layer is, for the application's own code in this process and those it starts."""
STOP: Final = b"S"
"""What the supervisor says to a child that is to drain and end."""
RELOAD: Final = b"R"
"""What the supervisor says to the gateway process that is to load its files again."""
DRAINED: Final = b"D"
"""What the gateway process says on its line when only its hub is left."""
READY: Final = b"W"
"""What a child says once it serves; a worker, once its channels are announced and taken."""
WORN: Final = b"N"
"""What a worker says that has reached a limit of its settings, and is to be replaced."""
CUT_OFF: Final = b"C"
"""What a worker says that ends although consumers run."""
CANNOT: Final = b"!"
"""What a worker says that cannot start; its words up to the end say why."""
CANNOT_START: Final = 2
"""The exit status of a process that said what is wrong with its settings."""
MARGIN: Final = 5.0
"""Seconds beyond its grace after which a child that does not end is killed."""

Role = Literal["gateway", "hub", "worker"]


class Orders(msgspec.Struct, frozen=True):
    """What a child process is told, in the variable ``_GATEWAY_CHILD``; descriptors are open."""

    role: Role
    number: int
    parent: int
    """The child's end of its socket pair."""
    hub: int = -1
    """The hub's listening socket, for the process that the hub lives in."""
    listen: dict[str, list[list[int]]] = {}
    """The listening sockets of each plugin's endpoints, in their order."""
    first: bool = True
    """Whether this child was never started before: then it may say what it serves."""
    generation: int = 1
    """The number of the reload that it belongs to; 1: the start."""


def orders(environ: MutableMapping[str, str] = os.environ) -> Orders | None:
    """Take what this process was told as a child; None if it is no child."""
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    found = msgspec.json.decode(text, type=Orders)
    for descriptors in ([found.parent, found.hub], *chain(*found.listen.values())):
        for descriptor in descriptors:
            if descriptor >= 0:
                os.set_inheritable(descriptor, False)
    return found


def leave_signals_to_the_supervisor() -> None:
    """Take no notice of SIGTERM, SIGINT and SIGHUP. On the main thread.

    By handlers that do nothing: what is ignored outright stays so in programs that consumers
    start.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, nothing)


def nothing(number: int, frame: object) -> None:
    """Do nothing about a signal."""


def wait_for_stop(line: socket.socket, seconds: float | None = None) -> bool:
    """Block until the supervisor says so, hangs up or dies, and return True.

    False once ``seconds`` are over.
    """
    line.settimeout(seconds)
    try:
        hear(line)
    except TimeoutError:
        return False
    return True


def say(line: socket.socket, words: bytes) -> None:
    """Say something to the supervisor, if it is there.

    On any thread: how long another one waits on the line (`wait_for_stop`) stays as it is.
    """
    with suppress(OSError):
        line.send(words)


def hear(line: socket.socket) -> bytes:
    """Return what the supervisor says, nothing if it hung up or died.

    One that dies before it has read what the child said resets the line.
    """
    try:
        return line.recv(64)
    except ConnectionResetError:
        return b""


def cut_off(grace: float) -> NoReturn:
    """End this process although consumers still run: the interpreter would wait for them."""
    log.warning("consumers that ran longer than %g s were cut off", grace)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)
