r"""The access log: one `Record` for each request and each connection, whatever its protocol.

As text, a line for people; "-" stands for what there is not::

    2026-11-26T10:00:00.123Z http 192.0.2.7:50000 - "GET /a HTTP/1.1" 200 application
    0 13 0.004 http.send.p_AbCdEfGhIjKl!7f

    time, protocol, client, identity, "what was asked", code, end,
    bytes received, bytes sent, seconds, reply channel

As JSON, an object a line with the fields of `Record`, for collectors. Both are printable ASCII
whatever a client sends (`gateway.core.escape`), and never hold a query: those are secret.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from gateway.core.config import LogSettings
from gateway.core.escape import escaped, json_line
from gateway.core.metrics import Drop, Metrics
from gateway.core.session import End, Peer, Summary
from gateway.core.sink import ATOMIC, Sink
from gateway.core.web import Head

LEFT: Final = 499
"""The code of a request whose client left before there was one to send: no status of HTTP, but
what nginx writes then, so that tools know it."""

_LONG: Final = 1024
"""Characters of a path: longer ones are cut. With the rest they fit a line that a pipe takes
whole (`ATOMIC`)."""
_SHORT: Final = 256
"""Characters of any other text."""
_LEAST: Final = 32
"""Characters of each text where the line would still be too long, for all that is escaped."""

_WORD = re.compile(r"[0-9A-Za-z._@+/:=%-]+").fullmatch
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
"""W3C Trace Context section 3.2, version 00."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the access log says of one request or connection; what is not known is left out."""

    time: str
    """When it ended: RFC 3339, UTC, to the millisecond."""
    protocol: str
    """The plugin's name."""
    end: End
    """Who ended it, or what became of it."""
    seconds: float
    """How long it took; of a request, from its whole head to the last of its answer."""
    received: int
    """Bytes that came from the client, after the head of its request where there is one."""
    sent: int
    """Bytes that went to the client, after the head of the answer likewise."""
    client: tuple[str, int] | None = None
    """Address and port: RFC 6302 asks servers that face the internet to log both."""
    identity: str = ""
    """Who the protocol says the client is."""
    method: str = ""
    """What was asked, in the protocol's word."""
    path: str = ""
    """Of what; as it was sent, without the query."""
    http_version: str = ""
    """1.0, 1.1 or 2, where HTTP carried the request."""
    code: int | str = ""
    """How it ended, in the protocol's own code: a status, a close code."""
    reply_channel: str = ""
    """What the application's own log knows it by."""
    user_agent: str = ""
    """What the client says it is."""
    referer: str = ""
    """Where the client says it comes from, without the query."""
    traceparent: str = ""
    """The trace that the request belongs to (W3C Trace Context)."""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What the head of a request says to the access log."""

    method: str = ""
    path: str = ""
    http_version: str = ""
    user_agent: str = ""
    referer: str = ""
    traceparent: str = ""


NOTHING: Final = Asked()


class AccessLog:
    """Makes records and hands their lines on. ``put`` takes a line with its LF."""

    hears_openings: ClassVar[bool] = False
    """Whether it is told of connections when they are accepted, too (`opened`)."""

    def __init__(
        self,
        settings: LogSettings,
        put: Callable[[bytes], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._full = settings.access_format == "json"
        self._line = as_json if self._full else as_text
        self._put = put
        self._clock = clock
        self._instant = -1
        self._time = ""

    def asked(self, head: Head) -> Asked:
        """Return what a request's head says, as much of it as the format shows."""
        path = head.raw_path.decode("latin-1")
        if not self._full:
            return Asked(head.method, path, head.http_version)
        agent = referer = trace = b""
        for name, value in head.headers:
            if name == b"user-agent":
                agent = value
            elif name == b"referer":
                referer = value.partition(b"?")[0].partition(b"#")[0]
            elif name == b"traceparent" and _TRACE(value):
                trace = value
        return Asked(
            head.method,
            path,
            head.http_version,
            agent.decode("latin-1"),
            referer.decode("latin-1"),
            trace.decode(),
        )

    def add(
        self,
        protocol: str,
        peer: Peer,
        summary: Summary,
        *,
        end: End,
        received: int = 0,
        sent: int = 0,
        seconds: float = 0.0,
        reply_channel: str = "",
        asked: Asked = NOTHING,
    ) -> None:
        """Log one request or connection. What ``summary`` says itself goes before the rest."""
        if summary.head is not None:
            asked = self.asked(summary.head)
        end = summary.end or end
        code = summary.code
        if code == "" and end == "client" and asked is not NOTHING:
            code = LEFT
        record = Record(
            self._now(),
            protocol,
            end,
            round(seconds, 3),
            received if summary.received is None else summary.received,
            sent if summary.sent is None else summary.sent,
            peer.client,
            peer.identity or "",
            summary.method or asked.method,
            asked.path or summary.path,
            asked.http_version,
            code,
            reply_channel,
            asked.user_agent,
            asked.referer,
            asked.traceparent,
        )
        self.tell(record)

    def opened(self, protocol: str, peer: Peer, path: str) -> None:
        """Hear that a connection was accepted, where ``hears_openings``."""

    def reopen(self) -> None:
        """Write to the file of that name from now on, where there is one."""

    def close(self) -> None:
        """End. May block for a second."""

    def tell(self, record: Record) -> None:
        """Write a record's line."""
        if len(record.path) > _LONG or len(record.user_agent) + len(record.referer) > _SHORT:
            record = _cut(record, _LONG, _SHORT)
        line = self._line(record)
        if len(line) > ATOMIC:
            line = self._line(_cut(record, _LEAST, _LEAST))
        self._put(line)

    def _now(self) -> str:
        instant = int(self._clock() * 1000)
        if instant != self._instant:
            self._instant = instant
            second, left = divmod(instant, 1000)
            self._time = f"{_date(second)}.{left:03d}Z"
        return self._time


