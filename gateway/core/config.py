"""Settings: the tables and what they mean.

Every table is a frozen struct that forbids unknown keys; the descriptions of its fields are
the reference that ``gateway plugins`` prints and the documentation is made of.
`gateway.core.sources` fills them from defaults, the application, files, the environment and
the command line.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.core.layers.options import LayerOptions

Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]


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
    grace: Annotated[
        Seconds,
        Meta(
            description="Seconds that running consumers get to finish at a shutdown. 10: far less "
            "than a process manager waits before it kills (systemd: 90)."
        ),
    ] = 10.0

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


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[gateway]``: the gateway process; bounds for each connection, whatever its protocol."""

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
    watchdog: Annotated[
        Seconds,
        Meta(
            description="Seconds that the event loop may stand still before what blocks it is "
            "logged with its stack. 1: every client waits meanwhile. 0 turns it off."
        ),
    ] = 1.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one gateway. ``tables`` holds each plugin's own ``Config`` by its name."""

    plugins: tuple[str, ...] = ("http", "websocket")
    layer: LayerSettings = LayerSettings()
    workers: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()
    gateway: GatewaySettings = GatewaySettings()
    tables: Mapping[str, msgspec.Struct] = {}
