"""`WebsocketConsumer` and its kin: frames instead of messages."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Final, NoReturn, Unpack

from django.core.serializers.json import DjangoJSONEncoder

from django_gateway.channel import Group, How
from django_gateway.exceptions import Reject, SendNotAvailableOnDemultiplexer
from django_gateway.generic.base import Consumer
from django_gateway.generic.multiplexing import Demultiplexer, Multiplexer
from django_gateway.message import Message
from django_gateway.routing import Call

NOT_TAKEN: Final = 1003
"""RFC 6455 section 7.4.1: "it has received a type of data it cannot accept"."""
NOT_VALID: Final = 1007
"""RFC 6455 section 7.4.1: "data within a message that was not consistent with the type"."""


class WebsocketConsumer(Consumer):
    """A consumer of WebSockets: ``receive`` gets a frame's text, or its bytes."""

    protocols: ClassVar[Any] = ("websocket",)

    def raw_receive(self, message: Message, **kwargs: Any) -> Any:
        """Call `receive` with what the message has."""
        content = message.content
        if content.get("text") is not None:
            return self.receive(text=content["text"], **kwargs)
        return self.receive(bytes=content["bytes"], **kwargs)

    def receive(self, text: str | None = None, bytes: bytes | None = None, **kwargs: Any) -> Any:  # noqa: A002 - the message's key
        """Do nothing with a frame."""

    def send(
        self,
        text: str | None = None,
        bytes: bytes | None = None,  # noqa: A002 - the message's key
        close: bool | int = False,
    ) -> None:
        """Send a frame, and close after it if asked to, with a code or True."""
        self.reply(**_content(text, bytes, close))

    @classmethod
    def group_send(
        cls,
        name: str,
        text: str | None = None,
        bytes: bytes | None = None,  # noqa: A002 - the message's key
        close: bool | int = False,
        **how: Unpack[How],
    ) -> None:
        """Send a frame to every member of a group, with the keywords of `Group.send`."""
        Group(name).send(_content(text, bytes, close), **how)

    @classmethod
    async def agroup_send(
        cls,
        name: str,
        text: str | None = None,
        bytes: bytes | None = None,  # noqa: A002 - the message's key
        close: bool | int = False,
        **how: Unpack[How],
    ) -> None:
        """Async twin of `group_send`, for where nothing is buffered."""
        await Group(name).asend(_content(text, bytes, close), **how)

    @classmethod
    def calls(cls, method: str) -> list[Call]:
        """Return what is called for a message that ``method`` takes."""
        found = super().calls(method)
        if method == "raw_receive" and cls.raw_receive is WebsocketConsumer.raw_receive:
            found.append(Call(cls.receive, ("self",), ("text", "bytes")))
        return found


class JsonWebsocketConsumer(WebsocketConsumer):
    """A consumer of WebSockets that speak JSON: ``receive`` gets what a frame's text holds.

    A text that is no JSON closes the connection with 1007, a binary frame with 1003; override
    `decode_json` for anything else.
    """

    not_valid: ClassVar[int] = NOT_VALID
    not_taken: ClassVar[int] = NOT_TAKEN
    """The codes of `Reject` for a text that is no JSON, and for bytes."""

    def raw_receive(self, message: Message, **kwargs: Any) -> Any:
        """Call `receive` with what the text holds."""
        text = message.content.get("text")
        if text is None:
            raise Reject(self.not_taken, "text alone")
        try:
            content = self.decode_json(text)
        except (ValueError, RecursionError):
            raise Reject(self.not_valid, "not JSON") from None
        return self.receive(content, **kwargs)

    def receive(self, content: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # as in Channels 1
        """Do nothing with what a frame holds."""

    def send(self, content: Any, close: bool | int = False) -> None:  # type: ignore[override]  # as in Channels 1
        """Send ``content`` as JSON, and close after it if asked to."""
        super().send(text=self.encode_json(content), close=close)

    @classmethod
    def group_send(  # type: ignore[override]  # as in Channels 1
        cls, name: str, content: Any, close: bool | int = False, **how: Unpack[How]
    ) -> None:
        """Send ``content`` as JSON to every member of a group; the keywords are `Group.send`'s."""
        super().group_send(name, cls.encode_json(content), close=close, **how)

    @classmethod
    async def agroup_send(  # type: ignore[override]  # as in Channels 1
        cls, name: str, content: Any, close: bool | int = False, **how: Unpack[How]
    ) -> None:
        """Async twin of `group_send`, for where nothing is buffered."""
        await super().agroup_send(name, cls.encode_json(content), close=close, **how)

    @classmethod
    def decode_json(cls, text: str) -> Any:
        """Return what a text holds. Raises ValueError where it is no JSON."""
        return json.loads(text)

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Return ``content`` as text. Dates, decimals and UUIDs are written as Django does."""
        return json.dumps(content, cls=DjangoJSONEncoder)

    @classmethod
    def calls(cls, method: str) -> list[Call]:
        """Return what is called for a message that ``method`` takes."""
        found = super().calls(method)
        if method == "raw_receive" and cls.raw_receive is JsonWebsocketConsumer.raw_receive:
            found.append(Call(cls.receive, ("self", "content")))
        return found


class WebsocketMultiplexer(Multiplexer):
    """A stream of a WebSocket: how a consumer behind a `WebsocketDemultiplexer` answers."""


class WebsocketDemultiplexer(Demultiplexer):
    """A `Demultiplexer` of WebSockets, with the names of Channels 1.

    A message that is no ``{"stream": …, "payload": …}`` closes the connection with 1007, one of an
    unknown stream with 1008, a binary one with 1003.
    """

    protocols: ClassVar[Any] = ("websocket",)
    multiplexer_class: ClassVar[type[Multiplexer]] = WebsocketMultiplexer

    def send(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `SendNotAvailableOnDemultiplexer`."""
        raise SendNotAvailableOnDemultiplexer(
            "a demultiplexer has no stream of its own: the consumer of one answers with "
            "multiplexer.send(payload), and WebsocketMultiplexer(stream, self.reply_channel) is "
            "one of any"
        )

    @classmethod
    def group_send(cls, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG003 - whatever it is
        """Raise `SendNotAvailableOnDemultiplexer`."""
        raise SendNotAvailableOnDemultiplexer(
            "a demultiplexer has no stream of its own: write WebsocketMultiplexer.group_send(name, "
            "stream, payload)"
        )


def _content(text: str | None, data: bytes | None, close: bool | int) -> dict[str, Any]:
    content: dict[str, Any] = {"close": close} if close is not False else {}
    if text is not None:
        if not isinstance(text, str):
            raise TypeError(
                f"send(text=…) takes a str, not {type(text).__name__}; "
                + (
                    "write send(bytes=…)"
                    if isinstance(text, bytes)
                    else "a JsonWebsocketConsumer sends other things, as JSON"
                )
            )
        content["text"] = text
    elif data is not None:
        content["bytes"] = data
    elif not content:
        raise ValueError("a frame has a text or bytes: send(text=…) or send(bytes=…)")
    return content
