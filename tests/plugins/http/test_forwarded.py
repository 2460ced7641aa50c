"""What proxies say of a request, and what of it is believed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.errors import ConfigError
from gateway.core.web import Claim, Exchange, Head
from gateway.plugins.http import HttpPlugin
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.forwarded import NAMES, Forwarding
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.http.http2.wire import request
from tests.plugins.http.serving import Served, get, hello, wait_until

PROXIES = ("127.0.0.1", "10.0.0.0/8", "::1", "unix")
ALL = ("for", "proto", "host", "prefix")
STANDARD = ("for", "proto", "host")


class Garbled:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def made(headers, client=("127.0.0.1", 4711)) -> Head:
    """Return a head with these headers; in text a line is "Name: value"."""
    head = Head()
    head.client = client
    head.scheme = "http"
    head.root_path = ""
    head.headers = [(b"host", b"inside")]
    for line in headers:
        name, _, value = line.partition(": ")
        head.headers.append((name.lower().encode(), value.encode("latin-1")))
    return head


def applied(headers, client=("127.0.0.1", 4711), **settings) -> tuple[Head, bool]:
    """Return a head after what its proxies say, and whether something could not be read."""
    settings = {"trusted_proxies": PROXIES, "proxy_parts": ALL, **settings}
    garbled = Garbled()
    head = made(headers, client)
    Forwarding(HttpConfig(**settings), garbled).apply(head)
    return head, bool(garbled.count)


def standard(*headers, **settings) -> tuple[Head, bool]:
    return applied(headers, **{"proxy_header": "forwarded", "proxy_parts": STANDARD, **settings})


# ---------------------------------------------------------------- whose address


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("203.0.113.7", ("203.0.113.7", 0)),
        ("203.0.113.7:50000", ("203.0.113.7", 50000)),
        ("2001:db8::7", ("2001:db8::7", 0)),
        ("2001:DB8:0::7", ("2001:db8::7", 0)),
        ("[2001:db8::7]", ("2001:db8::7", 0)),
        ("[2001:db8::7]:4711", ("2001:db8::7", 4711)),
        ("fe80::7%eth0", ("fe80::7", 0)),
        ("::ffff:203.0.113.7", ("203.0.113.7", 0)),
        ("6.6.6.6, 203.0.113.7", ("203.0.113.7", 0)),
        ("6.6.6.6, 203.0.113.7, 10.0.0.2, 10.0.0.3", ("203.0.113.7", 0)),
        ("6.6.6.6,203.0.113.7 ,\t10.0.0.2", ("203.0.113.7", 0)),
        ("203.0.113.7, ::1, unix:", ("203.0.113.7", 0)),
        ("10.0.0.9, 10.0.0.2", ("10.0.0.9", 0)),  # everybody is trusted: the first of all
        ("junk, 203.0.113.7", ("203.0.113.7", 0)),
        ('"unclosed, 203.0.113.7', ("203.0.113.7", 0)),
    ],
)
def test_the_rightmost_that_is_no_proxy_is_the_client(chain, client):
    """Addresses are read from the right as long as they are trusted proxies'."""
    head, garbled = applied([f"X-Forwarded-For: {chain}"])
    assert head.client == client
    assert not garbled


@pytest.mark.parametrize(
    "chain",
    [
        "",
        "unknown, junk",
        "203.0.113.7,",
        "203.0.113.7, junk",
        "203.0.113.7, 10.0.0",
        "203.0.113.7, 010.0.0.1",
        "203.0.113.7, 1.2.3.4.5",
        "203.0.113.7, 1.2.3.4:",
        "203.0.113.7, 1.2.3.4:65536",
        "203.0.113.7, 1.2.3.4:-1",
        "203.0.113.7, [1.2.3.4]",
        "203.0.113.7, [2001:db8::7",
        "203.0.113.7, [2001:db8::7]x",
        "203.0.113.7, 2001:db8:::7",
        "203.0.113.7, localhost",
        "203.0.113.7, 1.2.3.4\xb2",
        "203.0.113.7, \u0661.2.3.4".encode().decode("latin-1"),
        "203.0.113.7, junk, 10.0.0.2",
        ", ".join(["203.0.113.7", *["10.0.0.1"] * 40]),
    ],
)
def test_what_cannot_be_read_is_nobodys_address(chain):
    """The client is not known then: neither the proxy nor whoever stands further left."""
    head, garbled = applied([f"X-Forwarded-For: {chain}"])
    assert head.client is None
    assert garbled


