"""Who is let in: by address, and by what is asked."""

from __future__ import annotations

from gateway.core.layers.base import OK
from gateway.plugins.longpoll import LongpollPlugin
from gateway.plugins.longpoll.config import LongpollConfig
from gateway.plugins.longpoll.door import Door
from gateway.testing.fakes import FakeEdge, ManualClock
from tests.core.asked import Asked, head


class Doors:
    """A door on an edge that does what a test says."""

    def __init__(self, *routed, **config):
        self.edge = FakeEdge(routed or ["longpoll.connect", "longpoll.disconnect"])
        self.clock = ManualClock()
        self.engine = self.edge.engine(self.clock)
        settings = LongpollConfig(**config)
        self.context = self.engine.context(LongpollPlugin, settings)
        self.door = Door(settings, self.context)

    def ask(self, method="POST", query=b"", client="192.0.2.1", headers=()):
        found = head([(b"prefer", b"respond-async"), *headers], method=method, query=query)
        found.client = (client, 5000)
        asked = Asked(found)
        assert self.door.matches(found)
        self.door.open(asked)
        return asked

    def accept(self):
        [post] = self.edge.take()
        self.edge.settle(post, OK)

    def pass_by(self, seconds=0.0):
        self.clock.advance(seconds)


def test_per_address():
    """One address has so many connections, another its own; this machine any number."""
    doors = Doors(max_connections_per_address=2)
    first, second = doors.ask(), doors.ask()
    assert (first.status, second.status) == (0, 0)
    refused = doors.ask()
    assert (refused.status, refused.content) == (429, b"too many connections from this address\n")
    assert doors.engine.metrics.dropped() == {"limited": 1}
    assert doors.ask(client="192.0.2.2").status == 0
    assert [doors.ask(client="127.0.0.1").status for _ in range(5)] == [0] * 5


def test_place_is_given_back():
    """Who leaves, expires or is refused gives its place back."""
    doors = Doors(max_connections_per_address=1, expires=60.0)
    asked = doors.ask()
    doors.edge.take()
    for callback in asked.gone:
        callback()
    asked = doors.ask()
    doors.accept()
    assert asked.status == 201
    assert doors.ask().status == 429
    doors.pass_by(30.0)
    assert doors.ask().status == 429
    doors.pass_by(31.0)
    assert doors.ask().status == 0


def test_poll_puts_expiry_off():
    """A poll, waiting or answered, puts the expiry off; nothing else does."""
    doors = Doors("longpoll.connect", "longpoll.receive", "longpoll.disconnect", expires=60.0)
    asked = doors.ask()
    doors.accept()
    query = dict(asked.headers)[b"location"].partition(b"?")[2]
    poll = doors.ask("GET", query, headers=[(b"prefer", b"wait=50")])
    doors.pass_by(50.2)
    assert poll.status == 204
    doors.pass_by(59.0)
    assert doors.context.open == 1
    again = doors.ask("GET", query, headers=[(b"prefer", b"wait=0")])
    doors.pass_by(59.0)
    assert (again.status, doors.context.open) == (204, 1)
    doors.pass_by(1.5)
    assert doors.context.open == 0
    assert doors.ask("GET", query).status == 404


def test_while_no_worker_lives():
    """While no worker lives nobody knows what is routed: the request waits for one."""
    doors = Doors()
    doors.edge.announce(None)
    asked = doors.ask()
    assert (asked.status, doors.door.pending) == (0, 1)
    doors.edge.announce(["longpoll.connect"])
    doors.accept()
    assert (asked.status, doors.door.pending) == (201, 0)


def test_layer_away():
    """While the layer is away no connection is begun; one that is there goes on."""
    doors = Doors()
    asked = doors.ask()
    doors.accept()
    query = dict(asked.headers)[b"location"].partition(b"?")[2]
    doors.edge.go_down()
    refused = doors.ask()
    assert (refused.status, refused.content) == (503, b"the application cannot be reached\n")
    poll = doors.ask("GET", query, headers=[(b"prefer", b"wait=5")])
    doors.pass_by(5.2)
    assert poll.status == 204


def test_fenced():
    """When the lease of its process has ended a connection is gone, without a word."""
    doors = Doors()
    asked = doors.ask()
    doors.accept()
    query = dict(asked.headers)[b"location"].partition(b"?")[2]
    poll = doors.ask("GET", query)
    doors.edge.fence()
    doors.pass_by()
    assert poll.status == 404
    assert doors.context.open == 0
    assert doors.door.waiting == 0
    assert doors.edge.called("end") == []


def test_refused_by_the_application():
    """An answer of the application's own is stored by no cache, and is of one origin alone."""
    doors = Doors(origins=["https://a.example"])
    asked = doors.ask(headers=[(b"origin", b"https://a.example")])
    [post] = doors.edge.take()
    reply = {"status": 404, "content": b"none", "headers": [(b"vary", b"cookie")]}
    doors.edge.reply(post.messages[0]["reply_channel"], reply)
    doors.edge.settle(post, OK)
    assert asked.status == 404
    assert (b"cache-control", b"no-store") in asked.headers
    assert [value for name, value in asked.headers if name == b"vary"] == [b"origin", b"cookie"]
