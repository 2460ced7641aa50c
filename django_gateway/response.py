"""Django's responses as replies: one message, or pieces at the client's pace.

A response of up to `PIECE` bytes is one buffered reply, which leaves with the outcome. Larger
and streaming ones leave in pieces, at once: ``{"status", "headers", "content",
"more_content"}``, then ``{"offset", "content", "more_content"}``. Each asks for an ``ack``; at
most `WINDOW` are unanswered, so that a slow client slows the iterator down, and one that left
ends it. What the iterator sends to channels and groups leaves with its next piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any, Final, cast

from asgiref.sync import sync_to_async
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from django_gateway import asgi
from django_gateway.channel import outbox
from django_gateway.message import Message
from gateway.core import names
from gateway.core.layers.base import ACCEPTED, Layer, Send, send

PIECE: Final = 128 * 1024
"""Bytes of one piece: few round trips for large files, little memory for many clients."""
WINDOW: Final = 4
"""Pieces under way: with `PIECE`, half of what the gateway holds for one slow client."""
SILENCE: Final = 120.0
"""Seconds that an answer to a piece may take; the gateway gives up a stuck client far earlier."""
PATIENCE: Final = 0.05
"""Seconds that a thread waits for a client that has all of `WINDOW` still to take: longer than a
round trip through the layer, shorter than one over a slow line."""
PULSE: Final = 5.0
"""Seconds without a piece after which an empty one asks whether the client is still there."""

Rest = Coroutine[Any, Any, None] | None
"""What is left to be awaited on the loop, if anything."""

_NAMES: dict[str, bytes] = {}
_MOST_NAMES = 1024
"""Header names that are remembered; a bound, should an application make them up."""


def headers_of(response: HttpResponseBase) -> list[tuple[bytes, bytes]]:
    """Return the headers and cookies of a response as replies have them: lower-case bytes."""
    found = []
    # items() would cost six times as much
    for key, (_, value) in response.headers._store.items():  # noqa: SLF001
        name = _NAMES.get(key)
        if name is None:
            name = key.encode("ascii")
            if len(_NAMES) < _MOST_NAMES:
                _NAMES[key] = name
        found.append((name, value.encode("latin-1")))
    if response.cookies:
        found.extend(
            (b"set-cookie", cookie.OutputString().encode("latin-1"))
            for cookie in response.cookies.values()
        )
    return found


def reply(message: Message, response: HttpResponseBase) -> Rest:
    """Answer with a response, from this thread.

    What an asynchronous iterator has to say is left to the loop; so are large contents and
    files, once the client is slow: a thread is too dear to wait for it. Other iterators may
    depend on their thread, and stay.
    """
    if isinstance(response, StreamingHttpResponse):
        if response.is_async:
            return areply(message, response)
        if isinstance(response, FileResponse):
            response.block_size = PIECE  # Django's 4 KiB suit its development server
        parts = cast("Iterable[bytes]", response.streaming_content)
        return _post(message, response, parts, movable=isinstance(response, FileResponse))
    content = cast("HttpResponse", response).content
    if len(content) > PIECE:
        response.headers.setdefault("Content-Length", str(len(content)))
        return _post(message, response, (content,), movable=True)
    message.reply(status=response.status_code, headers=headers_of(response), content=content)
    return None


async def areply(message: Message, response: HttpResponseBase) -> None:
    """Answer with a response, from the loop."""
    if not isinstance(response, StreamingHttpResponse):
        content = cast("HttpResponse", response).content
        if len(content) <= PIECE:
            reply(message, response)
            return
        response.headers.setdefault("Content-Length", str(len(content)))
        parts = _steps(iter((content,)))
    elif response.is_async:
        parts = _parts(response)
    else:
        if isinstance(response, FileResponse):
            response.block_size = PIECE
        parts = _steps(iter(cast("Iterable[bytes]", response.streaming_content)))
    if message.content["method"] == "HEAD":
        _head_alone(message, response)
        return
    layer = asgi.channel_layers["default"]
    pieces = Pieces(message.content["reply_channel"], layer.new_channel("http.ack?"))
    if process := names.process_of(pieces.channel):
        await layer.awatch(pieces.ack_channel, process)
    await layer.aapply(_with_buffered(pieces.head(response)))
    await _go_on(message, pieces, parts)


def _post(
    message: Message, response: HttpResponseBase, parts: Iterable[bytes], *, movable: bool
) -> Rest:
    if message.content["method"] == "HEAD":
        _head_alone(message, response)
        return None
    layer = asgi.channel_layers["default"]
    pieces = Pieces(message.content["reply_channel"], layer.new_channel("http.ack?"))
    if process := names.process_of(pieces.channel):
        layer.watch(pieces.ack_channel, process)
    layer.apply(_with_buffered(pieces.head(response)))
    contents = (content for part in parts for content in _cut(part))
    for content in contents:
        while pieces.unanswered:
            patience = (PATIENCE if movable else SILENCE) if pieces.full else False
            _, ack = layer.receive([pieces.ack_channel], block=patience)
            if ack is None and not pieces.full:
                break
            if ack is None and movable:
                return _go_on(message, pieces, _steps(chain((content,), contents)))
            if not pieces.answered(ack):
                return None
        layer.apply(_with_buffered(pieces.piece(content)))
    message.reply(**pieces.last())
    return None


async def _go_on(message: Message, pieces: Pieces, parts: AsyncGenerator[bytes, None]) -> None:
    layer = asgi.channel_layers["default"]
    answers = _Answers(layer, pieces)
    try:
        async for part in parts:
            for content in _cut(part):
                if not await answers.room():
                    return
                await layer.aapply(_with_buffered(pieces.piece(content)))
        message.reply(**pieces.last())
    except asyncio.CancelledError:
        if not answers.client_left:
            raise
        answers.task.uncancel()
    finally:
        answers.stop()
        await parts.aclose()


def _head_alone(message: Message, response: HttpResponseBase) -> None:
    """Answer to HEAD as to GET, framing included, but for the content, which is not made."""
    message.reply(status=response.status_code, headers=headers_of(response), more_content=True)
    message.reply(offset=0, more_content=False)


def _with_buffered(piece: Send) -> list[Send]:
    box = outbox.get()
    if box is None:
        return [piece]
    sends, box.sends = box.sends, []
    sends.append(piece)
    return sends


def _cut(part: bytes) -> Iterator[bytes]:
    if len(part) <= PIECE:
        if part:
            yield part
        return
    for start in range(0, len(part), PIECE):
        yield part[start : start + PIECE]


async def _parts(response: StreamingHttpResponse) -> AsyncGenerator[bytes, None]:
    iterator: Any = response._iterator  # type: ignore[attr-defined]  # noqa: SLF001 - its aclose() is nowhere else
    try:
        async for part in iterator:
            yield response.make_bytes(part)
    finally:
        if hasattr(iterator, "aclose"):
            await iterator.aclose()


async def _steps(contents: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    step = sync_to_async(partial(next, contents, None))
    while (content := await step()) is not None:
        yield content


class _Answers:
    """Listens to the answers of pieces, and cancels the task that streams if the client left.

    While the iterator is silent an empty piece goes out at every `PULSE`, to be answered.
    """

    def __init__(self, layer: Layer, pieces: Pieces) -> None:
        self.client_left = False
        self.task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # on a loop
        self._layer = layer
        self._pieces = pieces
        self._taken = asyncio.Event()
        self._listener = asyncio.create_task(self._listen())
        self._listener.add_done_callback(self._left)

    async def room(self) -> bool:
        """Wait until a piece may be posted; return False where the client left."""
        while self._pieces.full and not self.client_left:
            self._taken.clear()
            await self._taken.wait()
        return not self.client_left

    def stop(self) -> None:
        """Listen no more."""
        self._listener.remove_done_callback(self._left)
        self._listener.cancel()

    async def _listen(self) -> None:
        pieces = self._pieces
        silence = 0.0
        while silence < SILENCE:
            _, ack = await self._layer.areceive([pieces.ack_channel], block=PULSE)
            if ack is not None:
                silence = 0.0
                if not pieces.answered(ack):
                    return
                self._taken.set()
            elif pieces.unanswered:
                silence += PULSE
            else:
                await self._layer.aapply((pieces.piece(b""),))

    def _left(self, listener: asyncio.Task[None]) -> None:
        if not listener.cancelled():
            self.client_left = True
            self.task.cancel()


class Pieces:
    """The pieces of one response: their offsets, and which were answered. Pure."""

    __slots__ = ("ack_channel", "channel", "offset", "posted", "unanswered")

    def __init__(self, channel: str, ack_channel: str) -> None:
        self.channel = channel
        self.ack_channel = ack_channel
        self.offset = 0
        self.posted = 0
        self.unanswered = 0

    def head(self, response: HttpResponseBase) -> Send:
        """Return the send that begins the response."""
        return self._send({"status": response.status_code, "headers": headers_of(response)}, b"")

    def piece(self, content: bytes) -> Send:
        """Return the send of the next piece."""
        return self._send({"offset": self.offset}, content)

    def last(self) -> dict[str, Any]:
        """Return the reply that completes the response."""
        return {"offset": self.offset, "content": b"", "more_content": False}

    def _send(self, message: dict[str, Any], content: bytes) -> Send:
        self.posted += 1
        self.unanswered += 1
        self.offset += len(content)
        message.update(
            content=content, more_content=True, ack=self.posted, ack_channel=self.ack_channel
        )
        return send(self.channel, message)

    @property
    def full(self) -> bool:
        """Whether the client has to take something first."""
        return self.unanswered >= WINDOW

    def answered(self, ack: dict[str, Any] | None) -> bool:
        """Count an answer (None: there was none in time); return whether the client is there."""
        self.unanswered -= 1
        return ack is not None and ack.get("outcome") == ACCEPTED