def test_unknown_clients():
    """A proxy that says that it does not know says nothing wrong."""
    head, garbled = applied(["X-Forwarded-For: 6.6.6.6, unknown"])
    assert (head.client, garbled) == (None, False)


def test_several_lines_are_one_list():
    """Header lines are joined in order (RFC 9110 5.3): the last line's last address is nearest."""
    head, _ = applied(["X-Forwarded-For: 6.6.6.6", "A: b", "X-Forwarded-For: 203.0.113.7"])
    assert head.client == ("203.0.113.7", 0)
    head, _ = applied(["X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 10.0.0.2"])
    assert head.client == ("203.0.113.7", 0)


def test_a_proxy_on_a_unix_socket():
    """A peer without an address is trusted by ``unix``, and only by that."""
    head, _ = applied(["X-Forwarded-For: 203.0.113.7"], client=None)
    assert head.client == ("203.0.113.7", 0)
    head, _ = applied(["X-Forwarded-For: 203.0.113.7"], client=None, trusted_proxies=("::1",))
    assert head.client is None
    head, _ = applied(["X-Forwarded-For: unix:"])
    assert head.client is None


def test_a_proxy_that_says_nothing_is_the_client():
    """As a health check of the proxy's own is."""
    head, garbled = applied(["X-Forwarded-Proto: https"])
    assert (head.client, head.scheme, garbled) == (("127.0.0.1", 4711), "https", False)


# ---------------------------------------------------------------- the other parts


@pytest.mark.parametrize(
    ("value", "scheme", "garbled"),
    [
        ("https", "https", False),
        ("http", "http", False),
        ("HTTPS", "https", False),
        ("wss", "https", False),
        ("ws", "http", False),
        ("https, http", "http", False),  # the nearest proxy's word
        ("http,https", "https", False),
        ("ftp", "http", True),
        ("", "http", True),
        ("https;", "http", True),
        ("https,", "http", True),
    ],
)
def test_scheme(value, scheme, garbled):
    """http and https, or what WebSocket calls them; anything else changes nothing."""
    head, wrong = applied([f"X-Forwarded-Proto: {value}"])
    assert (head.scheme, wrong) == (scheme, garbled)
    if value and "," not in value:
        head, wrong = standard(f'Forwarded: proto="{value}"')
        assert (head.scheme, wrong) == (scheme, garbled)


@pytest.mark.parametrize("host", ["shop.example", "shop.example:8443", "[2001:db8::1]:80"])
def test_host(host):
    """The host takes the place of Host."""
    head, garbled = applied([f"X-Forwarded-Host: evil.example, {host}"])
    assert [value for name, value in head.headers if name == b"host"] == [host.encode()]
    assert not garbled
    head, garbled = standard(f'Forwarded: host="{host}"')
    assert [value for name, value in head.headers if name == b"host"] == [host.encode()]


@pytest.mark.parametrize("host", ["", "a b", "a/b", "me@a", "a:99999", "[::g]", "é"])
def test_no_host(host):
    """What is no host changes nothing."""
    head, garbled = applied([f"X-Forwarded-Host: {host}"])
    assert [value for name, value in head.headers if name == b"host"] == [b"inside"]
    assert garbled


@pytest.mark.parametrize(
    ("prefix", "root_path"),
    [
        ("/shop", "/shop"),
        ("/shop/", "/shop"),
        ("/a/b", "/a/b"),
        ("/caf%C3%A9", "/café"),
        ("/", ""),
        ("", ""),
        ("/evil, /shop", "/shop"),
    ],
)
def test_prefix(prefix, root_path):
    """What the proxy took off the path is where the application is mounted."""
    head, garbled = applied([f"X-Forwarded-Prefix: {prefix}"], root_path="")
    assert (head.root_path, garbled) == (root_path, False)


@pytest.mark.parametrize(
    "prefix",
    [
        *("shop", "//evil.example", "/%2Fevil.example", "/a//b", "/a/..", "/..", "/./a"),
        *("/%2e%2E/a", "/a?b", "/a#b", "/a\\b", "/a b", "/%zz", "/%00", "/%0d%0a", "/%ff"),
        *("http://a/b", "/é"),
    ],
)
def test_no_prefix(prefix):
    """What a browser would take for another host or directory changes nothing."""
    head, garbled = applied([f"X-Forwarded-Prefix: {prefix}"])
    assert (head.root_path, garbled) == ("", True)


# ---------------------------------------------------------------- RFC 7239


