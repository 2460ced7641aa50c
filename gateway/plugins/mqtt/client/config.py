"""The settings of one broker: ``[mqtt.brokers.NAME]``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Broker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A broker that the gateway joins."""

    connect: Annotated[
        str, Meta(description="Where it is: ``broker.example:1883``, ``tls:broker.example:8883``.")
    ]
