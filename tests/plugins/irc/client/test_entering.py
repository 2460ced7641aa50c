"""From the connection to the channels: capabilities, login, nick, joins."""

from __future__ import annotations

import base64

import pytest

from gateway.plugins.irc.client.config import NickServ, Sasl
from gateway.plugins.irc.client.rooms import Rooms
from gateway.plugins.irc.client.terms import Wanted
from tests.plugins.irc.client.driven import MASK, Driven, entered


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_it_says_who_it_is():
    """PASS stands before NICK and USER, and capabilities are asked for before all."""
    it = Driven(password="s3cret", username="bot", realname="A Bot")
    assert it.take() == ["CAP LS 302", "PASS s3cret", "NICK gw", "USER bot 0 * :A Bot"]


def test_capabilities_are_negotiated():
    """Only what is wanted and offered is asked for, once the list is whole; then comes CAP END."""
    it = Driven()
    it.take()
    it.hear(":s CAP * LS * :batch server-time draft/unknown")
    assert it.take() == []
    it.hear(":s CAP * LS :echo-message sasl=PLAIN")
    assert it.take() == ["CAP REQ :batch echo-message server-time"]
    it.hear(":s CAP * ACK :batch echo-message server-time ")
    assert it.take() == ["CAP END"]
    assert it.session.standing.capabilities.enabled == {"batch", "echo-message", "server-time"}


def test_a_refused_request_is_asked_one_by_one():
    """One capability that is refused does not cost the others."""
    it = Driven()
    it.take()
    it.hear(":s CAP * LS :batch server-time")
    it.hear(":s CAP * NAK :batch server-time")
    assert it.take()[1:] == ["CAP REQ batch", "CAP REQ server-time"]
    it.hear(":s CAP * NAK :batch")
    it.hear(":s CAP * ACK :server-time")
    assert it.take() == ["CAP END"]
    assert it.session.standing.capabilities.enabled == {"server-time"}


def test_capabilities_come_and_go_later():
    """With cap-notify the network says what it has anew, and what no more."""
    it = Driven()
    it.welcome(caps="cap-notify batch")
    it.take()
    it.hear(":s CAP gw NEW :echo-message")
    assert it.take() == ["CAP REQ echo-message"]
    it.hear(":s CAP gw ACK :echo-message")
    it.hear(":s CAP gw DEL :batch")
    assert it.session.standing.capabilities.enabled == {"cap-notify", "echo-message"}
    assert "CAP END" not in it.take()


def test_a_network_without_capabilities():
    """A server that knows no CAP lets it in all the same."""
    it = Driven()
    it.hear(":s 421 * CAP :Unknown command")
    it.welcome()
    assert [kind for kind, _ in it.messages()] == ["connect"]
    assert it.closed is None


def test_the_welcome_is_told():
    """irc.connect says as whom and where."""
    it = Driven()
    it.welcome(nick="gw")
    assert it.messages() == [("connect", {"network": "net", "nick": "gw", "host": "irc.example"})]
    assert it.conversations == [None]


def test_sasl_plain():
    """The login stands between the capabilities and CAP END."""
    it = Driven(sasl=Sasl(account="acc", password="pass"))
    it.take()
    it.hear(":s CAP * LS :sasl=EXTERNAL,PLAIN")
    it.hear(":s CAP * ACK :sasl")
    assert it.take() == ["CAP REQ sasl", "AUTHENTICATE PLAIN"]
    it.hear("AUTHENTICATE +")
    assert it.take() == [f"AUTHENTICATE {b64(chr(0).join(['acc', 'acc', 'pass']))}"]
    it.hear(
        f":s 900 * {MASK} acc :You are now logged in", ":s 903 * :SASL authentication successful"
    )
    assert it.take() == ["CAP END"]
    it.welcome()
    assert it.session.facts()["account"] == "acc"


def test_a_long_response_is_cut():
    """Pieces have 400 bytes; where the last one is full, an empty one follows (IRCv3 sasl-3.1)."""
    it = Driven(sasl=Sasl(account="a", password="p" * 296))
    it.hear(":s CAP * LS :sasl", ":s CAP * ACK :sasl")
    it.take()
    it.hear("AUTHENTICATE +")
    first, second = it.take()
    assert len(first) == len("AUTHENTICATE ") + 400
    assert second == "AUTHENTICATE +"


