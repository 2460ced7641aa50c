"""What is said: PRIVMSG, NOTICE, TAGMSG; asked of the application first, relayed then."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from gateway.core.errors import LocalProtocolError, MessageTooLarge
from gateway.core.plugin import REJECTED, UNROUTED, Drop, Message, Outcome
from gateway.plugins.irc import translate
from gateway.plugins.irc.lines import MAX_REST, Line, fold, is_tag
from gateway.plugins.irc.server.event import Cap, Event, stamp
from gateway.plugins.irc.server.network import Channel, User
from gateway.plugins.irc.server.numerics import OF_TALK, TEXTS
from gateway.plugins.irc.server.pending import Pending, is_good, words

if TYPE_CHECKING:
    from gateway.plugins.irc.server.house import House
    from gateway.plugins.irc.server.session import IrcSession


_FOREIGN = re.compile(r"[^A-Za-z0-9\[\]\\`_^{|}-]", re.ASCII)
_MASK = re.compile(r"[^ :\r\n\0][^ \r\n\0]{0,199}")  # with room for a text behind it


def new_id() -> str:
    """Return an id for something that is said."""
    return f"{random.getrandbits(96):x}"  # no secret: it only must not come twice


def message_of(
    type: str,  # noqa: A002 - the key's name
    text: str,
    source: Mapping[str, str],
    at: str,
    tags: Mapping[str, str] | None = None,
) -> Message:
    """Return what somebody says as what is sent to all: for other protocols who says it, too."""
    own = {"type": type, "text": text, **source, "id": new_id(), "time": at}
    if tags:
        own["tags"] = dict(tags)  # type: ignore[assignment] # a message
    if text.startswith(translate.CTCP):
        return {"irc": own}  # a request between clients: nothing that others can read
    return {"text": translate.by(type, source["nick"], text), "irc": own}


def source_of(user: User) -> dict[str, str]:
    """Return who says it, as keys of a message."""
    found = {"nick": user.nick, "mask": user.mask}
    if user.account:
        found["account"] = user.account
    return found


def events(target: str, message: Message, source: str, now: float) -> Iterator[Event]:
    """Iterate over the lines that say a message to a target; it is cut where a line is full.

    Raises `LocalProtocolError` for what no line can carry.
    """
    text = translate.text_of(message) or ""
    kind = message.get("type", "message")
    if kind not in translate.FORMS:
        raise LocalProtocolError(f"type {kind!r} is not said to all: send it to one reply channel")
    room = MAX_REST - len(f":{source} PRIVMSG {target} :\r\n".encode())
    at = message.get("time", now)
    said = [
        one
        for line in translate.lines_of(text)
        for one in translate.pieces(kind, line, max(16, room))
    ]
    for number, (command, piece) in enumerate(said):
        yield Event(
            command,
            target,
            piece,
            source=source,
            at=at,
            account=message.get("account"),
            id="" if number else message.get("id", ""),
            tags=message.get("tags") if not number else None,
        )


def mask_of(house: House, message: Message) -> str:
    """Return who says a message: as it says, or the nick that is for the application.

    A name that a guest gave is that guest's, whoever has it as a nick: so no page speaks as a
    client. Raises `LocalProtocolError` for a mask that is none.
    """
    mask: str | None = message.get("mask")
    if mask is not None:
        if _MASK.fullmatch(mask) is None:
            raise LocalProtocolError("'mask' is no nick!user@host")
        return mask
    name = message.get("nick")
    if not name:
        return house.service.mask
    network = house.network
    user = network.guests.get(name) or network.nick(name)
    if user is not None:
        return user.mask
    nick = nick_of(house, name)
    return f"{nick}!{nick}@{house.config.server}"


def nick_of(house: House, name: str) -> str:
    """Return a name as a nick: what no nick has is a ``_``; a number fits behind it."""
    nick = _FOREIGN.sub("_", name)[: house.config.max_nick - 4]
    return f"_{nick}" if nick[0].isdigit() or nick[0] == "-" else nick


# ---------------------------------------------------------------- by clients


class Said(Pending):
    """Something that a client says, on which the application decides."""

    blocks = False
    conversation = ""
    """Where it is answered."""

    def __init__(self, target: str, message: Message, mask: str, command: str) -> None:
        self.target = target
        self.message = message
        self.mask = mask
        self.command = command
        self.after: list[Callable[[], None]] = []
        """What the application answers in the same place: others hear it after what it answers."""

    def decided(self, session: IrcSession, outcome: Outcome) -> None:
        """Hear whether others may hear it; then they hear what answers it."""
        self._decide(session, outcome)
        for one in self.after:
            one()

    def _decide(self, session: IrcSession, outcome: Outcome) -> None:
        if is_good(outcome, unrouted=session.house.config.relay):
            relay(session, self, routed=outcome.kind != UNROUTED)
        elif self.command == "NOTICE":
            session.house.refuse_notice()  # nobody is answered for a notice
        else:
            code = outcome.code if outcome.kind == REJECTED else None
            if code is not None and code not in OF_TALK:
                session.house.drop(Drop.FOREIGN_CODE)
                code = None
            numeric = str(code or 404)
            why = words(outcome) or TEXTS.get(numeric, TEXTS["404"])
            session.fail(numeric, self.target, text=why)


def privmsg(session: IrcSession, line: Line) -> None:
    """PRIVMSG, NOTICE: say something to channels or nicks."""
    quiet = line.command == "NOTICE"
    if not line.params or not line.params[0]:
        if not quiet:
            session.fail("411", text=f"No recipient given ({line.command})")
        return
    if len(line.params) == 1 or not line.params[1]:
        if not quiet:
            session.fail("412")
        return
    targets = list(dict.fromkeys(filter(None, line.params[0].split(","))))
    if len(targets) > session.house.config.max_targets:
        if not quiet:
            session.fail("407", line.params[0][:60])
        return
    for target in targets:
        _say(session, target, line)


def _say(session: IrcSession, target: str, line: Line) -> None:
    house, me = session.house, session.me
    quiet = line.command == "NOTICE"
    found = _listener(session, target, quiet=quiet)
    if found is None:
        return
    kind, text = translate.heard(line.command, line.params[1])
    tags = client_tags(line)
    message = message_of(kind, text, source_of(me), stamp(house.now()), tags)
    channel = found if isinstance(found, Channel) else None
    name = found.name if isinstance(found, Channel) else found.nick
    said = Said(name, message, me.mask, line.command)
    if house.routed("receive") is False and house.config.relay:
        relay(session, said, routed=False)
        return
    key = fold(name) if channel is not None else session.private(name)
    session.defer_talk(said, key)
    session.emit(
        "receive",
        {
            "type": kind,
            "mask": me.mask,
            "nick": me.nick,
            "channel": None if channel is None else channel.name,
            "target": name,
            "text": text,
            "tags": tags,
        },
        said,
        key,
    )


def client_tags(line: Line) -> dict[str, str]:
    """Return the tags of a line that are for other clients."""
    if not line.tags:
        return {}
    return {key: value for key, value in line.tags.items() if key[0] == "+" and is_tag(key)}


def _listener(session: IrcSession, target: str, *, quiet: bool) -> Channel | User | None:
    """Return to whom something is said; say why not, where that cannot be."""
    if target.startswith("#"):
        channel = session.network.channel(target)
        if channel is None:
            if not quiet:
                session.fail("403", target[:60])
            return None
        if not may_speak(channel, session.me):
            if not quiet:
                session.fail("404", channel.name)
            return None
        return channel
    user = session.network.nick(target)
    if user is None and not quiet:
        session.fail("401", target[:60])
    elif user is not None and user.away and not quiet:
        session.numeric("301", user.nick, user.away)
    return user


def may_speak(channel: Channel, user: User) -> bool:
    """Return whether somebody may say something in a channel."""
    if channel.has_voice(user):
        return True
    if "m" in channel.modes or ("n" in channel.modes and user not in channel.members):
        return False
    return not channel.bars(user)


def relay(session: IrcSession, said: Said, *, routed: bool) -> None:
    """Have others hear it, and the client itself where it wants its echo."""
    house, me = session.house, session.user
    target = said.target
    message = said.message
    try:
        if target.startswith("#"):
            channel = session.network.channel(target)
            if channel is not None:
                house.say(channel, message, me)
        else:
            user = session.network.nick(target)
            if user is None:
                session.fail("401", target)
                return
            if user is house.service:
                if not routed:
                    session.fail("404", target, text="Nobody is there to hear that")
                    return
            else:
                house.whisper(user, message)
    except MessageTooLarge:
        house.drop(Drop.TOO_BIG)
        session.fail("404", target, text="That is too long")
        return
    if me is not None and session.caps & Cap.ECHO:
        for event in events(target, message["irc"], said.mask, house.now()):
            session.push(event)


def whisper(house: House, user: User, message: Message) -> None:
    """Have one hear what the application says to it."""
    try:
        house.whisper(user, message)
    except MessageTooLarge:
        house.drop(Drop.TOO_BIG)


def utter(house: House, channel: Channel, message: Message) -> None:
    """Have all hear what the application says in a channel."""
    try:
        house.say(channel, message)
    except MessageTooLarge:
        house.drop(Drop.TOO_BIG)


def tagmsg(session: IrcSession, line: Line) -> None:
    """TAGMSG: have others told nothing but tags."""
    house, me = session.house, session.me
    if not line.params or not line.params[0]:
        session.fail("411", text="No recipient given (TAGMSG)")
        return
    tags = client_tags(line)
    targets = list(dict.fromkeys(filter(None, line.params[0].split(","))))
    if not tags or not session.caps & Cap.TAGS:
        return
    if len(targets) > house.config.max_targets:
        session.fail("407", line.params[0][:60])
        return
    for target in targets:
        found = _listener(session, target, quiet=False)
        if found is None:
            continue
        where = {"channel": found.name} if isinstance(found, Channel) else {"to": found.uid}
        house.change(do="tags", uid=me.uid, tags=tags, id=new_id(), at=house.now(), **where)
