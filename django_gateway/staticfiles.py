"""Static files in development, as Django's own runserver serves them.

The names are those of Channels 1. In production a web server or WhiteNoise does it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlparse

from django.contrib.staticfiles.handlers import StaticFilesHandlerMixin

from django_gateway.handler import Chain, Views
from django_gateway.message import Message
from django_gateway.request import GatewayRequest


class StaticFilesHandler(StaticFilesHandlerMixin, Chain):  # type: ignore[misc]  # get_response
    """Answers requests below ``STATIC_URL`` with the files that the finders find; no middleware."""

    def __init__(self) -> None:
        self.base_url = urlparse(self.get_base_url())

    def get_response(self, request: Any) -> Any:
        """Return the file, or Django's page for one that is not there."""
        response: Any = super().get_response(request)
        response._resource_closers.append(request.close)  # noqa: SLF001 - as Django's handlers do
        return response

    def handles(self, message: Message) -> bool:
        """Return whether a request asks for a static file."""
        handled: bool = self._should_handle(GatewayRequest(message).path)
        return handled


class StaticFilesConsumer(Views):
    """The consumer of ``http.request`` that serves static files, and Django's views beside them."""

    def __init__(self) -> None:
        super().__init__()
        self._static = StaticFilesHandler()

    def on_loop(self, message: Message) -> bool:
        """Return whether the loop begins; files are for threads."""
        return not self._static.handles(message) and super().on_loop(message)

    def __call__(self, message: Message) -> Coroutine[Any, Any, None] | None:
        """Answer the request."""
        return self.answer(message, self._static if self._static.handles(message) else self._chain)
