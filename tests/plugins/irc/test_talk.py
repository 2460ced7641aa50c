"""What is said: to channels and nicks, asked of the application, relayed, labeled, echoed."""

from __future__ import annotations

import re

import pytest

from gateway.core.plugin import FAILED, OK, REJECTED, Outcome
from gateway.plugins.irc.server import fans
from tests.plugins.irc.net import Net


def test_relayed():
    """What is said reaches the others in the channel, or the nick, and not the speaker."""
    with Net() as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        carol = net.join("carol")
        assert alice.asks("PRIVMSG #R :hi there", "NOTICE bob :psst", "PRIVMSG carol,#r :x") == []
        assert bob.heard() == [
            ":alice!~alice@irc.gateway PRIVMSG #r :hi there",
            ":alice!~alice@irc.gateway NOTICE bob :psst",
            ":alice!~alice@irc.gateway PRIVMSG #r :x",
        ]
        assert carol.heard() == [":alice!~alice@irc.gateway PRIVMSG carol :x"]


def test_errors():
    """What cannot be said is refused; a NOTICE never is."""
    with Net(max_targets=2) as net:
        alice = net.join("alice", "#r")
        bob = net.join("bob")
        assert bob.asks("PRIVMSG") == ["411 :No recipient given (PRIVMSG)"]
        assert bob.asks("PRIVMSG alice") == ["412 :No text to send"]
        assert bob.asks("PRIVMSG alice :") == ["412 :No text to send"]
        assert bob.asks("PRIVMSG nobody :x") == ["401 nobody :No such nick/channel"]
        assert bob.asks("PRIVMSG #x :x") == ["403 #x :No such channel"]
        assert bob.asks("PRIVMSG #r :x") == ["404 #r :Cannot send to channel"]
        assert bob.asks("PRIVMSG a,b,c :x") == ["407 a,b,c :Too many targets"]
        assert bob.asks("NOTICE", "NOTICE nobody :x", "NOTICE #r :x", "NOTICE a,b,c :x") == []
        alice.say("MODE #r +m-n")
        assert bob.asks("PRIVMSG #r :x") == ["404 #r :Cannot send to channel"]
        bob.say("JOIN #r")
        assert bob.asks("PRIVMSG #r :x") == ["404 #r :Cannot send to channel"]
        alice.say("MODE #r +v bob", "AWAY :at tea")
        assert bob.asks("PRIVMSG #r :x")[-1:] != ["404 #r :Cannot send to channel"]
        assert bob.asks("PRIVMSG alice :x") == ["301 alice :at tea"]


@pytest.mark.parametrize(
    ("outcome", "code", "why"),
    [
        (Outcome(REJECTED), "404", "Cannot send to channel"),
        (Outcome(REJECTED, 477, "register first"), "477", "register first"),
        (Outcome(REJECTED, 1, "two\r\nlines"), "404", "two lines"),
        (Outcome(FAILED, reason="secret"), "404", "That could not be handled; try again later"),
    ],
)
def test_refused(outcome, code, why):
    """What the application does not accept, nobody hears; the speaker hears why."""
    with Net("receive") as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        alice.lines()
        alice.say("PRIVMSG #r :hi", "NOTICE #r :hi")
        net.rig.hear().settle(outcome)
        net.settle(Outcome(REJECTED))
        assert alice.heard() == [f":irc.gateway {code} alice #r :{why}"]
        assert bob.heard() == []


def test_what_the_application_hears():
    """irc.receive says who says what, where and how; others hear it once it is accepted."""
    with Net("receive") as net:
        alice, bob = net.join("alice", "#Room", caps="message-tags"), net.join("bob", "#room")
        alice.say("@+draft/reply=1;time=x PRIVMSG #room :\x01ACTION waves\x01")
        heard = net.rig.hear()
        keys = ("network", "type", "mask", "nick", "channel", "target", "text", "tags")
        assert {key: heard.message[key] for key in keys} == {
            "network": "Gateway",
            "type": "action",
            "mask": "alice!~alice@irc.gateway",
            "nick": "alice",
            "channel": "#Room",
            "target": "#Room",
            "text": "waves",
            "tags": {"+draft/reply": "1"},
        }
        assert bob.heard() == []
        heard.settle(OK)
        assert bob.heard() == [":alice!~alice@irc.gateway PRIVMSG #Room :\x01ACTION waves\x01"]
        alice.say("PRIVMSG bob :psst")
        [heard] = net.settle()
        assert heard.message["channel"] is None
        assert heard.message["target"] == "bob"


