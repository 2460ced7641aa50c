"""The settings of the sse plugin."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.core.origins import Origins


class SseConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[sse]``: limits, times, who may listen."""

    paths: Annotated[
        tuple[str, ...],
        Meta(
            description="Path prefixes at which event streams may be opened; a request elsewhere "
            "is an ordinary http.request."
        ),
    ] = ("/",)
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Web pages that may open a stream and read it: origins "
            "(https://example.org, https://*.example.org for subdomains, http://localhost:* for "
            'any port), "same-host" for pages of the host that is asked, "null" for pages without '
            'an origin, "*" for any page; the last two without cookies. Others are refused 403: '
            "with the cookies of your users they could read whatever these may. Clients that are "
            "no browsers send no origin and are let in."
        ),
    ] = ("same-host",)
    max_streams: Annotated[
        int,
        Meta(
            ge=1,
            description="Streams of one gateway process, those that wait for a decision included; "
            "more are answered 503. 10,000: as many as http.max_connections, of which one may "
            "carry a hundred over HTTP/2.",
        ),
    ] = 10_000
    max_pending: Annotated[
        int,
        Meta(
            ge=1,
            description="Streams that may wait for a decision at once; more are answered 503. "
            "1000: as many as may wait on the channel sse.connect.",
        ),
    ] = 1000
    decision_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds until an undecided stream is answered 503. 10: as for a "
            "WebSocket.",
        ),
    ] = 10.0
    implicit_accept: Annotated[
        bool,
        Meta(
            description="Whether a stream is accepted when its connect consumer returns without "
            "having decided. Off, it waits for a direct reply."
        ),
    ] = True
    max_message: Annotated[
        int,
        Meta(
            ge=1,
            description="Bytes that a client may post to its stream at once; more are answered "
            "413. 1,000,000: the layer carries 1 MiB (layer.message_bytes, to be raised first), "
            "the rest is for path and addresses.",
        ),
    ] = 1_000_000
    max_keys: Annotated[
        int,
        Meta(
            ge=0,
            description="Idempotency-Keys of one stream's posts that are remembered, the latest. "
            "32: many times what a client has under way; some 100 bytes each, where they are used.",
        ),
    ] = 32
    timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds until what was posted is answered 504 where it has no outcome. "
            "120: as for an http.request.",
        ),
    ] = 120.0
    slow_consumer: Annotated[
        Literal["close", "drop_oldest", "drop_newest"] | None,
        Meta(
            description="What happens to a client whose outbox is full. Absent: what [gateway] "
            "says of every protocol."
        ),
    ] = None
    keep_alive: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds of silence after which a comment is sent. 15: the HTML standard's "
            "advice; proxies cut what is idle for 60, some for 30. 0: never.",
        ),
    ] = 15.0

    silence: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds for which a client's machine may leave what it was sent without "
            "an acknowledgement; then it is gone: its network is, and the kernel would send again "
            "for a quarter of an hour. 60: as http.write_timeout. Looked at when a comment is due; "
            "one that is there and does not read acknowledges all the same.",
        ),
    ] = 60.0

    def __post_init__(self) -> None:
        """Raise ValueError for an origin that is none."""
        Origins(self.origins)
