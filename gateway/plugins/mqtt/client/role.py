"""The client role: the brokers that this process has joined, and who reads their addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Final

from gateway.core.names import random_text
from gateway.core.plugin import Context, Held, Message
from gateway.plugins.mqtt.client.check import check, client_id, default_of, target_of, tls_of
from gateway.plugins.mqtt.client.membership import Membership
from gateway.plugins.mqtt.client.places import AT, PUBLISH, Place, read
from gateway.plugins.mqtt.config import MqttConfig

SLOTS: Final = 64
"""Gateway processes that may share one broker: each has a client id of its own, held alone."""
PATIENCE: Final = 0.5
"""Seconds for the layer to give a client id that nobody has."""
OURS: Final = ("accept", "close", "pin", "reason")
"""Keys of a reply that mean nothing for a publish: there is nobody to be let in or closed."""


class ClientRole:
    """All brokers. Those of the mode ``single`` are joined by one gateway process of several."""

    def __init__(self, config: MqttConfig, context: Context) -> None:
        self._config = config
        self._context = context
        self._default = default_of(config)
        self._members: dict[str, Membership] = {}
        self._keeping: list[asyncio.Task[None]] = []
        self._some = asyncio.Event()
        """Set once a broker is being joined."""
        self._standby = False
        self._single = [n for n, b in config.brokers.items() if b.mode == "single"]
        self._shared = [n for n, b in config.brokers.items() if b.mode == "shared"]

    async def start(self) -> None:
        """Begin to join; return at once. Raises ConfigError."""
        check(self._config)
        for name, broker in self._config.brokers.items():
            tls_of(f"mqtt.brokers.{name}", broker)
            connected = partial(self._gauge, name, Membership.is_connected)
            unsent = partial(self._gauge, name, Membership.waiting)
            self._context.gauge("broker_connected", connected, broker=name)
            self._context.gauge("broker_unsent", unsent, broker=name)
        spawn = self._context.spawn
        self._keeping += [spawn(self._share(name)) for name in self._shared]
        if self._single:
            self._keeping.append(spawn(self._alone()))
        else:
            self._keeping.append(spawn(self._listen()))

    def _gauge(self, name: str, read: Callable[[Membership], float]) -> float:
        member = self._members.get(name)
        return 0.0 if member is None else read(member)

    def _join(self, name: str, slot: int = 0) -> Membership:
        broker = self._config.brokers[name]
        where = f"mqtt.brokers.{name}"
        member = self._members[name] = Membership(
            self._context,
            self._config,
            name,
            target_of(where, name, broker),
            partial(tls_of, where, broker),
            client_id(name, broker, slot),
            default=name == self._default,
            leaving=self._unlisten,
        )
        self._some.set()
        return member

    async def _alone(self) -> None:
        while True:
            self._standby = True
            async with self._context.singleton("brokers") as held:
                self._standby = False
                members = [self._join(name) for name in self._single]
                try:
                    async with asyncio.TaskGroup() as group:
                        keeping = [group.create_task(_kept(one)) for one in members]
                        keeping.append(group.create_task(self._listen()))
                        await held.lost.wait()
                        self._context.log.warning("another gateway process may join brokers now")
                        for task in keeping:
                            task.cancel()
                finally:
                    self._unlisten()
                    for name in self._single:
                        self._members.pop(name, None)

    async def _share(self, name: str) -> None:
        """Join, again and again, with the first client id that no other gateway process has."""
        while True:
            # A layer that has just begun gives nothing to anybody new: then nothing is taken yet.
            async with self._context.singleton(f"{name}.{random_text(12)}"):
                pass
            for slot in range(SLOTS):
                async with AsyncExitStack() as stack:
                    singleton = self._context.singleton(f"{name}.{slot}")
                    try:
                        async with asyncio.timeout(PATIENCE):
                            held = await stack.enter_async_context(singleton)
                    except TimeoutError:
                        continue
                    await self._hold(self._join(name, slot), held)
                break

    async def _hold(self, member: Membership, held: Held) -> None:
        """Be joined until another gateway process may have the client id."""
        tasks = [asyncio.ensure_future(one) for one in (member.keep(), held.lost.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._members.pop(member.name, None)

    async def _listen(self) -> None:
        """Read what is to be published: once there is somebody to hand it to, or cannot be."""
        await self._some.wait()
        for member in list(self._members.values()):
            await member.tried.wait()
        self._context.listen(f"{AT}!", self.publish)
        if self._default:
            self._context.listen(PUBLISH, self.publish)
            self._context.listen(f"{PUBLISH}!", self.publish)

    def _unlisten(self) -> None:
        self._context.unlisten(f"{AT}!")
        if self._default:
            self._context.unlisten(PUBLISH)
            self._context.unlisten(f"{PUBLISH}!")

    async def stop(self) -> None:
        """Join no more; return once what is in hand is acknowledged and everybody has left."""
        for member in list(self._members.values()):
            member.stop()
        await self._context.idle()
        self._unlisten()
        for task in self._keeping:
            task.cancel()
        if self._keeping:
            await asyncio.wait(self._keeping)
        self._keeping.clear()

    def health(self) -> Mapping[str, Any]:
        """Return how each broker is. To be away is no illness of the gateway; to be refused is."""
        found = {name: member.facts() for name, member in self._members.items()}
        well = all(member.is_well for member in self._members.values())
        return {"ok": well, "standby": self._standby, "brokers": found}

    # ------------------------------------------------ publishes

    def publish(self, channel: str, message: Message) -> None:
        """Publish what was sent to ``mqtt.publish``, or to an address."""
        place = Place("", "")
        if "!" in channel:
            try:
                place = read(channel)
            except ValueError:
                self._context.undelivered(channel, message)
                return
        name = message.get("broker") or place.broker or self._default
        member = self._members.get(name) if isinstance(name, str) else None
        if member is None:
            self._context.log.warning("%s: there is no broker %r here", channel, name)
            self._context.undelivered(channel, message)
            return
        for key in OURS:
            if key in message:
                del message[key]
                self._context.count("ignored_keys_total", key=key)
        if place.topic:
            message.setdefault("topic", place.topic)
        if place.correlation is not None:
            message.setdefault("correlation_data", place.correlation)
        member.reply(message, channel)


async def _kept(member: Membership) -> None:
    with suppress(asyncio.CancelledError):
        await member.keep()
