"""Whether the other end of a TCP connection is still there: what its machine acknowledges.

A peer that vanishes without a word (a phone without a network, a cable pulled) ends nothing: the
kernel sends again what is not acknowledged, for about 15 minutes. How long nothing came meanwhile
it tells (``tcp_info`` in ``linux/tcp.h``)::

    0        8         24           28        56                 60
    │ 8 u8   │ 4 u32   │ unacked    │ 7 u32   │ last_ack_recv ms │ …

A peer that is there and reads nothing acknowledges all the same: its window is closed then, and
nothing is on its way.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any, Final

_OPTION: Final = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_UNACKED: Final = 24
_LAST_ACK: Final = 56
_SIZE: Final = _LAST_ACK + 4


def unheard(sock: Any) -> float:
    """Return the seconds for which nothing was heard of a peer that owes an acknowledgement.

    0.0 where it owes none, and where the system, or the kind of the socket, cannot tell.
    """
    if _OPTION is None or sock is None or sock.family == socket.AF_UNIX:
        return 0.0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _OPTION, _SIZE)
    except OSError:
        return 0.0  # it is closed, which its owner hears by itself
    if len(info) < _SIZE or not struct.unpack_from("=I", info, _UNACKED)[0]:
        return 0.0
    return float(struct.unpack_from("=I", info, _LAST_ACK)[0]) / 1000
