"""Django's views as the consumer of ``http.request``.

Synchronous views run on the worker's thread through Django's synchronous middleware chain;
``async def`` views on the worker's loop through the asynchronous one. Neither makes a thread
or an event loop of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.handlers.base import BaseHandler
from django.core.signals import got_request_exception, request_finished, request_started
from django.db import connections
from django.http import HttpResponse
from django.http.request import UnreadablePostError
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, get_resolver, set_script_prefix
from django.utils.log import log_response

from django_gateway.body import streams_body
from django_gateway.channel import outbox
from django_gateway.crew import on_thread
from django_gateway.database import RequestSignal, tidy
from django_gateway.exceptions import ConsumeLater, Reject, RequestAborted, ResponseLater
from django_gateway.message import Message
from django_gateway.request import GatewayRequest
from django_gateway.response import areply, reply


class Raised(HttpResponse):
    """A decision that a view raised, on its way out through the middleware."""

    def __init__(self, exception: Exception) -> None:
        super().__init__()
        self.exception = exception


class Chain(BaseHandler):
    """Django's handler around `GatewayRequest`, for one kind of views."""

    _middleware_chain: Any

    def __init__(self, *, is_async: bool) -> None:
        super().__init__()
        self.load_middleware(is_async)
        self._atomic = any(one["ATOMIC_REQUESTS"] for one in connections.settings.values())

    def get_response(self, request: Any) -> Any:
        """As Django's, but for the thread's URLconf: each message has a context of its own."""
        response = self._middleware_chain(request)
        response._resource_closers.append(request.close)  # noqa: SLF001 - as Django's handlers do
        if response.status_code >= 400:
            log_response(
                "%s: %s",
                response.reason_phrase,
                request.path,
                response=response,
                request=request,
            )
        return response

    def resolve_request(self, request: Any) -> ResolverMatch:
        """As Django's, but once where the choice of the chain has resolved it already."""
        found: ResolverMatch | None = request.resolved
        if found is None or hasattr(request, "urlconf") or request.path_info != request.resolved_of:
            return super().resolve_request(request)
        request.resolver_match = found
        return found

    def make_view_atomic(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """As Django's, at no cost where no database asks for it; a decision rolls nothing back."""
        if not self._atomic:
            return view
        if iscoroutinefunction(view):
            return super().make_view_atomic(view)

        def deciding(request: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return view(request, *args, **kwargs)
            except ResponseLater as error:
                return Raised(error)

        deciding._non_atomic_requests = getattr(view, "_non_atomic_requests", set())  # type: ignore[attr-defined]  # noqa: SLF001 - Django's own mark of a view
        return super().make_view_atomic(deciding)

    def process_exception_by_middleware(self, exception: Exception, request: Any) -> Any:
        """As Django's, but for decisions, which are no errors, and for clients that left."""
        if isinstance(exception, Reject | ConsumeLater | ResponseLater | RequestAborted):
            return Raised(exception)
        if isinstance(exception, UnreadablePostError) and request.aborted:
            return Raised(RequestAborted(*exception.args))
        return super().process_exception_by_middleware(exception, request)


class Views:
    """The consumer of ``http.request``: calls the view that Django's URLconf names."""

    chain: ClassVar[type[Chain]] = Chain

    def __init__(self) -> None:
        self._chain = self.chain(is_async=False)
        self._async_chain: Chain | None = None
        self._any_async: bool | None = None
        self._started = RequestSignal(request_started)
        self._finished = RequestSignal(request_finished)
        got_request_exception.connect(_forget, dispatch_uid="django_gateway.handler")

    def on_loop(self, message: Message) -> bool:
        """Return whether the loop begins: an ``async def`` view, or a body to be collected."""
        large = message.content.get("body_channel") is not None
        if self._any_async is False and not large:
            return False
        message.request = request = GatewayRequest(message)  # type: ignore[attr-defined]
        try:
            if self._any_async is None:
                self._any_async = _any_async()
            request.resolved = get_resolver().resolve(request.path_info)
        except Exception:  # noqa: BLE001 - the chain meets it again, and answers
            return False
        request.resolved_of = request.path_info
        view = request.resolved.func
        return iscoroutinefunction(view) or (large and not streams_body(view))

    def __call__(self, message: Message) -> Coroutine[Any, Any, None] | None:
        """Answer the request. What it returns, if anything, is to be awaited on the loop."""
        return self.answer(message, self._chain)

    def answer(self, message: Message, chain: Chain) -> Coroutine[Any, Any, None] | None:
        """Answer the request as ``chain`` does; else as `__call__`."""
        request = message.__dict__.get("request") or GatewayRequest(message)
        if self._started.due():
            request_started.send(sender=Views, message=message)
        if request.script_name:
            set_script_prefix(request.script_name)
        response = chain.get_response(request)
        rest = None
        try:
            if isinstance(response, Raised):
                _decide(response.exception)
            else:
                rest = reply(message, response)
        finally:
            if rest is None or rest.finished:
                self._close(response)
        if rest is None or rest.finished:
            return None if rest is None else rest.work
        tidy()  # request_finished will be sent from another thread
        return self._afinish(message, response, rest.work)

    async def acall(self, message: Message) -> None:
        """Answer a request that `on_loop` said is to be begun on the loop."""
        request = message.request  # type: ignore[attr-defined]
        await request.collect()
        if not iscoroutinefunction(request.resolved.func):
            rest = await on_thread(partial(self, message))
            if rest is not None:
                await rest
            return
        if self._async_chain is None:
            self._async_chain = self.chain(is_async=True)
        if self._started.due_on_loop():
            await request_started.asend(sender=Views, message=message)
        if request.script_name:
            set_script_prefix(request.script_name)
        await self._afinish(message, await self._async_chain.get_response_async(request))

    async def _afinish(
        self, message: Message, response: Any, rest: Awaitable[None] | None = None
    ) -> None:
        try:
            if isinstance(response, Raised):
                _decide(response.exception)
            else:
                await (rest or areply(message, response))
        finally:
            # more than the request to close may block
            if (
                len(response._resource_closers) > 1  # noqa: SLF001 - as Django's handlers do
                or type(response).close is not HttpResponseBase.close
                or self._finished.due_on_loop()
            ):
                await sync_to_async(self._close)(response)
            else:
                _run_closers(response)

    def _close(self, response: HttpResponseBase) -> None:
        if type(response).close is not HttpResponseBase.close or self._finished.due():
            response._handler_class = Views  # type: ignore[attr-defined]  # noqa: SLF001 - as Django's handlers do
            response.close()
        else:
            _run_closers(response)


def _run_closers(response: HttpResponseBase) -> None:
    """Do what ``response.close()`` does, but for the signal, which has nobody to hear it."""
    closers = response._resource_closers  # type: ignore[attr-defined]  # noqa: SLF001
    for closer in closers:
        with suppress(Exception):  # as Django's close()
            closer()
    closers.clear()
    response.closed = True


def _decide(exception: Exception) -> None:
    if not isinstance(exception, ResponseLater):
        raise exception


def _forget(**_: Any) -> None:
    """Drop what a view sent that raised, although Django answers for it."""
    box = outbox.get()
    if box is not None:
        box.discard()


def _any_async() -> bool:
    def within(patterns: Iterable[Any]) -> bool:
        return any(
            within(one.url_patterns)
            if hasattr(one, "url_patterns")
            else iscoroutinefunction(one.callback)
            for one in patterns
        )

    return within(get_resolver().url_patterns)
