"""`GatewayClient.stream`: connections to plugins that speak bytes, with the plugin's own rules."""

from importlib.metadata import EntryPoint

import pytest

from django_gateway import Group, Reject, route
from django_gateway.testing import GatewayClient, InvalidReplyError
from gateway.core.registry import Registry
from tests.django.toys import Told


@pytest.fixture
def sensors(monkeypatch):
    """Make clients of a site that serves sensors."""
    installed = [EntryPoint("sensor", "tests.plugins.sensor", "gateway.plugins")]
    monkeypatch.setattr("gateway.core.boot.Registry", lambda: Registry(installed))
    monkeypatch.setattr("django_gateway.testing.site._known", {})
    clients = []

    def make(*routes):
        clients.append(GatewayClient(routing=list(routes), plugins=["sensor"]))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def receive(message):
    if message["value"] > 100:
        raise Reject
    if message["value"] < 0:
        message.reply("two\nlines")
    Group("all").send({"text": f"{message['value']:g}"})


def connect(message):
    Group("all").add(message.reply_channel)


def test_lines_are_expected_one_by_one(sensors):
    """Outcomes become the protocol's own words, group messages reach every connection."""
    client = sensors(route("sensor.connect", connect), route("sensor.receive", receive))
    with client.stream("sensor") as one, client.stream("sensor") as two:
        one.expect_bytes(b"HELLO")
        two.expect_bytes(b"HELLO")
        one.send_bytes(b"S 1 20")
        one.expect_nothing()
        one.send_bytes(b".5\nS 2 101\nhm\n")
        two.expect_bytes(b"T 20.5")
        assert sorted(one.expect_bytes() for _ in range(4)) == [
            b"NO 2",
            b"OK 1",
            b"T 20.5",
            b"WHAT",
        ]
        assert one.outcome.kind == "rejected"
        two.expect_nothing()


def test_replies_are_checked_by_the_plugin(sensors):
    """What its session refuses fails the test."""
    client = sensors(route("sensor.receive", receive))
    with client.stream("sensor") as line, pytest.raises(InvalidReplyError, match="a line of text"):
        line.send_bytes(b"S 1 -5\n")


@pytest.mark.parametrize("leave", ["close", "cut", "block"])
def test_each_connection_has_one_disconnect(sensors, leave):
    """However it ends."""
    told = Told()
    client = sensors(route("sensor.receive", receive), route("sensor.disconnect", told))
    with client.stream("sensor") as line:
        if leave != "block":
            getattr(line, leave)()
            assert line.closed
            with pytest.raises(AssertionError, match="nothing can be sent"):
                line.send_bytes(b"S 1 2\n")
    assert len(told.messages) == 1


def test_the_end_is_expected(sensors):
    """A connection that the application ends is over; one that it did not is open."""

    def bye(message):
        message.reply(close=True)

    client = sensors(route("sensor.receive", bye))
    with client.stream("sensor", separator=b"") as line:
        line.expect_bytes(b"HELLO\n")
        with pytest.raises(AssertionError, match="and it is open"):
            line.expect_end()
        line.send_bytes(b"S 1 2\n")
        line.expect_bytes(b"BYE\n")
        line.expect_end()


def test_a_plugin_that_the_site_does_not_run_is_named(sensors):
    """The error lists those that it runs."""
    with pytest.raises(LookupError, match="no plugin 'http': its plugins are sensor"):
        sensors().get("/")
