"""A mail that came, as its consumer reads it: each part of it at its first use.

The gateway reads the headers alone. What else the consumer asks for is made here, from ``raw``,
or from what comes on ``raw_channel``, which is put into a temporary file first. The files are
closed once the consumer's message is settled, as uploads are; what is to stay is copied.
"""

from __future__ import annotations

import asyncio
import re
import weakref
from collections.abc import Iterable
from contextlib import suppress
from email.contentmanager import ContentManager, raw_data_manager
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import EmailPolicy
from io import BufferedReader, BytesIO, RawIOBase
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from django_gateway.body import IN_MEMORY, BodyStream, collect
from django_gateway.channel import outbox
from django_gateway.mailparts import Part, file_name, split

if TYPE_CHECKING:
    from django_gateway.message import Message

BLOCK: Final = 65_536
"""Bytes that are copied in one step."""
TEXT: Final = 1024 * 1024
"""Bytes of a mail's text that `Received.text` has: more than anybody writes, and what one message
of the layer holds."""

_ID: Final = re.compile(r"<([^<>\s]+)>")
"""A Message-ID (RFC 5322 section 3.6.4), without its angle brackets."""


class Received:
    """The mail of one ``email.receive``: ``message.mail``.

    Nothing of it raises for what a mail says, however broken it is.
    """

    def __init__(self, message: Message) -> None:
        content = message.content
        if "rcpt_to" not in content or ("raw" not in content and "raw_channel" not in content):
            raise LookupError(f"a message of {message.channel_name!r} is no mail")
        self._message = message
        self._files: list[BinaryIO] = []
        """What has to be closed."""
        self._raw: BinaryIO | None = None
        self._parts: list[Part] | None = None
        self._decoded: BinaryIO | None = None
        self._email: EmailMessage | None = None
        self._attachments: list[Attachment] | None = None
        self._finalizer = weakref.finalize(self, _close, self._files)
        box = outbox.get()
        if box is not None and box.open:
            box.close_later(self.close)

    def close(self) -> None:
        """Let go of the files."""
        self._finalizer()

    # ---------------------------------------------------------------- what a consumer asks for

    @property
    def thread(self) -> str:
        """What all mails of one conversation have in common: the Message-ID of the first of them.

        By ``References``, or ``In-Reply-To``; a mail with neither begins one. Without angle
        brackets. Empty for a mail that has no Message-ID at all. Whoever writes a mail says what
        is in these headers: it is no proof of anything.
        """
        found = dict.fromkeys(("references", "in-reply-to"), "")
        for name, value in self._message.content.get("headers") or ():
            key = str(name).lower()
            if not found.get(key, "-"):
                found[key] = str(value)
        for value in (*found.values(), str(self._message.content.get("message_id") or "")):
            match = _ID.search(value)
            if match:
                return match[1]
        return str(self._message.content.get("message_id") or "").strip("<> \t")

    @property
    def email(self) -> EmailMessage:
        """The mail as Python's ``email`` has it. All of it is in memory."""
        if self._email is None:
            self._email = _parser.parse(self.open())
        return self._email

    @property
    def text(self) -> str | None:
        """The first text of the mail that is not attached to it; None where it has only others."""
        part = next((one for one in self._split() if one.is_body and _is_plain(one)), None)
        if part is None:
            return None
        with self._reader(part) as file:
            raw = file.read(TEXT)
        return decoded(raw, part.charset).replace("\r\n", "\n")

    @property
    def attachments(self) -> list[Attachment]:
        """What is attached to the mail, and lies within it, but for its text and that in HTML."""
        if self._attachments is None:
            attached = [one for one in self._split() if not one.is_body]
            self._attachments = [
                Attachment(self._reader(part), part, number)
                for number, part in enumerate(attached, 1)
            ]
            self._files += [cast("BinaryIO", one.file) for one in self._attachments]
        return self._attachments

    def open(self) -> BinaryIO:
        """Return the mail as it came, a file of bytes, to be read from its beginning."""
        raw = self._raw
        if raw is None:
            content = self._message.content
            channel = content.get("raw_channel")
            if channel is None:
                raw = BytesIO(content["raw"])
            else:
                _only_off_loop()
                raw = self._collected(content.get("raw") or b"", channel)
            self._keep(raw)
        raw.seek(0)
        return raw

    async def acollect(self) -> None:
        """Have a large mail in its file, so that all the rest is there without waiting.

        Raises `RequestAborted` where its sender left before its end.
        """
        content = self._message.content
        channel = content.get("raw_channel")
        if self._raw is None and channel is not None:
            self._message.__dict__["spent"] = True
            start = content.get("raw") or b""
            file, _ = await collect(start, channel, content["reply_channel"])
            self._keep(cast("BinaryIO", file))

    async def aemail(self) -> EmailMessage:
        """Async twin of `email`."""
        await self.acollect()
        return await sync_to_async(lambda: self.email)()

    async def aattachments(self) -> list[Attachment]:
        """Async twin of `attachments`."""
        await self.acollect()
        return await sync_to_async(lambda: self.attachments)()

    # ---------------------------------------------------------------- own

    def _keep(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._files.append(raw)

    def _collected(self, start: bytes, channel: str) -> BinaryIO:
        """Return a file with all that comes on a channel."""
        self._message.__dict__["spent"] = True
        file = _temporary()
        try:
            with BodyStream(start, channel, self._message.content["reply_channel"]) as stream:
                copyfileobj(stream, file, BLOCK)
        except BaseException:
            file.close()
            raise
        return file

    def _split(self) -> list[Part]:
        if self._parts is None:
            source = self.open()
            into = _temporary()
            self._files.append(into)
            self._parts = split(source, into)
            self._decoded = into
        return self._parts

    def _reader(self, part: Part) -> BufferedReader:
        return BufferedReader(_Window(cast("BinaryIO", self._decoded), part.start, part.size))


class Attachment(UploadedFile):  # type: ignore[type-arg]  # no generic when it runs
    """What came with a mail: one of Django's files, which a ``FileField`` takes.

    ``name`` has no path in it, whatever the sender wrote; ``content_type``, ``charset`` and
    ``size`` say what it is. `open` reads it from its beginning.
    """

    def __init__(self, file: BufferedReader, part: Part, number: int) -> None:
        super().__init__(
            cast("Any", file),
            file_name(part.name, part.content_type, number),
            part.content_type,
            part.size,
            part.charset or None,
        )
        self.content_id = part.content_id
        """What the HTML of the mail calls it, ``cid:…``; empty where it does not."""
        self.inline = part.disposition == "inline" or (
            not part.disposition and bool(part.content_id)
        )
        """Whether it is to be shown within the text."""


class _Window(RawIOBase):
    """A part of a file, as a file of its own; several of one file may be read in turn."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an offset."""
        base = (0, self._at, self._size)[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read up to ``len(buffer)`` bytes; 0 at the end."""
        count = max(0, min(len(buffer), self._size - self._at))
        if count:
            self._file.seek(self._start + self._at)
            content = self._file.read(count)
            count = len(content)
            buffer[:count] = content
            self._at += count
        return count


def decoded(raw: bytes, charset: str) -> str:
    """Return a text in what its sender says is its charset; what does not fit is replaced."""
    for encoding in (charset, "utf-8"):
        with suppress(LookupError, ValueError):  # "unknown-8bit", "idna": no charsets of texts
            if encoding:
                return str(raw, encoding)
    return str(raw, "cp1252", "replace")


def _is_plain(part: Part) -> bool:
    return part.content_type == "text/plain"


def _temporary() -> BinaryIO:
    file = SpooledTemporaryFile[bytes](IN_MEMORY, dir=settings.FILE_UPLOAD_TEMP_DIR)
    return cast("BinaryIO", file)


def _close(files: Iterable[BinaryIO]) -> None:
    for file in files:
        file.close()


def _only_off_loop() -> None:
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 - get_running_loop() raises where there is none, at 30 times the cost
        raise RuntimeError(
            "a large mail is still on its way, and this is an event loop: write "
            "await message.mail.acollect() first; from then on all of it is there"
        )


# ---------------------------------------------------------------- Python's email, undaunted


class _Headers(HeaderRegistry):
    """Makes headers of whatever stands in them."""

    def __call__(self, name: str, value: str) -> Any:
        """Return a header; where its parser fails, of what is plain in it, or an empty one."""
        try:
            return super().__call__(name, value)
        except Exception:  # noqa: BLE001 - the parser of structured headers raises what it likes
            plain = re.sub(r"[^\x20-\x7e]|=\?|\?=", "", value)
        try:
            return super().__call__(name, plain)
        except Exception:  # noqa: BLE001 - as above
            return super().__call__(name, "")


def _get_text(part: EmailMessage, errors: str = "replace") -> str:
    """Return a text, whatever its charset is called."""
    raw = cast("bytes", part.get_payload(decode=True)) or b""
    charset = str(part.get_param("charset", "ASCII"))
    with suppress(LookupError, ValueError):
        return raw.decode(charset, errors)
    return decoded(raw, "")


class _Contents(ContentManager):
    """As Python's own, but for texts, and for types that there are not: those are bytes."""

    def get_content(self, msg: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the content of a part."""
        if msg.get_content_maintype() == "text":
            return _get_text(msg, *args, **kwargs)
        try:
            return raw_data_manager.get_content(msg, *args, **kwargs)
        except (LookupError, TypeError):
            if msg.is_multipart():
                raise  # it has parts instead, whatever it says
            return msg.get_payload(decode=True) or b""

    def set_content(self, msg: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Set it: of a reply that is made of the mail, say."""
        return raw_data_manager.set_content(msg, obj, *args, **kwargs)


POLICY: Final = EmailPolicy(header_factory=_Headers(), content_manager=_Contents())
"""``email.policy.default``, but that nothing a mail says makes it raise."""
_parser: Final = BytesParser(policy=POLICY)
