"""How plugins claim requests of the http port: `Claim`, `Exchange`, `Head`. Pure contracts.

The http plugin reads every request. For each it asks the claims, highest priority first;
the first whose ``match`` returns True gets the `Exchange`. What nobody claims, or what is
declined, becomes an ``http.request``.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

if TYPE_CHECKING:
    from gateway.core.session import End

Header = tuple[bytes, bytes]

PLAIN: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
"""Headers of what the gateway answers itself: a text, whatever a browser might make of it, and
of that moment alone."""
RETRY_AFTER: Final = 1
"""Seconds, with every 503: what a full queue or a starting worker needs."""

_PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}


def plain(
    status: int, text: str = "", retry_after: float = RETRY_AFTER
) -> tuple[tuple[Header, ...], bytes]:
    """Return headers and content of an answer of the gateway's own: a text, or the status's phrase.

    The text is a sentence of ours or the application's, never anything of the request's. A 503
    says when to come back, in whole seconds, one at least.
    """
    content = text or f"{status} {_PHRASES.get(status, '')}".rstrip()
    headers = PLAIN
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = (*PLAIN, (b"retry-after", b"%d" % max(1, math.ceil(retry_after))))
    return headers, content.encode("utf-8", "replace") + b"\n"


class Head:
    """A validated request head.

    ``method`` upper-case str; ``target`` the raw request target; ``path`` percent- and
    UTF-8-decoded, ``raw_path`` bytes without the query, ``query_string`` bytes; ``headers``
    [(lower-case name, value)] in order with duplicates; ``http_version`` "1.0", "1.1" or
    "2"; ``scheme`` "http" or "https"; ``client``, ``server`` (host, port) or None; ``identity``
    who the client's certificate says it is, None without one; ``protocol`` what an extended
    CONNECT asks for (RFC 8441 section 4), "" in any other request.
    """

    __slots__ = (
        "client",
        "headers",
        "http_version",
        "identity",
        "method",
        "path",
        "protocol",
        "query_string",
        "raw_path",
        "root_path",
        "scheme",
        "server",
        "target",
    )

    method: str
    target: bytes
    path: str
    raw_path: bytes
    query_string: bytes
    headers: list[Header]
    http_version: str
    scheme: str
    root_path: str
    protocol: str
    client: tuple[str, int] | None
    server: tuple[str, int] | None
    identity: str | None

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header by its lower-case name, or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Answer:
    """What a request was answered, for whose record in the access log tells of it."""

    __slots__ = ("declined", "end", "status")

    def __init__(self) -> None:
        self.status = 0
        """0: nothing yet."""
        self.end: End | None = None
        """What became of it where the http plugin itself ended it."""
        self.declined = False
        """Whether it was handed on, and who answered it tells of it."""


class Piece:
    """A piece of a response body that goes to many clients, and is framed once for all of them."""

    __slots__ = ("chunk", "content")

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.chunk: bytes | None = None
        """What HTTP/1.1 makes of it, once it has."""


class Exchange(ABC):
    """One request and its response, whatever the HTTP version carries it.

    The claim answers with ``respond`` then ``write`` and ``end``; or with ``upgrade``; or
    not at all with ``decline`` (before ``respond``).
    """

    __slots__ = ("answer",)

    head: Head
    paused: bool
    """Whether the client takes no more now; `on_writable` says when it does."""
    answer: Answer | None
    """Set by `Context.attach` where a session speaks for the request: its status goes there, and
    the request has no record of its own in the access log."""

    @abstractmethod
    def body(self) -> AsyncIterator[bytes]:
        """Iterate over the request body as it comes; raises ConnectionError if it is cut off."""

    @abstractmethod
    def respond(self, status: int, headers: Iterable[Header] = ()) -> None:
        """Send the head of the response. Once. Framing headers are the gateway's business."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send a piece of the response body. Ignored once the client is gone."""

    def share(self, piece: Piece) -> None:
        """Send a piece of the response body that others get, too; as ``write`` else."""
        self.write(piece.content)

    @abstractmethod
    def end(self) -> None:
        """Complete the response."""

    @abstractmethod
    def abort(self) -> None:
        """Cut the response off: the client sees that it is not complete."""

    def unheard(self) -> float:
        """Return the seconds for which nothing was heard of a client that owes an acknowledgement
        of what it was sent (`gateway.core.heard`); 0.0 while it owes none.
        """  # noqa: D205 - one sentence
        return 0.0

    @abstractmethod
    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back once if the client leaves before the response is complete."""

    @abstractmethod
    def on_writable(self, callback: Callable[[bool], None]) -> None:
        """Call back with False and True as the client stops and goes on taking data."""

    @abstractmethod
    def decline(self) -> None:
        """Hand it on: to the next claim that matches, else as an ``http.request``."""

    @abstractmethod
    def upgrade(
        self, protocol: bytes, headers: Iterable[Header] = ()
    ) -> tuple[asyncio.Transport, bytes]:
        """Answer that the client may speak ``protocol`` from now on, and take over what carries it.

        Returns its transport and the bytes after the head; the claim sets its own protocol.
        Over HTTP/1.1 the answer is 101 and the transport the connection, over HTTP/2 it is 200
        to an extended CONNECT (RFC 8441) and the transport one stream. RuntimeError where the
        request cannot be answered so. Once the transport is gone the claim calls `release`.
        """

    @property
    @abstractmethod
    def release(self) -> Callable[[], None]:
        """What gives a connection back that was taken over.

        Until it is called, the connection counts against the limits of the port.
        """


class Claim(msgspec.Struct, frozen=True):
    """A wish for certain requests. ``match(head)`` is cheap and pure; ``open(exchange)`` begins."""

    match: Callable[[Head], bool]
    open: Callable[[Exchange], None]
    priority: int = 0
    """Highest first. WebSocket has -10, so that others may claim handshakes."""

    LAST: ClassVar[int] = -100
