"""The settings of the longpoll plugin."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from gateway.core.origins import Origins

ENVELOPE: Final = 16384
"""Bytes of a message beside its content: the path, decoded, is the one part without a fixed size;
and of an answer beside its messages."""


class LongpollConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[longpoll]``: limits, times, who may connect."""

    paths: Annotated[
        tuple[str, ...],
        Meta(
            description="Path prefixes at which long-poll connections may be opened; a request "
            "elsewhere is an ordinary http.request."
        ),
    ] = ("/",)
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Web pages that may connect and read what comes: origins "
            "(https://example.org, https://*.example.org for subdomains, http://localhost:* for "
            'any port), "same-host" for pages of the host that is asked, "null" for pages without '
            'an origin, "*" for any page; the last two without cookies. Others are refused 403: '
            "with the cookies of your users they could do whatever these may. Clients that are no "
            "browsers send no origin and are let in."
        ),
    ] = ("same-host",)
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            description="Connections of one gateway process, those that wait for a decision "
            "included; more are answered 503. 10,000: as many as http.max_connections.",
        ),
    ] = 10_000
    max_connections_per_address: Annotated[
        int,
        Meta(
            ge=1,
            description="Of these from one address (IPv6: from one /64); more are answered 429. "
            "250: as http.max_connections_per_address, since a connection here outlives those of "
            "its requests. Addresses of this machine are not counted.",
        ),
    ] = 250
    max_pending: Annotated[
        int,
        Meta(
            ge=1,
            description="Connections that may wait for a decision at once; more are answered 503. "
            "1000: as many as may wait on the channel longpoll.connect.",
        ),
    ] = 1000
    max_message: Annotated[
        int,
        Meta(
            ge=1,
            description="Bytes of what is posted to a connection; more is answered 413. "
            "1,000,000: the layer carries 1 MiB (layer.message_bytes, to be raised first), the "
            "rest is for path and addresses.",
        ),
    ] = 1_000_000
    max_answer: Annotated[
        int,
        Meta(
            ge=1,
            description="Bytes of messages from which on an answer takes no more of them; the "
            "next poll gets the rest. 65,536: what a client has to fetch again where a response "
            "is lost. One message may be larger.",
        ),
    ] = 65_536
    max_keys: Annotated[
        int,
        Meta(
            ge=0,
            description="Idempotency-Keys of one connection that are remembered, the latest. 32: "
            "many times what a client has under way; some 100 bytes each, where they are used.",
        ),
    ] = 32
    decision_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds until an undecided request is answered 503. 10: as for a "
            "WebSocket.",
        ),
    ] = 10.0
    implicit_accept: Annotated[
        bool,
        Meta(
            description="Whether a connection is accepted when its connect consumer returns "
            "without having decided. Off, it waits for a direct reply."
        ),
    ] = True
    slow_consumer: Annotated[
        Literal["close", "drop_oldest", "drop_newest"] | None,
        Meta(
            description="What happens to a client that does not fetch what its outbox holds. "
            "Absent: what [gateway] says of every protocol."
        ),
    ] = None
    wait: Annotated[
        int,
        Meta(
            ge=0,
            description="Seconds that a poll waits which does not say how long. 25: proxies cut "
            "off what is silent for 30 or 60.",
        ),
    ] = 25
    max_wait: Annotated[
        int,
        Meta(
            ge=0,
            description="Seconds that a poll waits at most, whatever it says. 50: most proxies "
            "wait for 60.",
        ),
    ] = 50
    expires: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds without a poll after which a client is gone. 60: a page in the "
            "background may run its timers once a minute; a phone changes networks in less.",
        ),
    ] = 60.0
    farewell_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds without a poll at a shutdown after which a client that has not "
            "fetched everything is gone. 2: one that lives polls again at once, which takes a "
            "round trip, and on a bad network a second.",
        ),
    ] = 2.0

    def __post_init__(self) -> None:
        """Raise ValueError for an origin that is none."""
        Origins(self.origins)
