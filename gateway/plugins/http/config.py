"""The settings table ``[http]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.core.errors import ConfigError
from gateway.core.networks import Networks

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[http]``: where the gateway serves HTTP, and its limits."""

    listen: Annotated[
        str | tuple[str, ...],
        Meta(
            description="Where to listen, one endpoint or several: tcp:8000, 127.0.0.1:8000, "
            "unix:/run/site.sock, tls:*:443, systemd:. Without an interface: loopback."
        ),
    ] = "127.0.0.1:8000"
    root_path: Annotated[
        str,
        Meta(
            pattern="^(/.*[^/])?$",
            description="Where the application is mounted (SCRIPT_NAME), with a leading and "
            "without a trailing slash. Empty: at the root.",
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Proxies that are believed about client, scheme and the like: addresses, "
            "networks (10.0.0.0/8), unix for peers on Unix sockets, * for everybody. From anybody "
            "else the headers that only a proxy may set are taken away. Empty: nobody is "
            "believed, and headers are handed on as they came."
        ),
    ] = ()
    proxy_protocol: Annotated[
        bool,
        Meta(
            description="Whether trusted_proxies begin each connection with a PROXY header "
            "(version 1 or 2, before TLS), which says whom it is for; one without is closed. "
            "Everybody else is served without one. For balancers of TCP."
        ),
    ] = False
    proxy_header: Annotated[
        Literal["x-forwarded", "forwarded"],
        Meta(
            description="How trusted_proxies say it: x-forwarded (X-Forwarded-For, -Proto, -Host, "
            "-Prefix) or forwarded (RFC 7239). The other one is ignored: a proxy that does not "
            "set it hands on what the client made up."
        ),
    ] = "x-forwarded"
    proxy_parts: Annotated[
        tuple[Literal["for", "proto", "host", "prefix"], ...],
        Meta(
            description="What trusted_proxies are believed: for (the client's address), proto "
            "(http or https), host, prefix (X-Forwarded-Prefix becomes root_path). host and prefix "
            "only where asked for: many proxies hand on the client's own."
        ),
    ] = ("for", "proto")
    server_header: Annotated[
        str,
        Meta(
            pattern="^[!-~ ]*$",
            description="Value of the Server header. Empty: none is sent. The default names no "
            "version, which would only help an attacker.",
        ),
    ] = "gateway"
    request_line: Annotated[
        Count,
        Meta(
            description="Bytes of a request line; longer: 414. 8192: RFC 9112 section 3 asks for "
            "8000 at least."
        ),
    ] = 8192
    header_bytes: Annotated[
        Count,
        Meta(
            description="Bytes of a request's head, request line included; more: 431. 65536: "
            "room for the largest cookies that browsers keep for one site."
        ),
    ] = 65536
    header_count: Annotated[
        Count,
        Meta(description="Header lines of a request; more: 431. 100: browsers send about 20."),
    ] = 100
    max_body: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of a request body; more: 413. 1 GiB: bodies are streamed, so this "
            "guards the application's disk, not the gateway's memory.",
        ),
    ] = 1024 * 1024 * 1024
    body_inline: Annotated[
        int,
        Meta(
            ge=0,
            le=512 * 1024,
            description="Bytes of a body that travel with the request; the rest follows in pieces "
            "of its own. 65536: nearly every form, and far below a message's 1 MiB.",
        ),
    ] = 65536
    header_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds for a whole request head, from its first byte; then 408. 10: "
            "enough for the slowest phone, little for who holds sockets open on purpose."
        ),
    ] = 10.0
    body_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds without a byte of an unfinished body; then 408. 30: a mobile "
            "client's change of cell."
        ),
    ] = 30.0
    body_rate: Annotated[
        float,
        Meta(
            ge=0,
            description="Bytes a second of a body that a client must send in the long run; slower: "
            "408. It may save up, and so fall behind by, body_timeout. 500: half of the slowest "
            "mobile line, and 1 KiB in two seconds is nobody's upload. 0: bodies may trickle, as "
            "those of programs that send what happens as it happens.",
        ),
    ] = 500.0
    idle_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds that a connection is kept between requests. 75: above the 60 of "
            "common load balancers, so that they, not we, end it."
        ),
    ] = 75.0
    timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds from the complete request head, or the last piece of its body, "
            "to the beginning of the response; then 504. 120: longer than any view should take."
        ),
    ] = 120.0
    write_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds in which a client that has been sent more than it takes must "
            "make room; then it is cut off. 60: a phone in a tunnel returns sooner or not at all."
        ),
    ] = 60.0
    queue_timeout: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds that a request waits for room in the application's queue; then "
            "503. 1: a burst passes, an overload is told at once.",
        ),
    ] = 1.0
    max_connections: Annotated[
        Count,
        Meta(
            description="Open connections of one gateway process, WebSockets included; beyond: "
            "503, or a close where TLS would come first. 10000: about 120 MB of the gateway's "
            "memory."
        ),
    ] = 10_000
    max_requests: Annotated[
        Count,
        Meta(
            description="Requests of one connection; with the last one's response it is closed. "
            "10000: what a connection has gathered does not gather for ever, and a proxy's busy "
            "ones find their way to new processes, at no cost that could be measured."
        ),
    ] = 10_000
    max_connections_per_address: Annotated[
        Count,
        Meta(
            description="Of these from one address (IPv6: from one /64). 250: forty browsers with "
            "six connections each behind one address, and a fortieth of max_connections. Who "
            "connects over loopback or a Unix socket is a proxy or a check, and not counted."
        ),
    ] = 250
    max_pipelined: Annotated[
        Count,
        Meta(
            description="Bytes of following requests that wait for the running one's response; "
            "beyond, the socket is read no further. 65536: one head of the largest size."
        ),
    ] = 65536

    http2: Annotated[
        bool,
        Meta(
            description="Whether HTTP/2 is spoken: where TLS negotiates it, and with clients that "
            "begin with its preface. Needs the extra http2 (the library h2)."
        ),
    ] = True
    http2_streams: Annotated[
        Count,
        Meta(
            description="Requests of one HTTP/2 connection that run at once. 100: the least that "
            "RFC 9113 section 5.1.2 recommends; a page asks for less."
        ),
    ] = 100
    http2_window: Annotated[
        int,
        Meta(
            ge=65535,
            le=2**24,
            description="Bytes of one request's body that an HTTP/2 client may send ahead. "
            "262144: fills a line of 20 Mbit/s and 100 ms. All streams of a connection together "
            "may send 1 MiB ahead, or as much as one where that is more.",
        ),
    ] = 262144
    http2_control_frames: Annotated[
        Seconds,
        Meta(
            description="Frames a second that carry nothing (PING, SETTINGS, PRIORITY, empty "
            "DATA, …) on one HTTP/2 connection; ten seconds' worth may be saved up, a reset of a "
            "stream counts five, an answered request earns five. Beyond: GOAWAY "
            "ENHANCE_YOUR_CALM. 100: a closed tab resets some dozen streams, an attacker "
            "thousands a second."
        ),
    ] = 100.0

    def __post_init__(self) -> None:
        """Check what no single field can. Raises ConfigError."""
        Networks(self.trusted_proxies, "trusted_proxies")
        if self.proxy_protocol and not self.trusted_proxies:
            raise ConfigError(
                "proxy_protocol: nobody would be believed; name the balancers in trusted_proxies"
            )
        if self.proxy_header == "forwarded" and "prefix" in self.proxy_parts:
            raise ConfigError(
                "proxy_parts: Forwarded has no prefix (RFC 7239 5); leave it out, or set "
                "proxy_header to 'x-forwarded'"
            )

    def endpoints(self) -> tuple[str, ...]:
        """Return ``listen`` as a tuple."""
        return (self.listen,) if isinstance(self.listen, str) else self.listen
