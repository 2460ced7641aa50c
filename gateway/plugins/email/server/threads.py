"""Mails that were accepted and can be answered for a while, by their reply channels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from gateway.core.deadlines import RESOLUTION, Deadline
from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import (
    FAILED,
    OK,
    REJECTED,
    Connection,
    Context,
    Drop,
    Message,
    Outcome,
)
from gateway.plugins.email import compose
from gateway.plugins.email.addresses import mailbox
from gateway.plugins.email.client.envelope import Envelope, Refused
from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.loops import Answered


class Postbox(Protocol):
    """Where mail that goes out is handed in."""

    async def submit(self, envelope: Envelope, content: bytes) -> str:
        """Return once it is on the disk. Raises `Refused`."""


class Thread(msgspec.Struct, kw_only=True):
    """What it takes to answer a mail."""

    mailbox: str
    """Which of ours it was written to."""
    sender: str | None
    message_id: str | None
    subject: str
    references: str
    unanswerable: str | None
    """Why it is not answered; None: it may be."""
    number: int = 0
    """How many replies there were."""

    @property
    def mark(self) -> str:
        """What it is known by when it comes again; empty: by nothing."""
        return f"{self.message_id}{self.mailbox}" if self.message_id else ""


class Threads:
    """The mails of one gateway process that can be answered."""

    def __init__(self, config: EmailConfig, context: Context, now: Callable[[], float]) -> None:
        self._config = config
        self._context = context
        self.postbox: Postbox | None = None
        """Where replies go; None: nowhere, no mail goes out here."""
        self._now = now
        self._answered = Answered(config.max_replies)
        self._kept: OrderedDict[str, tuple[Thread, float, Callable[[], None]]] = OrderedDict()
        """By reply channel, the oldest first: until when, and what ends it."""
        self._due = Deadline(self._expire)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._kept)

    def keep(self, connection: Connection, key: str, thread: Thread) -> None:
        """Have replies to a mail be heard from now on, for as long as the settings say."""
        name = f"{connection.reply_channel} {key}"
        end = self._context.outlive(
            connection, key, lambda channel, reply: self.late(thread, channel, reply)
        )
        until = self._context.loop.time() + self._config.reply_lifetime
        self._kept[name] = (thread, until, end)
        if len(self._kept) > self._config.max_replies:
            self._drop_first()
            self._context.count("replies_forgotten_total")
        if len(self._kept) == 1:
            self._context.deadlines.set(self._due, self._config.reply_lifetime)

    def _drop_first(self) -> None:
        _, (_, _, end) = self._kept.popitem(last=False)
        end()

    def _expire(self) -> None:
        now = self._context.loop.time()
        while self._kept:
            until = next(iter(self._kept.values()))[1]
            if until > now + RESOLUTION:  # less than that is not waited for
                self._context.deadlines.set(self._due, until - now)
                return
            self._drop_first()

    def close(self) -> None:
        """Forget all of them."""
        self._context.deadlines.forget(self._due)
        while self._kept:
            self._drop_first()

    # ------------------------------------------------ replies

    def late(self, thread: Thread, channel: str, reply: Message) -> None:
        """Send a reply that comes when the mail is answered already, and answer its ``ack``."""
        self._context.spawn(self._late(thread, channel, reply))

    async def _late(self, thread: Thread, channel: str, reply: Message) -> None:
        if not says_something(reply):
            self._context.drop(Drop.INVALID)
            self._context.log.warning(
                "%s: invalid reply dropped: the mail is answered; only a mail can follow", channel
            )
            outcome = Outcome(FAILED, reason="the mail is answered already", cause="invalid")
        else:
            outcome = await self.post(thread, reply)
        self._context.answer(channel, reply, outcome)

    async def post(self, thread: Thread, reply: Message) -> Outcome:
        """Make a mail of a reply, and have it in the spool; return what an ``ack`` of it says.

        ``rejected``: it is not to be; ``failed``: it could not be.
        """
        reason = self._unanswerable(thread)
        if reason is not None:
            self._context.drop(Drop.UNANSWERED)
            self._context.log.info("a mail to %s is not answered: %s", thread.mailbox, reason)
            return Outcome(REJECTED, reason=reason, cause="unanswered")
        assert self.postbox is not None  # noqa: S101 - for the type checker; it was looked at
        thread.number += 1
        try:
            await self.postbox.submit(*self._composed(thread, reply))
        except LocalProtocolError as error:
            self._unanswered(thread)
            self._context.drop(Drop.INVALID)
            self._context.log.warning("%s: invalid reply dropped: %s", thread.mailbox, error)
            return Outcome(REJECTED, reason=str(error), cause="invalid")
        except Refused as refused:
            self._unanswered(thread)
            self._context.log.warning("a reply could not be spooled: %s", refused)
            return refused.outcome
        return OK

    def _unanswered(self, thread: Thread) -> None:
        """Take back that a reply was sent: when the mail comes again, it is answered."""
        thread.number -= 1
        if not thread.number:
            self._answered.discard(thread.mark)

    def _unanswerable(self, thread: Thread) -> str | None:
        if thread.unanswerable is not None:
            return thread.unanswerable
        if self.postbox is None:
            return "no mail goes out of this gateway"
        if not thread.number and not self._answered.add(thread.mark):
            return f"{thread.message_id} was answered before"
        return None

    def _composed(self, thread: Thread, reply: Message) -> tuple[Envelope, bytes]:
        sender = mailbox(thread.mailbox, "the mailbox that was written to")
        recipient = mailbox(thread.sender or "", "the sender")
        keys: dict[str, Any] = {
            key: value for key, value in reply.items() if key not in {"ack", "ack_channel"}
        }
        about = None
        if thread.message_id is not None:
            about = compose.Thread(thread.message_id, thread.references, thread.subject)
        elif "subject" not in keys:
            keys["subject"] = compose.answered(thread.subject)
        content = compose.compose(
            keys,
            sender=sender,
            recipients=[recipient],
            message_id=compose.new_message_id(sender.domain),
            now=self._now(),
            thread=about,
            auto="auto-replied",
        )
        # RFC 3834 section 3.3: the null sender, so that nobody answers the answer.
        envelope = Envelope(
            mail_from="",
            rcpt_to=(recipient.address,),
            author=sender.address,
            subject=str(keys.get("subject", thread.subject)),
            bounces=False,
        )
        return envelope, content


def says_something(reply: Message) -> bool:
    """Return whether a reply has something for a mail."""
    return bool(reply.keys() & {"text", "bytes", "html", "attachments", "subject"})
