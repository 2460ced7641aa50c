"""The protocol server: its plugins start in order, roll back, drain, tell their health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from gateway.core.access import AccessLog
from gateway.core.boot import Boot
from gateway.core.connection import Engine
from gateway.core.context import PluginContext
from gateway.core.errors import ConfigError, GatewayError, LayerError, PluginError
from gateway.core.layers.base import Layer
from gateway.core.listeners import Listeners
from gateway.core.metrics import Metrics
from gateway.core.plugin import ProtocolPlugin
from gateway.core.registry import Loaded
from gateway.core.tls import Tls
from gateway.core.web import Claim

log = logging.getLogger("gateway.server")

STOP_TIME: Final = 2.0
"""Seconds that a plugin gets to release what a failed start left, as it serves nobody yet; and
beyond the grace at the end of a drain, when the core has cut off what was left."""
LOOK: Final = 0.02
"""Seconds between two looks at what a drain waits for."""


class Server:
    """The plugins of one gateway process over one layer. On one event loop."""

    def __init__(
        self,
        boot: Boot,
        layer: Layer,
        listeners: Listeners,
        metrics: Metrics,
        access: AccessLog | None = None,
    ) -> None:
        self._boot = boot
        self._listeners = listeners
        self._grace = boot.settings.gateway.grace
        self.metrics = metrics
        self._layer = layer
        self._contexts: dict[str, PluginContext] = {}
        self.engine = Engine(
            layer,
            boot.settings.gateway,
            metrics,
            asyncio.get_running_loop(),
            unavailable_timeout=boot.settings.layer.unavailable_timeout,
            access=access,
            protocols=boot.registry.available,
        )
        self.plugins: dict[str, ProtocolPlugin] = {}
        """The plugins, in the order of their start."""
        self._tls: Tls | None = None
        self._watching: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self._tried: list[str] = []
        self.started = False

    async def start(self) -> None:
        """Start every plugin, those that others require first.

        A failure stops what has started, in reverse, and is raised as ConfigError or
        PluginError that names the plugin; nothing runs or listens then.
        """
        claims: list[Claim] = []
        tables = self._boot.settings.tables
        try:
            self._load_tls()
            for loaded in self._boot.plugins:
                self._make(loaded, claims)
            claims += self._boot.registry.claims(
                {name: (tables[name], context) for name, context in self._contexts.items()}
            )
            for name, plugin in self.plugins.items():
                self._tried.append(name)
                await self._start(name, plugin)
        except BaseException:
            await self._roll_back()
            raise
        self.started = True

    def _load_tls(self) -> None:
        self._tls = tls = self._boot.tls()
        if tls is None:
            return
        tls.count_in(self.metrics)
        tls.warn()
        self._watching = asyncio.create_task(tls.watch())

    def _make(self, loaded: Loaded, claims: list[Claim]) -> None:
        name = loaded.name
        config = self._boot.settings.tables[name]
        try:
            self._contexts[name] = self.engine.context(
                loaded.kind,
                config,
                listeners=self._listeners.endpoints(name),
                claims=claims,
                tls=self._tls,
            )
            self.plugins[name] = loaded.kind(config, self._contexts[name])
            self.metrics.gauge("gateway_healthy", lambda: float(self._is_well(name)), plugin=name)
        except Exception as error:
            raise _cannot_start(name, error) from error

    async def _start(self, name: str, plugin: ProtocolPlugin) -> None:
        try:
            await plugin.start()
        except Exception as error:
            raise _cannot_start(name, error) from error

    async def _roll_back(self) -> None:
        self._listeners.close()
        for name in reversed(self._tried):
            await _ended(name, self.plugins[name].stop(), STOP_TIME)
        await self.engine.drain(0)
        await self._leave()

    async def reload(self) -> None:
        """Load again what can be: certificates, and what each plugin reads from files.

        A failure is logged and costs nobody else their turn; it never ends the process.
        """
        async with self._reloading:
            if self._tls is not None:
                await self._tls.reload()
            for name, plugin in self.plugins.items():
                try:
                    await plugin.reload()
                except Exception:
                    log.exception("plugin %r failed to reload", name)
        log.info("reloaded")

    async def drain(self) -> None:
        """Refuse what is new, let what runs finish within the grace, settle the disconnects."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._grace
        self._listeners.close()
        stopping = [
            asyncio.ensure_future(_ended(name, plugin.stop(), self._grace + STOP_TIME))
            for name, plugin in self.plugins.items()
        ]
        await asyncio.sleep(0)  # each refuses now; then the sessions hear that it is the end
        await self.engine.drain(self._grace)
        await asyncio.gather(*stopping)
        await self.engine.settled(max(0.0, deadline - loop.time()))
        await self._disconnects(deadline)
        await self._leave()

    async def _disconnects(self, deadline: float) -> None:
        """Wait until the consumers have run what connections leave behind."""
        loop = asyncio.get_running_loop()
        channels = [context.disconnect for context in self._contexts.values()]
        while self.engine.edge.available and self.engine.edge.announced:
            try:
                found = [await self._layer.achannel_statistics(name) for name in channels]
            except LayerError:
                return
            left = sum(statistics.pending + statistics.in_hand for statistics in found)
            if not left:
                return
            if loop.time() >= deadline:
                log.warning("disconnect messages left to workers that come later: %d", left)
                return
            await asyncio.sleep(LOOK)

    async def _leave(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        for context in self._contexts.values():
            await context.close()
        await self.engine.singletons.close()
        self.engine.edge.leave()

    def health(self) -> Mapping[str, Any]:
        """Return ``{"ok": …, "layer": facts, "plugins": {name: facts}}``."""
        facts = {name: self._facts(name) for name in self.plugins}
        layer = {"ok": self.engine.edge.available}
        ok = self.started and layer["ok"] and all(f.get("ok", True) for f in facts.values())
        return {"ok": ok, "layer": layer, "plugins": facts}

    def _facts(self, name: str) -> Mapping[str, Any]:
        try:
            return self.plugins[name].health()
        except Exception as error:  # noqa: BLE001 - a broken check is an unhealthy plugin
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    def _is_well(self, name: str) -> bool:
        return self.started and bool(self._facts(name).get("ok", True))


async def _ended(name: str, stop: Coroutine[Any, Any, None], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop
    except TimeoutError:
        log.warning("plugin %r did not stop within %.1f s", name, seconds)
    except Exception:
        log.exception("plugin %r failed to stop", name)


def _cannot_start(name: str, error: Exception) -> GatewayError:
    if isinstance(error, GatewayError):
        kind = ConfigError if isinstance(error, ConfigError) else PluginError
        return kind(f"plugin {name!r} cannot start: {error}")
    return PluginError(f"plugin {name!r} cannot start: {type(error).__name__}: {error}")
