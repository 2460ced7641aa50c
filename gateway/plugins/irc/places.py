"""Addresses: where a conversation on a network is answered. Pure.

========================  ================================================
``irc.say!NETWORK.TARGET``  a channel, or a nick, of that network
``irc.say!NETWORK``         the network: for what names its channel itself
========================  ================================================

The gateway's own network (``irc.network``) is one of them. They survive restarts, may be stored,
and may be members of groups.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from gateway.core.names import check_channel, escape, unescape
from gateway.core.plugin import Message

SAY: Final = "irc.say"


@lru_cache(maxsize=10_000)  # whoever speaks has mostly spoken before
def place(network: str, target: str | None) -> str | None:
    """Return the address of a conversation; None where it would be over 200 characters."""
    parts = [escape(part, dot=True) for part in (network, target) if part]
    try:
        return check_channel(f"{SAY}!{'.'.join(parts)}")
    except ValueError:
        return None


def read(channel: str) -> tuple[str, str | None]:
    """Return the network and the target of an address. Raises ValueError where it is none."""
    network, *target = channel.removeprefix(f"{SAY}!").split(".")
    if not network or len(target) > 1:
        raise ValueError(f"{channel!r} is not an address: {SAY}!NETWORK.TARGET")
    return unescape(network), unescape(target[0]) if target else None


def destination(channel: str, message: Message) -> tuple[str | None, str | None]:
    """Return the network and the target of what was sent to ``irc.say`` or an address.

    The network is None where none is named. ``network``, which the normal channel takes, is taken
    out of the message.
    """
    network: Any = message.pop("network", None)
    if channel == SAY:
        return network if isinstance(network, str) else None, None
    try:
        return read(channel)
    except ValueError:
        return None, None