def test_answers_come_after():
    """What a consumer answers in a channel is heard after what it answers."""
    with Net("receive") as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        alice.lines()
        alice.say("PRIVMSG #r :!time")
        net.settle(OK, {"text": "noon"}, {"type": "action", "text": "yawns"})
        answers = [
            ":gateway!gateway@irc.gateway PRIVMSG #r :noon",
            ":gateway!gateway@irc.gateway PRIVMSG #r :\x01ACTION yawns\x01",
        ]
        assert bob.heard() == [":alice!~alice@irc.gateway PRIVMSG #r :!time", *answers]
        assert alice.heard() == answers


def test_order():
    """What is said is heard in order; what is no talk waits until that is decided."""
    with Net("receive") as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        alice.say("PRIVMSG #r :1", "PRIVMSG #r :2", "PART #r", "PING x")
        assert [line.command for line in alice.lines()] == ["JOIN", "PONG"]
        net.settle()
        assert [line.params[-1] for line in bob.lines()] == ["1", "2", "#r"]


def test_last_words():
    """What was said just before QUIT is still heard."""
    with Net("receive") as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        alice.say("PRIVMSG #r :done", "QUIT")
        assert bob.lines() == []
        net.settle()
        assert [line.command for line in bob.lines()] == ["PRIVMSG", "QUIT"]
        carol = net.join("carol", "#r")
        bob.lines()
        carol.say("PRIVMSG #r :bye")
        carol.wire.cut()
        net.settle()
        assert [line.command for line in bob.lines()] == ["QUIT", "PRIVMSG"]


def test_without_relay():
    """Without relay what nobody routes nobody hears."""
    with Net("connect", "join", relay=False) as net:
        alice, bob = net.join("alice"), net.join("bob")
        for one in (alice, bob):
            one.say("JOIN #r")
            net.settle()
        bob.lines()
        assert alice.asks("PRIVMSG #r :x")[-1] == "404 #r :Nobody is there to decide on that"
        assert bob.heard() == []


def test_echo_and_label():
    """With echo-message and labels the speaker hears what others hear, with its label and id."""
    with Net("receive") as net:
        caps = "echo-message labeled-response batch message-tags server-time"
        alice, bob = net.join("alice", "#r", caps=caps), net.join("bob", "#r", caps="message-tags")
        alice.lines()
        alice.say("@label=one PRIVMSG #r :hi", "@label=two PING x", "@label=three PONG x")
        net.settle()
        lines = alice.lines()
        assert [(one.command, one.tags.get("label")) for one in lines] == [
            ("PONG", "two"),
            ("ACK", "three"),
            ("PRIVMSG", "one"),
        ]
        [heard] = bob.lines()
        assert heard.tags == {"msgid": lines[2].tags["msgid"]}
        assert re.fullmatch(r"\d{4}-.*Z", lines[2].tags["time"])
        for command in ("label=self PRIVMSG alice :x", "label=self;+x TAGMSG alice"):
            alice.say(f"@{command}")
            net.settle()
            assert [one.tags.get("label") for one in alice.lines()] == [None, "self"]
        alice.say("@label=four WHOIS bob")
        lines = alice.lines()
        assert lines[0].command == "BATCH"
        assert lines[0].tags["label"] == "four"
        name = lines[0].params[0][1:]
        assert all(one.tags["batch"] == name for one in lines[1:-1])
        assert lines[-1].params == (f"-{name}",)


