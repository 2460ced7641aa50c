"""The body of a large request, which comes in pieces on a channel of its own.

Pieces are ``{"offset", "content", "more_content"}``, the first one's offset being the length
of the body's start in the request; or ``{"closed": True}`` if the client left. A gap, a close
or silence raises `RequestAborted`, then and ever after.
"""

from __future__ import annotations

from io import RawIOBase
from tempfile import SpooledTemporaryFile
from typing import Any, NoReturn

from django.conf import settings

from django_gateway import asgi
from django_gateway.exceptions import RequestAborted
from gateway.core import names

SILENCE = 120.0
"""Seconds without a piece of the body before it counts as cut off: as long as an http request
may go unanswered."""


class Pieces:
    """What has come of a body, checked. Pure."""

    __slots__ = ("aborted", "more", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.more = True
        self.aborted = False

    def take(self, piece: dict[str, Any] | None) -> bytes:
        """Return the content of the next piece (None: there was none in time)."""
        if piece is None:
            self._abort("nothing more came")
        elif piece.get("closed"):
            self._abort("the client left")
        elif piece.get("offset") != self.offset:
            self._abort("a piece is missing")
        content: bytes = piece["content"]
        self.offset += len(content)
        self.more = piece.get("more_content", False)
        return content

    def _abort(self, reason: str) -> NoReturn:
        self.aborted = True
        raise RequestAborted(f"the request's body was cut off: {reason}")


class BodyStream(RawIOBase):
    """The whole body as a raw stream: ``start``, and then what comes on ``channel``.

    Read by the thread that runs the view, at its pace.
    """

    def __init__(self, start: bytes, channel: str, reply_channel: str) -> None:
        super().__init__()
        self.pieces = Pieces(len(start))
        self._piece = memoryview(start)
        self._channel = channel
        self._process = names.process_of(reply_channel)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to ``len(buffer)`` bytes; 0 at the end."""
        while not self._piece and self.pieces.more:
            self._piece = memoryview(self._next())
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _next(self) -> bytes:
        if self.pieces.aborted:
            raise RequestAborted("the request's body was cut off")
        layer = asgi.channel_layers["default"]
        if self._process is not None:
            layer.watch(self._channel, self._process)
            self._process = None
        return self.pieces.take(layer.receive([self._channel], block=SILENCE)[1])


async def spool(start: bytes, channel: str, reply_channel: str) -> SpooledTemporaryFile[bytes]:
    """Read the whole body into a file, in memory while it is small, and return it rewound.

    For asynchronous views, which must not wait while they read. Raises `RequestAborted`.
    """
    layer = asgi.channel_layers["default"]
    pieces = Pieces(len(start))
    process = names.process_of(reply_channel)
    if process is not None:
        await layer.awatch(channel, process)
    file = SpooledTemporaryFile[bytes](max_size=settings.FILE_UPLOAD_MAX_MEMORY_SIZE)
    try:
        file.write(start)
        while pieces.more:
            file.write(pieces.take((await layer.areceive([channel], block=SILENCE))[1]))
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file
