"""`Framing`: how one version of HTTP writes responses. Pure.

HTTP/1.1 makes bytes of them (`gateway.plugins.http.response`), HTTP/2 frames
(`gateway.plugins.http.http2.response`); each module is one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from gateway.core.web import Header, Piece
from gateway.plugins.http.head import RequestHead


class Stream(Protocol):
    """A response whose content comes in pieces."""

    keep_alive: bool
    """Whether the connection may be used again after it."""

    def start(self, content: bytes) -> Any:
        """Return what to send for the head of the response and its first piece of content."""

    def piece(self, content: bytes, *, more: bool) -> Any:
        """Return what to send for a piece; nothing (false) where it needs no sending.

        Raises `LocalProtocolError` where it breaks the ``Content-Length`` that was sent.
        """

    def shared(self, piece: Piece) -> Any:
        """Return what to send for a piece that is not the last, and goes to others as well."""


class Framing(Protocol):
    """How one version of HTTP writes responses. A module is one.

    ``stamp`` is what the version's `Site.stamp` returns: our Date and Server.
    """

    @property
    def CONTINUE(self) -> Any:  # noqa: N802 - a constant of a module
        """Return what to send for 100 Continue."""

    def complete(
        self,
        head: RequestHead,
        status: int,
        headers: Iterable[Header],
        content: bytes,
        *,
        keep_alive: bool,
        stamp: Any,
    ) -> tuple[Any, bool]:
        """Return a whole response, and whether the connection may be used again.

        Raises `LocalProtocolError` where the application's headers cannot be sent.
        """

    def stream(
        self,
        head: RequestHead,
        status: int,
        headers: Iterable[Header],
        *,
        keep_alive: bool,
        stamp: Any,
    ) -> Stream:
        """Return a response whose content comes in pieces. Raises as ``complete`` does."""

    def refusal(
        self, status: int, headers: Iterable[Header], content: bytes, stamp: Any, *, bare: bool
    ) -> Any:
        """Return the gateway's own answer to what it cannot read or serve.

        ``bare``: without its content, since the request was HEAD.
        """