def test_tags():
    """Client tags reach who takes tags; TAGMSG is nothing else, and nobody else hears it."""
    with Net() as net:
        alice = net.join("alice", "#r", caps="message-tags echo-message")
        bob, carol = net.join("bob", "#r", caps="message-tags"), net.join("carol", "#r")
        alice.lines()
        bob.lines()
        alice.say("@+typing=active;evil=1;+a!b=2 TAGMSG #r", "@+x PRIVMSG #r :hi", "TAGMSG #r")
        tagmsg, privmsg = bob.lines()[-2:]
        assert tagmsg.command == "TAGMSG"
        assert tagmsg.tags.pop("msgid")
        assert tagmsg.tags == {"+typing": "active"}
        assert privmsg.tags["+x"] == ""
        assert [one for one in carol.raw() if one[:1] == "@" or "TAGMSG" in one] == []
        assert [one.command for one in alice.lines()][-2:] == ["TAGMSG", "PRIVMSG"]
        assert alice.asks("@+a=b TAGMSG") == ["411 :No recipient given (TAGMSG)"]
        assert alice.asks("@+a=b TAGMSG nobody") == ["401 nobody :No such nick/channel"]
        alice.say("@+a=b TAGMSG bob")
        assert bob.lines()[-1].params == ("bob",)


def test_accounts():
    """The account of who says it is in the tags of who takes them."""
    with Net("authenticate") as net:
        bob = net.join("bob", "#r", caps="account-tag account-notify extended-join")
        alice = net.client().say("CAP REQ :sasl", "NICK alice", "USER a 0 * :A", "CAP END")
        alice.say("JOIN #r", "PRIVMSG #r :before")
        alice.say("AUTHENTICATE PLAIN", "AUTHENTICATE AGFsAHg=")
        net.settle()
        alice.say("PRIVMSG #r :after")
        assert [(one.command, one.params, one.tags.get("account")) for one in bob.lines()] == [
            ("JOIN", ("#r", "*", "A"), None),
            ("PRIVMSG", ("#r", "before"), None),
            ("ACCOUNT", ("al",), None),
            ("PRIVMSG", ("#r", "after"), "al"),
        ]


def test_long_lines():
    """A line that is too long for who hears it, whose source is longer, is two."""
    with Net() as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        text = "x" * (510 - len("PRIVMSG #r :"))
        alice.lines()
        alice.say(f"PRIVMSG #r :{text}")
        heard = bob.raw()
        assert len(heard) == 2
        assert all(len(one) <= 510 for one in heard)
        assert "".join(one.partition(" :")[2] for one in heard) == text
        assert alice.asks(f"PRIVMSG #r :{text}x") == ["417 :Input line was too long"]
        assert alice.asks(f"@{'a' * 4095} PRIVMSG #r :x") == ["417 :Input line was too long"]
        assert alice.asks(f"@{'a' * 9000} PRIVMSG #r :x") == ["417 :Input line was too long"]
        assert alice.asks("PING x") == [":irc.gateway PONG irc.gateway x"]


def test_bytes():
    """Text that is no UTF-8 is read as Windows-1252; NUL and such end nothing but their line."""
    with Net() as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        alice.wire.send(b"PRIVMSG #r :caf\xe9\nPRIVMSG #r :a\0b\r\rPRIVMSG #r :c\n\n")
        assert [one.params[-1] for one in bob.lines()] == ["café", "c"]
        assert net.rig.metrics.dropped()["invalid"] == 1


def test_service_nick():
    """What is said to the nick that speaks for the application, goes there and no further."""
    with Net("receive") as net:
        alice = net.join("alice")
        alice.say("PRIVMSG gateway :help")
        net.settle(OK, {"text": "there is none"})
        assert alice.heard() == [":gateway!gateway@irc.gateway PRIVMSG alice :there is none"]
    with Net() as net:
        alice = net.join("alice")
        assert alice.asks("PRIVMSG gateway :help") == ["404 gateway :Nobody is there to hear that"]


