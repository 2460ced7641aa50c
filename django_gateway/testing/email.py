"""The test's end of mail: somebody who writes to the application, and what they get from it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid, parseaddr
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn
from weakref import WeakKeyDictionary

from django.core import mail
from django.utils import timezone

from django_gateway.mail import envelope_address
from django_gateway.message import Message
from django_gateway.received import Attachment
from django_gateway.testing.conversation import ANY, fits, wanted_as
from django_gateway.testing.story import report, short
from gateway.core.layers.base import Outcome
from gateway.testing.line import Line

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient
    from django_gateway.testing.site import Site

DOMAIN: Final = "client.example"
"""What the test's machine calls itself."""

Reply = tuple[int, str]
"""A reply of SMTP: its code, and its lines."""
Talk = Generator[bytes, Reply, None]
"""What a client says, one command at a time, given what the server said to the one before."""


class SentMail:
    """A mail that the application has sent: ``mail.subject``, ``mail.text``, ``mail["To"]``."""

    def __init__(self, mail_from: str, rcpt_to: Sequence[str], raw: bytes) -> None:
        self.mail_from = mail_from
        """Where it comes back to if it cannot be delivered; empty for nowhere."""
        self.rcpt_to = list(rcpt_to)
        """Whom it is for, whatever its header says."""
        self.raw = raw
        content = {"raw": raw, "rcpt_to": self.rcpt_to, "mail_from": mail_from}
        self._message = Message(content, "email.receive")

    @property
    def email(self) -> EmailMessage:
        """The mail as Python's ``email`` has it."""
        return self._message.email

    def __getitem__(self, header: str) -> str | None:
        """Return a header, decoded, or None."""
        found = self.email[header]
        return None if found is None else str(found)

    @property
    def subject(self) -> str:
        """Its subject."""
        return self["subject"] or ""

    @property
    def text(self) -> str:
        """Its plain text, without the end of its last line; empty where there is none."""
        return (self._message.text or "").removesuffix("\n")

    @property
    def html(self) -> str:
        """Its text in HTML, likewise."""
        part = self.email.get_body(("html",))
        return "" if part is None else str(part.get_content()).removesuffix("\n")

    @property
    def attachments(self) -> list[Attachment]:
        """What is attached to it."""
        return self._message.attachments

    def __repr__(self) -> str:
        return f"<mail to {', '.join(self.rcpt_to)}: {self.subject!r}: {short(self.text)}>"


