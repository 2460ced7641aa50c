"""A mail from the keys of a reply: RFC 5322 and MIME, as bytes. Pure, but for what is random.

What comes out is of ASCII alone, in lines of at most 998 octets that end in CRLF: every server
takes it (RFC 5321, section 4.5.3.1.6). The exception are addresses that are not of ASCII before
their @, which stand in it as they are: they take a server with SMTPUTF8 (RFC 6532) anyway.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from email.header import Header
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import quote

import msgspec

from gateway.core.errors import LocalProtocolError
from gateway.plugins.email.addresses import Mailbox, mailbox

LINE: Final = 78
"""Octets of a line of a header, where it can be broken (RFC 5322, section 2.1.1)."""
LONGEST_LINE: Final = 998
"""Octets of any line (as above)."""
LONGEST_ID: Final = LONGEST_LINE - 20
"""Octets of a Message-ID, so that it fits into a line behind ``In-Reply-To:``."""
MOST_REFERENCES: Final = 20
"""Message-IDs that an answer names of its thread: the first, and the latest."""

_NAME: Final = re.compile(r"[\x21-\x39\x3b-\x7e]{1,76}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""What no value of a header has: what ends a line, for whoever reads it, among it."""
_TYPE: Final = re.compile(
    r"[\w.+-]+/[\w.+-]+(?:\s*;\s*[\w.+-]+=(?:[\w.+:-]+|\"[^\"\x00-\x1f\x7f]*\"))*", re.ASCII
)
_MESSAGE_ID: Final = re.compile(r"<[^<>\s\x00-\x1f\x7f-\U0010ffff]+>")
_RE: Final = re.compile(r"re(?:\[\d+\])?:", re.IGNORECASE)
_ADDRESSES: Final = frozenset(
    ("from", "to", "cc", "reply-to", "sender", "resent-from", "resent-to")
)
_IDS: Final = frozenset(("message-id", "in-reply-to", "references"))
_OURS: Final = {
    "content-type": "what the mail consists of decides it ('text', 'html', 'attachments')",
    "content-transfer-encoding": "what the mail consists of decides it",
    "mime-version": "it is 1.0",
    "bcc": "everybody would read it: name the recipient in 'rcpt_to' alone",
    "received": "servers write it",
    "return-path": "servers write it; 'mail_from' says where it goes back to",
    "dkim-signature": "the gateway signs ('email.dkim')",
}


class Thread(msgspec.Struct, frozen=True):
    """The mail that another one answers."""

    message_id: str
    references: str = ""
    subject: str = ""


def compose(
    keys: Mapping[str, Any],
    *,
    sender: Mailbox,
    recipients: Sequence[Mailbox],
    message_id: str,
    now: float,
    thread: Thread | None = None,
    auto: str = "auto-generated",
) -> bytes:
    """Return the mail that the keys of a reply ask for.

    ``keys`` are ``text`` (or ``bytes``, a text in UTF-8), ``subject``, ``html``, ``headers``,
    ``attachments``; a header there takes the place of what would stand in the mail otherwise.
    ``now`` is in seconds since the epoch, ``auto`` what Auto-Submitted says (RFC 3834, section 5;
    empty: there is none). Raises LocalProtocolError that says what cannot be.
    """
    fields: dict[str, str] = {
        "From": written(sender),
        "To": ", ".join(map(written, recipients)),
        "Subject": keys.get("subject", "" if thread is None else answered(thread.subject)),
        "Date": formatdate(now),
        "Message-ID": message_id,
    }
    if thread is not None and is_message_id(thread.message_id):
        fields["In-Reply-To"] = thread.message_id
        fields["References"] = references(thread)
    if auto:
        fields["Auto-Submitted"] = auto
    more = checked(keys.get("headers", ()))
    said = {name.lower() for name, _ in more}
    lines = [field(name, value) for name, value in fields.items() if name.lower() not in said]
    lines += [field(name, value) for name, value in more]
    return b"".join(lines) + b"MIME-Version: 1.0\r\n" + _body(keys)


def new_message_id(domain: str) -> str:
    """Return a Message-ID that there is not yet."""
    return f"<{secrets.token_hex(12)}.gateway@{domain}>"


def is_message_id(text: str) -> bool:
    """Return whether a text can stand as a Message-ID in other headers, with its brackets."""
    return len(text) <= LONGEST_ID and _MESSAGE_ID.fullmatch(text) is not None


def answered(subject: str) -> str:
    """Return the subject of an answer.

    >>> answered("Order 7"), answered("RE: Order 7")
    ('Re: Order 7', 'RE: Order 7')
    """
    subject = _CONTROL.sub(" ", subject).strip()
    return subject if _RE.match(subject) else f"Re: {subject}".strip()


