"""The settings of networks: what cannot be says so, and names the setting."""

from __future__ import annotations

import pytest

from gateway.core.errors import ConfigError
from gateway.plugins.irc.client.check import check, warnings
from gateway.plugins.irc.client.config import Network, NickServ, Sasl
from gateway.plugins.irc.places import place, read

WRONG = [
    ({"connect": "irc.example"}, "irc.networks.net.connect: "),
    ({"nick": "two words"}, "irc.networks.net.nick: 'two words' cannot be a nick"),
    ({"nick": "#room"}, "irc.networks.net.nick: '#room' cannot be a nick"),
    ({"alternatives": ("gw", "1gw")}, "irc.networks.net.alternatives: '1gw'"),
    ({"channels": ("room",)}, "irc.networks.net.channels: 'room' is no channel, such as '#room'"),
    ({"channels": ("#a,#b",)}, "irc.networks.net.channels: '#a,#b' is no channel"),
    ({"keys": {"#a": "a key"}}, "irc.networks.net.keys: the key of '#a' cannot be one"),
    ({"encoding": "utf-99"}, "irc.networks.net.encoding: there is no 'utf-99'"),
    ({"password": "a\r\nQUIT"}, "irc.networks.net.password: no line of IRC can say it"),
    ({"realname": "a\nb"}, "irc.networks.net.realname: no line of IRC can say it"),
    ({"username": "a b"}, "irc.networks.net.username: no line of IRC can say it"),
    ({"quit": "a\0"}, "irc.networks.net.quit: no line of IRC can say it"),
    ({"nickserv": NickServ(password="a\nb")}, "irc.networks.net.nickserv: no line of IRC can"),
    ({"sasl": Sasl()}, "irc.networks.net.sasl: PLAIN needs a password"),
    ({"sasl": Sasl(mechanism="EXTERNAL")}, "irc.networks.net.sasl: EXTERNAL says who we are by a"),
    ({"certificate": "x.pem"}, "irc.networks.net.certificate: the connection has no TLS; write"),
    ({"key": "x.pem"}, "irc.networks.net.key: there is no 'certificate' for it"),
    ({"connect": "tls:a:1", "ca": "/none.pem"}, "irc.networks.net.ca: '/none.pem': "),
    ({"connect": "tls:a:1", "certificate": "/none"}, "irc.networks.net.certificate: '/none': "),
]


@pytest.mark.parametrize(("settings", "says"), WRONG, ids=range(len(WRONG)))
def test_wrong_settings(settings, says):
    """Each stops the start with a sentence that names it."""
    with pytest.raises(ConfigError) as caught:
        check({"net": Network(**{"connect": "irc.example:6667", "nick": "gw", **settings})})
    assert str(caught.value).startswith(says)


def test_good_settings():
    """What networks allow is allowed, whatever RFC 2812 says."""
    good = {"channels": ("#a", "&local", "+modeless", "!ABCDEsafe", "##"), "nick": "Jürgen[m]"}
    check({"net": Network(connect="irc.example:6667", keys={"#a": "k"}, **good)})


def test_warnings():
    """A password that everybody on the way can read, and a network that anybody can be, are said."""
    password = {"nick": "gw", "password": "x"}
    found = list(
        warnings(
            {
                "a": Network(connect="irc.example:6667", **password),
                "b": Network(connect="127.0.0.1:6667", **password),
                "c": Network(connect="tls:irc.example:6697", verify=False, **password),
                "d": Network(connect="tls:irc.example:6697", **password),
            }
        )
    )
    assert len(found) == 2
    assert found[0].startswith("irc.networks.a: passwords go to irc.example")
    assert found[1].startswith("irc.networks.c: its certificate is not verified")


@pytest.mark.parametrize("target", ["#room", "#a.b", "alice", "[x]{y}", "#ünïcode", None])
@pytest.mark.parametrize("network", ["libera", "libera.chat", "a_b"])
def test_addresses(network, target):
    """An address says network and target, whatever they are made of; one too long is none."""
    found = place(network, target)
    assert found is not None
    assert read(found) == (network, target)
    assert place("net", "#" + "ü" * 60) is None


@pytest.mark.parametrize("channel", ["irc.say!", "irc.say!a.b.c", "irc.say!a._zz", "irc.say!.b"])
def test_what_is_no_address(channel):
    """It is refused, as whoever sends it is to hear."""
    with pytest.raises(ValueError, match="is not an"):
        read(channel)