class Answer:
    """What became of a mail that was sent to the application: ``code`` 250, or why not."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.code: int | None = None
        """The reply code that decided on it; None: nobody has decided yet."""
        self.text = ""
        """The words of that reply."""
        self.command = ""
        """What it was the reply to: ``MAIL``, ``AUTH``; with 250 it is ``DATA``."""
        self.refused: dict[str, Reply] = {}
        """Recipients that were refused, each with code and words."""
        self.message_id = ""
        """The Message-ID of the mail."""

    @property
    def accepted(self) -> bool:
        """Whether the application has it now, for one recipient at least."""
        return self.code is not None and self.code < 300

    @property
    def pending(self) -> bool:
        """Whether nobody has decided yet: let the clock of the client advance."""
        return self.code is None

    def decide(self, command: str, reply: Reply) -> None:
        """Note what decided."""
        self.command = command
        self.code, self.text = reply

    def __repr__(self) -> str:
        return f"<{self._name}: {self.code or 'nobody has decided'} {self.text}>".replace(" >", ">")


class Correspondent:
    """Somebody who writes to the application, made by `GatewayClient.email`.

    Each mail has a connection of its own. Every verb runs all that follows from it before it
    returns, and raises what a consumer raised; the twins with the prefix ``a`` are for tests that
    run on an event loop.
    """

    plugin = "email"

    def __init__(
        self,
        client: GatewayClient,
        address: str,
        *,
        username: str | None = None,
        password: str = "",
        helo: str = DOMAIN,
        tls: bool | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self._client = client
        self._site = client.site
        self.address = address
        """Their mail address; empty: the null sender."""
        self._login = None if username is None else (username, password)
        self._helo = helo
        self._tls = username is not None if tls is None else tls
        self._host = host
        self._place: tuple[str, int] | None = None
        self._expected = 0
        self._begin = len(client.outbox)

    # ------------------------------------------------ sending

    def send(self, to: str | Sequence[str], text: str | None = None, /, **written: Any) -> Answer:
        """Send a mail; return what became of it.

        ``subject``, ``html``, ``attachments`` (triples of name, content type and bytes),
        ``headers``, and ``reply_to``, a mail that it answers, say what is in it.
        """
        mail = self.compose(to, text, **written)
        return self.send_raw(to, mail.as_bytes(policy=SMTP), str(mail["message-id"]))

    async def asend(
        self, to: str | Sequence[str], text: str | None = None, /, **written: Any
    ) -> Answer:
        """Async twin of `send`."""
        mail = self.compose(to, text, **written)
        return await self.asend_raw(to, mail.as_bytes(policy=SMTP), str(mail["message-id"]))

    def send_raw(self, to: str | Sequence[str], raw: bytes, message_id: str = "") -> Answer:
        """Send a mail as it is, broken or not."""
        answer, act = self._sending(to, raw, message_id)
        self._client.run("send", act)
        return answer

    async def asend_raw(self, to: str | Sequence[str], raw: bytes, message_id: str = "") -> Answer:
        """Async twin of `send_raw`."""
        answer, act = self._sending(to, raw, message_id)
        await self._client.arun(act)
        return answer

    def compose(
        self,
        to: str | Sequence[str],
        text: str | None = None,
        /,
        *,
        subject: str | None = None,
        html: str | None = None,
        attachments: Iterable[tuple[str, str, bytes]] = (),
        headers: Mapping[str, str] | None = None,
        reply_to: SentMail | None = None,
    ) -> EmailMessage:
        """Return the mail that `send` sends."""
        mail = EmailMessage()
        given = {name.lower(): (name, value) for name, value in (headers or {}).items()}
        usual = {
            "From": self.address or f"MAILER-DAEMON@{self._helo}",
            "To": ", ".join(_several(to)),
            "Subject": subject,
            "Date": format_datetime(timezone.now()),
            "Message-ID": make_msgid(domain=self._helo),
        }
        if reply_to is not None:
            parent = reply_to["message-id"] or ""
            if subject is None:
                usual["Subject"] = f"Re: {reply_to.subject.removeprefix('Re: ')}"
            usual["In-Reply-To"] = parent
            usual["References"] = f"{reply_to['references'] or ''} {parent}".strip()
        for name, value in usual.items():
            if value is not None and name.lower() not in given:
                mail[name] = value
        for name, value in given.values():
            mail[name] = value
        if text is not None or html is None:
            mail.set_content(text or "")
        if html is not None:
            add = mail.set_content if text is None else mail.add_alternative
            add(html, subtype="html")
        for name, kind, content in attachments:
            main, _, sub = kind.partition("/")
            mail.add_attachment(content, maintype=main, subtype=sub, filename=name)
        return mail

    @property
    def outcome(self) -> Outcome | None:
        """What became of the last message that a consumer had of the latest mail, or None."""
        return None if self._place is None else self._site.story.last_of(self._place)

    def _sending(
        self, to: str | Sequence[str], raw: bytes, message_id: str
    ) -> tuple[Answer, Callable[[], None]]:
        recipients = _several(to)
        answer = Answer(f"mail of {self.address or '<>'} to {', '.join(recipients)}")
        answer.message_id = message_id

        def act() -> None:
            talk = _talk(self, answer, recipients, raw)
            end = _End(talk)
            gateway = self._site.gateway
            line = gateway.connect(self.plugin, end.heard, host=self._host, tls=self._tls)
            self._place = line.peer.client
            gateway.loop.call(end.begin, line)

        return answer, act

    # ------------------------------------------------ what they get

    @property
    def inbox(self) -> list[SentMail]:
        """All that the application has sent them, in order; by Django's own mail, too."""
        address = self.address.lower()
        mails = self._client.outbox[self._begin :]
        return [one for one in mails if address in map(str.lower, one.rcpt_to)]

    def expect_mail(self, subject: Any = ANY, text: Any = ANY) -> SentMail:
        """Return the next mail that they got, of this subject and text, if those are given.

        A compiled regular expression is searched. AssertionError, at once, where something else
        came, or nothing.
        """
        self._client.run("expect_mail")
        return self._expect(subject, text)

    async def aexpect_mail(self, subject: Any = ANY, text: Any = ANY) -> SentMail:
        """Async twin of `expect_mail`."""
        await self._client.arun()
        return self._expect(subject, text)

    def expect_nothing(self) -> None:
        """Check that they got nothing more."""
        self._client.run("expect_nothing")
        self._expect_nothing()

    async def aexpect_nothing(self) -> None:
        """Async twin of `expect_nothing`."""
        await self._client.arun()
        self._expect_nothing()

    def _expect(self, subject: Any, text: Any) -> SentMail:
        asked = (("subject", subject), ("text", text))
        wanted = "a mail" + "".join(
            f", {name} {wanted_as(value)}" for name, value in asked if value is not ANY
        )
        inbox = self.inbox
        if self._expected == len(inbox):
            self._fail(f"expected {wanted}, and nothing came: nothing is left to do")
        found = inbox[self._expected]
        self._expected += 1
        if not fits(found.subject, subject) or not fits(found.text, text):
            self._fail(f"expected {wanted}, got {found!r}")
        return found

    def _expect_nothing(self) -> None:
        if inbox := self.inbox[self._expected :]:
            self._fail(f"expected nothing more, got {inbox[0]!r}")

    def _fail(self, sentence: str) -> NoReturn:
        cause = self._site.forget_failures()
        got = [repr(one) for one in self.inbox]
        text = report(
            f"email({self.address!r}): {sentence}", [("they got", got), *self._site.parts()]
        )
        raise AssertionError(text) from cause


