"""One connection to a server, by aiosmtplib: it greets, TLS, AUTH, mail after mail.

What the server says of a recipient is a `Verdict`. What ends the connection, or keeps one from
coming to be, is `Unreached`.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from contextlib import suppress
from typing import Any, Final, Literal

import aiosmtplib
import msgspec

from gateway.core.errors import GatewayError
from gateway.plugins.email.client.content import Dots
from gateway.plugins.email.client.envelope import DELIVERED, GIVEN_UP, WAITING, Entry, Recipient
from gateway.plugins.email.client.routes import Server
from gateway.plugins.email.client.spool import BLOCK

AHEAD: Final = 256 * 1024
"""Octets that wait in the transport's buffer while a mail is sent."""
FAREWELL: Final = 5.0
"""Seconds for a server to answer QUIT: all is said."""
RECIPIENTS: Final = 100
"""Recipients at once: what every server takes (RFC 5321, section 4.5.3.1.8)."""

_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|\Z)")
_USUAL: Final = {
    421: "4.3.2",
    450: "4.2.0",
    452: "4.3.1",
    454: "4.7.0",
    530: "5.7.0",
    534: "5.7.9",
    535: "5.7.8",
    538: "5.7.11",
    550: "5.1.1",
    552: "5.3.4",
    553: "5.1.3",
}
"""What a code means where no enhanced one is said (RFC 5248, and its registry)."""


class Verdict(msgspec.Struct, frozen=True):
    """What became of a recipient."""

    state: Literal["waiting", "delivered", "failed"]
    """`WAITING` is to be tried again."""
    code: int
    status: str
    reason: str
    server: str = ""


class Unreached(GatewayError):  # noqa: N818 - what it says, not that something broke
    """There is no connection, or not any more."""

    def __init__(self, reason: str, status: str = "4.4.1", code: int = 0, server: str = "") -> None:
        super().__init__(reason)
        self.verdict = Verdict(WAITING, code, status, reason, server)


def verdict(code: int, text: str, server: str) -> Verdict:
    """Return what an answer means for whom it is about."""
    found = _ENHANCED.match(text)
    status = found[1] if found and found[1][0] == str(code)[0] else ""
    state: Any = DELIVERED if 200 <= code < 300 else GIVEN_UP if 500 <= code < 600 else WAITING
    if status:
        text = re.sub(rf"(?m)^{re.escape(status)}\s", "", text)  # each line begins with it
    reason = " ".join(_printable(text).split())[:1000]
    usual = _USUAL.get(code, {DELIVERED: "2.0.0", GIVEN_UP: "5.0.0", WAITING: "4.0.0"}[state])
    return Verdict(state, code, status or usual, reason, server)


