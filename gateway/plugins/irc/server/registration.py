"""How a client is let in: CAP, PASS, NICK, USER, AUTHENTICATE, and what it may do again later."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final

from gateway.core.plugin import REJECTED, Drop, Outcome, Peer
from gateway.plugins.irc.lines import Line, encode, fold, split_text
from gateway.plugins.irc.server import channels, greeting
from gateway.plugins.irc.server.event import NAMES, Cap
from gateway.plugins.irc.server.network import User
from gateway.plugins.irc.server.numerics import OF_CONNECT
from gateway.plugins.irc.server.pending import Pending, is_good, words

if TYPE_CHECKING:
    from gateway.plugins.irc.server.house import House
    from gateway.plugins.irc.server.session import IrcSession

NICK: Final = re.compile(r"[A-Za-z\[\]\\`_^{|}][A-Za-z0-9\[\]\\`_^{|}-]*", re.ASCII)
_COMMON_NAME = re.compile(r"(?:\A|,)CN=([^,]+)")
_UNACCOUNTABLE = re.compile(r"[\s\0,!:*@]")
_USER = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)
MAX_USER: Final = 16
"""Characters of a user name: they stand in every line that a client is the source of."""
CHUNK: Final = 400
"""Characters of one AUTHENTICATE; one that has as many is followed by another."""
MAX_SASL: Final = 4096
"""Characters of all of them: far above any password."""
MAX_ACCOUNT: Final = 100
"""Bytes of an account: it stands in the middle of lines."""
TRIES: Final = 5
"""Failed authentications of one connection: people mistype."""


class Registration(Pending):
    """What is known of a client before it is let in."""

    def __init__(self, peer: Peer) -> None:
        self.nick = ""
        self.username = ""
        self.realname = ""
        self.password: str | None = None
        self.host = self.address = "localhost" if peer.client is None else peer.client[0]
        if self.host.startswith(":"):
            self.host = f"0{self.host}"  # it stands in the middle of lines
        self.negotiates = False
        """Whether CAP holds the rest up."""
        self.version = 0
        """Of the capability negotiation: 302, where the client says so."""
        self.claiming = ""
        """The nick that is asked for."""
        self.asked = False
        """Whether the application was."""
        self.mechanism = ""
        """Of SASL, while that is underway."""
        self.said = ""
        """What has come of its answer."""
        self.failures = 0
        self.rooms: dict[str, None] = {}
        """Channels in whose groups the application has it already."""

    def decided(self, session: IrcSession, outcome: Outcome) -> None:
        """Hear what the application says."""
        connected(session, outcome)


class Claim(Pending):
    """A client that is let in asks for another nick."""

    def __init__(self, nick: str) -> None:
        self.nick = nick

    def decided(self, session: IrcSession, outcome: Outcome) -> None:
        """Hear that nobody said in time whose it is."""
        session.fail("437", self.nick, text="Nobody can say now whose nick that is; try again")


# ---------------------------------------------------------------- capabilities


def mechanisms(session: IrcSession) -> list[str]:
    """Return the mechanisms of SASL that a client may use."""
    offered = session.house.config.sasl
    found = []
    if "PLAIN" in offered and session.house.routed("authenticate"):
        found.append("PLAIN")
    if "EXTERNAL" in offered and session.peer.identity is not None:
        found.append("EXTERNAL")
    return found


def available(session: IrcSession) -> dict[str, int]:
    """Return the capabilities that there are for a client."""
    found = dict(NAMES)
    if not mechanisms(session):
        del found["sasl"]
    if not session.house.config.history:
        del found["draft/chathistory"]
    return found


def cap(session: IrcSession, line: Line) -> None:
    """CAP: say what there is, and take what the client wants of it."""
    word, rest = line.params[0].upper(), line.params[1:]
    nick = session.user.nick if session.user else session.entry.nick or "*"
    entry = session.entry
    if word in {"LS", "REQ"} and session.user is None:
        entry.negotiates = True
    if word == "LS":
        if rest and rest[0].isdecimal() and len(rest[0]) < 5:
            entry.version = max(entry.version, int(rest[0]))
        if entry.version >= 302:
            session.caps |= Cap.NOTIFY  # it need not ask for that
        _list(session, nick, "LS", [_shown(session, one) for one in available(session)])
    elif word == "LIST":
        names = [one for one, flag in NAMES.items() if session.caps & flag]
        _list(session, nick, "LIST", names)
    elif word == "REQ":
        _request(session, nick, rest[0] if rest else "")
    elif word == "END":
        if session.user is None:
            entry.negotiates = False
            ready(session)
    else:
        session.fail("410", word)


def _shown(session: IrcSession, name: str) -> str:
    if name == "sasl" and session.entry.version >= 302:
        return f"sasl={','.join(mechanisms(session))}"
    return name


def _list(session: IrcSession, nick: str, word: str, names: list[str]) -> None:
    pieces = split_text(" ".join(names), 400)
    for piece in pieces[:-1]:
        session.write("CAP", nick, word, "*", piece)
    session.write("CAP", nick, word, pieces[-1])


def _request(session: IrcSession, nick: str, text: str) -> None:
    there = available(session)
    caps = session.caps
    for word in text.split():
        name = word.removeprefix("-")
        if name not in there and not (word[0] == "-" and name in NAMES):
            session.write("CAP", nick, "NAK", text)
            return
        if word[0] == "-":
            if not (name == "cap-notify" and session.entry.version >= 302):
                caps &= ~NAMES[name]
        else:
            caps |= NAMES[name]
    session.caps = caps
    session.write("CAP", nick, "ACK", text)


def tell_mechanisms(session: IrcSession) -> None:
    """Say by CAP NEW or DEL what there is of SASL now (cap-notify)."""
    nick = session.user.nick if session.user else session.entry.nick or "*"
    if mechanisms(session):
        session.write("CAP", nick, "NEW", _shown(session, "sasl"))
    else:
        session.caps &= ~Cap.SASL
        session.write("CAP", nick, "DEL", "sasl")


# ---------------------------------------------------------------- who it is


def password(session: IrcSession, line: Line) -> None:
    """PASS: take a password."""
    if session.user is not None:
        session.fail("462")
    else:
        session.entry.password = line.params[0]


def user(session: IrcSession, line: Line) -> None:
    """USER: take user name and real name."""
    entry = session.entry
    if session.user is not None:
        session.fail("462")
        return
    if not line.params[3]:
        session.fail("461", "USER")
        return
    entry.username = "~" + (_USER.sub("", line.params[0])[:MAX_USER] or "user")
    most = session.house.config.max_realname
    entry.realname = split_text(line.params[3], most)[0]
    ready(session)


def is_nick(house: House, nick: str) -> bool:
    """Return whether that may be a nick."""
    return len(nick) <= house.config.max_nick and NICK.fullmatch(nick) is not None


def nick(session: IrcSession, line: Line) -> None:
    """NICK: take a nick, or another one."""
    if not line.params or not line.params[0]:
        session.fail("431")
        return
    take_nick(session, line.params[0])


def take_nick(session: IrcSession, wanted: str) -> None:
    """Give a client a nick, if it is free."""
    house, me = session.house, session.user
    if not is_nick(house, wanted):
        session.fail("432", wanted[:50])
        return
    holder = session.network.nick(wanted)
    if holder is not None and holder is not me:
        session.fail("433", wanted)
    elif me is None:
        session.entry.nick = wanted
        ready(session)
    elif wanted == me.nick:
        return
    elif fold(wanted) == fold(me.nick):
        _renamed(session, me, wanted)
    else:
        session.defer(Claim(wanted))
        house.claim(session, wanted)


def _renamed(session: IrcSession, me: User, wanted: str) -> None:
    was, mask = me.nick, me.mask
    session.house.change(do="nick", uid=me.uid, nick=wanted, at=session.house.now())
    session.tell("nick", {"mask": mask, "nick": was, "text": wanted})


def ready(session: IrcSession) -> None:
    """Ask for the nick, and then the application, once all is known."""
    entry = session.entry
    if entry.negotiates or not entry.nick or not entry.username or entry.asked:
        return
    if session.house.config.sasl_required and session.account is None:
        session.close("You need to say who you are, by SASL")
        return
    entry.asked, entry.over = True, False
    entry.claiming = entry.nick
    session.defer(entry)
    session.house.claim(session, entry.nick)


def claimed(session: IrcSession, wanted: str, *, yes: bool) -> None:
    """Hear whether a nick is this client's."""
    house, me = session.house, session.user
    pending = session.waits_for
    if me is None:
        entry = session.entry
        if pending is not entry or entry.claiming != wanted:
            house.release(session, wanted)
        elif yes:
            session.emit(
                "connect",
                {
                    "nick": entry.nick,
                    "username": entry.username[1:],
                    "realname": entry.realname,
                    "password": entry.password,
                },
                entry,
            )
        else:
            house.release(session, wanted)
            entry.nick, entry.asked = "", False
            session.resume(entry, lambda: session.fail("433", wanted))
    elif not isinstance(pending, Claim) or pending.nick != wanted:
        if fold(wanted) != fold(me.nick):
            house.release(session, wanted)
    elif yes:
        was = me.nick
        session.resume(pending, lambda: _renamed(session, me, wanted))
        house.release(session, was)
    else:
        session.resume(pending, lambda: session.fail("433", wanted))


