"""The body of a large request, which comes in pieces on a channel of its own.

Pieces are ``{"offset", "content", "more_content"}``, the first one's offset being the length
of the body's start in the request; or ``{"closed": True}`` if the client left. A gap, a close
or silence raises `RequestAborted`, then and ever after.

The worker's loop collects a body in a temporary file before its view is called, so that a slow
client costs a file and no thread. A view with the decorator `stream_body` reads it as it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from io import RawIOBase
from tempfile import SpooledTemporaryFile
from typing import Any, Final, ParamSpec, TypeVar

from asgiref.sync import iscoroutinefunction
from django.conf import settings

from django_gateway import asgi
from django_gateway.crew import await_client
from django_gateway.exceptions import RequestAborted
from gateway.core import names
from gateway.core.errors import LayerError

SILENCE: Final = 120.0
"""Seconds without a piece of the body before it counts as cut off: as long as an http request
may go unanswered."""
P = ParamSpec("P")
R = TypeVar("R")

IN_MEMORY: Final = 128 * 1024
"""Bytes of a collected body that need no file: a worker may hold a thousand of them."""


def stream_body(view: Callable[P, R]) -> Callable[P, R]:
    """Have a view called at once, to read a large body as the client sends it.

    For a view that looks at an upload on its way, refuses it early or must not have it on disk.
    It keeps its thread as long as the client takes. Not for ``async def`` views: TypeError.
    """
    if iscoroutinefunction(view):
        raise TypeError(f"stream_body: {view!r} is asynchronous; its body is always collected")

    @wraps(view)
    def streaming(*args: P.args, **kwargs: P.kwargs) -> R:
        return view(*args, **kwargs)

    streaming.streams_body = True  # type: ignore[attr-defined]
    return streaming


def streams_body(view: Callable[..., Any]) -> bool:
    """Return whether a view has the decorator `stream_body`."""
    return getattr(view, "streams_body", False)


class Incoming:
    """What has come of a body, checked. Pure."""

    __slots__ = ("more", "offset")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.more = True

    def take(self, piece: dict[str, Any] | None) -> bytes:
        """Return the content of the next piece (None: there was none in time)."""
        if piece is None:
            raise _cut_off("nothing more came")
        if piece.get("closed"):
            raise _cut_off("the client left")
        if piece.get("offset") != self.offset:
            raise _cut_off("a piece is missing")
        content: bytes = piece["content"]
        self.offset += len(content)
        self.more = piece.get("more_content", False)
        return content


def _cut_off(reason: str) -> RequestAborted:
    return RequestAborted(f"the request's body was cut off: {reason}")


class BodyStream(RawIOBase):
    """The whole body as a raw stream: ``start``, and then what comes on ``channel``.

    Read by the thread that runs the view, at its pace.
    """

    def __init__(self, start: bytes, channel: str, reply_channel: str) -> None:
        super().__init__()
        self.aborted = False
        """Whether it is known that the body will never be whole."""
        self._incoming = Incoming(len(start))
        self._piece = memoryview(start)
        self._channel = channel
        self._process = names.process_of(reply_channel)
        self._watched = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to ``len(buffer)`` bytes; 0 at the end."""
        while not self._piece and self._incoming.more:
            self._piece = memoryview(self._next())
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _next(self) -> bytes:
        if self.aborted:
            raise RequestAborted("the request's body was cut off")
        layer = asgi.channel_layers["default"]
        if not self._watched and self._process is not None:
            self._watched = True
            layer.watch(self._channel, self._process)
        try:
            return self._incoming.take(await_client(layer, self._channel, SILENCE))
        except RequestAborted:
            self.aborted = True
            raise

    def close(self) -> None:
        """Let go of the channel."""
        if self._watched and self._process is not None:
            self._watched = False
            with suppress(LayerError):
                asgi.channel_layers["default"].unwatch(self._channel, self._process)
        super().close()


async def collect(
    start: bytes, channel: str, reply_channel: str
) -> tuple[SpooledTemporaryFile[bytes], int]:
    """Read the whole body into a file, in memory while it is small.

    Returns the file, rewound, and its length. Raises `RequestAborted`.
    """
    layer = asgi.channel_layers["default"]
    incoming = Incoming(len(start))
    process = names.process_of(reply_channel)
    file = SpooledTemporaryFile[bytes](IN_MEMORY, dir=settings.FILE_UPLOAD_TEMP_DIR)
    try:
        if process is not None:
            await layer.awatch(channel, process)
        file.write(start)
        while incoming.more:
            file.write(incoming.take((await layer.areceive([channel], block=SILENCE))[1]))
    except BaseException:
        file.close()
        raise
    finally:
        if process is not None:
            with suppress(LayerError):
                await layer.aunwatch(channel, process)
    file.seek(0)
    return file, incoming.offset
