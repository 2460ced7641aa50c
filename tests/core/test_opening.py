"""What is answered where a connection was asked for and there is none."""

from __future__ import annotations

import pytest

from gateway.core.errors import LocalProtocolError
from gateway.core.layers.base import ACCEPTED, FAILED, REJECTED, RELEASED, UNROUTED, Outcome
from gateway.core.metrics import Drop
from gateway.core.opening import (
    answer,
    checked_headers,
    last_event_id,
    refusal,
    undecided,
    unreached,
)
from gateway.core.plugin import Refusal
from tests.core.asked import Asked, head


@pytest.mark.parametrize(
    "item",
    [
        (b"x-a", b"1\r\nx-b: 2"),
        (b"x-a", b"1\n"),
        (b"x-a", b"nul\x00"),
        (b"x a", b"1"),
        (b"", b"1"),
        (b"x-a:", b"1"),
        (b"Connection", b"close"),
        (b"Upgrade", b"x"),
        (b"Content-Length", b"3"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Sec-WebSocket-Accept", b"x"),
        (b"Content-Type", b"text/plain"),
    ],
)
def test_headers_that_cannot_be_sent(item: tuple[bytes, bytes]) -> None:
    """A header that would break the response, or is the gateway's own, is an invalid reply."""
    with pytest.raises(LocalProtocolError):
        checked_headers([item], frozenset((b"content-type",)), b"sec-websocket-")


def test_headers_that_can() -> None:
    """Names become lower-case, values lose the space around them and nothing else."""
    given = [(b"X-A", b" a\tb\xff "), (b"Sec-WebSocket-Accept", b"x")]
    expected = [(b"x-a", b"a\tb\xff"), (b"sec-websocket-accept", b"x")]
    assert checked_headers(given) == expected


def test_outcomes() -> None:
    """Each outcome of a connect has its status; a code that is none of HTTP's is counted."""
    drops: list[Drop] = []

    def status(kind: str, code: int | None = None) -> int:
        found = undecided(Outcome(kind, code), drops.append)
        assert found is not None
        return found.status

    assert undecided(Outcome(ACCEPTED), drops.append) is None
    assert [status(kind) for kind in (REJECTED, UNROUTED, RELEASED, FAILED)] == [403, 404, 503, 500]
    assert (status(REJECTED, 429), drops) == (429, [])
    assert (status(REJECTED, 4001), drops) == (403, [Drop.FOREIGN_CODE])


@pytest.mark.parametrize("why", list(Refusal))
def test_unreached(why: Refusal) -> None:
    """Whatever never reached a consumer is refused in words, and a 503 says when to come back."""
    found = unreached(why)
    assert found.status in {503, 431, 500}
    assert len(found.content) > 10
    assert (found.status == 503) is any(name == b"retry-after" for name, _ in found.headers)


def test_own_headers_go_before() -> None:
    """A refusal's own headers take the place of those that such answers have."""
    names = [name for name, _ in refusal(403, "no", [(b"content-type", b"text/html")]).headers]
    assert names.count(b"content-type") == 1


def test_what_cannot_be_sent_is_a_500() -> None:
    """A refusal whose headers cannot be sent is answered with 500, and why is told."""
    asked = Asked(unsendable=b"bad")
    assert isinstance(answer(asked, refusal(403, "no", [(b"bad", b"x")])), LocalProtocolError)
    assert (asked.status, asked.ended) == (500, True)
    asked = Asked()
    assert answer(asked, refusal(403, "no")) is None
    assert (asked.status, asked.content, asked.ended) == (403, b"no\n", True)


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ([], b"", None),
        ([], b"last_event_id=1-2f", "1-2f"),
        ([], b"a=b&last_event_id=1-2f&last_event_id=no", "1-2f"),
        ([], b"last_event_id=", ""),
        ([], b"last_event_id", ""),
        ([], b"last_event_id=%C3%A9+%ff", "\u00e9 \ufffd"),
        ([], b"last_event_id=\xc3\xa9\xff", "\u00e9\ufffd"),
        ([], b"my_last_event_id=1", None),
        ([], b"a=last_event_id", None),
        ([(b"last-event-id", b"\xc3\xa9")], b"last_event_id=no", "\u00e9"),
        ([(b"last-event-id", b"")], b"last_event_id=no", ""),
    ],
)
def test_last_event_id(
    headers: list[tuple[bytes, bytes]], query: bytes, expected: str | None
) -> None:
    """What a client has had last stands in the header, else in the query, else nowhere."""
    assert last_event_id(head(headers, query=query)) == expected
