"""The settings of the websocket plugin."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class WebsocketConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[websocket]``: limits, times, and what happens when a consumer fails."""

    paths: Annotated[
        tuple[str, ...],
        Meta(
            description="Path prefixes that may be opened as WebSockets; a handshake elsewhere "
            "is an ordinary http.request."
        ),
    ] = ("/",)
    max_frame: Annotated[
        int,
        Meta(
            ge=125,
            description="Bytes of one frame; a larger one closes with 1009. 1,000,000: as for "
            "a message, since clients seldom fragment.",
        ),
    ] = 1_000_000
    max_message: Annotated[
        int,
        Meta(
            ge=125,
            le=1_048_576,
            description="Bytes of one message, all its frames together; a larger one closes "
            "with 1009. 1,000,000: the layer carries 1 MiB, the rest is for path and addresses.",
        ),
    ] = 1_000_000
    max_fragments: Annotated[
        int,
        Meta(
            ge=1,
            description="Frames that one message may consist of; more close with 1009. 4096: "
            "full messages in frames of 256 bytes, and empty frames cannot fill the memory.",
        ),
    ] = 4096
    max_pending: Annotated[
        int,
        Meta(
            ge=1,
            description="Handshakes that may wait for a decision at once; more are answered "
            "503. 1000: as many as may wait on the channel websocket.connect.",
        ),
    ] = 1000
    decision_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds until an undecided handshake is answered 503. 10: browsers "
            "give up after about 20 to 30.",
        ),
    ] = 10.0
    implicit_accept: Annotated[
        bool,
        Meta(
            description="Whether a connection is accepted when its connect consumer returns "
            "without having decided. Off, it waits for a direct reply."
        ),
    ] = True
    on_failure: Annotated[
        Literal["close", "keep"],
        Meta(
            description="What happens to a connection when the consumer of one of its messages "
            "fails. close: 1011, or 1012 if its worker was lost; the client knows that "
            "something was not done. keep: it is only counted and logged."
        ),
    ] = "close"
    slow_consumer: Annotated[
        Literal["close", "drop_oldest", "drop_newest"] | None,
        Meta(
            description="What happens to a client whose outbox is full. Absent: what [gateway] "
            "says of every protocol."
        ),
    ] = None
    ping_interval: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds of silence before the client is pinged. 20: proxies cut what "
            "is idle for 60. 0: never.",
        ),
    ] = 20.0
    ping_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds that a pinged client has for any sign of life before it is "
            "cut off. 20: a phone changes networks in less.",
        ),
    ] = 20.0
    close_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds that a client has to answer a close and to read what precedes "
            "it. 5: several round trips of a bad network.",
        ),
    ] = 5.0
