"""Django as the gateway's application, and the channel layer of this process."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import django
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from gateway.core.errors import ConfigError
from gateway.core.layers import open_layer
from gateway.core.layers.base import Layer
from gateway.core.plugin import hookimpl
from gateway.core.selection import select

if TYPE_CHECKING:
    from django_gateway.handler import Views
    from django_gateway.routing import Route, Router, Routing
    from django_gateway.worker import Worker
    from gateway.core.boot import Boot

KEYS = frozenset({"URL", "ROUTING", "MIDDLEWARE", "CONFIG", "TEST_CONFIG"})
"""What ``CHANNEL_LAYERS["default"]`` may hold."""


def effective() -> Boot:
    """Return the settings of all sources, as a worker on this machine would read them."""
    from gateway.core.boot import Options, boot  # noqa: PLC0415 - a worker was given its settings

    return boot(Options(), load_plugins=False)


def open_default() -> Layer:
    """Open the layer of the settings."""
    started = effective()
    return open_layer(started.layer_url, **started.settings.layer.options())


class ChannelLayers:
    """The channel layers of this process by alias; there is one, ``default``.

    In a worker it is the worker's own. Elsewhere (a shell, a task queue, another server) it is
    opened at first use, from the same settings that the gateway reads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._default: Layer | None = None
        self.opener: Callable[[], Layer] = open_default
        """Opens the default one at first use."""

    def __getitem__(self, alias: str) -> Layer:
        if alias != "default":
            raise KeyError(f"there is no channel layer {alias!r}, only 'default'")
        if self._default is None:
            with self._lock:
                if self._default is None:
                    self._default = self.opener()
        return self._default

    def forked(self) -> None:
        """In the child of a fork: a thread that is not here may hold the lock."""
        self._lock = threading.Lock()

    def use(self, layer: Layer | None) -> None:
        """Make ``layer`` the default one; None: open the settings' one at next use."""
        self._default = layer

    def is_used(self, layer: Layer) -> bool:
        """Return whether ``layer`` is the default one."""
        return self._default is layer


channel_layers = ChannelLayers()
os.register_at_fork(after_in_child=channel_layers.forked)


class DjangoApplication:
    """Django as an application of the gateway (`gateway.core.plugin.Application`)."""

    def __init__(self, views: Views | None = None) -> None:
        self._views = views
        """The consumer of requests that no route takes; None: Django's views."""
        self.source = f"Django settings {os.environ['DJANGO_SETTINGS_MODULE']}"

    def settings(self) -> Mapping[str, Any]:
        """Return ``GATEWAY`` and ``CHANNEL_LAYERS`` as tables; Django is not set up for it."""
        try:
            return read_settings()
        except ImproperlyConfigured as error:
            raise ConfigError(f"{self.source}: {error}") from error
        except ModuleNotFoundError as error:
            module = os.environ["DJANGO_SETTINGS_MODULE"]
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # something that the settings import
            raise ConfigError(
                f"{self.source}: there is no module {error.name!r}; the settings are named by "
                "--settings, else DJANGO_SETTINGS_MODULE, else manage.py"
            ) from error

    def channels(self) -> list[str]:
        """Return the channels that ``ROUTING`` names, ``http.request`` in any case."""
        return self._router().channels()

    def routes(self) -> list[tuple[str, str, str]]:
        """Return (channel, filters, consumer) rows."""
        return self._router().rows()

    def warnings(self) -> list[str]:
        """Return what the system checks of django_gateway warn of, where it is installed."""
        from django.core.checks import (  # noqa: PLC0415 - for this alone
            WARNING,
            run_checks,
        )

        self._router()
        return [
            f"{one.msg}. {one.hint}" if one.hint else one.msg
            for one in run_checks(tags=["gateway"])
            if one.level == WARNING
        ]

    def run_worker(self, layer: Layer, config: Any) -> int:
        """Run a worker until SIGTERM or SIGINT; return the exit status."""
        from django_gateway.worker import run  # noqa: PLC0415 - needs Django set up

        return run(self._worker(layer, config), config.workers)

    def start_worker(self, layer: Layer, config: Any) -> Worker:
        """Start a worker on threads of this process; its ``stop(grace)`` ends it."""
        worker = self._worker(layer, config)
        worker.start()
        return worker

    def _worker(self, layer: Layer, config: Any) -> Worker:
        channel_layers.use(layer)
        router = self._router()
        router = router.only(select(router.channels(), config.workers))
        if getattr(settings, "ROOT_URLCONF", None) and router.of("http.request"):
            from django.urls import get_resolver  # noqa: PLC0415 - only a worker has views

            # Now, not at the first request: code that cannot be imported stops the start.
            _ = get_resolver().url_patterns
        from django_gateway.worker import Worker  # noqa: PLC0415 - needs Django set up

        return Worker(layer, router, config.workers)

    def _router(self) -> Router:
        try:
            if not apps.ready:
                django.setup()
                _log_once()
            return router(views=self._views)
        except ImproperlyConfigured as error:
            raise ConfigError(f"{self.source}: {error}") from error


