"""A name server of the test's own."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.names import dns, error, server

from gateway.testing.stage import Stage


class Zone:
    """A name server on loopback, with the records that the test says. ``down``: it fails."""

    def __init__(self, records: dict[str, list[Any]]) -> None:
        self.records = records
        self.down = False
        self.asked: list[tuple[str, int]] = []

    def __enter__(self):
        self._stage = Stage.of_this_process()
        self._stage.call(self._listen)
        return self

    def _listen(self) -> None:
        from twisted.internet import reactor

        factory = server.DNSServerFactory(clients=[self])
        factory.noisy = False
        self._port = reactor.listenUDP(0, dns.DNSDatagramProtocol(factory), interface="127.0.0.1")
        self.where = f"127.0.0.1:{self._port.getHost().port}"

    def __exit__(self, *_):
        async def close():
            loop = self._stage.loop
            await defer.maybeDeferred(self._port.stopListening).asFuture(loop)

        self._stage.run(close())

    def query(self, query, timeout=None):
        """Answer, as twisted.names has its server ask."""
        name = query.name.name.decode().lower()
        self.asked.append((name, query.type))
        if self.down:
            return defer.fail(error.ResolverError("down"))
        if name not in self.records:
            return defer.fail(error.AuthoritativeDomainError(name))
        found = [
            dns.RRHeader(name.encode(), one.TYPE, payload=one, ttl=0)
            for one in self.records[name]
            if query.type == one.TYPE
        ]
        return defer.succeed((found, [], []))


def mx(preference: int, name: str) -> dns.Record_MX:
    return dns.Record_MX(preference, name)


def a(address: str) -> Any:
    return dns.Record_AAAA(address) if ":" in address else dns.Record_A(address)
