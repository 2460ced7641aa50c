"""The verbs of the layer contract, sync and async, over the operations of `State`.

A layer gives four primitives: ``_ask`` and ``_aask`` run one operation of `State` (by its
number here) and return its result, ``_take`` and ``_atake`` wait for a delivery. All
checks of names and values happen here, before anything is sent.
"""

from __future__ import annotations

from abc import abstractmethod
from asyncio import _get_running_loop
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, cast

from gateway.core import names
from gateway.core.layers.base import (
    OK,
    Delivery,
    History,
    Layer,
    Message,
    Outcome,
    Send,
    Statistics,
)
from gateway.core.layers.base import group_add as adding
from gateway.core.layers.codec import (
    checked,
    checked_group,
    checked_history,
    checked_key,
    checked_position,
    checked_prefix,
    checked_seconds,
    decode,
    encode,
)

# Numbers of the operations, on the wire too: name of the State method they run.
OPS: Final = (
    "send",
    "apply",
    "group_add",
    "group_discard",
    "send_group",
    "group_members",
    "group_count",
    "flush",
    "statistics",
    "cancel",
    "announce",
    "union",
    "watch",
    "unwatch",
    "post",
    "register",
    "end",
    "withdraw",
    "edge_add",
    "edge_discard",
    "end_again",
    "claim",
    "pin",
    "acquire",
    "release",
    "log_append",
    "log_read",
    "log_keys",
)
(
    DO_SEND,
    DO_APPLY,
    DO_GROUP_ADD,
    DO_GROUP_DISCARD,
    DO_SEND_GROUP,
    DO_GROUP_MEMBERS,
    DO_GROUP_COUNT,
    DO_FLUSH,
    DO_STATISTICS,
    DO_CANCEL,
    DO_ANNOUNCE,
    DO_UNION,
    DO_WATCH,
    DO_UNWATCH,
    DO_POST,
    DO_REGISTER,
    DO_END,
    DO_WITHDRAW,
    DO_EDGE_ADD,
    DO_EDGE_DISCARD,
    DO_END_AGAIN,
    DO_CLAIM,
    DO_PIN,
    DO_ACQUIRE,
    DO_RELEASE,
    DO_LOG_APPEND,
    DO_LOG_READ,
    DO_LOG_KEYS,
) = range(len(OPS))

receivable = lru_cache(maxsize=4096)(names.check_receivable)
"""`names.check_receivable`, remembered."""


def off_loop(verb: str) -> None:
    """Raise RuntimeError, naming the async twin, where an event loop runs in this thread."""
    if _get_running_loop() is not None:
        raise RuntimeError(f"{verb}() would block the running event loop: await a{verb}() instead")


