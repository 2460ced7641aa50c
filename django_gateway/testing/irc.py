"""The test's end of a client of IRC."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, Final

from django_gateway.testing.conversation import ANY, Conversation, Event, fits, wanted_as
from gateway.plugins.irc import translate
from gateway.plugins.irc.lines import Line as IrcLine
from gateway.plugins.irc.lines import encode, fold, parse, split_mask
from gateway.testing.line import Line

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient

ERROR: Final = 400
"""The first of the numerics that refuse something (RFC 1459, section 6.1)."""
CHANNELS: Final = "#&+!"
"""What names of channels begin with."""
PIECE: Final = 400
"""Characters of an AUTHENTICATE; a full one is followed by another (IRCv3 SASL 3.1)."""


class IrcEvent(Event):
    """Something that a client was told."""

    line: IrcLine
    """As it came: its ``source``, ``command``, ``params`` and ``tags``."""

    @property
    def nick(self) -> str:
        """Whose doing it is."""
        return split_mask(self.line.source)[0]


def event_of(line: IrcLine) -> IrcEvent:
    """Return what a line tells."""
    params = (*line.params, "", "")
    nick = split_mask(line.source)[0]
    kind, value, name = line.command.lower(), params[1], params[0]
    if line.command in {"PRIVMSG", "NOTICE"}:
        kind, value = translate.heard(line.command, params[1])
        kind = "text" if kind == "message" else kind
    elif line.command in {"JOIN", "PART"}:
        value = nick
    elif line.command == "QUIT":
        value, name = nick, ""
    elif line.command in {"NICK", "ERROR"}:
        value, name = params[0], ""
    elif line.command == "MODE":
        value = " ".join(line.params[1:])
    event = IrcEvent(kind, value, name=name)
    event.line = line
    return event


class _Lines:
    """What the client does by itself: it reads lines, registers, and answers PING."""

    def __init__(
        self, events: list[Event], nick: str, sasl: tuple[str, str] | None, wanted: Sequence[str]
    ) -> None:
        self.events = events
        self.nick = nick
        self.numerics: list[IrcLine] = []
        self.answers: list[IrcLine] = []
        """What came in answer to our own words: numerics, and our own JOIN, PART, NICK."""
        self.capabilities: set[str] = set()
        self.offered: set[str] = set()
        self.welcomed = False
        self.over = False
        self.line: Line | None = None
        self._sasl = sasl
        self._wanted = wanted
        self._rest = b""

    def heard(self, data: bytes) -> None:
        """Take bytes of the server's."""
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            self._take(parse(line))

    def _take(self, line: IrcLine) -> None:
        command = line.command
        if command.isdigit():
            self.answers.append(line)
            self._numeric(int(command), line)
        elif command == "PING":
            self.say("PONG", *line.params)
        elif command == "CAP":
            self._cap(line)
        elif command == "AUTHENTICATE":
            self._prove()
        elif command in {"PONG", "BATCH", "FAIL", "WARN", "NOTE"}:
            self.answers.append(line)
        elif command == "MODE" and line.params[0][:1] not in CHANNELS:
            self.answers.append(line)  # of ourselves
        else:
            self._told(line)

    def _told(self, line: IrcLine) -> None:
        own = fold(split_mask(line.source)[0]) == fold(self.nick)
        if own and line.command == "NICK":
            self.nick = line.params[0]
        self.over = self.over or line.command == "ERROR"
        if own and line.command in {"JOIN", "PART", "NICK"}:
            self.answers.append(line)
        else:
            self.events.append(event_of(line))

    def _numeric(self, code: int, line: IrcLine) -> None:
        self.numerics.append(line)
        if code == 1:
            self.welcomed = True
            self.nick = line.params[0]
        elif code in {903, 904, 905, 906, 908}:
            self.say("CAP", "END")

    def _cap(self, line: IrcLine) -> None:
        word = line.params[1]
        if word == "LS":
            self.offered |= {one.partition("=")[0] for one in line.params[-1].split()}
            if line.params[2] == "*":
                return
            wanted = [one for one in self._wanted if one in self.offered]
            self.say(*(("CAP", "REQ", " ".join(wanted)) if wanted else ("CAP", "END")))
        elif word == "ACK":
            self.capabilities |= set(line.params[-1].split())
            if "sasl" in self.capabilities and self._sasl is not None:
                self.say("AUTHENTICATE", "PLAIN")
            else:
                self.say("CAP", "END")
        elif word == "NAK":
            self.say("CAP", "END")

    def _prove(self) -> None:
        account, password = self._sasl or ("", "")
        proof = base64.b64encode(f"{account}\0{account}\0{password}".encode()).decode()
        for start in range(0, len(proof), PIECE):
            self.say("AUTHENTICATE", proof[start : start + PIECE])
        if len(proof) % PIECE == 0:
            self.say("AUTHENTICATE", "+")

    def say(self, command: str, *params: str) -> None:
        """Say a line by itself."""
        if self.line is not None:
            self.line.soon(self.line.send, encode(command, *params))


