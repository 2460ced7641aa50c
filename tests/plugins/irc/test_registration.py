"""How clients are let in: CAP, NICK, USER, PASS, SASL, and what the application decides."""

from __future__ import annotations

import base64

import pytest

from gateway.core.plugin import FAILED, OK, REJECTED, RELEASED, Outcome
from tests.plugins.irc.net import Net


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_welcome():
    """NICK and USER, in either order, make a welcome of 001 to 005, LUSERS and MOTD."""
    with Net(motd="one\ntwo") as net:
        client = net.client().say("USER al 0 * :Al", "NICK al")
        commands = [line.command for line in client.lines()]
    assert commands[:4] == ["001", "002", "003", "004"]
    assert commands[-4:] == ["375", "372", "372", "376"]
    assert {"005", "251", "255"} <= set(commands)


def test_before():
    """Before it is let in a client may do little, and is told so."""
    with Net() as net:
        client = net.client()
        assert client.asks("JOIN #a") == ["451 :You have not registered"]
        assert client.asks("FROB") == ["451 :You have not registered"]
        assert client.asks("PING x") == [":irc.gateway PONG irc.gateway x"]
        assert client.asks("NICK") == ["431 :No nickname given"]
        assert client.asks("USER a b") == ["461 USER :Not enough parameters"]
        assert client.asks("USER a 0 * :") == ["461 USER :Not enough parameters"]
        assert client.asks("CAP LIST") == [":irc.gateway CAP * LIST :"]
        assert client.asks("NICK *") == ["432 * :Erroneous nickname"]
        assert "x" * 450 in client.asks("PING " + "x" * 505)[0]
        assert client.asks("PING " + "x" * 506) == ["417 :Input line was too long"]
        assert client.asks("NICK 1a") == ["432 1a :Erroneous nickname"]
        assert client.asks(f"NICK {'a' * 31}") == [f"432 {'a' * 31} :Erroneous nickname"]


def test_nick_in_use():
    """A nick is one client's, whatever its case; the application's is nobody's."""
    with Net() as net:
        one = net.join("alice")
        two = net.client()
        assert two.asks("NICK ALICE") == ["433 ALICE :Nickname is already in use"]
        assert two.asks("NICK gateway") == ["433 gateway :Nickname is already in use"]
        two.say("USER b 0 * :B", "NICK bob")
        assert "001" in [line.command for line in two.lines()]
        assert two.asks("NICK Alice") == ["433 Alice :Nickname is already in use"]
        one.say("QUIT")
        assert two.asks("NICK Alice") == [":bob!~b@irc.gateway NICK Alice"]
        assert two.asks("NICK alice") == [":Alice!~b@irc.gateway NICK alice"]
        assert two.asks("NICK alice") == []


def test_nick_of_two_that_wait():
    """Of two clients that want one nick at once, one has it; the other chooses again."""
    with Net("connect") as net:
        one = net.client().say("NICK al", "USER a 0 * :A")
        two = net.client().say("NICK al", "USER b 0 * :B")
        assert two.heard() == [":irc.gateway 433 * al :Nickname is already in use"]
        assert len(net.rig.plugin._server.pending) == 1
        two.say("NICK bo")
        net.settle()
        assert one.lines()[0].params[0] == "al"
        assert two.lines()[0].params[0] == "bo"


@pytest.mark.parametrize(
    ("outcome", "lines"),
    [
        (Outcome(REJECTED, 463, "not you"), ["463", "not you"]),
        (Outcome(REJECTED), ["465", "You are not let in"]),
        (Outcome(REJECTED, 99, "x\r\ny\0z"), ["465", "x y z"]),
        (Outcome(FAILED, reason="a secret"), ["", "That could not be handled; try again later"]),
        (Outcome(RELEASED), ["", "Nobody can decide on that now; try again later"]),
    ],
)
def test_refused(outcome, lines):
    """Who is not let in is told why, by a numeric and ERROR, and never what a fault was."""
    with Net("connect") as net:
        client = net.client().say("NICK nick", "USER a 0 * :A")
        net.settle(outcome)
        code, why = lines
        heard = client.heard()
        assert client.wire.ended
    assert heard[-1] == f":irc.gateway ERROR :Closing Link: 127.0.0.1 ({why})"
    assert heard[:-1] == ([f":irc.gateway {code} nick :{why}"] if code else [])