class Verbs(Layer):
    """All verbs over four primitives."""

    @abstractmethod
    def _ask(self, op: int, *args: Any) -> Any:
        """Run an operation and return its result."""

    @abstractmethod
    async def _aask(self, op: int, *args: Any) -> Any:
        """Async twin of ``_ask``."""

    @abstractmethod
    def _take(
        self, channels: Sequence[str], block: float, *, inbox: bool, settled: bool
    ) -> Delivery | None:
        """Take from checked ``channels`` (``inbox``: and from the inbox) within ``block`` seconds.

        ``settled``: one message only, settled as it is taken.
        """

    @abstractmethod
    async def _atake(
        self, channels: Sequence[str], block: float, *, inbox: bool, settled: bool
    ) -> Delivery | None:
        """Async twin of ``_take``. Cancelled, it loses nothing."""

    # ---------------------------------------------------------------- checks

    def _sources(self, channels: Sequence[str]) -> tuple[list[str], bool]:
        """Return the checked channels without those of our own inbox, and whether it was among."""
        if isinstance(channels, str):
            raise TypeError(f"receive takes a list of channels, not the str {channels!r}")
        found = []
        inbox = False
        for channel in channels:
            receivable(channel)
            owner = names.process_of(channel)
            if owner is None:
                found.append(names.PIN + self.process if channel == names.PIN else channel)
            elif owner == self.process:
                inbox = True
            else:
                raise ValueError(
                    f"{channel!r} belongs to another process: this one is {self.process}"
                )
        return found, inbox

    @staticmethod
    def _standing(channels: Iterable[str]) -> list[str]:
        """Return the checked channels of an intake."""
        found = [receivable(channel) for channel in channels]
        for channel in found:
            if names.process_of(channel) is not None:
                raise ValueError(f"an intake reads no inbox: receive({channel!r}) does")
        return found

    def _packed(self, message: Message) -> bytes:
        return encode(message, self.options.message_bytes)

    def _several(self, messages: Sequence[Message]) -> tuple[bytes, ...]:
        if not messages:
            raise ValueError("send_many needs at least one message")
        return tuple(self._packed(message) for message in messages)

    # ---------------------------------------------------------------- the simple face

    def send(self, channel: str, message: Message) -> None:
        off_loop("send")
        self._ask(DO_SEND, checked(channel), (self._packed(message),))

    async def asend(self, channel: str, message: Message) -> None:
        await self._aask(DO_SEND, checked(channel), (self._packed(message),))

    def receive(
        self, channels: Sequence[str], block: bool | float = False
    ) -> tuple[str, Message] | tuple[None, None]:
        off_loop("receive")
        found, inbox = self._sources(channels)
        return _received(self._take(found, _seconds(block), inbox=inbox, settled=True))

    async def areceive(
        self, channels: Sequence[str], block: bool | float = False
    ) -> tuple[str, Message] | tuple[None, None]:
        found, inbox = self._sources(channels)
        return _received(await self._atake(found, _seconds(block), inbox=inbox, settled=True))

    def group_add(
        self,
        group: str,
        channel: str,
        meta: Message | None = None,
        *,
        announce: bool = False,
        since: str | None = None,
    ) -> None:
        off_loop("group_add")
        action = adding(group, channel, meta, announce=announce, since=since)
        self._ask(DO_GROUP_ADD, *action[1:])

    async def agroup_add(
        self,
        group: str,
        channel: str,
        meta: Message | None = None,
        *,
        announce: bool = False,
        since: str | None = None,
    ) -> None:
        action = adding(group, channel, meta, announce=announce, since=since)
        await self._aask(DO_GROUP_ADD, *action[1:])

    def group_discard(self, group: str, channel: str) -> None:
        off_loop("group_discard")
        self._ask(DO_GROUP_DISCARD, checked_group(group), checked(channel))

    async def agroup_discard(self, group: str, channel: str) -> None:
        await self._aask(DO_GROUP_DISCARD, checked_group(group), checked(channel))

    def group_channels(self, group: str) -> list[str]:
        off_loop("group_channels")
        return list(self._ask(DO_GROUP_MEMBERS, checked_group(group)))

    async def agroup_channels(self, group: str) -> list[str]:
        return list(await self._aask(DO_GROUP_MEMBERS, checked_group(group)))

    def group_members(self, group: str) -> dict[str, Message | None]:
        off_loop("group_members")
        return _unpacked(self._ask(DO_GROUP_MEMBERS, checked_group(group)))

    async def agroup_members(self, group: str) -> dict[str, Message | None]:
        return _unpacked(await self._aask(DO_GROUP_MEMBERS, checked_group(group)))

    def group_count(self, group: str) -> int:
        off_loop("group_count")
        return int(self._ask(DO_GROUP_COUNT, checked_group(group)))

    async def agroup_count(self, group: str) -> int:
        return int(await self._aask(DO_GROUP_COUNT, checked_group(group)))

    def send_group(
        self,
        group: str,
        message: Message,
        exclude: Iterable[str] = (),
        *,
        history: int = 0,
        history_seconds: float | None = None,
    ) -> None:
        off_loop("send_group")
        payload = self._packed(message)
        kept = checked_history(history, history_seconds)
        self._ask(DO_SEND_GROUP, checked_group(group), payload, list(exclude), *kept)

    async def asend_group(
        self,
        group: str,
        message: Message,
        exclude: Iterable[str] = (),
        *,
        history: int = 0,
        history_seconds: float | None = None,
    ) -> None:
        payload = self._packed(message)
        kept = checked_history(history, history_seconds)
        await self._aask(DO_SEND_GROUP, checked_group(group), payload, list(exclude), *kept)

    def log_append(
        self, key: str, entry: Message, limit: int, seconds: float | None = None
    ) -> tuple[int, int]:
        off_loop("log_append")
        return _pair(self._ask(DO_LOG_APPEND, *self._appending(key, entry, limit, seconds)))

    async def alog_append(
        self, key: str, entry: Message, limit: int, seconds: float | None = None
    ) -> tuple[int, int]:
        appending = self._appending(key, entry, limit, seconds)
        return _pair(await self._aask(DO_LOG_APPEND, *appending))

    def _appending(self, key: str, entry: Message, limit: int, seconds: float | None) -> Any:
        if limit.__class__ is not int or limit < 0:
            raise ValueError(f"limit is a number of entries, 0 or more, not {limit!r}")
        until = None if seconds is None else checked_seconds("seconds", 0.0, seconds)
        return checked_key(key), self._packed(entry), limit, until

    def log_read(self, key: str, since: tuple[int, int] | None = None) -> History:
        off_loop("log_read")
        return _history(self._ask(DO_LOG_READ, checked_key(key), checked_position(since)))

    async def alog_read(self, key: str, since: tuple[int, int] | None = None) -> History:
        wanted = checked_key(key), checked_position(since)
        return _history(await self._aask(DO_LOG_READ, *wanted))

    def log_keys(self, prefix: str = "") -> list[str]:
        off_loop("log_keys")
        return list(self._ask(DO_LOG_KEYS, checked_prefix(prefix)))

    async def alog_keys(self, prefix: str = "") -> list[str]:
        return list(await self._aask(DO_LOG_KEYS, checked_prefix(prefix)))

    def flush(self) -> None:
        off_loop("flush")
        self._ask(DO_FLUSH)

    async def aflush(self) -> None:
        await self._aask(DO_FLUSH)

    def global_statistics(self) -> Statistics:
        off_loop("global_statistics")
        return Statistics(*self._ask(DO_STATISTICS, None))

    async def aglobal_statistics(self) -> Statistics:
        return Statistics(*await self._aask(DO_STATISTICS, None))

    def channel_statistics(self, channel: str) -> Statistics:
        off_loop("channel_statistics")
        return Statistics(*self._ask(DO_STATISTICS, checked(channel)))

    async def achannel_statistics(self, channel: str) -> Statistics:
        return Statistics(*await self._aask(DO_STATISTICS, checked(channel)))

    # ---------------------------------------------------------------- deliveries

    def send_many(
        self,
        channel: str,
        messages: Sequence[Message],
        receipt: int | None = None,
        expiry: float | None = None,
    ) -> None:
        off_loop("send_many")
        self._ask(DO_SEND, checked(channel), self._several(messages), receipt, expiry)

    async def asend_many(
        self,
        channel: str,
        messages: Sequence[Message],
        receipt: int | None = None,
        expiry: float | None = None,
    ) -> None:
        await self._aask(DO_SEND, checked(channel), self._several(messages), receipt, expiry)

    def cancel(self, receipt: int) -> bool:
        off_loop("cancel")
        return bool(self._ask(DO_CANCEL, receipt))

    async def acancel(self, receipt: int) -> bool:
        return bool(await self._aask(DO_CANCEL, receipt))

    def take(self, channels: Sequence[str], block: bool | float = False) -> Delivery | None:
        off_loop("take")
        found, inbox = self._sources(channels)
        return self._take(found, _seconds(block), inbox=inbox, settled=False)

    async def atake(self, channels: Sequence[str], block: bool | float = False) -> Delivery | None:
        found, inbox = self._sources(channels)
        return await self._atake(found, _seconds(block), inbox=inbox, settled=False)

    @abstractmethod
    def _settle(
        self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send]
    ) -> None:
        """Pass a checked settlement on. Never waits."""

    def settle(
        self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send] = ()
    ) -> None:
        left = len(delivery.payloads) - delivery.settled
        if left and len(outcomes) == 1 and outcomes[0] is OK:
            delivery.settled += 1
            self._settle(delivery, outcomes, sends)
            return
        number = len(outcomes)
        if number == 0 or 0 < left < number:  # left 0: settled again, which the layer counts
            raise ValueError(f"{number} outcomes for {left} messages not settled")
        delivery.settled += number
        if outcomes[-1] is not OK and outcomes[-1] != OK:
            delivery.settled = len(delivery.payloads)
        self._settle(delivery, outcomes, sends)

    async def asettle(
        self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send] = ()
    ) -> None:
        self.settle(delivery, outcomes, sends)

    def apply(self, sends: Sequence[Send]) -> None:
        off_loop("apply")
        self._ask(DO_APPLY, sends)

    async def aapply(self, sends: Sequence[Send]) -> None:
        await self._aask(DO_APPLY, sends)

    def announce(self, channels: Iterable[str], version: str = "") -> None:
        off_loop("announce")
        self._ask(DO_ANNOUNCE, [receivable(channel) for channel in channels], version)

    async def aannounce(self, channels: Iterable[str], version: str = "") -> None:
        await self._aask(DO_ANNOUNCE, [receivable(channel) for channel in channels], version)

    def announced(self) -> frozenset[str] | None:
        off_loop("announced")
        return _frozen(self._ask(DO_UNION))

    async def aannounced(self) -> frozenset[str] | None:
        return _frozen(await self._aask(DO_UNION))

    def watch(self, channel: str, process: str) -> None:
        off_loop("watch")
        self._ask(DO_WATCH, checked(channel), process)

    async def awatch(self, channel: str, process: str) -> None:
        await self._aask(DO_WATCH, checked(channel), process)

    def unwatch(self, channel: str, process: str) -> None:
        off_loop("unwatch")
        self._ask(DO_UNWATCH, checked(channel), process)

    async def aunwatch(self, channel: str, process: str) -> None:
        await self._aask(DO_UNWATCH, checked(channel), process)

    def acquire(self, key: str, epoch: int = 0) -> int | None:
        off_loop("acquire")
        return cast("int | None", self._ask(DO_ACQUIRE, checked_group(key), epoch))

    async def aacquire(self, key: str, epoch: int = 0) -> int | None:
        return cast("int | None", await self._aask(DO_ACQUIRE, checked_group(key), epoch))

    def release(self, key: str) -> None:
        off_loop("release")
        self._ask(DO_RELEASE, checked_group(key))

    async def arelease(self, key: str) -> None:
        await self._aask(DO_RELEASE, checked_group(key))


def _seconds(block: bool | float) -> float:
    if block is True:
        raise TypeError("block is False, or the seconds to wait")
    return float(block)


def _unpacked(members: dict[str, bytes | None]) -> dict[str, Message | None]:
    return {name: None if meta is None else decode(meta) for name, meta in members.items()}


def _pair(position: Sequence[int]) -> tuple[int, int]:
    return (position[0], position[1])


def _history(found: tuple[Sequence[Sequence[Any]], Sequence[int], bool]) -> History:
    entries, position, missed = found
    return History([(at, decode(payload)) for at, payload in entries], _pair(position), missed)


def _frozen(channels: Iterable[str] | None) -> frozenset[str] | None:
    return None if channels is None else frozenset(channels)


def _received(delivery: Delivery | None) -> tuple[str, Message] | tuple[None, None]:
    if delivery is None:
        return None, None
    return delivery.channel, decode(delivery.payloads[0])
