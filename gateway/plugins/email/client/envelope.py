"""Who a spooled mail is from and for, and how far it is: what stands beside it on disk. Pure.

::

    queue/ID.eml     the mail, as every server gets it; never changed
    queue/ID.json    this, as JSON; replaced whenever something has become of a recipient
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from gateway.core.errors import GatewayError
from gateway.core.layers.base import FAILED, REJECTED, Outcome
from gateway.core.names import random_text

WAITING: Final = "waiting"
DELIVERED: Final = "delivered"
GIVEN_UP: Final = "failed"

ID: Final = re.compile(r"[0-9a-f]{11}-[A-Za-z0-9]{8}(?:-[a-z0-9]{1,16})?")
"""The id of a mail: milliseconds since the epoch, so that names sort by age, and a random part."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Who a mail to be sent is from and for; what `Outbox.submit` takes."""

    mail_from: str
    """Where it comes back to if it cannot be delivered; empty: the null sender, nowhere."""
    rcpt_to: tuple[str, ...]
    """Addresses, at least one."""
    author: str = ""
    """Whom its ``From`` names, by whose key it is signed. Empty: ``mail_from``."""
    subject: str = ""
    """For ``gateway mail list`` and reports: no header is made of it."""
    id: str = ""
    """Whose mail is in the spool already is not spooled again. Empty: a new one."""
    bounces: bool = True
    """Whether it is told if it cannot be delivered: not for what was sent automatically."""


class Refused(GatewayError):  # noqa: N818 - a decision, as SMTP calls it
    """A mail was not spooled. ``outcome`` is what an ``ack`` of it says."""

    def __init__(self, reason: str, code: int, cause: str, *, fault: bool = False) -> None:
        super().__init__(reason)
        kind = FAILED if fault else REJECTED
        self.outcome = Outcome(kind, code, reason, cause)


class Recipient(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One recipient of a spooled mail, and what became of it."""

    address: str
    state: Literal["waiting", "delivered", "failed"] = "waiting"
    tries: int = 0
    due: float = 0.0
    """When it is tried next, in seconds since the epoch."""
    tried: float = 0.0
    """When it was tried last."""
    code: int = 0
    """What the server answered last; 0: none did."""
    status: str = ""
    """The enhanced status code (RFC 3463)."""
    reason: str = ""
    """The server's words, or what stood in the way."""
    server: str = ""
    """Which server said that."""


class Entry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A spooled mail."""

    id: str
    mail_from: str
    created: float
    """In seconds since the epoch."""
    size: int
    """Octets of the mail."""
    recipients: list[Recipient]
    subject: str = ""
    message_id: str = ""
    bounces: bool = True
    eight_bit: bool = False
    """Whether octets over 127 are in it: it takes a server with 8BITMIME."""
    utf8: bool = False
    """Whether its header is not of ASCII: it takes a server with SMTPUTF8 (RFC 6531)."""
    before: str = ""
    """Headers that go before it, with their CRLF: a signature, and what it lacked."""
    warned: bool = False
    """Whether the sender was told that it takes long."""

    def waiting(self) -> list[Recipient]:
        """Return those that it is still to be delivered to."""
        return [one for one in self.recipients if one.state == WAITING]

    def given_up(self) -> list[Recipient]:
        """Return those that it could not be delivered to, of which nobody was told yet."""
        return [one for one in self.recipients if one.state == GIVEN_UP]

    def forget(self, recipients: Iterable[Recipient]) -> None:
        """Have recipients no more, of which all is done."""
        gone = {id(one) for one in recipients}
        self.recipients = [one for one in self.recipients if id(one) not in gone]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


def packed(entry: Entry) -> bytes:
    """Return an entry as it stands on disk: a line, so that a cut one is seen."""
    return _encode(entry) + b"\n"


def unpacked(data: bytes, name: str) -> Entry:
    """Undo `packed`. Raises ValueError where it is damaged, or not that of ``name``."""
    if data[-1:] != b"\n":
        raise ValueError("its end is missing")
    entry = _decode(data)
    if entry.id != name:
        raise ValueError(f"it says that it is {entry.id[:40]!r}")
    if not entry.recipients:
        raise ValueError("it has no recipients")
    return entry


def new_id(now: float | None = None) -> str:
    """Return an id that no mail has."""
    milliseconds = int((time.time() if now is None else now) * 1000)
    return f"{milliseconds:011x}-{random_text(8)}"
