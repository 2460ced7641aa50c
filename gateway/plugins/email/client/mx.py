"""Which servers take mail for a domain: what DNS says (RFC 5321, section 5.1; RFC 7505)."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from gateway.core.errors import ConfigError, GatewayError
from gateway.plugins.email.client.destinations import is_public

TIMEOUTS: Final = (2, 5, 10)
"""Seconds to wait for a name server, each asked in its turn: lost datagrams, slow servers."""
MOST_HOSTS: Final = 10
"""Servers of a domain that are tried: more would only make a failure long."""


class Host(NamedTuple):
    """A server that DNS names."""

    name: str
    address: str


class NoRoute(GatewayError):  # noqa: N818 - what it says, not that something broke
    """There is no server to ask. ``status`` says why; its first digit whether that may change."""

    def __init__(self, reason: str, status: str) -> None:
        super().__init__(reason)
        self.status = status


class Resolver:
    """Asks name servers, by `twisted.names`, on the gateway's reactor. Raises ConfigError."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = [_server(text) for text in servers]
        self._made: Any = None

    def _resolver(self) -> Any:
        if self._made is None:
            # Not at the top: whoever imports this module must not choose the reactor.
            from twisted.internet import reactor  # noqa: PLC0415
            from twisted.names.client import Resolver as Twisted  # noqa: PLC0415

            resolv = None if self._servers else "/etc/resolv.conf"
            servers = self._servers or None
            self._made = Twisted(resolv, servers, TIMEOUTS, reactor)  # type: ignore[no-untyped-call] # Twisted's
        return self._made

    async def hosts(self, domain: str, *, private: bool = False) -> list[Host]:
        """Return the servers for a domain, the best first. Raises `NoRoute`.

        Without ``private`` those are left out that have no address of the Internet's.
        """
        names = await self._exchangers(domain)
        found: list[Host] = []
        hidden, troubles = 0, []
        for name in names[:MOST_HOSTS]:
            try:
                addresses = await self.addresses(name)
            except NoRoute as error:
                troubles.append(error)
                continue
            public = [one for one in addresses if private or is_public(one)]
            hidden += len(addresses) - len(public)
            found += [Host(name, one) for one in public]
        if found:
            return found
        if hidden:
            raise NoRoute(
                f"the servers of {domain} have private addresses, where mail is not delivered to "
                "(email.delivery.private)",
                "5.4.4",
            )
        for trouble in troubles:
            if trouble.status.startswith("4"):
                raise trouble
        raise NoRoute(f"{domain} has no server that takes mail: none has an address", "5.4.4")

    async def _exchangers(self, domain: str) -> list[str]:
        """Return the names of a domain's servers; its own where it names none."""
        records = await self._lookup("lookupMailExchange", domain, "MX")
        named = [(one.preference, str(one.name).rstrip(".").lower()) for one in records]
        if not named:
            return [domain]
        if all(not name for _, name in named):
            raise NoRoute(f"{domain} takes no mail (null MX, RFC 7505)", "5.1.10")
        # Those of one preference in any order, so that they share the load (section 5.1).
        random.shuffle(named)
        named.sort(key=lambda one: one[0])
        return list(dict.fromkeys(name for _, name in named if name))

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses of a server, in both families. Raises `NoRoute`."""
        found: list[str] = []
        errors: list[NoRoute] = []
        asked = [("lookupAddress", "A"), ("lookupIPV6Address", "AAAA")]
        for answer in await asyncio.gather(
            *(self._lookup(verb, name, kind) for verb, kind in asked), return_exceptions=True
        ):
            if isinstance(answer, NoRoute):
                errors.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found += [str(ipaddress.ip_address(one.address)) for one in answer]
        if not found and errors:
            raise min(errors, key=lambda error: error.status)
        return found

    async def _lookup(self, verb: str, name: str, kind: str) -> list[Any]:
        from twisted.names import dns, error  # noqa: PLC0415 - as above

        wanted = getattr(dns, kind)
        try:
            deferred = getattr(self._resolver(), verb)(name)
            answers, _, _ = await deferred.asFuture(asyncio.get_running_loop())
        except error.DNSNameError:
            raise NoRoute(f"there is no domain {name}", "5.1.2") from None
        except (
            error.DomainError,
            error.ResolverError,
            error.DNSQueryTimeoutError,
            OSError,
        ) as trouble:
            what = type(trouble).__name__.removesuffix("Error")
            raise NoRoute(f"DNS does not say where {name} is ({what})", "4.4.3") from None
        return [one.payload for one in answers if one.type == wanted]


def _server(text: str) -> tuple[str, int]:
    """Return what a name server's setting means."""
    with_port = text.count(":") == 1 or "]:" in text
    host, colon, port = text.rpartition(":") if with_port else (text, "", "")
    try:
        address = str(ipaddress.ip_address(host.strip("[]")))
        return address, int(port) if colon else 53
    except ValueError:
        raise ConfigError(
            f"email.delivery.resolvers: {text!r} is no address of a name server; write 192.0.2.1, "
            "192.0.2.1:5353 or [2001:db8::1]:53"
        ) from None