class _End:
    """The client's end of one connection: it says what ``talk`` wants, reply by reply."""

    def __init__(self, talk: Talk) -> None:
        self._line: Line | None = None
        self._talk = talk
        self._buffer = b""
        self._lines: list[str] = []
        self._unsaid = next(talk)
        """The answer to a greeting that came before the line was known."""

    def begin(self, line: Line) -> None:
        """Speak by ``line``."""
        self._line = line
        if self._unsaid:
            line.send(self._unsaid)

    def heard(self, data: bytes) -> None:
        """Take bytes of the server's."""
        *lines, self._buffer = (self._buffer + data).split(b"\r\n")
        for line in lines:
            self._lines.append(line[4:].decode("utf-8", "replace"))
            if line[3:4] != b"-":
                text, self._lines = "\n".join(self._lines), []
                self._reply(int(line[:3]), text)

    def _reply(self, code: int, text: str) -> None:
        line = self._line
        try:
            said = self._talk.send((code, text))
        except StopIteration:
            return
        if line is None:
            self._unsaid = said
        elif said:
            line.soon(line.send, said)


class _Say(NamedTuple):
    """A command, and by which word of it a refusal is known."""

    data: bytes
    word: str


def _talk(who: Correspondent, answer: Answer, recipients: list[str], raw: bytes) -> Talk:
    """Deliver a mail, as a client does that makes no mistakes (RFC 5321)."""
    reply = yield b""
    sender = parseaddr(who.address)[1]
    utf8 = " SMTPUTF8" if not "".join((sender, *recipients)).isascii() else ""
    opening = [_Say(b"", "connect"), _Say(f"EHLO {who._helo}".encode(), "EHLO")]  # noqa: SLF001 - of the same file
    if who._login is not None:  # noqa: SLF001 - as above
        secret = base64.b64encode("\0".join(("", *who._login)).encode())  # noqa: SLF001 - as above
        opening.append(_Say(b"AUTH PLAIN " + secret, "AUTH"))
    opening.append(_Say(f"MAIL FROM:<{sender}>{utf8}".encode(), "MAIL"))
    for one in opening:
        if one.data:
            reply = yield one.data + b"\r\n"
        if reply[0] >= 300:
            answer.decide(one.word, reply)
            yield b"QUIT\r\n"
            return
    for each in recipients:
        reply = yield f"RCPT TO:<{parseaddr(each)[1]}>\r\n".encode()
        if reply[0] >= 300:
            answer.refused[each] = reply
    if len(answer.refused) == len(recipients):
        answer.decide("RCPT", reply)
        yield b"QUIT\r\n"
        return
    reply = yield b"DATA\r\n"
    if reply[0] == 354:
        body = raw if raw.endswith(b"\r\n") else raw + b"\r\n"
        stuffed = body.replace(b"\r\n.", b"\r\n..")
        reply = yield (b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n"
    answer.decide("DATA", reply)
    yield b"QUIT\r\n"


class _Outbox:
    """What one site has sent, as far as it was looked at."""

    def __init__(self) -> None:
        self.mails: list[SentMail] = []
        self._spooled = 0
        self._kept: list[Any] = []
        """The list of Django's backend for tests, which is another one in each test."""
        self._taken = 0

    def look(self, site: Site) -> None:
        """Take what is new."""
        plugin: Any = site.gateway.server.plugins.get("email")
        spooled = [] if plugin is None else plugin.kept()
        for entry, raw in spooled[self._spooled :]:
            rcpt_to = [one.address for one in entry.recipients]
            self.mails.append(SentMail(entry.mail_from, rcpt_to, raw))
        self._spooled = len(spooled)
        kept = getattr(mail, "outbox", [])
        if kept is not self._kept:
            self._kept, self._taken = kept, 0
        for one in kept[self._taken :]:
            rcpt_to = [envelope_address(each) for each in one.recipients()]
            raw = one.message().as_bytes(linesep="\r\n")
            self.mails.append(SentMail(envelope_address(one.from_email), rcpt_to, raw))
        self._taken = len(kept)


_outboxes: WeakKeyDictionary[Site, _Outbox] = WeakKeyDictionary()


def outbox_of(site: Site) -> list[SentMail]:
    """Return all mail that a site has sent."""
    found = _outboxes.get(site)
    if found is None:
        found = _outboxes[site] = _Outbox()
    found.look(site)
    return found.mails


def _several(to: str | Sequence[str]) -> list[str]:
    return [to] if isinstance(to, str) else list(to)
