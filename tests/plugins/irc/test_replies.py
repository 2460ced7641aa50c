"""What the application says to one client, and what of that is not allowed."""

from __future__ import annotations

import pytest

from gateway.core.plugin import OK
from gateway.plugins.irc.messages import channel_group
from tests.plugins.irc.net import Net


class Told:
    """alice and bob in #r; the reply channels of alice, and of alice in #r."""

    def __init__(self, net):
        self.net = net
        self.alice, self.bob = net.join("alice"), net.join("bob")
        for one in (self.bob, self.alice):
            one.say("JOIN #r")
            found = net.settle()
        self.here = found[-1].message["reply_channel"]
        self.whole = self.here.rpartition(".")[0]
        self.lines()

    def lines(self):
        return self.alice.heard(), self.bob.heard()

    def reply(self, to, /, **reply):
        self.net.rig.send(to, reply)
        return self.lines()


@pytest.fixture
def told():
    with Net("join") as net:
        yield Told(net)


def test_text(told):
    """Text on the channel's conversation is said in it; on the connection, to its nick alone."""
    line = ":gateway!gateway@irc.gateway PRIVMSG #r :hi"
    assert told.reply(told.here, text="hi") == ([line], [line])
    assert told.reply(told.whole, text="hi") == (
        [":gateway!gateway@irc.gateway PRIVMSG alice :hi"],
        [],
    )
    assert told.reply(told.here, bytes=b"caf\xe9")[1] == [
        ":gateway!gateway@irc.gateway PRIVMSG #r :café"
    ]
    assert told.reply(told.whole, text="waves", type="action", nick="carol")[0] == [
        ":carol!carol@irc.gateway PRIVMSG alice :\x01ACTION waves\x01"
    ]
    assert told.reply(told.here, text="x", type="notice", nick="bob")[0] == [
        ":bob!~bob@irc.gateway NOTICE #r :x"
    ]


def test_long_text(told):
    """Text that does not fit a line is several, cut at spaces."""
    words = "word " * 300
    heard, _ = told.reply(told.whole, text=words.strip())
    assert len(heard) == 4
    assert " ".join(one.partition(" :")[2] for one in heard) == words.strip()


def test_newlines(told):
    """Newlines in what is said make several lines that are said, and no other command."""
    said = ":gateway!gateway@irc.gateway PRIVMSG alice :"
    assert told.reply(told.whole, text="a\r\nQUIT\n\nPRIVMSG #r :x\r")[0] == [
        f"{said}a",
        f"{said}QUIT",
        f"{said}PRIVMSG #r :x",
    ]
    assert told.alice.asks("PING x") == [":irc.gateway PONG irc.gateway x"]


def test_own_keys(told):
    """What stands under irc is laid over the rest."""
    assert told.reply(told.whole, text="for all", irc={"text": "for irc", "type": "notice"})[0] == [
        ":gateway!gateway@irc.gateway NOTICE alice :for irc"
    ]


def test_acts(told):
    """The application has a client join, part, take a nick; sets topics and modes; removes."""
    service, alice = ":gateway!gateway@irc.gateway", ":alice!~alice@irc.gateway"
    assert told.reply(told.whole, type="join", channel="#x")[0][0] == f"{alice} JOIN #x"
    assert told.reply(told.whole, type="part", channel="#x", text="enough")[0] == [
        f"{alice} PART #x :enough"
    ]
    line = f"{service} TOPIC #r :tea"
    assert told.reply(told.here, type="topic", text="tea") == ([line], [line])
    line = f"{service} MODE #r +mo alice"
    assert told.reply(told.here, type="mode", modes="+mo", params=["alice"]) == ([line], [line])
    assert told.reply(told.whole, type="nick", text="al")[1] == [f"{alice} NICK al"]
    line = f"{service} KICK #r bob :out"
    assert told.reply(told.here, type="kick", target="bob", text="out") == ([line], [line])
    assert told.reply(told.here, type="kick")[0] == [f"{service} KICK #r al :gateway"]


def test_close(told):
    """The application ends a connection, with its words."""
    alice, bob = told.reply(told.here, text="bye", close=True, reason="banned")
    assert alice[-1] == ":irc.gateway ERROR :Closing Link: irc.gateway (banned)"
    assert bob[-1] == ":alice!~alice@irc.gateway QUIT :banned"


