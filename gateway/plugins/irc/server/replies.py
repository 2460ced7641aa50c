"""What the application says to one client: it may do all that the client may, and more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeGuard

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import OK, REJECTED, Drop, Message, Outcome
from gateway.plugins.irc import translate
from gateway.plugins.irc.lines import fold, is_sayable, split_text
from gateway.plugins.irc.server import channels, modes, registration, talk
from gateway.plugins.irc.server.event import stamp
from gateway.plugins.irc.server.network import Channel, User
from gateway.plugins.irc.server.pending import Pending

if TYPE_CHECKING:
    from gateway.plugins.irc.server.session import IrcSession

TALK = frozenset(translate.FORMS)
"""Types of what is said."""


def direct(session: IrcSession, conversation: str | None, reply: Message) -> None:
    """Do what a reply says. Raises `LocalProtocolError` for what cannot be."""
    text = translate.text_of(reply)
    check(reply)
    if "accept" in reply:
        _decide(session, conversation, Outcome(REJECTED, reason=reply.get("reason", "")), reply)
    elif session.user is None and text is not None:
        _decide(session, conversation, OK, {"accept": True})
    if session.user is not None:
        kind = reply.get("type", "message")
        if kind in TALK:
            if text is not None:
                _say(session, conversation, kind, text, reply)
        else:
            _do(session, conversation, kind, text or "", reply)
    if reply.get("close"):
        _close(session, reply)


def check(reply: Message) -> None:
    """Raise `LocalProtocolError` where one of its words is none."""
    for key in ("channel", "target", "nick", "mask", "account", "modes"):
        if key in reply and (not is_sayable(reply[key]) or " " in reply[key] or not reply[key]):
            raise LocalProtocolError(f"{key!r} is empty, or has a space, CR, LF or NUL in it")
    if not is_sayable(reply.get("reason", "")):
        raise LocalProtocolError("'reason' has CR, LF or NUL in it")


def grouped(session: IrcSession, conversation: str | None, reply: Message) -> None:
    """Show this client what was said in a group. Raises `LocalProtocolError`."""
    text = translate.text_of(reply)
    if session.user is None or "accept" in reply:
        raise LocalProtocolError("a group does not decide on who is let in")
    if text is not None:
        _show(session, conversation, reply)
    elif reply.get("type", "message") not in TALK:
        raise LocalProtocolError(f"a group says things; {reply['type']!r} is for one reply channel")
    if reply.get("close"):
        _close(session, reply)


def _decide(
    session: IrcSession, conversation: str | None, refused: Outcome, reply: Message
) -> None:
    outcome = OK if reply["accept"] else refused
    pending = session.waits_for
    if session.user is None and pending is session.entry and session.entry.asked:
        if reply["accept"]:
            registration.let_in(session)
        else:
            session.close(" ".join(outcome.reason.split()) or "You are not let in", code="465")
    elif _is_asked(pending, conversation):
        session.resume(pending, lambda: pending.decided(session, outcome))
    elif not reply["accept"]:
        raise LocalProtocolError("nothing waits for a decision")


def _is_asked(
    pending: Pending | None, conversation: str | None
) -> TypeGuard[channels.Joining | registration.Authentication]:
    """Return whether something waits for a decision on that conversation."""
    if isinstance(pending, channels.Joining):
        return fold(pending.name) == conversation
    return isinstance(pending, registration.Authentication) and conversation is None


def _close(session: IrcSession, reply: Message) -> None:
    if reply["close"] is not True:
        session.house.drop(Drop.FOREIGN_CODE)  # there are no codes for that
    session.close(split_text(reply.get("reason", "") or "Closed by the application", 300)[0])


# ---------------------------------------------------------------- saying


def _say(
    session: IrcSession, conversation: str | None, kind: str, text: str, reply: Message
) -> None:
    house = session.house
    named = reply.get("channel")
    where = named or conversation or ""
    user = (
        None if where.startswith("#") else session.user if named is None else _user(session, named)
    )
    if user is not None and user is session.user:
        _show(session, None, reply)
        return
    nick = reply.get("nick") or house.service.nick
    source: dict[str, Any] = {"nick": nick, "mask": talk.mask_of(house, reply)}
    message = talk.message_of(kind, text, source, stamp(house.now()), reply.get("tags"))
    if user is not None:
        talk.whisper(house, user, message)
        return
    channel = _channel(session, where)
    list(talk.events(channel.name, message["irc"], source["mask"], 0.0))  # it can be said
    said = session.undecided(conversation)
    if said is not None and fold(channel.name) == conversation:
        said.after.append(lambda: talk.utter(house, channel, message))
    else:
        talk.utter(house, channel, message)


def _show(session: IrcSession, conversation: str | None, reply: Message) -> None:
    """Tell this client alone."""
    house = session.house
    target = session.me.nick
    if conversation is not None and conversation.startswith("#"):
        channel = session.network.channel(conversation)
        target = conversation if channel is None else channel.name
    for event in talk.events(target, reply, talk.mask_of(house, reply), house.now()):
        session.push(event)


def _user(session: IrcSession, nick: str) -> User:
    user = session.network.nick(nick)
    if user is None:
        raise LocalProtocolError(f"nobody is called {nick[:60]!r}")
    return user


def _channel(session: IrcSession, name: str) -> Channel:
    channel = session.network.channel(name)
    if channel is None:
        raise LocalProtocolError(f"there is nobody in {name[:60]!r}")
    return channel


# ---------------------------------------------------------------- doing


def _do(
    session: IrcSession, conversation: str | None, kind: str, text: str, reply: Message
) -> None:
    house, me = session.house, session.me
    if kind == "nick":
        if not registration.is_nick(house, text):
            raise LocalProtocolError(f"{text[:60]!r} is no nick")
        if session.waits_for is not None:
            raise LocalProtocolError("the client waits for something else")
        registration.take_nick(session, text)
        return
    name = reply.get("channel") or conversation or ""
    if not channels.is_channel(house, name):
        raise LocalProtocolError(f"{kind!r} takes a 'channel'; {name[:60]!r} is none")
    if kind == "join":
        if session.network.channel(name) not in me.channels:
            channels.enter(session, name)
        return
    channel = _channel(session, name)
    by = talk.mask_of(house, reply)
    if kind == "part":
        if channel not in me.channels:
            raise LocalProtocolError(f"it is not in {channel.name}")
        reason = split_text(text, house.config.max_reason)[0]
        house.change(do="part", uid=me.uid, channel=channel.name, reason=reason, at=house.now())
    elif kind == "topic":
        topic = split_text(text, house.config.max_topic)[0]
        house.change(do="topic", channel=channel.name, text=topic, by=by, at=house.now())
    elif kind == "kick":
        target = session.network.nick(reply.get("target") or me.nick)
        if target is None or target not in channel.members:
            raise LocalProtocolError(f"that nick is not in {channel.name}")
        reason = split_text(text, house.config.max_reason)[0] or by.partition("!")[0]
        channels.remove(house, channel, target, by, reason)
    elif kind == "mode":
        params = [str(one) for one in reply.get("params", ())]
        if not all(map(is_sayable, params)):
            raise LocalProtocolError("'params' has CR, LF or NUL in it")
        changes = modes.read(
            session.network, channel, reply.get("modes", ""), params, _no_mode, 1 << 30, 1 << 30
        )
        if changes:
            house.change(do="mode", channel=channel.name, by=by, changes=changes, at=house.now())
    else:
        raise LocalProtocolError(f"type {kind!r} is for networks that the gateway joins")


def _no_mode(numeric: str, *params: str, text: str = "") -> NoReturn:
    raise LocalProtocolError(f"modes: {' '.join(params)} {text or numeric}")
