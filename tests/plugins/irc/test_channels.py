"""Channels: entering, leaving, topics, modes, lists; who may do what."""

from __future__ import annotations

import pytest

from gateway.core.plugin import FAILED, OK, REJECTED, Outcome
from tests.plugins.irc.net import Net


def test_join():
    """Who joins hears itself, the topic and the names; others hear it, with their extensions."""
    with Net() as net:
        alice = net.join("alice", "#room")
        carol = net.join("carol", "#room", caps="extended-join")
        alice.lines()
        alice.say("TOPIC #room :tea")
        bob = net.join("bob")
        heard = bob.asks("JOIN #ROOM")
        assert heard[0] == ":bob!~bob@irc.gateway JOIN #room"
        assert heard[1] == "332 #room :tea"
        assert heard[2].startswith("333 #room alice!~alice@irc.gateway 1")
        assert heard[3:] == ["353 = #room :@alice carol bob", "366 #room :End of NAMES list"]
        assert alice.heard()[-1] == ":bob!~bob@irc.gateway JOIN #room"
        assert carol.heard()[-1] == ":bob!~bob@irc.gateway JOIN #room * :Bob Doe"
        assert bob.asks("JOIN #room") == []


def test_join_several():
    """JOIN takes several channels and keys; 0 leaves all."""
    with Net() as net:
        alice = net.join("alice", "#a", "#b", "#c")
        alice.say("MODE #b +k sesame")
        bob = net.join("bob")
        heard = bob.asks("JOIN #a,#b,nochannel,#c ,sesame")
        assert [one for one in heard if "JOIN" in one] == [
            f":bob!~bob@irc.gateway JOIN #{name}" for name in "abc"
        ]
        assert "403 nochannel :No such channel" in heard
        assert sorted(bob.asks("JOIN 0")) == [f":bob!~bob@irc.gateway PART #{n}" for n in "abc"]


@pytest.mark.parametrize("name", ["room", "#", "#a b", "#a\x07", "#" + "x" * 60, "&x", "#é" * 30])
def test_no_channel(name):
    """What is no channel cannot be joined."""
    with Net() as net:
        alice = net.join("alice")
        assert alice.asks(f"JOIN :{name}")[0].startswith("403 ")


def test_join_is_refused():
    """Modes keep people out: k, i, l and bans; an invitation lets them in."""
    with Net(max_channels=2) as net:
        alice = net.join("alice", "#r")
        bob = net.join("bob")
        alice.say("MODE #r +k key")
        assert bob.asks("JOIN #r") == ["475 #r :Cannot join channel (+k)"]
        assert bob.asks("JOIN #r wrong") == ["475 #r :Cannot join channel (+k)"]
        alice.say("MODE #r -k+i *")
        assert bob.asks("JOIN #r") == ["473 #r :Cannot join channel (+i)"]
        alice.say("MODE #r -i+l 1")
        assert bob.asks("JOIN #r") == ["471 #r :Cannot join channel (+l)"]
        alice.say("MODE #r -l", "MODE #r +b bob!*@*")
        assert bob.asks("JOIN #r") == ["474 #r :Cannot join channel (+b)"]
        assert alice.asks("INVITE bob #r") == ["341 bob #r"]
        assert bob.lines()[-1].command == "INVITE"
        assert ":bob!~bob@irc.gateway JOIN #r" in bob.asks("JOIN #r")
        bob.say("PART #r")
        assert bob.asks("JOIN #r") == ["474 #r :Cannot join channel (+b)"]
        bob.say("JOIN #x,#y")
        assert bob.asks("JOIN #z") == ["405 #z :You have joined too many channels"]


def test_join_is_decided():
    """Where irc.join is routed it decides, one channel after another, and JOIN waits for it."""
    with Net("join") as net:
        alice = net.join("alice")
        alice.say("JOIN #a,#b,#c,#d", "PING x")
        asked = []
        for outcome in (
            OK,
            Outcome(REJECTED),
            Outcome(REJECTED, 477, "register first"),
            Outcome(FAILED, reason="secret"),
        ):
            heard = net.rig.hear()
            asked.append(heard.message["channel"])
            heard.settle(outcome)
        assert asked == ["#a", "#b", "#c", "#d"]
        heard = [line for line in alice.lines() if line.command not in {"353", "366"}]
        assert [(line.command, line.params[-1]) for line in heard] == [
            ("PONG", "x"),
            ("JOIN", "#a"),
            ("473", "Cannot join channel (+i)"),
            ("477", "register first"),
            ("473", "That could not be handled; try again later"),
        ]


