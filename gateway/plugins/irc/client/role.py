"""The client role: the networks that this process is on, and who reads their addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.core.plugin import Context, Message
from gateway.plugins.irc.client.check import check
from gateway.plugins.irc.client.config import Network
from gateway.plugins.irc.client.membership import Membership
from gateway.plugins.irc.places import SAY, destination

TICK: Final = 1.0
"""Seconds between two looks at what workers want."""
WANTING: Final = ("receive", "join", "part", "kick", "mode", "topic")
"""What is of a channel: a route to any of them may name one."""


Own = Callable[[str | None, str | None, str, Message], bool]


class ClientRole:
    """All networks. Of several gateway processes one is on them.

    ``own(network, target, channel, message)`` says what is for the gateway's own network, where
    there is one, and returns whether it was.
    """

    def __init__(
        self, networks: Mapping[str, Network], context: Context, own: Own | None = None
    ) -> None:
        self._own = own
        self._networks = networks
        self._context = context
        self._members: dict[str, Membership] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._standby = False

    async def start(self) -> None:
        """Begin to connect; return at once. Raises ConfigError."""
        check(self._networks)
        for name, network in self._networks.items():
            member = self._members[name] = Membership(self._context, name, network)
            self._context.gauge("network_connected", member.is_registered, network=name)
            self._context.gauge("network_unsent", member.unsent, network=name)
        self._keeping = self._context.spawn(self._keep())

    async def _keep(self) -> None:
        while True:
            self._standby = True
            async with self._context.singleton("networks") as held:
                self._standby = False
                await self._connect(held.lost)

    async def _connect(self, lost: asyncio.Event) -> None:
        """Be on all networks until ``lost`` is set, or the plugin stops."""
        for member in self._members.values():
            member.dial.tried.clear()
        try:
            async with asyncio.TaskGroup() as group:
                keeping = [group.create_task(one.dial.keep()) for one in self._members.values()]
                keeping.append(group.create_task(self._listen()))
                keeping.append(group.create_task(self._look()))
                await lost.wait()
                self._context.log.warning("another gateway process may be on the networks now")
                for task in keeping:
                    task.cancel()
        finally:
            self._unlisten()

    async def _listen(self) -> None:
        """Read what is to be said: once there is somebody to hand it to, or cannot be."""
        for member in self._members.values():
            await member.dial.tried.wait()
        self._context.listen(SAY, self._say)
        self._context.listen(f"{SAY}!", self._say)

    def _unlisten(self) -> None:
        self._context.unlisten(SAY)
        self._context.unlisten(f"{SAY}!")

    async def _look(self) -> None:
        """Look what workers want, again and again."""
        while True:
            found = [self._context.wanted(kind) for kind in WANTING]
            some = [one for one in found if one is not None]
            wanted = frozenset[str]().union(*some) if some else None
            for member in self._members.values():
                member.want(wanted)
            await asyncio.sleep(TICK)

    async def stop(self) -> None:
        """Connect no more; return when the last connection has ended."""
        self._unlisten()
        for member in self._members.values():
            member.dial.stop()
        await self._context.idle()
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.wait({keeping})

    def health(self) -> Mapping[str, Any]:
        """Return how each network is. One that is away is no illness of the gateway."""
        found = {name: member.facts() for name, member in self._members.items()}
        return {"ok": True, "standby": self._standby, "networks": found}

    def _say(self, channel: str, message: Message) -> None:
        """Say what was sent to ``irc.say``, or to an address."""
        network, target = destination(channel, message)
        if self._own is not None and self._own(network, target, channel, message):
            return
        member = None if network is None else self._members.get(network)
        if member is None:
            self._context.log.warning("%s: there is no network %r here", channel, network)
            self._context.undelivered(channel, message)
        else:
            member.reply(target, message, channel)
