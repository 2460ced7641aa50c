"""`GatewayClient.irc_network()` and `irc()`: bots and rooms in tests."""

import asyncio
import re

import pytest

from django_gateway import Channel, IrcConsumer, Reject
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


# ------------------------------------------------ clients of the gateway's own network


class Hall(IrcConsumer):
    commands = {"!echo <words...>": "echo", "!whisper <nick> <words...>": "whisper"}

    def authenticate(self, message):
        if (message["username"], message["password"]) != ("ann", "secret"):
            raise Reject

    def connect(self, message):
        if message["nick"] == "mallory":
            raise Reject(reason="not you")
        if message["nick"] == "walter" and message["password"] != "please":
            raise Reject(464)

    def join(self, message):
        if message["channel"] == "#staff" and message.get("identity") != "ann":
            raise Reject(475)

    def echo(self, message, words):
        self.action(words)

    def whisper(self, message, nick, words):
        self.say(words, to=nick)

    def receive(self, message):
        if message["text"] == "spam":
            raise Reject(reason="not here")


@pytest.fixture
def hall(client_of):
    return client_of(routes_of(Hall), plugins=["http", "irc"])


def test_clients_in_a_room(hall):
    """Clients are let in, join, speak and hear; what answers their own words is no event."""
    with hall.irc("ann") as ann, hall.irc("Ben") as ben:
        assert (ann.accepted, ann.rejected, ann.pending, ann.nick) == (True, None, False, "ann")
        assert ann.numerics[0].command == "001"
        assert ann.join("#tea") is None
        assert ben.join("#Tea") is None
        assert ann.expect("join", "Ben") == "Ben"
        assert ann.names("#tea") == ["@ann", "Ben"]
        assert ann.say("#tea", "hi") is None
        event = ben.expect_message("#TEA", re.compile("^h"), nick="ann")
        assert (event.nick, event.name, event.line.command) == ("ann", "#tea", "PRIVMSG")
        ben.action("#tea", "waves")
        assert ann.expect("action") == "waves"
        assert ann.notice("Ben", "psst") is None
        assert ben.receive().kind == "notice"
        assert ben.say("#tea", "spam") == 404
        assert ben.say("nobody", "hello?") == 401
        assert [line.command for line in ben.ask("TOPIC", "#tea", "mine")] == ["482"]
        assert ann.ask("TOPIC", "#tea", "ours") == []
        assert (ann.expect("topic"), ben.expect("topic")) == ("ours", "ours")
        assert ben.ask("NICK", "benny")[0].command == "NICK"
        assert ben.nick == "benny"
        assert ann.expect("nick") == "benny"
        ann.ask("MODE", "#tea", "+v", "benny")
        assert (ann.expect("mode"), ben.expect("mode")) == ("+v benny", "+v benny")
        ann.ask("KICK", "#tea", "benny", "enough")
        assert (ann.expect("kick"), ben.expect("kick")) == ("benny", "benny")
        assert ben.join("#tea") is None
        assert ann.expect("join") == "benny"
        assert ben.part("#tea", "later") is None
        assert ann.expect("part") == "benny"
        ann.expect_nothing()
        ben.expect_nothing()
        assert ben.outcome.kind == "accepted"
    assert ann.closed
    assert ben.closed


def test_what_consumers_say_in_rooms(hall):
    """What a consumer says in a room all hear that are in it, whoever asked for it."""
    with hall.irc("ann") as ann, hall.irc("ben") as ben:
        ann.join("#tea")
        ben.join("#other")
        ann.say("#tea", "!echo  is  here")
        assert ann.expect("action") == "is  here"
        ann.say("#tea", "!whisper #other over there")
        assert ben.expect_message("#other", "over there").nick == "gateway"
        ann.say("#tea", "!whisper ben for you")
        assert ben.expect_message("ben", "for you").nick == "gateway"
        ann.say("#tea", "!whisper ann for me")
        assert ann.expect_message("ann", "for me").nick == "gateway"
        ben.expect_nothing()
        for where, why in (("nobody", "nobody is called"), ("#no", "there is nobody in")):
            with pytest.raises(AssertionError, match=f"{why} '{where}'"):
                ann.say("#tea", f"!whisper {where} hello?")


def test_clients_that_are_refused(hall):
    """A client that is not let in is told so by a numeric, and the connection ends."""
    with hall.irc("mallory") as mallory:
        assert (mallory.accepted, mallory.rejected, mallory.closed) == (False, 465, True)
        assert "not you" in mallory.expect("error")
        with pytest.raises(AssertionError, match=r"it is not let in: nothing can be said.*465"):
            mallory.say("#tea", "hi")
    with hall.irc("walter", password="please") as walter:
        assert walter.accepted
        with hall.irc("WALTER") as other:
            assert other.rejected == 433


def test_who_they_are(hall):
    """A client says who it is by SASL; its capabilities are those that were acknowledged."""
    with (
        hall.irc("a", sasl=("ann", "secret"), capabilities=["echo-message", "nonsense"]) as ann,
        hall.irc("b", sasl=("ann", "wrong")) as ben,
    ):
        assert ann.capabilities == {"echo-message", "sasl"}
        assert ann.join("#staff") is None
        assert ben.join("#staff") == 475
        ann.say("#staff", "hello")
        ann.expect_message("#staff", "hello", nick="a")
    with pytest.raises(TypeError, match=r"a list of names: \['echo-message'\]"):
        hall.irc("c", capabilities="echo-message")


def test_clients_on_a_loop(hall):
    """The twins do the same on an event loop."""

    async def run():
        async with hall.irc("ann") as ann, hall.irc("ben") as ben:
            assert await ann.ajoin("#tea") is None
            assert await ben.ajoin("#tea") is None
            await ann.aexpect("join", "ben")
            assert await ben.anames("#tea") == ["@ann", "ben"]
            await ben.asay("#tea", "hi")
            await ann.aexpect_message("#tea", "hi", nick="ben")
            await ben.aaction("#tea", "waves")
            await ben.anotice("ann", "psst")
            assert [(await ann.areceive()).kind for _ in "ab"] == ["action", "notice"]
            assert (await ann.aask("PING", "x"))[0].command == "PONG"
            assert await ben.apart("#tea") is None
            await ann.aclose("good night")
            assert ann.closed

    asyncio.run(run())


def test_a_network_beside_the_plugin(hall):
    """A stand-in for a network is refused where the plugin reads its addresses itself."""
    with pytest.raises(RuntimeError, match="leave that out, as in"):
        hall.irc_network("libera")
