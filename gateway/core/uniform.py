"""The uniform reply: what every reply channel and every address understands. Pure."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from gateway.core.names import PIN_PATTERN


class UniformReply(TypedDict, total=False):
    """What any conversation understands, so that one consumer can serve all protocols.

    A plugin's ``REPLY`` is this, or a TypedDict on it with the protocol's own keys, or one of its
    own where the protocol cannot do some of it.
    """

    text: Annotated[str, Meta(description="Send this text. Not together with ``bytes``.")]
    bytes: Annotated[bytes, Meta(description="Send these bytes.")]
    accept: Annotated[bool, Meta(description="Accept or refuse what waits for a decision.")]
    close: Annotated[
        bool | int, Meta(description="End it, after sending; a number is the protocol's own code.")
    ]
    pin: Annotated[
        str,
        Meta(
            pattern=PIN_PATTERN,
            description="From now on its messages go to one worker process: `pin.` and the name "
            "of that process on the layer. In a direct reply only.",
        ),
    ]
    ack: Annotated[int, Meta(description="Report under this number when it is done.")]
    ack_channel: Annotated[str, Meta(description="Where to report, a ``?`` channel.")]
