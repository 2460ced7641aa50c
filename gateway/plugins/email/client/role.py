"""The way out: what is sent to ``email.send`` comes into the spool, and from there to servers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterable, Mapping
from typing import Any, Final

from gateway.core.errors import LocalProtocolError, PluginError
from gateway.core.metrics import Drop
from gateway.core.plugin import OK, REJECTED, Context, Message, Outcome
from gateway.plugins.email.client.config import Outgoing
from gateway.plugins.email.client.envelope import Entry, Envelope, Refused
from gateway.plugins.email.client.kept import KeptOutbox
from gateway.plugins.email.client.mx import Resolver
from gateway.plugins.email.client.outbox import Outbox
from gateway.plugins.email.client.pieces import Pieces
from gateway.plugins.email.client.postman import Postman
from gateway.plugins.email.client.requests import OURS, request
from gateway.plugins.email.client.routes import Routes
from gateway.plugins.email.client.sign import Signer
from gateway.plugins.email.client.spool import Spool
from gateway.plugins.email.client.where import spool_of

SEND: Final = "email.send"
BUSY: Final = 64
"""Mails that are being spooled at once; more wait on the layer, where their senders see that it is
full."""
STOP: Final = 10.0
"""Seconds for what is being spooled, once the gateway stops: then its sender hears nothing."""


class ClientRole:
    """The outgoing direction of the plugin. ``outbox`` is there once it is started."""

    outbox: Outbox

    def __init__(self, config: Outgoing, context: Context, hostname: str = "") -> None:
        self._config = config
        self._context = context
        self._hostname = hostname or socket.gethostname()
        self._postman: Postman | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._busy: set[asyncio.Task[None]] = set()
        self._listening = False
        self._stopping = False

    async def start(self) -> None:
        """Take mail from now on, and begin to deliver. Raises ConfigError."""
        config, context = self._config, self._context
        if not context.outbound:
            self.outbox = KeptOutbox(config, context)
            self._listen()
            return
        routes = Routes(config, Resolver(config.delivery.resolvers))
        signer = Signer(config.dkim)
        spool = Spool(spool_of(config))
        self.outbox = Outbox(config, context, spool, signer, self._taken)
        self._postman = Postman(config, context, spool, self.outbox, routes, self._hostname)
        spool.usage()
        context.gauge("spooled", lambda: float(spool.messages))
        context.gauge("spooled_bytes", lambda: float(spool.octets))
        context.gauge("delivery_connections", self._postman.connections)
        self._delivering = context.spawn(self._postman.run())
        self._listen()

    def kept(self) -> list[tuple[Entry, bytes]]:
        """Return what would have gone out, in a test's gateway."""
        return self.outbox.spool.mails if isinstance(self.outbox, KeptOutbox) else []

    def _taken(self, entry: Any) -> None:
        if self._postman is not None:
            self._postman.taken(entry)

    def _listen(self) -> None:
        """Read what is to be sent, unless as much is being spooled as may be."""
        wanted = not self._stopping and len(self._busy) < BUSY
        if wanted is self._listening:
            return
        self._listening = wanted
        for channel in (SEND, f"{SEND}!"):
            if wanted:
                self._context.listen(channel, self._hear)
            else:
                self._context.unlisten(channel)

    async def stop(self) -> None:
        """Take nothing more; return once what was taken is spooled, and what is sent, answered."""
        self._stopping = True
        if self._listening:
            self._listen()
        if self._busy:
            await asyncio.wait(self._busy, timeout=STOP)
        if self._postman is not None:
            await self._postman.close()
        if self._delivering is not None:
            self._delivering.cancel()
            await asyncio.wait({self._delivering})
            self._delivering = None
            self.outbox.close()

    def health(self) -> Mapping[str, Any]:
        """Return how delivery goes."""
        return {"ok": True} if self._postman is None else self._postman.health()

    async def submit(self, envelope: Envelope, content: bytes | AsyncIterable[bytes]) -> str:
        """Spool a mail, as `Outbox.submit` does. Raises `Refused`."""
        return await self.outbox.submit(envelope, content)

    # ------------------------------------------------ what is to be sent

    def _hear(self, channel: str, message: Message) -> None:
        task = self._context.spawn(self._send(channel, message))
        self._busy.add(task)
        task.add_done_callback(self._done)
        self._listen()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        self._listen()

    async def _send(self, channel: str, message: Message) -> None:
        """Spool what is to be sent, and answer its ``ack``."""
        outcome = Outcome("failed", reason="the gateway made a mistake", cause="failed")
        try:
            outcome = await self._spooled(channel, message)
        finally:
            self._context.answer(channel, message, outcome)

    async def _spooled(self, channel: str, message: Message) -> Outcome:
        context, pieces = self._context, None
        for key in OURS:
            if message.pop(key, None) is not None:
                context.count("ignored_keys_total", key=key)
        try:
            found = request(channel, message, self._config, self._hostname, time.time())
            if found.channel:
                patience = self._config.delivery.chunk_timeout
                pieces = Pieces(context, found.channel, patience)
            await self.outbox.submit(found.envelope, found.content if pieces is None else pieces)
        except Refused as refused:
            context.log.warning("%s: a mail is not taken: %s", channel, refused)
            return refused.outcome
        except (LocalProtocolError, PluginError, ValueError) as error:
            context.log.warning("%s: a mail is not taken: %s", channel, error)
            context.drop(Drop.INVALID)
            context.count("refused_total", reason="invalid")
            return Outcome(REJECTED, 550, str(error), "invalid")
        finally:
            if pieces is not None:
                pieces.close()
        return OK