@pytest.mark.parametrize(
    ("heard", "reason"),
    [
        ((":s CAP * LS :batch", ":s CAP * ACK :batch"), "SASL: the network has no SASL now"),
        (
            (":s CAP * LS :sasl=EXTERNAL", ":s CAP * ACK :sasl"),
            "SASL: the network has EXTERNAL, and not PLAIN",
        ),
        (
            (":s CAP * LS :sasl", ":s CAP * ACK :sasl", ":s 904 * :SASL authentication failed"),
            "SASL: SASL authentication failed",
        ),
        ((":s 001 gw :Welcome",), "SASL: the network let us in without"),
    ],
    ids=["none", "other", "failed", "no-cap"],
)
def test_no_login(heard, reason):
    """Where a login is required, a network without it is left, to be tried again late."""
    it = Driven(sasl=Sasl(account="acc", password="pass"))
    it.hear(*heard)
    assert it.closed is not None
    assert it.session.ended()["reason"] == reason
    assert it.session.standing.unwelcome
    assert it.emitted == []

    it = Driven(sasl=Sasl(account="acc", password="pass", required=False))
    it.hear(*heard)
    it.welcome()
    assert it.closed is None
    assert it.session.facts()["login"] == reason


def test_external():
    """EXTERNAL has nothing to say but the account, if any."""
    it = Driven(sasl=Sasl(mechanism="EXTERNAL"))
    it.hear(":s CAP * LS :sasl", ":s CAP * ACK :sasl")
    assert it.take()[-1] == "AUTHENTICATE EXTERNAL"
    it.hear("AUTHENTICATE +")
    assert it.take() == ["AUTHENTICATE +"]


# ---------------------------------------------------------------- the nick


def test_another_nick():
    """While the nick is taken: the alternatives, then the nick with something behind it."""
    it = Driven(alternatives=("gw2", "gw3"))
    it.take()
    for _ in range(4):
        it.hear(":s 433 * gw :Nickname is already in use")
    assert it.take() == ["NICK gw2", "NICK gw3", "NICK gw_", "NICK gw1"]
    it.welcome(nick="gw1")
    assert it.messages()[0][1]["nick"] == "gw1"


def test_a_nick_that_the_network_cuts():
    """It is what the network makes of it, and not asked for for ever."""
    it = Driven(nick="averylongnick", keepalive=10_000.0)
    it.welcome(nick="averylong")
    it.advance(500)
    assert not [line for line in it.take() if line.startswith(("ISON", "NICK averylongnick "))]
    assert it.session.facts()["nick"] == "averylong"


def test_no_nick_at_all():
    """A network that lets it have none is left, with its reason."""
    it = Driven()
    for _ in range(200):
        it.hear(":s 432 * x :Erroneous nickname")
    assert it.closed is not None
    assert it.session.ended()["reason"] == "the network lets us have no nick: Erroneous nickname"


def test_the_nick_is_taken_back_when_it_is_free():
    """Whether seen by QUIT, by NICK, by MONITOR or by ISON."""
    for freed in (":gw!u@h QUIT :bye", ":gw!u@h NICK other", ":s 731 gw_ :gw"):
        it = Driven()
        it.hear(":s 433 * gw :Nickname is already in use")
        it.welcome("MONITOR=100", nick="gw_")
        assert "MONITOR + gw" in it.take()
        it.hear(freed)
        assert it.take() == ["NICK gw"], freed
        it.hear(":gw_!~gateway@host.example NICK gw")
        assert it.take() == ["MONITOR - gw"]
        it.advance(100)
        assert "NICK gw" not in it.take()

    it = Driven()
    it.hear(":s 433 * gw :Nickname is already in use")
    it.welcome(nick="gw_")
    it.take()
    it.advance(60)
    assert "ISON gw" in it.take()
    it.hear(":s 303 gw_ :gw")
    assert it.take() == []
    it.advance(60)
    it.hear(":s 303 gw_ :")
    assert it.take()[-1] == "NICK gw"


