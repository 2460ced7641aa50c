"""Message objects: what a client is sent that speaks the subprotocol ``gateway.v1``. Pure.

All is text frames of JSON, but for what the application sends as bytes without an id::

    {"keep_alive": 20.0}         first of all: seconds from one heartbeat to the next, 0: none come
    {"text": "…", "id": "…"}     a text message, and its id if it has one
    binary                       a message of bytes
    {"bytes": "…", "id": "…"}    one with an id, in base64: a connection that breaks between two
                                 frames would leave a client with the one and without the other
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
from gateway.core.websockets import frames
from gateway.plugins.websocket.translate import OPEN, ContextSession, WebsocketSession

NAME: Final = "gateway.v1"
BEAT: Final = "beat"
"""The timer of the heartbeats."""

_encode = msgspec.json.Encoder().encode
_HEARTBEAT: Final = frames.text_frame("{}")
_SAYS: Final = ("text", "bytes", "id", "missed")
"""The keys of a reply that is nothing but data, as an object has them: msgspec makes base64 of
bytes."""
_DATA: Final = frozenset(_SAYS)


class ObjectSession(WebsocketSession):
    """A connection whose client offered ``gateway.v1``, and therefore speaks nothing else."""

    __slots__ = ()

    resumes: ClassVar[bool] = True

    def _since(self, head: Head) -> str:
        return super()._since(head) or ""

    @classmethod
    def frame(cls, reply: Message) -> bytes | None:
        """Return the frames of a group's message that is nothing but data."""
        if not reply.keys() <= _DATA:
            return None
        if "text" in reply and "missed" not in reply:  # nearly all: it is the object
            return super().frame({"text": _encode(reply).decode()})
        if (told := _told(reply)) is not None:
            return super().frame({"text": told})
        return super().frame({"bytes": reply["bytes"]}) if "bytes" in reply else None

    def _talks(self, reply: Message) -> bool:
        return super()._talks(reply) or _told(reply) is not None

    def _data(self, reply: Message) -> bytes:
        told = _told(reply)
        return super()._data(reply if told is None else {"text": told})

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


def _told(reply: Message) -> str | None:
    """Return what a reply says as an object; None where it says nothing, or bytes alone."""
    found = {key: value for key in _SAYS if (value := reply.get(key)) not in (None, False)}
    return _encode(found).decode() if found and found.keys() != {"bytes"} else None
