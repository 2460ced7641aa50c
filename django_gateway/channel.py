"""`Channel` and `Group`: where consumers, views and everybody else send.

Inside a consumer or a view sends are buffered in order, leave together with its outcome, and
are dropped if it raised. With ``immediately=True``, and everywhere outside, they act at
once: on a running event loop through the twins with the prefix ``a``.

With ``on_commit=True`` they do so when the database transaction that is open now is committed,
and not at all if it is rolled back; where none is open, now. ``using`` names the database.
"""

from __future__ import annotations

import difflib
import os
from asyncio import _get_running_loop
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Any, Final, Protocol, TypedDict, Unpack

import msgspec
from asgiref.sync import sync_to_async
from django.db import transaction

from django_gateway.database import in_transaction
from gateway.core import names
from gateway.core.layers import base
from gateway.core.layers.base import Layer, Send


class Attended(Protocol):
    """What a consumer used that has to be finished: a session that it changed."""

    def due(self) -> bool:
        """Return whether there is something to do."""

    def finish(self) -> None:
        """Do it; it may block."""

    def state(self) -> Any:
        """Return what it is now, for `restore`."""

    def restore(self, state: Any) -> None:
        """Be what it was: the consumer raised."""


Mark = tuple[int, list[tuple[Attended, Any]]]


class Outbox(msgspec.Struct, eq=False):
    """The sends of one message's consumer, until they leave with its outcome."""

    most: int
    """Bytes that a message may have: the layer's ``message_bytes``."""
    sends: list[Send] = []
    open: bool = True
    """False once its message is settled: a task that outlives the consumer acts at once."""
    discarded: int = 0
    attended: list[Attended] | None = None
    closers: list[Callable[[], None]] | None = None
    """What lets go of what the consumer read, whatever becomes of it."""

    def close_later(self, close: Callable[[], None]) -> None:
        """Have ``close`` called once the message is settled."""
        if self.closers is None:
            self.closers = []
        self.closers.append(close)

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

    def discard(self, start: int = 0) -> None:
        """Drop what is buffered, from ``start`` on: the consumer raised."""
        self.discarded += len(self.sends[start:])
        self.sends = self.sends[:start]
        self.attended = None

    def mark(self) -> Mark:
        """Return how it is now, for `back_to`."""
        return len(self.sends), [(one, one.state()) for one in self.attended or ()]

    def back_to(self, mark: Mark) -> None:
        """Be as it was at ``mark``: a consumer raised that somebody may run once more."""
        start, attended = mark
        self.discard(start)
        for one, state in attended:
            one.restore(state)
            self.attend(one)


outbox: ContextVar[Outbox | None] = ContextVar("django_gateway.outbox", default=None)

# a process that a consumer forks is no part of it: nothing would flush what it buffers
os.register_at_fork(after_in_child=partial(outbox.set, None))


class When(TypedDict, total=False):
    """When a verb of a channel or a group takes effect; without any, with the outcome."""

    immediately: bool
    """Now, whatever becomes of the consumer."""
    on_commit: bool
    """When the open transaction is committed, never if it is rolled back; as the others then."""
    using: str | None
    """The database whose transaction it is, by its alias in ``DATABASES``."""


class How(When, total=False):
    """To whom of a group, when, and whether it is kept, as `Group.send` takes it."""

    exclude: Iterable[Channel | str]
    history: int
    history_seconds: float | None


class Whence(When, total=False):
    """What a member tells, when it joins, and from where on, as `Group.add` takes it."""

    meta: dict[str, Any] | None
    announce: bool
    since: str | None


def _act(
    action: Send,
    verb: str,
    *,
    immediately: bool = False,
    on_commit: bool = False,
    using: str | None = None,
    **unknown: object,
) -> None:
    """Do what ``verb`` of a channel or group asks for: now, with the outcome, or at the commit."""
    if unknown:
        raise _unknown(verb, *unknown)
    if on_commit or using is not None:
        _check_using(verb, on_commit, using)
        if in_transaction(using):
            transaction.on_commit(partial(_now, action, verb, immediately=immediately), using=using)
            return
    _now(action, verb, immediately=immediately)


def _now(action: Send, verb: str, *, immediately: bool) -> None:
    box = outbox.get()
    if box is not None and box.open and not immediately:
        box.sends.append(action)
        return
    _off_loop(verb)
    _layer().apply((action,))


async def _aact(
    action: Send,
    verb: str,
    *,
    immediately: bool = False,
    on_commit: bool = False,
    using: str | None = None,
    **unknown: object,
) -> None:
    """As `_act`, on a loop."""
    if unknown:
        raise _unknown(verb, *unknown)
    if on_commit or using is not None:
        _check_using(verb, on_commit, using)
        # a transaction belongs to the thread that synchronous code runs on
        await sync_to_async(_act)(
            action, verb, immediately=immediately, on_commit=on_commit, using=using
        )
        return
    box = outbox.get()
    if box is not None and box.open and not immediately:
        box.sends.append(action)
    else:
        await _layer().aapply((action,))


def _off_loop(verb: str) -> None:
    if _get_running_loop() is not None:
        name, _, method = verb.partition(".")
        raise RuntimeError(
            f"{verb}() would block the running event loop: await {name}.a{method}() instead"
        )


_KEYWORDS: Final = {"Group.send": How.__optional_keys__, "Group.add": Whence.__optional_keys__}


def _unknown(verb: str, keyword: str, *_: str) -> TypeError:
    taken = sorted(_KEYWORDS.get(verb, When.__optional_keys__))
    close = difflib.get_close_matches(keyword, taken, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(taken)}"
    return TypeError(f"{verb}() has no keyword {keyword!r}; {hint}")


