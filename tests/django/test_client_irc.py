"""`GatewayClient.irc_network()` and `irc()`: bots and rooms in tests."""

import asyncio
import re

import pytest

from django_gateway import Channel, IrcConsumer
from django_gateway import route_class as routes_of
from gateway import address


class Bot(IrcConsumer):
    networks = ["libera"]
    channels = ["#django"]
    commands = {"!add <int:a> <int:b>": "add", "!bad": "bad", "!raise": "fault"}

    def add(self, message, a, b):
        self.say(f"{message['nick']}: {a + b}")

    def bad(self, message):
        self.reply(text="x", txet="y")

    def fault(self, message):
        raise RuntimeError("a bug")

    def private(self, message):
        self.action(f"hears {message.text}")

    def join(self, message):
        self.notice(f"hello {message['nick']}", to=message["nick"])

    async def kick(self, message):
        self.reply(type="join", channel=message["channel"])


@pytest.fixture
def libera(client_of):
    return client_of(routes_of(Bot), plugins=["http"]).irc_network("libera", nick="bot")


def test_a_bot_on_a_network(libera):
    """What others say and do on a network consumers hear, and the network hears what they say."""
    libera.says("alice", "!ADD 1 2", to="#Django")
    event = libera.expect_message("#django", "alice: 3")
    assert (event.kind, event.name, event.nick) == ("text", "#django", "bot")
    libera.says("alice", "hi")
    assert libera.expect("action", re.compile("hears")) == "hears hi"
    libera.happens("join", "bob!b@c", "#django")
    found = libera.receive()
    assert (found.kind, found.name, found.value) == ("notice", "bob", "hello bob")
    libera.happens("kick", "op", "#django", target="bot", reason="")
    assert libera.expect("join") == "bot"
    libera.says("alice", "!add 1 2", to="#django", type="notice")
    libera.says("alice", "!add 1 2", to="#other")
    libera.expect_nothing()


def test_what_is_said_from_elsewhere(libera):
    """What anybody sends to an address of the network is said there."""
    Channel(address("irc.say", "libera", "#django")).send({"text": "deployed", "sse": {}})
    libera.expect_message("#django", "deployed")
    Channel(address("irc.say", "oftc", "#django")).send({"text": "deployed"})
    with pytest.raises(AssertionError, match="is of the network 'oftc', and this is 'libera'"):
        libera.expect_nothing()


def test_what_bots_do_wrong(libera):
    """A reply that IRC does not allow, an exception and a wrong expectation fail the test."""
    libera.says("alice", "!bad", to="#django")
    with pytest.raises(AssertionError, match="would drop this reply: unknown key 'txet'"):
        libera.expect_nothing()
    with pytest.raises(RuntimeError, match="a bug"):
        libera.says("alice", "!raise", to="#django")
    with pytest.raises(AssertionError, match="expected a message to '#django', and nothing was"):
        libera.expect_message("#django")
    libera.says("alice", "!add 1 2", to="#django")
    with pytest.raises(AssertionError, match="expected a message to '#django': '4', got text"):
        libera.expect_message("#django", "4")
    libera.says("alice", "!add 1 2", to="#django")
    with pytest.raises(AssertionError, match="expected nothing more, got text 'alice: 3'"):
        libera.expect_nothing()
    libera.says("alice", "!add 1 2", to="#django")
    with pytest.raises(AssertionError, match="expected notice 'x', got text"):
        libera.expect("notice", "x")


def test_on_a_loop(client_of):
    """The twins do the same on an event loop."""
    client = client_of(routes_of(Bot), plugins=["http"])

    async def run():
        libera = client.irc_network("libera")
        await libera.asays("alice", "!add 1 2", to="#django")
        await libera.aexpect_message("#django", "alice: 3")
        await libera.ahappens("kick", "op", "#django", target="gateway")
        assert (await libera.areceive()).kind == "join"

    asyncio.run(run())
