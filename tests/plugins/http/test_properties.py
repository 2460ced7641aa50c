"""Whatever arrives: what is allowed is served, and however it is cut, it is read in one way."""

from __future__ import annotations

from random import Random
from typing import Any

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.plugins.http.refusals import RULES
from tests.plugins.http import grammar
from tests.plugins.http.driven import Driven, seen

MANY = settings(max_examples=300, deadline=None)
RANDOM = st.integers(0, 2**32).map(Random)
SMALL = {"body_inline": 16}
"""So that most bodies come in pieces."""


def shown(driven: Driven) -> list[tuple[Any, ...]]:
    """Return what the application saw, but for names that are made up."""
    keys = (
        "method",
        "path",
        "raw_path",
        "query_string",
        "headers",
        "http_version",
        "body",
        "order",
    )
    return [tuple(message[key] for key in keys) for message in driven.requests]


@MANY
@given(RANDOM, st.booleans())
def test_any_cutting_gives_the_same_messages(rng, at_once):
    """Pipelines with bodies of every kind, answered at once or late, give the same requests."""
    made = grammar.pipeline(rng, 6)
    data = b"".join(each.data for each in made)
    whole = Driven(seen, **SMALL)
    whole.feed([data])
    cut = Driven(seen, **SMALL)
    cut.feed(grammar.cuts(rng, data), at_once=at_once)
    assert shown(whole) == shown(cut)
    assert whole.transport.written == cut.transport.written
    assert whole.over is cut.over is made[-1].last
    for driven in (whole, cut):
        driven.close()


@MANY
@given(RANDOM)
def test_what_is_allowed_is_served(rng):
    """No request that the grammar of RFC 9110 and 9112 allows is refused or misread."""
    made = grammar.pipeline(rng, 6)
    driven = Driven(seen, **SMALL)
    driven.feed([b"".join(each.data for each in made)])
    found = [(m["method"].encode(), bytes(m["body"])) for m in driven.requests]
    assert found == [(each.method, each.content) for each in made]
    for message, each in zip(driven.requests, made, strict=True):
        query = b"?" + message["query_string"] if b"?" in each.target else b""
        assert each.target in {b"*", message["raw_path"] + query} or each.target.endswith(
            message["raw_path"] + query
        )
    assert [status for status, _ in answers(driven, made)] == [200] * len(made)
    driven.close()


def answers(driven: Driven, made: list[grammar.Made]) -> list[tuple[int, bytes]]:
    """Return what the client reads, by h11."""
    data = driven.transport.written
    found = []
    for each in made:
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method=each.method, target="/", headers=[("host", "x")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(data)
        status, content = 0, b""
        while not isinstance(event := reader.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                content += bytes(event.data)
            else:
                assert isinstance(event, h11.InformationalResponse), event
        found.append((status, content))
        data = reader.trailing_data[0]
    assert data == b"", "more than the answers"
    return found


def refusal(driven: Driven) -> str:
    """Return the id of the refusal with which the connection ended, "" if none did."""
    text = driven.transport.written.rpartition(b"\r\n\r\n")[2]
    found = [name for name in RULES if text.endswith(f"({name})\n".encode())]
    return found[0] if found and driven.over else ""


@settings(max_examples=600, deadline=None)
@given(RANDOM)
@example(Random(0))
def test_any_cutting_gives_the_same_refusal(rng):
    """Of whatever bytes: the same requests before it, and the same thing wrong with it."""
    data = grammar.stream(rng)
    whole = Driven(seen, http2=False)
    whole.feed([data])
    for _ in range(3):
        cut = Driven(seen, http2=False)
        cut.feed(grammar.cuts(rng, data))
        assert refusal(whole) == refusal(cut)
        assert shown(whole) == shown(cut)
        assert whole.transport.written == cut.transport.written
        cut.close()
    whole.close()
