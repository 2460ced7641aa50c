"""The channel layer: the contract that every layer keeps, and everybody else relies on.

Two faces for two roles.

`Layer`
    What applications, workers and tools use: the simple face of the Channels
    specification (``send``, ``receive``, groups) and deliveries with settlement
    (``take``, ``settle``, ``send_many``). Every verb that may wait has an async twin with
    the prefix ``a``; a sync verb called on a running event loop raises RuntimeError and
    names the twin.

`gateway.core.layers.edge.Edge`
    What a protocol server uses, on one event loop: verbs that never wait, and one
    callback for all that comes in, in order. What a verb could not do comes back as an
    item.

Messages are dicts of ``bytes``, ``str``, 64-bit ``int``, ``float``, ``list``, ``dict``
with ``str`` keys, ``bool`` and ``None``; encoded (`codec.encode`) they are at most
``message_bytes`` long, one MiB by default. A *payload* below is such a message encoded.

The promises, which `gateway.testing.LayerSuite` tests sentence by sentence:

* ``send`` never waits for room: it raises `ChannelFull`.
* A message is delivered to one reader, at most once.
* FIFO per channel from one writer to one reader.
* A message that nobody took expires after ``expiry`` seconds (default 60) and gives its
  room back then, without anybody receiving. (In a process inbox it waits, within the
  inbox's bounds, as long as the process lives.)
* All addresses of a prefix (``x!``) share the capacity of that prefix.
* The sender may change its dict after sending.
* A receive from several channels starves none of them.
* Nothing is dropped without a cause in ``channel_statistics`` and ``global_statistics``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from gateway.core.layers import codec
from gateway.core.layers.edge import Edge, Item
from gateway.core.layers.options import LayerOptions

Message = dict[str, Any]

# ---------------------------------------------------------------- outcomes

ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"
FAILED: Final = "failed"
UNROUTED: Final = "unrouted"
RELEASED: Final = "released"

MAX_TRIES: Final = 10
"""How often a delivery is offered before ``released`` reaches its sender."""


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False, omit_defaults=True):
    """What became of a message.

    ``kind``: ``accepted`` (the consumer returned), ``rejected`` (it raised ``Reject``: a
    decision; ``code`` and ``reason`` are its words), ``failed`` (it raised anything else, its
    worker was lost, one of its sends was refused: ``cause`` says which), ``unrouted`` (no
    route matched), ``released`` (not run, or ``ConsumeLater``: offered again after ``delay``
    seconds; a sender hears it only when tries or lifetime are spent).

    ``cause`` is for logs and counters: ``"lost"``, ``"full"``, ``"skipped"``, ``"expired"``, or
    the name of an exception's class.
    """

    kind: str
    code: int | None = None
    reason: str = ""
    cause: str = ""
    delay: float = 0.0


OK: Final = Outcome(ACCEPTED)

# ---------------------------------------------------------------- a consumer's sends

SEND: Final = 1
GROUP_ADD: Final = 2
GROUP_DISCARD: Final = 3
GROUP_SEND: Final = 4

Send = tuple[Any, ...]
"""One buffered action of a consumer, made by `send`, `group_add`, … below."""


def send(channel: str, message: Message, most: int = codec.MAX_MESSAGE) -> Send:
    """Return the action "send ``message`` to ``channel``"; encodes the message now.

    ``most`` is the layer's ``message_bytes``. Raises ValueError or TypeError for a bad name or
    value, `MessageTooLarge`.
    """
    return (SEND, codec.checked(channel), codec.encode(message, most))


def group_add(
    group: str,
    channel: str,
    meta: Message | None = None,
    *,
    announce: bool = False,
    since: str | None = None,
) -> Send:
    """Return the action "``channel`` joins ``group``", as `Layer.group_add` does it."""
    packed = None if meta is None else codec.encode_meta(meta)
    action = (GROUP_ADD, codec.checked_group(group), codec.checked(channel), packed, announce)
    return action if since is None else (*action, codec.checked_since(since))


def group_discard(group: str, channel: str) -> Send:
    """Return the action "``channel`` leaves ``group``"."""
    return (GROUP_DISCARD, codec.checked_group(group), codec.checked(channel))


def group_send(
    group: str,
    message: Message,
    exclude: Iterable[str] = (),
    most: int = codec.MAX_MESSAGE,
    *,
    history: int = 0,
    history_seconds: float | None = None,
) -> Send:
    """Return the action "send ``message`` to every member of ``group`` not in ``exclude``", as
    `Layer.send_group` does it.
    """  # noqa: D205 - one sentence
    payload = codec.encode(message, most)
    action = (GROUP_SEND, codec.checked_group(group), payload, list(exclude))
    return (*action, *codec.checked_history(history, history_seconds))


# ---------------------------------------------------------------- deliveries


class Delivery:
    """What one taker holds in hand: one message, or several that were sent together.

    ``channel`` is the full channel name, ``payloads`` the encoded messages in order,
    ``attempt`` counts from 1 (2 and more after a release).
    """

    __slots__ = ("attempt", "channel", "payloads", "settled", "since", "source", "tag")

    def __init__(
        self, channel: str, payloads: Sequence[bytes], tag: int, attempt: int, source: Any
    ) -> None:
        self.channel = channel
        self.payloads = payloads
        self.attempt = attempt
        self.tag = tag
        """The layer's own number of it."""
        self.source = source
        """The layer's own: the connection or reader by which it came."""
        self.settled = 0
        """How many of its messages the taker has settled."""
        self.since = 0.0
        """The layer's own: when it was begun."""

    @property
    def messages(self) -> list[Message]:
        """The messages, decoded anew at each look."""
        return [codec.decode(payload) for payload in self.payloads]

    def __repr__(self) -> str:
        return f"<Delivery {self.tag} of {len(self.payloads)} on {self.channel}>"


