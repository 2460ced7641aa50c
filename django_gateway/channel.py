"""`Channel` and `Group`: where consumers, views and everybody else send.

Inside a consumer or a view sends are buffered in order, leave together with its outcome, and
are dropped if it raised. With ``immediately=True``, and everywhere outside, they act at
once: on a running event loop through the twins with the prefix ``a``.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Protocol

from gateway.core import names
from gateway.core.layers import base
from gateway.core.layers.base import Layer, Send


class Attended(Protocol):
    """What a consumer used that has to be finished: a session that it changed."""

    def due(self) -> bool:
        """Return whether there is something to do."""

    def finish(self) -> None:
        """Do it; it may block."""


class Outbox:
    """The sends of one message's consumer, until they leave with its outcome."""

    __slots__ = ("attended", "discarded", "most", "open", "sends")

    def __init__(self, most: int) -> None:
        self.most = most
        """Bytes that a message may have: the layer's ``message_bytes``."""
        self.sends: list[Send] = []
        self.open = True
        """False once its message is settled: a task that outlives the consumer acts at once."""
        self.discarded = 0
        self.attended: list[Attended] | None = None

    def attend(self, what: Attended) -> None:
        """Have ``what`` finished once the consumer has returned, before its outcome is told."""
        if self.attended is None:
            self.attended = []
        self.attended.append(what)

    def due(self) -> bool:
        """Return whether anything attended has something to do, which may block."""
        return self.attended is not None and any(one.due() for one in self.attended)

    def finish(self) -> None:
        """Finish what is attended; what it raises is as if the consumer had raised it."""
        for one in self.attended or ():
            one.finish()

    def discard(self) -> None:
        """Drop what is buffered: the consumer raised."""
        self.discarded += len(self.sends)
        self.sends = []


outbox: ContextVar[Outbox | None] = ContextVar("django_gateway.outbox", default=None)


def _act(action: Send, *, immediately: bool) -> None:
    box = outbox.get()
    if box is not None and box.open and not immediately:
        box.sends.append(action)
    else:
        _layer().apply((action,))


async def _aact(action: Send, *, immediately: bool) -> None:
    box = outbox.get()
    if box is not None and box.open and not immediately:
        box.sends.append(action)
    else:
        await _layer().aapply((action,))


def _most() -> int:
    box = outbox.get()
    return _layer().options.message_bytes if box is None else box.most


def _layer() -> Layer:
    from django_gateway.asgi import channel_layers  # noqa: PLC0415 - reads the settings

    return channel_layers["default"]


class Channel:
    """A channel by its name: a reply channel, a channel of one's own, an address.

    Raises ValueError or TypeError for a bad name, and for content that a message cannot hold.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = names.check_channel(name)

    def send(self, content: dict[str, Any], *, immediately: bool = False) -> None:
        """Send one message. Acting at once it raises `gateway.ChannelFull` where there is no room;
        buffered, a refused send makes the consumer's outcome ``failed``.
        """  # noqa: D205 - one sentence
        _act(base.send(self.name, content, _most()), immediately=immediately)

    async def asend(self, content: dict[str, Any], *, immediately: bool = False) -> None:
        """Async twin of `send`."""
        await _aact(base.send(self.name, content, _most()), immediately=immediately)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Channel({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


class Group:
    """A group by its name: whoever joined gets what is sent to it.

    Where a channel is asked for, a `Channel` or its name will do.
    """

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = names.check_group(name)

    def add(
        self,
        channel: Channel | str,
        meta: dict[str, Any] | None = None,
        *,
        announce: bool = False,
        immediately: bool = False,
    ) -> None:
        """Make ``channel`` a member, until it is discarded or its connection ends.

        ``meta`` is what `members` tells of it (64 KiB at most); added again, it has the latest.
        With ``announce`` its join and its leave are told: see `presence_joined`.
        """
        adding = base.group_add(self.name, _name(channel), meta, announce=announce)
        _act(adding, immediately=immediately)

    async def aadd(
        self,
        channel: Channel | str,
        meta: dict[str, Any] | None = None,
        *,
        announce: bool = False,
        immediately: bool = False,
    ) -> None:
        """Async twin of `add`."""
        adding = base.group_add(self.name, _name(channel), meta, announce=announce)
        await _aact(adding, immediately=immediately)

    def discard(self, channel: Channel | str, *, immediately: bool = False) -> None:
        """End a membership; nothing happens where there is none."""
        _act(base.group_discard(self.name, _name(channel)), immediately=immediately)

    async def adiscard(self, channel: Channel | str, *, immediately: bool = False) -> None:
        """Async twin of `discard`."""
        await _aact(base.group_discard(self.name, _name(channel)), immediately=immediately)

    def send(
        self,
        content: dict[str, Any],
        *,
        exclude: Iterable[Channel | str] = (),
        immediately: bool = False,
    ) -> None:
        """Send to every member that is not in ``exclude``."""
        _act(self._sending(content, exclude), immediately=immediately)

    async def asend(
        self,
        content: dict[str, Any],
        *,
        exclude: Iterable[Channel | str] = (),
        immediately: bool = False,
    ) -> None:
        """Async twin of `send`."""
        await _aact(self._sending(content, exclude), immediately=immediately)

    def _sending(self, content: dict[str, Any], exclude: Iterable[Channel | str]) -> Send:
        if isinstance(exclude, Channel | str):
            raise TypeError(
                f"Group.send(exclude=…) takes several channels: write exclude=[{exclude!r}]"
            )
        left_out = [_name(channel) for channel in exclude]
        return base.group_send(self.name, content, left_out, _most())

    def channels(self) -> list[str]:
        """Return the members' names, in no order. Reads at once: what is buffered is not in it."""
        return _layer().group_channels(self.name)

    async def achannels(self) -> list[str]:
        """Async twin of `channels`."""
        return await _layer().agroup_channels(self.name)

    def members(self) -> dict[str, dict[str, Any] | None]:
        """Return the members' names and their meta, in no order. Reads at once."""
        return _layer().group_members(self.name)

    async def amembers(self) -> dict[str, dict[str, Any] | None]:
        """Async twin of `members`."""
        return await _layer().agroup_members(self.name)

    def count(self) -> int:
        """Return the number of members. Reads at once."""
        return _layer().group_count(self.name)

    async def acount(self) -> int:
        """Async twin of `count`."""
        return await _layer().agroup_count(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Group({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and other.name == self.name

    def __hash__(self) -> int:
        return hash((Group, self.name))


def _name(channel: Channel | str) -> str:
    if isinstance(channel, Channel):
        return channel.name
    if isinstance(channel, str):
        return channel
    raise TypeError(
        f"a channel is a Channel or its name, not {type(channel).__name__}; "
        "the connection of a message is message.reply_channel"
    )
