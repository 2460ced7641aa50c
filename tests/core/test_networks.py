"""Sets of peers by address."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core import networks
from gateway.core.errors import ConfigError
from gateway.core.networks import Networks


@pytest.mark.parametrize(
    ("texts", "inside", "outside"),
    [
        (["10.1.2.3"], ["10.1.2.3", "::ffff:10.1.2.3"], ["10.1.2.4", "::a01:203", None]),
        (["10.0.0.0/8"], ["10.255.0.1", "::ffff:10.0.0.1"], ["11.0.0.1", "::1", None, "unix"]),
        (["::1"], ["::1", "0:0:0:0:0:0:0:1"], ["127.0.0.1", "::2", None]),
        (["fd00::/8"], ["fd12::1", "fd00::1%eth0"], ["fe80::1%eth0", "253.0.0.1"]),
        (["fe80::/10"], ["fe80::1%eth0", "fe80::1"], ["fec0::1"]),
        (["::ffff:10.0.0.0/104"], ["10.1.2.3", "::ffff:10.9.9.9"], ["11.1.2.3", "::1"]),
        (["::ffff:10.1.2.3"], ["10.1.2.3"], ["10.1.2.4"]),
        (["::/0"], ["::1", "2001:db8::1"], ["10.1.2.3", "::ffff:10.1.2.3", None]),
        (["0.0.0.0/0"], ["10.1.2.3", "::ffff:10.1.2.3"], ["::1", None]),
        (["unix"], [None], ["127.0.0.1", "::1", "", "unix"]),
        (["*"], [None, "127.0.0.1", "2001:db8::1", "what ever"], []),
        (["unix", " 127.0.0.0/8 ", "::1"], [None, "127.1.2.3", "::1"], ["10.0.0.1"]),
        ([], [], [None, "127.0.0.1", "::1"]),
    ],
)
def test_membership(texts, inside, outside):
    """Addresses, networks, Unix sockets, everybody; asked twice, the answer is the same."""
    found = Networks(texts, "http.trusted_proxies")
    for _ in range(2):
        assert [host for host in inside if host not in found] == []
        assert [host for host in outside if host in found] == []
    assert bool(found) is bool(texts)


@pytest.mark.parametrize("host", ["", "localhost", "10.1.2", "10.1.2.3:80", "[::1]", "1", "\0"])
def test_what_is_no_address(host):
    """Such a peer belongs to no network, without an exception."""
    assert host not in Networks(["0.0.0.0/0", "::/0", "unix"], "x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("localhost", "host names are not looked up"),
        ("", "expected an address"),
        ("10.0.0.0/33", "expected an address"),
        ("10.0.0.1:8000", "expected an address"),
        ("[::1]", "expected an address"),
        ("010.0.0.1", "expected an address"),
        ("10.1.2.3/8", r"write '10\.0\.0\.0/8'"),
        ("fd00::1/8", "write 'fd00::/8'"),
        ("UNIX", "'unix' or"),
    ],
)
def test_slips(text, says):
    """What is no peer stops the start, by setting, text and remedy."""
    with pytest.raises(ConfigError, match=says) as caught:
        Networks(["10.0.0.1", text], "http.trusted_proxies")
    assert str(caught.value).startswith(f"http.trusted_proxies: {text!r}: ")


@given(address=st.ip_addresses(), prefix=st.integers(0, 32))
def test_as_the_standard_library_says(address, prefix):
    """Any address is in the network around it, and in none that lacks it."""
    assume(int(address) % (1 << 127) >> 32 != 0xFFFF)  # IPv4 in IPv6's notation: see above
    network = ipaddress.ip_network((address, prefix), strict=False)
    near = Networks([str(network)], "x")
    assert str(address) in near
    opposite = ipaddress.ip_address(int(address) ^ (1 << (address.max_prefixlen - 1)))
    assert (str(opposite) in near) is (prefix == 0)


def test_the_cache_is_bounded(monkeypatch):
    """However many peers ask, few are remembered, and every answer stays right."""
    monkeypatch.setattr(networks, "_MOST_CACHED", 8)
    found = Networks(["10.0.0.0/28"], "x")
    for number in range(100):
        assert (f"10.0.0.{number}" in found) is (number < 16)
        assert len(found._known) <= 8
