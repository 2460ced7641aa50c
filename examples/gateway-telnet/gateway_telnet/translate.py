r"""Telnet (RFC 854, 855, 1123) as messages, and messages as Telnet. Pure.

IAC WILL|DO OPTION    an offer, a wish: refused        CR LF, CR NUL, LF  the end of a line
IAC WONT|DONT OPTION  as it is already: no answer      IAC IAC            the byte 255
IAC SB … IAC SE       an option's parameters: ignored  IAC other          ignored
"""

import re
from collections.abc import Iterator

from gateway.core import plugin as gw

Actions = Iterator[gw.Action]
IAC, SB, SE = b"\xff", b"\xfa", b"\xf0"
REFUSAL = {b"\xfb": b"\xfe", b"\xfd": b"\xfc"}  # WILL: DONT, DO: WONT
PART = re.compile(
    rb"\xff([\xfb-\xfe])(.)|\xff([^\xfb-\xfe])|(\r?[\0\n]|\r(?=.)|[^\xff\r\0\n]+)|(.+)", re.S
)
HEARD = {b"\r\n": b"\n", b"\r\0": b"\n", b"\0": b""}
SAID = {b"\r\n": b"\r\n", b"\n": b"\r\n", b"\r": b"\r\0", IAC: IAC + IAC}
ANSWERS = {gw.REJECTED: "refused", gw.UNROUTED: "nobody listens"}


class TelnetSession(gw.LineSession):
    """One connection, which agrees to no option: the client edits its lines and shows them."""

    accepted, inside, rest = False, False, b""

    def opened(self, peer: gw.Peer) -> Actions:
        """Ask whether it may come in."""
        yield gw.Emit("connect", {}, token="connect")

    def received(self, data: bytes) -> Actions:
        """Take the commands out of what comes; the rest is lines."""
        data, self.rest = self.rest + data, b""
        for part in PART.finditer(data):
            verb, option, command, text, self.rest = part.groups(b"")
            if command and command != IAC:
                self.inside = command == SB or (self.inside and command != SE)
            elif not self.inside and verb in REFUSAL:
                yield gw.Write(IAC + REFUSAL[verb] + option)
            elif not self.inside and not verb:
                yield from super().received(command or HEARD.get(text, text))

    def line(self, line: bytes) -> Actions:
        """Hand a line on."""
        yield gw.Emit("receive", {"text": line.decode("utf-8", "replace")}, token="receive")

    def outcome(self, token: str, outcome: gw.Outcome) -> Actions:
        """Let it in; of a line say what went wrong."""
        said = nvt(f"{outcome.reason or ANSWERS.get(outcome.kind, 'try again later')}\n".encode())
        if token == "receive" and outcome.kind != gw.ACCEPTED:
            yield gw.Write(said)
        elif token == "connect" and not self.accepted:
            self.accepted = outcome.kind in {gw.ACCEPTED, gw.UNROUTED}
            yield gw.Accepted() if self.accepted else gw.Close(said)

    def send(self, conversation: str | None, reply: gw.Message, token: object) -> Actions:
        """Write a text as lines, and bytes as they are; let in or end it, where that is said."""
        if not self.accepted and reply.get("accept", not reply.get("close")):
            self.accepted = True
            yield gw.Accepted()
        line = f"{reply['text']}\n".encode() if "text" in reply else reply.get("bytes", b"")
        yield gw.Write(nvt(line))
        if reply.get("close") or not self.accepted:
            yield gw.Close()


def nvt(data: bytes) -> bytes:
    """Return it as the network virtual terminal has it (RFC 854, page 11)."""
    return re.sub(rb"\r\n|[\r\n\xff]", lambda found: SAID[found[0]], data)
