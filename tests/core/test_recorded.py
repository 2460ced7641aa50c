"""Each connection's end is told to the access log, whatever its protocol."""

from __future__ import annotations

import json

import pytest

from gateway.core.access import AccessLog
from gateway.core.attached import Connection
from gateway.core.config import GatewaySettings, LogSettings
from gateway.core.errors import RemoteProtocolError
from gateway.core.layers.base import FAILED, OK, REJECTED, RELEASED, UNROUTED, Outcome
from gateway.core.plugin import Accepted, Close, Emit, Peer, Summary, Timer, Traffic, Write
from gateway.core.web import Head
from gateway.testing.fakes import FakeEdge, FakeWire, ManualClock

from .toys import CONNECT, Recorder, Requests, Talks, World

ROUTED = ("ask.request", "ask.disconnect", "talk.connect", "talk.receive", "talk.disconnect")


class Logged:
    """An engine with an access log over fakes, and one connection of it."""

    def __init__(self, plugin=Talks, session=None, wire=None, exchange=None, **settings):
        self.lines = []
        self.log = AccessLog(
            LogSettings(access="-", access_format="json"), self.lines.append, lambda: 0.0
        )
        self.clock = ManualClock()
        self.edge = FakeEdge(ROUTED)
        self.engine = self.edge.engine(self.clock, GatewaySettings(**settings), access=self.log)
        self.context = self.engine.context(plugin, None)
        self.session = session or Recorder(CONNECT if plugin is Talks else ())
        self.wire = wire or FakeWire()
        self.connection = self.context.attach(
            self.session, self.wire, Peer(("192.0.2.7", 5), identity="pump"), exchange
        )
        self.session.on_outcome["connect"] = [Accepted()]

    def accept(self):
        [post] = self.edge.take()
        self.edge.settle(post, OK)
        return self

    def reply(self, **reply):
        self.edge.reply(self.connection.reply_channel, reply)

    @property
    def record(self):
        """The one record that there is."""
        [line] = self.lines
        return json.loads(line)


def test_a_connection():
    """A record tells protocol, client, identity, code, bytes both ways, time, reply channel."""
    logged = Logged().accept()
    logged.connection.received([Write(b"hello")])
    logged.reply(bytes=b"more")
    logged.clock.advance(62.5)
    assert logged.lines == []
    logged.connection.lost()
    logged.connection.lost()
    assert logged.record == {
        "time": "1970-01-01T00:00:00.000Z",
        "protocol": "talk",
        "client": ["192.0.2.7", 5],
        "identity": "pump",
        "code": 1006,
        "end": "client",
        "received": 0,
        "sent": len(b"hello") + len(b"more"),
        "seconds": 62.5,
        "reply_channel": logged.connection.reply_channel,
    }


class Bytes(Recorder):
    """Takes bytes."""

    def received(self, data):
        return [Emit("receive", {"text": data.decode()}, data)]


def test_bytes_are_counted():
    """Bytes are counted as they pass: input, replies, group messages, the last words."""
    logged = Logged(session=Bytes(CONNECT)).accept()
    logged.connection.received(b"12345")
    logged.connection.received(b"678")
    logged.reply(bytes=b"abcd")
    logged.reply(close=True)
    assert logged.wire.closed == (b"bye", False)
    logged.connection.lost()
    assert (logged.record["received"], logged.record["sent"]) == (8, 7)


def test_last_words_of_what_is_cut_off_are_not_counted():
    """What an abort does not send is not counted."""
    logged = Logged().accept()
    logged.connection.received([Close(b"unsent", abort=True)])
    logged.connection.lost()
    assert (logged.record["sent"], logged.record["end"]) == (0, "cut")


class CountingWire(FakeWire):
    """A wire whose output is no bytes."""

    def __init__(self, traffic):
        super().__init__()
        self.traffic = traffic


def test_a_wire_may_count_for_itself():
    """A wire with ``traffic`` is asked for what it counted, and nothing is counted twice."""
    traffic = Traffic()
    logged = Logged(wire=CountingWire(traffic)).accept()
    logged.connection.received([Write(b"hello")])
    traffic.received, traffic.sent = 100, 200
    logged.connection.lost()
    assert (logged.record["received"], logged.record["sent"]) == (100, 200)


class Telling(Recorder):
    """Says of itself what it is told to."""

    says = Summary("BYE", "ASK", "/x", 1, 2, "cut")

    def summary(self):
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def test_a_session_may_tell_it():
    """What a session's summary says goes before what the core saw and counted."""
    logged = Logged(session=Telling(CONNECT), wire=CountingWire(None)).accept()
    logged.connection.lost()
    record = logged.record
    assert (record["code"], record["method"], record["path"]) == ("BYE", "ASK", "/x")
    assert (record["received"], record["sent"], record["end"]) == (1, 2, "cut")


def test_a_summary_that_raises(caplog):
    """A plugin's fault in telling is logged, and costs the record its own words alone."""
    session = Telling(CONNECT)
    session.says = ValueError("a bug")
    logged = Logged(session=session).accept()
    logged.connection.lost()
    assert (logged.record["end"], "code" in logged.record) == ("client", False)
    assert "plugin talk raised for the access log" in caplog.text
    assert not logged.engine.by_channel


