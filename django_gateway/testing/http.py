"""The test's end of one HTTP request: Django's environ made bytes, and bytes Django's response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from django.http import HttpResponse

from gateway.testing import talk
from gateway.testing.line import Line
from gateway.testing.memory import MemoryGateway
from gateway.testing.talk import Header, Response

SAFE = "/%~!$&'()*+,;=:@-._?"
"""Characters that a request target may hold as they are (RFC 3986 section 3.3)."""


class Asked(NamedTuple):
    """What a client asks for."""

    method: str
    target: bytes
    headers: list[Header]
    body: bytes
    secure: bool
    host: str
    """The client's address."""
    server: tuple[str, int]


def asked(environ: Mapping[str, Any]) -> Asked:
    """Return what an environ of Django's request factory asks for (PEP 3333)."""
    path = environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]
    target = quote(path.encode("latin-1"), safe=SAFE.replace("%", "").replace("?", ""))
    if query := environ.get("QUERY_STRING"):
        target += "?" + quote(query.encode("latin-1"), safe=SAFE)
    port = int(environ["SERVER_PORT"])
    secure = environ["wsgi.url_scheme"] == "https"
    body = b""
    if length := int(environ.get("CONTENT_LENGTH") or 0):
        body = environ["wsgi.input"].read(length)
    return Asked(
        environ["REQUEST_METHOD"],
        target.encode(),
        list(_headers(environ, port, secure=secure)),
        body,
        secure,
        environ["REMOTE_ADDR"],
        ("127.0.0.1", port),
    )


def _headers(environ: Mapping[str, Any], port: int, *, secure: bool) -> Iterator[Header]:
    if "HTTP_HOST" not in environ:
        usual = 443 if secure else 80
        # Django's factory leaves the port at 80 where secure=True, too
        name = environ["SERVER_NAME"] + ("" if port in {usual, 80} else f":{port}")
        yield b"Host", name.encode("idna" if not name.isascii() else "ascii")
    for key, value in environ.items():
        if key in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            name = key
        elif key.startswith("HTTP_"):
            name = key[5:]
        else:
            continue
        if value != "":
            yield (
                name.replace("_", "-").title().encode(),
                str(value).encode("latin-1", "surrogateescape"),
            )


class GatewayResponse(HttpResponse):
    """A response as a client of the gateway got it: status, headers, cookies and content.

    ``streaming`` says whether it came in pieces; its ``content`` is whole in any case.
    """

    def __init__(self, came: Response) -> None:
        super().__init__(came.content, status=came.status, reason=came.reason)
        self.streaming = came.chunked
        del self.headers["Content-Type"]
        for name, value in came.headers:
            if name.lower() == "set-cookie":
                self.cookies.load(value)
            elif name in self.headers:
                self.headers[name] += f", {value}"
            else:
                self.headers[name] = value
        if "Location" in self.headers:
            self.url = self.headers["Location"]  # as of Django's redirects

    @property
    def streaming_content(self) -> Iterator[bytes]:
        """Iterate over the content, as of a ``StreamingHttpResponse``."""
        return iter([self.content])


class Exchange:
    """One request on a connection of its own."""

    def __init__(self, gateway: MemoryGateway, asked: Asked) -> None:
        self.asked = asked
        self._gateway = gateway
        self._came = bytearray()
        self._read = -1
        self._response: Response | None = None
        self.line: Line = gateway.connect(
            "http", self._came.extend, host=asked.host, server=asked.server, tls=asked.secure
        )

    def begin(self) -> None:
        """Send the request."""
        data = talk.request(
            self.asked.method, self.asked.target, self.asked.headers, self.asked.body
        )
        self._gateway.loop.call(self.line.send, data)

    @property
    def port(self) -> int:
        """The client's port."""
        client = self.line.peer.client
        return 0 if client is None else client[1]

    @property
    def response(self) -> Response | None:
        """The response, once it is complete or cut off."""
        size = len(self._came) + self.line.ended
        if self._response is None and size != self._read:
            self._read = size
            self._response = talk.response(
                bytes(self._came), self.asked.method, ended=self.line.ended
            )
        return self._response

    def is_over(self) -> bool:
        """Return whether nothing more comes."""
        return self.line.ended or self.response is not None

    def end(self) -> None:
        """Leave."""
        self._gateway.loop.call(self.line.leave)
