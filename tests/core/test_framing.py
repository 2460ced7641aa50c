"""Sessions of lines and of packets, however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import RemoteProtocolError
from gateway.core.plugin import Close, LengthSession, LineSession, Write


class Lines(LineSession):
    max_line = 8

    def line(self, line):
        if line == b"quit":
            return [Write(b"bye"), Close()]
        return [Write(line)]

    def too_long(self):
        return [Write("too long")]

    def send(self, conversation, reply, token):
        return ()


class Packets(LengthSession):
    header = 2
    max_packet = 8

    def packet(self, packet):
        return [Write(packet)] if packet != b"quit" else [Close()]

    def too_long(self, length):
        return [Write(length)]

    def send(self, conversation, reply, token):
        return ()


def run(session, pieces):
    """What comes out; a connection gives a session that has closed nothing more."""
    found = []
    for piece in pieces:
        for action in session.received(piece):
            if isinstance(action, Close):
                return found
            found.append(action.output)
    return found


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(
    st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"12345678", b"quit", b"\0"])),
    st.lists(st.integers(min_value=0)),
)
def test_lines_however_cut(parts, places):
    """Any cutting of the bytes gives the same lines and the same refusals."""
    data = b"".join(parts)
    whole = run(Lines(), [data])
    assert run(Lines(), cut(data, places)) == whole
    assert run(Lines(), [data[i : i + 1] for i in range(len(data))]) == whole


@given(
    st.lists(st.sampled_from([b"\0\x01a", b"\0\0", b"\0\x08", b"\0\x09", b"\x01", b"\0\x04quit"])),
    st.lists(st.integers(min_value=0)),
)
def test_packets_however_cut(parts, places):
    """Any cutting of the bytes gives the same packets and the same refusals."""
    data = b"".join(parts)
    whole = run(Packets(), [data])
    assert run(Packets(), cut(data, places)) == whole
    assert run(Packets(), [data[i : i + 1] for i in range(len(data))]) == whole


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a\nb\r\nc", [b"a", b"b"]),
        (b"\n\r\n", [b"", b""]),
        (b"a\rb\n", [b"a\rb"]),
        (b"a\r\r\n", [b"a\r"]),
        (b"12345678\r\n", [b"12345678"]),
        (b"123456789\nx\n", ["too long", b"x"]),
        (b"1234567890123456789012\nx\n", ["too long", b"x"]),
        (b"12345678\r", []),
        (b"123456789", ["too long"]),
        (b"quit\nmore\n", [b"bye"]),
    ],
)
def test_lines(data, lines):
    """Lines end in LF or CRLF; one over the bound is refused once and skipped."""
    assert run(Lines(), [data]) == lines


def test_packets():
    """A packet follows its length; one over the bound is refused once and skipped."""
    session = Packets()
    data = session.pack(b"a") + b"\0\x0a0123456789" + session.pack(b"") + session.pack(b"b")
    assert run(Packets(), [data]) == [b"a", 10, b"", b"b"]


def test_little_endian_packets():
    """The length may be little-endian, and of any size."""

    class Little(Packets):
        header = 3
        byteorder = "little"

    assert run(Little(), [b"\x01\0\0x"]) == [b"x"]
    assert Little().pack(b"ab") == b"\x02\0\0ab"


def test_what_is_kept_is_bounded():
    """A peer that never ends its line costs no memory."""
    session = Lines()
    for _ in range(100):
        run(session, [b"x" * 100])
    assert len(session._tail) <= Lines.max_line + 1


@pytest.mark.parametrize("session_class", [LineSession, LengthSession])
def test_default_refusal(session_class):
    """Without words of its own a protocol closes upon what is too long."""

    class Plain(session_class):
        max_line = 4
        max_packet = 4

        def line(self, line):
            return ()

        packet = line

        def send(self, conversation, reply, token):
            return ()

    with pytest.raises(RemoteProtocolError, match="over 4"):
        list(Plain().received(b"\0\0\0\x05aaaaaaa"))
