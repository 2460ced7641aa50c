"""The settings of finger."""

from typing import Annotated

import msgspec
from msgspec import Meta


class FingerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[finger]``: where to listen, for how many, and for how long."""

    listen: Annotated[str | tuple[str, ...], Meta(description="Where: HOST:PORT.")] = "127.0.0.1:79"
    max_connections: Annotated[int, Meta(ge=1, description="At once. 100: it is no chat.")] = 100
    max_connections_per_address: Annotated[int, Meta(ge=1, description="Of one client's.")] = 10
    timeout: Annotated[float, Meta(gt=0, description="Seconds that people wait, in all.")] = 30.0
