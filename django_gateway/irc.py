r"""What routing tables and consumers call the channels of IRC.

``irc_room`` is the filter of a route, which the client role joins channels by; ``irc_channel`` is
the name of the group that a channel of the server role is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

from django_gateway.filters import Chain, Filter, values_of
from django_gateway.placeholders import ANGLED, BRACED, angled, expression_of

PREFIXES: Final = "#&+!"
"""What names of channels begin with (RFC 2811, section 2.1)."""
_SAME: Final = {one: f"[{re.escape(pair)}]" for pair in ("[{", "]}", "\\|", "^~") for one in pair}
"""Characters that are one as IRC compares names (RFC 1459, section 2.2)."""
_NO_ARGUMENT: Final = re.compile(r"<[^<>]*>|<(?=[^\W\d])|:\w+>")
"""What looks like an argument, and is none."""


class RoomFilter(Filter):
    """What `irc_room` makes."""

    __slots__ = ("room",)

    def __init__(self, room: str) -> None:
        expression, end = "", 0
        converters: dict[str, Callable[[str], Any]] = {}
        for found in ANGLED.finditer(room):
            expression += _plain(room, room[end : found.start()]) + expression_of(
                f"irc_room({room!r})", found["kind"], found["name"], r"[^\s,]+", converters
            )
            end = found.end()
        expression += _plain(room, room[end:])
        compiled = re.compile(expression + r"\Z", re.ASCII | re.IGNORECASE)
        super().__init__(compiled, converters, room)
        self.room = "" if end else room
        """The one channel that it matches; empty where it may be several."""

    def wants(self, beside: Mapping[str, Chain]) -> tuple[str, ...]:
        """Return the channel, to be joined: ``#room``, or ``NETWORK #room``."""
        if not self.room:
            return ()
        if "network" not in beside:
            return (self.room,)
        return tuple(f"{network} {self.room}" for network in values_of(beside["network"]))


def irc_room(room: str) -> Filter:
    """Return the filter of a channel of IRC: ``channel=irc_room("#django")``.

    It matches as networks compare names, whatever the case. The gateway joins the channel while a
    worker has it: on each network of its settings, or on those that the route's filter ``network``
    names. With an argument, ``irc_room("#project-<name>")`` or, as one of Django's path converters
    takes it, ``irc_room("#ticket-<int:ticket>")``, it matches several channels, of which none is
    joined for that. Raises ImproperlyConfigured.
    """
    if not isinstance(room, str) or room[:1] not in tuple(PREFIXES) or len(room) < 2:
        hint = (
            f"; write irc_room('#{room}')" if isinstance(room, str) and room[:1].isalnum() else ""
        )
        raise ImproperlyConfigured(
            f"irc_room() takes the name of a channel such as '#django', not {room!r}{hint}"
        )
    if re.search(r"[\s,\0\a]", room):
        raise ImproperlyConfigured(
            f"irc_room({room!r}): no name of a channel has a space or a comma in it"
        )
    if BRACED.search(room):
        raise ImproperlyConfigured(
            f"irc_room({room!r}) would match no other channel than that of this very name; an "
            f"argument is written irc_room({angled(room)!r})"
        )
    try:
        return RoomFilter(room)
    except re.error as error:
        raise ImproperlyConfigured(f"irc_room({room!r}): {error}") from None


def _plain(room: str, text: str) -> str:
    found = _NO_ARGUMENT.search(text)
    if found is not None:
        raise ImproperlyConfigured(
            f"irc_room({room!r}): {found[0]!r} is no argument; one is written <name> or <int:name>"
        )
    return "".join(_SAME.get(one) or re.escape(one) for one in text)


def irc_channel(channel: str) -> str:
    """Return the name of the group that a channel of the gateway's own network is.

    ``Group(irc_channel("#room")).send({"text": "hi", "irc": {"nick": "alice"}})``. Raises
    ValueError for what is no channel, or too long for a group's name.
    """
    from gateway.plugins.irc.messages import channel_group  # noqa: PLC0415 - only then

    if not isinstance(channel, str) or channel[:1] not in tuple(PREFIXES):
        raise ValueError(
            f"irc_channel() takes the name of a channel such as '#room', not {channel!r}"
        )
    return channel_group(channel)
