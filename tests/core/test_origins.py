"""Which pages may ask: the pure part."""

from __future__ import annotations

import pytest

from gateway.core.origins import Origins
from gateway.plugins.websocket.config import WebsocketConfig


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (b"http://example.org", b"example.org"),
        (b"https://example.org", b"example.org"),
        (b"https://Example.ORG", b"EXAMPLE.org"),
        (b"https://example.org:8443", b"example.org:8443"),
        (b"https://example.org:8443", b"example.org"),
        (b"http://localhost:5173", b"localhost:8000"),
        (b"http://127.0.0.1:8000", b"127.0.0.1:8000"),
        (b"http://[::1]:8000", b"[::1]:8000"),
        (b"http://[::1]", b"[::1]"),
        (b"http://xn--bcher-kva.example", b"xn--bcher-kva.example:80"),
    ],
)
def test_same_host(origin: bytes, host: bytes) -> None:
    """A page of the host that is asked may, whatever the port and scheme: a proxy changes those."""
    assert Origins(["same-host"]).allow(origin, host)
    assert not Origins([]).allow(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (b"https://evil.example", b"example.org"),
        (b"https://example.org.evil.example", b"example.org"),
        (b"https://evil-example.org", b"example.org"),
        (b"https://sub.example.org", b"example.org"),
        (b"https://example.org", b"sub.example.org"),
        (b"https://example.org@evil.example", b"example.org"),
        (b"https://evil.example/example.org", b"example.org"),
        (b"https://evil.example https://example.org", b"example.org"),
        (b"https://example.org https://evil.example", b"example.org"),
        (b"https://example.org/", b"example.org"),
        (b"https://example.org:443x", b"example.org"),
        (b"example.org", b"example.org"),
        (b"//example.org", b"example.org"),
        (b"https://", b""),
        (b"", b""),
        (b"null", b"null"),
        (b"https://ex\xe4mple.org", b"ex\xc3\xa4mple.org"),
        (b"http://[::1]:8000", b"[::2]:8000"),
        (b"https://example.org", None),
    ],
)
def test_another_host(origin: bytes, host: bytes | None) -> None:
    """No other page may, nor what is no origin at all."""
    assert not Origins(["same-host"]).allow(origin, host)


ALLOWED = [
    ("https://example.org", "https://example.org", True),
    ("https://example.org", "https://example.org:443", True),
    ("https://example.org:443", "https://example.org", True),
    ("https://example.org", "http://example.org", False),
    ("https://example.org", "https://example.org:8443", False),
    ("https://example.org", "https://www.example.org", False),
    ("https://example.org:8443", "https://example.org:8443", True),
    ("https://example.org:8443", "https://example.org", False),
    ("http://localhost:*", "http://localhost:5173", True),
    ("http://localhost:*", "http://localhost", True),
    ("http://localhost:*", "http://localhost.evil.example:1", False),
    ("https://*.example.org", "https://www.example.org", True),
    ("https://*.example.org", "https://a.b.example.org", True),
    ("https://*.example.org", "https://example.org", False),
    ("https://*.example.org", "https://evilexample.org", False),
    ("https://*.example.org:*", "https://www.example.org:8443", True),
    ("HTTPS://Example.ORG", "https://example.org", True),
    ("https://b\u00fccher.example", "https://xn--bcher-kva.example", True),
    ("http://[::1]:8000", "http://[::1]:8000", True),
    ("chrome-extension://abcdef", "chrome-extension://abcdef", True),
    ("capacitor://localhost", "capacitor://localhost", True),
    ("capacitor://localhost", "ionic://localhost", False),
    ("null", "null", True),
    ("https://example.org", "null", False),
    ("*", "https://anything.example", True),
    ("*", "null", True),
    ("*", "what is no origin", True),
]


@pytest.mark.parametrize(("allowed", "origin", "expected"), ALLOWED)
def test_allowed(allowed: str, origin: str, expected: bool) -> None:
    """What the setting allows: scheme, host and port; subdomains, any port, and words."""
    assert Origins([allowed]).allow(origin.encode(), b"backend:8000") == expected


@pytest.mark.parametrize("allowed", [("*",), ("null",), ("*", "null")])
def test_anybody_is_not_known(allowed: tuple[str, ...]) -> None:
    """Who is let in as everybody is, is not known: any page can be without an origin."""
    origins = Origins(allowed)
    assert origins.allow(b"null", b"backend")
    assert not origins.knows(b"null", b"backend")
    assert not origins.knows(b"https://a.example", b"backend")
    named = Origins((*allowed, "https://a.example", "same-host"))
    assert named.knows(b"https://a.example", b"backend")
    assert named.knows(b"http://backend", b"backend")


def test_several() -> None:
    """Several entries allow what any of them does."""
    origins = Origins(["https://a.example", "same-host", "null"])
    for origin in (b"https://a.example", b"http://backend", b"null"):
        assert origins.allow(origin, b"backend")
    assert not origins.allow(b"https://b.example", b"backend")


@pytest.mark.parametrize(
    "text",
    [
        "example.org",
        "*.example.org",
        "https://",
        "https://*",
        "https://a.*.org",
        "https://example.org/",
        "https://example.org/path",
        "https://user@example.org",
        "same_host",
        "",
        "http://localhost:x",
        "https://b\u00fc..example",
    ],
)
def test_no_origin(text: str) -> None:
    """An entry that is no origin is refused at the start, with what to write instead."""
    with pytest.raises(ValueError, match=r"origins: .* is no origin; write https://"):
        WebsocketConfig(origins=(text,))