def test_explicit_accept():
    """Without implicit_accept a client waits for a direct reply, and no longer than that."""
    with Net("connect", implicit_accept=False, decision_timeout=5) as net:
        one = net.client().say("NICK al", "USER a 0 * :A")
        two = net.client().say("NICK bo", "USER a 0 * :A")
        first, _ = net.settle()
        assert one.heard() == []
        net.rig.send(first.message["reply_channel"], {"accept": True, "text": "hello"})
        heard = one.heard()
        assert " 001 " in heard[0]
        assert heard[-1] == ":gateway!gateway@irc.gateway PRIVMSG al :hello"
        net.rig.run(10)
        assert "nobody has decided in time" in two.heard()[-1]


def test_refused_by_a_reply():
    """A direct reply refuses, with its words."""
    with Net("connect") as net:
        client = net.client().say("NICK al", "USER a 0 * :A")
        net.settle(OK, {"accept": False, "reason": "go away"})
        assert client.heard()[0] == ":irc.gateway 465 al :go away"


def test_what_the_application_hears():
    """irc.connect has nick, user name, real name and password; the end has the last words."""
    with Net("connect", "disconnect") as net:
        client = net.client().say("PASS :open sesame", "NICK al", "USER a!b@c 0 * :Al Doe")
        [heard] = net.settle()
        client.say("QUIT :so long")
        client.wire.leave()
        [end] = net.settle()
    message = heard.message
    assert {k: message[k] for k in ("nick", "username", "realname", "password", "network")} == {
        "nick": "al",
        "username": "abc",
        "realname": "Al Doe",
        "password": "open sesame",
        "network": "Gateway",
    }
    assert end.message["reason"] == "Quit: so long"
    assert end.message["nick"] == "al"


def test_registration_timeout():
    """Who does not say who it is, is not waited for."""
    with Net(registration_timeout=30) as net:
        client = net.client().say("NICK al")
        net.rig.run(31)
        assert client.wire.ended
        assert "Registration timed out" in client.heard()[-1]


def test_cap_list():
    """CAP LS says what there is, with values from version 302 on; what is not there is not."""
    with Net("authenticate", history=10) as net:
        [ls] = net.client().asks("CAP LS 302")
        assert "sasl=PLAIN" in ls
        assert "draft/chathistory" in ls
        [ls] = net.client().asks("CAP LS")
        assert "sasl=" not in ls
        assert " sasl " in ls
    with Net() as net:
        [ls] = net.client().asks("CAP LS 302")
        assert "sasl" not in ls
        assert "chathistory" not in ls


def test_cap_requests():
    """CAP REQ takes all or nothing; CAP LIST says what was taken; CAP holds registration up."""
    with Net() as net:
        client = net.client().say("CAP LS 302", "NICK al", "USER a 0 * :A")
        assert "001" not in [line.command for line in client.lines()]
        assert client.asks("CAP REQ :multi-prefix foo") == [
            ":irc.gateway CAP al NAK :multi-prefix foo"
        ]
        assert client.asks("CAP LIST") == [":irc.gateway CAP al LIST cap-notify"]
        assert client.asks("CAP REQ :multi-prefix  setname") == [
            ":irc.gateway CAP al ACK :multi-prefix  setname"
        ]
        assert client.asks("CAP REQ -setname") == [":irc.gateway CAP al ACK -setname"]
        assert client.asks("CAP LIST") == [":irc.gateway CAP al LIST :multi-prefix cap-notify"]
        assert client.asks("CAP FROB") == ["410 FROB :Invalid CAP command"]
        assert client.asks("CAP") == ["461 CAP :Not enough parameters"]
        assert client.asks("CAP END")[0].startswith("001 ")
        assert client.asks("CAP END") == []
        assert client.asks("CAP REQ :echo-message") == [":irc.gateway CAP al ACK echo-message"]


def sasl(net):
    client = net.client().say("CAP REQ :sasl", "NICK al", "USER a 0 * :A")
    client.lines()
    return client


