"""The PROXY protocol's header: what is read, what is refused, and how much of it is taken."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.proxy import MAX_BLOCK, MAX_LINE, Header, ProxyError, crc32c

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT, SERVER = ("192.0.2.1", 56324), ("198.51.100.1", 443)
SIX_CLIENT, SIX_SERVER = ("2001:db8::1", 1), ("2001:db8::2", 65535)
HELLO = b"\x16\x03\x01 what follows \r\n\r\n"


def block(family=0x11, rest=b"", *, command=1, version=2, length=None):
    size = len(rest) if length is None else length
    return SIGNATURE + bytes([version << 4 | command, family]) + size.to_bytes(2, "big") + rest


def packed(client, server):
    family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
    return (
        socket.inet_pton(family, client[0])
        + socket.inet_pton(family, server[0])
        + client[1].to_bytes(2, "big")
        + server[1].to_bytes(2, "big")
    )


def value(kind, content):
    return bytes([kind]) + len(content).to_bytes(2, "big") + content


def summed(rest, offset):
    """A block over IPv4 whose checksum stands ``offset`` bytes into ``rest``."""
    whole = block(0x11, rest)
    number = crc32c(whole).to_bytes(4, "big")
    return whole[: 16 + offset] + number + whole[20 + offset :]


FULL = b":".join([b"ffff"] * 8)
FOUR = packed(CLIENT, SERVER)
CHECKED = summed(FOUR + value(3, bytes(4)) + value(0xE0, b"more"), len(FOUR) + 3)
HEADERS = {
    "line, TCP4": (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", (CLIENT, SERVER)),
    "line, TCP6": (b"PROXY TCP6 2001:db8::1 2001:DB8:0::2 1 65535\r\n", (SIX_CLIENT, SIX_SERVER)),
    "line, unknown": (b"PROXY UNKNOWN\r\n", None),
    "line, unknown, with more": (b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n", None),
    "line, the longest": (b"PROXY UNKNOWN %b %b 65535 65535\r\n" % (FULL, FULL), None),
    "block, IPv4": (block(0x11, FOUR), (CLIENT, SERVER)),
    "block, IPv4 over UDP": (block(0x12, FOUR), (CLIENT, SERVER)),
    "block, IPv6": (block(0x21, packed(SIX_CLIENT, SIX_SERVER)), (SIX_CLIENT, SIX_SERVER)),
    "block, Unix": (block(0x31, bytes(216)), (None, None)),
    "block, local": (block(0x00, command=0), None),
    "block, local with addresses": (block(0x11, FOUR, command=0), None),
    "block, local of no known family": (block(0x99, b"any", command=0), None),
    "block, unspecified": (block(0x00, b"anything at all"), None),
    "block, with values": (
        block(0x11, FOUR + value(2, b"example.org") + value(4, b"") + value(0x20, bytes(300))),
        (CLIENT, SERVER),
    ),
    "block, with a checksum": (CHECKED, (CLIENT, SERVER)),
    "block, the longest": (
        block(0x11, FOUR + value(4, bytes(MAX_BLOCK - len(FOUR) - 3))),
        (CLIENT, SERVER),
    ),
}

REFUSED = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no PROXY header"),
    "tls": (HELLO, "no PROXY header"),
    "almost a line": (b"PROXIES", "no PROXY header"),
    "lower case": (b"proxy TCP4 ", "no PROXY header"),
    "almost a signature": (b"\r\n\r\n\0\r\nQUIT\r", "no PROXY header"),
    "two spaces": (b"PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n", "malformed PROXY line"),
    "no ports": (b"PROXY TCP4 192.0.2.1 198.51.100.1\r\n", "malformed PROXY line"),
    "too many words": (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n", "malformed PROXY line"),
    "UDP4": (b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n", "malformed PROXY line"),
    "UNKNOWNX": (b"PROXY UNKNOWNX\r\n", "malformed PROXY line"),
    "four is six": (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "malformed address"),
    "six is four": (b"PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n", "malformed address"),
    "no address": (b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n", "malformed address"),
    "port 65536": (b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n", "malformed port"),
    "port 080": (b"PROXY TCP4 192.0.2.1 198.51.100.1 080 2\r\n", "malformed port"),
    "port of many digits": (b"PROXY TCP4 192.0.2.1 198.51.100.1 000001 2\r\n", "malformed port"),
    "LF alone": (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n" + b"x" * 80, "over 107 bytes"),
    "a line of 108": (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "over 107 bytes"),
    "version 1 as a block": (block(0x11, FOUR, version=1), "version 1 of"),
    "version 3": (block(0x11, FOUR, version=3), "version 3 of"),
    "command 2": (block(0x11, FOUR, command=2), "command 2 of"),
    "family 4": (block(0x41, FOUR), "family 0x41 of"),
    "IPv4 without a transport": (block(0x10, FOUR), "family 0x10 of"),
    "addresses cut off": (block(0x11, FOUR[:-1]), "shorter than its addresses"),
    "Unix addresses cut off": (block(0x31, bytes(215)), "shorter than its addresses"),
    "a value's head cut off": (block(0x11, FOUR + b"\x04\0"), "ends within a value"),
    "a value cut off": (block(0x11, FOUR + b"\x04\0\x02x"), "ends within a value"),
    "wrong checksum": (
        CHECKED[:-1] + bytes([CHECKED[-1] ^ 1]),
        "checksum is wrong",
    ),
    "short checksum": (block(0x11, FOUR + value(3, bytes(3))), "checksum is not 4 bytes"),
    "too long": (block(0x11, length=MAX_BLOCK + 1), f"over {MAX_BLOCK} bytes"),
}


def read(pieces):
    """Read a header from a socket's bytes that come in pieces; return it and what is left."""
    header = Header()
    waiting = b""
    for piece in pieces:
        waiting += piece
        if not header.complete:
            waiting = waiting[header.feed(waiting) :]
    return header, waiting