def test_join_by_a_reply():
    """A direct reply decides on a JOIN, and what the consumer's end says later changes nothing."""
    with Net("join") as net:
        alice = net.join("alice")
        alice.say("JOIN #a")
        net.settle(OK, {"accept": False, "reason": "not now"})
        assert alice.heard() == [":irc.gateway 473 alice #a :not now"]
        alice.say("JOIN #a")
        net.settle(Outcome(REJECTED), {"accept": True})
        assert alice.lines()[0].command == "JOIN"


def test_undecided_join():
    """What is not decided in time is refused, and later commands go on."""
    with Net("join", decision_timeout=5) as net:
        alice = net.join("alice")
        alice.say("JOIN #a", "AWAY :x")
        late = net.rig.hear()
        assert alice.lines() == []
        net.rig.run(6)
        assert [line.command for line in alice.lines()] == ["473", "306"]
        late.settle(OK)
        assert alice.lines() == []


def test_part():
    """Who parts is heard with its words, and the last one ends the channel."""
    with Net("part") as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        alice.lines()
        assert bob.asks("PART #r :so long") == [":bob!~bob@irc.gateway PART #r :so long"]
        assert alice.heard() == [":bob!~bob@irc.gateway PART #r :so long"]
        [heard] = net.settle()
        assert heard.message["reason"] == "so long"
        assert bob.asks("PART #r") == ["442 #r :You're not on that channel"]
        assert bob.asks("PART #nowhere") == ["403 #nowhere :No such channel"]
        alice.say("PART #r")
        assert not net.network.channels
        assert "353 = #r :@bob" in bob.asks("JOIN #r")


def test_topic():
    """TOPIC shows and sets; +t keeps it with operators; too long, it is cut."""
    with Net("topic", max_topic=20) as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        assert bob.asks("TOPIC #r") == ["331 #r :No topic is set"]
        assert bob.asks("TOPIC #r :mine") == ["482 #r :You're not channel operator"]
        assert alice.asks("TOPIC #r :a topic of some length") == [
            ":alice!~alice@irc.gateway TOPIC #r :a topic of some"
        ]
        alice.say("MODE #r -t")
        assert bob.asks("TOPIC #r :") == [":bob!~bob@irc.gateway TOPIC #r :"]
        assert bob.asks("TOPIC #r") == ["331 #r :No topic is set"]
        assert bob.asks("TOPIC #x") == ["403 #x :No such channel"]
        assert [heard.message["text"] for heard in net.settle()] == ["a topic of some", ""]
        carol = net.join("carol")
        assert carol.asks("TOPIC #r :x") == ["442 #r :You're not on that channel"]


def test_names():
    """NAMES shows modes as the client takes them, and hides who hides, and what is secret."""
    with Net() as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        alice.say("MODE #r +v alice")
        multi = net.join("multi", "#r", caps="multi-prefix userhost-in-names")
        assert multi.asks("NAMES #r")[0] == (
            "353 = #r :@+alice!~alice@irc.gateway bob!~bob@irc.gateway multi!~multi@irc.gateway"
        )
        assert alice.asks("NAMES #r")[0] == "353 = #r :@alice bob multi"
        bob.say("MODE bob +i")
        out = net.join("out")
        assert out.asks("NAMES #r")[0] == "353 = #r :@alice multi"
        alice.say("MODE #r +s")
        assert out.asks("NAMES #r") == ["366 #r :End of NAMES list"]
        assert alice.asks("NAMES #r")[0] == "353 @ #r :@alice bob multi"
        assert out.asks("LIST") == ["321 Channel :Users  Name", "323 :End of LIST"]
        assert alice.asks("NAMES") == ["366 * :End of NAMES list"]


def test_many_names():
    """Names that do not fit a line are in several."""
    with Net() as net:
        clients = [net.join(f"nick{'x' * 20}{n}", "#r") for n in range(20)]
        heard = [line for line in clients[0].say("NAMES #r").raw() if " 353 " in line]
        assert len(heard) > 1
        assert all(len(line.encode()) <= 510 for line in heard)
        assert sum(line.count("nick") - 1 for line in heard) == 20


