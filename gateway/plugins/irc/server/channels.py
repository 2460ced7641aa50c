"""Being in channels: JOIN, PART, TOPIC, NAMES, LIST, KICK, INVITE."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from gateway.core.plugin import REJECTED, Drop, Message, Outcome
from gateway.plugins.irc.lines import Line, fold, matches, split_text
from gateway.plugins.irc.server.event import Cap
from gateway.plugins.irc.server.network import Channel, User
from gateway.plugins.irc.server.numerics import OF_JOIN, TEXTS
from gateway.plugins.irc.server.pending import Pending, is_good, words

if TYPE_CHECKING:
    from gateway.plugins.irc.server.house import House
    from gateway.plugins.irc.server.session import IrcSession

_NAME = re.compile("#[^\\x00-\\x20,\\x7f]+")
NAMES_BYTES: Final = 380
"""Bytes of the names in one line: with the longest channel it fits."""
SYMBOLS: Final = {"o": "@", "v": "+"}


def is_channel(house: House, name: str) -> bool:
    """Return whether that may be the name of a channel."""
    return _NAME.fullmatch(name) is not None and len(name.encode()) <= house.config.max_channel


# ---------------------------------------------------------------- entering


class Joining(Pending):
    """A client asks to be let into a channel; others may be behind it."""

    def __init__(self, name: str, rest: Iterator[tuple[str, str]]) -> None:
        self.name = name
        self.rest = rest

    def decided(self, session: IrcSession, outcome: Outcome) -> None:
        """Hear whether it may."""
        if is_good(outcome, unrouted=session.house.config.relay):
            enter(session, self.name)
        else:
            code = outcome.code if outcome.kind == REJECTED else None
            if code is not None and code not in OF_JOIN:
                session.house.drop(Drop.FOREIGN_CODE)
                code = None
            why = words(outcome)
            numeric = str(code or 473)
            session.fail(numeric, self.name, text=why or TEXTS.get(numeric, TEXTS["473"]))
        _join(session, self.rest)


def join(session: IrcSession, line: Line) -> None:
    """JOIN: enter channels, one after the other."""
    if line.params[0] == "0":
        for channel in list(session.me.channels):
            leave(session, channel, "")
        return
    keys = line.params[1].split(",") if len(line.params) > 1 else []
    names = [name for name in line.params[0].split(",") if name]
    _join(session, iter([(n, keys[i] if i < len(keys) else "") for i, n in enumerate(names)]))


def _join(session: IrcSession, asked: Iterator[tuple[str, str]]) -> None:
    house, user = session.house, session.me
    for name, key in asked:
        if not is_channel(house, name):
            session.fail("403", name[:60])
            continue
        channel = session.network.channel(name)
        if channel is not None and user in channel.members:
            continue
        if len(user.channels) >= house.config.max_channels:
            session.fail("405", name)
            continue
        refusal = None if channel is None else _barred(channel, user, key)
        if refusal is not None:
            session.fail(refusal, name)
        elif house.routed("join") is False:
            enter(session, name)
        else:
            pending = Joining(name, asked)
            message: Message = {
                "channel": name if channel is None else channel.name,
                "mask": user.mask,
                "nick": user.nick,
                "account": user.account,
                "key": key or None,
            }
            session.defer(pending)
            session.emit("join", message, pending, fold(name))
            return


def _barred(channel: Channel, user: User, key: str) -> str | None:
    """Return the numeric by which somebody is not let in."""
    modes = channel.modes
    if "k" in modes and modes["k"] != key:
        return "475"
    if user in channel.invited:
        return None
    if "i" in modes:
        return "473"
    if channel.bars(user):
        return "474"
    if "l" in modes and len(channel.members) >= int(modes["l"]):
        return "471"
    return None


def enter(session: IrcSession, name: str) -> None:
    """Let a client into a channel."""
    house, user = session.house, session.me
    channel = session.network.channel(name)
    first = channel is None
    house.change(
        do="join",
        uid=user.uid,
        channel=name,
        first=first,
        status="o" if first and house.config.operators == "first" else "",
        modes=dict.fromkeys(house.config.channel_modes, ""),
        at=house.now(),
    )
    channel = session.network.channel(name)
    if channel is None or user not in channel.members:
        return
    if channel.topic[0]:
        show_topic(session, channel)
    show_names(session, channel)


def leave(session: IrcSession, channel: Channel, reason: str) -> None:
    """Have a client leave a channel."""
    user = session.me
    house = session.house
    house.change(do="part", uid=user.uid, channel=channel.name, reason=reason, at=house.now())
    session.tell("part", {"channel": channel.name, "reason": reason}, fold(channel.name))


def part(session: IrcSession, line: Line) -> None:
    """PART: leave channels."""
    reason = line.params[1] if len(line.params) > 1 else ""
    reason = split_text(reason, session.house.config.max_reason)[0]
    for name in filter(None, line.params[0].split(",")):
        channel = _own(session, name)
        if channel is not None:
            leave(session, channel, reason)


def _own(session: IrcSession, name: str) -> Channel | None:
    """Return a channel that the client is in; say why not, where it is not."""
    channel = session.network.channel(name)
    if channel is None:
        session.fail("403", name[:60])
    elif session.me not in channel.members:
        session.fail("442", channel.name)
    else:
        return channel
    return None


# ---------------------------------------------------------------- topic, names, list


def show_topic(session: IrcSession, channel: Channel) -> None:
    """Say the topic of a channel."""
    text, by, at = channel.topic
    if not text:
        session.numeric("331", channel.name, "No topic is set")
        return
    session.numeric("332", channel.name, text)
    session.numeric("333", channel.name, by, str(int(at)))


def topic(session: IrcSession, line: Line) -> None:
    """TOPIC: show or set it."""
    channel = session.network.channel(line.params[0])
    if channel is None:
        session.fail("403", line.params[0][:60])
        return
    user, house = session.me, session.house
    if len(line.params) == 1 and session.network.sees(user, channel):
        show_topic(session, channel)
    elif user not in channel.members:
        session.fail("442", channel.name)
    elif "t" in channel.modes and not channel.is_op(user):
        session.fail("482", channel.name)
    else:
        text = split_text(line.params[1], house.config.max_topic)[0]
        house.change(do="topic", channel=channel.name, text=text, by=user.mask, at=house.now())
        session.tell("topic", {"channel": channel.name, "text": text}, fold(channel.name))


def symbol(status: str, caps: int) -> str:
    """Return what stands before the nick of a member."""
    symbols = "".join(SYMBOLS[mode] for mode in status)
    return symbols if caps & Cap.MULTI_PREFIX else symbols[:1]


def show_names(session: IrcSession, channel: Channel) -> None:
    """Say who is in a channel."""
    caps, inside = session.caps, session.me in channel.members
    whole = caps & Cap.USERHOST
    names = [
        symbol(status, caps) + (user.mask if whole else user.nick)
        for user, status in channel.members.items()
        if inside or not user.invisible
    ]
    kind = "@" if "s" in channel.modes else "="
    for piece in split_text(" ".join(names), NAMES_BYTES) if names else ():
        session.numeric("353", kind, channel.name, piece)
    session.numeric("366", channel.name, "End of NAMES list")


def names(session: IrcSession, line: Line) -> None:
    """NAMES: say who is in channels."""
    if not line.params:
        session.numeric("366", "*", "End of NAMES list")
        return
    asked = dict.fromkeys(filter(None, line.params[0].split(",")))
    for name in list(asked)[: session.house.config.max_targets]:
        channel = session.network.channel(name)
        if channel is not None and session.network.sees(session.me, channel):
            show_names(session, channel)
        else:
            session.numeric("366", name[:60], "End of NAMES list")


def list_channels(session: IrcSession, line: Line) -> None:
    """LIST: say which channels there are (ELIST: masks, and bounds of how many are in them)."""
    network, user = session.network, session.me
    least, most = 0, 1 << 30
    masks: list[str] = []
    unwanted: list[str] = []
    for word in line.params[0].split(",") if line.params else ():
        if word[:1] in {"<", ">"} and word[1:].isdecimal() and len(word) < 10:
            if word[0] == ">":
                least = int(word[1:]) + 1
            else:
                most = int(word[1:]) - 1
        elif word.startswith("!"):
            unwanted.append(fold(word[1:]))
        elif word:
            masks.append(fold(word))
    session.charge(len(network.channels) * (1 + len(masks) + len(unwanted)))
    session.numeric("321", "Channel", "Users  Name")
    for key, channel in list(network.channels.items()):
        count = len(channel.members)
        if (
            network.sees(user, channel)
            and least <= count <= most
            and (not masks or any(matches(mask, key) for mask in masks))
            and not any(matches(mask, key) for mask in unwanted)
        ):
            session.numeric("322", channel.name, str(count), channel.topic[0])
    session.numeric("323", "End of LIST")


# ---------------------------------------------------------------- having others leave or come


def kick(session: IrcSession, line: Line) -> None:
    """KICK: remove somebody from a channel."""
    channel = _own(session, line.params[0])
    house, user = session.house, session.me
    if channel is None:
        return
    if not channel.is_op(user):
        session.fail("482", channel.name)
        return
    reason = line.params[2] if len(line.params) > 2 else ""
    reason = split_text(reason, house.config.max_reason)[0] or user.nick
    targets = list(dict.fromkeys(filter(None, line.params[1].split(","))))
    for nick in targets[: house.config.max_targets]:
        target = session.network.nick(nick)
        if target is None:
            session.fail("401", nick[:60])
        elif target not in channel.members:
            session.fail("441", target.nick, channel.name)
        else:
            remove(house, channel, target, user.mask, reason)
            session.tell(
                "kick",
                {"channel": channel.name, "target": target.nick, "reason": reason},
                fold(channel.name),
            )


def remove(house: House, channel: Channel, user: User, by: str, reason: str) -> None:
    """Remove somebody from a channel."""
    house.change(
        do="kick", uid=user.uid, channel=channel.name, by=by, reason=reason, at=house.now()
    )


def invite(session: IrcSession, line: Line) -> None:
    """INVITE: ask somebody into a channel."""
    house, user = session.house, session.me
    target = session.network.nick(line.params[0])
    if target is None:
        session.fail("401", line.params[0][:60])
        return
    channel = _own(session, line.params[1])
    if channel is None:
        return
    if target in channel.members:
        session.fail("443", target.nick, channel.name)
    elif "i" in channel.modes and not channel.is_op(user):
        session.fail("482", channel.name)
    else:
        house.change(
            do="invite", uid=target.uid, channel=channel.name, by=user.mask, at=house.now()
        )
        session.numeric("341", target.nick, channel.name)
        if target.away:
            session.numeric("301", target.nick, target.away)
