"""What the application says, made lines. Pure.

Every line is one that the network passes on whole: its text is cut where it would be over 512
bytes with our mask before it, which the network adds. Newlines in a text make several lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import Message
from gateway.plugins.irc.client.standing import Standing
from gateway.plugins.irc.client.throttle import Line
from gateway.plugins.irc.lines import MAX_REST, decode, encode, encode_tags, is_sayable
from gateway.plugins.irc.translate import CTCP, by, lines_of, pieces

OURS: Final = ("accept", "close", "pin", "reason")
"""Keys of a reply that mean nothing here: there is nobody to be let in or closed."""

LEAST: Final = 32
"""Bytes of a text that must fit a line: below that nothing can be read."""

_NOTHING: Final = frozenset((*OURS, "ack", "ack_channel"))
_SPOKEN: Final = {"message": "PRIVMSG", "action": "PRIVMSG", "notice": "NOTICE"}


def lines(standing: Standing, target: str | None, reply: Message, token: Any) -> list[Line]:
    """Return a reply as lines. ``target`` is whom its conversation is with; None: the network.

    Raises LocalProtocolError where IRC cannot do it.
    """
    kind = reply.get("type", "message")
    text = _text(reply)
    if kind == "message" and text is None and _NOTHING.issuperset(reply):
        return []
    to = reply.get("channel") or target
    if kind == "nick":
        to = _needed(text, "'text', the new nick,", kind)
        return [Line(encode("NICK", _name(to)), standing.fold(to), token)]
    if kind == "raw":
        return [Line(_raw(standing, text), "", token)]
    if not to:
        raise LocalProtocolError(f"a reply of the type {kind!r} to a network needs a 'channel'")
    folded = standing.fold(_name(to))
    if kind in _SPOKEN:
        text = _needed(text, "'text' or 'bytes'", kind)
        if nick := reply.get("nick"):  # somebody else says it: of the server role, or of a website
            text = by(kind, nick, text)
            kind = "message" if kind == "action" else kind
        tags = _tags(standing, reply)
        said = _said(standing, kind, to, text)
        return [Line(tags + data, folded, token) for data in said]
    if not standing.is_channel(to):
        raise LocalProtocolError(f"{to[:40]!r} is no channel, which the type {kind!r} is about")
    return [Line(_done(kind, to, text, reply), folded, token)]


def _text(reply: Message) -> str | None:
    text: str | None = reply.get("text")
    if text is None and "bytes" in reply:
        return decode(reply["bytes"])
    return text


def _needed(text: str | None, what: str, kind: str) -> str:
    if not text:
        raise LocalProtocolError(f"a reply of the type {kind!r} needs {what}, which is not empty")
    return text


def _name(target: str) -> str:
    """Return a target that is one: whether there is such a one the network says."""
    if "," in target or " " in target:
        raise LocalProtocolError(f"{target[:40]!r} is not one target; say it to each of several")
    return target


def _tags(standing: Standing, reply: Message) -> bytes:
    """Return the tags that a client may send (those with ``+``), where the network knows tags."""
    tags = {key: value for key, value in reply.get("tags", {}).items() if key[:1] == "+"}
    known = "message-tags" in standing.capabilities.enabled
    return encode_tags(tags) if tags and known else b""


def _said(standing: Standing, kind: str, to: str, text: str) -> Iterator[bytes]:
    command = _SPOKEN[kind]
    room = standing.room_for(command, to)
    if room < LEAST:
        raise LocalProtocolError(f"the name {to[:40]!r} leaves no room for a text")
    if CTCP in text:
        raise LocalProtocolError("\\x01 asks other clients for something; an action has its type")
    found = [piece for line in lines_of(text) if line.strip() for piece in pieces(kind, line, room)]
    if not found:
        raise LocalProtocolError("a text of nothing but space cannot be said")
    if len(found) > standing.network.max_lines:
        raise LocalProtocolError(
            f"that is {len(found)} lines, and irc.networks.{standing.name}.max_lines is "
            f"{standing.network.max_lines}"
        )
    for word, piece in found:
        yield encode(word, to, piece)


def _done(kind: str, channel: str, text: str | None, reply: Message) -> bytes:
    """Return the line of what is done, not said."""
    words = () if not text else (text,)
    if kind == "join":
        key = reply.get("key")
        return encode("JOIN", channel, *((_name(key),) if key else ()))
    if kind == "part":
        return encode("PART", channel, *words)
    if kind == "topic":
        if text is None:
            raise LocalProtocolError("a topic needs a 'text'; an empty one takes it away")
        return encode("TOPIC", channel, text)
    if kind == "kick":
        nick = _needed(reply.get("target"), "a 'target', the nick", kind)
        return encode("KICK", channel, _name(nick), *words)
    modes = _needed(reply.get("modes"), "'modes'", kind)
    return encode("MODE", channel, modes, *reply.get("params", ()))


def _raw(standing: Standing, text: str | None) -> bytes:
    if not standing.network.allow_raw:
        raise LocalProtocolError(
            f"raw lines are not allowed; if they are to be, set irc.networks.{standing.name}"
            ".allow_raw"
        )
    text = _needed(text, "a 'text', the line", "raw")
    if not is_sayable(text):
        raise LocalProtocolError("CR, LF or NUL in a raw line: one reply is one line")
    data = text.encode()
    if len(data) + 2 > MAX_REST:
        raise LocalProtocolError(f"a raw line of {len(data) + 2} bytes is over {MAX_REST}")
    return data + b"\r\n"