def test_list():
    """LIST takes names, masks and bounds of how many are in it."""
    with Net() as net:
        alice = net.join("alice", "#one", "#two")
        net.join("bob", "#two")

        def listed(*line):
            return [one.split()[1] for one in alice.asks(*line) if one.startswith("322")]

        assert listed("LIST") == ["#one", "#two"]
        assert listed("LIST #two,#x") == ["#two"]
        assert listed("LIST #t*") == ["#two"]
        assert listed("LIST !#t*") == ["#one"]
        assert listed("LIST >1") == ["#two"]
        assert listed("LIST <2") == ["#one"]


def test_kick():
    """Operators remove others; nobody else does."""
    with Net("kick", max_targets=2) as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        net.join("carol", "#r")
        assert bob.asks("KICK #r alice") == ["482 #r :You're not channel operator"]
        assert alice.asks("KICK #r nobody") == ["401 nobody :No such nick/channel"]
        dave = net.join("dave")
        assert alice.asks("KICK #r dave") == ["441 dave #r :They aren't on that channel"]
        assert dave.asks("KICK #r bob") == ["442 #r :You're not on that channel"]
        bob.lines()
        heard = alice.asks("KICK #r bob,carol :out, you two")
        assert heard == [
            f":alice!~alice@irc.gateway KICK #r {nick} :out, you two" for nick in ("bob", "carol")
        ]
        assert bob.heard() == [":alice!~alice@irc.gateway KICK #r bob :out, you two"]
        assert [one.message["target"] for one in net.settle()] == ["bob", "carol"]
        bob.say("JOIN #r")
        assert alice.asks("KICK #r bob")[-1] == ":alice!~alice@irc.gateway KICK #r bob :alice"


def test_invite():
    """Members invite; where +i is set, operators do; they hear of it who want to."""
    with Net() as net:
        alice = net.join("alice", "#r", caps="invite-notify")
        bob, carol = net.join("bob", "#r"), net.join("carol")
        assert bob.asks("INVITE nobody #r") == ["401 nobody :No such nick/channel"]
        assert bob.asks("INVITE alice #r") == ["443 alice #r :is already on channel"]
        assert carol.asks("INVITE bob #r") == ["442 #r :You're not on that channel"]
        assert bob.asks("INVITE carol") == ["461 INVITE :Not enough parameters"]
        carol.say("AWAY :out")
        alice.lines()
        assert bob.asks("INVITE carol #r") == ["341 carol #r", "301 carol :out"]
        assert alice.heard() == [":bob!~bob@irc.gateway INVITE carol #r"]
        alice.say("MODE #r +i")
        assert bob.asks("INVITE carol #r")[-1] == "482 #r :You're not channel operator"


def test_modes():
    """Modes are set by operators, shown to all, their secrets to members."""
    with Net("mode") as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        out = net.join("out")
        assert bob.asks("MODE #r +m") == ["482 #r :You're not channel operator"]
        assert alice.asks("MODE #r +mklvo-t key 5 bob bob") == [
            ":alice!~alice@irc.gateway MODE #r +mklvo-t key 5 bob bob"
        ]
        assert bob.asks("MODE #r")[0] == "324 #r +klmn key 5"
        assert out.asks("MODE #r")[0] == "324 #r +klmn * 5"
        assert bob.asks("MODE #r -k+l x 7")[-1] == ":bob!~bob@irc.gateway MODE #r -k+l * 7"
        assert bob.asks("MODE #r +m") == []
        assert alice.asks("MODE #r +z") == ["472 z :is unknown mode char to me"]
        assert alice.asks("MODE #r +o") == ["696 #r o * :It takes a parameter"]
        assert alice.asks("MODE #r +o nobody") == ["401 nobody :No such nick/channel"]
        assert alice.asks("MODE #r +o out") == ["441 out #r :They aren't on that channel"]
        assert alice.asks("MODE #r +l x") == ["696 #r l x :It takes a number"]
        assert alice.asks("MODE #r +k :a b") == ["525 #r :Key is not well-formed"]
        assert out.asks("MODE #r +m") == ["442 #r :You're not on that channel"]
        assert out.asks("MODE #x") == ["403 #x :No such channel"]
        heard = [(one.message["modes"], one.message["params"]) for one in net.settle()]
        assert heard[0] == ("+mklvo-t", ["key", "5", "bob", "bob"])


