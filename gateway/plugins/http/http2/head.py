"""Header fields of an HTTP/2 request to a `RequestHead`. Pure.

The library takes the compression apart and no more; what a request may consist of is checked
here, so that a malformed one costs its stream, not the connection that others use too
(RFC 9113 section 8.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from gateway.core.plugin import Peer
from gateway.core.web import Head, Header
from gateway.plugins.http import authority as authorities
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.head import (
    CHUNKED,
    METHODS,
    RequestHead,
    read_length,
    refuse_method,
    set_path,
    valid_target,
)
from gateway.plugins.http.http2.fields import ENTRY
from gateway.plugins.http.refusals import Refused
from gateway.plugins.http.response import FIELD_BYTES

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
_SPECIAL: Final = frozenset((b"cookie", b"host", b"content-length", b"expect"))
_SHORT: Final = 256
"""Bytes of a value that may be kept, so that all of them need no more than 2 MB."""
_SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization"))
# RFC 9113 section 8.2.2: what says something of a connection has no place here.
_CONNECTION: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)


def read_head(
    fields: Iterable[Header], config: HttpConfig, peer: Peer, *, ended: bool
) -> RequestHead:
    """Return the head of a request; ``ended`` says that no body follows.

    Raises `Refused` for the first thing that is wrong.
    """
    pseudo: dict[bytes, bytes] = {}
    headers: list[Header] = []
    cookies: list[bytes] = []
    host: bytes | None = None
    length: bytes | None = None
    expects = False
    size = 0
    for field in fields:
        name, value = field
        size += len(name) + len(value) + ENTRY
        if name[:1] == b":":
            if headers or cookies:
                raise Refused("pseudo-header-late")
            if name not in _PSEUDO:
                raise Refused("pseudo-header")
            if name in pseudo:
                raise Refused("pseudo-header-repeated")
            pseudo[name] = value
            continue
        if len(value) > _SHORT or name in _SECRET:
            _check(name, value)
        else:
            _check_once(name, value)
        if name not in _SPECIAL:
            headers.append(field)
            continue
        if name == b"cookie":
            # RFC 9113 section 8.2.3: the pieces of a Cookie are put together again.
            cookies.append(value)
            continue
        if name == b"host":
            if host is not None:
                raise Refused("host-double")
            host = value
        elif name == b"content-length":
            if length is not None:
                raise Refused("content-length-repeated")
            length = value
        else:
            if value.lower() != b"100-continue":
                raise Refused("expect")
            expects = True
        headers.append(field)
    if size > config.header_bytes:
        raise Refused("header-size")
    if len(headers) + len(cookies) > config.header_count:
        raise Refused("header-count")
    if cookies:
        headers.append((b"cookie", b"; ".join(cookies)))
    head = RequestHead()
    head.http_version = "2"
    head.headers = headers
    # What carries the request decides, not what it says of itself (:scheme).
    head.scheme = "https" if peer.tls else "http"
    head.identity = peer.identity
    head.client = peer.client
    head.server = peer.server
    head.root_path = config.root_path
    head.keep_alive = True
    head.expects_continue = expects and not ended
    _set_request(head, pseudo, config)
    _set_host(head, pseudo.get(b":authority"), host)
    if head.protocol:
        head.length = 0  # RFC 8441 section 5: what follows are not the bytes of a request
    elif length is None:
        head.length = 0 if ended else CHUNKED
    else:
        head.length = read_length(length, config.max_body)
        # RFC 9113 section 8.1.1: the lengths of the DATA frames add up to Content-Length.
        if ended and head.length:
            raise Refused("body-length")
        if not ended and not head.length:
            head.length = CHUNKED  # an empty DATA frame is to come
    return head


def glimpse(fields: Iterable[Header]) -> Head:
    """Return what can be said of a request that was refused; see the one of HTTP/1."""
    pseudo = {name: value for name, value in fields if name in {b":method", b":path"}}
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    head = Head()
    head.method = method.decode() if _METHOD(method) else ""
    head.raw_path = target.partition(b"?")[0] if target[:1] == b"/" else b""
    head.http_version = "2"
    head.headers = []
    return head


def check_trailers(fields: Iterable[Header]) -> None:
    """Raise `Refused` where trailers are malformed; what they say is not passed on."""
    for name, value in fields:
        if name[:1] == b":":
            raise Refused("pseudo-header-late")  # RFC 9113 section 8.1
        _check(name, value)


def _check(name: bytes, value: bytes) -> None:
    if _NAME(name) is None:
        raise Refused("header-case" if _METHOD(name) else "header-name")
    # RFC 9113 section 8.2.1, and RFC 9110 section 5.5 for the other control characters.
    if value.translate(None, FIELD_BYTES) or value.strip(b" \t") != value:
        raise Refused("header-value")
    if name in _CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise Refused("connection-header")


_check_once = lru_cache(maxsize=4096)(_check)
"""Most fields are the same in each request of a client, and of many: these are checked once."""


def _set_request(head: RequestHead, pseudo: dict[bytes, bytes], config: HttpConfig) -> None:
    """Set method, protocol and target."""
    method = pseudo.get(b":method")
    scheme = pseudo.get(b":scheme")
    target = pseudo.get(b":path")
    protocol = pseudo.get(b":protocol")
    if method is None:
        raise Refused("pseudo-header-missing")
    if _METHOD(method) is None:
        raise Refused("method")
    head.method = method.decode()
    head.protocol = ""
    if protocol is not None:
        # RFC 8441 section 4: only with CONNECT, which then has scheme and path as any request.
        if method != b"CONNECT":
            raise Refused("pseudo-header")
        head.protocol = protocol.decode("latin-1").lower()
    elif method == b"CONNECT" and not (scheme is None and target is None):
        raise Refused("pseudo-header")  # RFC 9113 section 8.5: they "MUST be omitted"
    elif method not in METHODS:
        refuse_method(method)
    if scheme is None or target is None:
        raise Refused("pseudo-header-missing")
    if scheme.lower() not in {b"http", b"https"}:
        raise Refused("scheme")
    if len(target) > config.request_line:
        raise Refused("request-line-size")
    if valid_target(target) is None or not (
        target[:1] == b"/" or (target == b"*" and method == b"OPTIONS")
    ):
        raise Refused("target")  # RFC 9113 section 8.3.1
    head.target = target
    raw_path, _, head.query_string = target.partition(b"?")
    set_path(head, raw_path)


def _set_host(head: RequestHead, authority: bytes | None, host: bytes | None) -> None:
    """Let Host say what :authority says (RFC 9113 section 8.3.1)."""
    if authority is None:
        if host is None:
            raise Refused("host-missing")
        if not authorities.valid(host):
            raise Refused("host")
        return
    if not authorities.valid(authority):
        raise Refused("host")
    if host is None:
        head.headers.insert(0, (b"host", authority))
    elif not authorities.same(host, authority, head.scheme):
        raise Refused("target-host")
