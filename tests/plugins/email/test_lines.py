"""Commands and data, byte by byte: what is a line, what is the end, what is smuggling."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.plugins.email.server.lines import LONGEST, Content, Fault, Lines


def content(data: bytes, *, most: int = 1000, cut: int = 0) -> tuple[bytes, Content]:
    reader = Content(most)
    found = b""
    step = cut or len(data)
    for start in range(0, len(data), step):
        if reader.complete:
            reader.rest += data[start : start + step]
        else:
            found += reader.feed(data[start : start + step])
    return found, reader


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("data", "mail", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"..a\r\n...\r\n\r\n.\r\n.\r\n", b".a\r\n..\r\n\r\n", b".\r\n"),
        (b".a\r\n.\r\n", b"a\r\n", b""),
        (b"a.\r\n.b\r\n.\r\n", b"a.\r\nb\r\n", b""),
        (b"\r\n\r\n.\r\n", b"\r\n\r\n", b""),
    ],
)
def test_data(data: bytes, mail: bytes, rest: bytes, cut: int) -> None:
    """A mail ends with CR LF . CR LF, and a dot before a line's dot is taken away."""
    found, reader = content(data, cut=cut)
    assert (found, reader.rest, reader.fault) == (mail, rest, None)
    assert reader.complete
    assert not reader.ambiguous


SMUGGLED = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r.\n",
    b"\n\n.\r\n", b"\r\n\n.\r\n", b"\r\r\n.\r\n", b"\r\n.\r\r\n", b"\n\r.\r\n", b"\n.\r\r\n",
    b"\r\n\x00.\r\n", b"\r\n.\x00\r\n", b"\n..\r\n", b"\r..\r\n", b"a\rb", b"a\nb",
]  # fmt: skip
"""Every end of data that one server or another has been found to take for one, and bare breaks."""
EVIL = b"MAIL FROM:<admin@bank.example>\r\nRCPT TO:<you@example.org>\r\nDATA\r\nevil\r\n.\r\n"


@pytest.mark.parametrize("cut", [0, 1, 3, 7])
@pytest.mark.parametrize("end", SMUGGLED, ids=repr)
def test_smuggling(end: bytes, cut: int) -> None:
    """A mail with a lone CR, LF or NUL is refused, whatever stands around it and however it comes.

    What follows is never read as commands: the connection is to be ended.
    """
    _, reader = content(b"Subject: x\r\n\r\nhello" + end + EVIL, cut=cut)
    assert reader.fault in {Fault.BARE, Fault.NUL}
    assert reader.complete
    assert reader.ambiguous


def test_the_end_after_a_fault() -> None:
    """After a fault the end is found all the same, and what follows it is the client's."""
    _, reader = content(b"a" * 2000 + b"\r\n.\r\nNOOP\r\n", cut=1)
    assert (reader.fault, reader.ambiguous, reader.rest) == (Fault.LINE, False, b"NOOP\r\n")
    _, reader = content(b"a" * 2000 + b"\n.\r\nNOOP\r\n", cut=1)
    assert (reader.fault, reader.ambiguous) == (Fault.BARE, True)


@pytest.mark.parametrize("end", [b"\n.\n", b"\r.\r", b"\n.\r\n"])
def test_ambiguous(end: bytes) -> None:
    """What somebody takes for the end is noticed at once: a client that means it is not kept."""
    _, reader = content(b"a\r\nb" + end + b"x")
    assert reader.complete
    assert reader.ambiguous


@pytest.mark.parametrize("cut", [0, 1, 400])
def test_long_lines(cut: int) -> None:
    """A line has 1000 bytes with its CR LF, and the dot that the protocol adds is not counted."""
    longest = b"x" * 998 + b"\r\n"
    dotted = b"." + b"." * 998 + b"\r\n"
    found, reader = content(longest + dotted + b".\r\n", cut=cut)
    assert (found, reader.fault) == (longest + dotted[1:], None)
    for long in (b"x" * 999 + b"\r\n", b"." * 1000 + b"\r\n", b"x" * 5000, b"a\r\n" + b"y" * 5000):
        _, reader = content(long + b"\r\n.\r\n", cut=cut)
        assert reader.fault is Fault.LINE
        assert reader.complete


def test_refused_on_the_way() -> None:
    """A mail that is refused while it comes, for its size say, is read to its end."""
    for begin in (b"", b"a\r\n", b"a\r\nb"):
        reader = Content(1000)
        reader.feed(begin) if begin else None
        reader.refuse(Fault.SIZE)
        assert reader.feed(b"" if begin.endswith(b"b") else b"c") == b""
        assert not reader.complete
        reader.feed(b"\r\n.\r\nX")
        assert (reader.complete, reader.ambiguous, reader.rest) == (True, False, b"X")
    reader = Content(1000)
    reader.refuse(Fault.SIZE)
    reader.feed(b".\r\n")
    assert reader.complete


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b".", b"\r\n", b"\r", b"\n", b"\x00", b"bb"]), max_size=14).map(
        b"".join
    ),
    st.lists(st.integers(1, 20), max_size=6),
)
def test_any_cutting(data: bytes, cuts: list[int]) -> None:
    """However the bytes are cut, the mail, its faults and its end are the same."""
    data += b"\r\n.\r\nrest"
    whole, one = content(data)
    reader = Content(1000)
    found = b""
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, stop in pairwise(places):
        if reader.complete:
            reader.rest += data[start:stop]
        else:
            found += reader.feed(data[start:stop])
    assert (reader.fault is None) == (one.fault is None)
    assert (reader.complete, reader.ambiguous, reader.rest) == (True, one.ambiguous, one.rest)
    if one.fault is None:
        assert found == whole


def test_commands() -> None:
    """A command is a line that ends with CR LF; one that does not is not taken for two."""
    lines = Lines()
    lines.feed(b"EHLO a\r\nNOOP\nRSET\r\rX\r\nVRFY \x00\r\n" + b"N" * 600 + b"\r\nQU")
    assert [lines.line() for _ in range(6)] == [
        b"EHLO a", Fault.BARE, Fault.BARE, Fault.NUL, Fault.LINE, None,
    ]  # fmt: skip
    lines.feed(b"IT\r\n")
    assert lines.ready
    assert lines.line() == b"QUIT"
    assert len(lines) == 0


def test_long_commands() -> None:
    """Each command has its length; what is far too long is not kept until its end."""
    lines = Lines()
    lines.feed(b"MAIL FROM:<" + b"a" * 700 + b">\r\nAUTH PLAIN " + b"A" * 9000 + b"\r\n")
    assert isinstance(lines.line(), bytes)
    assert isinstance(lines.line(), bytes)
    for _ in range(5):
        lines.feed(b"x" * LONGEST)
        assert lines.line() is None
        assert len(lines) <= LONGEST
    lines.feed(b"\r\nNOOP\r\n")
    assert [lines.line(), lines.line()] == [Fault.LINE, b"NOOP"]
    lines.feed(b"A" * 600 + b"\r\n")
    assert lines.line(LONGEST) == b"A" * 600