def test_sasl_plain():
    """SASL PLAIN is decided by irc.authenticate; then the account is the identity."""
    with Net("authenticate", "connect") as net:
        client = sasl(net)
        assert client.asks("AUTHENTICATE PLAIN") == ["AUTHENTICATE +"]
        client.say(f"AUTHENTICATE {b64(chr(0) + 'al@x' + chr(0) + 'pässword')}")
        [heard] = net.settle()
        assert heard.message["username"] == "al@x"
        assert heard.message["password"] == "pässword"
        assert [line.command for line in client.lines()] == ["900", "903"]
        assert client.asks("AUTHENTICATE PLAIN") == [
            "907 :You have already authenticated using SASL"
        ]
        client.say("CAP END")
        [heard] = net.settle()
        assert heard.message["identity"] == "al@x"
        other = net.join("bob")
        assert "330 al al@x :is logged in as" in other.asks("WHOIS al")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("*", "906"),
        ("!!!", "904"),
        (b64("no zeros"), "904"),
        (b64("\0\0"), "904"),
        (b64("other\0al\0x"), "904"),
        (b64("\0a b\0x"), "904"),
        (b64("\0a\r\nQUIT\0x"), "904"),
        (b64("\0" + "é" * 51 + "\0x"), "904"),
        ("a" * 401, "905"),
    ],
)
def test_sasl_refused(said, code):
    """What is no PLAIN is refused without asking anybody."""
    with Net("authenticate") as net:
        client = sasl(net)
        client.say("AUTHENTICATE PLAIN", f"AUTHENTICATE {said}")
        assert net.settle() == []
        assert client.lines()[-1].command == code


def test_sasl_long_and_wrong():
    """An answer may come in pieces of 400; one that is rejected is 904, and five are enough."""
    with Net("authenticate") as net:
        client = sasl(net)
        data = b64("\0al\0" + "p" * 600)
        pieces = [data[:400], data[400:800], data[800:] or "+"]
        client.say("AUTHENTICATE PLAIN", *(f"AUTHENTICATE {piece}" for piece in pieces))
        [heard] = net.settle(Outcome(REJECTED))
        assert heard.message["password"] == "p" * 600
        assert client.lines()[-1].command == "904"
        assert client.asks("AUTHENTICATE FROB") == [
            "908 PLAIN :are available SASL mechanisms",
            "904 :SASL authentication failed",
        ]
        for _ in range(4):
            client.say("AUTHENTICATE PLAIN", f"AUTHENTICATE {b64(chr(0) + 'al' + chr(0) + 'x')}")
            net.settle(Outcome(REJECTED))
        assert client.wire.ended


def test_sasl_comes_and_goes():
    """Clients that want to know hear when nobody authenticates any more, or somebody does."""
    with Net("authenticate") as net:
        net.rig.run(11)
        knowing, other = net.client().say("CAP LS 302", "NICK al"), net.join("bob")
        knowing.lines()
        net.rig.announce(["quit"])
        net.rig.run(11)
        assert knowing.heard() == [":irc.gateway CAP al DEL sasl"]
        assert other.heard() == []
        net.rig.announce(["authenticate"])
        net.rig.run(11)
        assert knowing.heard() == [":irc.gateway CAP al NEW sasl=PLAIN"]


def test_sasl_required():
    """Where SASL is required nobody is let in without it."""
    with Net("authenticate", "connect", sasl_required=True) as net:
        client = net.client().say("NICK al", "USER a 0 * :A")
        assert net.settle() == []
        assert client.wire.ended


def test_too_many_wait():
    """So many may wait for a decision, and no more."""
    with Net("connect", max_pending=1) as net:
        net.client().say("NICK al", "USER a 0 * :A")
        other = net.client().say("NICK bo", "USER a 0 * :A")
        assert other.wire.ended
        assert "Too many clients" in other.heard()[-1]


def test_again():
    """Nobody registers twice."""
    with Net() as net:
        client = net.join("al")
        assert client.asks("USER a 0 * :A") == ["462 :You may not reregister"]
        assert client.asks("PASS x") == ["462 :You may not reregister"]
