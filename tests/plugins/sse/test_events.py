"""Events as bytes: read back by a reader that is written from the standard alone."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import LocalProtocolError
from gateway.plugins.sse import events
from tests.plugins.sse.reader import Event, Reader

SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""What `str.splitlines` takes for an end of line, and the standard does not."""

characters = st.one_of(
    st.characters(exclude_categories=["Cs"]), st.sampled_from("\r\n: \0\ufeff" + SEPARATORS)
)
texts = st.text(characters, max_size=40)
lines = texts.map(lambda text: re.sub(r"[\r\n\0]", "", text))


def lf(text: str) -> str:
    """Return a text as a page gets it: the standard knows one end of line."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.lists(texts, min_size=1, max_size=4))
def test_any_text(said: list[str]) -> None:
    """Whatever the text, a reader gets it, but for its ends of lines, which become LF."""
    stream = events.COMMENT + b"".join(events.encoded({"text": text}) for text in said)
    assert Reader().read(stream) == [Event("message", lf(text), "") for text in said]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "text": texts,
            "event": lines,
            "id": lines,
            "retry": st.integers(0, 2**53),
            "comment": texts,
        },
    ).filter(lambda reply: "event" not in reply or "text" in reply)
)
def test_any_fields(reply: dict[str, object]) -> None:
    """Each field comes back as it was meant, and what has no text is no event."""
    reader = Reader()
    reader.read(events.COMMENT + events.encoded(reply))
    assert reader.retry == reply.get("retry")
    assert reader.last_event_id == reply.get("id", "")
    comment = reply.get("comment")
    told = [] if comment is None else [f" {line}" for line in lf(str(comment)).split("\n")]
    assert reader.comments == ["", *told]
    expected = []
    if "text" in reply:
        name = str(reply.get("event", "")) or "message"
        expected = [Event(name, lf(str(reply["text"])), str(reply.get("id", "")))]
    assert reader.events == expected


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    """Bytes travel in base64, as an event of that name or of the one that the reply names."""
    encoded = base64.b64encode(data).decode()
    assert Reader().read(events.encoded({"bytes": data})) == [Event("bytes", encoded, "")]
    named = events.encoded({"bytes": data, "event": "image"})
    assert Reader().read(named) == [Event("image", encoded, "")]


@pytest.mark.parametrize(
    ("text", "stream"),
    [
        ("", b"data: \n\n"),
        ("hello", b"data: hello\n\n"),
        ("  two spaces", b"data:   two spaces\n\n"),
        ("a\r\nb\rc\nd", b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        ("\n", b"data: \ndata: \n\n"),
        ("a\r\r\nb", b"data: a\ndata: \ndata: b\n\n"),
        ("a\u2028b\x85c\x0bd\x0ce", "data: a\u2028b\x85c\x0bd\x0ce\n\n".encode()),
        (":colon", b"data: :colon\n\n"),
        ("nul\0", b"data: nul\0\n\n"),
    ],
)
def test_bytes_on_the_wire(text: str, stream: bytes) -> None:
    """What the standard's examples look like."""
    assert events.encoded({"text": text}) == stream


def test_order_of_fields() -> None:
    """Comments first, data last, one empty line."""
    reply = {"text": "t", "event": "e", "id": "i", "retry": 5, "comment": "c"}
    assert events.encoded(reply) == b": c\nretry: 5\nid: i\nevent: e\ndata: t\n\n"


def test_a_position_is_no_event() -> None:
    """An id alone is remembered, and dispatched to nobody."""
    reader = Reader()
    assert reader.read(events.encoded({"id": "1-2a"})) == []
    assert reader.last_event_id == "1-2a"


def test_missed() -> None:
    """That more was missed than is kept is an event of its own."""
    assert events.encoded({"missed": True}) == b"event: missed\ndata: {}\n\n"
    assert events.encoded({"missed": False}) == b""
    for more in ({"text": ""}, {"bytes": b""}, {"event": "x"}):
        with pytest.raises(LocalProtocolError, match="missed is an event of its own"):
            events.encoded({"missed": True, **more})


@pytest.mark.parametrize("name", ["open", "close", "missed"])
def test_the_gateways_own(name: str) -> None:
    """An event of the application's cannot pass for one by which the gateway speaks to a page."""
    with pytest.raises(LocalProtocolError, match=f"the event {name} is the gateway's own"):
        events.encoded({"text": "x", "event": name})


@pytest.mark.parametrize("key", ["event", "id"])
@pytest.mark.parametrize("char", ["\r", "\n", "\0"])
def test_one_line(key: str, char: str) -> None:
    """A name or an id that would end its line, or be ignored, is refused."""
    with pytest.raises(LocalProtocolError, match=f"{key} holds CR, LF or NUL"):
        events.encoded({"text": "x", key: f"a{char}data: forged"})


@given(st.sampled_from(["event", "id"]), lines)
def test_other_separators_stay(key: str, value: str) -> None:
    """What only Unicode calls an end of line does no harm in a name or an id."""
    reader = Reader()
    (event,) = reader.read(events.encoded({"text": "x", key: value}))
    expected = value or ("message" if key == "event" else "")
    assert (event.name if key == "event" else event.last_event_id) == expected


def test_a_name_alone() -> None:
    """An event's name without data would be dropped by every reader: it is refused."""
    with pytest.raises(LocalProtocolError, match="an event needs text or bytes"):
        events.encoded({"event": "tick"})


@given(st.integers(1000, 4999), texts)
def test_closing(code: int, reason: str) -> None:
    """A close is an event whose data is JSON of one line, whatever the reason holds."""
    (event,) = Reader().read(events.closing(code, reason))
    assert event.name == "close"
    assert json.loads(event.data) == {"code": code, "reason": reason}


def test_coming_back() -> None:
    """When to come back is told in milliseconds."""
    reader = Reader()
    assert reader.read(events.coming_back(3.21)) == []
    assert reader.retry == 3210
