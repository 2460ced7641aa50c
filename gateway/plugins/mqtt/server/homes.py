"""Where a session of MQTT is: in one gateway process at a time, by its client id.

Who holds the key of a client id on the layer has its session. A device that comes to another
process has its session sent after it: the process asks all for it, and who has it ends its
connection (0x8E), sends the session, and lets go of the key.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

from gateway.core.deadlines import Deadline
from gateway.core.plugin import Context, Drop, Held, Message
from gateway.plugins.mqtt.server.device import Device, Limits
from gateway.plugins.mqtt.server.wire import MqttWire

ASK_AFTER: Final = 0.05
"""Seconds to wait for a key before its holder is asked for it: what a free one takes."""
ANSWER: Final = 1.0
"""Seconds to wait for a session after its key is ours: who had it sent it before; and for an answer
before it is asked for again."""
ROOM: Final = 16_384
"""Bytes of a message of the layer that are left for whose session it carries."""


class Home:
    """One session of MQTT in this process."""

    __slots__ = ("deadline", "device", "held", "holds", "last_will", "wire")

    def __init__(
        self, device: Device, holds: AbstractAsyncContextManager[Held], held: Held
    ) -> None:
        self.device = device
        self.holds = holds
        self.held = held
        self.wire: MqttWire | None = None
        """Its connection; None while the device is away."""
        self.deadline: Deadline | None = None
        """When it ends unless the device comes back."""
        self.last_will: Deadline | None = None
        """When the will is published unless it does."""


Begin = Callable[[Home, MqttWire, bool], None]
"""What is called once a session is here; it is told whether the session has a past."""
Claims = list[tuple[MqttWire, Begin]]


class Expected:
    """A session on its way from another process."""

    __slots__ = ("pieces", "whole")

    def __init__(self) -> None:
        self.pieces: list[Message] = []
        """What has come of it, in order (`Device.packed`); nothing where there was none."""
        self.whole = asyncio.Event()

    def take(self, message: Message) -> None:
        """Take a piece of it."""
        if not self.whole.is_set():
            if message["state"] is not None:
                self.pieces.append(message["state"])
            if message["last"]:
                self.whole.set()


class Homes:
    """The sessions of MQTT of this process."""

    def __init__(
        self,
        context: Context,
        limits: Limits,
        tell: Callable[[Message], None],
        leave: Callable[[Home], None],
        park: Callable[[Home], None],
    ) -> None:
        self._context = context
        self._limits = limits
        self._tell = tell
        self._leave = leave
        """Ends the connection and the subscriptions of one that moves away."""
        self._park = park
        """Keeps one that came for nobody."""
        self.name = secrets.token_hex(8)
        """What this process calls itself."""
        self.here: dict[str, Home] = {}
        self._claims: dict[str, Claims] = {}
        """Who waits for a session that is not here yet, the last one last."""
        self._leaving: dict[str, asyncio.Task[None]] = {}
        """The keys that are let go of now."""
        self._heir = ""
        """Who takes what is here when this process ends, …"""
        self._heard = asyncio.Event()
        """… which is known."""
        self._expected: dict[str, Expected] = {}

    def claim(self, wire: MqttWire, client_id: str, begin: Begin) -> None:
        """Have ``begin(home, wire, found)`` called once the session is here."""
        home = self.here.get(client_id)
        if home is not None and home.held.lost.is_set():
            self._give_up(home)
            home = None
        if home is not None:
            begin(home, wire, True)
            return
        waiting = self._claims.get(client_id)
        if waiting is not None:
            waiting.append((wire, begin))
            return
        self._look_for(client_id, [(wire, begin)])

    def _look_for(self, client_id: str, claims: Claims) -> Expected:
        self._claims[client_id] = claims
        expected = self._expected[client_id] = Expected()
        self._context.spawn(self._fetch(client_id, claims, expected))
        return expected

    def _give_up(self, home: Home) -> None:
        """Forget a session whose key is lost: our lease had ended, another process may have it."""
        self._leave(home)
        self.end(home)

    async def _fetch(self, client_id: str, claims: Claims, expected: Expected) -> None:
        try:
            entered = None
            while entered is None and _is_wanted(claims, expected):
                if (leaving := self._leaving.get(client_id)) is not None:
                    await asyncio.wait({leaving})  # else what is ours again would be let go
                entered = await self._enter(client_id, claims, expected)
        finally:
            del self._claims[client_id], self._expected[client_id]
        if entered is None:
            return
        device = Device(client_id, self._limits)
        found = expected.whole.is_set() and bool(expected.pieces)
        if found:
            device.unpack(expected.pieces)
        home = self.here[client_id] = Home(device, *entered)
        if not _any_there(claims):
            self._park(home)  # they have left before it was here
        for wire, begin in claims:
            if wire.connection is not None:
                begin(home, wire, found)
                found = True

    async def _enter(
        self, client_id: str, claims: Claims, expected: Expected
    ) -> tuple[AbstractAsyncContextManager[Held], Held] | None:
        """Get the key of a client id, and what its holder has; None where nobody waits any more."""
        key = hashlib.blake2b(client_id.encode(), digest_size=16).hexdigest()
        holds = self._context.singleton(f"device.{key}")
        entering = asyncio.ensure_future(holds.__aenter__())
        wait, asked = ASK_AFTER, False
        try:
            while not (await asyncio.wait({entering}, timeout=wait))[0]:
                if not _is_wanted(claims, expected):
                    entering.cancel()
                    await asyncio.wait({entering})
                    return None
                if not expected.whole.is_set():
                    # Again and again: who is asked may be about to get it only now.
                    self._tell({"take": client_id, "to": self.name})
                wait, asked = ANSWER, True
        except BaseException:
            entering.cancel()
            raise
        held = entering.result()
        if asked:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER):
                    await expected.whole.wait()
        return holds, held

    def hear(self, message: Message) -> bool:
        """Take what another process says of sessions; return whether it was about that."""
        if "take" in message:
            client_id = message["take"]
            home = self.here.get(client_id)
            if home is not None and home.held.lost.is_set():
                self._give_up(home)
            elif home is not None and message["to"] != self.name:
                self._give(home, message["to"])
            elif home is None and message["to"] != self.name:
                self._pass_on(client_id, message["to"])
            return True
        if "given" in message:
            if message["to"] == self.name:
                client_id = message["given"]
                expected = self._expected.get(client_id)
                if expected is None and message["unasked"] and client_id not in self.here:
                    expected = self._look_for(client_id, [])
                if expected is not None:
                    expected.take(message)
            return True
        if "heir" in message:
            if message["heir"] != self.name and not self._context.draining:
                self._tell({"inherits": self.name, "from": message["heir"]})
            return True
        if "inherits" in message:
            if message["from"] == self.name and not self._heir:
                self._heir = message["inherits"]
                self._heard.set()
            return True
        return False

    def _give(self, home: Home, to: str, *, unasked: bool = False) -> None:
        """Send a session to another process, and let go of it."""
        most = self._context.message_bytes - ROOM
        pieces = home.device.packed(most) if home.device.expiry else []
        self._leave(home)
        self._send(home.device.client_id, to, pieces, unasked=unasked)
        self.end(home)

    def _send(
        self, client_id: str, to: str, pieces: list[Message], *, unasked: bool = False
    ) -> None:
        for state in pieces[:-1]:
            self._tell(
                {"given": client_id, "to": to, "state": state, "last": False, "unasked": unasked}
            )
        last = pieces[-1] if pieces else None
        self._tell({"given": client_id, "to": to, "state": last, "last": True, "unasked": unasked})

    def _pass_on(self, client_id: str, to: str) -> None:
        """Send on what came unasked, and whose key is not here yet, to who has its device."""
        expected = self._expected.get(client_id)
        if expected is not None and expected.whole.is_set() and not self._claims[client_id]:
            pieces, expected.pieces = expected.pieces, []
            self._send(client_id, to, pieces)

    def renew(self, home: Home) -> None:
        """Let a session have no past; what earlier connections still have is another's."""
        home.device = Device(home.device.client_id, self._limits)

    def end(self, home: Home) -> None:
        """Forget a session and let go of its client id."""
        for deadline in (home.deadline, home.last_will):
            if deadline is not None:
                self._context.deadlines.forget(deadline)
        home.deadline = home.last_will = None
        if self.here.get(home.device.client_id) is home:
            del self.here[home.device.client_id]
            self._let_go(home)

    def _let_go(self, home: Home) -> None:
        client_id = home.device.client_id
        leaving = self._context.spawn(_exit(home))
        self._leaving[client_id] = leaving
        leaving.add_done_callback(lambda _: self._leaving.pop(client_id))

    async def close(self, *, others: bool) -> None:
        """Send all that is here to a process that stays, if there is one, and let go of it."""
        lasting = [home for home in self.here.values() if home.device.expiry]
        if lasting and others:
            self._tell({"heir": self.name})
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER):
                    await self._heard.wait()
        for home in list(self.here.values()):
            if self._heir and home.device.expiry and not home.held.lost.is_set():
                self._give(home, self._heir, unasked=True)
            else:
                self._context.drop(Drop.GONE, home.device.forget())
                self.end(home)
        if self._leaving:
            await asyncio.wait(set(self._leaving.values()))


async def _exit(home: Home) -> None:
    await home.holds.__aexit__(None, None, None)


def _is_wanted(claims: Claims, expected: Expected) -> bool:
    """Return whether a device waits for a session, or all of one came that is to be kept."""
    return _any_there(claims) or (expected.whole.is_set() and bool(expected.pieces))


def _any_there(claims: Claims) -> bool:
    return any(wire.connection is not None for wire, _ in claims)
