"""Channels are groups: members of other protocols are seen in them, heard, and hear."""

from __future__ import annotations

import types
from typing import Any, TypedDict

import pytest

from gateway.core.errors import PluginError
from gateway.core.plugin import NoConfig, Peer, ProtocolPlugin, Session, Write
from gateway.plugins.irc.messages import channel_group
from gateway.plugins.irc.server.rooms import channel_of, uid_of
from gateway.testing.fakes import FakeWire
from tests.plugins.irc.net import Net

ROOM = channel_group("#room")


class Said(TypedDict, total=False):
    text: str
    close: bool


class Page(Session):
    """Somebody of another protocol, who reads text."""

    def received(self, data):
        return ()

    def send(self, conversation, reply, token):
        return (Write(reply["text"]),)


class Pages(ProtocolPlugin):
    name = "page"
    messages = types.SimpleNamespace(KINDS={"receive": Said, "disconnect": Said}, REPLY=Said)

    async def start(self):
        pass

    async def stop(self):
        pass


class Web:
    """Pages in the process of a rig."""

    def __init__(self, net: Net) -> None:
        self.net = net
        net.rig.engine.protocols |= {"page", "irc"}
        self.context = net.rig.call(lambda: net.rig.engine.context(Pages, NoConfig()))

    def page(self) -> Any:
        wire = FakeWire()
        connection = self.net.rig.call(lambda: self.context.attach(Page(), wire, Peer()))
        return types.SimpleNamespace(
            wire=wire,
            channel=connection.reply_channel,
            leave=lambda: self.net.rig.call(connection.lost),
        )

    def add(self, page: Any, nick: Any = None, group: str = ROOM) -> None:
        meta = None if nick is None else {"nick": nick}
        self.net.rig.worker.group_add(group, page.channel, meta)
        self.net.rig.run()


@pytest.fixture
def net():
    with Net() as net:
        yield net


def test_seen_and_heard(net):
    """A member of another protocol is seen as a nick, speaks, hears, and is seen to leave."""
    alice, web = net.join("alice", "#room"), Web(net)
    page = web.page()
    web.add(page, "carla")
    assert alice.heard() == [":carla!page@guest JOIN #room"]
    assert alice.asks("NAMES #room")[0] == "353 = #room :@alice carla"
    assert "320 carla :is here by another protocol" in alice.asks("WHOIS carla")
    alice.say("PRIVMSG #room :hi", "PRIVMSG #room :\x01ACTION waves\x01", "NOTICE #room :psst")
    alice.say("PRIVMSG #room :\x01VERSION\x01", "PRIVMSG carla :only you")
    net.rig.run()
    assert page.wire.written == ["<alice> hi", "* alice waves", "-alice- psst", "<alice> only you"]
    net.rig.worker.send_group(
        ROOM, {"text": "hello", "irc": {"nick": "carla"}}, exclude=[page.channel]
    )
    assert alice.heard() == [":carla!page@guest PRIVMSG #room :hello"]
    page.leave()
    assert alice.heard() == [":carla!page@guest PART #room"]
    assert alice.asks("WHOIS carla")[0] == "401 carla :No such nick/channel"


def test_nicks_of_guests(net):
    """A guest has a nick that nobody else has, of characters that nicks have; or another later."""
    alice, web = net.join("alice", "#room"), Web(net)
    pages = [web.page() for _ in range(4)]
    for page, nick in zip(pages, ["alice", "Änne B.", "7of9", 7], strict=True):
        web.add(page, nick)
    assert [one.split("!")[0] for one in alice.heard()] == [":alice_2", ":_nne_B_", ":_7of9"]
    web.add(pages[0], "gast")
    assert alice.heard() == [":alice_2!page@guest NICK gast"]
    net.client().say("NICK gast", "USER g 0 * :G")
    assert net.network.nick("gast").guest


def test_no_channel_without_members(net):
    """A channel in which only guests are is there for who comes, who is not its operator."""
    web = Web(net)
    page = web.page()
    web.add(page, "carla")
    alice = net.join("alice")
    assert "353 = #room :carla alice" in alice.asks("JOIN #room")
    net.rig.worker.group_discard(ROOM, page.channel)
    assert alice.heard() == [":carla!page@guest PART #room"]


def test_other_groups(net):
    """Groups that are no channels are left alone; and one plugin gathers its own groups only."""
    web = Web(net)
    page = web.page()
    web.add(page, "carla", "irc.other")
    web.add(page, "carla", "irc._23Upper")
    assert not net.network.channels
    with pytest.raises(PluginError, match=r"begins with 'irc\.'"):
        net.rig.context.gather("page.", None, Page)


def test_names():
    """The group of a channel names it, whatever its case; conversations name their connection."""
    assert channel_of(channel_group("#Räume[1]")) == "#räume{1}"
    assert channel_of("irc.zz_") is None
    assert uid_of("irc.send.p_x!7.3") == uid_of("irc.send.p_x!7") == "irc.send.p_x!7"
    with pytest.raises(ValueError, match="200"):
        channel_group("#" + "é" * 60)


