"""`SseConsumer` and `JsonSseConsumer`: events instead of messages."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Final, Unpack

from django.core.serializers.json import DjangoJSONEncoder

from django_gateway.channel import Group, How
from django_gateway.exceptions import Reject
from django_gateway.generic.base import Consumer
from django_gateway.message import Message
from django_gateway.routing import Call

NOT_VALID: Final = 400
NOT_TAKEN: Final = 415
"""What is answered to a post that is no JSON: RFC 9110 sections 15.5.1 and 15.5.16."""

OWN_EVENTS: Final = frozenset(("open", "close", "missed"))
"""Those by which the gateway itself speaks to a page; from elsewhere they are invalid replies."""


class SseConsumer(Consumer):
    """A consumer of event streams: ``receive`` gets the text, or the bytes, of what is posted."""

    protocols: ClassVar[Any] = ("sse",)

    def raw_receive(self, message: Message, **kwargs: Any) -> Any:
        """Call `receive` with what the message has."""
        content = message.content
        if content.get("text") is not None:
            return self.receive(text=content["text"], **kwargs)
        return self.receive(bytes=content["bytes"], **kwargs)

    def receive(self, text: str | None = None, bytes: bytes | None = None, **kwargs: Any) -> Any:  # noqa: A002 - the message's key
        """Do nothing with what is posted."""

    def send(
        self,
        text: str | None = None,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the message's key
        retry: int | None = None,
        bytes: bytes | None = None,  # noqa: A002 - the message's key
        close: bool | int = False,
    ) -> None:
        """Send an event, with its name and fields, and close after it if asked to."""
        self.reply(**_content(text, event, id, retry, bytes, close))

    @classmethod
    def group_send(
        cls,
        name: str,
        text: str | None = None,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the message's key
        retry: int | None = None,
        bytes: bytes | None = None,  # noqa: A002 - the message's key
        close: bool | int = False,
        **how: Unpack[How],
    ) -> None:
        """Send an event to every member of a group, with the keywords of `Group.send`."""
        Group(name).send(_content(text, event, id, retry, bytes, close), **how)

    @classmethod
    async def agroup_send(
        cls,
        name: str,
        text: str | None = None,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the message's key
        retry: int | None = None,
        bytes: bytes | None = None,  # noqa: A002 - the message's key
        close: bool | int = False,
        **how: Unpack[How],
    ) -> None:
        """Async twin of `group_send`, for where nothing is buffered."""
        await Group(name).asend(_content(text, event, id, retry, bytes, close), **how)

    @classmethod
    def calls(cls, method: str) -> list[Call]:
        """Return what is called for a message that ``method`` takes."""
        found = super().calls(method)
        if method == "raw_receive" and cls.raw_receive is SseConsumer.raw_receive:
            found.append(Call(cls.receive, ("self",), ("text", "bytes")))
        return found


class JsonSseConsumer(SseConsumer):
    """A consumer of event streams whose data is JSON: ``receive`` gets what a post holds.

    A post that is no JSON is answered 400, one of bytes 415; override `decode_json` for anything
    else.
    """

    def raw_receive(self, message: Message, **kwargs: Any) -> Any:
        """Call `receive` with what the text holds."""
        text = message.content.get("text")
        if text is None:
            raise Reject(NOT_TAKEN, "JSON alone")
        try:
            content = self.decode_json(text)
        except (ValueError, RecursionError):
            raise Reject(NOT_VALID, "not JSON") from None
        return self.receive(content, **kwargs)

    def receive(self, content: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # as its WebSocket twin
        """Do nothing with what a post holds."""

    def send(  # type: ignore[override]  # as its WebSocket twin
        self,
        content: Any,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the message's key
        retry: int | None = None,
        close: bool | int = False,
    ) -> None:
        """Send an event whose data is ``content`` as JSON, and close after it if asked to."""
        super().send(self.encode_json(content), event=event, id=id, retry=retry, close=close)

    @classmethod
    def group_send(  # type: ignore[override]  # as its WebSocket twin
        cls,
        name: str,
        content: Any,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the message's key
        retry: int | None = None,
        close: bool | int = False,
        **how: Unpack[How],
    ) -> None:
        """Send ``content`` as JSON to every member of a group; the keywords are `Group.send`'s."""
        text = cls.encode_json(content)
        super().group_send(name, text, event=event, id=id, retry=retry, close=close, **how)

    @classmethod
    async def agroup_send(  # type: ignore[override]  # as its WebSocket twin
        cls,
        name: str,
        content: Any,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the message's key
        retry: int | None = None,
        close: bool | int = False,
        **how: Unpack[How],
    ) -> None:
        """Async twin of `group_send`, for where nothing is buffered."""
        text = cls.encode_json(content)
        await super().agroup_send(name, text, event=event, id=id, retry=retry, close=close, **how)

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
        if method == "raw_receive" and cls.raw_receive is JsonSseConsumer.raw_receive:
            found.append(Call(cls.receive, ("self", "content")))
        return found


def _content(
    text: str | None,
    event: str | None,
    id_: str | None,
    retry: int | None,
    data: bytes | None,
    close: bool | int,
) -> dict[str, Any]:
    if text is not None and not isinstance(text, str):
        raise TypeError(
            f"send(text) takes a str, not {type(text).__name__}; "
            + (
                "write send(bytes=…)"
                if isinstance(text, bytes)
                else "a JsonSseConsumer sends other things, as JSON"
            )
        )
    if event is not None and text is None and data is None:
        raise ValueError(
            "an event needs data, or browsers drop it: send('', event=…) for one without"
        )
    if event in OWN_EVENTS:
        raise ValueError(
            f"the event {event!r} is the gateway's own; choose another name, or send(close=True) "
            "to end the stream"
        )
    if isinstance(retry, float):
        raise TypeError("retry is whole milliseconds: write retry=int(1000 * seconds)")
    given = {"text": text, "event": event, "id": id_, "retry": retry, "bytes": data}
    content: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if close is not False:
        content["close"] = close
    if not content:
        raise ValueError("an event has data, or a field: send('text'), send(id=…), send(retry=…)")
    return content
