"""Settings: the tables and what they mean.

Every table is a frozen struct that forbids unknown keys; the descriptions of its fields are
the reference that ``gateway plugins`` prints and the documentation is made of.
`gateway.core.sources` fills them from defaults, the application, files, the environment and
the command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from gateway.core.layers.options import LayerOptions

Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


class LayerSettings(LayerOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[layer]``: where the channel layer is, and how it behaves (`LayerOptions`)."""

    url: Annotated[
        str,
        Meta(
            description="Where the layer is: memory://, unix:///path. Empty: the gateway's own "
            "hub, at a path made of user and project directory; memory:// where everything "
            "runs in one process."
        ),
    ] = ""
    socket_mode: Annotated[
        str,
        Meta(
            pattern="^0?[0-7]{3}$",
            description="Permissions of the hub's socket, octal. Whoever may connect can read "
            "and answer everything.",
        ),
    ] = "0600"
    socket_group: Annotated[
        str,
        Meta(
            description="Group that owns the hub's socket; with socket_mode 0660 its members "
            "may run workers. Empty: the user's own."
        ),
    ] = ""
    unavailable_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds that a connection with nothing in hand outlives the loss of "
            "the layer. 30: longer than a restart of the hub takes."
        ),
    ] = 30.0

    def options(self) -> dict[str, Any]:
        """Return what `gateway.open_layer` takes beside the URL: the fields of `LayerOptions`."""
        return {name: getattr(self, name) for name in LayerOptions.__struct_fields__}


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[workers]``: the processes that run the application."""

    count: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(
            description="Worker processes. 0: everything in one process. Absent: one fewer "
            "than there are CPUs, at least 1; the gateway takes the other."
        ),
    ] = None
    threads: Annotated[
        Count,
        Meta(
            description="Threads of one worker for synchronous consumers. 4: enough to hide "
            "ordinary waits for a database, few enough for its connections."
        ),
    ] = 4
    stand_ins: Annotated[
        Count,
        Meta(
            description="Further threads of one worker, for those that wait for a slow client "
            "of a synchronous iterator; beyond it the client that has kept its thread waiting "
            "longest is cut off. 16: each may hold a database connection."
        ),
    ] = 16
    async_limit: Annotated[
        Count,
        Meta(
            description="Asynchronous consumers that run at once in one worker. 1000: they "
            "wait rather than compute; beyond it the layer holds the rest."
        ),
    ] = 1000
    only_channels: Annotated[
        tuple[str, ...],
        Meta(
            description="Channels of the routing table that a worker takes, * for any characters: "
            "['thumbnails.*']. Empty: all of them."
        ),
    ] = ()
    exclude_channels: Annotated[
        tuple[str, ...],
        Meta(
            description="Channels that it leaves to other workers, even if only_channels names "
            "them."
        ),
    ] = ()
    grace: Annotated[
        Seconds,
        Meta(
            description="Seconds that running consumers get to finish when their worker stops or "
            "is replaced. 10: far less than a process manager waits before it kills (systemd: 90)."
        ),
    ] = 10.0
    start_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds that a new worker gets to be ready at a reload; beyond, it is "
            "ended and the old ones go on. 60: a large project on a busy machine takes some, and "
            "nobody waits for it meanwhile.",
        ),
    ] = 60.0
    version: Annotated[
        str,
        Meta(
            max_length=100,
            description="What this version of the application is called in gateway_workers and in "
            "the log; read anew by each new worker. Empty: the number of the reload that brought "
            "the worker, the start being 1.",
        ),
    ] = ""
    max_requests: Annotated[
        int,
        Meta(
            ge=0,
            description="Messages, requests among them, after which a worker is replaced, for code "
            "that leaks; each worker takes up to a fifth off, so that they are not used up at "
            "once. 0: however many.",
        ),
    ] = 0
    max_memory: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of resident memory at which a worker is replaced. 0: however many.",
        ),
    ] = 0

    def number(self) -> int:
        """Return how many worker processes to run: ``count``, or what the machine suggests."""
        return max(1, (os.cpu_count() or 1) - 1) if self.count is None else self.count


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[log]``: messages, to standard error; and the access log, a line for each request and
    each connection.
    """  # noqa: D205 - one sentence

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least severe messages that are logged."),
    ] = "info"
    format: Annotated[
        Literal["text", "json"],
        Meta(description="text for people, json (one object a line) for log collectors."),
    ] = "text"
    access: Annotated[
        str,
        Meta(
            description="Where the access log goes: a file's path (from the working directory, "
            "opened to append, made with mode 0640), - for standard output. Empty: there is none, "
            "and it costs nothing. Off by default, since addresses are personal data: who keeps "
            "them should have decided to."
        ),
    ] = ""
    access_format: Annotated[
        Literal["text", "json"],
        Meta(
            description="text for people; json (one object a line) for log collectors, with "
            "user agent, referer and traceparent as well."
        ),
    ] = "text"
    hooks: Annotated[
        bool,
        Meta(
            description="Whether the start tells which plugin implements which hook, and of each "
            "call what it returned and how long it took. Off: for authors of plugins, and for "
            "whoever wonders which of them it is."
        ),
    ] = False


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[gateway]``: the gateway process; bounds for each connection, whatever its protocol."""

    count: Annotated[
        Count,
        Meta(
            description="Gateway processes that share the endpoints, over a hub process of its "
            "own. 1: one holds tens of thousands of connections, and the hub in it saves a hop; "
            "more where its CPU is what is short. Limits of connections hold for each of them."
        ),
    ] = 1
    window: Annotated[
        Literal[0, 1],
        Meta(
            description="Unsettled deliveries of one conversation. 1 keeps its messages in "
            "order whatever the number of workers; 0 turns order off."
        ),
    ] = 1
    run_messages: Annotated[
        Count,
        Meta(
            description="Most messages that travel together as one delivery. 64: beyond that "
            "the cost a message falls no further, and one worker holds them all."
        ),
    ] = 64
    run_bytes: Annotated[
        Count,
        Meta(description="Most bytes of one delivery (256 KiB, a quarter of one message's limit)."),
    ] = 256 * 1024
    inbox_messages: Annotated[
        Count,
        Meta(
            description="Messages of one connection that wait for their turn before its socket "
            "is read no further. 64: one full delivery ahead of the one in hand."
        ),
    ] = 64
    inbox_bytes: Annotated[
        Count, Meta(description="Bytes that wait likewise (256 KiB: one full delivery).")
    ] = 256 * 1024
    outbox_messages: Annotated[
        Count,
        Meta(
            description="Messages that wait for a client that reads slowly before slow_consumer "
            "applies. 1024: seconds of a busy group's traffic."
        ),
    ] = 1024
    outbox_bytes: Annotated[
        Count,
        Meta(
            description="Bytes that wait likewise (1 MiB: the largest message always fits once, "
            "and 1000 stuck clients cost no more than 1 GiB)."
        ),
    ] = 1024 * 1024
    slow_consumer: Annotated[
        Literal["close", "drop_oldest", "drop_newest"],
        Meta(
            description="What happens when an outbox is full. close: the client notices, "
            "reconnects and asks anew; dropping suits data that ages."
        ),
    ] = "close"
    relayed: Annotated[
        Count,
        Meta(
            description="Requests for connections of other gateway processes (polls of "
            "long-polling, most of them waiting) that one process hands on at once, and as many "
            "that it takes; more are answered 503. 20,000: half of what tens of thousands of "
            "clients have waiting, where two processes share them."
        ),
    ] = 20_000
    start_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds after the start in which clients wait for the first worker, "
            "which still loads the application, before they are told that there is none. 10: "
            "a large Django project on a busy machine takes some."
        ),
    ] = 10.0
    full_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds that a conversation waits for room on a full channel before "
            "its peer is told. 1: long enough for a burst, short enough for a client's patience."
        ),
    ] = 1.0
    grace: Annotated[
        Seconds,
        Meta(
            description="Seconds that requests and connections get to finish at a shutdown. "
            "10: as for workers."
        ),
    ] = 10.0
    reconnect_spread: Annotated[
        Seconds,
        Meta(
            description="Seconds over which clients are asked to come back when a shutdown closes "
            "their connections: each is told a moment of its own, at random. 10: a restart takes "
            "a few, and 10,000 clients then are 1,000 a second."
        ),
    ] = 10.0
    watchdog: Annotated[
        Seconds,
        Meta(
            description="Seconds that the event loop may stand still before what blocks it is "
            "logged with its stack. 1: every client waits meanwhile. 0 turns it off."
        ),
    ] = 1.0


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tls]``: the site's certificate, which every ``tls:`` endpoint shows, whatever its plugin.

    The files are read again on SIGHUP and when they change; paths are relative to the current
    directory.
    """

    certificate: Annotated[
        str | tuple[str, ...],
        Meta(
            description="PEM file of the certificate and those between it and its root, one file "
            "or several. Of several the one whose names fit what the client asks for (SNI) is "
            "shown, else the first. Empty: there is no TLS here."
        ),
    ] = ""
    key: Annotated[
        str | tuple[str, ...],
        Meta(
            description="PEM file of the private key, not encrypted; one for each certificate, in "
            "their order. Empty: it stands in the certificate's file."
        ),
    ] = ""
    client_ca: Annotated[
        str,
        Meta(
            description="PEM file of the authorities that sign client certificates; revocation "
            "lists in it are heeded. A certificate's subject becomes the messages' identity. "
            "Empty: clients are asked for none."
        ),
    ] = ""
    client_certificates: Annotated[
        Literal["required", "optional"],
        Meta(
            description="Whether a client without a certificate is refused, where client_ca is "
            "set. A certificate that is shown has to be good in either case."
        ),
    ] = "required"
    minimum: Annotated[
        Literal["1.2", "1.3"],
        Meta(
            description="The oldest version of TLS. 1.2: some clients of the last ten years know "
            "no newer one, and with these ciphers it is sound."
        ),
    ] = "1.2"
    ciphers: Annotated[
        str,
        Meta(
            description="Ciphers of TLS 1.2 in OpenSSL's words, the best first. The default is "
            "what Mozilla calls intermediate, less finite-field key exchange, which is slow; "
            "RFC 9113 allows all of these with HTTP/2. All ciphers of TLS 1.3 are good."
        ),
    ] = CIPHERS
    handshake_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds from the accept to the end of the handshake, PROXY header "
            "included. 10: as for a request's head.",
        ),
    ] = 10.0
    max_handshakes: Annotated[
        Count,
        Meta(
            description="Unfinished handshakes of one plugin; beyond, the oldest is closed. 1000: "
            "a handshake takes a few round trips, so these are thousands of honest clients a "
            "second, and who never finishes goes first."
        ),
    ] = 1000
    watch: Annotated[
        Seconds,
        Meta(
            description="Seconds between two looks whether the files have changed. 10: a renewal "
            "has days of time, a look costs nothing. 0: only SIGHUP loads them again."
        ),
    ] = 10.0

    def __post_init__(self) -> None:
        """Check what several fields say together."""
        keys = self.keys()
        if keys and len(keys) != len(self.certificates()):
            raise ValueError(
                f"key names {len(keys)} files and certificate {len(self.certificates())}; name one "
                "key for each certificate, or none where they stand in the same files"
            )
        if not self.certificates() and self.client_ca:
            raise ValueError("client_ca needs a certificate of our own: set tls.certificate")
        if not self.client_ca and self.client_certificates == "optional":
            raise ValueError("client_certificates needs client_ca, which says who signs them")

    def certificates(self) -> tuple[str, ...]:
        """Return ``certificate`` as a tuple, empty where there is none."""
        return _paths(self.certificate)

    def keys(self) -> tuple[str, ...]:
        """Return ``key`` as a tuple, empty where there is none."""
        return _paths(self.key)


def _paths(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return ((value,) if value else ()) if isinstance(value, str) else value


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one gateway. ``tables`` holds each plugin's own ``Config`` by its name."""

    plugins: tuple[str, ...] = ("http", "websocket")
    layer: LayerSettings = LayerSettings()
    workers: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()
    gateway: GatewaySettings = GatewaySettings()
    tls: TlsSettings = TlsSettings()
    tables: Mapping[str, msgspec.Struct] = {}