def test_layer_away(net):
    """While the layer is away what is said here is heard here; when it is back all is as before."""
    alice, bob = net.join("alice", "#room"), net.join("bob", "#room")
    net.rig.fail()
    alice.lines()
    alice.say("PRIVMSG #room :hi")
    heard = bob.heard()
    net.rig.restore()
    net.rig.run(30)
    alice.say("PONG x", "PRIVMSG #room :again")
    heard += bob.heard()
    assert heard[-1] == ":alice!~alice@irc.gateway PRIVMSG #room :again"
    members = net.rig.worker.group_members(ROOM)
    assert sorted(meta["nick"] for meta in members.values()) == ["alice", "bob"]


def test_nobody_speaks_as_a_client(net):
    """A page that calls itself as a client does, is seen and heard as the guest that it is."""
    alice, bob, web = net.join("alice", "#room"), net.join("bob", "#room"), Web(net)
    pages = [web.page(), web.page()]
    for page in pages:
        web.add(page, "bob")
    alice.lines()
    for name in ("bob", "bob!~bob@irc.gateway", "x y"):
        net.rig.worker.send_group(ROOM, {"text": "hi", "irc": {"nick": name}})
    assert alice.heard() == [
        ":bob_2!page@guest PRIVMSG #room :hi",
        ":bob__bob_irc_gateway!bob__bob_irc_gateway@irc.gateway PRIVMSG #room :hi",
        ":x_y!x_y@irc.gateway PRIVMSG #room :hi",
    ]
    pages[0].leave()
    net.rig.worker.send_group(ROOM, {"text": "hi", "irc": {"nick": "bob"}})
    assert alice.heard()[1:] == [":bob_3!page@guest PRIVMSG #room :hi"]
    pages[1].leave()
    bob.say("PRIVMSG #room :me")
    assert alice.heard()[1:] == [":bob!~bob@irc.gateway PRIVMSG #room :me"]


def test_another_name(net):
    """A guest that gives another name has another nick, even if the old one begins with it."""
    alice, web = net.join("alice", "#room"), Web(net)
    page = web.page()
    web.add(page, "carla")
    web.add(page, "carl")
    web.add(page, "carl")
    assert alice.heard()[1:] == [":carla!page@guest NICK carl"]
    net.rig.worker.send_group(ROOM, {"text": "hi", "irc": {"nick": "carl"}})
    assert alice.heard() == [":carl!page@guest PRIVMSG #room :hi"]


def test_guest_yields():
    """A guest that took the nick of a client which was about to be let in, has another one."""
    with Net("connect") as net:
        alice, web = net.client().say("NICK al", "USER a 0 * :A"), Web(net)
        asked = net.rig.hear_any()
        web.add(web.page(), "al")
        asked.settle()
        assert alice.heard()[0].startswith(":irc.gateway 001 al ")
        alice.say("JOIN #room")
        assert alice.asks("NAMES #room")[0] == "353 = #room :al_2 al"
        assert not net.network.doubles


def test_added_before_it_is_let_in():
    """A client whom the consumer of its connect adds to a channel's group, is in it at once."""
    with Net("connect") as net:
        clients = [net.client() for _ in range(2)]
        for number, client in enumerate(clients):
            client.say(f"NICK al{number}", "USER a 0 * :A")
            asked = net.rig.hear_any()
            for group in (ROOM, channel_group("#left")):
                net.rig.worker.group_add(group, asked.message["reply_channel"], {"nick": "zed"})
            net.rig.worker.group_discard(channel_group("#left"), asked.message["reply_channel"])
            net.rig.run()
            asked.settle()
            heard = client.heard()
            assert heard[0].startswith(f":irc.gateway 001 al{number} ")
            assert heard[-1] == f":irc.gateway 366 al{number} #room :End of NAMES list"
        assert clients[0].heard() == [":al1!~a@irc.gateway JOIN #room"]
        assert list(net.network.channels) == ["#room"]


@pytest.mark.parametrize(
    "own",
    [
        {"tags": {"+x": "\0"}},
        {"tags": {"+x": "\u00e9" * 4090}},
        {"id": "x" * 9000},
        {"time": "x" * 9000},
        {"account": "a\r\nb"},
        {"mask": ""},
        {"mask": "x" * 201},
    ],
)
def test_all_or_nobody(net, own):
    """What cannot be told to everybody in the room, nobody is told."""
    caps = ["", "message-tags server-time account-tag", ""]
    clients = [net.join(f"c{number}", "#room", caps=caps[number]) for number in range(3)]
    for client in clients:
        client.lines()
    net.rig.worker.send_group(ROOM, {"text": "hi", "irc": own})
    assert [client.heard() for client in clients] == [[], [], []]
    assert net.rig.metrics.dropped()["invalid"] == 1
    net.rig.worker.send_group(ROOM, {"text": "hi"})
    assert all(client.heard() for client in clients)
