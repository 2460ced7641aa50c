"""Text of strangers cannot forge a line."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.escape import escaped, indented, json_line

ANY = st.text(st.characters(), max_size=40)  # surrogates too
PRINTABLE = re.compile(r"[ -~]*").fullmatch


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("/a%20b?c", "/a%20b?c"),
        ('say "hi" \\ bye', r"say \"hi\" \\ bye"),
        ("a\r\n2026-01-01 forged", r"a\r\n2026-01-01 forged"),
        ("\x1b[31mred\x7f\x00\x85", r"\x1b[31mred\x7f\x00\x85"),
        ("é\u2028\u202e\U0001f600\udc80", r"\xe9\u2028\u202e\U0001f600\udc80"),
    ],
)
def test_escaped(text, safe):
    """Quotes, backslashes, control characters and what is not ASCII are written out."""
    assert escaped(text) == safe


@given(ANY)
def test_escaped_is_one_line_of_ascii_and_loses_nothing(text):
    """Whatever comes, the result is printable ASCII without a quote that ends it early."""
    safe = escaped(text)
    assert PRINTABLE(safe)
    assert not re.sub(r"\\.", "", safe).count('"')
    again = safe.replace('\\"', '"').encode().decode("unicode_escape")
    assert again == text


@given(st.dictionaries(ANY, ANY | st.integers() | st.lists(ANY, max_size=3), max_size=4))
def test_json_line_is_one_line_of_ascii(value):
    """Whatever comes, JSON is printable ASCII and means the same."""
    line = json_line(value)
    assert PRINTABLE(line.decode())
    assert json.loads(line) == value


@given(ANY)
def test_indented_lines_cannot_be_taken_for_records(text):
    """However lines are cut, only the first begins at the margin; letters stay as they are."""
    first, *others = indented(text).splitlines() or [""]
    assert all(line.startswith("  ") for line in others)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", first + "".join(others))


def test_indented_keeps_letters():
    """A message in any language reads as it was written."""
    assert indented("Zürich 東京\tok") == "Zürich 東京\tok"
    assert indented("a\n\x1b[2Jb") == "a\n  \\x1b[2Jb"
