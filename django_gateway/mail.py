"""Django's mail by the gateway: ``EMAIL_BACKEND = "django_gateway.mail.EmailBackend"``.

``send_mail()`` returns once the mail lies in the gateway's spool, on the disk. From there the
gateway delivers it, for days if it has to; nobody waits for a mail server, and none is lost with
the process that sent it. It works wherever the layer can be reached: in a worker, a management
command, a shell. What the mail says (alternatives, attachments, headers) is sent as Django
composes it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from email.headerregistry import Address, parser  # type: ignore[attr-defined]  # what Django reads with
from smtplib import SMTPException
from typing import Any, Final

from django.conf import settings
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage
from django.utils.encoding import punycode

from django_gateway import asgi
from django_gateway.crew import await_client
from gateway.core import names
from gateway.core.errors import ChannelFull, LayerError
from gateway.core.layers.base import ACCEPTED, Layer

CHANNEL: Final = "email.send"
TIMEOUT: Final = 30.0
"""Seconds to wait for the spool where ``EMAIL_TIMEOUT`` says nothing: it takes milliseconds, but a
gateway that is being replaced some seconds."""
INLINE: Final = 256 * 1024
"""Bytes of a mail that is one message; a larger one goes in pieces."""
PIECE: Final = 64 * 1024
PIECES: Final = 4
"""Pieces of a mail under way at once: no more of it is held by the layer."""
WINDOW: Final = 16
"""Mails under way at once, so that many do not take a disk's round trip each."""
PIECE_WRITTEN: Final = 0
"""The number of a piece's ack; mails count from 1."""
LOOK: Final = 0.02
"""Seconds between two tries where the channel is full: the gateway writes to its disk meanwhile."""
BAD_ADDRESS: Final = 553
"""The code for an address that is none (RFC 5321, section 4.2.3)."""
_NOT_HERE: Final = ("host", "port", "username", "password", "use_tls", "use_ssl")
"""What Django's own backend is given, and the settings of the gateway say here."""


class NotSpooledError(SMTPException):
    """A mail is not in the gateway's spool: the text says why, and what to do.

    ``code`` is the reply code of SMTP that fits, where the gateway refused it; ``spooled`` is how
    many of the same ``send_messages()`` are in the spool nevertheless.
    """

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.spooled = 0


