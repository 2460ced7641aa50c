"""`HttpConsumer`: requests that the routing table answers, by a method for each verb."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.http import HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch
from django.utils.functional import cached_property

from django_gateway.body import streams_body
from django_gateway.exceptions import ResponseLater
from django_gateway.generic.base import DECORATORS, BaseConsumer
from django_gateway.handler import Chain, Views
from django_gateway.message import Message
from django_gateway.request import GatewayRequest
from django_gateway.routing import Call, Route, check_runs, is_async, name_of


class HttpConsumer(BaseConsumer):
    """A consumer of requests, as Django's View: a method for each verb, which returns a response.

    ::

        class Lamp(HttpConsumer):
            def get(self, request, pk):
                return JsonResponse({"on": LAMPS[pk]})

            async def post(self, request, pk): ...


        routing = [route_class(Lamp, path=path("lamps/<int:pk>/"))]

    Requests pass Django's middleware. A verb without a method is answered 405, HEAD as GET. A
    method that has replied itself (``self.reply(status=202)``) returns nothing; one that has
    somebody else answer raises `ResponseLater`. ``disconnect(self, message)`` hears of clients
    that left before they were answered.
    """

    http_method_names: ClassVar[tuple[str, ...]] = (
        "get",
        "post",
        "put",
        "patch",
        "delete",
        "head",
        "options",
        "trace",
    )

    def __init__(self, message: Message, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self._replied = False

    @cached_property
    def request(self) -> GatewayRequest:
        """Return the request, as views get it."""
        return _request(self.message)

    def reply(self, data: str | bytes | None = None, /, **content: Any) -> None:
        """Answer without a response: ``self.reply("hi")``, ``self.reply(status=202)``."""
        super().reply(data, **content)
        self._replied = True

    def dispatch(self, request: GatewayRequest, **kwargs: Any) -> Any:  # type: ignore[override]  # as Django's View has it
        """Call the method of the request's verb. What stands around all verbs overrides this."""
        handler = getattr(self, self.method_of(str(request.method)))
        response = handler(request, **kwargs)
        if is_async(type(self).dispatch) and not is_async(handler):
            return _ready(response)  # for whoever awaits super().dispatch(…)
        return response

    def options(self, request: GatewayRequest, **kwargs: Any) -> Any:
        """Say which verbs there are."""
        return HttpResponse(headers={"Allow": ", ".join(self.verbs()), "Content-Length": "0"})

    def http_method_not_allowed(self, request: GatewayRequest, **kwargs: Any) -> Any:
        """Answer to a verb that has no method."""
        return HttpResponseNotAllowed(self.verbs())

    @classmethod
    def verbs(cls) -> list[str]:
        """Return the verbs that are answered, as ``Allow`` has them."""
        found = [name for name in cls.http_method_names if hasattr(cls, name)]
        if "get" in found and "head" not in found:
            found.append("head")
        return [name.upper() for name in found]

    @classmethod
    def method_of(cls, verb: str) -> str:
        """Return the name of the method that answers a verb."""
        name = verb.lower()
        if name in cls.http_method_names and hasattr(cls, name):
            return name
        if name == "head" and hasattr(cls, "get"):
            return "get"
        return "http_method_not_allowed"

    # ---------------------------------------------------------------- routes

    @classmethod
    def methods(cls) -> dict[str, str]:
        """Return by channel the name of the method that takes its messages."""
        found = {"http.request": "dispatch"} if cls._own_verbs() else {}
        if hasattr(cls, "disconnect"):
            found["http.disconnect"] = "disconnect"
        return {**found, **super().methods()}

    @classmethod
    def calls(cls, method: str) -> list[Call]:
        """Return what is called for a message that ``method`` takes."""
        if method != "dispatch":
            return super().calls(method)
        return [Call(getattr(cls, name), ("self", "request")) for name in cls._own_verbs()]

    @classmethod
    def dispatches(cls) -> bool:
        """Return False: its `dispatch` is for requests alone."""
        return False

    @classmethod
    def _own_verbs(cls) -> list[str]:
        return [
            name
            for name in cls.http_method_names
            if hasattr(cls, name) and getattr(cls, name) is not HttpConsumer.options
        ]

    @classmethod
    def _nothing(cls) -> str:
        return "has no method for a request; write def get(self, request)"

    @classmethod
    def _route(cls, channels: tuple[str, ...], method: str) -> Route:
        if method != "dispatch":
            return super()._route(channels, method)
        calls = cls.calls(method)
        cls._check_sessions(calls)
        for call in calls:
            check_runs(name_of(cls), call.function, "return StreamingHttpResponse(…) instead")
            if is_async(cls.dispatch) and not is_async(call.function):
                raise ImproperlyConfigured(
                    f"{name_of(cls)}.dispatch is async def, and {call.function.__name__} is not; "
                    "make both the same"
                )
        requests = _Requests(cls)
        return Route(channels, requests, {}, requests.on_loop, calls)

    @classmethod
    def _check_sessions(cls, calls: Sequence[Call]) -> None:
        """Refuse what is said of the sessions of connections: it would do nothing here."""
        said = [name for name, *_ in DECORATORS if getattr(cls, name)]
        said += [
            f"{call.function.__name__} is decorated for sessions of messages, which"
            for call in calls
            if getattr(call.function, "keeps_sessions", False)
        ]
        if said:
            raise ImproperlyConfigured(
                f"{name_of(cls)}.{said[0]} does nothing for requests, which pass Django's "
                "MIDDLEWARE: take it away, and use request.session and request.user"
            )


