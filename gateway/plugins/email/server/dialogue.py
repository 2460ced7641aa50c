"""`Dialogue`: what SMTP's commands do, and LMTP's (`LmtpDialogue`)."""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import MISSING, AuthResult, LoginPassword, syntax

from gateway.core import x509
from gateway.core.arrivals import Arrived, why_failed
from gateway.core.plugin import Peer, Summary
from gateway.plugins.email import translate
from gateway.plugins.email.server import commands
from gateway.plugins.email.server.asked import Asked, proves
from gateway.plugins.email.server.commands import CommandError, Path
from gateway.plugins.email.server.intake import Intake
from gateway.plugins.email.server.lines import LONGEST, Content, Fault
from gateway.plugins.email.server.mail import Transaction, arrival, with_protocol
from gateway.plugins.email.server.session import IN_ORDER, Came, Login, Named
from gateway.plugins.email.server.wire import BAD_LINES, BYE, ENOUGH, LINGER, SILENT, Over, Wire
from gateway.plugins.email.translate import Answer

if TYPE_CHECKING:
    from gateway.plugins.email.server.service import Server

FAULTS: Final = {
    Fault.BARE: Answer(550, "5.6.0 A line ends with CR LF; there is a lone CR or LF in it"),
    Fault.NUL: Answer(550, "5.6.0 There is a NUL in it"),
    Fault.LINE: Answer(554, "5.6.0 A line in it is too long"),
    Fault.SIZE: translate.TOO_BIG,
    Fault.HEADER: Answer(552, "5.3.4 Its header is too large"),
    Fault.LOOP: Answer(554, "5.4.6 It goes in a circle: too many Received fields"),
    Fault.ROOM: Answer(452, "4.3.1 There is no room for it now; try again later"),
}
TOO_SLOW: Final = Answer(421, "4.4.2 The mail comes too slowly; the connection is closed")
FULL_OF_MAILS: Final = Answer(421, "4.7.0 Enough mails over one connection; connect again")