def test_bans():
    """Bans are masks, listed for all, bounded; who is banned does not speak."""
    with Net(max_list=2) as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        alice.say("MODE #r +b bob", "MODE #r +b *!*@*.org")
        assert alice.asks("MODE #r +b x") == ["478 #r b :Channel ban list is full"]
        listed = bob.asks("MODE #r b")
        assert [one.split()[:3] for one in listed] == [
            ["367", "#r", "bob!*@*"],
            ["367", "#r", "*!*@*.org"],
            ["368", "#r", ":End"],
        ]
        assert bob.asks("PRIVMSG #r :hi") == ["404 #r :Cannot send to channel"]
        assert alice.asks("MODE #r -b bob") == [":alice!~alice@irc.gateway MODE #r -b bob!*@*"]
        assert bob.asks("PRIVMSG #r :hi") == []


def test_user_modes():
    """A client may hide, and make itself nothing else."""
    with Net() as net:
        alice = net.join("alice")
        assert alice.asks("MODE alice") == ["221 +"]
        assert alice.asks("MODE alice +i") == [":alice!~alice@irc.gateway MODE alice +i"]
        assert alice.asks("MODE ALICE") == ["221 +i"]
        assert alice.asks("MODE alice +o") == []
        assert alice.asks("MODE alice +z") == ["501 :Unknown MODE flag"]
        assert alice.asks("MODE gateway +i") == ["502 :Can't change mode for other users"]
        assert alice.asks("MODE nobody") == ["401 nobody :No such nick/channel"]


def test_operators_by_the_application():
    """Where the application names the operators, nobody is one by being first."""
    with Net("join", operators="application", channel_modes="") as net:
        alice = net.join("alice")
        alice.say("JOIN #r")
        [heard] = net.settle()
        assert alice.asks("NAMES #r")[0] == "353 = #r :alice"
        assert alice.asks("MODE #r")[0] == "324 #r +"
        assert alice.asks("MODE #r +m") == ["482 #r :You're not channel operator"]
        channel = heard.message["reply_channel"]
        net.rig.send(channel, {"type": "mode", "modes": "+o", "params": ["alice"]})
        assert alice.heard() == [":gateway!gateway@irc.gateway MODE #r +o alice"]
        assert alice.asks("MODE #r +m") == [":alice!~alice@irc.gateway MODE #r +m"]


def test_quit():
    """All who share a channel hear once that somebody is gone, and why."""
    with Net(ping_interval=30, ping_timeout=10) as net:
        alice, bob = net.join("alice", "#a", "#b"), net.join("bob", "#a", "#b")
        bob.lines()
        alice.say("QUIT :so long")
        assert bob.heard() == [":alice!~alice@irc.gateway QUIT :Quit: so long"]
        carol = net.join("carol", "#a")
        bob.lines()
        carol.wire.cut()
        assert bob.heard() == [":carol!~carol@irc.gateway QUIT :Connection closed"]
        net.join("dave", "#a")
        bob.lines()
        for _ in range(5):
            bob.say("PONG x")
            net.rig.run(15)
        assert [one for one in bob.heard() if "QUIT" in one] == [
            ":dave!~dave@irc.gateway QUIT :Ping timeout: 40 seconds"
        ]


def test_long_modes():
    """Changes that are too long for a line, with their source, are told in several."""
    with Net() as net:
        nick = "al" + "x" * 28
        alice, bob = net.join(nick, "#r"), net.join("bob", "#r")
        alice.lines()
        alice.say("MODE #r +" + "n-n+" * 100 + "v bob")
        masks = [f"{number}" * 79 + "!" for number in range(6)]
        alice.say("MODE #r +bbbbbb " + " ".join(masks))
        for heard in (alice.heard(), bob.heard()):
            assert all(len(line) <= 510 for line in heard)
            assert any(line.endswith("v bob") for line in heard)
            assert sum(line.count("!*@*") for line in heard) == 6
        assert alice.asks("MODE #r b")[-1] == "368 #r :End of channel ban list"


def test_invited_once():
    """An invitation is for who was invited, and not for who has its nick next."""
    with Net() as net:
        alice, bob = net.join("alice", "#r"), net.join("bob")
        alice.say("MODE #r +i", "INVITE bob #r")
        bob.say("QUIT")
        assert net.join("bob").asks("JOIN #r") == ["473 #r :Cannot join channel (+i)"]
