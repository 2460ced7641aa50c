"""`GatewayClient`: Django's test client, for every protocol that the gateway speaks."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.cookies import SimpleCookie
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import got_request_exception
from django.test import signals
from django.test.client import REDIRECT_STATUS_CODES, Client, ClientMixin, RequestFactory
from django.test.client import (  # type: ignore[attr-defined]  # the stubs leave it out
    store_rendered_templates as _store_rendered_templates,
)
from django.urls import resolve
from django.utils.functional import SimpleLazyObject

from django_gateway import asgi
from django_gateway.routing import Routing
from django_gateway.testing.http import Asked, Exchange, GatewayResponse, asked
from django_gateway.testing.longpoll import LongPoll
from django_gateway.testing.site import Site
from django_gateway.testing.sse import EventStream
from django_gateway.testing.story import report
from django_gateway.testing.stream import Stream
from django_gateway.testing.websocket import WebSocket
from gateway.core.layers.base import Layer

if TYPE_CHECKING:
    from django_gateway.testing.email import Correspondent, SentMail
    from django_gateway.testing.irc import IrcClient
    from django_gateway.testing.ircnetwork import IrcNetwork
    from django_gateway.testing.mqtt import MqttDevice

LONGEST: Final = 3600.0
"""Virtual seconds that an answer is waited for: the gateway gives up long before."""


class _Plan(ClientMixin, RequestFactory):
    """Stands for a client where a request is only put together."""

    def __init__(self, client: GatewayClient, cookies: SimpleCookie | None = None) -> None:
        self.__dict__.update(client.__dict__)
        if cookies is not None:
            self.cookies = cookies

    def request(self, **request: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return what would be asked."""
        return request

    def redirected(self, response: Any, **arguments: Any) -> dict[str, Any]:
        """Return what would be asked next."""
        found: dict[str, Any] = self._follow_redirect(response, **arguments)  # type: ignore[attr-defined]  # the stubs leave it out
        return found


