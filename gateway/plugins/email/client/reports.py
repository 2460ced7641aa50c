"""Reports on mail that was not delivered, or not yet: DSN (RFC 3464, RFC 6522). Pure."""

from __future__ import annotations

import secrets
import textwrap
from collections.abc import Sequence
from email.utils import formatdate
from typing import Final

from gateway.plugins.email.client.envelope import Entry, Envelope, Recipient
from gateway.plugins.email.compose import encoded, field, is_message_id

MOST: Final = 65_536
"""Octets of a mail's header that its report has."""
AUTHOR: Final = "MAILER-DAEMON"
WIDTH: Final = 76
"""Columns of a report's text."""


def report(
    entry: Entry,
    recipients: Sequence[Recipient],
    head: bytes,
    *,
    hostname: str,
    now: float,
    message_id: str,
    delayed_until: float = 0.0,
) -> bytes:
    """Return the report that a mail failed for some recipients, or is ``delayed_until`` then.

    ``head`` is the mail's header.
    """
    delayed = delayed_until > 0
    what = "Delayed" if delayed else "Undelivered"
    boundary = f"=_{secrets.token_hex(12)}"
    fields = {
        "From": f"Mail Delivery System <{AUTHOR}@{hostname}>",
        "To": entry.mail_from,
        "Subject": f"{what}: {entry.subject}" if entry.subject else f"{what} mail",
        "Date": formatdate(now),
        "Message-ID": message_id,
        "Auto-Submitted": "auto-replied",
    }
    if is_message_id(entry.message_id):
        fields["In-Reply-To"] = fields["References"] = entry.message_id
    lines = [
        field(name, "".join(c for c in value if c.isprintable())) for name, value in fields.items()
    ]
    # RFC 6533 has types of their own for addresses and headers that are not of ASCII.
    kind = "message/global-delivery-status" if entry.utf8 else "message/delivery-status"
    head = head[:MOST]
    rest = "text/rfc822-headers" if head.isascii() else "message/global-headers"
    lines += [
        b"MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n",
        f' boundary="{boundary}"\r\n\r\n'.encode(),
        _part(
            boundary,
            'text/plain; charset="utf-8"',
            _words(entry, recipients, hostname, delayed_until),
        ),
        _part(boundary, kind, _status(entry, recipients, hostname, delayed_until)),
        _part(boundary, rest, head.replace(b"\r\n", b"\n")),
        f"--{boundary}--\r\n".encode(),
    ]
    return b"".join(lines)


def enveloped(entry: Entry, name: str, hostname: str) -> Envelope:
    """Return the envelope of a report, whose id is ``name``; nobody is told if it fails, too."""
    return Envelope(
        mail_from="",
        author=f"{AUTHOR}@{hostname}",
        rcpt_to=(entry.mail_from,),
        subject="(report)",
        id=name,
        bounces=False,
    )


def _part(boundary: str, kind: str, text: bytes) -> bytes:
    encoding, content = encoded(text if text[-1:] == b"\n" else text + b"\n")
    head = f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + content + b"\r\n"


def _words(
    entry: Entry, recipients: Sequence[Recipient], hostname: str, delayed_until: float
) -> bytes:
    """Return the report for a person."""
    if delayed_until:
        begin = (
            f"A mail of yours of {formatdate(entry.created)} is not delivered yet. You need do "
            f"nothing: {hostname} tries again, until {formatdate(delayed_until)}."
        )
    else:
        begin = f"A mail of yours of {formatdate(entry.created)} could not be delivered."
    blocks = [begin]
    for one in recipients:
        said = " ".join(part for part in (str(one.code or ""), one.status, one.reason) if part)
        blocks.append(f"{one.address}: {said or 'it was not tried'}")
    return "\n\n".join(textwrap.fill(block, WIDTH) for block in blocks).encode()


def _status(
    entry: Entry, recipients: Sequence[Recipient], hostname: str, delayed_until: float
) -> bytes:
    """Return the report for a program (RFC 3464, section 2)."""
    groups = [
        {
            "Reporting-MTA": f"dns; {hostname}",
            "Original-Envelope-Id": entry.id,
            "Arrival-Date": formatdate(entry.created),
        }
    ]
    for one in recipients:
        utf8 = not one.address.isascii()
        group = {
            "Final-Recipient": f"{'utf-8' if utf8 else 'rfc822'}; {one.address}",
            "Action": "delayed" if delayed_until else "failed",
            "Status": one.status or ("4.0.0" if delayed_until else "5.0.0"),
        }
        if one.server:
            group["Remote-MTA"] = f"dns; {one.server}"
        if one.code:
            group["Diagnostic-Code"] = f"smtp; {one.code} {one.status} {one.reason}"
        if one.tried:
            group["Last-Attempt-Date"] = formatdate(one.tried)
        if delayed_until:
            group["Will-Retry-Until"] = formatdate(delayed_until)
        groups.append(group)
    return "\n".join(
        "".join(f"{name}: {' '.join(value.split())}\n" for name, value in group.items())
        for group in groups
    ).encode()