class Statistics(NamedTuple):
    """What ``channel_statistics`` and ``global_statistics`` return."""

    messages: int
    """Messages accepted by the layer since it began."""
    pending: int
    """Messages that wait now."""
    pending_bytes: int
    """Bytes that wait now."""
    in_hand: int
    """Messages taken and not settled."""
    max_age: float
    """Seconds that the oldest waiting message has waited."""
    full: int
    """How many sends were refused for lack of room."""
    drops: dict[str, int]
    """Dropped messages by cause (the values of `gateway.core.metrics.Drop`)."""


class History(NamedTuple):
    """What ``log_read`` returns."""

    entries: list[tuple[int, Message]]
    """What is kept, with its offsets."""
    position: tuple[int, int]
    """The present position of the layer: epoch and offset."""
    missed: bool
    """Whether more was appended since than is kept."""


class Intake(ABC):
    """A standing wish for deliveries from a fixed set of channels, with credit.

    The layer hands over up to ``credit`` deliveries ahead, so that a worker seldom waits
    for the wire; each settlement returns the credit. Threads share one intake.
    """

    @abstractmethod
    def take(self, block: float | None = None) -> Delivery | None:
        """Return the next delivery; wait for it up to ``block`` seconds (None: for ever).

        Returns None when the time is over or the intake was closed. Never raises because
        the layer is away: it waits.
        """

    @abstractmethod
    async def atake(self, block: float | None = None) -> Delivery | None:
        """Async twin of `take`."""

    @abstractmethod
    def set_aside(self, delivery: Delivery) -> None:
        """Take the credit of a delivery back now: it is run elsewhere, bounded there.

        A thread that hands a delivery to a loop goes on taking so. It stays in hand until it
        is settled.
        """

    @abstractmethod
    def close(self) -> None:
        """Take no more; release what was handed over and not begun; wake all who wait.

        If it took ``pin.``, the pins to this process are lifted, for good.
        Idempotent; may be called from any thread, a signal handler excepted.
        """


