"""Who there is: WHO, WHOIS, WHOWAS, USERHOST, ISON; and what one says of oneself: AWAY, SETNAME."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.plugins.irc.lines import Line, fold, matches, split_text
from gateway.plugins.irc.server.channels import symbol
from gateway.plugins.irc.server.event import Cap
from gateway.plugins.irc.server.network import Channel, User

if TYPE_CHECKING:
    from gateway.plugins.irc.server.session import IrcSession

FIELDS: Final = "tcuihsnfdlaor"
"""Of WHOX, in the order in which they are answered."""
MANY: Final = 500
"""Users that one WHO by a mask shows."""
WERE: Final = 8
"""Entries of one nick that WHOWAS shows."""


def who(session: IrcSession, line: Line) -> None:
    """WHO: say who is in a channel, or matches a mask; with ``%fields`` as WHOX has it."""
    mask = line.params[0] if line.params else "*"
    options = line.params[1] if len(line.params) > 1 else ""
    fields, token = "", ""
    if "%" in options:
        fields, _, token = options.partition("%")[2].partition(",")
        token = token[:3] if token[:3].isdecimal() else "0"
    network, me = session.network, session.me
    shown: list[tuple[User, Channel | None]] = []
    channel = network.channel(mask) if mask.startswith("#") else None
    if channel is not None:
        inside = me in channel.members
        if network.sees(me, channel):
            shown = [(u, channel) for u in channel.members if inside or not u.invisible]
    elif not mask.startswith("#"):
        shown = [(user, None) for user in _matching(session, mask)]
    for user, where in shown:
        if fields:
            _whox(session, user, where, fields, token)
        else:
            session.numeric(
                "352",
                "*" if where is None else where.name,
                user.username,
                user.host,
                session.house.config.server,
                user.nick,
                _flags(session, user, where),
                f"{0 if user.link is not None else 1} {user.realname}",
            )
    session.numeric("315", mask[:60], "End of WHO list")


def _matching(session: IrcSession, mask: str) -> list[User]:
    network, me = session.network, session.me
    exact = network.nick(mask)
    if exact is not None:
        return [exact]
    session.charge(len(network.users))
    folded = "*" if mask == "0" else fold(mask)
    found = []
    for user in network.users.values():
        if user.invisible and user is not me and not (user.channels.keys() & me.channels.keys()):
            continue
        texts = (user.nick, user.username, user.host, user.realname, user.mask)
        if any(matches(folded, fold(text)) for text in texts):
            found.append(user)
            if len(found) == MANY:
                break
    return found


def _flags(session: IrcSession, user: User, channel: Channel | None) -> str:
    status = "" if channel is None else symbol(channel.members[user], session.caps)
    return ("G" if user.away else "H") + status


def _whox(
    session: IrcSession, user: User, channel: Channel | None, fields: str, token: str
) -> None:
    values = {
        "t": token or "0",
        "c": "*" if channel is None else channel.name,
        "u": user.username,
        "i": "255.255.255.255",
        "h": user.host,
        "s": session.house.config.server,
        "n": user.nick,
        "f": _flags(session, user, channel),
        "d": "0" if user.link is not None else "1",
        "l": "0",
        "a": user.account or "0",
        "o": "n/a",
        "r": user.realname,
    }
    words = [values[field] for field in FIELDS if field in fields]
    if words:
        session.numeric("354", *words)


def whois(session: IrcSession, line: Line) -> None:
    """WHOIS: say what is known of somebody."""
    network, me = session.network, session.me
    nick = (line.params[1] if len(line.params) > 1 else line.params[0]).partition(",")[0]
    user = network.nick(nick)
    if user is None:
        session.fail("401", nick[:60])
        session.numeric("318", nick[:60], "End of WHOIS list")
        return
    config = session.house.config
    session.numeric("311", user.nick, user.username, user.host, "*", user.realname)
    seen = [
        symbol(channel.members[user], session.caps) + channel.name
        for channel in user.channels
        if network.sees(me, channel) and (not user.invisible or channel in me.channels)
    ]
    for piece in split_text(" ".join(seen), 380) if seen else ():
        session.numeric("319", user.nick, piece)
    session.numeric("312", user.nick, config.server, f"the {config.network} network")
    if user is session.house.service:
        session.numeric("335", user.nick, "speaks for the application")
    if user.guest:
        session.numeric("320", user.nick, "is here by another protocol")
    if user.account:
        session.numeric("330", user.nick, user.account, "is logged in as")
    if user.away:
        session.numeric("301", user.nick, user.away)
    if user is me:
        session.numeric("378", user.nick, f"is connecting from {session.entry.address}")
    session.numeric("317", user.nick, "0", str(int(user.since)), "seconds idle, signon time")
    session.numeric("318", user.nick, "End of WHOIS list")


def whowas(session: IrcSession, line: Line) -> None:
    """WHOWAS: say who had a nick before."""
    nick = line.params[0].partition(",")[0]
    wanted = line.params[1] if len(line.params) > 1 else ""
    most = min(int(wanted[:3]), WERE) if wanted.isdecimal() and int(wanted[:3]) else WERE
    found = [one for one in session.network.were if fold(one[0].nick) == fold(nick)][:most]
    for user, at in found:
        session.numeric("314", user.nick, user.username, user.host, "*", user.realname)
        session.numeric("312", user.nick, session.house.config.server, f"left at {int(at)}")
    if not found:
        session.fail("406", nick[:60])
    session.numeric("369", nick[:60], "End of WHOWAS")


def userhost(session: IrcSession, line: Line) -> None:
    """USERHOST: say the hosts of up to five nicks."""
    found = []
    for nick in line.params[:5]:
        user = session.network.nick(nick)
        if user is not None:
            found.append(f"{user.nick}={'-' if user.away else '+'}{user.username}@{user.host}")
    session.numeric("302", " ".join(found))


def ison(session: IrcSession, line: Line) -> None:
    """ISON: say which of some nicks are there."""
    nicks = [nick for param in line.params for nick in param.split()]
    found = [user.nick for nick in nicks if (user := session.network.nick(nick)) is not None]
    session.numeric("303", " ".join(found))


def away(session: IrcSession, line: Line) -> None:
    """AWAY: be away, or back."""
    house, me = session.house, session.me
    text = line.params[0] if line.params else ""
    text = split_text(text, house.config.max_reason)[0]
    house.change(do="away", uid=me.uid, text=text, at=house.now())
    if text:
        session.numeric("306", "You have been marked as being away")
    else:
        session.numeric("305", "You are no longer marked as being away")


def setname(session: IrcSession, line: Line) -> None:
    """SETNAME: take another real name."""
    house, me = session.house, session.me
    name = line.params[0]
    if len(name.encode()) > house.config.max_realname:
        if session.caps & Cap.REPLIES:
            session.standard("FAIL", "SETNAME", "INVALID_REALNAME", text="That is too long")
        return
    house.change(do="setname", uid=me.uid, text=name, at=house.now())