class EmailBackend(BaseEmailBackend):
    """Sends mail through the gateway."""

    def __init__(
        self, fail_silently: bool = False, *, timeout: float | None = None, **more: Any
    ) -> None:
        super().__init__(fail_silently=fail_silently)
        for name in _NOT_HERE:
            if more.get(name) is not None:
                raise TypeError(
                    f"{name!r} is for a mail server, and this backend knows none: the gateway "
                    "does; say it in its settings, email.smarthosts.NAME"
                )
        given = settings.EMAIL_TIMEOUT if timeout is None else timeout
        self.timeout = TIMEOUT if given is None else float(given)

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Return how many mails are in the spool now; those without recipients are not sent.

        Raises `NotSpooledError`, an ``SMTPException``, at the first that is not, unless
        ``fail_silently``. On a running event loop RuntimeError.
        """
        if asyncio._get_running_loop() is not None:  # noqa: SLF001 - get_running_loop() raises where there is none
            raise RuntimeError(
                "sending mail waits for the gateway's spool, and would block the running event "
                "loop: await sync_to_async(send_mail)(…) instead"
            )
        posting = _Posting(asgi.channel_layers["default"], self.timeout)
        waiting = [one for one in email_messages if one.recipients()]
        try:
            for one in waiting:
                try:
                    back, to = _envelope(one)
                except NotSpooledError:
                    if not self.fail_silently:
                        raise
                    continue  # the others have nothing to do with it
                posting.send(one, back, to)
            posting.finish()
        except NotSpooledError as error:
            posting.drain()
            error.spooled = posting.spooled
            if not self.fail_silently:
                raise
        return posting.spooled


class _Posting:
    """The mails of one ``send_messages()``."""

    def __init__(self, layer: Layer, timeout: float) -> None:
        self._layer = layer
        self._timeout = timeout
        self._acks = names.fill("email.spooled?")
        self._sent = 0
        self._unanswered: deque[int] = deque()
        self._pieces = 0
        """Pieces of the mail that is being sent that are not written yet."""
        self.spooled = 0

    def send(self, mail: EmailMessage, mail_from: str, rcpt_to: list[str]) -> None:
        """Send a mail; it is in the spool once it was answered."""
        while len(self._unanswered) >= WINDOW:
            self._hear()
        raw = mail.message().as_bytes(linesep="\r\n")  # type: ignore[call-arg]  # Django's own takes it
        self._sent += 1
        message: dict[str, Any] = {
            "mail_from": mail_from,
            "rcpt_to": rcpt_to,
            "subject": str(mail.subject),  # for those who look at the spool
            "ack": self._sent,
            "ack_channel": self._acks,
        }
        if len(raw) <= INLINE:
            self._put(CHANNEL, {**message, "raw": raw})
            self._unanswered.append(self._sent)
            return
        pieces = names.fill("email.send.raw?")
        self._put(CHANNEL, {**message, "raw_channel": pieces})
        self._unanswered.append(self._sent)
        self._pieces = 0
        for piece in _cut(raw):
            while self._pieces >= PIECES and self._is_under_way:
                self._hear()
            if not self._is_under_way:
                break  # it was refused before its end
            self._put(pieces, {**piece, "ack": PIECE_WRITTEN, "ack_channel": self._acks})
            self._pieces += 1

    @property
    def _is_under_way(self) -> bool:
        """Whether the mail that is being sent has no answer yet."""
        return self._sent in self._unanswered

    def finish(self) -> None:
        """Wait until all are answered. Raises `NotSpooledError`."""
        while self._unanswered:
            self._hear()

    def drain(self) -> None:
        """Wait for those that are under way behind one that failed, whatever becomes of them."""
        while self._unanswered:
            try:
                self._hear()
            except NotSpooledError as error:
                if error.code is None:  # nobody answers any more
                    return

    def _put(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message, as soon as there is room."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                self._layer.send_many(channel, [message], expiry=self._timeout)
            except ChannelFull:
                if time.monotonic() >= end:
                    raise self._silence() from None
            except LayerError as error:
                raise NotSpooledError(
                    f"the gateway cannot be reached, and the mail is not sent: {error}"
                ) from error
            else:
                return
            self._hear(LOOK)

    def _hear(self, seconds: float | None = None) -> None:
        """Hear of one mail, or piece; with ``seconds``, if there is anything within them."""
        patient = seconds is None
        try:
            ack = (
                await_client(self._layer, self._acks, self._timeout)
                if seconds is None
                else self._layer.receive([self._acks], block=seconds)[1]
            )
        except (LayerError, OSError) as error:
            raise NotSpooledError(
                f"nobody knows whether the mail is in the spool: {error}; it may be sent"
            ) from error
        if ack is None:
            if patient:
                raise self._silence()
            return
        number: int = ack.get("ack", PIECE_WRITTEN)
        if number == PIECE_WRITTEN:
            self._pieces -= 1
            return
        if number in self._unanswered:
            self._unanswered.remove(number)
        if ack.get("outcome") == ACCEPTED:
            self.spooled += 1
            return
        code, reason = ack.get("code"), ack.get("reason") or "it did not say why"
        raise NotSpooledError(
            f"the gateway did not take the mail: {f'{code} ' if code else ''}{reason}",
            code or 451,
        )

    def _silence(self) -> NotSpooledError:
        self._unanswered.clear()
        return NotSpooledError(
            f"no gateway has put the mail into its spool within {self._timeout:g} s: one with the "
            "plugin email has to run (GATEWAY['plugins'] = ['http', 'email', …], gateway run) on "
            "the same channel layer; EMAIL_TIMEOUT is how long that is waited for"
        )


def _cut(raw: bytes) -> Iterator[dict[str, Any]]:
    for start in range(0, len(raw), PIECE):
        content = raw[start : start + PIECE]
        more = start + len(content) < len(raw)
        yield {"offset": start, "content": content, "more_content": more}


def _envelope(mail: EmailMessage) -> tuple[str, list[str]]:
    """Return where a mail comes back to, and whom it is for. Raises `NotSpooledError`."""
    try:
        return envelope_address(mail.from_email), [
            envelope_address(one) for one in mail.recipients()
        ]
    except ValueError as error:
        raise NotSpooledError(f"the mail is not sent: {error}", BAD_ADDRESS) from None


def envelope_address(address: str) -> str:
    """Return an address as SMTP has it: of ``Ann <ann@bücher.example>`` ``ann@xn--…``.

    Raises ValueError for what is none.
    """
    try:
        mailbox, rest = parser.get_mailbox(str(address))
        found = Address(username=mailbox.local_part, domain=punycode(mailbox.domain)).addr_spec
    except Exception:  # noqa: BLE001 - the parser raises what it likes
        raise ValueError(f"{address!r} is no mail address, such as 'ann@example.com'") from None
    if rest or any(letter < " " or letter == "\x7f" for letter in found):
        raise ValueError(f"{address!r} is no mail address: there is more in it than one")
    return found
