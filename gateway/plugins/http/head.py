"""Bytes in, validated request heads out. Pure.

::

    method SP target SP HTTP/1.x CRLF
    *( name ":" OWS value OWS CRLF )
    CRLF

A head is read twice. One compiled expression demands RFC 9112's grammar of the whole block,
to the letter; what passes goes to llhttp, which takes it apart and applies its own rules. So
nothing is accepted that one of them refuses. A block that does not pass is looked at line by
line, to say what is wrong with it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

import httptools

from gateway.core.plugin import Peer
from gateway.core.web import Head, Header
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.refusals import Refused

CHUNKED: Final = -1
"""`RequestHead.length` of a body in chunks."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_BLOCK = re.compile(
    rb"(?:\r\n)?"  # RFC 9112 2.2: an empty line before the request line is to be ignored
    rb"(" + _TOKEN + rb") ([!-\"$-~]++) HTTP/1\.([01])\r\n"
    rb"((?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
).fullmatch
_NAME = re.compile(_TOKEN).fullmatch
_TARGET = re.compile(rb"[!-\"$-~]+").fullmatch
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
_NUMBER = re.compile(rb"[0-9]+").fullmatch
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*)(/[^?]*)?(?:\?(.*))?").fullmatch
_HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|\[v[0-9A-Fa-f]+\.[0-9A-Za-z._~!$&'()*+,;=:-]+\]"
    rb"|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"
).fullmatch

_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"))


class RequestHead(Head):
    """A head, with what the gateway alone needs of it."""

    __slots__ = ("expects_continue", "keep_alive", "length")

    length: int
    """Bytes of the body: 0 none, `CHUNKED` unknown."""
    keep_alive: bool
    """Whether the client can reuse the connection (RFC 9112 9.3)."""
    expects_continue: bool
    """Whether the client waits for 100 before it sends the body."""


class HeadReader:
    """Reads the heads of one connection."""

    __slots__ = (
        "_config",
        "_framing",
        "_headers",
        "_lines",
        "_parser",
        "_peer",
        "_scanned",
        "size",
    )

    def __init__(self, config: HttpConfig, peer: Peer) -> None:
        self._config = config
        self._peer = peer
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[Header] = []
        self._framing: list[Header] = []
        self._lines: _Lines | None = None
        self._scanned = 0
        self.size = 0
        """Bytes of the head that `read` returned last."""

    def release(self) -> None:
        """Let go of the parser, which points back here. Read no more afterwards."""
        del self._parser

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header from llhttp."""
        name = name.lower()
        header = (name, value)
        self._headers.append(header)
        if name in _FRAMING:
            self._framing.append(header)

    def read(self, data: bytes) -> RequestHead | None:
        """Return the head at the beginning of ``data``, None while it is not complete.

        Call it again with more behind the same data. Raises `Refused`, for the first thing
        that is wrong, however the data is cut.
        """
        end = data.find(b"\r\n\r\n", self._scanned)
        if end < 0:
            self._scanned = max(0, len(data) - 3)
            if self._lines is None:
                self._lines = _Lines(self._config)
            self._lines.check(data)
            return None
        self._scanned = 0
        self.size = end = end + 4
        block = data if end == len(data) else data[:end]
        match = _BLOCK(block)
        if match is None or end > self._config.request_line:
            (self._lines or _Lines(self._config)).check(block)
        self._lines = None
        if match is None:
            raise Refused("request-line")
        headers: list[Header] = []
        self._headers = headers
        self._framing = []
        try:
            self._parser.feed_data(block)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError as error:
            self._refuse(block, match, error)
        if b" \r\n" in block or b"\t\r\n" in block:
            # llhttp leaves the whitespace after a value; it is no part of it (RFC 9112 5.1).
            headers = [(name, value.rstrip(b" \t")) for name, value in headers]
            self._framing = [item for item in headers if item[0] in _FRAMING]
        if len(headers) > self._config.header_count:
            raise Refused("header-count")
        head = self._head(match, headers)
        if head.length:
            self._parser = httptools.HttpRequestParser(self)
        return head

    def _refuse(self, block: bytes, match: re.Match[bytes], error: Exception) -> None:
        """Say what llhttp refused in a block that fits the grammar. Always raises `Refused`."""
        _Lines(self._config).check(block)
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            raise Refused("method-unknown")
        pairs = [line.partition(b":") for line in match[4].split(b"\r\n")[:-1]]
        headers = [(name.lower(), value.strip(b" \t")) for name, _, value in pairs]
        self._framing = [item for item in headers if item[0] in _FRAMING]
        self._head(match, headers)
        raise Refused("request-line")

    def _head(self, match: re.Match[bytes], headers: list[Header]) -> RequestHead:
        """Return the head; raises `Refused` where its parts do not go together."""
        method, target, minor, _ = match.groups()
        peer = self._peer
        head = RequestHead()
        head.method = method.decode()
        head.target = target
        head.headers = headers
        head.http_version = "1.1" if minor == b"1" else "1.0"
        head.client = peer.client
        head.server = peer.server
        head.scheme = "https" if peer.tls else "http"
        head.root_path = self._config.root_path
        head.protocol = ""
        host = self._frame(head)
        if target[0] == 0x2F and head.method != "CONNECT":
            raw_path, _, head.query_string = target.partition(b"?")
        else:
            raw_path, head.query_string = _other_target(head, host)
        set_path(head, raw_path)
        return head

    def _frame(self, head: RequestHead) -> bytes | None:
        """Set what the framing headers say, return Host. Raises `Refused`."""
        modern = head.http_version == "1.1"
        host: bytes | None = None
        length: bytes | None = None
        codings: list[bytes] | None = None
        options: list[bytes] = []
        head.expects_continue = False
        for name, value in self._framing:
            if name == b"host":
                if host is not None:
                    raise Refused("host-double")
                host = value
                if not valid_host(value):
                    raise Refused("host")
            elif name == b"connection":
                options += _elements(value)
            elif name == b"content-length":
                # RFC 9110 8.6: the same value twice is refused or collapsed; refused here.
                if length is not None or b"," in value:
                    raise Refused("content-length-repeated")
                length = value
            elif name == b"transfer-encoding":
                codings = (codings or []) + _elements(value)
            elif modern:  # RFC 9110 10.1.1: an expectation in HTTP/1.0 is ignored
                if value.lower() != b"100-continue":
                    raise Refused("expect")
                head.expects_continue = True
        if host is None and modern:
            raise Refused("host-missing")
        head.keep_alive = b"close" not in options and (modern or b"keep-alive" in options)
        head.length = 0
        if codings is not None:
            if length is not None:
                raise Refused("content-length-and-transfer-encoding")
            _check_codings(codings, modern)
            head.length = CHUNKED
        elif length is not None:
            head.length = read_length(length, self._config.max_body)
        return host


def set_path(head: RequestHead, raw_path: bytes) -> None:
    """Set the path as it came, and decoded."""
    head.raw_path = raw_path
    if b"%" in raw_path:
        head.path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
    else:
        head.path = raw_path.decode("ascii")


def read_length(value: bytes, most: int) -> int:
    """Return what a Content-Length says (RFC 9110 8.6). Raises `Refused`."""
    if _NUMBER(value) is None:
        raise Refused("content-length")
    # 18 digits are far beyond any limit, and int() of thousands would be slow.
    if len(value) > 18 or int(value) > most:
        raise Refused("body-size")
    return int(value)


@lru_cache(maxsize=1024)
def valid_host(value: bytes) -> bool:
    """Return whether a value is what Host may be (RFC 9110 7.2)."""
    return _HOST(value) is not None


def _elements(value: bytes) -> list[bytes]:
    return [element.strip(b" \t") for element in value.lower().split(b",")]


def _check_codings(codings: list[bytes], modern: bool) -> None:
    if not modern:
        raise Refused("transfer-encoding-1.0")
    if codings[-1] != b"chunked":
        # RFC 9112 6.3: where chunked is not last, the server MUST answer 400 and close.
        raise Refused("transfer-encoding-not-chunked")
    if codings.count(b"chunked") > 1:
        raise Refused("transfer-encoding-chunked-twice")
    if len(codings) > 1:
        # RFC 9112 6.1: a coding that is not understood SHOULD be answered 501.
        raise Refused("transfer-encoding-unknown")


def _other_target(head: RequestHead, host: bytes | None) -> tuple[bytes, bytes]:
    """Return path and query of a target that is not a path (RFC 9112 3.2.2 to 3.2.4)."""
    if head.method == "CONNECT":
        raise Refused("connect")
    if head.target == b"*" and head.method == "OPTIONS":
        return head.target, b""
    match = _ABSOLUTE(head.target)
    if match is None:
        raise Refused("target")
    authority, path, query = match.groups()
    if b"@" in authority:
        raise Refused("target-userinfo")
    if not valid_host(authority):
        raise Refused("target")
    # RFC 9112 3.2.2: a client sends the same in both; taking either would be a guess.
    if host is not None and host.lower() != authority.lower():
        raise Refused("target-host")
    return path or b"/", query or b""


_GLIMPSE = re.compile(rb"(?:\r?\n)?(" + _TOKEN + rb") (?:(/[!-~]*))?").match
_GLIMPSE_VERSION = re.compile(rb"[^\n]* HTTP/(1\.[01])\r?\n").match


def glimpse(data: bytes) -> Head | None:
    """Return what can be said of a request that was refused; None if that is nothing.

    For the access log, and to leave out the content of an answer to HEAD. Of a target that is
    no path nothing is said: it may hold a password.
    """
    found = _GLIMPSE(data)
    if found is None:
        return None
    version = _GLIMPSE_VERSION(data, found.start(1))
    head = Head()
    head.method = found[1].decode()
    head.raw_path = (found[2] or b"").partition(b"?")[0]
    head.http_version = version[1].decode() if version else ""
    head.headers = []
    return head


class _Lines:
    """Looks at the lines of a head in order, each once, as they come."""

    __slots__ = ("_config", "_count", "_first", "_leading", "_start")

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._start = 0
        self._count = 0
        self._first = True
        self._leading = 0

    def check(self, data: bytes) -> None:
        """Raise `Refused` for the first wrong line of ``data``, which grows call by call."""
        while True:
            end = data.find(b"\n", self._start)
            stop = len(data) if end < 0 else end + 1
            if self._first and stop - self._start > self._config.request_line + 2:
                raise Refused("request-line-size")
            if stop > self._config.header_bytes:
                raise Refused("header-size")
            if end < 0:
                return
            line = data[self._start : end]
            self._start = stop
            _check_line(line)
            line = line[:-1]
            if self._first:
                self._request_line(line)
            elif not line:
                return
            else:
                self._count += 1
                if self._count > self._config.header_count:
                    raise Refused("header-count")
                _check_header_line(line)

    def _request_line(self, line: bytes) -> None:
        if line:
            self._first = False
            _check_request_line(line)
        elif self._leading:
            raise Refused("empty-lines")
        else:
            self._leading = 1


def _check_line(line: bytes) -> None:
    if not line.endswith(b"\r"):
        raise Refused("bare-cr" if b"\r" in line else "bare-lf")
    found = _CONTROL(line, 0, len(line) - 1)
    if found is not None:
        raise Refused({b"\r": "bare-cr", b"\0": "nul"}.get(found[0], "control-character"))


def _check_request_line(line: bytes) -> None:
    if line[:1] in {b" ", b"\t"}:
        raise Refused("leading-whitespace")
    parts = line.split(b" ")
    if _NAME(parts[0]) is None:
        raise Refused("method")
    if len(parts) == 2 and parts[1]:
        raise Refused("http-0.9")
    if len(parts) != 3 or _VERSION(parts[2]) is None:
        raise Refused("request-line")
    if _TARGET(parts[1]) is None:
        raise Refused("target")
    if parts[2] not in {b"HTTP/1.1", b"HTTP/1.0"}:
        raise Refused("version")


def _check_header_line(line: bytes) -> None:
    if line[:1] in {b" ", b"\t"}:
        raise Refused("obs-fold")
    name, colon, _ = line.partition(b":")
    if not colon:
        raise Refused("header-line")
    if _NAME(name) is None:
        raise Refused("space-before-colon" if _NAME(name.rstrip(b" \t")) else "header-name")