class Dialogue(Wire):
    """A client that speaks SMTP."""

    def __init__(self, server: Server, arrived: Arrived) -> None:
        super().__init__(server, arrived)
        self._mail: Path | None = None
        self._recipients: list[tuple[str, str]] = []
        """Key of the conversation, and mailbox."""
        self._begun = 0
        """How many mails were begun, for the keys of their conversations."""
        self._taken = 0
        self._named = 0
        """How many recipients were named of this one."""
        self._identity = ""
        """Who the client has proven to be, by AUTH."""
        self._auth_errors = 0

    def _set_rset_state(self) -> None:
        """Begin anew. aiosmtpd calls it for RSET, and at its beginning."""
        super()._set_rset_state()  # type: ignore[no-untyped-call] # aiosmtpd's
        self._mail = None
        self._recipients = []
        self._named = 0
        self._close_mail()

    # ------------------------------------------------ greetings

    @syntax("HELO hostname")
    async def smtp_HELO(self, hostname: str | None) -> None:  # noqa: N802 - aiosmtpd\'s name
        """Take the name of a client that knows no extensions."""
        self._hello(commands.hello(hostname or ""), extended=False)
        self._say(Answer(250, self.hostname), enhanced=False)

    @syntax("EHLO hostname")
    async def smtp_EHLO(self, hostname: str | None) -> None:  # noqa: N802 - aiosmtpd\'s name
        """Take the name of a client, and say what can be done."""
        self._hello(commands.hello(hostname or ""), extended=True)
        offers = [
            self.hostname,
            f"SIZE {self._config.max_size}",
            "8BITMIME",
            "SMTPUTF8",
            "PIPELINING",
            "ENHANCEDSTATUSCODES",
        ]
        if self._server.tls is not None and not self.peer.tls:
            offers.append("STARTTLS")
        if self._may_authenticate() and self._context.routed("authenticate"):
            offers.append("AUTH PLAIN LOGIN")
        self._say(Answer(250, "\n".join([*offers, "HELP"])), enhanced=False)

    def _hello(self, name: str, *, extended: bool) -> None:
        self._set_rset_state()
        session = self._state
        session.host_name = name
        session.extended_smtp = extended
        self._tell(method="LHLO" if self.lmtp else "EHLO" if extended else "HELO", path=name)

    @property
    def _state(self) -> Any:
        """What aiosmtpd knows of the client; made with the connection."""
        return self.session

    def _need_hello(self) -> None:
        if not self._state.host_name:
            raise CommandError("order", Answer(503, f"5.5.1 Say {self.greets} first"))

    @syntax("QUIT")
    async def smtp_QUIT(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd\'s name
        """Say goodbye."""
        if arg:
            raise CommandError("quit", Answer(501, "5.5.4 Syntax: QUIT"))
        raise Over(BYE)

    @syntax("VRFY <address>")
    async def smtp_VRFY(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd\'s name
        """Say nothing of mailboxes (RFC 5321 section 7.3)."""
        if not arg:
            raise CommandError("vrfy", Answer(501, "5.5.4 Syntax: VRFY <address>"))
        self._say(Answer(252, "2.0.0 Send a mail to learn whether it is taken"))

    # ------------------------------------------------ STARTTLS

    @syntax("STARTTLS", when="tls_context")
    async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd\'s name
        """Begin TLS, and everything with it (RFC 3207)."""
        offer = self._server.tls
        if arg:
            raise CommandError("starttls", Answer(501, "5.5.4 Syntax: STARTTLS"))
        if offer is None or self.peer.tls:
            raise CommandError("starttls", Answer(503, "5.5.1 There is no TLS to begin"))
        # What came behind the command is not of the client that TLS will speak with: section 6.
        self._transport.pause_reading()
        if self._lines.take():
            self._context.count("injected_total", where="starttls")
        self._say(Answer(220, "2.0.0 Go ahead"))
        self._flush()
        try:
            transport = await offer.upgrade(self._transport, self, self._context.loop, LINGER)
        except OSError as error:
            self._context.count("tls_failures_total", why=why_failed(error))
            self._context.log.debug("a TLS handshake failed: %s", error)
            self._transport.abort()
            self.connection_lost(None)
            raise Over from None
        self._begin_tls(transport)

    def _begin_tls(self, transport: asyncio.Transport) -> None:
        self._transport = self.transport = transport
        tls = transport.get_extra_info("ssl_object")
        self._context.count("tls_handshakes_total", version=tls.version() or "")
        certificate = tls.getpeercert(binary_form=True)
        identity = None if certificate is None else x509.read(certificate).identity
        self._set_peer(msgspec.structs.replace(self.peer, tls=True, identity=identity))
        # "The server MUST discard any knowledge obtained from the client" (section 4.2).
        self._set_rset_state()
        self.session = self._create_session()
        self._identity = ""

    def _set_peer(self, peer: Peer) -> None:
        self.peer = peer
        if self.connection is not None:
            self._context.meet(self.connection, peer)

    # ------------------------------------------------ AUTH

    def _may_authenticate(self) -> bool:
        """Return whether a password may be shown: over TLS, or, where that is set, on this host."""
        client = self.peer.client
        host = None if client is None else client[0]
        return self.peer.tls or (self._config.plain_auth and host in self._server.local)

    @syntax("AUTH <mechanism>")
    async def smtp_AUTH(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd\'s name
        """Ask the application whether a client is who it says it is."""
        self._need_hello()
        if not self._context.routed("authenticate"):
            raise CommandError("auth", Answer(502, "5.5.1 There is no AUTH here"))
        if not self._may_authenticate():
            raise CommandError("auth", Answer(538, "5.7.11 Begin TLS first"))
        if self._identity or self._mail is not None:
            raise CommandError("auth", Answer(503, "5.5.1 Once, and not within a mail"))
        words = (arg or "").split()
        if not 1 <= len(words) <= 2:
            raise CommandError("auth", Answer(501, "5.5.4 Syntax: AUTH <mechanism>"))
        mechanism = words[0].upper()
        if mechanism not in self._auth_methods:
            raise CommandError("auth", Answer(504, "5.5.4 The mechanisms are PLAIN and LOGIN"))
        if words[1:] == ["="]:
            words[1] = ""  # an initial response that is empty (RFC 4954 section 4)
        result: AuthResult = await self._auth_methods[mechanism].method(self, words)
        if isinstance(result.auth_data, LoginPassword):
            await self._log_in(mechanism, result.auth_data)

    def _authenticate(self, mechanism: str, auth_data: Any) -> AuthResult:
        """Hand on what a mechanism of aiosmtpd's has read: the application decides on it."""
        return AuthResult(success=False, handled=True, auth_data=auth_data)

    async def _log_in(self, mechanism: str, said: LoginPassword) -> None:
        try:
            username, password = said.login.decode(), said.password.decode()
        except UnicodeDecodeError:
            raise CommandError("auth", Answer(501, "5.5.2 It is not UTF-8")) from None
        if not username.isprintable():  # RFC 4013 section 2.3: it comes into logs and headers
            raise CommandError("auth", Answer(501, "5.5.2 No name has control characters"))
        message = {
            "mechanism": mechanism,
            "username": username,
            "password": password,
            "helo": self._state.host_name,
            "tls": self.peer.tls,
        }
        [answer] = await self._ask(Login(message))
        self._context.count("logins_total", code=str(answer.code))
        if answer.code == 235:
            self._identity = username
            self._set_peer(msgspec.structs.replace(self.peer, identity=username))
        elif answer.code >= 500:
            self._auth_errors += 1
        self._say(answer, counts=False)
        if self._auth_errors >= self._config.max_auth_errors:
            raise Over(ENOUGH)

    async def challenge_auth(
        self,
        challenge: str | bytes,
        encode_to_b64: bool = True,
        log_client_response: bool = False,
    ) -> Any:
        """Ask a client for more, within the exchange of AUTH; return `MISSING` for nothing good."""
        asked = challenge.encode() if isinstance(challenge, str) else challenge
        self._out.append(b"334 " + (b64encode(asked) if encode_to_b64 else asked) + b"\r\n")
        line = await self._line(LONGEST)
        if isinstance(line, Fault):
            self._say(BAD_LINES[line])
            return MISSING
        if line == b"*":
            self._say(Answer(501, "5.7.0 It is given up"))
            return MISSING
        try:
            return binascii.a2b_base64(line, strict_mode=True)
        except binascii.Error:
            self._say(Answer(501, "5.5.2 It is not in base64"))
            return MISSING

    # ------------------------------------------------ sender and recipients

    @syntax("MAIL FROM: <address>", extended=" [SP <mail-parameters>]")
    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd\'s name
        """Begin a mail."""
        self._need_hello()
        if self._config.require_tls and not (self.peer.tls or self.lmtp):
            raise CommandError("mail", Answer(530, "5.7.0 Begin TLS first"))
        if self._mail is not None:
            raise CommandError("mail", Answer(503, "5.5.1 There is a mail already; RSET drops it"))
        if self._taken >= self._config.max_messages:
            raise Over(FULL_OF_MAILS)
        path = commands.path(arg or "", "FROM:")
        if path.parameters and not self._state.extended_smtp:
            raise CommandError("mail", Answer(555, "5.5.4 Parameters take EHLO"))
        utf8 = self._check_parameters(path)
        if not utf8 and not commands.is_ascii(path.mailbox):
            raise CommandError("mail", Answer(553, "5.6.7 An address like that takes SMTPUTF8"))
        self._mail, self._utf8 = path, utf8
        self._begun += 1
        self._say(Answer(250, "2.1.0 OK"))

    def _check_parameters(self, path: Path) -> bool:
        """Look at the parameters of MAIL; return whether SMTPUTF8 is among them."""
        utf8 = False
        for name, value in path.parameters.items():
            match name:
                case "SIZE" if value is not None and value.isascii() and value.isdigit():
                    if len(value) > 20 or int(value) > self._config.max_size:
                        raise CommandError("mail", translate.TOO_BIG)
                case "BODY" if value is not None and value.upper() in {"7BIT", "8BITMIME"}:
                    pass
                case "SMTPUTF8" if value is None:
                    utf8 = True
                case "AUTH" if value is not None and self._context.routed("authenticate"):
                    pass  # RFC 4954 section 5: whose a forwarded mail was; nobody is believed
                case "SIZE" | "BODY" | "SMTPUTF8":
                    raise CommandError("mail", Answer(501, f"5.5.4 {name} cannot be that"))
                case _:
                    raise CommandError("mail", Answer(555, f"5.5.4 {name} is not known"))
        return utf8

    @syntax("RCPT TO: <address>", extended=" [SP <mail-parameters>]")
    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd\'s name
        """Take a recipient, if its domain is ours, and if the application says so."""
        if self._mail is None:
            raise CommandError("rcpt", Answer(503, "5.5.1 Say MAIL first"))
        if len(self._recipients) >= self._config.max_recipients:
            self._say(Answer(452, "4.5.3 Too many recipients; send it again to the rest"))
            return
        path = commands.path(arg or "", "TO:")
        if path.parameters:
            raise CommandError("rcpt", Answer(555, f"5.5.4 {min(path.parameters)} is not known"))
        mailbox = path.mailbox or ""
        if not path.domain:
            mailbox = self._server.postmaster()
        elif path.domain not in self._server.domains:
            self._context.count("foreign_recipients_total")
            words = f"5.7.1 Mail for {path.domain} is not taken here"
            raise CommandError("rcpt", Answer(550, words))
        if not self._utf8 and not commands.is_ascii(mailbox):
            raise CommandError("rcpt", Answer(553, "5.6.7 An address like that takes SMTPUTF8"))
        # One conversation for each mail; in LMTP each recipient has its own, and its own outcome.
        self._named += 1
        key = f"{self._begun}.{self._named}" if self.lmtp else str(self._begun)
        answer = await self._ask_recipient(key, self._mail.mailbox, mailbox)
        if answer.code == IN_ORDER.code and (
            self.lmtp or all(mailbox != one for _, one in self._recipients)
        ):
            self._recipients.append((key, mailbox))
        self._say(answer)

    async def _ask_recipient(self, key: str, mail_from: str | None, mailbox: str) -> Answer:
        routed = self._context.routed
        if routed("recipient") is False and routed("receive"):
            return IN_ORDER
        self._keys.add(key)
        message = {
            "mail_from": mail_from,
            "rcpt_to": [mailbox],
            "helo": self._state.host_name,
            "tls": self.peer.tls,
        }
        [answer] = await self._ask(Named(key, message))
        return answer

    # ------------------------------------------------ the mail itself

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd\'s name
        """Take a mail, and answer with what became of it."""
        mail = self._mail
        if arg:
            raise CommandError("data", Answer(501, "5.5.4 Syntax: DATA"))
        if mail is None or not self._recipients:
            raise CommandError("data", Answer(503, "5.5.1 There is no recipient"))
        if len(self._lines):
            # Who did not wait for the 354 is not speaking SMTP: it may be a page, or a mail.
            self._context.count("injected_total", where="data")
            raise Over(Answer(554, "5.5.0 Wait for the 354 before the mail"))
        self._say(Answer(354, "Go ahead, and end with a dot on a line of its own"), enhanced=False)
        began = self._context.loop.time()
        self._intake = intake = Intake(self._config, self._server.room)
        content = await self._read_mail(intake, began)
        self._taken += 1
        if content.fault is None:
            answers = await self._handle(mail, intake)
        else:
            self._context.count("mails_refused_total", why=content.fault.value)
            answers = [FAULTS[content.fault]] * (len(self._recipients) if self.lmtp else 1)
        self._tell_mails(mail, intake.size, answers, began, handled=content.fault is None)
        for answer in answers:
            self._out.append(answer.encoded(utf8=self._utf8))
        self._tell(code=answers[-1].code)
        self._set_rset_state()
        if content.ambiguous or any(answer.close for answer in answers):
            raise Over

    async def _read_mail(self, intake: Intake, began: float) -> Content:
        """Read a mail to its end."""
        config, loop = self._config, self._context.loop
        content = Content(config.max_line)
        while True:
            if data := self._lines.take():
                piece = content.feed(data)
                if piece and (fault := intake.add(piece)) is not None:
                    content.refuse(fault)
                if content.complete:
                    break
            left, why = config.command_timeout, SILENT
            if config.data_rate:
                due = began + config.command_timeout + intake.size / config.data_rate
                if due - loop.time() < left:
                    left, why = due - loop.time(), TOO_SLOW
            if not await self._more(left, why):
                raise Over
        self._lines.feed(content.rest)
        if content.fault is None and (fault := intake.end()) is not None:
            content.refuse(fault)
        return content

    async def _handle(self, mail: Path, intake: Intake) -> list[Answer]:
        """Have a mail handled; return the answer, in LMTP one for each recipient."""
        head = intake.head
        if head is None:
            raise RuntimeError("a mail without a header is complete")
        server, recipients = self._server, self._recipients
        name = server.new_id()
        transaction = Transaction(
            id=name,
            mail_from=mail.mailbox,
            helo=self._state.host_name,
            tls=self.peer.tls,
            protocol=with_protocol(
                lmtp=self.lmtp,
                extended=self._state.extended_smtp,
                utf8=self._utf8,
                tls=self.peer.tls,
                authenticated=bool(self._identity),
            ),
            hostname=self.hostname,
            client=self.peer.client,
            now=server.now(),
        )
        authentication: dict[str, Any] = {}
        client = self.peer.client
        if not self.lmtp and client is not None and self.peer.identity is None:
            asked = Asked(
                client=client[0],
                helo=self._state.host_name,
                mail_from=mail.mailbox,
                head=head,
            )
            authentication = await server.check(asked, intake)
        content = None if intake.spilled else intake.content()
        if self.lmtp:
            groups = {key: [mailbox] for key, mailbox in recipients}
        else:
            groups = {recipients[0][0]: [mailbox for _, mailbox in recipients]}
        self._arrivals = {
            key: arrival(transaction, mailboxes, head, content, intake.size, authentication)
            for key, mailboxes in groups.items()
        }
        proven = self.peer.identity is not None or self._is_trusted()
        if server.config.replies == "aligned":
            proven = proven or proves(authentication, mail.mailbox)
        self._threads = {
            key: server.thread(found, proven=proven) for key, found in self._arrivals.items()
        }
        self._keys.update(groups)
        answers = await self._ask(Came(self._arrivals))
        taken = Answer(250, f"2.0.0 OK, taken as {name}")
        return [taken if answer is translate.OK else answer for answer in answers]

    def _is_trusted(self) -> bool:
        client = self.peer.client
        return (None if client is None else client[0]) in self._server.trusted

    def _tell_mails(
        self, mail: Path, size: int, answers: list[Answer], began: float, *, handled: bool
    ) -> None:
        """Count what became of a mail, and tell the access log."""
        for answer in answers:
            self._context.count("mails_total", code=str(answer.code))
        if not self._context.recording:
            return
        seconds = self._context.loop.time() - began
        mailboxes = [mailbox for _, mailbox in self._recipients]
        groups = [[one] for one in mailboxes] if self.lmtp else [mailboxes]
        for group, answer in zip(groups, answers, strict=True):
            summary = Summary(
                answer.code,
                method="DATA",
                path=f"<{mail.mailbox or ''}> {' '.join(f'<{one}>' for one in group)}",
                received=size,
                end="application" if handled and answer.code in {250, 550} else "gateway",
            )
            self._context.record(self.peer, summary, seconds)


class LmtpDialogue(LMTP, Dialogue):
    """A client that speaks LMTP (RFC 2033): LHLO, and an answer for each recipient."""

    lmtp = True
    greets = "LHLO"
