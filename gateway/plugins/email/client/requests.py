"""What is sent to ``email.send``, and to addresses ``email.send!MAILBOX``, as mails. Pure."""

from __future__ import annotations

from typing import Any, Final, get_type_hints

import msgspec

from gateway.core.errors import LocalProtocolError
from gateway.core.names import parse_address
from gateway.core.plugin import Message
from gateway.plugins.email.addresses import Mailbox, mailbox
from gateway.plugins.email.client.config import Outgoing
from gateway.plugins.email.client.envelope import Envelope
from gateway.plugins.email.compose import compose, new_message_id
from gateway.plugins.email.messages import Send

OURS: Final = ("accept", "close", "pin", "reason")
"""Keys of a reply that mean nothing here: there is nobody to be let in or closed."""
WHOLE: Final = ("raw", "raw_channel")
PARTS: Final = ("text", "bytes", "html", "attachments")

_KEYS: Final = frozenset(get_type_hints(Send))


class Request(msgspec.Struct, frozen=True):
    """A mail that somebody asks to be sent."""

    envelope: Envelope
    content: bytes
    channel: str = ""
    """Where the content comes instead, piece by piece."""


def request(channel: str, message: Message, config: Outgoing, hostname: str, now: float) -> Request:
    """Return the mail that a message to ``channel`` asks for.

    Raises LocalProtocolError that says what cannot be; it names keys, never values of them that
    may be secret.
    """
    keys = _checked(message)
    recipients = [mailbox(one, "'rcpt_to'") for one in _recipients(channel, keys)]
    sender = _sender(keys, config)
    mail_from = keys.get("mail_from")
    back = "" if mail_from == "" or sender is None else sender.address
    envelope = Envelope(
        mail_from=back,
        author="" if sender is None else sender.address,
        rcpt_to=tuple(dict.fromkeys(one.address for one in recipients)),
        subject=keys.get("subject", ""),
    )
    if "raw_channel" in keys:
        return Request(envelope, b"", keys["raw_channel"])
    if "raw" in keys:
        return Request(envelope, keys["raw"])
    if sender is None:
        raise LocalProtocolError(
            "nobody is said to be the sender: set 'mail_from', or the setting email.sender"
        )
    content = compose(
        keys,
        sender=sender,
        recipients=recipients,
        message_id=new_message_id(sender.domain if sender.domain[0] != "[" else hostname),
        now=now,
    )
    return Request(envelope, content)


def _checked(message: Message) -> dict[str, Any]:
    unknown = sorted(set(message) - _KEYS)
    if unknown:
        raise LocalProtocolError(f"unknown key {', '.join(repr(key[:40]) for key in unknown[:5])}")
    try:
        keys: dict[str, Any] = dict(msgspec.convert(message, Send))
    except msgspec.ValidationError as error:
        _, mark, place = str(error).partition(" - at ")
        raise LocalProtocolError(f"a value that is not allowed{mark}{place}") from None
    whole = [key for key in WHOLE if key in keys]
    parts = [key for key in (*PARTS, "headers") if key in keys]
    if len(whole) > 1:
        raise LocalProtocolError("both 'raw' and 'raw_channel'")
    if whole and parts:
        raise LocalProtocolError(
            f"both {whole[0]!r} and {parts[0]!r}: {whole[0]!r} is the whole mail already"
        )
    if "text" in keys and "bytes" in keys:
        raise LocalProtocolError("both 'text' and 'bytes'")
    return keys


def _recipients(channel: str, keys: dict[str, Any]) -> list[str]:
    found: list[str] = keys.get("rcpt_to") or []
    if not found and "!" in channel:
        try:
            found = [parse_address(channel)[1]]
        except ValueError:
            raise LocalProtocolError("the address names no mailbox") from None
    if not found:
        raise LocalProtocolError("it has no recipient: 'rcpt_to' is a list of addresses")
    return found


def _sender(keys: dict[str, Any], config: Outgoing) -> Mailbox | None:
    if text := keys.get("mail_from"):
        found = mailbox(text, "'mail_from'")
        if not found.name and config.sender:
            own = mailbox(config.sender, "the setting email.sender")
            if own.address == found.address:
                return own
        return found
    return mailbox(config.sender, "the setting email.sender") if config.sender else None
