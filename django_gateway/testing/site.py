"""The site that test clients speak to: a gateway without sockets, the application behind it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

from django_gateway import asgi
from django_gateway.message import Message
from django_gateway.request import GatewayRequest
from django_gateway.routing import Route, Router, Routing
from django_gateway.testing.inline import InlineWorker
from django_gateway.testing.story import report, shown
from gateway.core.boot import Boot, Options, boot
from gateway.core.errors import GatewayError
from gateway.core.layers import codec
from gateway.testing.memory import MemoryGateway

MOST_KNOWN: Final = 16
"""States of the settings that are remembered: more than a project's tests have."""
_known: dict[str, Boot] = {}


class InvalidReplyError(AssertionError):
    """The gateway dropped a reply that its format or its protocol does not allow."""


class TestApplication:
    """The running Django as the application whose settings the gateway reads."""

    __test__ = False
    source = "Django settings"

    def settings(self) -> dict[str, Any]:
        """Return the tables of ``GATEWAY`` and ``CHANNEL_LAYERS``, ``TEST_CONFIG`` above them."""
        tables = asgi.read_settings()
        config = asgi.layer_settings().get("TEST_CONFIG", {})
        if not isinstance(config, Mapping):
            raise ImproperlyConfigured(
                "CHANNEL_LAYERS['default']['TEST_CONFIG'] is a dict of the layer's settings while "
                "tests run: {'capacity': 10}"
            )
        tables["layer"] = {**tables.get("layer", {}), **config}
        return tables


class Requests:
    """The requests of a site, which the test may look at."""

    def __init__(self) -> None:
        self.enforce_csrf_checks: dict[int, bool] = {}
        """What a request is to do about CSRF, by the port of its client."""
        self.latest: dict[int, GatewayRequest] = {}
        """The latest request, by the port of its client."""

    def watched(self, route: Route) -> Route:
        """Return the route; with a look at each message of one that makes Django's requests."""
        if route.on_loop is None:
            return route
        consumer = _Watched(route.consumer, self)
        found = Route(route.channels, consumer, route.filters, route.on_loop, route.calls)
        found.name = route.name
        return found

    def look(self, message: Message) -> None:
        """Keep the request of a message, and tell it what it is to do."""
        request: Any = message.__dict__.get("request")
        if request is None:
            message.request = request = GatewayRequest(message)  # type: ignore[attr-defined]
        client = message.get("client")
        if client:
            request._dont_enforce_csrf_checks = not self.enforce_csrf_checks.get(client[1], True)  # noqa: SLF001 - as Django's own client
            self.latest[client[1]] = request


class _Watched:
    """Django's views, or a class that answers requests, in a test."""

    def __init__(self, consumer: Any, requests: Requests) -> None:
        self._consumer = consumer
        self._requests = requests

    def __call__(self, message: Message, **kwargs: Any) -> Any:
        self._requests.look(message)
        return self._consumer(message, **kwargs)

    async def acall(self, message: Message, **kwargs: Any) -> None:
        self._requests.look(message)
        await self._consumer.acall(message, **kwargs)


class Site:
    """One gateway, one layer, one worker: what the clients of one test share."""

    def __init__(self, routing: Routing | None, plugins: list[str] | None) -> None:
        self.requests = Requests()
        plain = asgi.router(routing)
        router = Router([self.requests.watched(one) for one in plain.routes])
        router.middleware = plain.middleware
        try:
            self.gateway = MemoryGateway(_booted(plugins))
        except GatewayError as error:
            raise ImproperlyConfigured(str(error)) from error
        self.worker = InlineWorker(self.gateway, router)
        self.story = self.worker.story
        self._invalid = 0
        asgi.channel_layers.use(self.worker.layer)
        self.close = weakref.finalize(self, _end, self.gateway.close, self.worker)
        """End it, at once; at the latest when nobody knows it any more."""

    # ------------------------------------------------ what went wrong

    def raise_failures(self) -> None:
        """Raise what a consumer raised, or what the gateway refused, since the last time."""
        failures, self.story.failures = self.story.failures, []
        if failures:
            first = failures[0]
            note = f"raised by {first.route}, on {first.channel}"
            if note not in getattr(first.error, "__notes__", ()):
                first.error.add_note(note)
            if more := [f"{type(one.error).__name__}, on {one.channel}" for one in failures[1:]]:
                first.error.add_note(f"and {len(more)} more failed: {'; '.join(more)}")
            raise first.error
        invalid, before = self.gateway.invalid, self._invalid
        self._invalid = invalid
        if invalid > before:
            complaints = self.gateway.complaints
            said = [text for text in complaints if "invalid reply" in text] or complaints
            raise InvalidReplyError(
                report(
                    "the gateway dropped a reply that the protocol does not allow",
                    [
                        ("it says", said[-(invalid - before) :]),
                        ("the application ran", self.story.lines()),
                    ],
                )
            )

    def forget_failures(self) -> BaseException | None:
        """Forget what went wrong since the last time; return what was raised first."""
        failures, self.story.failures = self.story.failures, []
        self._invalid = self.gateway.invalid
        return failures[0].error if failures else None

    def next_of(self, channel: str) -> dict[str, Any] | None:
        """Return the next message of a channel, which is taken; of an address by its name."""
        source = channel[: channel.index("!") + 1] if "!" in channel else channel
        layer = self.worker.layer
        name, found = self.gateway.loop.do(layer.areceive([source]))
        if found is not None and channel not in {name, source}:
            raise LookupError(f"the next message of {source!r} is for {name!r}, not {channel!r}")
        return found

    def taken(self, prefix: str) -> tuple[str, bytes] | None:
        """Take the next message to any address of a prefix: its name, and what it says, encoded."""
        layer = self.worker.layer
        name, found = self.gateway.loop.do(layer.areceive([prefix]))
        return None if name is None or found is None else (name, codec.encode(found))

    def parts(self) -> list[tuple[str, list[str]]]:
        """Return what may explain a failure."""
        return [
            ("the application ran", self.story.lines()),
            ("nobody has taken", self.queued()),
            ("the gateway warned", self.gateway.complaints),
        ]

    def queued(self) -> list[str]:
        """Return one line for each message that waits on a channel."""
        found: list[str] = []
        shared = self.gateway.shared
        with shared.lock:
            state = shared.state
            for channel in state.channels.values():
                for entry in channel.queue:
                    found += _lines(entry, "")
            for due, _, entry in sorted(state.delayed()):
                found += _lines(entry, f", in {due - state.clock():g} s")
        return found


def _booted(plugins: list[str] | None) -> Boot:
    """Return what a gateway starts with; found once for each state of the settings.

    Looking through what is installed takes longer than most tests.
    """
    application = TestApplication()
    own = [f"{key}={value}" for key, value in os.environ.items() if key.startswith("GATEWAY_")]
    key = repr((application.settings(), plugins, own, Path.cwd()))
    found = _known.get(key)
    if found is None:
        options = Options(plugins=None if plugins is None else ",".join(plugins))
        found = boot(options, application=application)  # type: ignore[arg-type] # its settings are all that is asked for
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[key] = found
    return found


def _lines(entry: Any, when: str) -> list[str]:
    return [
        f"{entry.name} {shown(codec.decode(payload))}".rstrip() + when
        for payload in entry.payloads[entry.done :]
    ]


def _end(close: Callable[[], None], worker: InlineWorker) -> None:
    if asgi.channel_layers.is_used(worker.layer):  # the settings' one again
        asgi.channel_layers.use(None)
    close()