class OpenLog(AccessLog):
    """An access log with the `Sink` that it was opened on."""

    def __init__(self, settings: LogSettings, metrics: Metrics) -> None:
        dropped = metrics.counter("gateway_drops_total", cause=Drop.UNWRITTEN.value, where="access")
        self._sink = Sink(settings.access, dropped)
        super().__init__(settings, self._sink.put)

    def reopen(self) -> None:
        """Write what comes from now on to the file of that name, which may be another one."""
        self._sink.reopen()

    def close(self) -> None:
        """Write what waits and end. Blocks for a second at most."""
        self._sink.close()


def as_json(record: Record) -> bytes:
    """Return a record as JSON, a line."""
    return json_line(record) + b"\n"


def as_text(record: Record) -> bytes:
    """Return a record as text, a line."""
    asked = "-"
    code = record.code
    if record.method or record.path:
        asked = f"{record.method or '-'} {record.path or '-'}"
        if record.http_version:
            asked = f"{asked} HTTP/{record.http_version}"
    return (
        f"{record.time} {record.protocol} {_address(record.client)} "
        f"{_word(record.identity) if record.identity else '-'} "
        f'"{escaped(asked)}" {code if code.__class__ is int else _word(str(code))} '
        f"{record.end} {record.received} {record.sent} {record.seconds:.3f} "
        f"{record.reply_channel or '-'}\n"
    ).encode()


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _word(text: str) -> str:
    """Return a text as one word, in quotes where it would not be one by itself."""
    if not text:
        return "-"
    return text if text != "-" and _WORD(text) else f'"{escaped(text)}"'


def _address(client: tuple[str, int] | None) -> str:
    return "-" if client is None else f"{_host(client[0])}:{client[1]}"


@lru_cache(maxsize=4096)
def _host(host: str) -> str:
    return f"[{_word(host)}]" if ":" in host else _word(host)


def _cut(record: Record, path: int, other: int) -> Record:
    """Return a record with its texts no longer than so many characters."""
    code = record.code
    return msgspec.structs.replace(
        record,
        identity=_short(record.identity, other),
        method=_short(record.method, other),
        path=_short(record.path, path),
        code=_short(code, other) if isinstance(code, str) else code,
        user_agent=_short(record.user_agent, other),
        referer=_short(record.referer, other),
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
