r"""A mail that came, as the application gets it: the trace before it, and its message. Pure.

::

    Return-Path: <ann@example.org>                            RFC 5321 section 4.4: the last server
    Delivered-To: support@example.com                         writes who sent it …
    Received: from mx.example.org ([192.0.2.1])               … and each how it came by
        by gate.example.com with ESMTPS id 5f2a…
        for <support@example.com>; Thu, 26 Nov 2026 10:00:00 +0000
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import msgspec

from gateway.core.plugin import Message
from gateway.plugins.email.headers import Head, read
from gateway.plugins.email.messages import new_raw_channel
from gateway.plugins.email.text import plain_text


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """How a mail came: what the client said of it, and what is known of the client."""

    id: str
    """For Received, the log and the reply: what this mail is called here."""
    mail_from: str | None
    helo: str
    tls: bool
    protocol: str
    hostname: str
    """What the server calls itself."""
    client: tuple[str, int] | None
    now: float
    """Seconds since the epoch."""


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One message to be emitted: a mail for all its recipients, or for one of them."""

    rcpt_to: list[str]
    prefix: bytes
    """The trace, which stands before the content."""
    fields: int
    """How many fields that has."""
    message: Message
    raw_channel: str | None
    size: int


def with_protocol(*, lmtp: bool, extended: bool, utf8: bool, tls: bool, authenticated: bool) -> str:
    """Return the word for Received's ``with`` (RFC 3848, and RFC 6531 section 4.3)."""
    if not extended:
        return "SMTP"
    word = "UTF8LMTP" if lmtp and utf8 else "LMTP" if lmtp else "UTF8SMTP" if utf8 else "ESMTP"
    return word + ("S" if tls else "") + ("A" if authenticated else "")


def trace(transaction: Transaction, rcpt_to: list[str]) -> bytes:
    """Return the fields that the last server writes before a mail."""
    sender = transaction.mail_from or ""
    lines = [f"Return-Path: <{sender}>"]
    if len(rcpt_to) == 1:
        lines.append(f"Delivered-To: {rcpt_to[0]}")
    client = transaction.client
    peer = "" if client is None else f" ([{_literal(client[0])}])"
    lines.append(f"Received: from {transaction.helo}{peer}")
    lines.append(f"\tby {transaction.hostname} with {transaction.protocol} id {transaction.id}")
    when = formatdate(transaction.now).replace("-0000", "+0000")
    # Of several recipients none is named: one would learn of the other (RFC 5321 section 7.2).
    lines.append(f"\tfor <{rcpt_to[0]}>; {when}" if len(rcpt_to) == 1 else f"\t; {when}")
    return "".join(f"{line}\r\n" for line in lines).encode()


def _literal(host: str) -> str:
    return f"IPv6:{host}" if ":" in host else host


def arrival(
    transaction: Transaction,
    rcpt_to: list[str],
    head: Head,
    content: bytes | None,
    size: int,
    authentication: dict[str, Any] | None = None,
) -> Arrival:
    """Return the message of a mail; ``content`` is None where it comes in pieces.

    ``size`` is that of the content.
    """
    prefix = trace(transaction, rcpt_to)
    fields = read(prefix).fields
    message: Message = {
        "mail_from": transaction.mail_from,
        "rcpt_to": rcpt_to,
        "subject": head.subject,
        "headers": [*fields, *head.fields],
        "message_id": head.message_id,
        "size": len(prefix) + size,
        "helo": transaction.helo,
        "tls": transaction.tls,
        "protocol": transaction.protocol,
    }
    raw_channel = None
    if content is None:
        raw_channel = message["raw_channel"] = new_raw_channel()
    else:
        message["raw"] = prefix + content
        if (text := plain_text(content, head)) is not None:
            message["text"] = text
    if authentication:
        message["authentication"] = authentication
    return Arrival(
        rcpt_to=rcpt_to,
        prefix=prefix,
        fields=len(fields),
        message=message,
        raw_channel=raw_channel,
        size=len(prefix) + size,
    )
