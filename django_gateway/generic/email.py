"""`EmailConsumer`: the mail of mailboxes, and answers to it."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import File

from django_gateway.channel import Channel
from django_gateway.filters import Filter
from django_gateway.generic.base import Consumer
from django_gateway.mailboxes import mailbox
from django_gateway.message import Message
from django_gateway.routing import Route
from gateway.core import names

Attached: TypeAlias = "File[bytes] | Sequence[Any]"
"""A file of Django's, an attachment of the mail for one; or name, content type and bytes."""
Headers = Mapping[str, str] | Iterable[Sequence[str]]
"""By name, or pairs of name and value."""


class EmailConsumer(Consumer):
    """A consumer of mail: ``receive`` gets the mail to its ``mailboxes``, with what they name.

    ::

        class Support(EmailConsumer):
            mailboxes = ["support+{ticket:int}@example.com"]

            def receive(self, message, ticket):
                Ticket.objects.get(pk=ticket).answer(message.text, message.attachments)
                self.reply("Thank you.", html="<p>Thank you.</p>")

    The mail is answered ``250`` once ``receive`` has returned; `Reject` refuses it. ``recipient``
    is asked before, for each recipient, where the class has one; ``authenticate`` for who says
    who it is.
    """

    protocols: ClassVar[Any] = ("email",)
    mailboxes: ClassVar[Sequence[str | Filter]] = ()
    """Mail addresses, as `mailbox` reads them. Empty: whatever the gateway takes mail for."""

    def reply(
        self,
        data: str | bytes | None = None,
        /,
        *,
        attachments: Iterable[Attached] = (),
        headers: Headers = (),
        **content: Any,
    ) -> None:
        """Answer with a mail in the same thread: a text, and ``html``, ``subject``, and so on.

        ``attachments`` are files of Django's, or triples of name, content type and bytes;
        ``headers`` a dict, or pairs.
        """
        super().reply(data, **_content(attachments, headers, content))

    @staticmethod
    def mail(
        to: str | Sequence[str],
        text: str | None = None,
        /,
        *,
        attachments: Iterable[Attached] = (),
        headers: Headers = (),
        in_reply_to: str | Mapping[str, Any] | Message | None = None,
        **content: Any,
    ) -> None:
        """Send a mail to an address: ``mail("ann@example.com", "Hi.", subject="Hello")``.

        ``to`` may be a list of addresses: one mail, in which all of them stand. Buffered inside a
        consumer; outside it acts at once.

        With ``in_reply_to`` it answers a mail that came, in its thread. That is the message of it,
        or what was kept of that: a dict with its ``message_id``, ``subject``, ``headers`` (which
        have its References) and ``rcpt_to``, or some of them. The subject is then "Re:" and its,
        and ``mail_from`` the mailbox that it was written to, unless they are given. A Message-ID
        alone gives the thread alone.
        """
        content = _content(attachments, headers, content)
        if in_reply_to is not None:
            content = _answering(in_reply_to, content)
        if text is not None:
            content["text"] = text
        recipients = _recipients(to)
        try:
            [one] = recipients
            channel = names.address("email.send", one)
        except ValueError:  # several, or too long for an address
            channel, content = "email.send", {**content, "rcpt_to": recipients}
        Channel(channel).send(content)

    @classmethod
    def routes(cls) -> list[Route]:
        """Return the routes of the class: those of ``receive`` and ``recipient`` once a mailbox."""
        if isinstance(cls.mailboxes, str | Filter):
            raise ImproperlyConfigured(
                f"{cls.__name__}.mailboxes is a list of addresses: [{str(cls.mailboxes)!r}]"
            )
        filters = [one if isinstance(one, Filter) else mailbox(one) for one in cls.mailboxes]
        found: list[Route] = []
        for route in super().routes():
            if filters and any(
                channel in {"email.receive", "email.recipient"} for channel in route.channels
            ):
                found += [route.under({"rcpt_to": (one,)}) for one in filters]
            else:
                found.append(route)
        return found


def _answering(
    answered: str | Mapping[str, Any] | Message, content: dict[str, Any]
) -> dict[str, Any]:
    """Return the keys of a mail with what an answer has besides.

    A Message-ID that no header could have (senders write what they like) makes no thread.
    """
    from gateway.plugins.email import compose  # noqa: PLC0415 - only then

    given: Any = {"message_id": answered} if isinstance(answered, str) else answered
    if not isinstance(given, Mapping | Message):
        raise TypeError(
            "in_reply_to is the Message-ID of a mail, its message, or a dict with its "
            f"'message_id', 'subject', 'headers', 'rcpt_to', not {type(answered).__name__}"
        )
    named = {str(name).lower(): str(value) for name, value in reversed(given.get("headers") or ())}
    identity = str(given.get("message_id") or "").strip()
    if identity and not identity.startswith("<"):  # as `Message.thread` has it
        identity = f"<{identity}>"
    thread = compose.Thread(
        identity, named.get("references", named.get("in-reply-to", "")), given.get("subject") or ""
    )
    found: dict[str, Any] = {}
    if given.get("subject") is not None:
        found["subject"] = compose.answered(thread.subject)
    mailboxes = given.get("rcpt_to") or [""]
    own_mailbox = mailboxes if isinstance(mailboxes, str) else mailboxes[0]
    if "@" in own_mailbox:  # "postmaster" may stand alone
        found["mail_from"] = own_mailbox
    found |= content
    if compose.is_message_id(identity):
        own = found.get("headers", [])
        said = {name.lower() for name, _ in own}
        ours = [["In-Reply-To", identity], ["References", compose.references(thread)]]
        found["headers"] = [*own, *(one for one in ours if one[0].lower() not in said)]
    return found


def _recipients(to: str | Sequence[str]) -> list[str]:
    """Return whom a mail is for."""
    given: Any = [to] if isinstance(to, str) else to
    found = list(given) if isinstance(given, list | tuple | set | frozenset) else []
    if not found or not all(isinstance(one, str) for one in found):
        raise TypeError(
            f"mail() is to an address, or to a list of some that is not empty, not {to!r}; write "
            "mail('ann@example.com', …) or mail(['ann@example.com', 'bob@example.com'], …)"
        )
    return found


def _content(
    attachments: Iterable[Attached], headers: Headers, content: dict[str, Any]
) -> dict[str, Any]:
    """Return the keys of a reply, as a message can hold them."""
    if attached := [_attached(one) for one in attachments]:
        content["attachments"] = attached
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    if written := [[str(name), str(value)] for name, value in pairs]:
        content["headers"] = written
    return content


def _attached(one: Attached) -> list[Any]:
    if isinstance(one, File):
        name = (one.name or "file").replace("\\", "/").rpartition("/")[2]
        guessed = mimetypes.guess_type(name)[0] or "application/octet-stream"
        kind = getattr(one, "content_type", None) or guessed
        one.seek(0)
        return [name, kind, bytes(one.read())]
    if isinstance(one, str | bytes) or len(one) != 3:
        raise TypeError(
            "attachments are files of Django's, or triples (name, content type, bytes), not "
            f"{type(one).__name__}; write [('bill.pdf', 'application/pdf', content)]"
        )
    name, kind, content = one
    return [name, kind, content.encode() if isinstance(content, str) else bytes(content)]
