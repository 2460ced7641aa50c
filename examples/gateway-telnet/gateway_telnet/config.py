"""The settings of telnet."""

from typing import Annotated

import msgspec
from msgspec import Meta


class TelnetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[telnet]``: where to listen, and for how many."""

    listen: Annotated[str | tuple[str, ...], Meta(description="HOST:PORT.")] = "127.0.0.1:2323"
    max_connections: Annotated[int, Meta(ge=1, description="At once. 1000: people type.")] = 1000