class Clock:
    """The time of the gateway and its layer, which stands still unless it is told to pass.

    Expiries, delays of ``ConsumeLater`` and the gateway's timeouts follow it; Django's own times
    (``timezone.now()``, the age of a session) do not.
    """

    def __init__(self, client: GatewayClient) -> None:
        self._client = client

    def time(self) -> float:
        """Return the present, in seconds from an arbitrary beginning."""
        return self._client.site.gateway.loop.time()

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, and do all that becomes due meanwhile, in order."""
        client = self._client
        client.check_sync("advance")
        client.site.worker.work_until(_never, seconds)
        client.raise_failures()

    async def aadvance(self, seconds: float) -> None:
        """Async twin of `advance`."""
        client = self._client
        await client.site.worker.awork_until(_never, seconds)
        client.raise_failures()


class Together:
    """A block within which nothing is run: see `GatewayClient.together`."""

    def __init__(self, client: GatewayClient) -> None:
        self._client = client

    def __enter__(self) -> None:
        self._client.site.worker.held += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.site.worker.held -= 1
        if error is None:
            self._client.run("with")

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.site.worker.held -= 1
        if error is None:
            await self._client.arun()


class GatewayClient(Client):
    """A client of the whole site: the gateway, its plugins, the layer, the application. No socket.

    All that Django's test client has, and::

        with client.websocket("/chat/", user=ann) as ws:
            ws.send_text("hi")
            ws.expect_text("ann: hi")

    ``routing`` stands for the settings' ``ROUTING``, ``plugins`` for those of the settings. With
    ``raise_request_exception=False`` what a consumer raises is an outcome, as it is for a client
    outside. Each client has a site of its own; `another` is one more client of the same.
    """

    def __init__(
        self,
        enforce_csrf_checks: bool = False,
        raise_request_exception: bool = True,
        *,
        routing: Routing | None = None,
        plugins: list[str] | None = None,
        site: Site | None = None,
        headers: Mapping[str, str] | None = None,
        query_params: Any = None,
        **defaults: Any,
    ) -> None:
        super().__init__(
            enforce_csrf_checks,
            raise_request_exception,
            headers=headers,
            query_params=query_params,
            **defaults,
        )
        self.enforce_csrf_checks = enforce_csrf_checks
        self._routing = routing
        self._plugins = plugins
        self._site = site
        if site is None:
            asgi.channel_layers.use(None)
            asgi.channel_layers.opener = _Opener(self)

    @property
    def site(self) -> Site:
        """What it shares with `another`; made at first use, of the settings as they are then."""
        if self._site is None:
            self._site = Site(self._routing, self._plugins)
        return self._site

    def another(self, **arguments: Any) -> GatewayClient:
        """Return one more client of the same site, with cookies of its own.

        ``arguments`` are those of a client.
        """
        arguments.setdefault("raise_request_exception", self.raise_request_exception)
        return type(self)(site=self.site, **arguments)

    @property
    def clock(self) -> Clock:
        """The time of the site."""
        return Clock(self)

    @property
    def layer(self) -> Layer:
        """The layer of the site, as its worker sees it; ``channel_layers["default"]`` is it."""
        return self.site.worker.layer

    def close(self) -> None:
        """End the site, for all its clients."""
        if self._site is not None:
            self._site.close()
        opener = asgi.channel_layers.opener
        if isinstance(opener, _Opener) and opener.is_of(self):
            asgi.channel_layers.opener = asgi.open_default

    # ------------------------------------------------ running

    def check_sync(self, verb: str) -> None:
        """Raise RuntimeError, naming the async twin, where an event loop runs in this thread."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        if verb == "with":
            raise RuntimeError("a with block would block the running event loop: use async with")
        raise RuntimeError(f"{verb}() would block the running event loop: await a{verb}() instead")

    def run(self, verb: str = "run", action: Callable[[], None] | None = None) -> None:
        """Run all that is due, after ``action``; raise what a consumer raised.

        Every verb does so; call it after sending by other means, from a task or a shell.
        """
        self.check_sync(verb)
        if action is not None:
            action()
        self.site.worker.work()
        self.raise_failures()

    async def arun(self, action: Callable[[], None] | None = None) -> None:
        """Async twin of `run`."""
        if action is not None:
            action()
        await self.site.worker.awork()
        self.raise_failures()

    def together(self) -> Together:
        """Return a block, ``with`` or ``async with``, within which nothing is run.

        What is sent in it has all been sent before any of it is run, as from clients that speak
        at the same time.
        """
        return Together(self)

    def replace_worker(self) -> None:
        """Have another worker in place of the one there is, as after a reload.

        What was pinned to that one, and the instances of stateful consumers, are not any more:
        those connections come with ``reconnected``, or are closed.
        """
        self.run("replace_worker")
        self.site.worker.replace()
        self.run()

    async def areplace_worker(self) -> None:
        """Async twin of `replace_worker`."""
        await self.arun()
        self.site.worker.replace()
        await self.arun()

    def raise_failures(self) -> None:
        """Raise what went wrong since the last time, unless failures are only outcomes here."""
        if self.raise_request_exception:
            self.site.raise_failures()
        else:
            self.site.forget_failures()

    # ------------------------------------------------ connections

    def websocket(self, path: str, **asked: Any) -> WebSocket:
        """Return a WebSocket, to be connected by ``with``, ``async with`` or ``connect()``.

        ``subprotocols``, ``headers``, ``query_params``, ``secure`` and ``last_event_id`` say how;
        it brings the client's cookies, or those of ``user``, logged in for this one connection.
        """
        return WebSocket(self, path, **asked)

    def sse(self, path: str, **asked: Any) -> EventStream:
        """Return an event stream, asked for and connected as a WebSocket is.

        With ``posts=True`` it may send, too.
        """
        return EventStream(self, path, **asked)

    def longpoll(self, path: str, **asked: Any) -> LongPoll:
        """Return a long-poll connection, asked for and connected as a WebSocket is.

        With ``polls=False`` it does not poll by itself.
        """
        return LongPoll(self, path, **asked)

    def mqtt(self, client_id: str = "", **asked: Any) -> MqttDevice:
        """Return a device of MQTT, to be connected as a WebSocket is.

        ``username``, ``password``, ``clean_start``, ``will``, ``keepalive``, ``protocol`` (5, or
        4: MQTT 3.1.1), ``properties``, and for an authentication by steps ``method``, ``data``
        and ``answer``, say how.
        """
        from django_gateway.testing.mqtt import MqttDevice  # noqa: PLC0415 - only then

        return MqttDevice(self, client_id, **asked)

    def email(self, address: str, **asked: Any) -> Correspondent:
        """Return somebody who sends mail to the application, and gets mail from it.

        ``username`` and ``password`` (SMTP AUTH), ``helo``, ``tls`` and ``host`` say how. What the
        application sends goes nowhere else than to `outbox`.
        """
        from django_gateway.testing.email import Correspondent  # noqa: PLC0415 - only then

        return Correspondent(self, address, **asked)

    @property
    def outbox(self) -> list[SentMail]:
        """All mail that the application has sent, in order: through the gateway, and what
        Django's own backend for tests kept.
        """  # noqa: D205 - one sentence
        from django_gateway.testing.email import outbox_of  # noqa: PLC0415 - only then

        return outbox_of(self.site)

    def irc(self, nick: str, **asked: Any) -> IrcClient:
        """Return a client of IRC, to be connected as a WebSocket is.

        ``username``, ``realname``, ``password``, ``sasl`` (account and password) and
        ``capabilities`` say how.
        """
        from django_gateway.testing.irc import IrcClient  # noqa: PLC0415 - only then

        return IrcClient(self, nick, **asked)

    def irc_network(
        self, name: str, *, nick: str = "gateway", host: str = "users.test"
    ) -> IrcNetwork:
        """Return a stand-in for a network that the gateway has joined, as ``nick``: for bots."""
        from django_gateway.testing.ircnetwork import IrcNetwork  # noqa: PLC0415 - only then

        return IrcNetwork(self, name, nick=nick, host=host)

    def stream(self, plugin: str, *, separator: bytes = b"\n", host: str = "127.0.0.1") -> Stream:
        """Return a connection to a plugin that speaks bytes, connected as a WebSocket is."""
        return Stream(self, plugin, separator=separator, host=host)

    # ------------------------------------------------ channels

    def send(self, channel: str, content: dict[str, Any]) -> None:
        """Send a message to a channel of the application's own."""
        self.check_sync("send")
        self.layer.send(channel, content)
        self.run()

    async def asend(self, channel: str, content: dict[str, Any]) -> None:
        """Async twin of `send`."""
        await self.layer.asend(channel, content)
        await self.arun()

    def expect(self, channel: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the next message of a channel that nobody routes; it equals ``content``.

        For what the application sends elsewhere: ``client.expect("email.send")``. AssertionError,
        at once, where there is none.
        """
        self.run("expect")
        return self._expect(channel, content)

    async def aexpect(self, channel: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """Async twin of `expect`."""
        await self.arun()
        return self._expect(channel, content)

    def expect_nothing(self, channel: str) -> None:
        """Check that no message waits on a channel."""
        self.run("expect_nothing")
        self._expect_nothing(channel)

    async def aexpect_nothing(self, channel: str) -> None:
        """Async twin of `expect_nothing`."""
        await self.arun()
        self._expect_nothing(channel)

    def _next(self, channel: str) -> dict[str, Any] | None:
        routed = self.site.worker.router.of(channel)
        if routed:
            raise ValueError(
                f"{channel!r} is routed to {routed[0].name}, which has had its messages: look at "
                "what that did, or leave the route out: GatewayClient(routing=[…])"
            )
        return self.site.next_of(channel)

    def _expect(self, channel: str, content: dict[str, Any] | None) -> dict[str, Any]:
        found = self._next(channel)
        if found is None:
            self._fail(f"expected a message on {channel!r}, and there is none")
        if content is not None and found != content:
            self._fail(f"expected {content!r} on {channel!r}, got {found!r}")
        return found

    def _expect_nothing(self, channel: str) -> None:
        found = self._next(channel)
        if found is not None:
            self._fail(f"expected nothing on {channel!r}, got {found!r}")

    def _fail(self, sentence: str) -> NoReturn:
        cause = self.site.forget_failures()
        raise AssertionError(report(sentence, self.site.parts())) from cause

    # ------------------------------------------------ http

    def plan(
        self, method: str, arguments: dict[str, Any], cookies: SimpleCookie | None = None
    ) -> Asked:
        """Return what a request with Django's arguments asks for, with ``cookies`` if given."""
        plan = _Plan(self, cookies)
        environ: dict[str, Any] = getattr(plan, method)(**arguments)
        return asked(plan._base_environ(**environ))  # type: ignore[attr-defined]  # noqa: SLF001 - as Django's client does

    def request(self, **request: Any) -> Any:
        """Make a request; as Django's client, which ``get()`` and the others call it for."""
        self.check_sync(str(request.get("REQUEST_METHOD", "GET")).lower())
        with self._exchange(request) as (exchange, rendered):
            self.site.worker.work_until(exchange.is_over, LONGEST)
        exchange.end()
        self.site.worker.work()
        return self._finish(request, exchange, rendered)

    async def arequest(self, **request: Any) -> Any:
        """Async twin of `request`."""
        with self._exchange(request) as (exchange, rendered):
            await self.site.worker.awork_until(exchange.is_over, LONGEST)
        exchange.end()
        await self.site.worker.awork()
        return self._finish(request, exchange, rendered)

    @contextmanager
    def _exchange(self, request: dict[str, Any]) -> Iterator[tuple[Exchange, dict[str, Any]]]:
        """Send a request, and hear which templates are rendered and what is raised."""
        environ = self._base_environ(**request)  # type: ignore[attr-defined]
        exchange = Exchange(self.site.gateway, asked(environ))
        self.site.requests.enforce_csrf_checks[exchange.port] = self.enforce_csrf_checks
        rendered: dict[str, Any] = {}
        uid = f"gateway-client-{id(exchange)}"
        on_render = partial(_store_rendered_templates, rendered)
        signals.template_rendered.connect(on_render, dispatch_uid=uid)
        got_request_exception.connect(self.store_exc_info, dispatch_uid=uid)
        try:
            exchange.begin()
            yield exchange, rendered
        finally:
            signals.template_rendered.disconnect(dispatch_uid=uid)
            got_request_exception.disconnect(dispatch_uid=uid)

    def _finish(self, request: dict[str, Any], exchange: Exchange, rendered: dict[str, Any]) -> Any:
        if self.exc_info and self.raise_request_exception:
            self.site.forget_failures()
        else:
            self.raise_failures()
        came = exchange.response
        line = f"{exchange.asked.method} {exchange.asked.target.decode()}"
        if came is None:
            self.exc_info = None
            closed = ", the connection was closed" if exchange.line.ended else ""
            self._fail(f"{line}: no answer came{closed}")
        response: Any = GatewayResponse(came)
        self.check_exception(response)
        if not came.complete:
            raise ConnectionResetError(
                f"{line}: cut off after {len(came.content)} bytes of content"
            )
        response.client = self
        response.request = request
        response.templates = rendered.get("templates", [])
        context = rendered.get("context")
        response.context = context[0] if context and len(context) == 1 else context
        response.json = partial(self._parse_json, response)
        seen = self.site.requests.latest.pop(exchange.port, None)
        self.site.requests.enforce_csrf_checks.pop(exchange.port, None)
        response.wsgi_request = seen or WSGIRequest(self._base_environ(**request))
        urlconf = getattr(response.wsgi_request, "urlconf", None)
        path = request["PATH_INFO"]
        response.resolver_match = getattr(
            response.wsgi_request, "resolver_match", None
        ) or SimpleLazyObject(lambda: resolve(path, urlconf=urlconf))
        self.cookies.update(response.cookies)
        return response

    async def aget(self, path: str, *args: Any, follow: bool = False, **arguments: Any) -> Any:
        """Async twin of `get`; so are the others of the same arguments."""
        return await self._asked("get", path, args, arguments, follow=follow)

    async def apost(self, path: str, *args: Any, follow: bool = False, **arguments: Any) -> Any:
        """Async twin of `post`."""
        return await self._asked("post", path, args, arguments, follow=follow)

    async def ahead(self, path: str, *args: Any, follow: bool = False, **arguments: Any) -> Any:
        """Async twin of `head`."""
        return await self._asked("head", path, args, arguments, follow=follow)

    async def aoptions(self, path: str, *args: Any, follow: bool = False, **arguments: Any) -> Any:
        """Async twin of `options`."""
        return await self._asked("options", path, args, arguments, follow=follow)

    async def aput(self, path: str, *args: Any, follow: bool = False, **arguments: Any) -> Any:
        """Async twin of `put`."""
        return await self._asked("put", path, args, arguments, follow=follow)

    async def apatch(self, path: str, *args: Any, follow: bool = False, **arguments: Any) -> Any:
        """Async twin of `patch`."""
        return await self._asked("patch", path, args, arguments, follow=follow)

    async def adelete(self, path: str, *args: Any, follow: bool = False, **arguments: Any) -> Any:
        """Async twin of `delete`."""
        return await self._asked("delete", path, args, arguments, follow=follow)

    async def atrace(self, path: str, *args: Any, follow: bool = False, **arguments: Any) -> Any:
        """Async twin of `trace`."""
        return await self._asked("trace", path, args, arguments, follow=follow)

    async def _asked(
        self, method: str, path: str, args: Any, arguments: dict[str, Any], *, follow: bool
    ) -> Any:
        request = getattr(_Plan(self), method)(path, *args, **arguments)
        response = await self.arequest(**request)
        if follow:
            chain: list[tuple[str, int]] = []
            response.redirect_chain = chain
            kept = {key: value for key, value in arguments.items() if key not in {"data", "secure"}}
            while response.status_code in REDIRECT_STATUS_CODES:
                request = _Plan(self).redirected(response, data=arguments.get("data", ""), **kept)
                response = await self.arequest(**request)
                response.redirect_chain = chain
                self._ensure_redirects_not_cyclic(response)  # type: ignore[attr-defined]
        return response

    # ------------------------------------------------ users

    def cookies_of(self, user: Any) -> SimpleCookie:
        """Return the cookies of a client at which ``user`` has just logged in."""
        kept, self.cookies = self.cookies, SimpleCookie()
        try:
            self.force_login(user)
            return self.cookies
        finally:
            self.cookies = kept

    async def acookies_of(self, user: Any) -> SimpleCookie:
        """Async twin of `cookies_of`."""
        kept, self.cookies = self.cookies, SimpleCookie()
        try:
            await self.aforce_login(user)
            return self.cookies
        finally:
            self.cookies = kept


class _Opener:
    """Has the layer of a client's site be the default one, as long as there is the client."""

    def __init__(self, client: GatewayClient) -> None:
        self._client = weakref.ref(client, self._forget)

    def __call__(self) -> Layer:
        client = self._client()
        return asgi.open_default() if client is None else client.layer

    def is_of(self, client: GatewayClient) -> bool:
        """Return whether it is that client's."""
        return self._client() is client

    def _forget(self, _: object) -> None:
        if asgi.channel_layers.opener is self:
            asgi.channel_layers.opener = asgi.open_default


def _never() -> bool:
    return False
