"""The settings of the websocket plugin."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.core.origins import Origins


class WebsocketConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[websocket]``: limits, times, who may connect, compression."""

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
            description="Bytes of one message, inflated and all its frames together; a larger "
            "one closes with 1009. 1,000,000: the layer carries 1 MiB (layer.message_bytes, to "
            "be raised first), the rest is for path and addresses.",
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
    message_rate: Annotated[
        float,
        Meta(
            ge=0,
            description="Messages a second, pings and fragments among them, that a client may "
            "send for long; more close with 1008. 20,000: twice what one connection gets "
            "echoed; beyond it is no conversation. 0: any number.",
        ),
    ] = 20_000.0
    message_burst: Annotated[
        int,
        Meta(
            ge=1,
            description="Messages that may come at once, on top of the rate. 20,000: a second's "
            "worth, what a client may have saved up while its network was away.",
        ),
    ] = 20_000
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Web pages that may open a WebSocket: origins (https://example.org, "
            'https://*.example.org for subdomains, http://localhost:* for any port), "same-host" '
            'for pages of the host that is asked, "null" for pages without an origin, "*" for '
            "any page. Others are refused 403: with the cookies of your users they could do "
            "whatever these may. Clients that are no browsers send no origin and are let in."
        ),
    ] = ("same-host",)
    compression: Annotated[
        Literal["off", "deflate"],
        Meta(
            description="deflate: permessage-deflate (RFC 7692) with clients that offer it. off: "
            "most messages are short, and CPU is dearer than bytes in a data centre."
        ),
    ] = "off"
    compression_level: Annotated[
        int,
        Meta(
            ge=1,
            le=9,
            description="Effort of deflate. 3: level 6 makes 4 KiB of JSON a seventh smaller in "
            "twice the time.",
        ),
    ] = 3
    compression_min: Annotated[
        int,
        Meta(
            ge=1,
            description="Bytes from which on a message is compressed. 128: below, deflate saves "
            "some dozens of bytes, in packets that are sent anyway.",
        ),
    ] = 128
    compression_window: Annotated[
        int,
        Meta(
            ge=9,
            le=15,
            description="Bits of the window that either side compresses with. 12: 4 KiB, nearly "
            "as good as 15 for messages of its size, while deflate works in 32 KiB; in 256 KiB "
            "with 15, which cost 50 microseconds a message to get.",
        ),
    ] = 12
    compression_context: Annotated[
        bool,
        Meta(
            description="Whether a message may refer to those before it (context takeover). Short "
            "messages that resemble each other shrink far more; but each connection keeps the "
            "memory of compression_window (44 KiB with 12, 250 KiB with 15), and a group's "
            "message is compressed anew for each member."
        ),
    ] = False
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

    def __post_init__(self) -> None:
        """Raise ValueError for an origin that is none."""
        Origins(self.origins)