class Layer(ABC):
    """A channel layer as one process sees it. Thread-safe.

    All verbs raise ValueError or TypeError for bad names and values, before anything is
    sent, and `LayerUnavailable` while the layer is away (``take``, ``receive`` and
    `Intake.take` wait instead, as long as they may).
    """

    extensions: ClassVar[frozenset[str]] = frozenset(
        {"groups", "statistics", "flush", "deliveries"}
    )
    """``groups``, ``statistics``, ``flush`` as in the Channels specification; ``deliveries``:
    the whole contract of this class. A layer with the simple face alone lacks it."""

    options: LayerOptions
    process: str
    """The name of this process on the layer (``p_…``)."""

    @property
    def group_expiry(self) -> float:
        """Seconds that a normal channel or address stays in a group."""
        return self.options.group_expiry

    # ------------------------------------------------ the simple face

    @abstractmethod
    def send(self, channel: str, message: Message) -> None:
        """Send one message. Raises `ChannelFull`, `MessageTooLarge`."""

    @abstractmethod
    async def asend(self, channel: str, message: Message) -> None:
        """Async twin of `send`."""

    @abstractmethod
    def receive(
        self, channels: Sequence[str], block: bool | float = False
    ) -> tuple[str, Message] | tuple[None, None]:
        """Receive one message and settle it ``accepted`` as it returns.

        ``channels`` are normal or single-reader names, a prefix that ends in ``!``, or any
        process-specific name of this process, which reads its whole inbox. ``block``:
        False, or seconds to wait. Returns the full channel name and the message, or
        ``(None, None)``. Several messages that were sent together come one by one.
        """

    @abstractmethod
    async def areceive(
        self, channels: Sequence[str], block: bool | float = False
    ) -> tuple[str, Message] | tuple[None, None]:
        """Async twin of `receive`. A cancelled one loses no message."""

    def new_channel(self, pattern: str) -> str:
        """Return a new name for ``pattern``, which ends in ``?``; ValueError otherwise."""
        from gateway.core import names  # noqa: PLC0415 - names has no other use here

        return names.fill(pattern)

    @abstractmethod
    def group_add(
        self,
        group: str,
        channel: str,
        meta: Message | None = None,
        *,
        announce: bool = False,
        since: str | None = None,
    ) -> None:
        """Make ``channel`` a member of ``group``, with public ``meta`` (at most 64 KiB encoded).

        A process-specific name stays until it is discarded, its connection ends or its
        process's lease does; any other stays for ``group_expiry`` seconds.

        With ``announce`` this membership is told: its join as a message on the channel
        ``presence.join``, its leave, whatever ends it (`flush` excepted), on
        ``presence.leave``, each ``{"group", "channel", "meta"}``. They are kept as disconnects
        are (`Edge.end`), and what is newer of one membership is not offered before what is
        older has its outcome. To add a member again is no join: the new meta takes the place of
        the old, which a later leave tells; one that was not announced is from then on, and its
        join told; one that was stays so.

        With ``since``, a position as text (`gateway.core.names.position`), it gets what was kept
        of the group after that, the oldest first, before anything newer: in one step, so that
        nothing is lost between and nothing comes twice. Empty, it gets nothing of before. What
        is no position of this layer, or of its future, is one from before its beginning. A
        connection of a process with an `Edge` is told the present position as well, and whether
        more was missed than is kept; any other member gets messages, as by `send_group`.
        """

    @abstractmethod
    async def agroup_add(
        self,
        group: str,
        channel: str,
        meta: Message | None = None,
        *,
        announce: bool = False,
        since: str | None = None,
    ) -> None:
        """Async twin of `group_add`."""

    @abstractmethod
    def group_discard(self, group: str, channel: str) -> None:
        """End a membership; nothing happens where there is none."""

    @abstractmethod
    async def agroup_discard(self, group: str, channel: str) -> None:
        """Async twin of `group_discard`."""

    @abstractmethod
    def group_channels(self, group: str) -> list[str]:
        """Return the names of the members, in no order."""

    @abstractmethod
    async def agroup_channels(self, group: str) -> list[str]:
        """Async twin of `group_channels`."""

    @abstractmethod
    def group_members(self, group: str) -> dict[str, Message | None]:
        """Return the members' names and their meta."""

    @abstractmethod
    async def agroup_members(self, group: str) -> dict[str, Message | None]:
        """Async twin of `group_members`."""

    @abstractmethod
    def group_count(self, group: str) -> int:
        """Return the number of members, at constant cost."""

    @abstractmethod
    async def agroup_count(self, group: str) -> int:
        """Async twin of `group_count`."""

    @abstractmethod
    def send_group(
        self,
        group: str,
        message: Message,
        exclude: Iterable[str] = (),
        *,
        history: int = 0,
        history_seconds: float | None = None,
    ) -> None:
        """Send to every member whose name is not in ``exclude``. Never raises `ChannelFull`.

        Costs one message per process with members, not one per member. A member that has
        no room is left out, counted.

        With ``history`` it is kept as well, in the same step, for those who join with ``since``
        (but none of ``exclude``): among the last ``history`` messages of the group, for
        ``history_seconds`` (None: an hour). It is what `log_append` does under the key
        ``group:GROUP``.
        """

    @abstractmethod
    async def asend_group(
        self,
        group: str,
        message: Message,
        exclude: Iterable[str] = (),
        *,
        history: int = 0,
        history_seconds: float | None = None,
    ) -> None:
        """Async twin of `send_group`."""

    @abstractmethod
    def log_append(
        self, key: str, entry: Message, limit: int, seconds: float | None = None
    ) -> tuple[int, int]:
        """Keep ``entry`` among the last ``limit`` of ``key``, for ``seconds`` (None: for ever).

        ``key`` is any str of 1 to 1000 characters. Older ones beyond ``limit`` are kept no more;
        with a limit of 0 nothing is. Returns the position, ``(epoch, offset)``: the offset counts
        on by one over all keys of the layer, the epoch is drawn anew where a layer begins without
        the history of the last one. Beyond ``history_bytes`` of all keys together the oldest of
        all are kept no more, counted (``evicted``).
        """

    @abstractmethod
    async def alog_append(
        self, key: str, entry: Message, limit: int, seconds: float | None = None
    ) -> tuple[int, int]:
        """Async twin of `log_append`."""

    @abstractmethod
    def log_read(self, key: str, since: tuple[int, int] | None = None) -> History:
        """Return what is kept of ``key`` after a position (None: all of it), the oldest first.

        ``missed`` says whether something that was appended after ``since`` is not kept any more. A
        position of another epoch, or of the future, is one from before the beginning, and missed.
        """

    @abstractmethod
    async def alog_read(self, key: str, since: tuple[int, int] | None = None) -> History:
        """Async twin of `log_read`."""

    @abstractmethod
    def log_keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with ``prefix`` and of which something is kept, unordered."""

    @abstractmethod
    async def alog_keys(self, prefix: str = "") -> list[str]:
        """Async twin of `log_keys`."""

    @abstractmethod
    def flush(self) -> None:
        """Forget every waiting message, every group and all that was kept (tests)."""

    @abstractmethod
    async def aflush(self) -> None:
        """Async twin of `flush`."""

    @abstractmethod
    def global_statistics(self) -> Statistics:
        """Return the numbers of the whole layer."""

    @abstractmethod
    async def aglobal_statistics(self) -> Statistics:
        """Async twin of `global_statistics`."""

    @abstractmethod
    def channel_statistics(self, channel: str) -> Statistics:
        """Return the numbers of one channel."""

    @abstractmethod
    async def achannel_statistics(self, channel: str) -> Statistics:
        """Async twin of `channel_statistics`."""

    # ------------------------------------------------ deliveries

    @abstractmethod
    def send_many(
        self,
        channel: str,
        messages: Sequence[Message],
        receipt: int | None = None,
        expiry: float | None = None,
    ) -> None:
        """Send several messages as one delivery: all or nothing, to one reader, in order.

        With a ``receipt`` each message's outcome goes to the inbox of this process: as an
        item ``OUTCOME`` if an `Edge` is open, else as the message ``{"receipt", "index",
        "kind", "code", "reason", "cause"}`` on the channel ``outcome.PROCESS!``.
        Raises `ChannelFull`, `MessageTooLarge`; ValueError for no message.
        """

    @abstractmethod
    async def asend_many(
        self,
        channel: str,
        messages: Sequence[Message],
        receipt: int | None = None,
        expiry: float | None = None,
    ) -> None:
        """Async twin of `send_many`."""

    @abstractmethod
    def cancel(self, receipt: int) -> bool:
        """Withdraw what this process sent with ``receipt``, if nobody has taken it.

        Returns whether it was withdrawn; then no outcome follows.
        """

    @abstractmethod
    async def acancel(self, receipt: int) -> bool:
        """Async twin of `cancel`."""

    @abstractmethod
    def take(self, channels: Sequence[str], block: bool | float = False) -> Delivery | None:
        """Take one delivery, which stays in hand until it is settled."""

    @abstractmethod
    async def atake(self, channels: Sequence[str], block: bool | float = False) -> Delivery | None:
        """Async twin of `take`."""

    @abstractmethod
    def intake(self, channels: Iterable[str], credit: int = 32) -> Intake:
        """Return a standing wish for deliveries from ``channels``. Does no I/O yet.

        The channel ``pin.`` stands for that of what is pinned to this process (`Edge.post`).
        """

    @abstractmethod
    def settle(
        self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send] = ()
    ) -> None:
        """Settle the next ``len(outcomes)`` messages of a delivery, in order.

        ``sends`` are applied, in order, before the outcomes are told; they belong to the
        last of the messages. One that is refused is dropped, counted, logged, and turns that
        message's outcome into ``failed`` (cause ``full``); the others stand, and the delivery
        goes on: its taker cannot know. The first outcome other than ``accepted`` that the taker
        gives ends the delivery: after ``released`` the rest is released with it; after any
        other the rest settles ``failed`` (cause ``skipped``).

        May return before it is written: settlements of one intake are written together, at
        the latest when its next ``take`` would wait, or after half a millisecond; so it never
        waits and may be called on a loop. Raises ValueError for more outcomes than messages. A
        settlement of what is not in hand any more is refused and counted (``stale``), never
        raised.
        """

    @abstractmethod
    async def asettle(
        self, delivery: Delivery, outcomes: Sequence[Outcome], sends: Sequence[Send] = ()
    ) -> None:
        """Async twin of `settle`."""

    @abstractmethod
    def apply(self, sends: Sequence[Send]) -> None:
        """Do several sends at once, in one write, outside any delivery.

        Raises `ChannelFull` for the first that was refused, after trying all.
        """

    @abstractmethod
    async def aapply(self, sends: Sequence[Send]) -> None:
        """Async twin of `apply`."""

    @abstractmethod
    def announce(self, channels: Iterable[str], version: str = "") -> None:
        """Say that this process runs consumers for ``channels`` (replaces what it said before).

        ``version`` is what its application is called, for ``gateway_workers``.
        """

    @abstractmethod
    async def aannounce(self, channels: Iterable[str], version: str = "") -> None:
        """Async twin of `announce`."""

    @abstractmethod
    def announced(self) -> frozenset[str] | None:
        """Return the union of what living processes announced; None while none did."""

    @abstractmethod
    async def aannounced(self) -> frozenset[str] | None:
        """Async twin of `announced`."""

    @abstractmethod
    def watch(self, channel: str, process: str) -> None:
        """Have ``{"closed": True}`` sent to the single-reader ``channel`` when ``process`` ends.

        At once, if its lease has ended already. The consumer that reads a body or waits for
        an ``ack`` calls this with the process of the reply channel.
        """

    @abstractmethod
    async def awatch(self, channel: str, process: str) -> None:
        """Async twin of `watch`."""

    @abstractmethod
    def unwatch(self, channel: str, process: str) -> None:
        """Undo `watch`, done reading: what still waits on ``channel`` is dropped, counted."""

    @abstractmethod
    async def aunwatch(self, channel: str, process: str) -> None:
        """Async twin of `unwatch`."""

    @abstractmethod
    def acquire(self, key: str, epoch: int = 0) -> int | None:
        """Have this process alone hold ``key``, a name as a group's; return since which epoch.

        None while another process holds it. It ends by `release` and with the lease, and each
        next holder has a higher epoch; to acquire what this process holds returns the same
        again. After an ``UP`` that says so (`edge.Item`) the layer has forgotten it: ``epoch``
        is with which it was held before, and returned again unless somebody else holds it
        now. For two seconds after a hub's beginning nobody else is given anything.
        """

    @abstractmethod
    async def aacquire(self, key: str, epoch: int = 0) -> int | None:
        """Async twin of `acquire`."""

    @abstractmethod
    def release(self, key: str) -> None:
        """Hold ``key`` no more; nothing happens where this process does not hold it."""

    @abstractmethod
    async def arelease(self, key: str) -> None:
        """Async twin of `release`."""

    # ------------------------------------------------ connections and roles

    @abstractmethod
    def edge(self, deliver: Callable[[list[Item]], None]) -> Edge:
        """Open the face of a protocol server on the running loop; once per layer.

        ``deliver`` is called on the loop with items, in order, never from within a verb.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave: what is in hand fails (cause ``lost``), memberships and announcements end.

        Idempotent. Called after `Intake.close` and the last settlement it loses nothing.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Async twin of `close`."""