@pytest.mark.parametrize(
    ("value", "client", "scheme"),
    [
        ("for=203.0.113.7", ("203.0.113.7", 0), "http"),
        ("For=203.0.113.7;Proto=https", ("203.0.113.7", 0), "https"),
        ('for="203.0.113.7:4711"', ("203.0.113.7", 4711), "http"),
        ('For="[2001:db8:cafe::17]:4711"', ("2001:db8:cafe::17", 4711), "http"),
        ('for="[2001:db8::7]:_hidden"', ("2001:db8::7", 0), "http"),
        ('for="\\1\\0.1.1.\\1"', ("10.1.1.1", 0), "http"),
        ("for=192.0.2.43, for=198.51.100.17", ("198.51.100.17", 0), "http"),
        ("for=203.0.113.7;proto=https,for=10.0.0.2;proto=http", ("203.0.113.7", 0), "https"),
        ("for=203.0.113.7,for=10.0.0.2;proto=https", ("203.0.113.7", 0), "http"),
        ("for=6.6.6.6;proto=https, for=203.0.113.7", ("203.0.113.7", 0), "http"),
        ("for=6.6.6.6, proto=https;by=_me", ("127.0.0.1", 4711), "https"),
        ("for=6.6.6.6, proto=https, for=10.0.0.2", ("10.0.0.2", 0), "https"),
        ("for=10.0.0.9, for=10.0.0.2", ("10.0.0.9", 0), "http"),
        ("for=203.0.113.7;;by=x;, ,", ("203.0.113.7", 0), "http"),
        ("for=203.0.113.7 ; proto=https", ("203.0.113.7", 0), "https"),
        ('by="a,b;for=6.6.6.6";for=203.0.113.7', ("203.0.113.7", 0), "http"),
        ("for=203.0.113.7;ext=1;proto=https", ("203.0.113.7", 0), "https"),
        ("for=6.6.6.6, for=unknown", None, "http"),
        ("for=6.6.6.6, for=_hidden;proto=https", None, "https"),
        ("for=6.6.6.6, for=_SEVKISEK, for=10.0.0.2", None, "http"),
        ("", ("127.0.0.1", 4711), "http"),
    ],
)
def test_forwarded(value, client, scheme):
    """The element that names the client says its scheme too."""
    head, garbled = standard(f"Forwarded: {value}")
    assert (head.client, head.scheme, garbled) == (client, scheme, False)


@pytest.mark.parametrize(
    "value",
    [
        "for",
        "for=",
        "=203.0.113.7",
        "for =203.0.113.7",
        "for= 203.0.113.7",
        "for=2001:db8::7",
        "for=203.0.113.7:80",
        'for="2001:db8::7"',
        'for="[203.0.113.7]"',
        'for="203.0.113.7:70000"',
        'for="203.0.113.7',
        "for='203.0.113.7'",
        "for=203.0.113.7;for=203.0.113.8",
        "for=203.0.113.7 proto=https",
        'for="_"',
        "for=shop.example",
        'for="203.0.113.7"x',
        "for=203.0.113.7, junk",
        'proto=https;for="a\x00"',
    ],
)
def test_malformed_elements(value):
    """What breaks the grammar names no client, and no scheme."""
    head, garbled = standard(f"Forwarded: {value}")
    assert (head.client, head.scheme, garbled) == (None, "http", True)


@pytest.mark.parametrize(
    "sent",
    [
        'for="',
        'for=6.6.6.6;x="',
        'for="\\',
        'for=6.6.6.6;by="a,',
        "junk",
        '"',
        'for=6.6.6.6;by="a", for="',
        '"",""',
        'x=",x=",x="',
    ],
)
@pytest.mark.parametrize(
    "appended", ["for=203.0.113.7", 'for="203.0.113.7:1"', 'by="_p";for=203.0.113.7;by2="a,b"']
)
def test_a_client_cannot_swallow_what_the_proxy_appends(sent, appended):
    """Whatever the client sent before it, in the same line too, the proxy's element counts."""
    for headers in (
        [f"Forwarded: {sent}, {appended}"],
        [f"Forwarded: {sent}", f"Forwarded: {appended}"],
    ):
        head, garbled = standard(*headers)
        assert head.client is not None
        assert head.client[0] == "203.0.113.7"
        assert not garbled


def test_what_lies_behind_a_trusted_address_must_be_readable():
    """Where the chain breaks, the client is not known."""
    head, garbled = standard('Forwarded: for=6.6.6.6;x=", for=10.0.0.2')
    assert (head.client, garbled) == (None, True)
    hops = ", ".join(["for=203.0.113.7", *["for=10.0.0.1"] * 40])
    head, garbled = standard(f"Forwarded: {hops}")
    assert (head.client, garbled) == (None, True)


# ---------------------------------------------------------------- what is believed, and kept

