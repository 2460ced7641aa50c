"""The channel layer as a protocol server has it, on one event loop: `Edge`, and what it hears.

Verbs never wait, and one callback is told all that comes in, in order. What a verb could not do
comes back as an item. The other face, for everybody else, is `gateway.core.layers.base.Layer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.core.layers.options import LayerOptions

Item = tuple[Any, ...]
"""One thing that an `Edge` is told. The first element says which:

===========  =========================================  ==========================================
item         fields                                     meaning
===========  =========================================  ==========================================
``MESSAGE``  channel, payload                           for a name of this process
``GROUP``    group, payload, exclude (list of names),   for the members that this process holds
             and, of a message that is kept, its
             position
``JOIN``     group, channel, meta payload or None,      somebody added a connection of ours
             announce, and, where that is asked for,
             what it missed (`log.Resumed`)
``PART``     group, channel                             somebody removed a connection of ours
``OUTCOME``  receipt, index, Outcome                    of a message we posted
``HANDLED``  receipt, index, number                     so many messages that we posted, from
                                                        ``index`` on, were accepted
``FULL``     receipt, channel                           a post was refused whole, for lack of room
``ANNOUNCED``  frozenset of channels, or None           what living workers' tables name
``DOWN``     (none)                                     the layer cannot be reached
``UP``       rejoined (bool)                            it is back; True: it has forgotten us, and
                                                        what was unsettled is lost: register again,
                                                        join groups again
``FENCED``   (none)                                     our lease has ended: close every connection
``GAP``      group                                      of messages that are kept some had no room:
                                                        here, and further on in the same batch
===========  =========================================  ==========================================
"""

MESSAGE: Final = 1
GROUP: Final = 2
JOIN: Final = 3
PART: Final = 4
OUTCOME: Final = 5
FULL: Final = 6
ANNOUNCED: Final = 7
DOWN: Final = 8
UP: Final = 9
FENCED: Final = 10
GAP: Final = 11
HANDLED: Final = 12


class Edge(ABC):
    """The layer as a protocol server sees it: verbs that never wait, on one loop.

    What is posted in one turn of the loop leaves together, in order. While the layer is
    away posts are answered at once by an ``OUTCOME`` ``failed`` (cause ``layer_lost``), and
    ``available`` is False.
    """

    process: str
    options: LayerOptions
    """The layer's: a hub's, once there was contact with it."""
    available: bool
    announced: frozenset[str] | None
    """What living workers' tables name, kept current; None while no worker lives."""

    @abstractmethod
    def post(
        self,
        channel: str,
        payloads: Sequence[bytes],
        receipt: int | None = None,
        expiry: float | None = None,
        pin: str | None = None,
    ) -> None:
        """Send several encoded messages as one delivery, with ``receipt`` a positive number.

        With a receipt follow, later, either ``FULL`` or one ``OUTCOME`` for each message, in
        whose place several that were accepted may be ``HANDLED`` together.
        Without one a refusal is dropped, counted.

        With ``pin``, ``pin.PROCESS``, the delivery waits on that channel, though its ``channel``
        is the one posted to. When that process closes its intake of it, or its lease ends, the pin
        is lifted: what it has not begun is offered on the channel posted to, in order and exempt
        from capacity; what is posted later waits there. Such a message says ``unpinned``, True.
        """

    @abstractmethod
    def cancel(self, receipt: int) -> None:
        """Withdraw a post if nobody has taken it.

        One ``OUTCOME`` per message follows in any case: ``released`` (cause ``cancelled``)
        where it was withdrawn, the true one where it was not.
        """

    @abstractmethod
    def register(self, connection: str, channel: str, disconnect: bytes) -> None:
        """Register an accepted connection, by its reply channel.

        If the lease of this process ends, ``disconnect`` is offered on ``channel``.
        """

    @abstractmethod
    def pin(self, connection: str, pin: str) -> None:
        """Have the disconnect of a connection, whoever offers it, pinned as a `post` is."""

    @abstractmethod
    def end(self, connection: str, channel: str = "", disconnect: bytes | None = None) -> None:
        """End a connection: its memberships end, its registration is forgotten, and
        ``disconnect``, if given, is offered on ``channel``: exempt from capacity and expiry,
        offered again until it is settled; dropped, counted (``unrouted``) where no living
        worker announced the channel. In one step.
        """  # noqa: D205 - one sentence

    @abstractmethod
    def group_add(
        self,
        group: str,
        channel: str,
        meta: bytes | None = None,
        *,
        announce: bool = False,
        again: bool = False,
        since: str | None = None,
    ) -> None:
        """As `Layer.group_add`; for a connection of this process no ``JOIN`` follows.

        Except where ``since`` asks for what it missed: that comes with it. ``again``, after an
        ``UP`` with True: its join was told before and is not told again.
        """

    @abstractmethod
    def group_discard(self, group: str, channel: str) -> None:
        """As `Layer.group_discard`; for a connection of this process no ``PART`` follows."""

    @abstractmethod
    def group_send(
        self,
        group: str,
        payload: bytes,
        exclude: Iterable[str] = (),
        *,
        history: int = 0,
        history_seconds: float | None = None,
    ) -> None:
        """As `Layer.send_group`."""

    @abstractmethod
    def send(self, channel: str, payload: bytes) -> None:
        """Send one message, of no conversation; a refusal is dropped, counted."""

    @abstractmethod
    def listen(self, channel: str) -> None:
        """Read the normal channel or prefix (``x!``): its messages come as ``MESSAGE``, settled
        ``accepted`` as they come.
        """  # noqa: D205 - one sentence

    @abstractmethod
    def unlisten(self, channel: str) -> None:
        """Read a channel no more: what waits there, waits for whoever reads it next."""

    @abstractmethod
    def watch(self, channel: str, process: str) -> None:
        """Have ``{"closed": True}`` sent to ``channel``, a name of this process, when ``process``
        ends, or now if there is none: behind all that it has sent.
        """  # noqa: D205 - one sentence

    @abstractmethod
    def leave(self) -> None:
        """Leave the layer: the lease ends, in order, after all that was posted."""
