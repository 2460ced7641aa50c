"""The settings of udp."""

from typing import Annotated

import msgspec
from msgspec import Meta


class UdpConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[udp]``: where to listen, and for how long to remember."""

    listen: Annotated[
        str | tuple[str, ...], Meta(description="Where: udp:HOST:PORT, one or several.")
    ] = "udp:127.0.0.1:7000"
    idle_timeout: Annotated[
        float, Meta(gt=0, description="Seconds without a datagram after which a peer is forgotten.")
    ] = 60.0
