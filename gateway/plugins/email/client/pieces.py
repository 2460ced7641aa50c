"""`Pieces`: a mail that comes on a channel of its own, as it is read from there."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from gateway.core.layers.base import OK
from gateway.core.plugin import Context, Message
from gateway.plugins.email.client.envelope import Refused

AHEAD: Final = 1 << 20
"""Bytes that may wait to be written: beyond that the channel is not read, and its sender waits."""


class Pieces:
    """The content of a ``raw_channel``, to iterate over once. Ended by `close` in any case.

    A piece is ``{"offset", "content", "more_content"}``; one with an ``ack`` is acknowledged once
    it is written. ``{"closed": True}`` says that the rest will not come.
    """

    def __init__(self, context: Context, channel: str, patience: float) -> None:
        self._context = context
        self._channel = channel
        self._patience = patience
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._offset = 0
        self._some = asyncio.Event()
        self._reading = True
        self._written: Message | None = None
        self._whole = False
        context.read(channel, self._hear)

    def _hear(self, channel: str, piece: Message) -> None:
        self._waiting.append(piece)
        content = piece.get("content")
        self._bytes += len(content) if isinstance(content, bytes) else 0
        self._some.set()
        if self._bytes > AHEAD and self._reading:
            self._reading = False
            self._context.unlisten(self._channel)

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        self._acknowledge()
        if self._whole:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout(self._patience):
                while not self._waiting:
                    self._some.clear()
                    await self._some.wait()
        except TimeoutError:
            raise _broken(f"no piece came on 'raw_channel' for {self._patience:g} s") from None
        piece = self._waiting.popleft()
        content, offset = piece.get("content", b""), piece.get("offset")
        if piece.get("closed"):
            raise _broken("its sender has gone, or given it up")
        if not isinstance(content, bytes) or offset != self._offset:
            raise _broken(
                f"a piece is missing: at {self._offset} came one of offset {offset!r:.20}"
            )
        self._offset += len(content)
        self._bytes -= len(content)
        if not self._reading and self._bytes <= AHEAD // 2:
            self._reading = True
            self._context.read(self._channel, self._hear)
        self._whole = not piece.get("more_content", False)
        self._written = piece
        return content

    def _acknowledge(self) -> None:
        """Answer for the piece before: it is written."""
        if self._written is not None:
            self._context.answer(self._channel, self._written, OK)
            self._written = None

    def close(self) -> None:
        """Read no more."""
        self._context.unlisten(self._channel)


def _broken(reason: str) -> Refused:
    return Refused(reason, 451, "failed", fault=True)
