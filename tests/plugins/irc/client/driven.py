"""A session of a network, driven by hand: lines in, lines and messages out, time by `advance`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.core.errors import LocalProtocolError
from gateway.core.layers.base import Outcome
from gateway.core.plugin import Action, Close, Done, Emit, Forget, Peer, Timer, Write
from gateway.plugins.irc.client.config import Network
from gateway.plugins.irc.client.rooms import Rooms
from gateway.plugins.irc.client.session import NetworkSession
from gateway.plugins.irc.lines import fold

MASK = "gw!~gateway@host.example"


class Driven:
    """The session, and all that it did."""

    def __init__(
        self, *, rooms: Rooms | None = None, clock: float = 1000.0, **settings: Any
    ) -> None:
        settings.setdefault("connect", "irc.example:6667")
        settings.setdefault("nick", "gw")
        self.network = Network(**settings)
        self.now = clock
        self.rooms = Rooms(self.network, fold) if rooms is None else rooms
        self.rooms.lost()
        self.written: list[str] = []
        self.emitted: list[tuple[str, dict[str, Any]]] = []
        self.conversations: list[str | None] = []
        self.forgotten: list[str] = []
        self.counted: list[Any] = []
        self.done: dict[Any, Outcome] = {}
        self.closed: Close | None = None
        self.timers: dict[str, float] = {}
        self.session = NetworkSession(
            "net",
            self.network,
            self.rooms,
            lambda: self.now,
            host="irc.example",
            calendar=lambda: "noon",
        )
        self.run(self.session.opened(Peer()))

    def run(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Write) and isinstance(action.output, bytes):
                self._write(action.output)
            elif isinstance(action, Write):
                self.counted.append(action.output)
            elif isinstance(action, Emit):
                self.emitted.append((action.kind, dict(action.message)))
                self.conversations.append(action.conversation)
            elif isinstance(action, Done):
                assert action.token not in self.done, "judged twice"
                self.done[action.token] = action.outcome
            elif isinstance(action, Timer):
                self.timers.pop(action.name, None)
                if action.seconds is not None:
                    self.timers[action.name] = self.now + action.seconds
            elif isinstance(action, Forget):
                self.forgotten.append(action.conversation)
            elif isinstance(action, Close):
                self._write(action.data)
                self.closed = action

    def _write(self, data: bytes) -> None:
        assert not data or data.endswith(b"\r\n")
        for line in data.decode().split("\r\n")[:-1]:
            assert len(line.encode()) <= 510 + (len(line.split(" ")[0]) if line[0] == "@" else 0)
            assert "\n" not in line
            assert "\0" not in line
            self.written.append(line)

    def hear(self, *lines: str | bytes) -> None:
        """Have the network say something."""
        for line in lines:
            data = line if isinstance(line, bytes) else line.encode()
            if self.closed is None:
                self.run(self.session.received(data + b"\r\n"))

    def say(self, reply: dict[str, Any], to: str | None = "#room", token: Any = None) -> None:
        """Have the application say something."""
        self.run(self.session.send(to, reply, token))

    def refuses(self, reply: dict[str, Any], to: str | None = "#room") -> str:
        """Return why the application may not say something."""
        try:
            self.run(self.session.send(to, reply, None))
        except LocalProtocolError as error:
            return str(error)
        raise AssertionError("it may")

    def advance(self, seconds: float) -> None:
        """Let time pass, and timers ring."""
        end = self.now + seconds
        while self.timers and (due := min(self.timers.items(), key=lambda one: one[1]))[1] <= end:
            self.now = max(self.now, due[1])
            del self.timers[due[0]]
            if self.closed is None:
                self.run(self.session.timeout(due[0]))
        self.now = end

    def welcome(self, *support: str, nick: str = "gw", caps: str = "") -> None:
        """Be let in, by a network with such features."""
        if caps:
            self.hear(f":irc.example CAP * LS :{caps}")
            for line in self.take():
                if line.startswith("CAP REQ "):
                    words = line.removeprefix("CAP REQ ").lstrip(":")
                    self.hear(f":irc.example CAP * ACK :{words}")
        self.hear(f":irc.example 001 {nick} :Welcome {nick}!~gateway@host.example")
        if support:
            self.hear(f":irc.example 005 {nick} {' '.join(support)} :are supported")
        self.hear(f":irc.example 422 {nick} :no motd")

    def joined(self, *channels: str) -> None:
        """Be let into channels."""
        for channel in channels:
            self.hear(f":{MASK} JOIN {channel}")

    def take(self) -> list[str]:
        """Return what was written since the last time."""
        found, self.written = self.written, []
        return found

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what was emitted since the last time."""
        found, self.emitted = self.emitted, []
        return found


def entered(*support: str, caps: str = "", **settings: Any) -> Driven:
    """Return a session that is in #room, with all of that behind it."""
    settings.setdefault("channels", ("#room",))
    it = Driven(**settings)
    it.welcome(*support, caps=caps)
    it.joined(*settings["channels"])
    it.advance(60)
    for line in it.take():
        if line.startswith("PING "):
            it.hear(f":irc.example PONG irc.example {line[5:]}")
    it.take()
    it.messages()
    return it
