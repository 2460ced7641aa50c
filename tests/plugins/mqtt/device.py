"""Devices that speak packets to a started plugin without sockets, and an application beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from gateway.core.layers.base import OK, Outcome
from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt.codec import Decoder, encode
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.plugin import MqttPlugin
from gateway.testing.rig import Heard, Rig


class Site:
    """A gateway and an application that accepts all, unless ``decide`` says otherwise."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.heard: list[Heard] = []
        self.decide: Callable[[Heard], Outcome] = lambda _: OK
        self.replies: Callable[[Heard], tuple[dict[str, Any], ...]] = lambda _: ()

    def device(self, client_id: str = "d", protocol: int = p.V5, **options: Any) -> Device:
        """Return a device that has been let in."""
        device = Device(self, protocol)
        device.hello = device.ask(p.Connect(client_id, protocol, **options))
        return device

    def serve(self, seconds: float = 0.0) -> None:
        """Let the application take what there is, for so many virtual seconds."""
        self.rig.run(seconds)
        while (heard := self.rig.hear_any()) is not None:
            self.heard.append(heard)
            outcome = self.decide(heard)
            heard.settle(outcome, *(self.replies(heard) if outcome is OK else ()))
            self.rig.run()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of one kind that the application has heard."""
        return [heard.message for heard in self.heard if heard.kind == kind]

    def dropped(self) -> dict[str, int]:
        return dict(self.rig.metrics.dropped())


class Device:
    """A device."""

    def __init__(self, site: Site, protocol: int = p.V5) -> None:
        self.site = site
        self.protocol = protocol
        self.client = site.rig.connect()
        self.decoder = Decoder(protocol=protocol)
        self.hello: list[Any] = []

    def say(self, *packets: p.Packet | bytes) -> None:
        for packet in packets:
            raw = packet if isinstance(packet, bytes) else encode(packet, self.protocol)
            self.client.send(raw)

    def hear(self, seconds: float = 0.0) -> list[Any]:
        """Return what it hears, once the application has done its part."""
        self.site.serve(seconds)
        return self.decoder.feed(self.client.take())

    def ask(self, *packets: p.Packet | bytes) -> list[Any]:
        self.say(*packets)
        return self.hear()

    def subscribe(self, *filters: str, qos: int = 0, options: int = 0, **properties: Any) -> None:
        asked = [(name, qos | options) for name in filters]
        found = self.ask(p.Subscribe(1, asked, properties))
        assert found[0] == p.Suback(1, [qos] * len(filters)), found
        self.early = found[1:]

    @property
    def ended(self) -> bool:
        return self.client.ended


@contextlib.contextmanager
def site(
    announced: tuple[str, ...] = (), gateway: dict[str, Any] | None = None, **config: Any
) -> Iterator[Site]:
    with Rig(MqttPlugin, MqttConfig(**config), announced=announced, **gateway or {}) as rig:
        yield Site(rig)
