"""One connection to a network. Pure, but for the clocks that it is given.

::

    `Registration`   to the welcome: capabilities, login, nick
    `Presence`       from then on: NickServ, nick, channels
    `Hearing`        what others do and say ──► messages
    `Speech`         replies, as lines (`saying`) ──► in their turn, and what becomes of them
    `Standing`       what is known of us there; `Rooms` outlive the connection

What the application says waits until channels may be joined, and for its turn after that;
PONG and what belongs to the registration never waits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from gateway.core.errors import RemoteProtocolError
from gateway.core.plugin import Action, Close, Done, Message, Peer, Session, Summary, Timer, Write
from gateway.plugins.irc.client import hearing, registration, saying
from gateway.plugins.irc.client.config import Network
from gateway.plugins.irc.client.hearing import Hearing
from gateway.plugins.irc.client.presence import Presence
from gateway.plugins.irc.client.registration import Registration
from gateway.plugins.irc.client.rooms import Rooms
from gateway.plugins.irc.client.speech import Speech
from gateway.plugins.irc.client.standing import Standing
from gateway.plugins.irc.client.terms import Ignored, Skipped, Wanted
from gateway.plugins.irc.lines import MAX_TAGS, Line, encode, parse

LONGEST: Final = 8192
"""Bytes of a line without its tags: networks that let more than 512 through let up to this."""
REFUSED: Final = frozenset({"263", "439", "531", "716", "717"})
"""Refusals beside 400 to 599: too soon, too fast, no strangers, ignored by the other (+g)."""
UNWANTED: Final = re.compile(
    r"\b[a-z]{1,2}-?lined?\b|\bbanned\b|throttl|too (fast|many)|access denied|bad password",
    re.IGNORECASE,
)
"""Why a network closes on whom it does not want back soon: K-lines and their kin, floods, a wrong
password."""


class NetworkSession(Session):
    """The gateway on a network, from a connection's beginning to its end.

    ``rooms`` outlive it. ``clock`` returns seconds, ``host`` is whom we are connected to.
    """

    acknowledges: ClassVar[bool] = True
    heeds_accepted: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        network: Network,
        rooms: Rooms,
        clock: Callable[[], float],
        *,
        host: str = "",
        calendar: Callable[[], str] = hearing.calendar,
    ) -> None:
        self.standing = standing = Standing(name, network)
        self.speech = Speech(standing, clock)
        self._rooms = rooms
        self._network = network
        self._registration = Registration(standing)
        self._presence = Presence(standing, self._registration, rooms, self.speech, clock, host)
        self._rest = b""
        self._skipping = False
        """Whether the line at hand is too long, and thrown away to its end."""
        self._leaving = False
        """Whether the gateway is shutting down."""
        one = self._registration
        self._handlers: Mapping[str, Callable[[Line], Iterable[Action]]] = {
            **Hearing(standing, self._presence, self.speech, clock, calendar).handlers,
            **self._presence.handlers,
            **dict.fromkeys(registration.NO_LOGIN, one.failed),
            "901": one.logged_out,
            "903": one.succeeded,
            "907": one.succeeded,
            "AUTHENTICATE": one.authenticate,
            "BATCH": self._batch,
            "CAP": one.cap,
            "ERROR": self._error,
            "FAIL": self.speech.failed,
            "PING": self._ping,
            "PONG": self.speech.pong,
        }

    # ------------------------------------------------ what comes

    def opened(self, peer: Peer) -> Iterator[Action]:
        """Say who we are."""
        yield Timer("register", self._network.register_timeout)
        yield from self._registration.begin()

    def received(self, data: Any) -> Iterator[Action]:
        """Take bytes of the network's, or what workers want (`Wanted`)."""
        if data.__class__ is Wanted:
            yield from self._presence.want(data.channels)
        else:
            self.speech.heard = True
            encoding, handlers, other = self._network.encoding, self._handlers, self._other
            for raw in self._cut(data):
                try:
                    line = parse(raw, max_tags=MAX_TAGS, max_rest=LONGEST, encoding=encoding)
                except RemoteProtocolError:
                    # No reason to leave: it is one line, and others wrote it.
                    yield Write(Skipped("malformed"))
                    continue
                for action in handlers.get(line.command, other)(line):
                    yield action
                    if action.__class__ is Close:
                        return
                if line.tags and "label" in line.tags and line.command != "BATCH":
                    yield from self.speech.taken(line.tags["label"])
        yield from self._flush()

    def _cut(self, data: bytes) -> list[bytes]:
        """Return the lines that are whole, and keep the rest of the bytes."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if self._skipping and lines:
            self._skipping = False
            del lines[0]
        if self._skipping or len(self._rest) > MAX_TAGS + LONGEST:
            self._skipping = True
            self._rest = b""
        return lines

    def _other(self, line: Line) -> Iterable[Action]:
        """Take a line that is of interest to nobody, or a refusal."""
        if line.command[:1] in {"4", "5"} or line.command in REFUSED:
            return self._refused(line)
        return ()

    def _refused(self, line: Line) -> Iterator[Action]:
        """Hear that the network does not do something, and to whom or what."""
        if self._registration.done:
            yield from self.speech.refused(line)
            yield from self._presence.refused(line)
        elif line.command in registration.NO_NICK:
            yield from self._registration.no_nick(line)
        elif line.command in registration.UNWELCOME:
            self._registration.unwelcome(line)

    def _ping(self, line: Line) -> Iterator[Action]:
        yield Write(encode("PONG", *line.params[-1:]))

    def _batch(self, line: Line) -> Iterator[Action]:
        if not line.params:
            return
        batches, tags, reference = self.standing.batches, line.tags, line.params[0]
        if reference[:1] == "+" and len(line.params) > 1:
            label, within = tags.get("label", ""), tags.get("batch", "")
            batches.begin(reference[1:], line.params[1], label, within)
        elif reference[:1] == "-":
            batch = batches.end(reference[1:])
            if batch is not None and batch.label:
                yield from self.speech.taken(batch.label)

    def _error(self, line: Line) -> Iterator[Action]:
        """Hear why the network closes, which it does now."""
        standing, why = self.standing, " ".join(line.params[-1:])
        standing.reason = standing.reason or why
        standing.unwelcome |= UNWANTED.search(why) is not None
        yield Close()

    def timeout(self, name: str) -> Iterator[Action]:
        """Do what is due."""
        if name == "register":
            seconds = self._network.register_timeout
            yield from self._registration.fail(f"no welcome within {seconds:g} s")
        elif name == "keepalive":
            yield from self.speech.ask()
        elif name == "pong":
            yield from self.speech.silence()
        else:
            yield from self._presence.timeout(name)
            yield from self._flush()

    # ------------------------------------------------ what the application says

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterator[Action]:
        """Say something, or do something, once it is its turn."""
        for key in saying.OURS:
            if key in reply:
                yield Write(Ignored(key))
        lines = saying.lines(self.standing, conversation, reply, token)
        if lines:
            yield from self.speech.say(lines, token)
        elif token is not None:
            yield Done(token)
        if (kind := reply.get("type")) in {"join", "part"}:
            channel = reply.get("channel") or conversation or ""
            yield from self._presence.moved(kind, channel, reply.get("key"))
        yield from self._flush()

    def _flush(self) -> Iterator[Action]:
        yield from self.speech.flush()
        throttle = self.speech.throttle
        if self._leaving and not (throttle.open and len(throttle)):
            yield from self._leave()

    # ------------------------------------------------ the end

    def eof(self) -> Iterator[Action]:
        """Hear that the network has closed the connection."""
        self.standing.reason = self.standing.reason or "the network closed it"
        yield Close()

    def draining(self, retry_after: float) -> Iterator[Action]:
        """Say what is still to be said, and leave."""
        self._leaving = True
        return self._flush()

    def _leave(self) -> Iterator[Action]:
        self.standing.reason = self.standing.reason or self._network.quit
        yield Close(encode("QUIT", self._network.quit))

    def ended(self) -> Mapping[str, Any]:
        """Return why it ended."""
        reason = self.standing.reason or "the connection is lost"
        return {"network": self.standing.name, "reason": reason}

    def summary(self) -> Summary:
        """Return what the access log says of it."""
        return Summary(path=self.standing.name)

    def facts(self) -> dict[str, Any]:
        """Return facts for a health check."""
        standing = self.standing
        facts: dict[str, Any] = {
            "registered": self._registration.done,
            "nick": standing.nicks.now,
            **self._rooms.facts(),
            "unsent": len(self.speech.throttle),
        }
        if standing.account:
            facts["account"] = standing.account
        if self._registration.error:
            facts["login"] = self._registration.error
        if self.speech.lag is not None:
            facts["lag"] = round(self.speech.lag, 3)
        return facts