def _log_once() -> None:
    """Take away the handler by which Django, left to itself, writes what is logged with DEBUG on:
    that of the gateway writes it, too.
    """  # noqa: D205 - one sentence
    log = logging.getLogger("django")
    if not settings.LOGGING and log.propagate and logging.getLogger().handlers:
        log.handlers[:] = [each for each in log.handlers if each.get_name() != "console"]


@hookimpl
def gateway_application(config: Any) -> DjangoApplication | None:
    """Return Django where the project has a settings module."""
    return DjangoApplication() if config.settings else None


def router(routing: Routing | None = None, views: Views | None = None) -> Router:
    """Return the compiled routing table of the settings, behind it what Django answers itself.

    The settings' middleware is around its consumers. ``routing`` and ``views`` stand for those of
    the project.
    """
    from django_gateway import auth_settings, endings  # noqa: PLC0415 - needs Django set up
    from django_gateway.attendance import attend  # noqa: PLC0415 - as above
    from django_gateway.middleware import middleware_of  # noqa: PLC0415 - as above
    from django_gateway.recipients import recipients  # noqa: PLC0415 - as above
    from django_gateway.routing import Router  # noqa: PLC0415 - as above

    layer = layer_settings()
    table = Router(layer.get("ROUTING") if routing is None else routing, behind(views))
    auth_settings.check()
    endings.listen()
    found = Router(attend([*table.routes, *recipients(table.routes)]))
    found.middleware = middleware_of(layer, found)
    return found


def behind(views: Views | None = None) -> Iterator[Route]:
    """Yield Django's views, and the signals of presence that have receivers.

    One by one, so that the table has been imported by then, and with it their receivers.
    """
    from django_gateway import presence  # noqa: PLC0415 - needs Django set up
    from django_gateway.handler import Views  # noqa: PLC0415 - as above
    from django_gateway.routing import Route  # noqa: PLC0415 - as above

    if views is None:
        views = Views()
    yield Route(("http.request",), views, {}, on_loop=views.on_loop)
    yield from presence.routes()


def read_settings() -> dict[str, Any]:
    """Return ``GATEWAY`` and ``CHANNEL_LAYERS`` as the gateway's tables.

    Mail is from ``DEFAULT_FROM_EMAIL``, where the project sets that and no ``email.sender``.
    Raises ImproperlyConfigured with a text that names the fix.
    """
    given = getattr(settings, "GATEWAY", {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(
            "GATEWAY is a dict of tables: GATEWAY = {'plugins': ['http'], 'http': {'listen': 8000}}"
        )
    tables = {str(name): table for name, table in given.items()}
    layer = layer_settings()
    if "BACKEND" in layer and "URL" not in layer:
        raise ImproperlyConfigured(
            f"CHANNEL_LAYERS['default'] names the BACKEND {layer['BACKEND']!r}; name the layer by "
            "its URL instead ('URL': 'unix:///path'), or leave both out for the gateway's own hub"
        )
    if unknown := sorted(layer.keys() - KEYS - {"BACKEND"}):
        raise ImproperlyConfigured(
            f"CHANNEL_LAYERS['default'] has no {unknown[0]!r}; it may hold "
            + ", ".join(sorted(KEYS))
        )
    config = layer.get("CONFIG", {})
    if not isinstance(config, Mapping):
        raise ImproperlyConfigured(
            "CHANNEL_LAYERS['default']['CONFIG'] is a dict of the layer's settings: {'expiry': 60}"
        )
    table = {**config, **({"url": layer["URL"]} if "URL" in layer else {})}
    if table:
        own = tables.get("layer", {})
        tables["layer"] = {**table, **own} if isinstance(own, Mapping) else own
    # Django's own, webmaster@localhost, is nobody; nor is one without an @ of use here.
    if settings.is_overridden("DEFAULT_FROM_EMAIL") and "@" in str(settings.DEFAULT_FROM_EMAIL):
        mail = tables.get("email", {})
        if isinstance(mail, Mapping):
            tables["email"] = {"sender": str(settings.DEFAULT_FROM_EMAIL), **mail}
    return tables


def layer_settings() -> Mapping[str, Any]:
    """Return ``CHANNEL_LAYERS["default"]``; ImproperlyConfigured that names the fix."""
    layers = getattr(settings, "CHANNEL_LAYERS", {})
    if not isinstance(layers, Mapping):
        raise ImproperlyConfigured(
            "CHANNEL_LAYERS is a dict by alias: {'default': {'ROUTING': 'shop.routing.routes'}}"
        )
    if others := sorted(set(layers) - {"default"}):
        raise ImproperlyConfigured(
            f"CHANNEL_LAYERS has an alias {others[0]!r}: there is one layer, 'default'"
        )
    default = layers.get("default", {})
    if not isinstance(default, Mapping):
        raise ImproperlyConfigured(
            "CHANNEL_LAYERS['default'] is a dict: {'ROUTING': 'shop.routing.routes'}"
        )
    return default
