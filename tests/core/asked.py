"""Requests for claims, without an http plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from gateway.core.errors import LocalProtocolError
from gateway.core.web import Exchange, Head, Header


def head(
    headers: Iterable[Header] = (),
    *,
    method: str = "GET",
    path: str = "/",
    query: bytes = b"",
    version: str = "1.1",
    scheme: str = "http",
) -> Head:
    """Return a request head."""
    found = Head()
    found.method = method
    found.raw_path = path.encode()
    found.target = found.raw_path + (b"?" + query if query else b"")
    found.path = path
    found.query_string = query
    found.headers = list(headers)
    found.http_version = version
    found.scheme = scheme
    found.identity = None
    found.root_path = ""
    found.protocol = ""
    found.client = ("127.0.0.1", 5000)
    found.server = ("127.0.0.1", 80)
    return found


class Asked(Exchange):
    """A request that remembers how it was answered; ``unsendable`` is a header that cannot be."""

    def __init__(self, request: Head | None = None, unsendable: bytes = b"") -> None:
        self.head = request or head()
        self.answer = None
        self.paused = False
        self.unsendable = unsendable
        self.status = 0
        self.headers: list[Header] = []
        self.content = b""
        self.ended = self.aborted = self.declined = False
        self.gone: list[Callable[[], None]] = []
        self.writable: list[Callable[[bool], None]] = []

    async def body(self) -> AsyncIterator[bytes]:
        """Iterate over nothing."""
        for piece in ():
            yield piece

    def respond(self, status: int, headers: Iterable[Header] = ()) -> None:
        """Remember the head."""
        headers = list(headers)
        if any(name == self.unsendable for name, _ in headers):
            raise LocalProtocolError("it cannot be sent")
        assert not self.status, "answered twice"
        self.status, self.headers = status, headers

    def write(self, data: Any) -> None:
        """Remember content."""
        assert self.status, "respond() comes first"
        self.content += data

    def end(self) -> None:
        """Remember the end."""
        self.ended = True

    def abort(self) -> None:
        """Remember that it was cut off."""
        self.aborted = True

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Remember whom to call back."""
        self.gone.append(callback)

    def on_writable(self, callback: Callable[[bool], None]) -> None:
        """Remember whom to call back."""
        self.writable.append(callback)

    def decline(self) -> None:
        """Remember that it was handed on."""
        self.declined = True

    def upgrade(self, protocol: bytes, headers: Iterable[Header] = ()) -> Any:
        """Refuse."""
        raise RuntimeError("nobody upgrades these")

    @property
    def release(self) -> Callable[[], None]:
        """Refuse."""
        raise RuntimeError("nobody upgrades these")
