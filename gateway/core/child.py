"""What a child process of the supervisor is told, and how it notices that it is not needed."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import MutableMapping
from typing import Final, Literal

import msgspec

VARIABLE: Final = "_GATEWAY_CHILD"
DRAINED: Final = b"D"
"""What the gateway process says on its line when only its hub is left."""
CANNOT_START: Final = 2
"""The exit status of a process that said what is wrong with its settings."""
MARGIN: Final = 5.0
"""Seconds beyond its grace after which a child that does not end is killed."""

Role = Literal["gateway", "worker"]


class Orders(msgspec.Struct, frozen=True):
    """What a child process is told, in the variable ``_GATEWAY_CHILD``; descriptors are open."""

    role: Role
    number: int
    parent: int
    """The child's end of its socket pair."""
    hub: int = -1
    """The hub's listening socket."""
    listen: dict[str, list[int]] = {}
    """Each plugin's listening sockets, in the order of its endpoints; -1: not bound."""
    first: bool = True
    """Whether this child was never started before: then it may say what it serves."""


def orders(environ: MutableMapping[str, str] = os.environ) -> Orders | None:
    """Take what this process was told as a child; None if it is no child."""
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    found = msgspec.json.decode(text, type=Orders)
    for descriptors in ([found.parent, found.hub], *found.listen.values()):
        for descriptor in descriptors:
            if descriptor >= 0:
                os.set_inheritable(descriptor, False)
    return found


def watch_parent(descriptor: int, grace: float) -> None:
    """End this process once the supervisor hangs up or dies: SIGTERM, and death after ``grace``.

    Watches on a thread of its own, so that nothing that blocks the process hides it.
    """

    def watch() -> None:
        with socket.socket(fileno=descriptor) as line:
            while line.recv(64):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace + MARGIN)
        os._exit(1)

    threading.Thread(target=watch, name="gateway-parent", daemon=True).start()