def said(header):
    assert header.complete
    return None if header.own else (header.client, header.server)


def test_the_longest_line():
    """The longest line that the specification gives an example of has just the bytes allowed."""
    assert len(HEADERS["line, the longest"][0]) == MAX_LINE


@pytest.mark.parametrize("name", HEADERS)
def test_read(name):
    """A header says who the client is, or that the connection's own addresses count."""
    data, expected = HEADERS[name]
    header, rest = read([data + HELLO])
    assert (said(header), rest) == (expected, HELLO)


@pytest.mark.parametrize("name", HEADERS)
def test_byte_by_byte(name):
    """Nothing is complete before its last byte, and no byte behind it is touched."""
    data, expected = HEADERS[name]
    header = Header()
    for number in range(len(data)):
        assert not header.complete
        assert header.feed(data[number : number + 1]) == 1
    assert said(header) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    """What is no header, or a malformed one, is refused with its reason, however it is cut."""
    data, reason = REFUSED[name]
    with pytest.raises(ProxyError, match=reason):
        read([data])
    with pytest.raises(ProxyError, match=reason):
        read([data[number : number + 1] for number in range(len(data))])


@given(st.sampled_from(sorted(HEADERS)), st.data())
def test_any_cutting(name, data):
    """However the bytes are cut, the header says the same, and the rest is left as it was."""
    whole = HEADERS[name][0] + HELLO
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    header, rest = read(pieces)
    assert (said(header), rest) == (HEADERS[name][1], HELLO)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE]))
def test_any_bytes(tail, head):
    """Whatever comes, it is read within its bounds or refused; nothing else is raised."""
    header = Header()
    try:
        taken = header.feed(head + tail)
    except ProxyError:
        return
    assert 0 <= taken <= len(head + tail)
    assert header.complete or taken == len(head + tail)


@given(st.ip_addresses(), st.integers(0, 65535), st.ip_addresses(v=4), st.integers(0, 65535))
def test_both_versions_say_the_same(address, port, other, other_port):
    """A client's address reads the same in both versions, in its shortest form."""
    if address.version == 6:
        other = f"2001:db8::{other_port:x}"
    client, server = (str(address), port), (str(other), other_port)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    server = (socket.inet_ntop(family, socket.inet_pton(family, server[0])), other_port)
    line = f"PROXY TCP{address.version} {address} {other} {port} {other_port}\r\n".encode()
    first, _ = read([line])
    second, _ = read([block(0x11 if address.version == 4 else 0x21, packed(client, server))])
    assert said(first) == said(second)
    assert first.client[1] == port


def test_checksum():
    """The checksum is CRC-32C: RFC 3720 appendix B.4 gives these."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283
