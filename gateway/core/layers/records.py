"""What the state of a layer is made of: plain records, no behaviour.

::

    Process ──► Link ──► Reader ──► Channel ──► queue of Entry
       │          └─ hand: Entries taken and not settled
       └─ inbox: items for this process, in one order
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from gateway.core.layers.edge import Item

FOREVER: Final = float("inf")

Membership = tuple[str, str]
"""A group, and the name of its member."""


class Entry:
    """One delivery on its way: queued, delayed or in hand."""

    __slots__ = (
        "aside",
        "channel",
        "deadline",
        "done",
        "forever",
        "lasting",
        "membership",
        "name",
        "not_to",
        "payloads",
        "reader",
        "receipt",
        "sender",
        "seq",
        "since",
        "size",
        "tag",
        "tries",
        "withdrawn",
    )

    def __init__(
        self,
        channel: Channel,
        name: str,
        payloads: Sequence[bytes],
        size: int,
        sender: Process | None,
        receipt: int | None,
        since: float,
        deadline: float,
        seq: int,
    ) -> None:
        self.channel = channel
        self.name = name
        self.payloads = payloads
        self.size = size
        self.sender = sender
        self.receipt = receipt
        self.since = since
        self.deadline = deadline
        self.seq = seq
        self.done = 0
        self.tries = 0
        self.tag = 0
        self.forever = False
        self.lasting = 0
        """The tag that it has whoever gets it, of a disconnect that a successor must know."""
        self.membership: Membership | None = None
        """Whose join or leave it tells."""
        self.aside = False
        """In hand, its credit returned already."""
        self.withdrawn = False
        self.not_to: Process | None = None
        self.reader: Reader | None = None


class Channel:
    """One channel: its queue, its readers, its numbers. For a prefix ``x!``, all its addresses."""

    __slots__ = (
        "busy",
        "bytes",
        "capacity",
        "check_at",
        "drops",
        "full",
        "in_hand",
        "messages",
        "name",
        "pending",
        "queue",
        "readers",
    )

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.queue: deque[Entry] = deque()
        self.readers: list[Reader] = []
        self.busy: set[str] | None = set() if name.endswith("!") else None
        """Addresses with a message in hand; None for other channels."""
        self.pending = 0
        self.bytes = 0
        self.in_hand = 0
        self.messages = 0
        self.full = 0
        self.drops: dict[str, int] = {}
        self.check_at = FOREVER


class Reader:
    """A wish for deliveries from some channels: ``credit`` more of them.

    ``push(entry)`` hands one over. A standing reader gets its credit back as deliveries are
    finished; any other is used up by one.
    """

    __slots__ = ("channels", "credit", "link", "push", "ring", "standing")

    def __init__(
        self, link: Link, credit: int, push: Callable[[Entry], None], *, standing: bool
    ) -> None:
        self.link = link
        self.credit = credit
        self.push = push
        self.standing = standing
        self.channels: tuple[Channel, ...] = ()
        self.ring: dict[Channel, None] = {}
        """Channels with something waiting, next to serve first."""


class Link:
    """One connection of a process to the layer; what it holds fails when it ends."""

    __slots__ = ("hand", "listening", "process", "readers")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.hand: dict[int, Entry] = {}
        self.readers: set[Reader] = set()
        self.listening: dict[str, Reader] = {}
        """What an edge reads, by channel."""


class Process:
    """One process and all that stands under its lease."""

    __slots__ = (
        "alive",
        "announced",
        "edge",
        "epoch",
        "groups",
        "inbox",
        "inbox_bytes",
        "leased",
        "lifted",
        "links",
        "name",
        "notify",
        "pinned",
        "receipts",
        "registered",
        "reserved",
        "resumes",
        "skipped",
        "still",
        "version",
        "waiters",
        "watchers",
    )

    def __init__(self, name: str, epoch: int, *, leased: bool) -> None:
        self.name = name
        self.epoch = epoch
        self.leased = leased
        self.alive = True
        self.still = 0.0
        """Seconds without a sign of life."""
        self.links: set[Link] = set()
        self.edge: Link | None = None
        """The link that hears every item; None: the inbox is read by ``receive``."""
        self.notify: Callable[[], None] | None = None
        self.inbox: list[Item] = []
        self.inbox_bytes = 0
        self.resumes = False
        """Whether its inbox has something in it that a member missed."""
        self.skipped: set[str] = set()
        """The groups with a ``GAP`` in its inbox, for all members, since that was drained."""
        self.waiters: list[Reader] = []
        self.receipts: dict[int, Entry] = {}
        self.registered: dict[str, tuple[str, bytes]] = {}
        self.reserved: dict[int, Entry] | None = None
        """Disconnects that it has in hand since before the hub knew it, by tag."""
        self.pinned: dict[str, str] = {}
        """By registered connection, where its disconnect is pinned to."""
        self.lifted = False
        """Whether it takes no more what is pinned to it."""
        self.groups: dict[str, set[str]] = {}
        """Groups by the name of our member."""
        self.announced: frozenset[str] | None = None
        self.version = ""
        """The version that it announced."""
        self.watchers: set[str] = set()


class Group:
    """The members of a group, by process; and those that belong to none."""

    __slots__ = ("announced", "count", "expires", "here", "others", "watched")

    def __init__(self) -> None:
        self.here: dict[Process, dict[str, bytes | None]] = {}
        self.others: dict[str, tuple[float, bytes | None]] = {}
        self.announced: set[str] | None = None
        """The members whose joins and leaves are told."""
        self.count = 0
        self.expires = FOREVER
        """Before this no member expires."""
        self.watched = False
        """Whether it stands in the heap of the groups whose members expire."""
