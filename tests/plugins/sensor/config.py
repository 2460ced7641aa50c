"""Settings of the sensor plugin."""

from typing import Annotated

import msgspec
from msgspec import Meta


class SensorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: Annotated[str, Meta(description="Where sensors connect.")] = "127.0.0.1:7000"
    max_connections: Annotated[int, Meta(ge=1, description="Sensors at once.")] = 1000
