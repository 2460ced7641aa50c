"""Lines to messages and back. Pure."""

import re

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import (
    ACCEPTED,
    REJECTED,
    UNROUTED,
    Accepted,
    Close,
    Emit,
    LineSession,
    Write,
)

WORDS = {ACCEPTED: "OK", REJECTED: "NO", UNROUTED: "NO"}
READING = re.compile(rb"S (\d{1,9}) (-?\d{1,9}(?:\.\d{1,9})?)\Z")
CONNECT = -1


class SensorSession(LineSession):
    max_line = 100
    reason = "peer"

    def opened(self, peer):
        return [Emit("connect", {}, CONNECT)]

    def line(self, line):
        found = READING.match(line)
        if found is None:
            return [Write(b"WHAT\n")]
        seq = int(found[1])
        return [Emit("receive", {"seq": seq, "value": float(found[2])}, seq)]

    def too_long(self):
        return [Write(b"WHAT\n")]

    def outcome(self, token, outcome):
        if token != CONNECT:
            return self.answer(token, WORDS.get(outcome.kind, "LATER"))
        if outcome.kind == ACCEPTED:
            return [Accepted(), Write(b"HELLO\n")]
        return [Close(b"BYE\n")]

    def refused(self, token, refusal):
        return [Close(b"BYE\n")] if token == CONNECT else self.answer(token, "LATER")

    def answer(self, seq, word):
        return [Write(f"{word} {seq}\n".encode())]

    def send(self, conversation, reply, token):
        text = reply.get("text")
        if "bytes" in reply or (text is not None and "\n" in text):
            raise LocalProtocolError("a line of text is all that a sensor understands")
        actions = [] if text is None else [Write(f"T {text}\n".encode())]
        return [*actions, Close(b"BYE\n")] if reply.get("close") else actions

    def draining(self, retry_after):
        self.reason = "gateway"
        return [Close(b"BYE\n")]

    def ended(self):
        return {"reason": self.reason}

    @classmethod
    def frame(cls, reply):
        return f"T {reply['text']}\n".encode() if set(reply) == {"text"} else None
