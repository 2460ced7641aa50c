"""A peer that vanishes without a word: its kernel drops what comes, and acknowledges nothing."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

ATTACH_FILTER: Final = 26
"""SO_ATTACH_FILTER of Linux, which the module socket does not name."""
RETURN: Final = 6
"""BPF_RET | BPF_K: keep so many bytes of a packet."""


def deafen(sock: socket.socket) -> None:
    """Have the kernel drop every packet for a socket, as if the machine were gone."""
    nothing = ctypes.create_string_buffer(struct.pack("=HBBI", RETURN, 0, 0, 0))
    program = struct.pack("@HP", 1, ctypes.addressof(nothing))
    sock.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, program)
