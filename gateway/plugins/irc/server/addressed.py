"""What is sent to an address of the gateway's own network, from anywhere.

``irc.say!NETWORK.TARGET``, with the name that ``irc.network`` has and a channel or a nick of it,
and ``irc.say`` with the keys ``network`` and ``channel``. It is heard wherever the target is; a
channel that nobody of IRC is in is a group all the same, whose other members hear it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, get_type_hints

import msgspec

from gateway.core.errors import LocalProtocolError, MessageTooLarge
from gateway.core.plugin import OK, REJECTED, Drop, Message, Outcome
from gateway.plugins.irc import messages, translate
from gateway.plugins.irc.lines import is_sayable
from gateway.plugins.irc.server import replies, talk
from gateway.plugins.irc.server.event import stamp
from gateway.plugins.irc.server.house import House

KNOWN: Final = frozenset(get_type_hints(messages.REPLY))
OURS: Final = ("accept", "close", "pin", "reason")
"""Keys that ask for what an address has not: a connection."""


def say(
    house: House, send: Callable[[str, Message], None], target: str | None, message: Message
) -> Outcome:
    """Say it to a channel, by ``send(channel, message)``, or to a nick.

    Returns what became of it.
    """
    foreign = [key for key in OURS if message.pop(key, None) is not None]
    if foreign:
        house.drop(Drop.FOREIGN_CODE, len(foreign))
    try:
        _say(house, send, target, message)
    except (LocalProtocolError, msgspec.ValidationError) as error:
        house.drop(Drop.INVALID)
        return Outcome(REJECTED, reason=str(error), cause="invalid")
    except MessageTooLarge as error:
        house.drop(Drop.TOO_BIG)
        return Outcome(REJECTED, reason=str(error), cause="too_big")
    except LookupError as error:
        house.drop(Drop.GONE)
        return Outcome(REJECTED, reason=str(error.args[0]), cause="gone")
    return OK


def _say(
    house: House, send: Callable[[str, Message], None], target: str | None, message: Message
) -> None:
    if unknown := sorted(set(message) - KNOWN):
        raise LocalProtocolError(f"unknown key {', '.join(map(repr, unknown[:5]))}")
    reply: dict[str, Any] = msgspec.convert(message, messages.REPLY)
    replies.check(reply)
    text, kind = translate.text_of(reply), reply.get("type", "message")
    target = target or reply.get("channel")
    if not target or " " in target or not is_sayable(target):
        raise LocalProtocolError("it takes a target: a channel, or a nick")
    if kind not in translate.FORMS:
        raise LocalProtocolError(f"type {kind!r} is for one client, by its reply channel")
    if text is None:
        return
    source: dict[str, Any] = {
        "nick": reply.get("nick") or house.service.nick,
        "mask": talk.mask_of(house, reply),
    }
    said = talk.message_of(kind, text, source, stamp(house.now()), reply.get("tags"))
    list(talk.events(target, said["irc"], source["mask"], 0.0))  # it can be said
    if target.startswith("#"):
        send(target, said)
        return
    user = house.network.nick(target)
    if user is None:
        raise LookupError(f"nobody is called {target[:60]!r}")
    house.whisper(user, said)