def _printable(text: str) -> str:
    """Return what a server said without what a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text)


class Dialogue:
    """A connection. ``hostname`` is what we call ourselves; the timeouts are the settings'."""

    def __init__(
        self,
        server: Server,
        hostname: str,
        *,
        connect_timeout: float,
        timeout: float,
        data_timeout: float,
    ) -> None:
        self.server = server
        self._hostname = hostname
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._data_timeout = data_timeout
        self._smtp = aiosmtplib.SMTP()
        self.tls = False
        """Whether the connection has TLS."""

    @property
    def is_open(self) -> bool:
        """Whether more can be said."""
        return self._smtp.is_connected

    def _unreached(self, reason: str, status: str = "4.4.1", code: int = 0) -> Unreached:
        reason = " ".join(_printable(reason).split())[:500]  # a server's words may be in it
        return Unreached(f"{self.server.name}: {reason}", status, code, self.server.name)

    # ------------------------------------------------ from the greeting to who we are

    async def open(self) -> None:
        """Connect, greet, begin TLS, say who we are. Raises `Unreached`."""
        try:
            try:
                await self._open(starttls=self.server.tls != "none")
            except _NoTls as error:
                if self.server.tls != "opportunistic":
                    raise self._unreached(f"TLS failed: {error}", "4.7.5") from None
                self.cut()
                await self._open(starttls=False)
        except BaseException as error:  # noqa: BLE001 - it is raised
            self.cut()
            raise self._fault(error) from None

    def _fault(self, error: BaseException) -> BaseException:
        """Return what an exception means, as `Unreached` where it is the peer's or the net's."""
        if isinstance(error, aiosmtplib.SMTPResponseException):
            found = verdict(error.code, error.message, self.server.name)
            status = f"4{found.status[1:]}"
            return self._unreached(f"it says {error.code} {error.message}", status, error.code)
        if isinstance(error, aiosmtplib.SMTPTimeoutError | TimeoutError):
            return self._unreached("no answer in time", "4.4.1")
        if isinstance(error, aiosmtplib.SMTPServerDisconnected):
            return self._unreached("it closed the connection", "4.4.2")
        if isinstance(error, ssl.SSLCertVerificationError):
            return self._unreached(f"its certificate is not good: {error.verify_message}", "4.7.5")
        if isinstance(error, ssl.SSLError):
            return self._unreached(f"TLS failed: {error.reason or error}", "4.7.5")
        if isinstance(error, aiosmtplib.SMTPException | OSError):
            cause = error.__cause__
            if isinstance(cause, ssl.SSLError):
                return self._fault(cause)
            reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else ""
            return self._unreached(reason or str(error) or type(error).__name__)
        return error

    async def _open(self, *, starttls: bool) -> None:
        server = self.server
        self._smtp = smtp = aiosmtplib.SMTP(
            hostname=server.name, local_hostname=self._hostname, timeout=self._timeout
        )
        options: dict[str, Any] = {"use_tls": server.implicit, "start_tls": False}
        if server.implicit:
            smtp.tls_context = server.ssl()
        async with asyncio.timeout(self._connect_timeout):
            if server.path:
                await smtp.connect(socket_path=server.path, **options)
            else:
                await smtp.connect(sock=await self._socket(), **options)
        self.tls = server.implicit
        await self._greet()
        if starttls and not server.implicit:
            await self._start_tls()
        if server.username:
            await self._login()

    async def _socket(self) -> socket.socket:
        """Return a socket that is connected: to an address that was looked at, no other."""
        loop = asyncio.get_running_loop()
        server, error = self.server, OSError("it has no address")
        found = await loop.getaddrinfo(server.address, server.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, where in found:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, where)
            except OSError as trouble:
                sock.close()
                error = trouble
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise error

    async def _greet(self) -> None:
        try:
            await self._smtp.ehlo(hostname=self._hostname)
        except aiosmtplib.SMTPHeloError as error:
            if error.code not in {500, 501, 502, 504}:
                raise
            await self._smtp.helo(hostname=self._hostname)

    async def _start_tls(self) -> None:
        if not self._smtp.supports_extension("starttls"):
            if self.server.tls != "opportunistic":
                raise self._unreached("it offers no STARTTLS, and TLS is required", "4.7.4")
            return
        try:
            await self._smtp.starttls(
                tls_context=self.server.ssl(),
                server_hostname=self.server.name,
                timeout=self._connect_timeout,
            )
        except ssl.SSLCertVerificationError as error:
            raise _NoTls(f"its certificate is not good: {error.verify_message}") from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _NoTls(str(error) or type(error).__name__) from None
        self.tls = True
        await self._greet()  # what was said before it counts no more (RFC 3207, section 4.2)

    async def _login(self) -> None:
        server, smtp = self.server, self._smtp
        offered = smtp.server_auth_methods
        wanted = [server.auth] if server.auth != "auto" else ["plain", "login", "cram-md5"]
        if not (self.tls or server.path or server.auth != "auto" or server.tls == "none"):
            wanted = ["cram-md5"]  # nobody on the way is shown the password
        mechanism = next((one for one in wanted if one in offered), None)
        if mechanism is None:
            raise self._unreached(
                f"it offers AUTH {' '.join(offered).upper() or '(none)'}, and "
                f"{' or '.join(wanted).upper()} is wanted{'' if self.tls else ' without TLS'}",
                "4.7.4",
            )
        verb = {"plain": smtp.auth_plain, "login": smtp.auth_login, "cram-md5": smtp.auth_crammd5}
        await verb[mechanism](server.username, server.password)

    # ------------------------------------------------ a mail

    async def send(
        self, entry: Entry, recipients: list[Recipient], descriptor: int
    ) -> dict[str, Verdict]:
        """Send a mail, whose content is behind ``descriptor``; return what became of each.

        Raises `Unreached` where the connection ended and nothing became of anybody: for all
        who are not in what was said.
        """
        impossible = self._impossible(entry)
        if impossible is not None:
            return dict.fromkeys((one.address for one in recipients), impossible)
        verdicts: dict[str, Verdict] = {}
        try:
            for start in range(0, len(recipients), RECIPIENTS):
                some = recipients[start : start + RECIPIENTS]
                verdicts |= await self._transaction(entry, some, descriptor)
        except BaseException as error:
            self.cut()
            fault = self._fault(error)
            if not isinstance(fault, Unreached):
                raise
            if not verdicts:
                raise fault from None
            for one in recipients:
                verdicts.setdefault(one.address, fault.verdict)
        return verdicts

    def _impossible(self, entry: Entry) -> Verdict | None:
        """Return why the server cannot be given a mail; None: it can."""
        smtp, name = self._smtp, self.server.name
        if entry.utf8 and not smtp.supports_extension("smtputf8"):
            reason = "it has an address or a header that is not of ASCII, and {} has no SMTPUTF8"
            return Verdict(GIVEN_UP, 550, "5.6.7", reason.format(name), name)
        if entry.eight_bit and not smtp.supports_extension("8bitmime"):
            reason = "it is of 8 bits, and {} has no 8BITMIME; encode it as base64"
            return Verdict(GIVEN_UP, 550, "5.6.3", reason.format(name), name)
        size = smtp.esmtp_extensions.get("size", "")
        if size.isdigit() and 0 < int(size) < entry.size:
            reason = f"it has {entry.size} bytes, and {name} takes {size}"
            return Verdict(GIVEN_UP, 552, "5.3.4", reason, name)
        return None

    async def _transaction(
        self, entry: Entry, recipients: list[Recipient], descriptor: int
    ) -> dict[str, Verdict]:
        smtp, name = self._smtp, self.server.name
        text = "utf-8" if entry.utf8 else "ascii"
        code, said = await smtp.execute_command(*self._mail(entry, text))
        if code != 250:
            await self._reset(code)
            return dict.fromkeys((one.address for one in recipients), verdict(code, said, name))
        verdicts: dict[str, Verdict] = {}
        taken: list[str] = []
        dsn = smtp.supports_extension("dsn")
        for one in recipients:
            words = [b"RCPT", b"TO:<%s>" % one.address.encode(text)]
            if dsn and not entry.mail_from:
                words.append(b"NOTIFY=NEVER")
            code, said = await smtp.execute_command(*words)
            if code in {250, 251}:
                taken.append(one.address)
                continue
            if code == 552:
                code = 452  # too many recipients, of an old server (section 4.5.3.1.10)
            verdicts[one.address] = verdict(code, said, name)
            if code == 421:
                raise self._unreached(f"it says 421 {said}", "4.3.2", 421)
        if taken:
            answer = await self._data(entry, descriptor)
            verdicts |= dict.fromkeys(taken, answer)
        else:
            await self._reset(250)
        return verdicts

    def _mail(self, entry: Entry, text: str) -> list[bytes]:
        smtp = self._smtp
        words = [b"MAIL", b"FROM:<%s>" % entry.mail_from.encode(text)]
        if smtp.supports_extension("size"):
            words.append(b"SIZE=%d" % (entry.size + len(entry.before)))
        if entry.eight_bit:
            words.append(b"BODY=8BITMIME")
        if entry.utf8:
            words.append(b"SMTPUTF8")
        if smtp.supports_extension("dsn") and entry.mail_from:
            # RFC 3461: a report has the header alone, and says which mail it is about.
            words += [b"RET=HDRS", b"ENVID=%s" % entry.id.encode()]
        return words

    async def _reset(self, code: int) -> None:
        """Drop the mail. A server that refused it may be gone: what it said counts all the same."""
        if code != 421:
            with suppress(aiosmtplib.SMTPException, OSError):
                await self._smtp.rset()
                return
        self.cut()

    async def _data(self, entry: Entry, descriptor: int) -> Verdict:
        """Send the content; return what the server says of all who were taken."""
        smtp, name = self._smtp, self.server.name
        code, said = await smtp.execute_command(b"DATA")
        if code != 354:
            await self._reset(code)
            return verdict(code, said, name)
        protocol = smtp.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("the connection is lost")
        # Read from now on: a server may say in the middle that it has enough.
        reading = asyncio.ensure_future(protocol.read_response(timeout=None))
        await asyncio.sleep(0)  # it has begun then: what comes before that is thrown away
        try:
            whole = await self._content(protocol, entry, descriptor, reading)
            async with asyncio.timeout(self._data_timeout):
                code, said = await reading
        except TimeoutError:
            raise self._unreached("no answer to the mail in time", "4.4.2") from None
        except (aiosmtplib.SMTPException, OSError):
            if not reading.done() or reading.exception() is not None:
                raise
            whole, (code, said) = False, reading.result()
        finally:
            reading.cancel()
        if not whole and code < 400:
            raise self._unreached(f"it says {code} {said} in the middle of a mail", "4.5.0", code)
        if not whole or code == 421:
            self.cut()
        return verdict(code, said, name)

    async def _content(
        self, protocol: Any, entry: Entry, descriptor: int, reading: asyncio.Future[Any]
    ) -> bool:
        """Write the content, its end included; False: the server has answered before that."""
        loop = asyncio.get_running_loop()
        dots = Dots()
        data = entry.before.encode() + os.pread(descriptor, BLOCK, 0)
        offset = len(data) - len(entry.before)
        while data:
            last = offset >= entry.size
            data = dots.feed(data)
            protocol.write(data + Dots.END if last else data)
            if last:
                return True
            async with asyncio.timeout(self._timeout):
                await protocol._drain_helper()  # noqa: SLF001 - there is no other way to wait
            if reading.done():
                return False
            data = await loop.run_in_executor(None, os.pread, descriptor, BLOCK, offset)
            offset += len(data)
        raise OSError("the spooled mail is shorter than it was")

    # ------------------------------------------------ the end

    async def close(self) -> None:
        """Say goodbye."""
        try:
            async with asyncio.timeout(FAREWELL):
                await self._smtp.quit()
        except (aiosmtplib.SMTPException, OSError):
            pass
        finally:
            self.cut()

    def cut(self) -> None:
        """End it, without a word."""
        transport = self._smtp.transport
        self._smtp.close()
        if transport is not None and hasattr(transport, "abort"):
            transport.abort()


class _NoTls(Exception):  # noqa: N818 - a reason, not a fault of ours
    """TLS was offered, and did not come to be."""