def test_the_nick_is_taken_back_by_nickserv():
    """NickServ is told to, once it knows us."""
    it = Driven(nickserv=NickServ(password="pw", account="acc", regain="REGAIN"))
    it.hear(":s 433 * gw :Nickname is already in use")
    it.welcome(nick="gw_")
    assert "PRIVMSG NickServ :IDENTIFY acc pw" in it.take()
    it.hear(":NickServ!s@s NOTICE gw_ :You are now identified for \x02acc\x02.")
    assert it.take() == ["PRIVMSG NickServ :REGAIN gw pw"]


# ---------------------------------------------------------------- the channels


def test_channels_are_joined_after_nickserv():
    """Not before it knows us: some let only those in. It is not waited for without end."""
    it = Driven(channels=("#a",), nickserv=NickServ(password="pw"))
    it.welcome()
    assert "PRIVMSG NickServ :IDENTIFY pw" in it.take()
    it.hear(":NickServ!s@s NOTICE gw :This nickname is registered. Please identify via IDENTIFY.")
    it.hear(":mallory!s@s NOTICE gw :You are now identified")
    assert it.take() == []
    it.hear(":NickServ!s@s NOTICE gw :You are now identified for gw.")
    assert it.take() == ["JOIN #a"]

    it = Driven(channels=("#a",), nickserv=NickServ(password="pw"))
    it.welcome()
    it.take()
    it.advance(10.5)
    assert it.take() == ["JOIN #a"]


def test_channels_with_keys_stand_first():
    """One JOIN has as many channels as fit; the n-th key is that of the n-th channel."""
    it = Driven(channels=("#a", "#b", "#C"), keys={"#c": "key"}, rate=0)
    it.welcome("TARGMAX=JOIN:2,PRIVMSG:4")
    joins = [line for line in it.take() if line.startswith("JOIN")]
    assert joins == ["JOIN #C,#a key", "JOIN #b"]


def test_hundreds_of_channels():
    """No JOIN is over the bounds of a line, and none is left out."""
    names = tuple(f"#{'x' * 40}{number}" for number in range(200))
    it = Driven(channels=names, rate=0)
    it.welcome()
    joins = [line.split(" ")[1] for line in it.take() if line.startswith("JOIN")]
    assert sorted(",".join(joins).split(",")) == sorted(names)


@pytest.mark.parametrize("code", ["471", "473", "474", "475", "477", "437"])
def test_a_channel_that_lets_nobody_in(code):
    """It is tried again, later each time, and health says why."""
    it = entered(channels=("#room", "#a"), rejoin_wait=10.0, rejoin_longest=30.0)
    it = Driven(channels=("#a",), rejoin_wait=10.0, rejoin_longest=30.0, keepalive=10_000.0)
    it.welcome()
    waits = []
    for _ in range(4):
        before = it.now
        it.take()
        it.hear(f":s {code} gw #A :Cannot join channel")
        assert it.session.facts()["refused"] == {"#a": f"{code}: Cannot join channel"}
        while "JOIN #a" not in it.take():
            it.advance(1)
        waits.append(it.now - before)
    assert waits == [10, 20, 30, 30]
    it.joined("#a")
    assert "refused" not in it.session.facts()
    assert it.session.facts()["channels"] == ["#a"]


def test_a_kick_is_told_and_waited_after():
    """After a kick it comes back, not at once, and an invitation brings it back sooner."""
    it = entered(keepalive=10_000.0)
    it.hear(":op!o@h KICK #room gw :out with you")
    [(kind, kick)] = it.messages()
    assert (kind, kick["target"], kick["nick"], kick["reason"]) == (
        "kick",
        "gw",
        "op",
        "out with you",
    )
    assert it.session.facts()["refused"] == {"#room": "kicked by op: out with you"}
    it.advance(9)
    assert it.take() == []
    it.hear(":op!o@h INVITE gw #room")
    assert it.take() == ["JOIN #room"]


def test_channels_of_routing_tables():
    """What workers want is joined; what none wants for a minute is left."""
    it = entered(keepalive=10_000.0)
    it.run(it.session.received(Wanted(frozenset({"#room", "#more"}))))
    assert it.take() == ["JOIN #more"]
    it.joined("#more")
    it.run(it.session.received(Wanted(None)))
    it.run(it.session.received(Wanted(frozenset())))
    it.advance(59)
    it.run(it.session.received(Wanted(frozenset())))
    assert it.take() == []
    it.advance(2)
    it.run(it.session.received(Wanted(frozenset())))
    assert it.take() == ["PART #more"]
    it.hear(f":{MASK} PART #more")
    it.advance(1000)
    assert it.take() == []


