"""Groups that a plugin serves itself: the rooms of a chat, say.

A plugin that gathers a prefix hears all that happens in this process to groups whose names begin
so: who becomes a member, by whatever protocol, and who is none any more; and what is said. What
members of its own get, they get from it and not from the core: those are the sessions of the class
that it names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.core import names
from gateway.core.layers import codec
from gateway.core.layers.base import History, Layer
from gateway.core.layers.log import GROUP_LOG, Position
from gateway.core.metrics import Drop
from gateway.core.reply import InvalidReply

if TYPE_CHECKING:
    from gateway.core.connection import Engine
    from gateway.core.context import PluginContext
    from gateway.core.conversation import Conversation
    from gateway.core.plugin import Session

Message = dict[str, Any]


class Gathering(ABC):
    """What a plugin does with the groups that it gathers. None of it may raise."""

    @abstractmethod
    def joined(self, group: str, channel: str, meta: Message | None) -> None:
        """Hear that somebody added a connection of this process, or gave a member other meta.

        ``channel`` is its reply channel; of one of the plugin's own, that of the connection.
        """

    @abstractmethod
    def left(self, group: str, channel: str) -> None:
        """Hear that it is a member no more, whatever ended that."""

    @abstractmethod
    def said(
        self, group: str, message: Message, exclude: Sequence[str], position: str | None
    ) -> None:
        """Take what was sent to a group that has a member here: it fits the plugin's ``REPLY``.

        ``exclude`` names who does not get it; ``position`` is its place in the history of the
        layer where it is kept.
        """

    @abstractmethod
    def ended(self, process: str) -> None:
        """Hear that a gateway process is gone which was watched."""

    @abstractmethod
    def rejoined(self) -> None:
        """Hear that the layer is back and had forgotten us: nothing is watched any more."""


class Gathered:
    """What a plugin can do with the groups that it gathers. Made by `Context.gather`."""

    def __init__(
        self,
        engine: Engine,
        context: PluginContext,
        prefix: str,
        gathering: Gathering,
        own: type[Session],
    ) -> None:
        self.context = context
        self.prefix = prefix
        self.own = own
        """The class of the sessions that it serves itself."""
        self._engine = engine
        self._gathering = gathering
        self._members: dict[tuple[str, str], bytes | None] = {}
        """Those of the plugin's own, with their meta."""

    # ------------------------------------------------ what the plugin does

    @property
    def process(self) -> str:
        """The name of this gateway process on the layer."""
        return self._engine.process

    def add(self, group: str, channel: str, meta: Message | None = None) -> None:
        """Have a connection of the plugin's be a member, as all see it; again: its new meta."""
        encoded = None if meta is None else codec.encode_meta(meta)
        self._members[group, channel] = encoded
        self._engine.edge.group_add(group, channel, encoded)

    def discard(self, group: str, channel: str) -> None:
        """Have it be a member no more. Idempotent; also where the application added it."""
        self._members.pop((group, channel), None)
        self._engine.edge.group_discard(group, channel)

    def send(
        self,
        group: str,
        message: Message,
        exclude: Sequence[str] = (),
        *,
        history: int = 0,
        history_seconds: float | None = None,
    ) -> None:
        """Send to all members but the plugin's own in this process: it tells those itself.

        Raises MessageTooLarge.
        """
        payload = codec.encode(message, self.context.message_bytes)
        without = (*exclude, self._here)
        self._engine.edge.group_send(
            group, payload, without, history=history, history_seconds=history_seconds
        )

    def tell(self, channel: str, message: Message) -> None:
        """Send a message to one member, as the application does. Raises MessageTooLarge."""
        self._engine.edge.send(channel, codec.encode(message, self.context.message_bytes))

    async def history(self, group: str) -> History | None:
        """Return what is kept of a group; None on a layer that keeps nothing."""
        layer = self._engine.layer
        if not isinstance(layer, Layer) or "deliveries" not in layer.extensions:
            return None
        return await layer.alog_read(GROUP_LOG + group)

    def watch(self, process: str) -> None:
        """Have the end of a gateway process told: at once where there is none of that name."""
        self._engine.edge.watch(f"{self._ended_of}{process}", process)

    @property
    def _here(self) -> str:
        """What stands for the plugin's own members in this process among who is left out."""
        return f"{self.context.name}.gathered.{self._engine.process}!"

    @property
    def _ended_of(self) -> str:
        return f"{self.context.name}.ended.{self._engine.process}!"

    # ------------------------------------------------ what the core says

    def joined(self, group: str, conversation: Conversation, meta: bytes | None) -> None:
        """Tell the plugin of a member."""
        self._gathering.joined(
            group, self._name(conversation), None if meta is None else codec.decode(meta)
        )

    def left(self, group: str, conversation: Conversation) -> None:
        """Tell the plugin of one that is a member no more."""
        self._gathering.left(group, self._name(conversation))

    def _name(self, conversation: Conversation) -> str:
        owner = conversation.owner
        own = isinstance(owner.session, self.own)
        return owner.reply_channel if own else conversation.reply_channel

    def said(
        self, group: str, payload: bytes, exclude: Sequence[str], position: Position | None
    ) -> None:
        """Have the plugin take what is said, unless it was the one that sent it."""
        context = self.context
        if exclude and self._here in exclude:
            return
        try:
            message = context.reader.read(payload)
            if message is None:
                return
            if "pin" in message:
                raise InvalidReply("only a direct reply pins")
        except InvalidReply as error:
            context.drop(Drop.INVALID)
            context.log.warning(
                "group %s: invalid reply dropped by %s: %s", group, context.name, error
            )
            return
        place = None if position is None else names.position(*position)
        self._gathering.said(group, message, exclude, place)

    def heard(self, channel: str) -> bool:
        """Take the word that a process has ended; return whether it was that."""
        if not channel.startswith(self._ended_of):
            return False
        self._gathering.ended(channel[len(self._ended_of) :])
        return True

    def fenced(self) -> None:
        """Hear that the lease of this process has ended: it has no members any more."""
        self._members.clear()

    def rejoin(self) -> None:
        """Tell a layer that has forgotten us who is a member of what."""
        for (group, channel), meta in self._members.items():
            self._engine.edge.group_add(group, channel, meta)
        self._gathering.rejoined()