@pytest.mark.parametrize(
    "reply",
    [
        {"text": "a\0b"},
        {"text": "x", "nick": "a b"},
        {"text": "x", "nick": "a\r\nQUIT"},
        {"text": "x", "nick": ""},
        {"text": "x", "mask": "a!b@c d"},
        {"text": "x", "mask": ":a"},
        {"text": "x", "tags": {"a b": "c"}},
        {"text": "x", "tags": {"": "c"}},
        {"text": "x", "tags": {"a": "x" * 5000}},
        {"type": "join", "channel": "no"},
        {"type": "join", "channel": "#a,#b"},
        {"type": "part", "channel": "#elsewhere"},
        {"type": "nick", "text": "1x"},
        {"type": "nick", "text": "a\r\nb"},
        {"type": "topic", "text": "a\r\nQUIT"},
        {"type": "topic", "channel": "#nobody", "text": "x"},
        {"type": "kick", "target": "nobody"},
        {"type": "kick", "target": "bob", "text": "a\nb"},
        {"type": "mode", "modes": "+o", "params": ["nobody"]},
        {"type": "mode", "modes": "+k", "params": ["a\r\nb"]},
        {"type": "mode", "modes": "+z"},
        {"type": "raw", "text": "QUIT"},
        {"type": "frob"},
        {"accept": False},
        {"close": True, "reason": "a\r\nb"},
        {"text": "x", "colour": "red"},
    ],
)
def test_invalid(told, reply):
    """What cannot be said is dropped, counted, tells nobody anything, and ends nothing."""
    before = told.net.rig.metrics.dropped().get("invalid", 0)
    assert told.reply(told.here, **reply) == ([], [])
    assert told.net.rig.metrics.dropped()["invalid"] == before + 1
    assert told.alice.asks("PING x") == [":irc.gateway PONG irc.gateway x"]


def test_group_of_conversations(told):
    """A message of a group that a conversation is in is shown to that client alone."""
    net = told.net
    net.rig.group_add("lobby", told.here)
    net.rig.group_send("lobby", {"text": "hi", "irc": {"nick": "carol"}})
    assert told.lines() == ([":carol!carol@irc.gateway PRIVMSG #r :hi"], [])
    net.rig.group_send("lobby", {"type": "topic", "text": "x"})
    net.rig.group_send("lobby", {"text": "a\0b"})
    assert told.lines() == ([], [])
    assert net.rig.metrics.dropped()["invalid"] == 2


def test_group_of_the_channel(told):
    """What is sent to the group of a channel is said in it, by whom it says."""
    net = told.net
    group = channel_group("#R")
    net.rig.group_send(group, {"text": "hi", "irc": {"nick": "carol"}})
    line = ":carol!carol@irc.gateway PRIVMSG #r :hi"
    assert told.lines() == ([line], [line])
    net.rig.group_send(group, {"text": "hi"})
    assert told.lines()[1] == [":gateway!gateway@irc.gateway PRIVMSG #r :hi"]
    net.rig.group_send(group, {"text": "a\0b"})
    net.rig.group_send(group, {"irc": {"type": "kick", "target": "bob", "text": ""}})
    net.rig.group_send(group, {"websocket": {"text": "only there"}})
    assert told.lines() == ([], [])
    net.rig.worker.send_group(group, {"text": "hi"}, exclude=[told.here])
    net.rig.run()
    assert told.lines() == ([], [":gateway!gateway@irc.gateway PRIVMSG #r :hi"])


def test_members(told):
    """Clients are members of the group of their channel, by nick, until they leave it."""
    net = told.net
    group = channel_group("#r")

    def nicks():
        net.rig.run()
        return sorted(meta["nick"] for meta in net.rig.worker.group_members(group).values())

    assert nicks() == ["alice", "bob"]
    told.alice.say("NICK al")
    assert nicks() == ["al", "bob"]
    told.bob.say("PART #r")
    assert nicks() == ["al"]
    told.alice.wire.cut()
    assert nicks() == []


def test_in_by_the_group(told):
    """Whom the application adds to the group of a channel, or discards, enters it, or leaves."""
    net = told.net
    net.rig.group_add(channel_group("#new"), told.whole)
    assert told.lines()[0][0] == ":alice!~alice@irc.gateway JOIN #new"
    net.rig.worker.group_discard(channel_group("#new"), told.whole)
    net.rig.run()
    assert told.lines()[0] == [":alice!~alice@irc.gateway PART #new"]


def test_ack(told):
    """An ack is answered once the client was told."""
    acks = told.net.rig.worker.new_channel("acks?")
    told.reply(told.whole, text="hi", ack=3, ack_channel=acks)
    found = told.net.rig.wait(lambda: told.net.rig.worker.receive([acks], block=0)[1])
    assert (found["ack"], found["outcome"]) == (3, OK.kind)
