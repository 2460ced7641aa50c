"""A message that a plugin emitted, in the hands of the test: its worker."""

from __future__ import annotations

from typing import Protocol

from gateway.core.layers.base import OK, Delivery, Outcome, Send, send
from gateway.core.plugin import Message


class Hands(Protocol):
    """Who took the message: a `Rig`, or a `Staged`."""

    def settle(self, delivery: Delivery, outcome: Outcome, sends: list[Send]) -> None:
        """Say what became of the first message of a delivery that has no outcome yet."""


class Heard:
    """One message that the plugin emitted, in a worker's hands."""

    def __init__(self, hands: Hands, delivery: Delivery, message: Message) -> None:
        self._hands = hands
        self._delivery = delivery
        self.channel = delivery.channel
        self.kind = delivery.channel.partition(".")[2]
        self.message = message

    def settle(self, outcome: Outcome = OK, *replies: Message) -> None:
        """Say what became of it, after sending ``replies`` to where it wants them."""
        sends = [send(self.message["reply_channel"], reply) for reply in replies]
        self._hands.settle(self._delivery, outcome, sends)
