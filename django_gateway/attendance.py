"""What a routing table does for sessions and users that its consumers do not do themselves.

A channel session is deleted by whoever runs the connection's ``disconnect``. Where consumers of
a protocol are decorated for sessions, or every connection is authenticated (the setting
``at_connect``), each of the protocol's disconnect consumers does so, and one is added behind
them. With ``at_connect`` each of its connect consumers looks for the user, and one is added where
there is none. Any other table stays as it is; so do protocols of requests, which have no
connection whose session it could be.
"""

from __future__ import annotations

from collections.abc import Iterable

from django_gateway import auth_settings
from django_gateway.message import Message
from django_gateway.routing import Route


def attend(routes: Iterable[Route]) -> list[Route]:
    """Return the routes of a table, and what sessions need beside them."""
    table = list(routes)
    channels = {channel for one in table for channel in one.channels}
    at_connect = auth_settings.read().at_connect
    of_requests = {one.partition(".")[0] for one in channels if one.endswith(".request")}
    kept = {
        channel.partition(".")[0]
        for one in table
        if at_connect or getattr(one.consumer, "keeps_sessions", False)
        for channel in one.channels
        if channel.rpartition(".")[2] in {"connect", "receive", "disconnect"}
    } - of_requests
    ends = {f"{protocol}.disconnect" for protocol in kept}
    begins = {f"{protocol}.connect" for protocol in kept} if at_connect else set()
    if not kept:
        return table
    from django_gateway.sessions import around  # noqa: PLC0415 - only where there are sessions

    ending = around("channel_session", _end)
    beginning = around("channel_session_user", _begin)
    found: list[Route] = []
    for one in table:
        for decorate, several in ((ending, ends), (beginning, begins)):
            mine = tuple(channel for channel in one.channels if channel in several)
            if mine:
                attended = Route(mine, decorate(one.consumer), one.filters, calls=one.calls)
                attended.name = one.name
                found.append(attended)
        rest = tuple(channel for channel in one.channels if channel not in ends | begins)
        if rest:
            found.append(one if rest == one.channels else one.on(rest))
    # behind all others: what no filter of theirs takes has a session all the same
    found += [Route((one,), ending(keep_sessions), {}) for one in sorted(ends)]
    found += [Route((one,), beginning(keep_sessions), {}) for one in sorted(begins - channels)]
    return found


def _begin(message: Message) -> None:
    if "reply_channel" in message:  # a channel of the application's own may have such a name, too
        _ = message.user


def _end(message: Message) -> None:
    if "reply_channel" in message:
        _ = message.channel_session


def keep_sessions(message: Message) -> None:
    """Leave it at what stands around."""
