"""The connection of a client: aiosmtpd's SMTP on the gateway's loop, with a strict reader.

aiosmtpd has the table of commands and their help, the mechanisms of AUTH, session and envelope. Its
reader, which takes a lone LF for the end of a line and keeps all of a mail in memory, is not used:
here lines are `Lines`, timeouts are the gateway's, and the commands (`Dialogue`) are answered in
one write for all that were sent ahead.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from aiosmtpd.smtp import SMTP

from gateway.core.arrivals import Arrived
from gateway.core.deadlines import Deadline
from gateway.core.places import Place
from gateway.core.plugin import FAILED, Connection, Drop, Forget, Outcome, Summary, Traffic
from gateway.plugins.email import translate
from gateway.plugins.email.server import commands
from gateway.plugins.email.server.commands import CommandError
from gateway.plugins.email.server.intake import Intake
from gateway.plugins.email.server.lines import Fault, Lines
from gateway.plugins.email.server.mail import Arrival
from gateway.plugins.email.server.session import (
    Chunk,
    Ending,
    Gone,
    Keep,
    Leave,
    MailSession,
    Post,
    Posted,
    Said,
    Want,
)
from gateway.plugins.email.server.threads import Thread
from gateway.plugins.email.translate import Answer

if TYPE_CHECKING:
    from gateway.plugins.email.server.service import Server

AHEAD: Final = 65_536
"""Bytes that a client may send ahead before it is read no further."""
TURN: Final = 32
"""Commands answered in one turn of the loop, so that other clients get theirs."""
LINGER: Final = 2.0
"""Seconds that a closing connection has to take what is left for it: a few round trips."""
STRANGE: Final = frozenset(("GET", "POST", "HEAD", "PUT", "CONNECT", "OPTIONS"))
"""What a browser says that was led here: it goes on with lines that a page may choose."""

BAD_LINES: Final = {
    Fault.BARE: Answer(500, "5.5.2 A line ends with CR LF, and has neither in it"),
    Fault.NUL: Answer(500, "5.5.2 There is a control character in the command"),
    Fault.LINE: Answer(500, "5.5.6 The line is too long"),
}
SILENT: Final = Answer(421, "4.4.2 Nothing came for too long; the connection is closed")
ENOUGH: Final = Answer(421, "4.7.0 Too many errors; the connection is closed")
CROWDED: Final = Answer(421, "4.7.0 Too many connections; try again later")
BROKEN: Final = Answer(421, "4.3.0 Something failed; try again later")
BYE: Final = Answer(221, "2.0.0 Bye")
ENDED: Final = Answer(421, "4.3.2 The connection is closed")
GONE: Final = Outcome(FAILED, reason="the mail cannot be answered any more", cause="gone")

_NO_HOOKS: Final = object()


class Over(Exception):  # noqa: N818 - no fault: the connection is at its end
    """The connection ends, after an answer where there is one."""

    def __init__(self, answer: Answer | None = None) -> None:
        super().__init__()
        self.answer = answer


class Wire(SMTP):
    """One connection: aiosmtpd's protocol, and the core's `Wire`."""

    lmtp = False
    greets = "EHLO"

    def __init__(self, server: Server, arrived: Arrived) -> None:
        context = server.context
        super().__init__(
            _NO_HOOKS,
            data_size_limit=server.config.max_size,
            enable_SMTPUTF8=True,
            hostname=server.hostname,
            loop=context.loop,
        )
        self._server = server
        self._config = server.config
        self._context = context
        self._place: Place | None = arrived.place
        self.peer = arrived.peer
        self._lines = Lines()
        self._out: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._asked: asyncio.Future[list[Answer]] | None = None
        self._deadline = Deadline(self._due)
        self._overdue = False
        self._idle = False
        """Whether a command is waited for."""
        self._fresh = False
        """Whether something came since that was last looked at."""
        self._ended = False
        """Whether the client sends no more."""
        self._closing = False
        self._leaving: Answer | None = None
        """What is said before the end, once nothing is in hand."""
        self._until = context.loop.time() + server.config.session_timeout
        self._commands = 0
        self._errors = 0
        self._utf8 = False
        """Whether answers may have more than ASCII: SMTPUTF8 was asked for."""
        self._intake: Intake | None = None
        self._arrivals: dict[str, Arrival] = {}
        self._threads: dict[str, Thread] = {}
        """The mail in hand: its file, its messages, and what it takes to answer it."""
        self._keys: set[str] = set()
        """Its conversations."""
        self._transport: asyncio.Transport
        self.connection: Connection | None = None
        self.traffic = Traffic() if context.recording else None
        self._core = MailSession(server.config, context.drop, lmtp=self.lmtp)

    # ------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        if self._place is None:
            self._context.record(self.peer, Summary(CROWDED.code, end="refused"))
            self._closing = True
            self._transport.write(CROWDED.encoded())
            self._transport.close()
            return
        self.connection = self._context.attach(self._core, self, self.peer)
        # What the help says of STARTTLS, which aiosmtpd looks up there.
        self.tls_context = None if self._server.tls is None else self._server.tls.context
        self._client_connected_cb = None  # its reader and writer are not used
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        if self._closing:
            return
        if self.traffic is not None:
            self.traffic.received += len(data)
        self._lines.feed(data)
        self._fresh = True
        if len(self._lines) > AHEAD:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Hear that the client sends no more; it is answered all the same, but over TLS."""
        self._ended = True
        self._wake()
        if self._closing and not self._transport.is_closing():
            self._transport.close()
        return not self.peer.tls

    def connection_lost(self, error: Exception | None) -> None:
        """Hear that it is gone."""
        self._closing = True
        self._context.deadlines.forget(self._deadline)
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        place, self._place = self._place, None
        if place is not None:
            place.leave()
        self._lose()

    def _lose(self) -> None:
        """Tell the core that it is over. Idempotent."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.run(self._core.received(Gone()))
            connection.lost()
        self._close_mail()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Do nothing: the deadlines are the gateway's own."""

    # ------------------------------------------------ what the core calls

    def write(self, output: Any) -> None:
        """Do what the session says."""
        kind = output.__class__
        if kind is Said:
            if self._asked is not None and not self._asked.done():
                self._asked.set_result(output.answers)
        elif kind is Want:
            self._hand_over(output)
        elif kind is Post:
            self._context.spawn(self._post(output))
        elif kind is Keep:
            if self.connection is not None:
                self._server.threads.keep(self.connection, output.key, self._threads[output.key])
        elif kind is Leave:
            self._leave(translate.DRAINING)
        elif kind is Ending:
            self._leave(ENDED)

    def close(self, data: Any, *, abort: bool) -> None:
        """End it from the core's side: a session that broke, the end of a shutdown."""
        if abort:
            self._closing = True
            self._transport.abort()
        elif not self._closing:
            asked = self._asked
            answers = asked.result() if asked is not None and asked.done() else [BROKEN]
            self._out += [answer.encoded() for answer in answers]
            self._finish()
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    def pause(self) -> None:
        """Do nothing: one thing is asked at a time, so that an inbox is never full."""

    def resume(self) -> None:
        """Do nothing, likewise."""

    def _leave(self, answer: Answer) -> None:
        if self._leaving is None:
            self._leaving = answer
        if self._idle:
            self._wake()

    def _hand_over(self, want: Want) -> None:
        """Hand over a piece of a mail that is in a file."""
        connection, intake = self.connection, self._intake
        found = self._arrivals.get(want.key)
        if connection is None or intake is None or found is None:
            return
        prefix = found.prefix[want.offset : want.offset + want.size]
        offset = max(0, want.offset - len(found.prefix))
        try:
            content = prefix + intake.read(offset, want.size - len(prefix))
            if len(content) != want.size:
                raise EOFError("it is shorter than it was")
        except (OSError, EOFError) as error:
            self._context.log.error("a temporary file cannot be read back: %s", error)  # noqa: TRY400 - no fault of ours
            connection.received(Gone())
        else:
            connection.received(Chunk(want.key, want.offset, content))

    async def _post(self, post: Post) -> None:
        """Have a reply in the spool, and say so."""
        thread = self._threads.get(post.key)
        outcome = GONE
        if thread is None:
            self._context.drop(Drop.GONE)
        else:
            outcome = await self._server.threads.post(thread, post.reply)
        if self.connection is not None:
            self.connection.received(Posted(post.key, post.token, outcome))

    # ------------------------------------------------ reading and writing

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _due(self) -> None:
        self._overdue = True
        if self._waiter is None:
            self._transport.abort()  # it does not even read what it is answered
        else:
            self._wake()

    async def _more(self, seconds: float, why: Answer = SILENT) -> bool:
        """Wait for more to come; return whether it did. Raises `Over` after so many seconds."""
        deadlines = self._context.deadlines
        deadlines.set(self._deadline, max(0.0, seconds))
        self._fresh = False
        self._flush()
        await self._drain_helper()  # type: ignore[attr-defined] # asyncio's, of every stream
        if not self._fresh and not self._ended and not (self._idle and self._leaving):
            if not self._transport.is_reading() and not self._transport.is_closing():
                self._transport.resume_reading()
            self._waiter = self._context.loop.create_future()
            await self._waiter
            self._waiter = None
        deadlines.clear(self._deadline)
        if self._overdue:
            raise Over(why)
        return self._fresh

    def _flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            if self.traffic is not None:
                self.traffic.sent += len(data)
            if not self._transport.is_closing():
                self._transport.write(data)

    def _say(self, answer: Answer, *, enhanced: bool = True, counts: bool = True) -> None:
        """Answer. Raises `Over` where that is the end."""
        self._out.append(answer.encoded(utf8=self._utf8, enhanced=enhanced))
        self._tell(code=answer.code)
        if answer.close:
            raise Over
        if counts and answer.code >= 500:
            self._errors += 1
            self._context.count("errors_total", code=str(answer.code))
            if self._errors > self._config.max_errors:
                raise Over(ENOUGH)

    def _tell(self, **facts: Any) -> None:
        """Have the access log say so of the connection."""
        self._core.last = msgspec.structs.replace(self._core.last, **facts)

    async def push(self, status: str | bytes) -> None:
        """Say what a command of aiosmtpd's answers."""
        text = status.decode() if isinstance(status, bytes) else status
        self._say(Answer(int(text[:3]), text[4:]))

    async def _line(self, limit: int | None = None) -> bytes | Fault:
        """Return the next line. Raises `Over`."""
        while (line := self._lines.line(limit)) is None:
            left = self._until - self._context.loop.time()
            self._idle = True
            came = await self._more(min(self._config.command_timeout, left))
            self._idle = False
            if self._leaving is not None:
                raise Over(self._leaving)
            if not came:
                raise Over
        return line

    async def _ask(self, event: Any) -> list[Answer]:
        """Ask the application; return what it answers."""
        self._flush()
        if self.connection is None:
            raise Over
        self._asked = self._context.loop.create_future()
        self.connection.received(event)
        answers = await self._asked
        self._asked = None
        return answers

    # ------------------------------------------------ the conversation

    async def _handle_client(self) -> None:
        """Greet, answer commands, end."""
        try:
            await self._greet()
            while True:
                await self._command()
        except Over as over:
            if over.answer is not None:
                self._out.append(over.answer.encoded())
                self._tell(code=over.answer.code)
        except ConnectionError:
            pass
        except Exception:
            self._context.count("session_errors_total")
            self._context.log.exception("the dialogue with a client failed; it is ended")
            self._out.append(BROKEN.encoded())
        self._finish()

    async def _greet(self) -> None:
        delay = self._config.greeting_delay
        if delay:
            if not self._fresh and not self._ended:
                self._deadline.due = self._wake
                await self._more(delay)
                self._deadline.due = self._due
            if len(self._lines) or self._ended:
                self._context.count("early_talkers_total")
                raise Over(Answer(554, "5.5.0 Wait for the greeting"))
        self._say(
            Answer(220, f"{self.hostname} {'LMTP' if self.lmtp else 'ESMTP'}"), enhanced=False
        )

    async def _command(self) -> None:
        """Answer one command."""
        line = await self._line()
        self._commands += 1
        if not self._commands % TURN:
            await asyncio.sleep(0)
        try:
            if isinstance(line, Fault):
                raise CommandError("line", BAD_LINES[line])
            word, _, argument = commands.text(line).partition(" ")
            word = word.upper()
            method = self._smtp_methods.get(word)
            if method is not None:
                await method(argument.strip(" ") or None)
            elif word in STRANGE:
                raise Over(Answer(554, "5.5.0 This is a mail server"))
            else:
                raise CommandError("word", Answer(500, "5.5.1 There is no such command"))
        except CommandError as error:
            self._say(error.answer)

    def _finish(self) -> None:
        """End it: what is said last is sent, and our side closed first, where it has one."""
        if self._closing:
            return
        self._flush()
        self._closing = True
        if not self._ended and self._core.last.code != BYE.code:
            self._tell(end="gateway")
        deadlines, transport = self._context.deadlines, self._transport
        deadlines.forget(self._deadline)
        self._context.loop.call_soon(self._lose)
        if transport.is_closing():
            return
        if transport.can_write_eof() and not self._ended:
            transport.write_eof()
            if not transport.is_reading():
                transport.resume_reading()
        else:
            transport.close()
        self._deadline = Deadline(transport.abort)
        deadlines.set(self._deadline, LINGER)

    def _close_mail(self) -> None:
        """Forget the mail in hand."""
        self._utf8 = False
        self._arrivals = {}
        self._threads = {}
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.close()
        keys, self._keys = self._keys, set()
        if keys and self.connection is not None:
            self.connection.run([Forget(key) for key in keys])
