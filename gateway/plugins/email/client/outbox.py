"""`Outbox`: takes mail that is to go out, and has it on the disk before it says so."""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any, Final, TypeVar

from gateway.core.errors import LocalProtocolError
from gateway.core.metrics import Drop
from gateway.core.plugin import Context
from gateway.plugins.email.addresses import mailbox
from gateway.plugins.email.client.config import Outgoing
from gateway.plugins.email.client.content import Facts, Lines
from gateway.plugins.email.client.envelope import Entry, Envelope, Recipient, Refused, new_id
from gateway.plugins.email.client.sign import Signer, Signing
from gateway.plugins.email.client.spool import Draft, Spool
from gateway.plugins.email.compose import new_message_id

THREADS: Final = 4
"""Threads that write to the spool, and read from it: disks do some things at once, not many."""
NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

T = TypeVar("T")


class Outbox:
    """The way into the spool. ``taken`` is told of each mail that came to be there."""

    def __init__(
        self,
        config: Outgoing,
        context: Context,
        spool: Spool,
        signer: Signer,
        taken: Callable[[Entry], None],
    ) -> None:
        self._config = config
        self._context = context
        self._spool = spool
        self._signer = signer
        self._taken = taken
        self._pool = ThreadPoolExecutor(THREADS, "gateway-spool")
        self._closed = False
        self._histogram = context.histogram(
            "submit_seconds", (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
        )

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run what blocks on a thread of the spool's."""
        return await self._context.loop.run_in_executor(self._pool, call, *arguments)

    async def submit(
        self, envelope: Envelope, content: bytes | AsyncIterable[bytes], *, forced: bool = False
    ) -> str:
        """Spool a mail; return its id once it is on the disk, and no crash loses it.

        ``content`` is the whole mail, header and body, at once or in pieces; line ends become
        CRLF, a Date and a Message-ID are added where they lack, nothing else is changed.
        ``forced``: there is room, however full it is. Raises `Refused`, whose ``outcome`` says
        why: something of it cannot be, or there is no room (452).
        """
        began = time.monotonic()
        try:
            self._check(envelope)
            entry = await self._store(envelope, content, forced=forced)
        except Refused as refusal:
            outcome = refusal.outcome
            self._context.count("refused_total", reason=outcome.cause)
            self._context.drop(_DROPS.get(outcome.cause, Drop.INVALID))
            raise
        self._histogram.observe(time.monotonic() - began)
        self._context.count("spooled_total")
        self._taken(entry)
        return entry.id

    def _check(self, envelope: Envelope) -> None:
        if self._closed:
            raise Refused("the gateway is shutting down", 421, "drained", fault=True)
        most = self._config.delivery.max_recipients
        if not envelope.rcpt_to:
            raise invalid("it has no recipient")
        if len(envelope.rcpt_to) > most:
            raise invalid(f"it has {len(envelope.rcpt_to)} recipients, over {most}", 452)
        try:
            for one in envelope.rcpt_to:
                mailbox(one, "a recipient")
            if envelope.mail_from:
                mailbox(envelope.mail_from, "'mail_from'")
        except LocalProtocolError as error:
            raise invalid(str(error), 553) from None

    async def _store(
        self, envelope: Envelope, content: bytes | AsyncIterable[bytes], *, forced: bool
    ) -> Entry:
        name = envelope.id or new_id()
        signing = self._signer.begin(envelope.author or envelope.mail_from)
        try:
            if isinstance(content, bytes):
                return await self.run(self._write, envelope, name, content, signing, forced)
            return await self._stream(envelope, name, content, signing)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise Refused("the disk of the spool is full", 452, "full", fault=True) from None
            self._context.log.exception("a mail could not be spooled")
            reason = f"the spool cannot be written: {error.strerror or error}"
            raise Refused(reason, 451, "failed", fault=True) from None

    def _write(
        self, envelope: Envelope, name: str, content: bytes, signing: Signing, forced: bool
    ) -> Entry:
        """Do all of it at once, on a thread."""
        draft = self._begin(name, len(content), forced=forced)
        pen = Pen(draft, envelope, signing, self._config)
        try:
            pen.write(content)
            return pen.commit()
        finally:
            draft.discard()

    def _begin(self, name: str, size: int, *, forced: bool = False) -> Draft:
        config, spool = self._config, self._spool
        messages, octets = spool.usage()
        if forced:
            return spool.draft(name)
        if messages >= config.spool_messages or octets + size > config.spool_bytes:
            raise Refused(
                f"the spool is full: {messages} mails of {octets} bytes wait (email.spool_messages "
                f"{config.spool_messages}, email.spool_bytes {config.spool_bytes})",
                452,
                "full",
                fault=True,
            )
        return spool.draft(name)

    async def _stream(
        self, envelope: Envelope, name: str, content: AsyncIterable[bytes], signing: Signing
    ) -> Entry:
        draft = await self.run(self._begin, name, 0)
        pen = Pen(draft, envelope, signing, self._config)
        try:
            async for piece in content:
                await self.run(pen.write, piece)
            return await self.run(pen.commit)
        finally:
            await self.run(draft.discard)

    def close(self) -> None:
        """Take nothing more. What is being written, is written yet."""
        self._closed = True
        self._pool.shutdown(wait=False)


class Pen:
    """Writes one mail, and looks at it as it goes by. On a thread of the spool's."""

    def __init__(
        self, draft: Draft, envelope: Envelope, signing: Signing, config: Outgoing
    ) -> None:
        self.draft = draft
        self._envelope = envelope
        self._signing = signing
        self._limits = config.delivery
        self._lines = Lines()
        self._facts = Facts()

    def write(self, data: bytes) -> None:
        """Write more of it. Raises `Refused` where it cannot be."""
        self._put(self._lines.feed(data))

    def _put(self, data: bytes) -> None:
        facts = self._facts
        facts.feed(data)
        if facts.size > self._limits.max_size:
            raise invalid(f"over {self._limits.max_size} bytes", 552, "too_big")
        if facts.nul:
            raise invalid("it has a NUL in it, which no server takes (RFC 5321, section 4.5.2)")
        if facts.too_long:
            raise invalid("its header has no end")
        self._signing.feed(data)
        self.draft.write(data)

    def commit(self) -> Entry:
        """Have it in the spool; return its entry."""
        self._put(self._lines.end())
        facts, envelope = self._facts, self._envelope
        fields = facts.fields()
        if not fields:
            raise invalid("it does not begin with a header")
        hops = sum(name == "received" for name, _ in fields)
        if hops > self._limits.max_hops:
            raise invalid(f"it has passed {hops} servers: it goes in a circle", 554)
        named = dict(fields)
        added = lacking(named, envelope.mail_from)
        message_id = named.get("message-id", b"") or added.get("Message-ID", "").encode()
        before = "".join(f"{name}: {value}\r\n" for name, value in added.items())
        addresses = (*envelope.rcpt_to, envelope.mail_from)
        entry = Entry(
            id=self.draft.name,
            mail_from=envelope.mail_from,
            created=time.time(),
            size=facts.size,
            recipients=[Recipient(address=one) for one in dict.fromkeys(envelope.rcpt_to)],
            subject=envelope.subject[:200],
            message_id=message_id[:998].decode("ascii", "replace"),
            bounces=envelope.bounces and bool(envelope.mail_from),
            eight_bit=facts.eight_bit,
            utf8=facts.utf8 or not all(map(str.isascii, addresses)),
            before=self._signing.field(before.encode() + facts.head) + before,
        )
        self.draft.commit(entry)
        return entry


_DROPS: Final = {
    "full": Drop.FULL,
    "too_big": Drop.TOO_BIG,
    "drained": Drop.DRAINED,
    "failed": Drop.FAILED,
}


def lacking(named: Mapping[str, bytes], mail_from: str) -> dict[str, str]:
    """Return what a mail lacks and a server adds (RFC 5321, section 6.4)."""
    found = {}
    if "date" not in named:
        found["Date"] = formatdate()
    if not named.get("message-id"):
        found["Message-ID"] = new_message_id(mail_from.rpartition("@")[2] or "localhost")
    return found


def invalid(reason: str, code: int = 550, cause: str = "invalid") -> Refused:
    """Return the refusal of a mail of which something cannot be."""
    return Refused(reason, code, cause)
