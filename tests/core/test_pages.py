"""Whose pages may ask, and what their browsers are told."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core import pages
from gateway.core.pages import FRESH, Pages, asks_first, merged
from tests.core.asked import head

MINE = b"https://app.example"
HOST = (b"host", b"backend.example")


def context() -> Any:
    """Return what `Pages` needs of a plugin's context."""
    counts: list[str] = []
    return SimpleNamespace(name="sse", count=counts.append, counts=counts, log=logging.getLogger())


def asked(*origins: bytes) -> Any:
    """Return a request of pages of such origins."""
    return head([HOST, *[(b"origin", origin) for origin in origins]])


def test_who_is_admitted(caplog: pytest.LogCaptureFixture) -> None:
    """Pages that the setting names, and clients without an origin; others are counted and told."""
    found = context()
    own = Pages(found, ["same-host", MINE.decode()], "an event stream")
    assert own.admit(asked())
    assert own.admit(asked(MINE))
    assert own.admit(asked(b"http://backend.example:3000"))
    assert not found.counts
    assert not own.admit(asked(b"https://evil.example"))
    assert not own.admit(asked(MINE, b"https://evil.example"))
    assert found.counts == ["foreign_origins_total"] * 2
    (record,) = caplog.records
    assert record.getMessage() == (
        "a page of 'https://evil.example' asked for an event stream at 'backend.example' and was "
        "refused; if it is one of yours, add it to sse.origins"
    )


@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"same-origin", b"none"])
@pytest.mark.parametrize("setting", [["same-host", MINE.decode(), "null"], ["*"]])
def test_no_origin(site: bytes, setting: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """A page of another site that says no origin asks with cookies for what it may not read."""
    found = context()
    request = head([HOST, (b"sec-fetch-site", site), (b"sec-fetch-mode", b"no-cors")])
    admitted = setting == ["*"] or site in {b"same-origin", b"none"}
    assert Pages(found, setting, "an event stream").admit(request) is admitted
    assert found.counts == ([] if admitted else ["foreign_origins_total"])
    told = "a page of another site asked for an event stream at 'backend.example' without an Origin"
    assert [record.getMessage().startswith(told) for record in caplog.records] == (
        [] if admitted else [True]
    )


def test_not_all_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Who makes up origins cannot fill the log."""
    own = Pages(context(), [], "an event stream")
    for number in range(100):
        own.admit(asked(b"https://x%d.example" % number))
    assert len(caplog.records) == pages.MOST_TOLD


@pytest.mark.parametrize(
    ("setting", "origin", "allowed", "credentials"),
    [
        ([MINE.decode()], MINE, MINE, True),
        (["same-host"], b"http://backend.example:1", b"http://backend.example:1", True),
        (["*", MINE.decode()], MINE, MINE, True),
        (["*"], b"https://any.example", b"*", False),
        (["null"], b"null", b"*", False),
    ],
)
def test_headers(setting: list[str], origin: bytes, allowed: bytes, credentials: bool) -> None:
    """A page that is named may ask with cookies; "*" alone lets it read what anybody may."""
    found = dict(Pages(context(), setting, "").headers(asked(origin), b"etag"))
    assert found[b"access-control-allow-origin"] == allowed
    assert (b"access-control-allow-credentials" in found) is credentials
    assert found[b"access-control-expose-headers"] == b"etag"
    assert found[b"vary"] == b"origin"


def test_no_page() -> None:
    """Who sends no origin is told nothing but that another page's answer would differ."""
    assert Pages(context(), [], "").headers(asked()) == ((b"vary", b"origin"),)


@pytest.mark.parametrize("setting", [[], ["same-host", "null", MINE.decode()]])
def test_a_foreign_page(setting: list[str]) -> None:
    """A page that may not ask may not read its refusal, either."""
    assert Pages(context(), setting, "").headers(asked(b"https://evil.example"), b"etag") == (
        (b"vary", b"origin"),
    )


def test_preflight() -> None:
    """A preflight is told what may be asked, and for how long it need not ask again."""
    own = Pages(context(), [MINE.decode()], "")
    request = head(
        [
            (b"origin", MINE),
            (b"access-control-request-method", b"POST"),
            (b"access-control-request-headers", b"Content-Type, idempotency-key,"),
        ],
        method="OPTIONS",
    )
    assert asks_first(request) == (b"POST", frozenset((b"content-type", b"idempotency-key")))
    found = own.preflight(request, b"POST", b"content-type")
    assert dict(found) == {
        b"access-control-allow-origin": MINE,
        b"access-control-allow-credentials": b"true",
        b"access-control-allow-methods": b"POST",
        b"access-control-allow-headers": b"content-type",
        b"access-control-max-age": b"7200",
        b"vary": b"access-control-request-method, access-control-request-headers",
    }
    assert (b"vary", b"origin") in found


@pytest.mark.parametrize(
    "request_",
    [
        head([(b"origin", MINE)], method="OPTIONS"),
        head([(b"access-control-request-method", b"POST")], method="OPTIONS"),
        head([(b"origin", MINE), (b"access-control-request-method", b"POST")]),
    ],
    ids=["no-method", "no-origin", "get"],
)
def test_no_preflight(request_: Any) -> None:
    """An OPTIONS that is no browser's question is nobody's preflight."""
    assert asks_first(request_) is None


def test_merged() -> None:
    """What the application says counts, but for Vary, which adds up: caches tell origins apart."""
    own = [(b"cache-control", b"max-age=9"), (b"vary", b"cookie"), (b"x", b"1")]
    ours = (FRESH, (b"vary", b"origin"))
    assert merged(own, ours) == [(b"vary", b"origin"), *own]
    assert merged([], ours) == list(ours)