def references(thread: Thread) -> str:
    """Return what an answer's References say (RFC 5322, section 3.6.4)."""
    found = _MESSAGE_ID.findall(thread.references)
    found = [one for one in found if one != thread.message_id and len(one) <= LONGEST_ID]
    return " ".join([*found[:1], *found[1:][-MOST_REFERENCES:], thread.message_id])


def written(found: Mailbox) -> str:
    """Return a mailbox as it stands in a header."""
    if not found.name:
        return found.address
    if not found.name.isascii() or "=?" in found.name:
        name = Header(found.name, "utf-8", maxlinelen=LINE - 4).encode(linesep="")
        return f"{name} <{found.address}>"
    if re.fullmatch(r"[\w!#$%&'*+/=?^`{|}~-]+(?: [\w!#$%&'*+/=?^`{|}~-]+)*", found.name):
        return f"{found.name} <{found.address}>"
    quoted = re.sub(r'(["\\])', r"\\\1", found.name)
    return f'"{quoted}" <{found.address}>'


# ------------------------------------------------ headers


def checked(headers: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """Return headers that may stand in a mail; raise LocalProtocolError where one may not."""
    found = []
    for pair in headers:
        if len(pair) != 2 or not all(isinstance(one, str) for one in pair):
            raise LocalProtocolError("'headers' is a list of [name, value]")
        name, value = pair
        if _NAME.fullmatch(name) is None:
            raise LocalProtocolError(f"'headers' has the name {name[:40]!r}, which cannot be one")
        if (why := _OURS.get(name.lower())) is not None:
            raise LocalProtocolError(f"'headers' has {name}, which is not to be set: {why}")
        if name.lower() in _ADDRESSES:
            value = ", ".join(
                written(mailbox(one, f"the header {name}")) for one in split(value) if one.strip()
            )
        found.append((name, value))
    return found


def split(text: str) -> list[str]:
    """Return the mailboxes of a list, which commas part: those within quotes do not.

    >>> split('"Exempla, Ann" <ann@example.org>, bob@example.org')
    ['"Exempla, Ann" <ann@example.org>', 'bob@example.org']
    """
    parts = re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^",]|")+', text)
    return [part.strip() for part in parts]


def field(name: str, value: str) -> bytes:
    """Return one header, folded. Raises LocalProtocolError where its value cannot be."""
    if _CONTROL.search(value):
        raise LocalProtocolError(
            f"{'the subject' if name == 'Subject' else f'the header {name}'} has a line break or "
            "another control character in it"
        )
    kind = name.lower()
    if kind in _IDS and not value.isascii():
        raise LocalProtocolError(f"the header {name} is of ASCII alone")
    if kind in _ADDRESSES or kind in _IDS or _is_plain(value):
        folded = _folded(name, value)
        if folded is not None:
            return folded
        if kind in _ADDRESSES or kind in _IDS:
            raise LocalProtocolError(f"the header {name} has a word of over {LONGEST_LINE} octets")
    try:
        text = Header(value, "utf-8", maxlinelen=LINE - 2, header_name=name).encode(linesep="\r\n")
    except UnicodeEncodeError:
        raise LocalProtocolError(f"the header {name} is no text") from None
    return f"{name}: {text}\r\n".encode("ascii")


def _is_plain(value: str) -> bool:
    """Whether a value may stand as it is: what is white at its ends would be lost."""
    return value.isascii() and "=?" not in value and value == value.strip() and "\t" not in value


def _folded(name: str, value: str) -> bytes | None:
    """Return a header broken at its spaces; None where a line would be too long all the same."""
    lines: list[str] = []
    line = f"{name}:"
    for word in value.split(" "):
        # Not behind a space, and not before one: a line of white alone ends the header for some.
        if word and len(line) + 1 + len(word) > LINE and line[-1:] not in {" ", ":", ""}:
            lines.append(line)
            line = ""
        line += f" {word}"
    lines.append(line)
    try:
        encoded = [one.encode() for one in lines]
    except UnicodeEncodeError:
        return None
    if any(len(one) > LONGEST_LINE for one in encoded):
        return None
    return b"\r\n".join(encoded) + b"\r\n"


# ------------------------------------------------ the body


def _body(keys: Mapping[str, Any]) -> bytes:
    """Return the headers of the content, an empty line, the content."""
    text, attachments = _said(keys)
    html = keys.get("html")
    parts = [] if text is None else [_text_part(text, "plain")]
    if html is not None:
        parts.append(_text_part(html, "html"))
    if not parts and not attachments:
        raise LocalProtocolError(
            "nothing to send: it needs 'text', 'html' or 'attachments'; 'text' may be empty"
        )
    body = [_multipart("alternative", parts)] if len(parts) > 1 else parts
    body += [_attachment(one) for one in attachments]
    return body[0] if not attachments else _multipart("mixed", body)


