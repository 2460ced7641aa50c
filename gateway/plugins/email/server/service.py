"""`Server`: the inward direction of one gateway process: listeners, limits, what clients share."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.core.accept import Acceptor
from gateway.core.arrivals import Arrivals, Arrived
from gateway.core.errors import ConfigError
from gateway.core.listen import bind
from gateway.core.networks import Networks
from gateway.core.places import Places
from gateway.core.plugin import Context
from gateway.core.tls import Offer
from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.loops import unanswerable
from gateway.plugins.email.server.asked import Asked
from gateway.plugins.email.server.commands import Domains
from gateway.plugins.email.server.dialogue import Dialogue, LmtpDialogue
from gateway.plugins.email.server.intake import Intake, Room
from gateway.plugins.email.server.mail import Arrival
from gateway.plugins.email.server.threads import Thread, Threads

if TYPE_CHECKING:
    from gateway.plugins.email.server.checking import Checker

PLAIN: Final = b"421 4.7.4 Speak TLS from the beginning here\r\n"
"""What a client hears at a ``tls:`` endpoint that speaks none."""


class Server:
    """The inward direction."""

    def __init__(self, config: EmailConfig, context: Context) -> None:
        self.config = config
        self.context = context
        self.domains = Domains(config.domains)
        self.trusted = Networks(config.trusted, "email.trusted")
        self.local = Networks(("127.0.0.0/8", "::1", "unix"), "email.plain_auth")
        self.hostname = config.hostname or socket.gethostname() or "localhost"
        self.places = Places(config.max_connections, config.max_connections_per_address)
        self.room = Room(config.max_spilled)
        self.now = time.time
        self.threads = Threads(config, context, time.time)
        self.tls: Offer | None = None
        """What STARTTLS begins with; None: it is not offered."""
        self.checker: Checker | None = _checker(config)
        """What asks DNS who mails are from; None: nothing does."""
        self._proxies = Networks(config.proxies, "email.proxies")
        self._acceptors: list[Acceptor] = []
        self._arrivals: list[Arrivals] = []

    async def start(self) -> None:
        """Listen at every endpoint. Raises ConfigError that names the setting."""
        # aiosmtpd tells each command of each client at INFO; the gateway has an access log.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        try:
            self.tls = self.context.tls()
        except ConfigError:
            self.tls = None  # there is no certificate
        self.context.gauge("answerable", lambda: len(self.threads))
        self.context.gauge("spilled_bytes", lambda: self.room.used)
        for endpoint in self.context.endpoints():
            if endpoint.kind == "twisted":
                raise endpoint.error(
                    "mail is taken at tcp:, unix:, fd: and systemd: endpoints, with tls: before "
                    "it or without"
                )
            lmtp = endpoint.setting.endswith(".lmtp") or not self.config.listen
            arrivals = Arrivals(
                self.context,
                self.serve_lmtp if lmtp else self.serve,
                self.places,
                tls=self.context.tls() if endpoint.tls else None,
                proxies=self._proxies or None,
                answer=lambda _: PLAIN,
            )
            self._arrivals.append(arrivals)
            self._acceptors.append(
                Acceptor(bind(endpoint), arrivals.take, self.context, spare=endpoint.spare)
            )

    def serve(self, arrived: Arrived) -> asyncio.Protocol:
        """Return the protocol of a client's connection that is there, whoever accepted it."""
        return Dialogue(self, arrived)

    def serve_lmtp(self, arrived: Arrived) -> asyncio.Protocol:
        """Return that of one who speaks LMTP."""
        return LmtpDialogue(self, arrived)

    async def stop(self) -> None:
        """Accept nothing more; return when the last connection is gone."""
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            acceptor.close()
        for arrivals in self._arrivals:
            await arrivals.stop()
        await self.context.idle()
        self.threads.close()
        if self.checker is not None:
            self.checker.close()

    def health(self) -> Mapping[str, Any]:
        """Return how much there is."""
        return {
            "ok": True,
            "connections": self.places.open,
            "answerable": len(self.threads),
            "spilled_bytes": self.room.used,
        }

    # ------------------------------------------------ what connections ask for

    @staticmethod
    def new_id() -> str:
        """Return what a mail is called here."""
        return secrets.token_hex(8)

    def postmaster(self) -> str:
        """Return the mailbox that ``postmaster`` alone means (RFC 5321 section 4.5.1)."""
        named = [one for one in self.config.domains if not one.startswith(".")]
        return f"postmaster@{(named or [self.hostname])[0].lower()}"

    async def check(self, asked: Asked, intake: Intake) -> dict[str, Any]:
        """Return what DNS says of who a mail is from; of our own machines' mail nothing."""
        if self.checker is None or asked.client in self.local or asked.client in self.trusted:
            return {}
        found = await self.checker.check(asked, intake)
        for method in ("spf", "dkim", "dmarc"):
            self.context.count("checks_total", method=method, result=found[method])
        return found

    def thread(self, arrival: Arrival, *, proven: bool) -> Thread:
        """Return what it takes to answer a mail; ``proven`` says that it is from whom it says."""
        message = arrival.message
        headers = message["headers"]
        reason = None
        if self.config.replies == "nobody":
            reason = "mail is not answered here (email.replies)"
        elif not proven and self.config.replies != "anyone":
            reason = f"it is not proven who sent it (email.replies is {self.config.replies!r})"
        if reason is None:
            # The trace is the gateway's own: its Return-Path says nothing new.
            theirs = headers[arrival.fields :]
            reason = unanswerable(message["mail_from"], theirs, arrival.rcpt_to)
        named: dict[str, str] = dict(reversed(headers))
        return Thread(
            mailbox=arrival.rcpt_to[0],
            sender=message["mail_from"],
            message_id=message["message_id"],
            subject=message["subject"],
            references=named.get("references", named.get("in-reply-to", "")),
            unanswerable=reason,
        )


def _checker(config: EmailConfig) -> Checker | None:
    if not config.check_senders:
        return None
    try:
        from gateway.plugins.email.server.checking import Checker  # noqa: PLC0415 - only then
    except ModuleNotFoundError as error:
        if error.name not in {"dkim", "spf", "dns"}:
            raise
        return None
    return Checker(config)