EVERYTHING = [
    "Forwarded: for=6.6.6.6;proto=https;host=evil.example",
    "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.2",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-User: root",
    "X-Real-IP: 6.6.6.6",
    "X-Other: kept",
]


def test_strangers_are_not_believed():
    """From a peer that is not trusted nothing of it reaches the application."""
    for client in (("203.0.113.1", 1), ("2001:db8::1", 1), None):
        head, garbled = applied(EVERYTHING, client, trusted_proxies=("127.0.0.1", "10.0.0.0/8"))
        assert (head.client, head.scheme, head.root_path) == (client, "http", "")
        assert head.headers == [(b"host", b"inside"), (b"x-other", b"kept")]
        assert not garbled


def test_nothing_is_changed_without_the_setting():
    """Where no proxy is trusted, headers are handed on as they came."""
    head, _ = applied(EVERYTHING, trusted_proxies=())
    before = made(EVERYTHING)
    assert (head.client, head.scheme, head.root_path) == (before.client, "http", "")
    assert head.headers == before.headers


def test_only_the_parts_that_were_asked_for():
    """host and prefix are the client's own behind many proxies: taken away unless asked for."""
    head, _ = applied(EVERYTHING, proxy_parts=HttpConfig().proxy_parts)
    assert (head.client, head.scheme, head.root_path) == (("203.0.113.7", 0), "https", "")
    assert head.headers == [
        (b"host", b"inside"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-user", b"root"),
        (b"x-real-ip", b"6.6.6.6"),
        (b"x-other", b"kept"),
        (b"x-forwarded-for", b"203.0.113.7, 10.0.0.2"),
    ]
    head, _ = applied(EVERYTHING, proxy_parts=())
    assert (head.client, head.scheme) == (("127.0.0.1", 4711), "http")
    assert {name for name, _ in head.headers} & NAMES == {b"x-forwarded-user", b"x-real-ip"}


def test_only_the_header_that_the_proxy_sets():
    """The other form is what the client made up."""
    head, _ = standard(*EVERYTHING)
    assert (head.client, head.scheme) == (("6.6.6.6", 0), "https")
    names = {name for name, _ in head.headers}
    assert not names & {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
    head, _ = applied(["Forwarded: for=6.6.6.6"])
    assert head.client == ("127.0.0.1", 4711)
    assert head.headers == [(b"host", b"inside")]


def test_what_lies_left_of_the_client_is_taken_away():
    """An application that reads the list itself finds nothing that nobody vouches for."""
    head, _ = standard("Forwarded: for=6.6.6.6, for=203.0.113.7;by=_a , for=10.0.0.2")
    assert head.header(b"forwarded") == b"for=203.0.113.7;by=_a, for=10.0.0.2"
    head, _ = applied(["X-Forwarded-For: 6.6.6.6, junk, 10.0.0.2"])
    assert head.header(b"x-forwarded-for") == b"junk, 10.0.0.2"


WORDS = st.sampled_from(
    [
        *'",;=[]:_\\ .',
        *("for", "proto", "host", "127.0.0.1", "10.0.0.2", "203.0.113.7", "::1", "unknown"),
        *("https", "_x", "\xff", "\t", "%2f", "/", "unix:"),
    ]
)


@given(
    name=st.sampled_from(
        ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Prefix"]
    ),
    words=st.lists(WORDS, max_size=25),
)
@example("Forwarded", [])
def test_nothing_raises_and_nothing_is_spoofed(name, words):
    """Whatever a stranger sends, once a proxy appended its address, that is the client."""
    sent = "".join(words)
    head, _ = standard(f"{name}: {sent}", f"{name}: for=203.0.113.9;proto=http")
    if name == "Forwarded":
        assert (head.client, head.scheme) == (("203.0.113.9", 0), "http")
        head, _ = standard(f"{name}: {sent}, for=203.0.113.9;proto=http")
        assert (head.client, head.scheme) == (("203.0.113.9", 0), "http")
    head, _ = applied([f"{name}: {sent}, 203.0.113.9"])
    if name == "X-Forwarded-For":
        assert head.client == ("203.0.113.9", 0)
    standard(f"{name}: {sent}")
    applied([f"{name}: {sent}"])


@given(before=st.lists(WORDS, max_size=10), inside=st.lists(WORDS, max_size=15))
def test_what_a_proxy_quotes_is_quoted(before, inside):
    """A proxy may repeat what a client sent, quoted: it stays inside the quotation marks."""
    quoted = "".join(inside).replace("\\", "\\\\").replace('"', '\\"')
    head, garbled = standard(f'Forwarded: {"".join(before)}, for=203.0.113.9;ext="{quoted}"')
    assert (head.client, head.scheme, garbled) == (("203.0.113.9", 0), "http", False)
    assert head.header(b"forwarded") == f'for=203.0.113.9;ext="{quoted}"'.encode("latin-1")


def test_long_headers_cost_little():
    """64 KiB of the worst a header can hold are read in a moment."""
    for value in (",", ',"', ',a="', ",a=b;", '"', 'a="\\', ",for=10.0.0.1", "10.0.0.1,", ";", "a"):
        long = value * (65000 // len(value))
        standard(f"Forwarded: {long}")
        applied([f"X-Forwarded-For: {long}", f"X-Forwarded-Prefix: {long}"])


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"trusted_proxies": ("proxy.example",)}, "trusted_proxies: 'proxy.example': expected"),
        (
            {"proxy_header": "forwarded", "proxy_parts": ("for", "prefix")},
            "proxy_parts: Forwarded has no prefix",
        ),
    ],
)
def test_wrong_settings(settings, says):
    """What cannot be stops the start."""
    with pytest.raises(ConfigError, match=says):
        HttpConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"trusted_proxies": ("*",)}, "believes whoever can connect"),
        ({"proxy_header": "forwarded"}, "have no effect"),
        ({"proxy_parts": ("for",)}, "have no effect"),
    ],
)
def test_risky_settings(settings, says):
    """What is allowed and hardly meant is told at the start, and by ``gateway check``."""
    (warning,) = HttpPlugin.warnings(HttpConfig(**settings))
    assert says in warning
    for fine in ({}, {"trusted_proxies": ("unix",), "proxy_parts": ("for",)}):
        assert list(HttpPlugin.warnings(HttpConfig(**fine))) == []