def test_a_summary_of_something_else(caplog):
    """A plugin's summary that is none costs the record, and is logged; the connection ends."""
    session = Telling(CONNECT)
    session.says = "nothing"
    logged = Logged(session=session).accept()
    logged.connection.lost()
    assert logged.lines == []
    assert "no record could be made" in caplog.text
    assert not logged.engine.by_channel


def settled(outcome):
    def end(logged):
        logged.session.on_outcome["a"] = [Close(b"")]
        logged.connection.received("a")
        [post] = logged.edge.take()
        logged.edge.settle(post, outcome)

    return end


def refused(logged):
    logged.session.on_outcome["a"] = [Close(b"")]
    logged.connection.received([Emit("receive", {"text": "a" * 2_000_000}, "a")])


def slow(logged):
    logged.connection.writable(False)
    logged.reply(text="a")
    logged.reply(text="b")


def timed_out(logged):
    logged.session.on_outcome["x"] = [Close(b"")]
    logged.connection.received([Timer("x", 1.0)])
    logged.clock.advance(5)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda logged: None, "client"),
        (lambda logged: logged.connection.eof(), "client"),
        (lambda logged: logged.connection.received([Close(b"")]), "client"),
        (lambda logged: logged.connection.received(RemoteProtocolError("no", b"")), "client"),
        (lambda logged: logged.reply(close=True), "application"),
        (settled(Outcome(FAILED)), "application"),
        (settled(Outcome(REJECTED)), "application"),
        (settled(Outcome(RELEASED)), "gateway"),
        (settled(Outcome(UNROUTED)), "gateway"),
        (refused, "gateway"),
        (timed_out, "gateway"),
        (lambda logged: logged.connection.drain(0.0), "gateway"),
        (lambda logged: logged.connection.received(ValueError("a bug")), "gateway"),
        (slow, "cut"),
        (lambda logged: logged.connection.cut_off(), "cut"),
    ],
)
def test_who_ended_it(end, said):
    """A record says who ended the connection: client, application, gateway; or that it was cut."""
    logged = Logged(outbox_messages=1).accept()
    end(logged)
    logged.connection.lost()
    assert logged.record["end"] == said


@pytest.mark.parametrize("outcome", [OK, Outcome(REJECTED)])
def test_refused(outcome):
    """A connection that never was accepted is refused, unless its client left before."""
    logged = Logged()
    logged.session.on_outcome["connect"] = [Close(b"")] if outcome is not OK else []
    [post] = logged.edge.take()
    logged.edge.settle(post, outcome)
    logged.connection.lost()
    assert logged.record["end"] == ("client" if outcome is OK else "refused")


def test_without_connect_nothing_is_refused():
    """Where no connect decides, a connection is open from the start."""
    logged = Logged(Requests)
    logged.reply(close=True)
    logged.connection.lost()
    assert logged.record["end"] == "application"


class Exchange:
    """A request as a claim has it."""

    def __init__(self):
        self.answer = None
        self.head = Head()
        self.head.method, self.head.raw_path = "GET", b"/chat%20room"
        self.head.http_version, self.head.headers = "1.1", [(b"user-agent", b"browser")]


@pytest.mark.parametrize(("status", "code"), [(403, 403), (0, 499)])
def test_a_request_that_is_refused(status, code):
    """A connection that came by a request has what that asked, and what it was answered."""
    exchange = Exchange()
    logged = Logged(exchange=exchange)
    exchange.answer.status = status
    logged.connection.lost()
    record = logged.record
    assert (record["method"], record["path"]) == ("GET", "/chat%20room")
    assert (record["http_version"], record["user_agent"]) == ("1.1", "browser")
    assert (record["protocol"], record["code"]) == ("talk", code)


def test_a_request_that_was_accepted():
    """Once accepted, the session's own code counts, if it has one; else the answer's."""
    exchange = Exchange()
    logged = Logged(exchange=exchange).accept()
    exchange.answer.status = 101
    logged.connection.lost()
    assert logged.record["code"] == 1006
    exchange = Exchange()
    session = Telling(CONNECT)
    session.says = Summary()
    logged = Logged(exchange=exchange, session=session).accept()
    exchange.answer.status = 200
    logged.connection.lost()
    assert logged.record["code"] == 200


def test_what_had_no_session():
    """A plugin may tell of what it refused before there was a session."""
    logged = Logged()
    assert logged.context.recording
    logged.context.record(Peer(("192.0.2.9", 1)), Summary(503), 0.25)
    record = logged.record
    assert (record["protocol"], record["client"]) == ("talk", ["192.0.2.9", 1])
    assert (record["code"], record["end"], record["seconds"]) == (503, "gateway", 0.25)


def test_without_a_log():
    """Without an access log connections are of the plain kind, and nothing is told."""
    world = World()
    assert type(world.connection) is Connection
    assert not world.context.recording
    world.context.record(Peer(), Summary(503))
    exchange = Exchange()
    world.context.attach(Recorder(), FakeWire(), Peer(), exchange)
    assert exchange.answer is None
