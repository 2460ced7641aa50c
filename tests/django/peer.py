"""The gateway's side of the layer, as the tests play it."""

import itertools
import time
from typing import NamedTuple

MISSING = object()


class Response(NamedTuple):
    status: int
    headers: list
    content: bytes

    def header(self, name):
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, f"{name} twice"
        return found[0] if found else None


class Outcome(NamedTuple):
    kind: str
    code: int | None = None
    reason: str = ""
    cause: str = ""


class Peer:
    """Sends messages with receipts, and reads its own inbox in order."""

    def __init__(self, layer):
        self.layer = layer
        self._receipts = itertools.count(1)
        self._names = itertools.count(1)

    def new_reply_channel(self, verb="test.send"):
        return f"{verb}.{self.layer.process}!{next(self._names)}"

    def post(self, channel, *messages):
        """Send a delivery; return its receipt."""
        receipt = next(self._receipts)
        self.layer.send_many(channel, list(messages), receipt=receipt)
        return receipt

    def hear(self, block=5.0):
        """Return the next thing in the inbox: (channel, message), outcomes as ("outcome", …)."""
        channel, message = self.layer.receive([f"test.{self.layer.process}!"], block=block)
        if channel is not None and channel.startswith("outcome."):
            known = {key: message[key] for key in Outcome._fields}
            return "outcome", Outcome(**known)
        return channel, message

    def settled(self, channel, *messages):
        """Send a delivery; return what was sent to this peer, and the outcomes."""
        self.post(channel, *messages)
        replies, outcomes = [], []
        while len(outcomes) < len(messages):
            place, message = self.hear()
            assert place is not None, f"no outcome came, only {replies}"
            (outcomes if place == "outcome" else replies).append(message)
        return replies, outcomes

    def outcome(self, channel, message):
        """Send one message; return its outcome."""
        return self.settled(channel, message)[1][0]

    def nothing(self):
        """Return whether the inbox is empty."""
        return self.hear(block=False) == (None, None)

    # ------------------------------------------------ http

    def request(self, path="/", method="GET", headers=(), body=b"", query=b"", **more):
        """Return an ``http.request`` message."""
        return {
            "reply_channel": self.new_reply_channel("http.send"),
            "order": 0,
            "client": ["192.0.2.7", 4321],
            "server": ["192.0.2.1", 8000],
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": [[b"host", b"example.org"], *[list(header) for header in headers]],
            "body": body,
            "body_channel": None,
            **more,
        }

    def ask(self, *args, **kwargs):
        """Make a request; return its response, after its outcome, which is ``accepted``."""
        response, outcome = self.exchange(self.request(*args, **kwargs))
        assert outcome == Outcome("accepted")
        return response

    def exchange(self, request):
        """Send a request; return the response, or None, and the outcome. Acks are answered."""
        self.post("http.request", request)
        replies = []
        while True:
            place, message = self.hear()
            assert place is not None, "no outcome came"
            if place == "outcome":
                return assemble(replies), message
            assert place == request["reply_channel"]
            replies.append(message)
            self.answer(message)

    def answer(self, message, outcome="accepted"):
        """Answer the ack of a piece."""
        if "ack" in message:
            self.layer.send(
                message["ack_channel"],
                {
                    "ack": message["ack"],
                    "outcome": outcome,
                    "code": None,
                    "reason": "",
                    "reply_channel": "",
                },
            )


def assemble(replies):
    """Return the response that the pieces make; they have to fit."""
    if not replies:
        return None
    head, *rest = replies
    content = head.get("content", b"")
    more = head.get("more_content", False)
    for piece in rest:
        assert more, "a piece after the last"
        assert piece["offset"] == len(content)
        content += piece.get("content", b"")
        more = piece.get("more_content", False)
    if more:
        return None
    return Response(head["status"], [tuple(header) for header in head["headers"]], content)


def nothing_left(peer):
    """Return whether the layer has forgotten the channels of a body or of acks."""
    state = peer.layer.state
    names = [name for name in state.channels if "?" in name]
    return not names and not any(process.watchers for process in state.processes.values())


def wait_until(condition, seconds=5.0):
    """Wait until ``condition()`` is true, at most ``seconds``."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
    return found