class IrcClient(Conversation):
    """A client of IRC of a `GatewayClient`: it is let in, joins, speaks, and hears.

    What it hears are events: "text", "action" and "notice", whose ``name`` is the channel or nick
    that it was said to; "join", "part", "quit" and "kick", whose value is the nick; "nick",
    "topic", "mode", "invite", "error". Each has the ``nick`` whose doing it is, and its ``line``.
    What answers its own words is no event: its verbs return the numeric that refused them, None
    where none did.
    """

    plugin = "irc"

    def __init__(
        self,
        client: GatewayClient,
        nick: str,
        *,
        username: str = "",
        realname: str = "",
        password: str | None = None,
        sasl: tuple[str, str] | None = None,
        capabilities: Iterable[str] = (),
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__(client, f"irc({nick!r})")
        if isinstance(capabilities, str):
            raise TypeError(f"capabilities is a list of names: [{capabilities!r}]")
        wanted = [*capabilities, *(("sasl",) if sasl is not None else ())]
        self._first: list[tuple[str, ...]] = [("CAP", "LS", "302")] if wanted else []
        if password is not None:
            self._first.append(("PASS", password))
        self._first += [("NICK", nick), ("USER", username or nick, "0", "*", realname or nick)]
        self._lines = _Lines(self.received, nick, sasl, wanted)
        self._host = host
        self._answered = 0

    def _dial(self, cookies: SimpleCookie | None) -> Line:
        line = self._site.gateway.connect(self.plugin, self._lines.heard, host=self._host)
        self._lines.line = line
        return line

    def _hello(self, line: Line) -> None:
        self._say(b"".join(encode(*words) for words in self._first))

    # ------------------------------------------------ how it stands

    @property
    def accepted(self) -> bool:
        """Whether it was let in."""
        return self._lines.welcomed

    @property
    def rejected(self) -> int | None:
        """The numeric that refused it, such as 465 or 433; None while nobody has."""
        if self.accepted:
            return None
        codes = (int(line.command) for line in self._lines.numerics)
        return next((code for code in codes if ERROR <= code < 900), None)

    @property
    def pending(self) -> bool:
        """Whether nobody has decided yet."""
        return self._line is not None and not self.accepted and not self.closed

    @property
    def nick(self) -> str:
        """What it is called now."""
        return self._lines.nick

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities of IRCv3 that were acknowledged."""
        return frozenset(self._lines.capabilities)

    @property
    def numerics(self) -> list[IrcLine]:
        """All numerics that came, from the beginning."""
        return self._lines.numerics

    @property
    def closed(self) -> bool:
        """Whether it is over, whoever ended it."""
        return self._lines.over or super().closed

    def _state(self) -> str:
        if self.rejected is not None:
            return f"it was refused: {self.rejected}"
        return "" if self.accepted else "nobody has decided on it yet"

    # ------------------------------------------------ speaking

    def join(self, channel: str, key: str = "") -> int | None:
        """Join a channel; return the numeric of the refusal, None where it is in it."""
        return self._asked("join", "JOIN", channel, *([key] if key else []))

    async def ajoin(self, channel: str, key: str = "") -> int | None:
        """Async twin of `join`."""
        return await self._aasked("JOIN", channel, *([key] if key else []))

    def part(self, channel: str, reason: str = "") -> int | None:
        """Leave a channel."""
        return self._asked("part", "PART", channel, *([reason] if reason else []))

    async def apart(self, channel: str, reason: str = "") -> int | None:
        """Async twin of `part`."""
        return await self._aasked("PART", channel, *([reason] if reason else []))

    def say(self, target: str, text: str) -> int | None:
        """Say something in a channel or to a nick; return the numeric of the refusal."""
        return self._asked("say", "PRIVMSG", target, text)

    async def asay(self, target: str, text: str) -> int | None:
        """Async twin of `say`."""
        return await self._aasked("PRIVMSG", target, text)

    def action(self, target: str, text: str) -> int | None:
        """Say what it does, as ``/me``."""
        return self._asked("action", "PRIVMSG", target, translate.said("action", text)[1])

    async def aaction(self, target: str, text: str) -> int | None:
        """Async twin of `action`."""
        return await self._aasked("PRIVMSG", target, translate.said("action", text)[1])

    def notice(self, target: str, text: str) -> int | None:
        """Say something as a notice."""
        return self._asked("notice", "NOTICE", target, text)

    async def anotice(self, target: str, text: str) -> int | None:
        """Async twin of `notice`."""
        return await self._aasked("NOTICE", target, text)

    def ask(self, command: str, *params: str) -> list[IrcLine]:
        """Say any line, as ``ask("WHOIS", "bob")``; return the numerics that answer it.

        And whatever else does: its own JOIN, PART or NICK, standard replies.
        """
        self._act("ask", lambda: self._send(command, *params))
        return self._lines.answers[self._answered :]

    async def aask(self, command: str, *params: str) -> list[IrcLine]:
        """Async twin of `ask`."""
        await self._aact(lambda: self._send(command, *params))
        return self._lines.answers[self._answered :]

    def names(self, channel: str) -> list[str]:
        """Return who is in a channel, with the signs of their modes: ``["@ann", "bob"]``."""
        return _names(self.ask("NAMES", channel))

    async def anames(self, channel: str) -> list[str]:
        """Async twin of `names`."""
        return _names(await self.aask("NAMES", channel))

    # ------------------------------------------------ expecting

    def expect_message(self, target: str, text: Any = ANY, nick: Any = ANY) -> IrcEvent:
        """Return what is said next: to ``target``, with this text, by this nick if it is given.

        Actions and notices are no messages: ``expect("action", text)``.
        """
        found: IrcEvent = self._settled("expect_message", lambda: self._message(target, text, nick))
        return found

    async def aexpect_message(self, target: str, text: Any = ANY, nick: Any = ANY) -> IrcEvent:
        """Async twin of `expect_message`."""
        found: IrcEvent = await self._asettled(lambda: self._message(target, text, nick))
        return found

    def _message(self, target: str, text: Any, nick: Any) -> IrcEvent:
        event = self._next(wanted_message(target, text, nick))
        if not is_message(event, target, text, nick):
            self._fail(f"expected {wanted_message(target, text, nick)}, got {event}")
        return event  # type: ignore[return-value]  # it is one, or none of this kind

    # ------------------------------------------------ the end

    def close(self, reason: str = "") -> None:
        """Leave with a QUIT; `cut` leaves without a word."""
        self._act("close", lambda: self._quit(reason))

    async def aclose(self, reason: str = "") -> None:
        """Async twin of `close`."""
        await self._aact(lambda: self._quit(reason))

    def _quit(self, reason: str) -> None:
        if not self.closed:
            self._say(encode("QUIT", *([reason] if reason else [])))
            line = self._line
            if line is not None and not line.is_closing():
                self._site.gateway.loop.call(line.leave)

    def _goodbye(self) -> None:
        self._quit("")

    # ------------------------------------------------ own

    def _send(self, command: str, *params: str) -> None:
        if not self.accepted or self.closed:
            self._fail("it is not let in: nothing can be said")
        self._answered = len(self._lines.answers)
        self._say(encode(command, *params))

    def _asked(self, verb: str, command: str, *params: str) -> int | None:
        self._act(verb, lambda: self._send(command, *params))
        return self._refusal()

    async def _aasked(self, command: str, *params: str) -> int | None:
        await self._aact(lambda: self._send(command, *params))
        return self._refusal()

    def _refusal(self) -> int | None:
        """Return the numeric that refused the last line; None: none did."""
        answers = self._lines.answers[self._answered :]
        codes = (int(line.command) for line in answers if line.command.isdigit())
        return next((code for code in codes if code >= ERROR), None)


def wanted_message(target: str, text: Any, nick: Any) -> str:
    """Return what a message is, in the words of a failure."""
    words = f"a message to {target!r}"
    if nick is not ANY:
        words += f" by {wanted_as(nick)}"
    return words if text is ANY else f"{words}: {wanted_as(text)}"


def is_message(event: Event, target: str, text: Any, nick: Any) -> bool:
    """Return whether an event is the message that is expected."""
    return (
        event.kind == "text"
        and fold(event.name) == fold(target)
        and fits(event.value, text)
        and (nick is ANY or (isinstance(event, IrcEvent) and fits(event.nick, nick)))
    )


def _names(answers: list[IrcLine]) -> list[str]:
    lists = (line.params[-1].split() for line in answers if line.command == "353")
    return sorted(name for found in lists for name in found)
