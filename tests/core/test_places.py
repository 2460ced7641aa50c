"""How many connections there may be: in all, and from one address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.networks import Networks
from gateway.core.places import Places, address_key


def test_in_all():
    """There are so many places; one that is left is free again, once."""
    places = Places(2)
    first, second = places.take(), places.take()
    assert places.take() is None
    first.leave()
    first.leave()
    assert places.open == 1
    assert places.take() is not None
    assert places.take() is None
    assert second.of("192.0.2.1")  # nobody counts addresses here


def test_of_one_address():
    """An address has so many; another one has its own."""
    places = Places(100, 2)
    held = [places.take() for _ in range(4)]
    assert [place.of("192.0.2.1") for place in held] == [True, True, False, False]
    held[3].leave()
    held[0].leave()
    assert places.take().of("192.0.2.1")
    assert not places.take().of("192.0.2.1")
    assert places.take().of("192.0.2.2")


@pytest.mark.parametrize("host", [None, "127.0.0.1", "127.8.8.8", "::1", "10.1.2.3"])
def test_who_is_not_bound(host):
    """Proxies, and who connects from this machine, have no bound of their own."""
    places = Places(100, 1, Networks(["10.0.0.0/8"], "trusted"))
    assert all(places.take().of(host) for _ in range(5))
    assert not places.addresses


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:0:ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("nonsense", "nonsense", True),
    ],
)
def test_what_is_one_address(one, other, same):
    """An IPv4 address is itself, however it is written; of IPv6 a /64 is one."""
    assert (address_key(one) == address_key(other)) is same


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"])))
)
def test_nothing_is_left(events):
    """Whatever comes and goes, the counts fit what is held, and end at nothing."""
    places = Places(5, 2)
    held = []
    for coming, host in events:
        if coming and (place := places.take()) is not None:
            if place.of(host):
                held.append((place, host))
            else:
                place.leave()
        elif held:
            held.pop(0)[0].leave()
        assert places.open == len(held) <= 5
        assert sum(places.addresses.values()) == len(held)
        assert all(0 < count <= 2 for count in places.addresses.values())
    for place, _ in held:
        place.leave()
    assert (places.open, places.addresses) == (0, {})
