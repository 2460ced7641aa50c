"""CHATHISTORY: what was said, from what the layer keeps of a channel's group.

https://ircv3.net/specs/extensions/chathistory
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import Message, Outcome
from gateway.plugins.irc.lines import Line
from gateway.plugins.irc.messages import REPLY
from gateway.plugins.irc.server import talk
from gateway.plugins.irc.server.event import Cap, Event
from gateway.plugins.irc.server.house import Kept
from gateway.plugins.irc.server.network import Channel
from gateway.plugins.irc.server.pending import Pending

if TYPE_CHECKING:
    from gateway.plugins.irc.server.session import IrcSession

SELECTORS: Final = {"LATEST": 1, "BEFORE": 1, "AFTER": 1, "AROUND": 1, "BETWEEN": 2}
"""Subcommands, and how many points in time they name."""
_TIME = re.compile(r"timestamp=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z", re.ASCII)


class Recall(Pending):
    """A client asks for what was said."""

    def decided(self, session: IrcSession, outcome: Outcome) -> None:
        """Hear that nobody answered in time."""
        _fail(session, "MESSAGE_ERROR", "CHATHISTORY", "*", "Nothing could be read; try again")


class Bad(Exception):  # noqa: N818 - what it says of a point in time
    """A point in time that is none, or that is not known."""


def _fail(session: IrcSession, code: str, *context: str) -> None:
    *words, text = context
    session.standard("FAIL", "CHATHISTORY", code, *words, text=text)


def chathistory(session: IrcSession, line: Line) -> None:
    """CHATHISTORY: say again what was said in a channel."""
    house, params = session.house, line.params
    word = params[0].upper() if params else "*"
    points = SELECTORS.get(word)
    if not house.config.history or not session.caps & Cap.HISTORY:
        session.fail("421", line.command)
        return
    if points is None:
        _fail(session, "INVALID_PARAMS", word, "That is no subcommand")
        return
    if len(params) < points + 3:
        _fail(session, "NEED_MORE_PARAMS", word, "Not enough parameters")
        return
    channel = session.network.channel(params[1])
    if channel is None or session.me not in channel.members:
        _fail(session, "INVALID_TARGET", word, params[1], "You are not in that channel")
        return
    limit = params[points + 2]
    if not limit.isdecimal() or len(limit) > 9:
        _fail(session, "INVALID_PARAMS", word, limit, "That is no limit")
        return
    pending = Recall()
    session.defer(pending)
    most = min(int(limit), house.config.history)
    house.recall(
        channel,
        partial(_read, session, pending, channel, word, params[2 : points + 2], most),
    )


def _read(
    session: IrcSession,
    pending: Recall,
    channel: Channel,
    word: str,
    points: Sequence[str],
    most: int,
    kept: list[Kept] | None,
) -> None:
    def answer() -> None:
        if kept is None:
            _fail(session, "MESSAGE_ERROR", word, channel.name, "Nothing could be read; try again")
            return
        try:
            chosen = choose(word, points, most, kept)
        except Bad as error:
            _fail(session, "INVALID_PARAMS", word, str(error), "That is no point in time")
            return
        _tell(session, channel, chosen)

    if session.connection is not None:
        session.connection.run(session.resumed(pending, answer))


def _tell(session: IrcSession, channel: Channel, chosen: Sequence[Kept]) -> None:
    batched = session.caps & Cap.BATCH
    batch = session.batch("chathistory", channel.name) if batched else ""
    for _, message in chosen:
        try:
            mask = talk.mask_of(session.house, message)
            told: list[Event] = list(talk.events(channel.name, message, mask, 0.0))
        except LocalProtocolError:
            continue  # was not told at its time, either
        for event in told:
            tags = event.tags_for(session.caps)
            session.put(tags | {"batch": batch} if batch else tags, event.rest)
    if batch:
        session.write("BATCH", f"-{batch}")


# ---------------------------------------------------------------- choosing


def own(message: Message) -> Message | None:
    """Return what a message of a group says to IRC; None if that is no text, or not allowed.

    What was not told at its time, either, must not hide the rest from who asks.
    """
    more = message.get("irc", {})
    whole = {**message, **more} if isinstance(more, dict) else {}
    if not isinstance(whole.get("text"), str):
        return None
    try:
        found: Any = msgspec.convert(whole, REPLY)
    except msgspec.ValidationError:
        return None
    return dict(found)


def seconds(text: str) -> float:
    """Return the time that ``2026-01-31T12:00:00.000Z`` says. Raises ValueError."""
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp()


def dated(kept: Sequence[Kept]) -> list[Kept]:
    """Return what is kept with an id and a time each: of who said none, those before it."""
    found = []
    last = "1970-01-01T00:00:00.000Z"
    for position, message in kept:
        said = message.get("time")
        if isinstance(said, str) and _TIME.fullmatch(f"timestamp={said}") is not None:
            last = said
        found.append((position, {**message, "time": last, "id": message.get("id", position)}))
    return found


def choose(word: str, points: Sequence[str], most: int, kept: Sequence[Kept]) -> list[Kept]:
    """Return what a subcommand asks for, the oldest first. Raises `Bad`."""
    found = list(kept)
    first = _place(points[0], found) if points[0] != "*" or word != "LATEST" else (0, 0)
    if word == "LATEST":
        return found[first[1] :][-most:] if most else []
    if word == "BEFORE":
        return found[: first[0]][-most:] if most else []
    if word == "AFTER":
        return found[first[1] :][:most]
    if word == "AROUND":
        start = max(0, first[0] - most // 2)
        return found[start : start + most]
    second = _place(points[1], found)
    if first[0] <= second[0]:
        return found[first[1] : second[0]][:most]
    return found[second[1] : first[0]][-most:] if most else []


def _place(point: str, kept: Sequence[Kept]) -> tuple[int, int]:
    """Return where a point is: how many are before it, and how many are not after it."""
    if point.startswith("msgid="):
        for place, (_, message) in enumerate(kept):
            if message["id"] == point[6:]:
                return place, place + 1
        raise Bad(point)
    said = _TIME.fullmatch(point)
    if said is None:
        raise Bad(point)
    try:
        at = seconds(said[1])
    except ValueError:
        raise Bad(point) from None
    times = [seconds(message["time"]) for _, message in kept]
    return sum(1 for one in times if one < at), sum(1 for one in times if one <= at)
