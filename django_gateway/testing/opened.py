"""The test's end of what begins as a request that the application decides on: see `Opened`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote

from django_gateway.testing.conversation import ANY, Conversation, Event
from django_gateway.testing.http import Asked, Exchange, GatewayResponse
from gateway.testing.line import Line
from gateway.testing.talk import Header, Response

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient

TEXT: Final = b"text/plain; charset=utf-8"
BINARY: Final = b"application/octet-stream"
"""The types of what is posted."""


class Reader:
    """Makes events of what comes. It knows nothing of its connection: who forgets that forgets all.

    ``events`` is where they go.
    """

    def __init__(self, events: list[Event], last_event_id: str) -> None:
        self.events = events
        self.last_event_id = last_event_id
        self.line: Line | None = None

    def heard(self, data: bytes) -> None:
        """Take bytes of the server's."""
        raise NotImplementedError


class Opened(Conversation):
    """A connection to a path: a WebSocket, an event stream, a long poll. A consumer's ``connect``
    accepts it or not.
    """  # noqa: D205 - one sentence

    plugin = "http"
    protocol: ClassVar[str]
    """The plugin that serves it, and the method of `GatewayClient` that makes it."""
    takes: ClassVar[str] = ""
    """What that method takes besides, for people."""
    _reader: Reader

    def __init__(
        self,
        client: GatewayClient,
        path: str,
        *,
        last_event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        query_params: Any = None,
        user: Any = None,
        secure: bool = False,
        **extra: Any,
    ) -> None:
        super().__init__(client, path, user)
        if not path.startswith("/"):
            raise ValueError(f"{self.protocol}({path!r}): a path begins with '/': {'/' + path!r}")
        if unknown := [key for key in extra if not key.isupper()]:
            raise TypeError(
                f"{self.protocol}() takes no {unknown[0]!r}: {self.takes}headers, query_params, "
                "user, secure, last_event_id, and variables such as REMOTE_ADDR"
            )
        self._since = last_event_id
        self._arguments = {
            "path": path,
            "headers": headers,
            "query_params": query_params,
            "secure": secure,
            **extra,
        }

    # ------------------------------------------------ what a protocol does its own way

    @property
    def accepted(self) -> bool:
        """Whether it was accepted."""
        raise NotImplementedError

    @property
    def response(self) -> Response | None:
        """The HTTP response that accepted or refused it: ``status``, ``headers``, ``content``."""
        raise NotImplementedError

    @property
    def last_event_id(self) -> str:
        """The id of the last message that came with one, or the position that was told since."""
        return self._reader.last_event_id

    def _connect(self, asked: Asked) -> Line:
        """Return the connection that is to ask."""
        self._reader.line = line = self._site.gateway.connect(
            self.plugin, self._reader.heard, host=asked.host, server=asked.server, tls=asked.secure
        )
        return line

    def _plan(self, cookies: SimpleCookie | None) -> Asked:
        """Return the request that asks for it, as a GET."""
        return self._client.plan("get", self._arguments, cookies)

    # ------------------------------------------------ how it stands

    @property
    def rejected(self) -> int | None:
        """The HTTP status that refused it; None while nobody has."""
        response = None if self.accepted else self.response
        return None if response is None else response.status

    @property
    def pending(self) -> bool:
        """Whether nobody has decided yet: let the clock of the client advance, or decide."""
        return self._line is not None and not self.accepted and self.rejected is None

    def _state(self) -> str:
        if self.rejected is not None:
            return f"it was refused: {self.rejected}"
        if not self.accepted:
            return "nobody has decided on it yet"
        return ""

    # ------------------------------------------------ the end

    def expect_close(self, code: Any = ANY, reason: Any = ANY) -> int:
        """Return the close code that the application's end sends next."""
        return int(self._settled("expect_close", lambda: self._expect_close(code, reason)))

    async def aexpect_close(self, code: Any = ANY, reason: Any = ANY) -> int:
        """Async twin of `expect_close`."""
        return int(await self._asettled(lambda: self._expect_close(code, reason)))

    def _expect_close(self, code: Any, reason: Any) -> int:
        wanted = " ".join(["close", *(str(part) for part in (code, reason) if part is not ANY)])
        event = self._next(wanted)
        if (
            event.kind != "close"
            or code not in {ANY, event.value[0]}
            or reason not in {ANY, event.value[1]}
        ):
            self._fail(f"expected {wanted}, got {event}")
        found: int = event.value[0]
        return found


