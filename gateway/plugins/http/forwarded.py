"""What trusted proxies say of a request: its client, scheme, host and prefix. Pure.

Two ways to say it, of which a site's proxies use one (``http.proxy_header``)::

    Forwarded: for="[2001:db8::7]:4711";proto=https;host=shop.example, for=10.0.0.2
    X-Forwarded-For: 2001:db8::7, 10.0.0.2        X-Forwarded-Proto: https
    X-Forwarded-Host: shop.example                X-Forwarded-Prefix: /shop

Each proxy appends whom it was called by, and what a client sends itself stands on the left.
So both are read from the right, one address after the other while it is a trusted proxy's;
the first that is not, or the last of all, is the client. What lies further left nobody
vouches for.

* **An address that cannot be read, is hidden or ``unknown`` means that the client is not
  known**: ``client`` is None. It is not the proxy's address then, which an application may
  trust more than a stranger's.
* A scheme, host or prefix that cannot be read is left out: what the connection says stays.
* Of ``X-Forwarded-Proto``, ``-Host`` and ``-Prefix``, which no document defines, the last
  value counts: it is what the nearest proxy wrote.

What remains in ``headers`` is believed: of peers that are not trusted none of `NAMES`, of
trusted ones `READ` only as far as it was used, less what lies further left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.core.networks import Networks, plain
from gateway.core.web import Head, Header
from gateway.plugins.http import authority
from gateway.plugins.http.config import HttpConfig

READ: Final = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-prefix",
)
"""Headers that are read here."""
NAMES: Final = frozenset(
    (
        *READ,
        b"x-forwarded-access-token",
        b"x-forwarded-by",
        b"x-forwarded-client-cert",
        b"x-forwarded-email",
        b"x-forwarded-groups",
        b"x-forwarded-port",
        b"x-forwarded-preferred-username",
        b"x-forwarded-protocol",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-ssl",
        b"x-forwarded-user",
        b"x-real-ip",
    )
)
"""Headers that only a proxy may set: those that are read here, and others that applications
believe."""

_PART: Final = {
    b"x-forwarded-for": "for",
    b"x-forwarded-proto": "proto",
    b"x-forwarded-host": "host",
    b"x-forwarded-prefix": "prefix",
}
_HOPS: Final = 32
"""Proxies that one request passes at most: more is a loop, or somebody who wastes our time."""
_SCHEMES: Final = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_PAIR = rb"(?:" + _TOKEN + rb"=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?+"
# RFC 7239 4, but for whitespace around the semicolon, which some proxies write.
_ELEMENT = re.compile(
    rb"[\t ]*+" + _PAIR + rb"(?:[\t ]*+;[\t ]*+" + _PAIR + rb")*+[\t ]*+"
).fullmatch
_PAIRS = re.compile(rb"(" + _TOKEN + rb")=(" + _TOKEN + rb"|" + _QUOTED + rb")").findall
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
# RFC 7239 6: node; and as X-Forwarded-For has it, IPv6 without brackets. nginx writes "unix:".
_NODE = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:([0-9]{1,5})|_[0-9A-Za-z._-]+))?"
).fullmatch
_BARE = re.compile(rb"[0-9A-Fa-f:.]+(?:%[0-9A-Za-z._-]+)?").fullmatch
_UNIX: Final = b"unix:"
_PATH = re.compile(rb"(?:[0-9A-Za-z._~!$&'()*+;=:@/-]|%[0-9A-Fa-f]{2})*").fullmatch

Client = tuple[str, int] | None


class UnreadableError(ValueError):
    """A value that is not what it should be."""


class Forwarding:
    """What is believed of what proxies say, by the settings ``http.trusted_proxies`` and kin.

    ``garbled`` is called for each request in which a trusted proxy said something that cannot
    be read. Raises ConfigError for a proxy that is none.
    """

    __slots__ = ("_active", "_garbled", "_parts", "_standard", "_trusted")

    def __init__(self, config: HttpConfig, garbled: Callable[[], None]) -> None:
        self._trusted = Networks(config.trusted_proxies, "http.trusted_proxies")
        self._active = bool(self._trusted)
        self._standard = config.proxy_header == "forwarded"
        self._parts = frozenset(config.proxy_parts)
        self._garbled = garbled

    def apply(self, head: Head) -> None:
        """Set what proxies say of the request, whose ``client`` is the connection's peer.

        Sets ``client``, ``scheme``, ``root_path`` and the header ``host``; takes away the
        headers that are not to be believed. Never raises. Does nothing where no proxy is
        trusted.
        """
        if not self._active:
            return
        for name, _ in head.headers:
            if name in NAMES:
                break
        else:
            return
        client = head.client
        if (None if client is None else client[0]) not in self._trusted:
            head.headers = [header for header in head.headers if header[0] not in NAMES]
        elif not (self._read_standard(head) if self._standard else self._read_common(head)):
            self._garbled()

    # ------------------------------------------------ RFC 7239

    def _read_standard(self, head: Head) -> bool:
        """Believe ``Forwarded``; return whether all of it could be read."""
        lines = [value for name, value in head.headers if name == b"forwarded"]
        head.headers = [header for header in head.headers if header[0] not in READ]
        said: dict[bytes, bytes] = {}
        vouched: list[bytes] = []
        whole = True
        try:
            for hop, element in enumerate(_elements(lines)):
                said = _parameters(element)
                vouched.append(element)
                node = said.get(b"for")
                if "for" not in self._parts or node is None:
                    break
                if hop == _HOPS:
                    raise UnreadableError
                head.client = client = _node(node)
                if client is None or client[0] not in self._trusted:
                    break
        except UnreadableError:
            whole = False
            said = {}
            if "for" in self._parts:
                head.client = None
        if vouched:
            head.headers.append((b"forwarded", b", ".join(reversed(vouched))))
        if "proto" in self._parts and b"proto" in said:
            whole &= _set_scheme(head, said[b"proto"])
        if "host" in self._parts and b"host" in said:
            whole &= _set_host(head, said[b"host"])
        return whole

    # ------------------------------------------------ X-Forwarded-*

    def _read_common(self, head: Head) -> bool:
        """Believe ``X-Forwarded-*``; return whether all of it could be read."""
        last: dict[str, bytes] = {}
        chain: list[bytes] = []
        kept: list[Header] = []
        for header in head.headers:
            name, value = header
            if name not in READ:
                kept.append(header)
            elif (part := _PART.get(name)) in self._parts:
                if part == "for":
                    chain.append(value)
                elif part is not None:
                    last[part] = value.rpartition(b",")[2].strip(b" \t")
                    kept.append(header)
        head.headers = kept
        whole = not chain or self._read_chain(head, b",".join(chain))
        if "proto" in last:
            whole &= _set_scheme(head, last["proto"])
        if "host" in last:
            whole &= _set_host(head, last["host"])
        if "prefix" in last:
            whole &= _set_prefix(head, last["prefix"])
        return whole

    def _read_chain(self, head: Head, chain: bytes) -> bool:
        nodes = [node.strip(b" \t") for node in chain.rsplit(b",", _HOPS)]
        vouched: list[bytes] = []
        whole = True
        for node in reversed(nodes):
            vouched.append(node)
            try:
                client = None if node == _UNIX else _address(node)
            except UnreadableError:
                head.client = None
                whole = node.lower() == b"unknown"
                break
            head.client = client
            if (None if client is None else client[0]) not in self._trusted:
                break
        head.headers.append((b"x-forwarded-for", b", ".join(reversed(vouched))))
        return whole


def _elements(lines: list[bytes]) -> Iterator[bytes]:
    """Iterate over the elements of ``Forwarded``, the last first.

    An element is the shortest piece that is well-formed and follows a comma. So whatever a
    client has sent before it, an open quotation mark too, cannot swallow what a proxy
    appended. Raises `UnreadableError` at what belongs to no element.
    """
    for line in reversed(lines):
        end = comma = len(line)
        while comma >= 0:
            comma = line.rfind(b",", 0, comma)
            piece = line[comma + 1 : end]
            if _ELEMENT(piece) is not None:
                end = comma
                if piece.strip(b" \t"):  # RFC 9110 5.6.1.2: empty elements are to be ignored
                    yield piece.strip(b" \t")
        if end > 0:
            raise UnreadableError


def _parameters(element: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in _PAIRS(element):
        key = name.lower()
        if key in found:  # RFC 7239 4: "MUST NOT occur more than once per field-value"
            raise UnreadableError
        found[key] = _ESCAPED.sub(rb"\1", value[1:-1]) if value[:1] == b'"' else value
    return found


def _node(node: bytes) -> Client:
    """Return the address of a node of RFC 7239 6; None where it is not disclosed."""
    if node.lower() == b"unknown" or re.fullmatch(rb"_[0-9A-Za-z._-]+", node):
        return None
    return _address(node, bare=False)


def _address(node: bytes, *, bare: bool = True) -> Client:
    """Return host and port (0 where there is none), the host as the system would spell it."""
    match = _NODE(node)
    if match is not None:
        host, port = match[1] or match[2], int(match[3] or 0)
    elif bare and _BARE(node) is not None:
        host, port = node, 0
    else:
        raise UnreadableError
    try:
        address = plain(host.decode())
    except ValueError:
        raise UnreadableError from None
    if port > 65535 or (match is not None and (match[1] is not None) is not (b":" in host)):
        raise UnreadableError
    return str(address), port


def _set_scheme(head: Head, proto: bytes) -> bool:
    scheme = _SCHEMES.get(proto.lower())  # RFC 3986 3.1: schemes are case-insensitive
    if scheme is None:
        return False
    head.scheme = scheme
    return True


def _set_host(head: Head, host: bytes) -> bool:
    if not authority.valid(host):
        return False
    head.headers = [header for header in head.headers if header[0] != b"host"]
    head.headers.append((b"host", host))
    return True


def _set_prefix(head: Head, prefix: bytes) -> bool:
    """Set ``root_path``; not to what a browser would take for another host or directory."""
    path = prefix.removesuffix(b"/")
    try:
        text = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return False
    first, *segments = text.split("/")
    if first or _PATH(path) is None or not {"", ".", ".."}.isdisjoint(segments):
        return False
    if not text.isprintable():
        return False
    head.root_path = text
    return True
