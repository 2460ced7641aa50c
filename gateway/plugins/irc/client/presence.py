"""Being on a network: known to its services, by our nick, in our channels. Pure, but for the clock.

::

    let in ──the network has said all of itself──► NickServ, if need be ──► nick, channels ──► open
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from gateway.core.plugin import Accepted, Action, Emit, Timer, Write
from gateway.plugins.irc.client.registration import Registration
from gateway.plugins.irc.client.rooms import Room, Rooms
from gateway.plugins.irc.client.speech import Speech
from gateway.plugins.irc.client.standing import Standing
from gateway.plugins.irc.client.terms import NoEntry, Remark
from gateway.plugins.irc.lines import Line

READY: Final = 5.0
"""Seconds after the welcome until a network counts as having said all about itself."""
IDENTIFY: Final = 10.0
"""Seconds that NickServ has to know us, before the channels are joined as they are."""
IDENTIFIED: Final = re.compile(
    r"\b(now (identified|logged in|recogni[sz]ed)|password accepted|you are (already )?"
    r"(identified|logged in|recogni[sz]ed))\b",
    re.IGNORECASE,
)
"""What NickServ says once it knows us, of Anope, Atheme and their kin."""
NO_ENTRY: Final = frozenset(
    "403 405 407 437 470 471 473 474 475 476 477 479 480 485 489 495 500 519 520 524".split()  # noqa: SIM905 - a list is 20 lines
)
"""Why a channel is not to be joined: of RFC 2812 section 5.2, and of the networks there are."""
JOINS: Final = 400
"""Bytes of channels and keys in one JOIN: what makes a line of 512 with whatever stands before."""


class Presence:
    """One connection's. ``rooms`` outlive it; ``host`` is whom we are connected to."""

    def __init__(
        self,
        standing: Standing,
        registration: Registration,
        rooms: Rooms,
        speech: Speech,
        clock: Callable[[], float],
        host: str,
    ) -> None:
        self._standing = standing
        self._registration = registration
        self._rooms = rooms
        self._speech = speech
        self._clock = clock
        self._host = host
        self._ready = False
        """Whether the network has said all about itself."""
        self._entered = False
        """Whether it knows us as well as it will."""
        self.handlers: Mapping[str, Callable[[Line], Iterator[Action]]] = {
            "001": self._welcome,
            "005": self._support,
            "302": self._userhost,
            "303": self._ison,
            "376": self._end_of_welcome,
            "396": self._hidden,
            "422": self._end_of_welcome,
            "731": self._offline,
            "900": self._logged_in_as,
            "CHGHOST": self._chghost,
            "INVITE": self._invite,
        }

    def timeout(self, name: str) -> Iterator[Action]:
        """Do what is due."""
        if name == "ready":
            yield from self._be_ready()
        elif name == "identify":
            yield from self.known()
        elif name == "rooms":
            yield from self._join_due()
        elif name == "regain":
            yield from self._regain()

    # ------------------------------------------------ from the welcome on

    def _welcome(self, line: Line) -> Iterator[Action]:
        standing = self._standing
        if self._registration.done:
            return
        yield from self._registration.welcome(line)
        if not self._registration.done:
            return
        if not self._has_nick():
            yield Write(Remark(f"we are called {standing.nicks.now}, not {standing.nicks.wanted}"))
        if self._registration.error:
            yield Write(Remark(f"we are not logged in: {self._registration.error}"))
        connect = {"network": standing.name, "nick": standing.nicks.now, "host": self._host}
        yield Emit("connect", connect)
        yield Accepted()
        yield Timer("register", None)
        yield Timer("ready", READY)
        yield Timer("keepalive", standing.network.keepalive)

    def _support(self, line: Line) -> Iterator[Action]:
        standing = self._standing
        before = standing.support.casemapping
        standing.support.take(line.params[1:-1])
        if standing.support.casemapping != before:
            self._rooms.fold_by(standing.fold)
        return iter(())

    def _end_of_welcome(self, line: Line) -> Iterator[Action]:
        return self._be_ready() if self._registration.done else iter(())

    def _be_ready(self) -> Iterator[Action]:
        """Say what is to be said at first."""
        if self._ready:
            return
        self._ready = True
        yield Timer("ready", None)
        standing, own = self._standing, self._speech.own
        network, me = standing.network, standing.nicks.now
        if standing.support.bot:
            own("MODE", me, f"+{standing.support.bot}")
        if network.modes:
            own("MODE", me, network.modes)
        own("USERHOST", me)
        service = network.nickserv
        if service is not None and not self._registration.logged_in:
            words = " ".join(word for word in (service.account, service.password) if word)
            own("PRIVMSG", service.service, f"IDENTIFY {words}")
            yield Timer("identify", IDENTIFY)
        else:
            yield from self.known()

    def known(self) -> Iterator[Action]:
        """Take our nick back and join the channels: the network knows us as well as it will."""
        if self._entered or not self._ready:
            return
        self._entered = True
        yield Timer("identify", None)
        yield from self._begin_regain()
        yield from self._join_due()
        # The joins go first, and a network works on what it hears in its order.
        self._speech.throttle.open = True

    def _logged_in_as(self, line: Line) -> Iterator[Action]:
        yield from self._registration.logged_in_as(line)
        yield from self.known()

    def noticed(self, nick: str, text: str) -> Iterator[Action]:
        """Hear a notice: perhaps it is NickServ, that knows us now."""
        service = self._standing.network.nickserv
        if self._entered or not self._ready or service is None:
            return
        fold = self._standing.fold
        if fold(nick) == fold(service.service.partition("@")[0]) and IDENTIFIED.search(text):
            yield from self.known()

    # ------------------------------------------------ the nick

    def _has_nick(self) -> bool:
        return self._standing.is_me(self._standing.nicks.wanted)

    def _begin_regain(self) -> Iterator[Action]:
        if self._has_nick():
            return
        own, network = self._speech.own, self._standing.network
        wanted, service = network.nick, network.nickserv
        if service is not None and service.regain:
            own("PRIVMSG", service.service, f"{service.regain} {wanted} {service.password}")
        if self._standing.support.monitor:
            own("MONITOR", "+", wanted)
        yield Timer("regain", network.regain_wait)

    def _regain(self) -> Iterator[Action]:
        """Look whether our nick is free; where the network would tell, it may yet be held back."""
        if not self._has_nick():
            command = "NICK" if self._standing.support.monitor else "ISON"
            self._speech.own(command, self._standing.nicks.wanted)
            yield Timer("regain", self._standing.network.regain_wait)

    def is_free(self, nick: str) -> None:
        """Take our nick, if that is the one that is free."""
        standing = self._standing
        wanted = standing.nicks.wanted
        if self._entered and standing.fold(nick) == standing.fold(wanted) and not self._has_nick():
            self._speech.own("NICK", wanted)

    def renamed(self, nick: str) -> Iterator[Action]:
        """Hear that we have another nick, whoever wanted that."""
        self._standing.nicks.now = nick
        if not self._entered:
            return
        if not self._has_nick():
            yield from self._begin_regain()
        elif self._standing.support.monitor:
            self._speech.own("MONITOR", "-", nick)

    def _ison(self, line: Line) -> Iterator[Action]:
        on = {self._standing.fold(nick) for nick in line.params[-1:] for nick in nick.split()}
        wanted = self._standing.nicks.wanted
        if self._standing.fold(wanted) not in on:
            self.is_free(wanted)
        return iter(())

    def _offline(self, line: Line) -> Iterator[Action]:
        for mask in (line.params or ("",))[-1].split(","):
            self.is_free(mask.partition("!")[0])
        return iter(())

    def _userhost(self, line: Line) -> Iterator[Action]:
        for one in (line.params or ("",))[-1].split():
            nick, _, rest = one.partition("=")
            if self._standing.is_me(nick.removesuffix("*")):
                self._standing.hear_mask(f"{nick}!{rest[1:]}")
        return iter(())

    def _hidden(self, line: Line) -> Iterator[Action]:
        """Hear by what host others see us (396)."""
        if len(line.params) > 1:
            self._standing.hear_host(line.params[1])
        return iter(())

    def _chghost(self, line: Line) -> Iterator[Action]:
        if len(line.params) > 1 and self._standing.is_me(line.source.partition("!")[0]):
            self._standing.hear_mask(f"!{line.params[0]}@{line.params[1]}")
        return iter(())

    # ------------------------------------------------ the channels

    def want(self, channels: frozenset[str] | None) -> Iterator[Action]:
        """Be in the channels that workers want, and in none that they want no more."""
        for name in self._rooms.want(channels, self._clock()):
            if self._entered:
                self._speech.own("PART", name)
        yield from self._join_due()

    def moved(self, kind: str, channel: str, key: str | None) -> Iterator[Action]:
        """Remember where the application wants to be: it has said ``join`` or ``part``."""
        if kind == "part":
            self._rooms.leave(channel)
        else:
            self._rooms.ask(channel, key, self._clock())
        return self._later()

    def _join_due(self) -> Iterator[Action]:
        """Join what is due."""
        if not self._entered:
            return
        now = self._clock()
        standing = self._standing
        due = []
        for room in self._rooms.due(now):
            if standing.is_channel(room.name) and not set(room.name) & set(" ,\r\n\0"):
                due.append(room)
            else:
                self._rooms.refused(room.name, "that is no name of a channel", now)
        for params in _joins(due, standing.support.joins or len(due)):
            self._speech.own("JOIN", *params)
        yield from self._later()

    def _later(self) -> Iterator[Action]:
        """Join in its time what could not be joined, or was lost."""
        yield Timer("rooms", self._rooms.wait(self._clock()))

    def joined(self, channel: str, mask: str) -> Iterator[Action]:
        """Hear that we are in a channel, and how others see us."""
        self._standing.hear_mask(mask)
        self._rooms.joined(channel, self._clock())
        return self._later()

    def removed(self, channel: str, reason: str) -> Iterator[Action]:
        """Hear that we are in a channel no more."""
        self._rooms.removed(channel, reason, self._clock())
        return self._later()

    def refused(self, line: Line) -> Iterator[Action]:
        """Hear that we may not enter a channel, if that is what a refusal says."""
        if line.command in NO_ENTRY and len(line.params) > 2:
            reason = f"{line.command}: {line.params[-1]}"
            if self._rooms.refused(line.params[1], reason, self._clock()):
                yield Write(NoEntry(line.command, line.params[1], line.params[-1]))
                yield from self._later()

    def _invite(self, line: Line) -> Iterator[Action]:
        if (
            len(line.params) > 1
            and self._standing.is_me(line.params[0])
            and self._rooms.invited(line.params[1], self._clock())
        ):
            yield from self._join_due()


def _joins(rooms: list[Room], most: int) -> Iterator[tuple[str, ...]]:
    """Return the parameters of JOINs: channels, and the keys of the first ones of them."""
    names: list[str] = []
    keys: list[str] = []
    for room in sorted(rooms, key=lambda room: not room.key):
        size = sum(len(word.encode()) + 1 for word in (*names, *keys, room.name, room.key))
        if names and (size > JOINS or len(names) >= most):
            yield (",".join(names), *([",".join(keys)] if keys else []))
            names, keys = [], []
        names.append(room.name)
        keys += [room.key] if room.key else []
    if names:
        yield (",".join(names), *([",".join(keys)] if keys else []))
