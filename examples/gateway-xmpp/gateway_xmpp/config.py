"""The settings of xmpp; their descriptions are the reference."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class XmppConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[xmpp]``: whose bot it is, and what it is called there."""

    connect: Annotated[
        str,
        Meta(
            description="The server's port for components: HOST:PORT, or tls:HOST:PORT. What goes "
            "over it is readable unless it is this machine or TLS."
        ),
    ] = "127.0.0.1:5347"
    domain: Annotated[
        str, Meta(description="The domain that the server has given the component.")
    ] = "bot.localhost"
    secret: Annotated[
        str,
        Meta(description="The secret that both share for it.", extra={"secret": True}),
    ] = ""
    user: Annotated[
        str, Meta(min_length=1, description="The bot's name in the domain: people write to it@….")
    ] = "bot"
    max_stanza: Annotated[
        int,
        Meta(
            ge=10_000,
            description="Bytes of one stanza. 262144 is what servers let their users send; 10000 "
            "is the least that a server may allow (RFC 6120 section 13.12).",
        ),
    ] = 262_144