def _said(keys: Mapping[str, Any]) -> tuple[str | None, list[Sequence[Any]]]:
    """Return the text, and the attachments: bytes that are no text are one."""
    attachments = list(keys.get("attachments", ()))
    data = keys.get("bytes")
    if data is None:
        return keys.get("text"), attachments
    try:
        return data.decode(), attachments
    except UnicodeDecodeError:
        return None, [("data", "application/octet-stream", data), *attachments]


def _multipart(kind: str, parts: Sequence[bytes]) -> bytes:
    # "=_" is nothing that quoted-printable or base64 has (RFC 2045, section 6.7, note 1).
    boundary = f"=_{secrets.token_hex(12)}".encode()
    head = b'Content-Type: multipart/%s;\r\n boundary="%s"\r\n\r\n' % (kind.encode(), boundary)
    body = b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts)
    return head + body + b"--%s--\r\n" % boundary


def _text_part(text: str, subtype: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise LocalProtocolError(
            f"{'text' if subtype == 'plain' else subtype!r} is no text"
        ) from None
    data = re.sub(rb"\r\n?", b"\n", data)
    if data[-1:] != b"\n":
        data += b"\n"
    encoding, content = encoded(data)
    head = f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}'
    return head.encode() + b"\r\n\r\n" + content


def encoded(data: bytes) -> tuple[str, bytes]:
    """Return the transfer encoding for a text with LF, and the text in it, with CRLF."""
    plain = data.isascii() and not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|[ \t]\n", data)
    if plain and max(map(len, data.split(b"\n"))) <= LONGEST_LINE:
        return "7bit", data.replace(b"\n", b"\r\n")
    # Quoted-printable takes three octets for one; base64 four for three.
    foreign = sum(byte > 126 for byte in data)
    if foreign * 6 <= len(data):
        return "quoted-printable", binascii.b2a_qp(data, istext=True).replace(b"\n", b"\r\n")
    return "base64", _base64(data.replace(b"\n", b"\r\n"))


def _base64(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def _attachment(one: Sequence[Any]) -> bytes:
    if len(one) != 3 or not (
        isinstance(one[0], str | None) and isinstance(one[1], str) and isinstance(one[2], bytes)
    ):
        raise LocalProtocolError("'attachments' is a list of [name, content type, bytes]")
    name, kind, data = one
    if _CONTROL.search(f"{name or ''}{kind}"):
        raise LocalProtocolError(
            "'attachments' has a line break or another control character in a name or type"
        )
    kind = kind or "application/octet-stream"
    if _TYPE.fullmatch(kind) is None:
        raise LocalProtocolError(f"'attachments' has the content type {kind[:60]!r}, which is none")
    main = kind.partition("/")[0].lower()
    if main == "multipart":
        raise LocalProtocolError("'attachments' has a multipart: attach its parts one by one")
    disposition = "attachment" + _parameter("filename", name) if name else "attachment"
    if main == "message":
        # Base64 is not allowed in it (RFC 2046, section 5.2.1).
        encoding, content = _message(data)
        if encoding == "base64":
            kind = "application/octet-stream"
    else:
        encoding, content = "base64", _base64(data)
    head = (
        f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n"
        f"Content-Disposition: {disposition}\r\n\r\n"
    )
    return head.encode() + content


def _message(data: bytes) -> tuple[str, bytes]:
    content = re.sub(rb"\r\n?", b"\n", data)
    fits = max(map(len, content.split(b"\n")), default=0) <= LONGEST_LINE
    if content.isascii() and b"\0" not in content and fits:
        return "7bit", content.replace(b"\n", b"\r\n")
    return "base64", _base64(data)


def _parameter(key: str, value: str) -> str:
    """Return a parameter of a header, behind a line break (RFC 2231 where it has to be)."""
    if value.isascii() and len(value) < LINE - 20 and not value.startswith("=?"):
        quoted = re.sub(r'(["\\])', r"\\\1", value)
        return f';\r\n {key}="{quoted}"'
    try:
        escaped = quote(value, safe="")
    except UnicodeEncodeError:
        raise LocalProtocolError("'attachments' has a name that is no text") from None
    # Not inside of an escape: three characters that belong together.
    pieces = re.findall(r"(?:%..|[^%]){1,20}", escaped)
    if len(pieces) == 1:
        return f";\r\n {key}*=utf-8''{pieces[0]}"
    pieces[0] = f"utf-8''{pieces[0]}"
    return "".join(f";\r\n {key}*{n}*={piece}" for n, piece in enumerate(pieces))