class _Requests:
    """What the route of a class leads to: Django's handler, with the class in place of a view."""

    def __init__(self, kind: type[HttpConsumer]) -> None:
        self._kind = kind
        self.__module__ = kind.__module__
        self.__qualname__ = kind.__qualname__

        def view(request: GatewayRequest, **kwargs: Any) -> HttpResponseBase:
            one = kind(request.message, **kwargs)
            return _response(one, one.dispatch(request, **kwargs))

        async def aview(request: GatewayRequest, **kwargs: Any) -> HttpResponseBase:
            one = kind(request.message, **kwargs)
            return _response(one, await one.dispatch(request, **kwargs))

        for each in (view, aview):  # csrf_exempt and the like, as Django's View
            each.__dict__.update({**kind.dispatch.__dict__, "view_class": kind})
        self._all_async = is_async(kind.dispatch)
        self._view = view
        self._aview = aview

    def on_loop(self, message: Message) -> bool:
        """Return whether the loop begins: an ``async def``, or a body to be collected."""
        method = self._method(message)
        if self._all_async or is_async(method):
            return True
        return message.content.get("body_channel") is not None and not streams_body(method)

    def __call__(self, message: Message, **kwargs: Any) -> Any:
        """Answer a request. What it returns, if anything, is to be awaited on the loop."""
        self._resolve(message, kwargs)
        return _views()(message)

    async def acall(self, message: Message, **kwargs: Any) -> None:
        """Answer a request that `on_loop` said is to be begun on the loop."""
        self._resolve(message, kwargs)
        await _views().acall(message)

    def _method(self, message: Message) -> Any:
        return getattr(self._kind, self._kind.method_of(message.content["method"]))

    def _resolve(self, message: Message, kwargs: dict[str, Any]) -> None:
        awaited = self._all_async or is_async(self._method(message))
        view: Any = self._aview if awaited else self._view
        _request(message).resolved = ResolverMatch(view, (), kwargs)


class _Chain(Chain):
    """Django's handler around the view that the routing table has found."""

    def resolve_request(self, request: Any) -> ResolverMatch:
        """Return what the route found, whatever Django's URLs say."""
        found: ResolverMatch = request.resolved
        request.resolver_match = found
        return found


class _ConsumerViews(Views):
    chain = _Chain


@functools.cache
def _views() -> Views:
    """Return the one handler of all classes: middleware is made once."""
    return _ConsumerViews()


def _forget(*, setting: str, **_: Any) -> None:
    """Make the middleware anew that a test has overridden."""
    if setting == "MIDDLEWARE":
        _views.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_gateway.generic.http")


def _request(message: Message) -> GatewayRequest:
    found: GatewayRequest | None = message.__dict__.get("request")
    if found is None:
        message.request = found = GatewayRequest(message)  # type: ignore[attr-defined]
    return found


async def _ready(response: Any) -> Any:
    return response


def _response(one: HttpConsumer, response: Any) -> HttpResponseBase:
    if response is None and one._replied:  # noqa: SLF001 - of the same module
        raise ResponseLater
    if isinstance(response, HttpResponseBase):
        return response
    method = one.method_of(str(one.request.method))
    if response is None:
        hint = "; or answer by self.reply(…), or raise ResponseLater"
    else:
        hint = ": JsonResponse(…) holds a dict or a list, HttpResponse(…) a text or bytes"
    raise TypeError(
        f"{name_of(type(one))}.{method} returned {_kind(response)}; return an HttpResponse{hint}"
    )


def _kind(response: Any) -> str:
    return "nothing" if response is None else f"a {type(response).__name__}"