def connected(session: IrcSession, outcome: Outcome) -> None:
    """Hear what the application says of a client."""
    if session.user is not None or session.is_over:
        return
    if is_good(outcome, unrouted=session.house.config.relay):
        if session.house.config.implicit_accept:
            let_in(session)
    elif outcome.kind == REJECTED:
        code = outcome.code
        if code is not None and code not in OF_CONNECT:
            session.house.drop(Drop.FOREIGN_CODE)
            code = None
        session.close(words(outcome) or "You are not let in", code=str(code or 465))
    else:
        session.close(words(outcome))


def let_in(session: IrcSession) -> None:
    """Let a client in, and welcome it."""
    entry = session.entry
    house = session.house
    if not house.config.addresses:
        entry.host = house.config.server
    assert session.connection is not None  # noqa: S101 - for the type checker: it is attached
    session.let_in()
    session.user = house.admit(
        session,
        {
            "uid": session.connection.reply_channel,
            "nick": entry.nick,
            "username": entry.username,
            "host": entry.host,
            "realname": entry.realname,
            "account": session.account,
            "at": house.now(),
            "guest": False,
            "away": "",
            "invisible": False,
        },
    )
    entry.password = None
    session.resume(entry, lambda: greeting.welcome(session))
    for name in entry.rooms:
        channels.enter(session, name)
    entry.rooms.clear()


