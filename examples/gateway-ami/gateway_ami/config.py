"""The settings of ami; their descriptions are the reference."""

from typing import Annotated

from msgspec import Meta, Struct


class AmiConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[ami]``: where managers connect."""

    listen: Annotated[
        str | tuple[str, ...], Meta(description="Endpoints; tls: before one is TLS.")
    ] = "127.0.0.1:5038"
    login_timeout: Annotated[float, Meta(description="Seconds to log in. 30: Asterisk's.")] = 30.0
