"""Mail to the servers that DNS names: a name server and mail servers of the tests'."""

from __future__ import annotations

import contextlib

import pytest

from gateway.core.errors import ConfigError
from gateway.plugins.email.client.mx import NoRoute, Resolver
from gateway.testing.stage import Stage
from tests.plugins.email.out.names import Zone, a, mx
from tests.plugins.email.out.peer import Peer, config, serving, until

RECORDS = {
    "two.example": [mx(20, "second.example"), mx(10, "first.example"), a("127.0.0.9")],
    "first.example": [a("127.0.0.2")],
    "second.example": [a("127.0.0.1")],
    "own.example": [a("127.0.0.1")],
    "null.example": [mx(0, "")],
    "empty.example": [],
    "lost.example": [mx(10, "nowhere.example")],
    "same.example": [mx(5, f"s{n}.example") for n in range(4)],
    "public.example": [mx(1, "mixed.example")],
    "mixed.example": [a("127.0.0.1"), a("198.41.0.4"), a("2001:503:ba3e::2:30")],
    "shop.example": [a("127.0.0.1")],
    **{f"s{n}.example": [a(f"127.0.0.{n + 1}")] for n in range(4)},
}


@pytest.fixture(scope="module")
def zone():
    with Zone(RECORDS) as made:
        yield made


@pytest.fixture
def peer():
    with Peer() as made:
        yield made


@contextlib.contextmanager
def delivering(tmp_path, zone, peer, **delivery):
    settings = {"resolvers": (zone.where,), "port": peer.port, "private": True, **delivery}
    with serving(config(tmp_path, sender="s@shop.example", delivery=settings)) as post:
        yield post


def hosts(zone, domain, **more):
    resolver = Resolver((zone.where,))
    return Stage.of_this_process().run(resolver.hosts(domain, **more))


def test_the_best_server_that_answers(tmp_path, zone, peer):
    """The server of the lowest preference is asked first, and the next where it is away."""
    assert [one.name for one in hosts(zone, "two.example", private=True)] == [
        "first.example",
        "second.example",
    ]
    with delivering(tmp_path, zone, peer) as post:
        post.mail(rcpt_to=["a@two.example", "b@own.example"])
        post.empty()
        assert sorted(one.rcpt_tos for one in peer.mails) == [["a@two.example"], ["b@own.example"]]


def test_servers_of_one_preference_share(zone):
    """Servers of one preference are asked in any order."""
    first = {hosts(zone, "same.example", private=True)[0].name for _ in range(40)}
    assert len(first) > 1


@pytest.mark.parametrize(
    ("domain", "status"),
    [("null.example", "5.1.10"), ("gone.example", "5.1.2"), ("empty.example", "5.4.4"), ("lost.example", "5.4.4")],
)  # fmt: skip
def test_a_domain_without_a_server(tmp_path, zone, peer, domain, status):
    """Mail to a domain that takes none, or that is none, comes back at once."""
    with delivering(tmp_path, zone, peer) as post:
        post.mail(rcpt_to=[f"a@{domain}"])
        post.empty()
        [report] = peer.parsed()
        assert status in report.get_body(("plain",)).get_content()


def test_dns_that_fails_is_asked_again(tmp_path, zone, peer):
    """While DNS says nothing, mail waits; it is not given up."""
    zone.down = True
    try:
        with delivering(tmp_path, zone, peer) as post:
            post.mail(rcpt_to=["a@own.example"])
            until(lambda: post.count("recipients_total", result="deferred"))
            zone.down = False
            post.empty()
            assert len(peer.mails) == 1
    finally:
        zone.down = False


def test_private_servers_are_left_alone(tmp_path, zone, peer):
    """No mail goes to a private address that DNS or a recipient names, unless that is wanted."""
    assert [one.address for one in hosts(zone, "public.example")] == [
        "198.41.0.4",
        "2001:503:ba3e::2:30",
    ]
    with pytest.raises(NoRoute, match=r"email\.delivery\.private"):
        hosts(zone, "own.example")
    with delivering(tmp_path, zone, peer, private=False, literals=True) as post:
        post.mail(rcpt_to=["a@own.example", "b@[127.0.0.1]"], mail_from="s@two.example")
        until(lambda: post.count("recipients_total", result="undeliverable") == 4)
        post.empty()
        assert not peer.connections


@pytest.mark.parametrize("literals", [True, False])
def test_address_literals(tmp_path, zone, peer, literals):
    """Mail to an address literal is delivered where that is wanted, else it comes back."""
    with delivering(tmp_path, zone, peer, literals=literals) as post:
        post.mail(rcpt_to=["b@[127.0.0.1]"])
        post.empty()
        [mail] = peer.mails
        assert (mail.rcpt_tos == ["b@[127.0.0.1]"]) is literals


@pytest.mark.parametrize("text", ["dns.example", "1.2.3", "127.0.0.1:x", ":53"])
def test_name_servers_are_addresses(text):
    """A name server that is no address stops the start."""
    with pytest.raises(ConfigError, match=r"email\.delivery\.resolvers"):
        Resolver((text,))
