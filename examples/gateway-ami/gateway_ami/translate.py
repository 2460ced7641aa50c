"""The protocol as messages, and messages as the protocol. Pure.

::

    manager                             gateway
                                  ◄──   Asterisk Call Manager/9.0.0
    Action: Login, Username, Secret ──►
                                  ◄──   Response: Success | Response: Error, and the end
    Action: …, ActionID: 7        ──►
                                  ◄──   Response: Success, ActionID: 7 | Response: Error, …
                                  ◄──   Event: …, whenever the application says so
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from gateway.core import plugin as core
from gateway.core.plugin import Accepted, Action, Close, Emit, LocalProtocolError, Timer, Write

WHY: Final = {
    core.FAILED: "Action failed",
    core.RELEASED: "Busy, try again later",
    core.UNROUTED: "Invalid/unknown command",
}


def pack(lines: Mapping[str, str]) -> bytes:
    """Return a response or an event."""
    return "".join(f"{name}: {text}\r\n" for name, text in lines.items()).encode() + b"\r\n"


def respond(name: str, number: str, **lines: str) -> bytes:
    """Return a response; it has the number that the action had, if it had one."""
    return pack({"Response": name} | ({"ActionID": number} if number else {}) | lines)


class AmiSession(core.LineSession):
    """One manager's connection."""

    max_line = 1024

    def __init__(self, login_timeout: float) -> None:
        self.login_timeout = login_timeout
        self.state = "new"  # then asked, in
        self.username = self.number = self.wrong = ""
        self.headers: dict[str, str] = {}  # of the action that is being said

    def opened(self, peer: core.Peer) -> Iterable[Action]:
        """Greet."""
        return [Write(b"Asterisk Call Manager/9.0.0\r\n"), Timer("login", self.login_timeout)]

    def timeout(self, name: str) -> Iterable[Action]:
        """End who has not logged in."""
        return [Close()] if self.state == "new" else []

    def too_long(self) -> Iterable[Action]:
        """Remember it until the action is complete."""
        self.wrong = "Failed to parse message: line too long"
        return []

    def line(self, line: bytes) -> Iterator[Action]:
        """Take a header; an empty line ends the action."""
        name, _, text = line.decode("utf-8", "replace").partition(":")
        if line and len(self.headers) < 128:  # as Asterisk does
            self.headers[name.strip().lower()] = text.strip()
        elif line:
            self.wrong = "Too many lines in message or allocation failure"
        elif self.headers or self.wrong:
            headers, self.headers, wrong, self.wrong = self.headers, {}, self.wrong, ""
            yield self.act(headers.pop("action", ""), headers.get("actionid", ""), headers, wrong)

    def act(self, name: str, number: str, headers: dict[str, str], wrong: str) -> Action:
        """Return what an action leads to."""
        match name.lower(), self.state:
            case _ if wrong or not name:
                return Write(respond("Error", number, Message=wrong or "Missing action in request"))
            case "logoff", _:
                return Close(respond("Goodbye", number, Message="Thanks for all the fish."))
            case "login", "new":
                asked = {key: headers.get(key, "") for key in ("username", "secret")}
                self.state, self.number, self.username = "asked", number, asked["username"]
                return Emit("connect", asked, token=Accepted)
            case (_, "new") | ("login", _):
                return Write(respond("Error", number, Message="Permission denied"))
            case "ping", _:
                return Write(respond("Success", number, Ping="Pong"))
        return Emit("action", {"action": name, "headers": headers}, token=number)

    def outcome(self, token: Any, outcome: core.Outcome) -> Iterable[Action]:
        """Answer with what became of it."""
        why = " ".join(WHY.get(outcome.kind, outcome.reason).split())
        if token is Accepted:
            return self.decide(outcome.kind == core.ACCEPTED, why or "Authentication failed")
        if outcome.kind == core.ACCEPTED:
            return [Write(respond("Success", token))]
        return [Write(respond("Error", token, Message=why or "Permission denied"))]

    def decide(self, yes: bool, why: str) -> Iterator[Action]:
        """Let it in, or end it, once."""
        if self.state == "asked":
            self.state = "in"
            if yes:
                yield Accepted()
                yield Write(respond("Success", self.number, Message="Authentication accepted"))
            else:
                yield Close(respond("Error", self.number, Message=why))

    def draining(self, retry_after: float) -> Iterable[Action]:
        """Say Shutdown, as Asterisk does; that it comes back is a Restart."""
        return [Close(pack({"Event": "Shutdown", "Shutdown": "Cleanly", "Restart": "True"}))]

    def ended(self) -> Mapping[str, Any]:
        """Say who it was."""
        return {"username": self.username}

    def send(self, conversation: str | None, reply: core.Message, token: Any) -> Iterator[Action]:
        """Tell an event; let in, or end, where it says so."""
        yes = reply.get("accept", "close" not in reply)
        yield from self.decide(yes, "Authentication failed")
        yield (Close if reply.get("close") else Write)(self.event(reply))

    @classmethod
    def frame(cls, reply: core.Message) -> bytes | None:
        """Return a group's event, the same for every manager; None: each is closed by `send`."""
        return None if "close" in reply else cls.event(reply)

    @staticmethod
    def event(reply: core.Message) -> bytes:
        """Return an event, or nothing where a reply has no name of one."""
        name, headers = reply.get("text", ""), reply.get("headers", {})
        lines = (name, *headers, *headers.values())
        if "bytes" in reply or (headers and not name) or re.search(r"[\r\n]", "".join(lines)):
            raise LocalProtocolError("an event is a name, text, and headers, each of them a line")
        return pack({"Event": name} | headers) if name else b""
