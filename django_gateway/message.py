"""`Message`: what a consumer is called with."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import TYPE_CHECKING, Any, Final

from django.utils.functional import cached_property

from django_gateway.channel import Channel, outbox
from gateway.core.layers.base import send

if TYPE_CHECKING:
    from email.message import EmailMessage

    from django_gateway.received import Attachment, Received
    from django_gateway.sessions import BrowserSession, ChannelSession


_INSTEAD: Final = {
    "send": "message.reply(…)",
    "session": "message.channel_session, or message.http_session for the browser's",
    "scope": "message['path'] and the like: the message has it all",
    "data": "message.text, or message['bytes']",
    "GET": "message['query_string']",
    "META": "message['headers']",
    "build_absolute_uri": "a consumer without decorators of views: views have requests",
}
"""What people write who come from views, or from other frameworks, and what it is here."""


class Message:
    """A message of a channel: its content by key, and ways to answer it.

    ``message["path"]``, ``message.get("path")``, ``"path" in message`` read ``content``.
    ``attempt`` counts from 1; it is 2 and more after a release.
    """

    __slots__ = ("__dict__", "attempt", "channel_name", "content")

    def __init__(self, content: dict[str, Any], channel_name: str, attempt: int = 1) -> None:
        self.content = content
        self.channel_name = channel_name
        self.attempt = attempt

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __contains__(self, key: object) -> bool:
        return key in self.content

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default``."""
        return self.content.get(key, default)

    def keys(self) -> KeysView[str]:
        """Return the keys of the content."""
        return self.content.keys()

    def values(self) -> ValuesView[Any]:
        """Return the values of the content."""
        return self.content.values()

    def items(self) -> ItemsView[str, Any]:
        """Return the keys and values of the content."""
        return self.content.items()

    @property
    def channel(self) -> Channel:
        """The channel that the message came by."""
        return Channel(self.channel_name)

    @property
    def reply_channel(self) -> Channel:
        """Where this conversation is answered; LookupError for a message that has no such place."""
        name = self.content.get("reply_channel")
        if name is None:
            raise LookupError(
                f"a message of {self.channel_name!r} has no reply_channel: nobody waits"
            )
        return Channel(name)

    # Made at first use, so that they cost nothing who does not ask; a decorator, or a test, may
    # assign them.

    @cached_property
    def channel_session(self) -> ChannelSession:
        """Return the connection's session, saved if the consumer returns having changed it.

        LookupError for a message that belongs to no connection.
        """
        from django_gateway.sessions import channel_session_of  # noqa: PLC0415 - needs settings

        return channel_session_of(self)

    @cached_property
    def http_session(self) -> BrowserSession | None:
        """Return the browser's session, to be read; None where no cookie came with the connection.

        LookupError where nobody asked for it when the connection was opened.
        """
        from django_gateway.sessions import http_session_of  # noqa: PLC0415 - needs settings

        return http_session_of(self)

    @cached_property
    def user(self) -> Any:
        """Return who sent it: a user of ``AUTH_USER_MODEL``, or an ``AnonymousUser``.

        LookupError for a message that cannot tell; on an event loop RuntimeError, unless
        `auser` was awaited before. Raises `Reject` where the user is gone.
        """
        from django_gateway.users import user_of  # noqa: PLC0415 - needs settings

        return user_of(self)

    async def auser(self) -> Any:
        """Async twin of `user`, which may be used from then on."""
        if "user" not in self.__dict__:
            from django_gateway.users import auser_of  # noqa: PLC0415 - needs settings

            self.user = await auser_of(self)
        return self.user

    # ------------------------------------------------ of a mail

    @cached_property
    def mail(self) -> Received:
        """Return the mail of an ``email.receive``, read as far as it is asked for.

        LookupError for a message that is none.
        """
        from django_gateway.received import Received  # noqa: PLC0415 - needs settings

        return Received(self)

    @property
    def email(self) -> EmailMessage:
        """The mail as Python's ``email`` has it, all of it in memory; it never raises on a
        broken one. LookupError for a message that is none.
        """  # noqa: D205 - one sentence
        return self.mail.email

    async def aemail(self) -> EmailMessage:
        """Async twin of `email`."""
        return await self.mail.aemail()

    @property
    def attachments(self) -> list[Attachment]:
        """What came with a mail, as Django's files, closed once the consumer has returned.

        LookupError for a message that is none.
        """
        return self.mail.attachments

    async def aattachments(self) -> list[Attachment]:
        """Async twin of `attachments`."""
        return await self.mail.aattachments()

    @property
    def thread(self) -> str:
        """What all mails of one conversation have in common: the Message-ID of its first."""
        return self.mail.thread

    # ------------------------------------------------ of any message

    @property
    def text(self) -> str | None:
        """The text, or the bytes decoded from UTF-8; None where there is neither.

        Of a mail its first text, `mail.text`, wherever that stands.
        """
        text = self.content.get("text")
        if text is not None:
            return str(text)
        data = self.content.get("bytes")
        if data is None:
            return self.mail.text if "rcpt_to" in self.content else None
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError:
            return None

    @property
    def last_event_id(self) -> str:
        """The id of the last message that the client got before it came back; "" of a new one."""
        return str(self.content.get("last_event_id") or "")

    def reply(self, data: str | bytes | None = None, /, **content: Any) -> None:
        """Answer: a text, or bytes, or any keys of the protocol's reply; text and keys together.

        ``message.reply("hello")``, ``message.reply(b"hello")``, ``message.reply(status=404)``.
        Buffered inside a consumer, sync or async; outside it acts at once.
        """
        if data is not None:
            if isinstance(data, str):
                content["text"] = data
            elif isinstance(data, bytes):
                content["bytes"] = data
            else:
                instead = (
                    "message.reply(**content) for a dict, or a text with json.dumps(…)"
                    if isinstance(data, dict)
                    else "message.reply(str(…)) for its text"
                )
                raise TypeError(
                    f"message.reply() takes a str, bytes, or keys, not {type(data).__name__}; "
                    f"write {instead}"
                )
        elif not content:
            raise TypeError("message.reply() needs something to say")
        box = outbox.get()
        if box is not None and box.open and (name := self.content.get("reply_channel")):
            box.sends.append(send(name, content, box.most))
        else:
            self.reply_channel.send(content)

    def accept(self, **content: Any) -> None:
        """Accept what waits for a decision: ``message.accept(subprotocol="v1")``."""
        self.reply(accept=True, **content)

    def close(self, code: int | None = None, reason: str = "") -> None:
        """End the conversation, after what was sent before; None is the protocol's own code."""
        if code is not None and not isinstance(code, int):
            raise TypeError(
                f"message.close(code, reason): the code is an int or None, not {code!r}; write "
                "message.close(reason=…) for a reason alone"
            )
        content: dict[str, Any] = {"close": True if code is None else code}
        if reason:
            content["reason"] = reason
        self.reply(**content)

    if not TYPE_CHECKING:  # who checks types is told of them without this

        def __getattr__(self, name: str) -> Any:
            """Name what is meant by an attribute that messages do not have."""
            if hasattr(Message, name):  # a property that raised AttributeError: let that be seen
                return object.__getattribute__(self, name)
            instead = f"message[{name!r}]" if name in self.content else _INSTEAD.get(name)
            hint = f"; write {instead}" if instead else ""
            text = f"a message has no attribute {name!r}{hint}"
            raise AttributeError(text, name=name, obj=self)

    def __repr__(self) -> str:
        return f"<Message of {self.channel_name} with {', '.join(self.content) or 'nothing'}>"
