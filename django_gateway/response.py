"""Django's responses as replies: one message, or pieces at the client's pace.

A response of up to `PIECE` bytes is one buffered reply, which leaves with the outcome. Larger
and streaming ones leave in `Pieces`, at once; no more than a window of them is under way, so
that a slow client slows the iterator down, and one that left ends it. What the iterator sends
to channels and groups leaves with its next piece.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple, cast

from asgiref.sync import sync_to_async
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from django_gateway import asgi
from django_gateway.channel import outbox
from django_gateway.crew import PATIENCE, await_client
from django_gateway.message import Message
from django_gateway.pieces import PIECE, Pieces, cut
from gateway.core import names
from gateway.core.errors import LayerError
from gateway.core.layers.base import Layer, Send

FOREVER: Final = float("inf")
SILENCE: Final = 120.0
"""Seconds that an answer to a piece may take; the gateway gives up a stuck client far earlier."""
LULL: Final = 0.1
"""Seconds between two pieces of an iterator from which on each asks whether the client is still
there: so seldom it costs nothing."""
FAREWELL: Final = 1.0
"""Seconds in which the other answers of a client that left are there: they are sent together."""
PULSE: Final = 5.0
"""Seconds without a piece after which an empty one asks."""


class Rest(NamedTuple):
    """What a thread leaves to be awaited on the loop."""

    work: Coroutine[Any, Any, None]
    finished: bool
    """Whether the response has given all that it has: it can be closed before."""


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


def reply(message: Message, response: HttpResponseBase) -> Rest | None:
    """Answer with a response, from this thread.

    Large contents and files are left to the loop, and what an asynchronous iterator has to say:
    a thread is too dear to wait for a client. Other iterators may depend on their thread, and
    stay.
    """
    if _replied_whole(message, response):
        return None
    if isinstance(response, StreamingHttpResponse) and response.is_async:
        return Rest(areply(message, response), finished=False)
    contents, movable = _contents(response)
    if message.content["method"] == "HEAD":
        _head_alone(message, response)
        return None
    if not movable:
        return _post(message, response, contents)
    first = next(contents, b"")
    if _is_all(response, first):
        _whole(message, response, first)
        return None
    return Rest(_stream(message, response, first, _steps(contents)), finished=False)


async def areply(message: Message, response: HttpResponseBase) -> None:
    """Answer with a response, from the loop."""
    if _replied_whole(message, response):
        return
    movable = False
    if isinstance(response, StreamingHttpResponse) and response.is_async:
        parts = _parts(response)
    else:
        contents, movable = _contents(response)
        parts = _steps(contents)
    if message.content["method"] == "HEAD":
        _head_alone(message, response)
        return
    first = await anext(parts, b"") if movable else b""
    if _is_all(response, first):
        await parts.aclose()
        _whole(message, response, first)
        return
    await _stream(message, response, first, parts)


def _replied_whole(message: Message, response: HttpResponseBase) -> bool:
    """Answer with a response that is one piece, and return whether it was."""
    if isinstance(response, StreamingHttpResponse):
        return False
    content = cast("HttpResponse", response).content
    if len(content) > PIECE:
        return False
    _whole(message, response, content)
    return True


def _whole(message: Message, response: HttpResponseBase, content: bytes) -> None:
    message.reply(status=response.status_code, headers=headers_of(response), content=content)


def _is_all(response: HttpResponseBase, content: bytes) -> bool:
    return response.headers.get("Content-Length") == str(len(content)) and bool(content)


def _contents(response: HttpResponseBase) -> tuple[Iterator[bytes], bool]:
    """Return what a response says, in pieces; and whether any thread may ask for the next."""
    if not isinstance(response, StreamingHttpResponse):
        content = cast("HttpResponse", response).content
        response.headers.setdefault("Content-Length", str(len(content)))
        return cut(content), True
    if isinstance(response, FileResponse):
        response.block_size = PIECE  # Django's 4 KiB suit its development server
    parts = cast("Iterable[bytes]", response.streaming_content)
    return chain.from_iterable(map(cut, parts)), isinstance(response, FileResponse)


def _post(message: Message, response: HttpResponseBase, contents: Iterator[bytes]) -> Rest | None:
    """Stream what must be asked for on this thread."""
    layer, pieces = _begun(message)
    layer.apply(_with_buffered(pieces.head(response.status_code, headers_of(response), b"")))
    answers = _Answers(layer, pieces)
    rest: Rest | None = None
    try:
        posted = time.monotonic()
        for content in contents:
            lull = time.monotonic() - posted > LULL
            if pieces.full:
                answers.wait_for_room()
            while lull and pieces.unanswered and answers.hear(False):
                pass
            if answers.left:
                return None
            layer.apply(_with_buffered(pieces.piece(content, ask=lull)))
            posted = time.monotonic()
        while pieces.unanswered and answers.hear(PATIENCE):
            pass
        if answers.left:
            return None
        if pieces.unanswered:
            rest = Rest(_go_on(message, answers, _steps(iter(()))), finished=True)
            return rest
    finally:
        if rest is None:
            answers.stop()
    message.reply(**pieces.last())
    return None


async def _stream(
    message: Message,
    response: HttpResponseBase,
    first: bytes,
    parts: AsyncGenerator[bytes, None],
) -> None:
    """Stream on the loop."""
    layer, pieces = _begun(message)
    head = pieces.head(response.status_code, headers_of(response), first)
    await layer.aapply(_with_buffered(head))
    await _go_on(message, _Answers(layer, pieces), parts)


def _begun(message: Message) -> tuple[Layer, Pieces]:
    layer = asgi.channel_layers["default"]
    return layer, Pieces(message.content["reply_channel"], layer.new_channel("http.ack?"))


async def _go_on(message: Message, answers: _Answers, parts: AsyncGenerator[bytes, None]) -> None:
    layer, pieces = answers.layer, answers.pieces
    await answers.listen()
    try:
        loop = asyncio.get_running_loop()
        posted = loop.time()
        async for part in parts:
            for content in cut(part):
                await answers.room()
                lull = loop.time() - posted > LULL
                await layer.aapply(_with_buffered(pieces.piece(content, ask=lull)))
                posted = loop.time()
        await answers.all()
        message.reply(**pieces.last())
    except asyncio.CancelledError:
        if not answers.left:
            raise
        answers.task.uncancel()
    finally:
        await parts.aclose()
        await answers.astop()


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
    """The answers to the pieces of one response: heard by a thread, or by a task on the loop.

    On the loop the task that streams is cancelled if the client leaves, and while the iterator
    is silent an empty piece goes out at every `PULSE`, to be answered.
    """

    def __init__(self, layer: Layer, pieces: Pieces) -> None:
        self.layer = layer
        self.pieces = pieces
        self.left = False
        """Whether the client left, or may as well have."""
        self.task: asyncio.Task[Any]
        """The task that streams."""
        self._process = names.process_of(pieces.channel)
        self._watched = False
        self._waits_since = FOREVER
        """When the task began to wait for room (monotonic)."""
        self._taken = asyncio.Event()
        self._listener: asyncio.Task[None]

    # ---------------------------------------------------------------- on a thread

    def hear(self, patience: float) -> bool:
        """Wait that long for an answer; return whether there was one, and the client is there.

        Without one within `SILENCE` seconds it counts as gone.
        """
        channel = self.pieces.ack_channel
        if not self._watched and self._process is not None:
            self._watched = True
            self.layer.watch(channel, self._process)
        if patience > PATIENCE:
            ack = await_client(self.layer, channel, patience)
        else:
            _, ack = self.layer.receive([channel], block=patience)
        if ack is None:
            self.left = patience >= SILENCE
            return False
        self.left = not self.pieces.answered(ack)
        return not self.left

    def wait_for_room(self) -> None:
        """Wait until a piece may be posted, or the client left."""
        began = time.monotonic()
        while self.pieces.full and self.hear(SILENCE):
            pass
        self.pieces.waited(time.monotonic() - began)

    def stop(self) -> None:
        """Listen no more; what is still to be answered for a client that left is heard."""
        pieces = self.pieces
        with suppress(LayerError):
            while self.left and pieces.unanswered:
                _, ack = self.layer.receive([pieces.ack_channel], block=FAREWELL)
                if ack is None:
                    break
                pieces.answered(ack)
            if self._watched and self._process is not None:
                self.layer.unwatch(pieces.ack_channel, self._process)

    # ---------------------------------------------------------------- on the loop

    async def listen(self) -> None:
        """Listen from now on, for the running task."""
        if not self._watched and self._process is not None:
            self._watched = True
            await self.layer.awatch(self.pieces.ack_channel, self._process)
        self.task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._listener = asyncio.create_task(self._listen())
        self._listener.add_done_callback(self._ended)

    async def room(self) -> None:
        """Wait until a piece may be posted."""
        self._waits_since = time.monotonic()
        while self.pieces.full:
            self._taken.clear()
            await self._taken.wait()
        self._waits_since = FOREVER

    async def all(self) -> None:
        """Wait until the client has taken everything."""
        while self.pieces.unanswered:
            self._taken.clear()
            await self._taken.wait()

    async def astop(self) -> None:
        """As `stop`."""
        pieces = self.pieces
        self._listener.remove_done_callback(self._ended)
        self._listener.cancel()
        with suppress(LayerError):
            while self.left and pieces.unanswered:
                _, ack = await self.layer.areceive([pieces.ack_channel], block=FAREWELL)
                if ack is None:
                    break
                pieces.answered(ack)
            if self._process is not None:
                await self.layer.aunwatch(pieces.ack_channel, self._process)

    async def _listen(self) -> None:
        pieces = self.pieces
        silence = 0.0
        while silence < SILENCE:
            _, ack = await self.layer.areceive([pieces.ack_channel], block=PULSE)
            if ack is not None:
                silence = 0.0
                if not pieces.answered(ack):
                    return
                pieces.waited(time.monotonic() - self._waits_since)
                self._taken.set()
            elif pieces.unanswered:
                silence += PULSE
            else:
                await self.layer.aapply((pieces.piece(b"", ask=True),))

    def _ended(self, listener: asyncio.Task[None]) -> None:
        if not listener.cancelled():
            self.left = True
            self.task.cancel()