# ---------------------------------------------------------------- served


def test_everybody_sees_the_same():
    """``http.request`` and whoever claims a request see the client that the proxy names."""
    seen: list[Head] = []

    def open_(exchange: Exchange) -> None:
        seen.append(exchange.head)
        exchange.decline()

    config = HttpConfig(trusted_proxies=("127.0.0.1",), proxy_parts=ALL)
    claim = Claim(lambda head: head.client == ("203.0.113.7", 0), open_)
    lines = ["X-Forwarded-For: 6.6.6.6, 203.0.113.7", "X-Forwarded-Proto: https"]
    lines += ["X-Forwarded-Host: shop.example", "X-Forwarded-Prefix: /shop"]
    consumers = {"http.request": hello}
    with Served(consumers, config=config, claims=[claim]) as site, site.connect() as client:
        assert client.send(get("/a", *lines)).response().status == 200
        (message,) = site.messages("http.request")
        (head,) = seen
        assert message["client"] == ["203.0.113.7", 0] == list(head.client)
        assert message["server"] == list(client.sock.getpeername())
        assert message["scheme"] == "https" == head.scheme
        assert message["root_path"] == "/shop" == head.root_path
        assert [v for n, v in message["headers"] if n == b"host"] == [b"shop.example"]
        # What a proxy said of one request says nothing of the next on the same connection.
        assert client.send(get("/b")).response().status == 200
        (_, message) = site.messages("http.request")
        assert message["client"] == list(client.sock.getsockname())
        assert message["scheme"] == "http"


def test_over_http2():
    """A stream's request is its own: what a proxy says of it holds for no other."""
    config = HttpConfig(trusted_proxies=("127.0.0.1",), proxy_parts=ALL)
    with Served({"http.request": hello}, config=config) as site, Http2Client(site) as client:
        said = [(b"x-forwarded-for", b"203.0.113.7"), (b"x-forwarded-host", b"shop.example")]
        client.ask(request("/a", *said))
        client.ask(request("/b"))
        first, second = site.messages("http.request")
    assert first["client"] == ["203.0.113.7", 0]
    assert [value for name, value in first["headers"] if name == b"host"] == [b"shop.example"]
    assert second["client"][0] == "127.0.0.1"


def test_garbled_headers_are_counted():
    """A proxy that sends what cannot be read is misconfigured: a metric tells."""
    config = HttpConfig(trusted_proxies=("127.0.0.1",))
    with Served({"http.request": hello}, config=config) as site, site.connect() as client:
        assert client.send(get("/", "X-Forwarded-For: what")).response().status == 200
        (message,) = site.messages("http.request")
        assert message["client"] is None
        series = "gateway_http_garbled_forwarded_total"
        assert wait_until(lambda: site.metrics.snapshot().get(series)) == 1