def _check_using(verb: str, on_commit: bool, using: str | None) -> None:
    if not on_commit:
        raise TypeError(
            f"{verb}(using={using!r}) names the database whose commit is waited for: "
            "write on_commit=True, too"
        )


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

    def send(self, content: dict[str, Any], **when: Unpack[When]) -> None:
        """Send one message. Acting at once it raises `gateway.ChannelFull` where there is no room;
        buffered, a refused send makes the consumer's outcome ``failed``.
        """  # noqa: D205 - one sentence
        _act(base.send(self.name, content, _most()), "Channel.send", **when)

    async def asend(self, content: dict[str, Any], **when: Unpack[When]) -> None:
        """Async twin of `send`."""
        await _aact(base.send(self.name, content, _most()), "Channel.send", **when)

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
        since: str | None = None,
        **when: Unpack[When],
    ) -> None:
        """Make ``channel`` a member, until it is discarded or its connection ends.

        ``meta`` is what `members` tells of it (64 KiB at most); added again, it has the latest.
        With ``announce`` its join and its leave are told: see `presence_joined`.

        ``since`` is the id that its client got last, ``message.last_event_id``: what was kept
        after it (``history`` of `send`) comes first, in the same step, then whatever is new.
        """
        adding = base.group_add(self.name, _name(channel), meta, announce=announce, since=since)
        _act(adding, "Group.add", **when)

    async def aadd(
        self,
        channel: Channel | str,
        meta: dict[str, Any] | None = None,
        *,
        announce: bool = False,
        since: str | None = None,
        **when: Unpack[When],
    ) -> None:
        """Async twin of `add`."""
        adding = base.group_add(self.name, _name(channel), meta, announce=announce, since=since)
        await _aact(adding, "Group.add", **when)

    def discard(self, channel: Channel | str, **when: Unpack[When]) -> None:
        """End a membership; nothing happens where there is none."""
        _act(base.group_discard(self.name, _name(channel)), "Group.discard", **when)

    async def adiscard(self, channel: Channel | str, **when: Unpack[When]) -> None:
        """Async twin of `discard`."""
        await _aact(base.group_discard(self.name, _name(channel)), "Group.discard", **when)

    def send(
        self,
        content: dict[str, Any],
        *,
        exclude: Iterable[Channel | str] = (),
        history: int = 0,
        history_seconds: float | None = None,
        **when: Unpack[When],
    ) -> None:
        """Send to every member that is not in ``exclude``.

        With ``history`` the group keeps it, among its last ``history`` messages, for
        ``history_seconds`` (an hour), for members that come back: they are added with ``since``.
        """
        _act(self._sending(content, exclude, history, history_seconds), "Group.send", **when)

    async def asend(
        self,
        content: dict[str, Any],
        *,
        exclude: Iterable[Channel | str] = (),
        history: int = 0,
        history_seconds: float | None = None,
        **when: Unpack[When],
    ) -> None:
        """Async twin of `send`."""
        await _aact(self._sending(content, exclude, history, history_seconds), "Group.send", **when)

    def _sending(
        self,
        content: dict[str, Any],
        exclude: Iterable[Channel | str],
        history: int,
        seconds: float | None,
    ) -> Send:
        if isinstance(exclude, Channel | str):
            raise TypeError(
                f"Group.send(exclude=…) takes several channels: write exclude=[{exclude!r}]"
            )
        left_out = [_name(channel) for channel in exclude]
        if history and isinstance(content, dict):
            _check_kept(content)
        return base.group_send(
            self.name, content, left_out, _most(), history=history, history_seconds=seconds
        )

    def channels(self) -> list[str]:
        """Return the members' names, in no order. Reads at once: what is buffered is not in it."""
        _off_loop("Group.channels")
        return _layer().group_channels(self.name)

    async def achannels(self) -> list[str]:
        """Async twin of `channels`."""
        return await _layer().agroup_channels(self.name)

    def members(self) -> dict[str, dict[str, Any] | None]:
        """Return the members' names and their meta, in no order. Reads at once."""
        _off_loop("Group.members")
        return _layer().group_members(self.name)

    async def amembers(self) -> dict[str, dict[str, Any] | None]:
        """Async twin of `members`."""
        return await _layer().agroup_members(self.name)

    def count(self) -> int:
        """Return the number of members. Reads at once."""
        _off_loop("Group.count")
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


def _check_kept(content: dict[str, Any]) -> None:
    """Refuse what a message that is kept cannot say: it is for everybody who comes back."""
    parts = [content]
    for key, own in content.items():
        if isinstance(own, dict) and key in _protocols():
            parts.append(own)
    for key in ("id", "missed"):
        if any(key in part for part in parts):
            raise ValueError(
                f"Group.send(history=…): {key!r} is the gateway's to say, so that clients can come "
                "back; leave it out, and put a number of your own into the text"
            )
    for key in ("close", "accept", "ack", "pin"):
        if any(key in part for part in parts):
            raise ValueError(
                f"Group.send(history=…) with {key!r} would do that again with each member that "
                "comes back: send it without history"
            )


@cache
def _protocols() -> frozenset[str]:
    """Return the names of the installed plugins: keys under which stands what is one's own."""
    return frozenset(point.name for point in entry_points(group="gateway.plugins"))


def _name(channel: Channel | str) -> str:
    if isinstance(channel, Channel):
        return channel.name
    if isinstance(channel, str):
        return channel
    raise TypeError(
        f"a channel is a Channel or its name, not {type(channel).__name__}; "
        "the connection of a message is message.reply_channel"
    )
