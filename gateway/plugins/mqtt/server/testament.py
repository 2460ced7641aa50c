"""What a lost device wanted said, on its way through the application. Pure.

A will is a publish like any other: it goes to ``mqtt.receive``, and once that was accepted to
those who subscribe to its topic. The connection of its device is gone; it has one of its own, for
as long as it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import ACCEPTED, Action, Close, Emit, Message, Outcome, Peer, Session
from gateway.plugins.mqtt import translate
from gateway.plugins.mqtt.packets import Publish, Will
from gateway.plugins.mqtt.server.publication import Publication, kept


class Testament(Session):
    """One will. ``publish`` relays it; None where nothing is relayed."""

    __slots__ = ("_client_id", "_publish", "_will")

    def __init__(
        self, client_id: str, will: Will, publish: Callable[[Publication], None] | None
    ) -> None:
        self._client_id = client_id
        self._will = will
        self._publish = publish

    def opened(self, peer: Peer) -> Iterable[Action]:
        """Hand it to the application."""
        will = self._will
        packet = Publish(will.topic, will.payload, 0, will.retain, properties=will.properties)
        message = translate.receive(packet, will.topic, duplicate=False, attempt=1)
        message["qos"] = will.qos
        message["client_id"] = self._client_id
        return (Emit("receive", message, "will"),)

    def received(self, data: Any) -> Iterable[Action]:
        """Nobody says anything."""
        return ()

    def ended(self) -> Message:
        """Return what nobody asks for: it was never accepted."""
        return {"client_id": self._client_id}

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Answer nobody."""
        raise LocalProtocolError("the device is gone")

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Relay what was accepted."""
        will = self._will
        if outcome.kind == ACCEPTED and self._publish is not None:
            self._publish(
                Publication(
                    will.topic,
                    will.payload,
                    will.qos,
                    retain=will.retain,
                    properties=kept(will.properties),
                    expires=will.properties.get("message_expiry_interval"),
                    source=self._client_id,
                )
            )
        return (Close(),)


class Nobody:
    """The wire of a testament: nobody is at its other end."""

    __slots__ = ("_gone",)

    def __init__(self, gone: Callable[[], None]) -> None:
        self._gone = gone

    def write(self, output: Any) -> None:
        """Say nothing."""

    def close(self, data: Any, *, abort: bool) -> None:
        """End it."""
        self._gone()

    def pause(self) -> None:
        """Have nothing to read."""

    def resume(self) -> None:
        """Have nothing to read."""
