"""Where a session of MQTT is: in one gateway process at a time, by its client id.

Who holds the key of a client id on the layer has its session. A device that comes to another
process has its session sent after it: the process asks all for it, and who has it ends its
connection (0x8E), sends the session, and lets go of the key.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from gateway.core.deadlines import Deadline
from gateway.core.plugin import Context, Held, Message
from gateway.plugins.mqtt.server.device import Device, Limits
from gateway.plugins.mqtt.server.wire import MqttWire

ASK_AFTER: Final = 0.05
"""Seconds to wait for a key before its holder is asked for it: what a free one takes."""
ANSWER: Final = 1.0
"""Seconds to wait for a session after its key is ours: who had it sent it before."""
ROOM: Final = 65_536
"""Bytes of a session that is sent beside its messages: subscriptions, identifiers."""


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


class Homes:
    """The sessions of MQTT of this process."""

    def __init__(
        self,
        context: Context,
        limits: Limits,
        tell: Callable[[Message], None],
        leave: Callable[[Home], None],
    ) -> None:
        self._context = context
        self._limits = limits
        self._tell = tell
        self._leave = leave
        """Ends the connection and the subscriptions of one that moves away."""
        self.name = secrets.token_hex(8)
        """What this process calls itself."""
        self.here: dict[str, Home] = {}
        self._claims: dict[str, list[tuple[MqttWire, Begin]]] = {}
        """Who waits for a session that is not here yet, the last one last."""
        self._leaving: deque[Home] = deque()
        self._work = asyncio.Event()
        """Set when there is something to let go of."""
        self._expected: dict[str, asyncio.Future[Message | None]] = {}

    def claim(self, wire: MqttWire, client_id: str, begin: Begin) -> None:
        """Have ``begin(home, wire, found)`` called once the session is here."""
        home = self.here.get(client_id)
        if home is not None and home.held.lost.is_set():
            self._leave(home)  # our lease had ended: another process may have it
            del self.here[client_id]
            home = None
        if home is not None:
            begin(home, wire, True)
            return
        waiting = self._claims.get(client_id)
        if waiting is not None:
            waiting.append((wire, begin))
            return
        self._claims[client_id] = [(wire, begin)]
        self._context.spawn(self._fetch(client_id))

    async def _fetch(self, client_id: str) -> None:
        key = hashlib.blake2b(client_id.encode(), digest_size=16).hexdigest()
        holds = self._context.singleton(f"device.{key}")
        entering = asyncio.ensure_future(holds.__aenter__())
        state = None
        try:
            done, _ = await asyncio.wait({entering}, timeout=ASK_AFTER)
            if not done:
                expected = self._context.loop.create_future()
                self._expected[client_id] = expected
                self._tell({"take": client_id, "to": self.name})
                await entering
                await asyncio.wait({expected}, timeout=ANSWER)
                state = expected.result() if expected.done() else None
            held = entering.result()
        except BaseException:
            entering.cancel()
            self._claims.pop(client_id, None)
            raise
        finally:
            self._expected.pop(client_id, None)
        device = Device(client_id, self._limits)
        if state is not None:
            device.unpack(state)
        home = self.here[client_id] = Home(device, holds, held)
        found = state is not None
        claims = self._claims.pop(client_id)
        if all(wire.connection is None for wire, _ in claims) and not found:
            self.end(home)  # they have left before it was here
        for wire, begin in claims:
            if wire.connection is not None:
                begin(home, wire, found)
                found = True

    def hear(self, message: Message) -> bool:
        """Take what another process says of sessions; return whether it was about that."""
        if "take" in message:
            client_id = message["take"]
            home = self.here.get(client_id)
            if home is not None and message["to"] != self.name:
                most = self._limits.size
                state = home.device.packed(most) if home.device.expiry else None
                self._leave(home)
                self._tell({"given": client_id, "to": message["to"], "state": state})
                self.end(home)
            return True
        if "given" in message:
            expected = self._expected.get(message["given"])
            if expected is not None and message["to"] == self.name and not expected.done():
                expected.set_result(message["state"])
            return True
        return False

    def end(self, home: Home) -> None:
        """Forget a session and let go of its client id."""
        for deadline in (home.deadline, home.last_will):
            if deadline is not None:
                self._context.deadlines.forget(deadline)
        home.deadline = home.last_will = None
        if self.here.get(home.device.client_id) is home:
            del self.here[home.device.client_id]
            self._leaving.append(home)
            self._work.set()

    async def release(self) -> None:
        """Let go of what was ended, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self._release()

    async def _release(self) -> None:
        while self._leaving:
            await self._leaving.popleft().holds.__aexit__(None, None, None)

    async def close(self) -> None:
        """Let go of all that is here."""
        for home in list(self.here.values()):
            self.end(home)
        await self._release()