def test_a_route_that_names_no_channel():
    """It costs nothing but a line in health."""
    it = entered()
    it.run(it.session.received(Wanted(frozenset({"room", "#a,#b", "#x\r\nQUIT"}))))
    assert it.take() == []
    assert set(it.session.facts()["refused"]) == {"room", "#a,#b", "#x\r\nQUIT"}


def test_what_the_application_joins_is_joined_again():
    """By the next connection, too, until the application leaves it."""
    it = entered()
    it.say({"type": "join", "channel": "#own", "key": "k"}, None)
    assert it.take() == ["JOIN #own k"]
    it.joined("#own")
    rooms = it.rooms
    again = Driven(rooms=rooms, channels=("#room",))
    again.welcome()
    assert "JOIN #own,#room k" in again.take()
    again.joined("#own", "#room")
    again.advance(5)
    again.say({"type": "part"}, "#own")
    again.say({"type": "part", "text": "bye"}, "#room")
    assert again.take()[-2:] == ["PART #own", "PART #room :bye"]
    again.hear(f":{MASK} PART #own", f":{MASK} PART #room")
    again.advance(2000)
    assert not [line for line in again.take() if line.startswith("JOIN")]


def test_the_names_of_channels_fold_as_the_network_says():
    """CASEMAPPING decides which are the same."""
    it = Driven(channels=("#A[",))
    it.welcome("CASEMAPPING=ascii")
    it.hear(f":{MASK} JOIN #a{{")
    assert it.session.facts()["channels"] == []
    it.hear(f":{MASK} JOIN #a[")
    assert it.session.facts()["channels"] == ["#A["]


# ---------------------------------------------------------------- the end


def test_a_ban_is_taken_seriously():
    """Who is banned, or has a wrong password, comes back late."""
    for heard in (
        ":s 465 gw :You are banned",
        ":s 464 * :Password incorrect",
        "ERROR :Closing Link: h (K-Lined)",
        "ERROR :Trying to reconnect too fast.",
        "ERROR :Closing Link: gw[h] (AKilled: *** You are banned)",
        "ERROR :Access denied: Bad password?",
    ):
        it = Driven()
        it.hear(heard)
        assert it.session.standing.unwelcome, heard
        assert it.session.ended()["reason"]
    it = Driven()
    it.hear("ERROR :Closing Link: h (Ping timeout)")
    assert it.closed is not None
    assert not it.session.standing.unwelcome


def test_a_network_that_says_nothing():
    """Silence is asked after, and then the end; before the welcome there is a limit, too."""
    it = Driven(register_timeout=60.0)
    it.advance(61)
    assert it.session.ended()["reason"] == "no welcome within 60 s"

    it = entered(keepalive=60.0, ping_timeout=30.0)
    it.advance(60)
    [ping] = it.take()
    assert ping.startswith("PING ")
    it.advance(20)
    it.hear(f":s PONG s {ping[5:]}")
    assert it.session.facts()["lag"] == 20
    it.advance(60)
    it.take()
    it.advance(31)
    assert it.closed is not None
    assert it.closed.abort
    assert it.session.ended()["reason"] == "no sign of life in 30 s"


def test_it_leaves_when_all_is_said():
    """At a shutdown what waits for its turn is said first."""
    it = entered(rate=1.0, burst=1, quit="bye")
    it.say({"text": "one\ntwo\nthree"})
    it.run(it.session.draining(0))
    assert it.closed is None
    it.advance(5)
    assert it.take() == [
        "PRIVMSG #room :one",
        "PRIVMSG #room :two",
        "PRIVMSG #room :three",
        "QUIT :bye",
    ]
    assert it.session.ended() == {"network": "net", "reason": "bye"}


def test_rooms_are_not_shared_by_accident():
    """Each network has its own."""
    it = Driven(channels=("#a",))
    assert isinstance(it.rooms, Rooms)
    it.hear(f":{MASK} JOIN #elsewhere")
    assert it.session.facts()["channels"] == []
