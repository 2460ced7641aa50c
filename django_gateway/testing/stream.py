"""The test's end of a connection to a plugin that speaks bytes: lines, or whatever comes."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TYPE_CHECKING

from django_gateway.testing.conversation import Conversation, Event
from gateway.testing.line import Line

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient


class _Pieces:
    """Makes events of bytes: one for each that ends in ``separator``, without it."""

    def __init__(self, events: list[Event], separator: bytes) -> None:
        self._events = events
        self._separator = separator
        self._rest = b""

    def heard(self, data: bytes) -> None:
        """Take bytes of the server's."""
        if not self._separator:
            self._events.append(Event("bytes", data))
            return
        *lines, self._rest = (self._rest + data).split(self._separator)
        self._events += [Event("bytes", line) for line in lines]


class Stream(Conversation):
    """A connection of a `GatewayClient` to a stream plugin, such as one for lines.

    What comes is expected line by line (``expect_bytes(b"OK 1")``, without the separator); with an
    empty ``separator`` as it was written.
    """

    def __init__(
        self, client: GatewayClient, plugin: str, *, separator: bytes = b"\n", host: str
    ) -> None:
        super().__init__(client, plugin)
        self.plugin = plugin
        self._host = host
        self._pieces = _Pieces(self.received, separator)

    def _dial(self, cookies: SimpleCookie | None) -> Line:
        return self._site.gateway.connect(self.plugin, self._pieces.heard, host=self._host)

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._act("send_bytes", lambda: self._send(data))

    async def asend_bytes(self, data: bytes) -> None:
        """Async twin of `send_bytes`."""
        await self._aact(lambda: self._send(data))

    def _send(self, data: bytes) -> None:
        if self.closed:
            self._fail("it is not open: nothing can be sent")
        self._say(data)

    def close(self) -> None:
        """Send no more, as a client does that is done; what was asked may still be answered."""
        self._act("close", self._goodbye)

    async def aclose(self) -> None:
        """Async twin of `close`."""
        await self._aact(self._goodbye)

    def _goodbye(self) -> None:
        line = self._line
        if line is not None and not line.is_closing():
            self._site.gateway.loop.call(line.leave)

    def expect_end(self) -> None:
        """Check that the server has ended it, and said nothing more before."""
        self._settled("expect_end", self._expect_end)

    async def aexpect_end(self) -> None:
        """Async twin of `expect_end`."""
        await self._asettled(self._expect_end)

    def _expect_end(self) -> None:
        self._expect_nothing()
        if not self.closed:
            self._fail("expected the end of the connection, and it is open")
