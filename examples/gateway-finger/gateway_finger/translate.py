"""Finger (RFC 1288): ``[/W] [USER][@HOST…] CR LF``, and back lines and the end. Pure."""

from collections.abc import Iterator

from gateway.core import plugin as gw

Actions = Iterator[gw.Action]
ANSWERS = {gw.ACCEPTED: "", gw.REJECTED: "no", gw.UNROUTED: "nobody answers here"}


class FingerSession(gw.LineSession):
    """One connection: a query and its answer, within so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.asked = seconds, False

    def opened(self, peer: gw.Peer) -> Actions:
        """Wait for so long."""
        yield gw.Timer("answer", self.seconds)

    def line(self, line: bytes) -> Actions:
        """Ask the application, once."""
        if not self.asked:
            self.asked = True
            verbose, words = line[:2].upper() == b"/W", line.decode("utf-8", "replace")
            user, *hosts = words[2 * verbose :].strip().split("@")
            yield gw.Emit("query", {"user": user, "hosts": hosts, "verbose": verbose}, "query")

    def outcome(self, token: str, outcome: gw.Outcome) -> Actions:
        """End it, with a word where that is not the consumer's; its reply has ended it before."""
        yield gw.Close(lines(outcome.reason or ANSWERS.get(outcome.kind, "try again later")))

    def send(self, conversation: str | None, reply: gw.Message, token: object) -> Actions:
        """Answer, and end it."""
        if {"text", "bytes", "close"} & set(reply):
            yield gw.Close(lines(reply["text"]) if "text" in reply else reply.get("bytes", b""))

    def timeout(self, name: str) -> Actions:
        """End it: nothing came for so long."""
        yield gw.Close(lines("try again later") if self.asked else b"")

    def eof(self) -> Actions:
        """Wait for the answer of a client that says no more; so at a shutdown."""
        if not self.asked:
            yield gw.Close()

    def draining(self, retry_after: float) -> Actions:
        """Finish what is asked."""
        return self.eof()


def lines(text: str) -> bytes:
    """Return the lines of a text as the network has them."""
    return "".join(f"{line}\r\n" for line in text.splitlines()).encode()
