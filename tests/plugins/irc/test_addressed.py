"""What is sent to the own network's addresses is said there, by whoever sends it."""

import pytest

from gateway.core.errors import ConfigError
from gateway.core.layers.options import LayerOptions
from gateway.core.names import address
from gateway.plugins.irc import IrcPlugin
from gateway.plugins.irc.client.config import Network
from gateway.plugins.irc.config import IrcConfig
from tests.plugins.irc.net import Net
from tests.plugins.irc.test_rooms import Web

CHANNEL = address("irc.say", "Gateway", "#Room")


@pytest.fixture
def net():
    with Net() as net:
        yield net


def send(net, to, /, **message):
    """Send it as a worker; return the outcome that its ack tells."""
    worker = net.rig.worker
    back = worker.new_channel("test.ack?")
    worker.send(to, {**message, "ack": 7, "ack_channel": back})
    net.rig.run()
    found = worker.receive([back])[1]
    assert found["ack"] == 7
    return found["outcome"], found["reason"]


def test_a_channel(net):
    """All in a channel hear what is sent to its address, once, whatever brought them there."""
    alice, bob, web = net.join("alice", "#room"), net.join("bob"), Web(net)
    page = web.page()
    web.add(page, "carla")
    alice.lines()
    assert send(net, CHANNEL, text="the door\nis open") == ("accepted", "")
    assert alice.heard() == [
        ":gateway!gateway@irc.gateway PRIVMSG #room :the door",
        ":gateway!gateway@irc.gateway PRIVMSG #room :is open",
    ]
    assert send(net, CHANNEL, text="ring", type="notice", nick="bell") == ("accepted", "")
    assert alice.heard() == [":bell!bell@irc.gateway NOTICE #room :ring"]
    assert page.wire.written == ["<gateway> the door\nis open", "-bell- ring"]
    assert bob.heard() == []


def test_the_normal_channel_and_groups(net):
    """``irc.say`` names network and channel; an address may be a member of any group."""
    alice = net.join("alice", "#room")
    assert send(net, "irc.say", network="Gateway", channel="#room", text="hi") == ("accepted", "")
    net.rig.worker.group_add("lamps", CHANNEL)
    net.rig.worker.send_group("lamps", {"text": "on"})
    net.rig.run()
    assert [one.split(" :")[1] for one in alice.heard()] == ["hi", "on"]


def test_a_nick(net):
    """One who is there hears what is sent to the nick; of one who is not the sender is told."""
    alice = net.join("alice")
    assert send(net, address("irc.say", "Gateway", "ALICE"), text="psst") == ("accepted", "")
    assert alice.heard() == [":gateway!gateway@irc.gateway PRIVMSG alice :psst"]
    outcome, reason = send(net, address("irc.say", "Gateway", "bob"), text="psst")
    assert (outcome, reason) == ("rejected", "nobody is called 'bob'")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"text": "a\0b"}, "NUL"),
        ({"text": "hi", "nick": "a b"}, "'nick' is empty, or has a space"),
        ({"text": "hi", "mask": "a\r\nQUIT"}, "'mask' is empty, or has a space, CR"),
        ({"text": "hi", "type": "raw"}, "'raw' is for one client"),
        ({"txet": "hi"}, "unknown key 'txet'"),
        ({"text": 7}, "Expected `str`"),
    ],
    ids=str,
)
def test_what_cannot_be_said(net, message, reason):
    """What no line can carry is refused in the ack, counted, and said to nobody."""
    alice = net.join("alice", "#room")
    outcome, why = send(net, CHANNEL, **message)
    assert outcome == "rejected"
    assert reason in why
    assert alice.heard() == []
    assert net.rig.metrics.dropped()["invalid"] == 1


def test_no_such_network(net):
    """An address of a network that is not here is counted as gone, and its sender told."""
    outcome, _ = send(net, address("irc.say", "libera", "#room"), text="hi")
    assert outcome == "failed"


def test_two_of_one_name():
    """A network that is called as the own one stops the start."""
    config = IrcConfig(networks={"Gateway": Network(connect="irc.example:6667", nick="bot")})
    with pytest.raises(ConfigError, match="could mean either"):
        IrcPlugin.check(config, LayerOptions())
