"""The messages of the irc plugin, both roles: what it emits, and what it understands. Pure.

The core adds ``reply_channel``, ``order``, ``client`` and ``server`` to what is emitted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final, Literal, TypedDict

from msgspec import Meta

from gateway.core import names
from gateway.plugins.irc.lines import CaseMapping, fold

NETWORK = Meta(description="The name of the network; in the server role ``irc.network``.")
CHANNEL = Meta(description="The channel, such as ``#room``.")
MASK = Meta(description="Who it is: ``nick!user@host``.")
NICK = Meta(description="The nick of that.")


@lru_cache(maxsize=1000)  # asked for with every line that is said there
def channel_group(channel: str, mapping: CaseMapping = "rfc1459") -> str:
    """Return the name of the group that a channel of the server role is.

    Raises ValueError if it would exceed 200 characters.

    >>> channel_group("#Room")
    'irc._23room'
    """
    return names.check_group("irc." + names.escape(fold(channel, mapping)))


class Connect(TypedDict, total=False):
    """A client asks to be let in (server role); a network let us in (client role)."""

    network: Annotated[str, NETWORK]
    nick: Annotated[str, Meta(description="The nick that it wants; in the client role ours.")]
    username: Annotated[str, Meta(description="What the client calls its user.")]
    realname: Annotated[str, Meta(description="The real name that it gives.")]
    password: Annotated[
        str | None, Meta(description="What it sent with PASS.", extra={"secret": True})
    ]
    host: Annotated[str, Meta(description="Client role: the server that we are connected to.")]


class Authenticate(TypedDict, total=False):
    """Server role: a client says who it is (SASL PLAIN). Accepted, it is ``identity`` from then."""

    network: Annotated[str, NETWORK]
    mechanism: Annotated[str, Meta(description="The mechanism of SASL: PLAIN.")]
    username: Annotated[str, Meta(description="Who it says it is.")]
    password: Annotated[str, Meta(description="What proves it.", extra={"secret": True})]


class Join(TypedDict, total=False):
    """Somebody joined a channel; in the server role: asks to, until this is accepted."""

    network: Annotated[str, NETWORK]
    channel: Annotated[str, CHANNEL]
    mask: Annotated[str, MASK]
    nick: Annotated[str, NICK]
    account: Annotated[str | None, Meta(description="The account, where the network says it.")]
    key: Annotated[
        str | None,
        Meta(description="Server role: the channel key that was given.", extra={"secret": True}),
    ]


class Part(TypedDict, total=False):
    """Somebody left a channel."""

    network: Annotated[str, NETWORK]
    channel: Annotated[str, CHANNEL]
    mask: Annotated[str, MASK]
    nick: Annotated[str, NICK]
    reason: Annotated[str, Meta(description="Words, where there are any.")]


class Kick(TypedDict, total=False):
    """Somebody was removed from a channel."""

    network: Annotated[str, NETWORK]
    channel: Annotated[str, CHANNEL]
    mask: Annotated[str, Meta(description="Who did it: ``nick!user@host``.")]
    nick: Annotated[str, NICK]
    target: Annotated[str, Meta(description="The nick of who was removed.")]
    reason: Annotated[str, Meta(description="Words, where there are any.")]


class Mode(TypedDict, total=False):
    """Somebody changed the modes of a channel."""

    network: Annotated[str, NETWORK]
    channel: Annotated[str, CHANNEL]
    mask: Annotated[str, MASK]
    nick: Annotated[str, NICK]
    modes: Annotated[str, Meta(description="The letters, with signs: ``+o-v``.")]
    params: Annotated[list[str], Meta(description="Their parameters, in order.")]


class Nick(TypedDict, total=False):
    """Somebody took another nick."""

    network: Annotated[str, NETWORK]
    mask: Annotated[str, Meta(description="Who it was: ``nick!user@host``, with the old nick.")]
    nick: Annotated[str, Meta(description="The old nick.")]
    text: Annotated[str, Meta(description="The new nick.")]


class Quit(TypedDict, total=False):
    """Client role: somebody left the network."""

    network: Annotated[str, NETWORK]
    mask: Annotated[str, MASK]
    nick: Annotated[str, NICK]
    reason: Annotated[str, Meta(description="Words, where there are any.")]


class Topic(TypedDict, total=False):
    """Somebody set the topic of a channel."""

    network: Annotated[str, NETWORK]
    channel: Annotated[str, CHANNEL]
    mask: Annotated[str, MASK]
    nick: Annotated[str, NICK]
    text: Annotated[str, Meta(description="The topic; empty, there is none any more.")]


class Receive(TypedDict, total=False):
    """Somebody says something, in a channel or to one.

    In the server role others hear it once this is accepted.
    """

    network: Annotated[str, NETWORK]
    type: Annotated[
        Literal["message", "action", "notice"],
        Meta(description="``message``, ``action`` (``/me``) or ``notice``; never answer a notice."),
    ]
    mask: Annotated[str, MASK]
    nick: Annotated[str, NICK]
    channel: Annotated[
        str | None, Meta(description="The channel; None where it was said in private.")
    ]
    target: Annotated[
        str, Meta(description="To whom it was said: the channel, or the nick as it was written.")
    ]
    text: Annotated[str, Meta(description="What was said, with the formatting of mIRC.")]
    tags: Annotated[dict[str, str], Meta(description="The tags of IRCv3.")]


class Disconnect(TypedDict, total=False):
    """The connection is over, whoever ended it. One for each that was accepted."""

    network: Annotated[str, NETWORK]
    nick: Annotated[str, Meta(description="Server role: whose it was.")]
    reason: Annotated[str, Meta(description="What was said at the end: the words of QUIT, say.")]


class Reply(TypedDict, total=False):
    """The uniform reply, and what IRC adds to it.

    The same keys on the addresses ``irc.say!NETWORK.TARGET`` of the client role, and in what is
    sent to the group of a channel (`channel_group`) of the server role.
    """

    text: Annotated[
        str,
        Meta(
            description="Say this, cut where a line is full; newlines make several. With ``type`` "
            "``topic`` the topic, ``part`` and ``kick`` the words, ``nick`` the new nick, "
            "``raw`` the line."
        ),
    ]
    bytes: Annotated[bytes, Meta(description="The same as bytes: UTF-8, or else Latin-1.")]
    type: Annotated[
        Literal[
            "message", "action", "notice", "join", "part", "nick", "topic", "kick", "mode", "raw"
        ],
        Meta(description="What it is; ``message`` if it is not said. ``raw`` in the client role."),
    ]
    channel: Annotated[
        str,
        Meta(
            description="Where it is said, or ``join``, ``part`` and such are: a channel, or the "
            "nick to say it to. What it answers, if not said."
        ),
    ]
    network: Annotated[
        str, Meta(description="On the normal channel ``irc.say``: the network of the client role.")
    ]
    target: Annotated[str, Meta(description="``kick``: the nick of who is removed.")]
    key: Annotated[
        str,
        Meta(description="``join`` in the client role: the channel's key.", extra={"secret": True}),
    ]
    modes: Annotated[str, Meta(description="``mode``: the letters, with signs: ``+o-v``.")]
    params: Annotated[list[str], Meta(description="``mode``: their parameters, in order.")]
    nick: Annotated[
        str,
        Meta(
            description="Who says it. Server role: ``irc.nick`` if it is not said. Client role: it "
            "stands before the text, ``<alice> hi``."
        ),
    ]
    mask: Annotated[str, Meta(description="Server role: the same, as ``nick!user@host``.")]
    account: Annotated[str, Meta(description="Server role: the account of who says it.")]
    id: Annotated[str, Meta(description="Server role: the id of it (``msgid``).")]
    time: Annotated[
        str, Meta(description="Server role: when it was said, ``2026-01-31T12:00:00.000Z``.")
    ]
    tags: Annotated[dict[str, str], Meta(description="Tags of IRCv3 to say it with.")]
    accept: Annotated[
        bool, Meta(description="Let the client in, or what it asked for, while undecided.")
    ]
    close: Annotated[bool | int, Meta(description="Server role: end the connection (ERROR).")]
    reason: Annotated[str, Meta(description="The words for ``close`` or a refusal.")]
    pin: Annotated[
        str,
        Meta(
            pattern=names.PIN_PATTERN,
            description="From now on what this connection sends, and its disconnect, goes to one "
            "worker process: `pin.` and the name of that process on the layer. In a direct reply "
            "only.",
        ),
    ]
    ack: Annotated[int, Meta(description="Report under this number when it is done.")]
    ack_channel: Annotated[str, Meta(description="Where to report, a ``?`` channel.")]


KINDS: Final = {
    "authenticate": Authenticate,
    "connect": Connect,
    "join": Join,
    "part": Part,
    "kick": Kick,
    "mode": Mode,
    "nick": Nick,
    "quit": Quit,
    "topic": Topic,
    "receive": Receive,
    "disconnect": Disconnect,
}
"""What the plugin emits, by kind."""

REPLY: Final = Reply
"""What the plugin understands."""
