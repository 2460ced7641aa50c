"""The settings of one network: ``[irc.networks.NAME]``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network that the gateway joins."""

    connect: Annotated[
        str, Meta(description="Where it is: ``irc.example:6667``, ``tls:irc.example:6697``.")
    ]
