"""Message objects: what a client is sent that speaks the subprotocol ``gateway.v1``. Pure.

All is text frames of JSON, but for what the application sends as bytes::

    {"keep_alive": 20.0}         first of all: seconds from one heartbeat to the next, 0: none come
    {"text": "…", "id": "…"}     a text message, and its id if it has one
    binary, {"id": "…"}          a binary message, and its id, if it has one, in the same write
    {"id": "…"}                  this is where you are
    {"missed": true}             more was missed than is kept
    {}                           a heartbeat: a page sees no pings, and so no path that is dead

It sends plain text and binary messages, as any other. ``id`` is what it says as ``last_event_id``
in the query when it comes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

import msgspec

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import Action, Message, Timer, Write
from gateway.core.web import Head
from gateway.plugins.websocket import frames
from gateway.plugins.websocket.translate import OPEN, ContextSession, WebsocketSession

NAME: Final = "gateway.v1"
BEAT: Final = "beat"
"""The timer of the heartbeats."""

_encode = msgspec.json.Encoder().encode
_HEARTBEAT: Final = frames.text_frame("{}")
_SAYS: Final = frozenset(("text", "bytes", "id", "missed"))
"""The keys of a reply that is nothing but data."""


class ObjectSession(WebsocketSession):
    """A connection whose client offered ``gateway.v1``, and therefore speaks nothing else."""

    __slots__ = ()

    resumes: ClassVar[bool] = True

    def _since(self, head: Head) -> str:
        return super()._since(head) or ""

    @classmethod
    def frame(cls, reply: Message) -> bytes | None:
        """Return the frames of a group's message that is nothing but data."""
        if not reply.keys() <= _SAYS:
            return None
        if reply.get("text") is not None:
            return super().frame({"text": _object(reply)})
        data = reply.get("bytes")
        if data is None:
            return _told(reply) or None
        frame = super().frame({"bytes": data})
        return None if frame is None else frame + _told(reply)

    def _talks(self, reply: Message) -> bool:
        return super()._talks(reply) or bool(_told(reply))

    def _data(self, reply: Message) -> bytes:
        if reply.get("text") is not None:
            return super()._data({"text": _object(reply)})
        told = _told(reply)
        return super()._data(reply) + told if reply.get("bytes") is not None else told

    def _accept(self, reply: Message) -> list[Action]:
        if reply.get("subprotocol", NAME) != NAME:
            raise LocalProtocolError(
                f"the client offered {NAME}, so that it is what both speak; leave subprotocol out"
            )
        interval = self._config.ping_interval
        actions = super()._accept({**reply, "subprotocol": NAME})
        actions.append(Write(frames.text_frame(_encode({"keep_alive": interval}).decode())))
        if interval:
            actions.append(Timer(BEAT, interval))
        return actions

    def timeout(self, name: str) -> Iterable[Action]:
        """Show the page that the path is alive; the rest is as for any WebSocket."""
        if name != BEAT:
            return super().timeout(name)
        if self.state is not OPEN:
            return ()
        return (Write(_HEARTBEAT), Timer(BEAT, self._config.ping_interval))


class ObjectContextSession(ObjectSession, ContextSession):
    """The same, over compression that goes on from message to message."""

    __slots__ = ()


def _object(reply: Message, keys: Iterable[str] = ("text", "id", "missed")) -> str:
    """Return a reply as an object, of those of its ``keys`` that say something."""
    found = {key: reply[key] for key in keys if reply.get(key, False) is not False}
    return _encode(found).decode()


def _told(reply: Message) -> bytes:
    """Return the frame of what a reply says beside its data, nothing if that is nothing."""
    if "id" in reply or reply.get("missed"):
        return frames.text_frame(_object(reply, ("id", "missed")))
    return b""
