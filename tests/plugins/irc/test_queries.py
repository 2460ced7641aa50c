"""Who there is, and what this is: WHO, WHOIS, WHOWAS, USERHOST, ISON, AWAY, SETNAME, MOTD, …."""

from __future__ import annotations

from tests.plugins.irc.net import Net


def test_who():
    """WHO shows who is in a channel, or matches a mask, and hides who hides."""
    with Net() as net:
        alice, bob = net.join("alice", "#r"), net.join("bob", "#r")
        bob.say("AWAY :x")
        tail = "~alice irc.gateway irc.gateway alice H@ :0 Alice Doe"
        assert alice.asks("WHO #r") == [
            f"352 #r {tail}",
            "352 #r ~bob irc.gateway irc.gateway bob G :0 Bob Doe",
            "315 #r :End of WHO list",
        ]
        assert alice.asks("WHO b*")[0].startswith("352 * ~bob ")
        assert alice.asks("WHO BOB")[0].startswith("352 * ~bob ")
        assert alice.asks("WHO nobody") == ["315 nobody :End of WHO list"]
        bob.say("MODE bob +i")
        carol = net.join("carol")
        assert [one.split()[5] for one in carol.asks("WHO *")[:-1]] == ["gateway", "alice", "carol"]
        assert len(alice.asks("WHO *")) == 5


def test_whox():
    """WHOX answers the fields that are asked for, in its order."""
    with Net() as net:
        alice = net.join("alice", "#r")
        assert alice.asks("WHO #r %tnfac,42") == ["354 42 #r alice H@ 0", "315 #r :End of WHO list"]
        assert alice.asks("WHO alice %tcuihsnfdlaor,1")[0] == (
            "354 1 * ~alice 255.255.255.255 irc.gateway irc.gateway alice H 0 0 0 n/a :Alice Doe"
        )


def test_whois():
    """WHOIS says what is known, no channel that is secret, an address to oneself alone."""
    with Net() as net:
        alice, bob = net.join("alice", "#open", "#secret"), net.join("bob")
        alice.say("MODE #secret +s", "AWAY :tea")
        heard = bob.asks("WHOIS Alice")
        assert heard[:3] == [
            "311 alice ~alice irc.gateway * :Alice Doe",
            "319 alice @#open",
            "312 alice irc.gateway :the Gateway network",
        ]
        assert "301 alice :tea" in heard
        assert heard[-1] == "318 alice :End of WHOIS list"
        assert not any("127.0.0.1" in one for one in heard)
        assert "378 alice :is connecting from 127.0.0.1" in alice.asks("WHOIS irc.gateway alice")
        assert bob.asks("WHOIS nobody") == [
            "401 nobody :No such nick/channel",
            "318 nobody :End of WHOIS list",
        ]
        assert "335 gateway :speaks for the application" in bob.asks("WHOIS gateway")
        assert bob.asks("WHOIS :a b")[0] == "401 * :No such nick/channel"


def test_addresses():
    """Clients see each other's addresses only where that is set."""
    with Net(addresses=True) as net:
        alice = net.join("alice")
        assert alice.asks("USERHOST alice") == ["302 alice=+~alice@127.0.0.1"]


def test_whowas():
    """WHOWAS remembers who left, the last first."""
    with Net() as net:
        alice = net.join("alice")
        for _ in range(2):
            net.join("bob").say("QUIT")
        heard = alice.asks("WHOWAS bob")
        assert [one.split()[0] for one in heard] == ["314", "312", "314", "312", "369"]
        assert len(alice.asks("WHOWAS bob 1")) == 3
        assert alice.asks("WHOWAS carol") == [
            "406 carol :There was no such nickname",
            "369 carol :End of WHOWAS",
        ]


def test_ison_and_userhost():
    """ISON and USERHOST answer for those that are there."""
    with Net() as net:
        alice, bob = net.join("alice"), net.join("bob")
        bob.say("AWAY :x")
        assert alice.asks("ISON bob nobody ALICE") == ["303 :bob alice"]
        assert alice.asks("ISON :bob nobody") == ["303 bob"]
        assert alice.asks("USERHOST bob nobody") == ["302 bob=-~bob@irc.gateway"]


def test_away_and_setname():
    """Who is away or takes another name, says it to those who want to hear it."""
    with Net(max_realname=20) as net:
        alice = net.join("alice", "#r", caps="away-notify setname standard-replies")
        bob = net.join("bob", "#r")
        alice.lines()
        assert bob.asks("AWAY :at tea") == ["306 :You have been marked as being away"]
        assert alice.heard() == [":bob!~bob@irc.gateway AWAY :at tea"]
        carol = net.join("carol")
        carol.say("AWAY :out", "JOIN #r")
        assert alice.heard() == [
            ":carol!~carol@irc.gateway JOIN #r",
            ":carol!~carol@irc.gateway AWAY :out",
        ]
        assert bob.asks("AWAY") == ["305 :You are no longer marked as being away"]
        assert alice.heard() == [":bob!~bob@irc.gateway AWAY"]
        assert alice.asks("SETNAME :Alice A.") == [":alice!~alice@irc.gateway SETNAME :Alice A."]
        assert alice.asks(f"SETNAME {'x' * 21}") == [
            ":irc.gateway FAIL SETNAME INVALID_REALNAME :That is too long"
        ]
        assert bob.asks("WHOIS alice")[0].endswith(":Alice A.")


def test_the_server():
    """The server says what it is, what time it is, and how to use it."""
    with Net() as net:
        alice = net.join("alice")
        assert alice.asks("VERSION")[0].startswith("351 gateway-")
        assert alice.asks("TIME")[0].startswith("391 irc.gateway 20")
        assert alice.asks("INFO")[-1] == "374 :End of INFO list"
        assert alice.asks("ADMIN")[0] == "256 irc.gateway :Administrative info"
        assert alice.asks("MOTD") == ["422 :There is no message of the day"]
        assert alice.asks("MOTD other.example") == ["402 other.example :No such server"]
        assert alice.asks("LUSERS")[0] == "251 :There are 1 users and 0 invisible on 1 servers"
        assert alice.asks("HELP")[-1] == "706 * :End of HELP"
        assert alice.asks("HELP join")[0].startswith("704 JOIN ")
        assert alice.asks("HELP frob") == ["524 FROB :No help available on this topic"]
        assert alice.asks("OPER a b") == ["491 :No O-lines for your host"]
        assert alice.asks("PING") == ["409 :No origin specified"]
