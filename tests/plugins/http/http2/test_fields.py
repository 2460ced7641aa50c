"""HPACK of our own against the library's: each reads what the other writes."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.plugins.http.http2.faults import Fault
from gateway.plugins.http.http2.fields import TABLE, FieldDecoder, FieldEncoder

NAMES = [b":status", b":path", b"content-type", b"x-a", b"x-b", b"set-cookie", b"etag", b"date"]
VALUES = st.one_of(
    st.sampled_from([b"", b"200", b"/", b"text/html", b"\x00\xff", b"a" * 300]),
    st.integers(0, 40).map(lambda n: b"v%d" % n),
    st.binary(max_size=40),
    st.binary(min_size=1000, max_size=5000),
)
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=12)
SIZES = st.sampled_from([0, 31, 100, 1000, 4096])
STEPS = st.lists(st.one_of(FIELDS, SIZES), max_size=30)


def unpacked(decoder: FieldDecoder, data: bytes) -> list[tuple[bytes, bytes]] | str:
    """Return the fields of a block, or the id of the fault."""
    try:
        return decoder.unpack(data)
    except Fault as fault:
        return fault.id


@settings(deadline=None)
@given(steps=STEPS)
def test_the_library_reads_what_we_write(steps):
    """Whatever fields, and whatever sizes of the table in between, they arrive as they were."""
    ours, theirs = FieldEncoder(), Decoder(1 << 20)
    for step in steps:
        if isinstance(step, int):
            ours.header_table_size = step
            theirs.max_allowed_table_size = step
            theirs.header_table_size = min(theirs.header_table_size, step)
        else:
            assert [(*field,) for field in theirs.decode(ours.encode(step), raw=True)] == step
    assert ours.header_table_size <= TABLE


@settings(deadline=None)
@given(steps=STEPS, huffman=st.booleans())
def test_we_read_what_the_library_writes(steps, huffman):
    """The same in the other direction, in Huffman's code or not."""
    ours, theirs = FieldDecoder(1 << 20), Encoder()
    for step in steps:
        if isinstance(step, int):
            if step != theirs.header_table_size:  # else it forgets a change that it has not told
                theirs.header_table_size = step
        else:
            assert ours.unpack(theirs.encode(step, huffman=huffman)) == step


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_block_or_a_fault(data):
    """What cannot be unpacked is a fault of the client, and never anything else."""
    fields = unpacked(FieldDecoder(1000), data)
    if isinstance(fields, list):
        assert [(*field,) for field in Decoder(1000).decode(data, raw=True)] == fields
    else:
        assert fields in {"compression", "header-block-size"}


@settings(deadline=None)
@given(fields=FIELDS, cut=st.integers(1, 20))
def test_half_a_block(fields, cut):
    """A block without its end is fewer fields, or a fault."""
    found = unpacked(FieldDecoder(1 << 20), Encoder().encode(fields)[:-cut])
    assert found in (fields[: len(found)], "compression")


def test_a_bomb():
    """A few bytes that unpack to more than is served are a fault, long before they are unpacked."""
    ours = FieldDecoder(65536)
    bomb = b"\x40\x01a\x7f\x81\x1e" + b"x" * 4000 + b"\xbe" * 100_000
    with pytest.raises(Fault, match="far larger"):
        ours.unpack(bomb)


def test_a_table_without_bound():
    """A client that allows a table of 4 GiB does not make us keep one."""
    ours = FieldEncoder()
    ours.header_table_size = 2**32 - 1
    for number in range(1000):
        ours.encode([(b"x-request-id", b"%d" % number)])
    assert 80 < len(ours._table) <= TABLE // 45
    assert ours._room >= 0


def test_what_is_not_remembered():
    """A cookie is never kept on the way; a length, and what is larger than half, just not here."""
    ours = FieldEncoder()
    assert ours.encode([(b"set-cookie", b"a=b")])[:1] == b"\x1f"  # 0001, and more of the index
    assert ours.encode([(b"content-length", b"5")])[:1] == b"\x0f"
    assert ours.encode([(b"x-large", b"x" * 3000)])[:1] == b"\x00"
    assert not ours._table
    assert ours.encode([(b":status", b"200")]) == b"\x88"
    first = ours.encode([(b"x-a", b"b")])
    assert first == b"\x40\x03x-a\x01b"
    assert ours.encode([(b"x-a", b"b")]) == b"\xbe"
