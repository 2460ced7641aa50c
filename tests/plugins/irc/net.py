"""A network of IRC in a rig: clients that say lines and hear lines, in virtual time."""

from __future__ import annotations

import re
from typing import Any, Self

from gateway.core.plugin import OK
from gateway.plugins.irc import IrcPlugin
from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.lines import Line, parse
from gateway.testing.rig import Rig

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Net:
    """A started server role; ``routes`` are the kinds that the worker routes."""

    def __init__(self, *routes: str, beside: Any = None, **settings: Any) -> None:
        config = IrcConfig(**{"line_rate": 0, **settings})
        self.rig = Rig(IrcPlugin, config, announced=routes or ("quit",))

    def __enter__(self) -> Self:
        self.rig.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.rig.__exit__(*error)

    @property
    def network(self) -> Any:
        return self.rig.plugin._server.network

    def client(self) -> Client:
        return Client(self.rig)

    def join(self, nick: str, *channels: str, caps: str = "") -> Client:
        """Return a client that is let in, and in these channels."""
        client = Client(self.rig)
        if caps:
            client.say("CAP REQ :" + caps)
        client.say(f"NICK {nick}", f"USER {nick} 0 * :{nick.title()} Doe")
        if caps:
            client.say("CAP END")
        for channel in channels:
            client.say(f"JOIN {channel}")
        self.settle()
        client.lines()
        return client

    def settle(self, outcome: Any = OK, *replies: Any) -> list[Any]:
        """Settle all that the worker hears; return it."""
        found = []
        while (heard := self.rig.hear_any()) is not None:
            found.append(heard)
            heard.settle(outcome, *replies)
        return found


class Client:
    """One client."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.wire = rig.connect()

    def say(self, *lines: str) -> Client:
        self.wire.send("".join(f"{line}\r\n" for line in lines).encode())
        self._rig.run()
        return self

    def raw(self) -> list[str]:
        """Return the lines that came, as they are."""
        self._rig.run()
        return self.wire.take().decode().splitlines()

    def lines(self) -> list[Line]:
        return [parse(line.encode()) for line in self.raw()]

    def heard(self) -> list[str]:
        """Return what came, without its tags."""
        return [re.sub(r"^@\S+ ", "", line) for line in self.raw()]

    def asks(self, *lines: str) -> list[str]:
        """Say lines; return what came, without tags, server and own nick of numerics."""
        self.lines()
        self.say(*lines)
        return [re.sub(r"^:irc\.gateway (\d{3}) \S+ ?", r"\1 ", one) for one in self.heard()]