# ---------------------------------------------------------------- SASL


class Authentication(Pending):
    """A client says who it is, which the application decides on."""

    def __init__(self, account: str) -> None:
        self.account = account

    def decided(self, session: IrcSession, outcome: Outcome) -> None:
        """Hear whether it is."""
        if is_good(outcome, unrouted=False):
            _authenticated(session, self.account)
        else:
            _failed(session, words(outcome))


def authenticate(session: IrcSession, line: Line) -> None:
    """AUTHENTICATE: choose a mechanism, or go on with it."""
    entry, said = session.entry, line.params[0]
    if not session.caps & Cap.SASL:
        session.fail("904")
    elif session.account is not None and not entry.mechanism:
        session.fail("907")
    elif said == "*":
        entry.mechanism = entry.said = ""
        session.fail("906")
    elif not entry.mechanism:
        there = mechanisms(session)
        if said.upper() in there:
            entry.mechanism, entry.said = said.upper(), ""
            session.put({}, encode("AUTHENTICATE", "+"))
        else:
            session.numeric("908", ",".join(there) or "*", "are available SASL mechanisms")
            session.fail("904")
    elif len(said) > CHUNK or len(entry.said) + len(said) > MAX_SASL:
        entry.mechanism = entry.said = ""
        session.fail("905")
    else:
        entry.said += "" if said == "+" else said
        if len(said) < CHUNK:
            _prove(session)


def _prove(session: IrcSession) -> None:
    entry = session.entry
    mechanism, said = entry.mechanism, entry.said
    entry.mechanism = entry.said = ""
    try:
        data = base64.b64decode(said, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        _failed(session)
        return
    if mechanism == "EXTERNAL":
        if data in {"", session.peer.identity} and session.peer.identity is not None:
            _authenticated(session, session.peer.identity)
        else:
            _failed(session)
        return
    identity, *rest = data.split("\0")
    if len(rest) != 2 or not rest[0] or not is_account(rest[0]) or identity not in {"", rest[0]}:
        _failed(session)
        return
    pending = Authentication(rest[0])
    message: dict[str, Any] = {"mechanism": "PLAIN", "username": rest[0], "password": rest[1]}
    session.defer(pending)
    session.emit("authenticate", message, pending)


def is_account(text: str) -> bool:
    """Return whether that may stand in a line as an account."""
    return (
        0 < len(text.encode(errors="replace")) <= MAX_ACCOUNT
        and not set(text) & set(" \r\n\0,!=")
        and text[0] not in ":*"
    )


def _failed(session: IrcSession, why: str = "") -> None:
    session.fail("904", text=why)
    session.entry.failures += 1
    if session.entry.failures >= TRIES:
        session.close("Too many failed authentications")


def shown(identity: str) -> str:
    """Return who somebody is as it can stand in a line: of a certificate the common name.

    >>> shown("CN=alice,O=Example Inc.")
    'alice'
    """
    if is_account(identity):
        return identity
    name = _COMMON_NAME.search(identity)
    found = split_text(_UNACCOUNTABLE.sub("_", name[1] if name else identity), MAX_ACCOUNT)[0]
    return found if is_account(found) else "_"


def _authenticated(session: IrcSession, identity: str) -> None:
    session.identity = identity
    session.account = account = shown(identity)
    me, entry = session.user, session.entry
    name = me.mask if me else f"{entry.nick or '*'}!{entry.username or '*'}@{entry.host}"
    session.numeric("900", name, account, f"You are now logged in as {account}")
    session.fail("903")
    if me is not None:
        session.house.change(do="account", uid=me.uid, account=account, at=session.house.now())
