"""`Rooms`: channels as groups. Who is in one is in the other, whatever protocol it came by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.core import names
from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import Context, Drop, Gathering, Message
from gateway.plugins.irc.lines import clean, fold
from gateway.plugins.irc.server import talk
from gateway.plugins.irc.server.house import House
from gateway.plugins.irc.server.network import Channel, User

PREFIX: Final = "irc._23"
"""What the names of groups begin with that are channels: ``#`` is escaped."""
NAME: Final = 60
"""Characters of the name of a guest, as it is shown."""
GUEST: Final = "guest"
"""User name and, behind ``@``, host of who is here by another protocol."""


class Rooms(Gathering):
    """What happens to the groups that are channels."""

    def __init__(
        self,
        house: House,
        context: Context,
        forced: Callable[[str, str, bool], bool],
        ended: Callable[[str], None],
        rejoined: Callable[[], None],
    ) -> None:
        self._house = house
        self._network = house.network
        self._context = context
        self._forced = forced
        self._ended = ended
        self._rejoined = rejoined

    # ------------------------------------------------ members

    def joined(self, group: str, channel: str, meta: Message | None) -> None:
        """Have who joined a group be seen in the channel, by the ``nick`` of its meta."""
        name = channel_of(group)
        wanted = (meta or {}).get("nick")
        wanted = clean(wanted) if isinstance(wanted, str) else None
        if name is None:
            return
        if self._forced(channel, name, True):
            return
        if not wanted:
            return  # it hears, and is not seen
        user = self._network.users.get(channel)
        if user is None:
            user = self._introduced(channel, wanted)
        elif user.realname != wanted[:NAME]:
            told = {"uid": user.uid, "at": self._house.now()}
            self._house.change(do="nick", nick=self._free(wanted), **told)
            self._house.change(do="setname", text=wanted[:NAME], **told)
        self._house.change(
            do="join",
            uid=user.uid,
            channel=name,
            first=self._network.channel(name) is None,
            status="",
            modes=dict.fromkeys(self._house.config.channel_modes, ""),
            at=self._house.now(),
        )

    def _introduced(self, channel: str, wanted: str) -> User:
        self._house.change(
            do="user",
            uid=channel,
            home=self._network.name,
            nick=self._free(wanted),
            username=channel.partition(".")[0][:16],
            host=GUEST,
            realname=wanted[:NAME],
            account=None,
            at=self._house.now(),
            guest=True,
            away="",
            invisible=False,
        )
        return self._network.users[channel]

    def _free(self, wanted: str) -> str:
        """Return a nick for a name that nobody has."""
        nick = talk.nick_of(self._house, wanted)
        found, number = nick, 1
        while self._network.nick(found) is not None:
            number += 1
            found = f"{nick}_{number}"
        return found

    def left(self, group: str, channel: str) -> None:
        """Have who left a group leave the channel."""
        name = channel_of(group)
        user = self._network.users.get(channel)
        if name is None or self._forced(channel, name, False) or user is None or not user.guest:
            return
        now = self._house.now()
        self._house.change(do="part", uid=channel, channel=name, reason="", at=now)
        if not user.channels:
            self._house.change(do="quit", uid=channel, reason="", at=now)

    # ------------------------------------------------ what is said

    def said(
        self, group: str, message: Message, exclude: Sequence[str], position: str | None
    ) -> None:
        """Have the clients of this process that are in the channel hear it."""
        name = channel_of(group)
        channel = None if name is None else self._network.channel(name)
        if channel is None or not channel.here:
            return
        if message.get("text") is None and message.get("bytes") is None:
            return
        if position is not None and "id" not in message:
            message["id"] = position
        try:
            self._tell(channel, message, exclude)
        except LocalProtocolError as error:
            self._context.drop(Drop.INVALID)
            self._context.log.warning("group %s: invalid reply dropped by irc: %s", group, error)

    def _tell(self, channel: Channel, message: Message, exclude: Sequence[str]) -> None:
        house = self._house
        without = {uid_of(name) for name in exclude} if exclude else ()
        source = talk.mask_of(house, message)
        links = [
            link for user, link in channel.here.items() if not without or user.uid not in without
        ]
        for event in talk.events(channel.name, message, source, house.now()):
            self._network.fans.tell(links, event)

    # ------------------------------------------------ other processes

    def ended(self, process: str) -> None:
        """Hear that a gateway process is gone."""
        self._ended(process)

    def rejoined(self) -> None:
        """Hear that the layer has forgotten us."""
        self._rejoined()


def channel_of(group: str) -> str | None:
    """Return the channel, folded, that a group is; None where it is none.

    >>> channel_of("irc._23room")
    '#room'
    """
    try:
        name = names.unescape(group.removeprefix("irc."))
    except ValueError:
        return None
    return name if name[:1] == "#" and fold(name) == name else None


def uid_of(channel: str) -> str:
    """Return the connection's reply channel, of one of its conversations.

    >>> uid_of("irc.send.p_x!7.3")
    'irc.send.p_x!7'
    """
    head, mark, rest = channel.partition("!")
    return f"{head}{mark}{rest.partition('.')[0]}"