class Posting(Opened):
    """One whose client speaks by requests of their own, to a location that it was told."""

    _first: Asked

    @property
    def location(self) -> str | None:
        """Where it posts, a path and a query; None until it is told, and where it never is."""
        raise NotImplementedError

    def send_text(self, text: str) -> GatewayResponse | None:
        """Post a text; return the answer: 204 where a consumer has taken it.

        None: nothing is run yet, in a block of `GatewayClient.together`.
        """
        return self._posted("send_text", lambda: self._post(encoded(text), TEXT))

    async def asend_text(self, text: str) -> GatewayResponse | None:
        """Async twin of `send_text`."""
        return await self._aposted(lambda: self._post(encoded(text), TEXT))

    def send_bytes(self, data: bytes) -> GatewayResponse | None:
        """Post bytes; return the answer, as `send_text`."""
        return self._posted("send_bytes", lambda: self._post(data, BINARY))

    async def asend_bytes(self, data: bytes) -> GatewayResponse | None:
        """Async twin of `send_bytes`."""
        return await self._aposted(lambda: self._post(data, BINARY))

    def send_json(self, value: Any) -> GatewayResponse | None:
        """Post ``value`` as JSON, a text; return the answer, as `send_text`."""
        return self._posted("send_json", lambda: self._post(json.dumps(value).encode(), TEXT))

    async def asend_json(self, value: Any) -> GatewayResponse | None:
        """Async twin of `send_json`."""
        return await self.asend_text(json.dumps(value))

    # ------------------------------------------------ own

    def _begun(self, asked: Asked, more: list[Header]) -> Asked:
        """Return the request that asks for it, with where the client was last.

        Raises LookupError where nobody would know what it asks for.
        """
        running = self._site.gateway.server.plugins
        if self.protocol not in running:
            raise LookupError(
                f"{self.protocol}() needs the plugin {self.protocol!r}, and the site has "
                f"{', '.join(running)}: GatewayClient(plugins=[…]), or 'plugins' in the settings' "
                "GATEWAY"
            )
        if self._since is not None:
            more = [*more, (b"Last-Event-ID", self._since.encode())]
        self._first = asked
        return asked._replace(headers=[*asked.headers, *more])

    def _ask(self, method: str, body: bytes = b"", *more: Header) -> Exchange:
        """Return a request to the location, on a connection of its own."""
        if not self.accepted or self.closed:
            self._fail("it is not open: nothing can be sent")
        location = self.location
        if location is None:
            self._fail(f"it was told no location to send to: {self.protocol}(…, posts=True) is")
        target = quote(location, safe="/%~!$&'()*+,;=:@-._?").encode()
        headers = [*self._first.headers, *more]
        if body or method == "POST":
            headers.append((b"Content-Length", str(len(body)).encode()))
        asked = self._first._replace(method=method, target=target, headers=headers, body=body)
        return Exchange(self._site.gateway, asked)

    def _post(self, body: bytes, kind: bytes) -> Exchange:
        return self._ask("POST", body, (b"Content-Type", kind))

    def _posted(self, verb: str, ask: Callable[[], Exchange]) -> GatewayResponse | None:
        self._client.check_sync(verb)
        exchange = ask()
        self._act(verb, exchange.begin)
        return self._answer(exchange)

    async def _aposted(self, ask: Callable[[], Exchange]) -> GatewayResponse | None:
        exchange = ask()
        await self._aact(exchange.begin)
        return self._answer(exchange)

    def _answer(self, exchange: Exchange) -> GatewayResponse | None:
        came = exchange.response
        if came is None:
            return None
        exchange.end()
        return GatewayResponse(came)


def encoded(text: str) -> bytes:
    """Return a text as UTF-8. Raises TypeError, which names the verb for anything else."""
    if not isinstance(text, str):
        raise TypeError(
            f"send_text() takes a str, not {type(text).__name__}; there are send_bytes() and "
            "send_json()"
        )
    return text.encode()
