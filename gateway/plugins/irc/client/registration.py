"""From the connection to the welcome: capabilities, login, nick. Pure.

::

    CAP LS 302, PASS, NICK, USER   ──►
                                   ◄──   CAP … LS
    CAP REQ                        ──►
                                   ◄──   CAP … ACK
    AUTHENTICATE …                 ──►         (`gateway.plugins.irc.client.sasl`)
                                   ◄──   903
    CAP END                        ──►
                                   ◄──   001, the welcome

A network without capabilities answers CAP with an error, or not at all, and then goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.core.errors import RemoteProtocolError
from gateway.core.plugin import Action, Close, Write
from gateway.plugins.irc.client.sasl import Exchange, mechanism
from gateway.plugins.irc.client.standing import Standing
from gateway.plugins.irc.lines import Line, encode

NO_NICK: Final = frozenset({"432", "433", "436", "437"})
"""A nick that cannot be had: no nick at all, somebody's, a collision, kept back."""
UNWELCOME: Final = frozenset({"463", "464", "465", "466"})
"""No host of ours, a wrong password, a ban."""
NO_LOGIN: Final = frozenset({"902", "904", "905", "906"})


class Registration:
    """One connection's. Its methods are called by the command's name, with the line."""

    def __init__(self, standing: Standing) -> None:
        self.done = False
        """Whether the network has let us in."""
        self.error = ""
        """Why we are not logged in, where that was tried."""
        self._standing = standing
        self._exchange: Exchange | None = None
        self._tried = False
        self._ended = False
        """Whether CAP END was said."""

    @property
    def logged_in(self) -> bool:
        """Whether SASL has succeeded."""
        return self._tried and self._exchange is None and not self.error

    def begin(self) -> Iterator[Action]:
        """Say who we are."""
        network = self._standing.network
        said = [encode("CAP", "LS", "302")]
        if network.password:
            said.append(encode("PASS", network.password))
        nick = self._standing.nicks.now
        user = network.username or "gateway"
        said += [encode("NICK", nick), encode("USER", user, "0", "*", network.realname or nick)]
        yield Write(b"".join(said))

    def fail(self, reason: str, *, unwelcome: bool = False) -> Iterator[Action]:
        """Leave, and say why in the end."""
        self._standing.reason = reason
        self._standing.unwelcome |= unwelcome
        yield Close(encode("QUIT"))

    # ------------------------------------------------ capabilities

    def cap(self, line: Line) -> Iterator[Action]:
        """Take what the network says of capabilities."""
        if len(line.params) < 3:
            return
        capabilities = self._standing.capabilities
        verb, words = line.params[1].upper(), line.params[-1]
        ask: list[str] = []
        if verb in {"LS", "NEW"}:
            ask = capabilities.offered(words, more=line.params[2] == "*" and len(line.params) > 3)
        elif verb == "ACK":
            capabilities.given(words)
        elif verb == "NAK":
            ask = capabilities.refused(words)
        elif verb == "DEL":
            capabilities.gone(words)
        for one in ask:
            yield Write(encode("CAP", "REQ", one))
        yield from self._go_on()

    def _go_on(self) -> Iterator[Action]:
        """Log in once that can be, and end the negotiation."""
        capabilities, sasl = self._standing.capabilities, self._standing.network.sasl
        if not capabilities.settled or self._exchange is not None:
            return
        if sasl is None or self._tried:
            yield from self._end()
            return
        known = capabilities.available.get("sasl", "")
        if "sasl" not in capabilities.enabled:
            if not self.done:
                yield from self._no_login("the network has no SASL now")
        elif known and sasl.mechanism not in known.upper().split(","):
            yield from self._no_login(f"the network has {known}, and not {sasl.mechanism}")
        else:
            self._tried = True
            self._exchange = Exchange(mechanism(sasl, self._standing.network.nick))
            yield Write(encode("AUTHENTICATE", sasl.mechanism))

    def _end(self) -> Iterator[Action]:
        if not self._ended and not self.done and self._standing.capabilities.listed:
            self._ended = True
            yield Write(encode("CAP", "END"))

    # ------------------------------------------------ the login

    def authenticate(self, line: Line) -> Iterator[Action]:
        """Take a piece of a challenge."""
        if self._exchange is None or not line.params:
            return
        try:
            said = self._exchange.challenge(line.params[0])
        except RemoteProtocolError as error:
            yield Write(encode("AUTHENTICATE", "*"))
            yield from self._impostor(error)
        else:
            yield from (Write(encode("AUTHENTICATE", piece)) for piece in said)

    def logged_in_as(self, line: Line) -> Iterator[Action]:
        """Hear our account (900), with our mask."""
        if len(line.params) > 2:
            self._standing.hear_mask(line.params[1])
            self._standing.account = line.params[2]
        return iter(())

    def logged_out(self, line: Line) -> Iterator[Action]:
        """Hear that we have none any more (901)."""
        self._standing.account = ""
        return iter(())

    def succeeded(self, line: Line) -> Iterator[Action]:
        """Hear that the login has succeeded (903), or had before (907)."""
        if self._exchange is None:
            return
        try:
            self._exchange.mechanism.check()
        except RemoteProtocolError as error:
            yield from self._impostor(error)
            return
        self._exchange = None
        yield from self._end()

    def failed(self, line: Line) -> Iterator[Action]:
        """Hear that it has failed."""
        if self._exchange is not None:
            yield from self._no_login(line.params[-1] if line.params else "")

    def _impostor(self, error: RemoteProtocolError) -> Iterator[Action]:
        """Leave, whether a login is required or not: who knows who that is."""
        self._exchange = None
        self.error = str(error)
        yield from self.fail(self.error, unwelcome=True)

    def _no_login(self, why: str) -> Iterator[Action]:
        self._exchange = None
        self._tried = True
        self.error = f"SASL: {why}"
        sasl = self._standing.network.sasl
        if sasl is not None and sasl.required and not self.done:
            yield from self.fail(self.error, unwelcome=True)
        else:
            yield from self._end()

    # ------------------------------------------------ nick and welcome

    def no_nick(self, line: Line) -> Iterator[Action]:
        """Ask for another nick."""
        nick = self._standing.nicks.next()
        if nick is None:
            yield from self.fail(f"the network lets us have no nick: {' '.join(line.params[-1:])}")
        else:
            yield Write(encode("NICK", nick))

    def unwelcome(self, line: Line) -> None:
        """Hear that we are not wanted; the network closes."""
        self._standing.reason = f"{line.command}: {' '.join(line.params[-1:])}"
        self._standing.unwelcome = True

    def welcome(self, line: Line) -> Iterator[Action]:
        """Be in, as whom the network says; or leave, as a login was required."""
        standing = self._standing
        sasl = standing.network.sasl
        if sasl is not None and not self.logged_in:
            if not self.error:
                yield from self._no_login("the network let us in without")
            if sasl.required:
                return
        self.done = True
        self._exchange = None
        if line.params:
            standing.nicks.welcome(line.params[0])
            standing.hear_mask(line.params[-1].rpartition(" ")[2])