def test_flood():
    """Lines that come too fast wait; too many of them end the connection."""
    with Net(line_rate=2, line_burst=8, max_queue=8192) as net:
        alice = net.client().say("NICK alice", "USER a 0 * :A")
        alice.lines()
        alice.say(*(f"PING {n}" for n in range(10)))
        assert len(alice.lines()) == 6
        net.rig.run(1.1)
        assert len(alice.lines()) == 2
        net.rig.run(10)
        assert [one.params[-1] for one in alice.lines()] == ["8", "9"]
        net.rig.run(60)
        alice.lines()
        alice.say(*(f"PING {'x' * 300}{n}" for n in range(60)))
        assert alice.wire.ended
        assert alice.heard()[-1].endswith("(Excess Flood)")
        assert net.rig.metrics.dropped()["limited"] > 8


def test_keep_alive():
    """A silent client is asked for a sign of life, and ended without one."""
    with Net(ping_interval=30, ping_timeout=10) as net:
        alice = net.join("alice")
        net.rig.run(65)
        assert alice.heard() == [":irc.gateway PING irc.gateway"]
        alice.say("PONG irc.gateway")
        net.rig.run(35)
        assert not alice.wire.ended
        net.rig.run(60)
        assert alice.wire.ended


def test_tags_that_grow():
    """Tags that are no UTF-8 may be too long as that: then the line is, and nobody is hurt."""
    with Net() as net:
        alice = net.join("alice", "#r", caps="message-tags")
        bob = net.join("bob", "#r", caps="message-tags")
        alice.lines()
        for command in (b"PRIVMSG #r :hi", b"TAGMSG #r"):
            alice.wire.send(b"@+x=" + b"\x80" * 4000 + b" " + command + b"\r\n")
            assert alice.heard() == [":irc.gateway 417 alice :Input line was too long"]
        alice.wire.send(b"@+x=\x80 PRIVMSG #r :hi\r\n")
        assert [line.tags["+x"] for line in bob.lines()] == ["\u20ac"]


def test_costly():
    """Who has the server look at much, or answer much, waits for that as for many lines."""
    with Net(line_rate=4, line_burst=30) as net:
        alice = net.join("alice", "#r")
        net.rig.run(30)
        known = net.network.users["irc.service"].introduced()
        for number in range(6000):
            net.network.apply({**known, "uid": f"u{number}", "nick": f"n{number}", "home": "x"})
        alice.lines()
        alice.say(*["WHO nobody*"] * 10, "LIST #x", "PING x")
        assert len(alice.lines()) == 5
        net.rig.run(60)
        assert alice.lines()[-1].command == "PONG"
        names = ",".join(["#r"] * 9 + ["#a", "#b", "#c", "#d"])
        assert len([line for line in alice.asks(f"NAMES {names}") if line[:3] == "366"]) == 4


def test_in_slices(monkeypatch):
    """In a channel that is served in slices everybody hears the same as in a small one."""

    def heard() -> list[list[str]]:
        with Net() as net:
            alice, *rest = [
                net.join(f"c{number}", "#r", caps="labeled-response batch echo-message")
                for number in range(6)
            ]
            web = [net.join(f"w{number}", "#q", "#r") for number in range(2)]
            for client in (alice, *rest, *web):
                client.lines()
            alice.wire.send(
                b"PRIVMSG #r :1\r\n@label=x PRIVMSG #r :2\r\nPRIVMSG c1 :psst\r\nTOPIC #r :t\r\n"
                b"@label=y MODE #r +v c2\r\nNICK al\r\nAWAY :x\r\nPRIVMSG #r :3\r\n@label=z PART #r\r\n"
                b"@label=j JOIN #r\r\nINVITE c1 #q\r\nKICK #r c3\r\nQUIT :bye\r\n"
            )
            for client in (*rest, *web):
                client.wire.send(b"PING x\r\nPRIVMSG #r :me\r\nPART #r\r\n")
            return [
                [line for line in client.heard() if " 333 " not in line]
                for client in (alice, *rest, *web)
            ]

    whole = heard()
    monkeypatch.setattr(fans, "SLICE", 1)
    in_slices = heard()
    assert in_slices[0] == whole[0]
    assert sum(map(len, in_slices)) == sum(map(len, whole))
    for one, other in zip(in_slices, whole, strict=True):
        by_alice = [
            [line for line in lines if line[:3] in {":c0", ":al"}] for lines in (one, other)
        ]
        assert by_alice[0] == by_alice[1]
