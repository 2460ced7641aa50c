"""Headers of mail, whatever they look like."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import compat32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.plugins.email.headers import bytes_as_text, decode, read

PLAIN = (
    b"Received: from a by b;\r\n\tThu, 26 Nov 2026 10:00:00 +0000\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?b?IGF1cw==?= Wien\r\n"
    b"message-ID:\t<1@example.org> (a comment)\r\n\r\nbody\r\n"
)


def test_fields() -> None:
    """Fields are in order, names in lower case, folded values on one line, the body left alone."""
    head = read(PLAIN)
    assert head.fields == [
        ("received", "from a by b; Thu, 26 Nov 2026 10:00:00 +0000"),
        ("subject", "Grüße aus Wien"),
        ("message-id", "<1@example.org> (a comment)"),
    ]
    assert PLAIN[head.length :] == b"body\r\n"
    assert (head.subject, head.message_id, head.hops) == ("Grüße aus Wien", "<1@example.org>", 1)


@pytest.mark.parametrize(
    ("content", "fields", "body"),
    [
        (b"", [], b""),
        (b"\r\n", [], b""),
        (b"\r\nSubject: x\r\n", [], b"Subject: x\r\n"),
        (b"just text\r\nmore\r\n", [], b"just text\r\nmore\r\n"),
        (b"A: 1\r\nno field\r\nB: 2\r\n\r\n", [("a", "1")], b"no field\r\nB: 2\r\n\r\n"),
        (b"From joe Thu Nov 26\r\nA: 1\r\n\r\nx", [("a", "1")], b"x"),
        (b" folded first\r\nA: 1\r\n\r\n", [("a", "1")], b""),
        (b"A:2\r\nA:\r\nA : 1\r\n\r\n", [("a", "2"), ("a", "")], b"A : 1\r\n\r\n"),
        (b"A: 1", [("a", "1")], b""),
        (b"A: 1\r\n \r\nB: 2\r\n\r\n", [("a", "1"), ("b", "2")], b""),
        (b"\xe4: 1\r\n\r\n", [], b"\xe4: 1\r\n\r\n"),
        (b": 1\r\n 2\r\nA: 1\r\n\r\n", [("a", "1")], b""),
    ],
)
def test_odd_headers(content: bytes, fields: list[tuple[str, str]], body: bytes) -> None:
    """No header, no body, a line that is no field: what is a field is found, the rest is body."""
    head = read(content)
    assert head.fields == fields
    assert content[head.length :] == body


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b" caf\xc3\xa9", "café"),
        (b" caf\xe9", "café"),
        (b"=?iso-8859-1?Q?caf=E9?=", "café"),
        (b"=?iso-8859-1*fr?Q?caf=E9?=", "café"),
        (b"=?x-unknown?Q?caf=E9?=", "=?x-unknown?Q?caf=E9?="),
        (b"=?utf-8?B?Y2Fmw6k?=", "café"),
        (b"=?utf-8?B?Y?=", "=?utf-8?B?Y?="),
        (b"=?utf-8?Q?a=0D=0ABcc:_x@y?=", "a Bcc: x@y"),
        (b"=?utf-8?Q?a=00b?=", "a b"),
        (b"=?utf-7?Q?+2AA-?=", "?"),
        (b"=?idna?Q?xn--a?=", "=?idna?Q?xn--a?="),
        (b"=?rot13?Q?nop?=", "=?rot13?Q?nop?="),
        (b"=?utf-8?Q?a?= b =?utf-8?Q?c?=", "a b c"),
        (b"=?utf-8?Q?=C3?=", "\ufffd"),
        (b"a\x00b\x1b[1m", "a b [1m"),
        (b"a\ttab", "a\ttab"),
    ],
)
def test_values(value: bytes, text: str) -> None:
    """Encoded words, 8-bit, unknown character sets, hidden line breaks: a value is one clean line."""
    assert decode(value) == text


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (b"<a@b>", "<a@b>"),
        (b"a@b", "<a@b>"),
        (b"", None),
        (b"<>", None),
        (b"(c) <x@y> <z@y>", "<x@y>"),
    ],
)
def test_message_id(field: bytes, found: str | None) -> None:
    """A Message-ID has its angle brackets, whether the mail gives it them or not."""
    assert read(b"Message-ID: " + field + b"\r\n\r\n").message_id == found


_PIECES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"\r\n", b"=?utf-8?q?", b"=?utf-16?b?", b"?=", b"Subject: ", b" ", b":", b"\x00"]
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_PIECES, max_size=20).map(b"".join))
def test_anything(content: bytes) -> None:
    """Whatever a header holds, it is read, without line breaks, and fits a message."""
    head = read(content)
    msgspec.msgpack.encode(head.fields)
    assert 0 <= head.length <= len(content)
    assert not any("\n" in value or "\r" in value or "\0" in value for _, value in head.fields)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"A", b": ", b":", b" ", b"x", b"\r\n", b"\xe4", b"From ", b"\t", b"B: 1\r\n"]
        ),
        max_size=25,
    ).map(b"".join)
)
def test_as_the_standard_library(content: bytes) -> None:
    """The standard library, by which workers read a mail, finds the same fields in it."""
    there = message_from_bytes(content, policy=compat32)
    assert [name for name, _ in read(content).fields] == [name.lower() for name in there]


def test_character_sets() -> None:
    """Text of a character set that is not what it says is read all the same."""
    assert bytes_as_text(b"\xff", "us-ascii") == "ÿ"
    assert bytes_as_text(b"\xff\xfe", "utf-8") == "\ufffd\ufffd"
    assert bytes_as_text(b"a", "no such thing") == "a"
