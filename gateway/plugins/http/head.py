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
from typing import Final, NoReturn
from urllib.parse import unquote_to_bytes

import httptools

from gateway.core.plugin import Peer
from gateway.core.web import Head, Header
from gateway.plugins.http import authority
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.refusals import Refused

HANDSHAKE: Final = b"\x16"
"""The first byte of TLS (RFC 8446 section 5.1), and of no request."""
CHUNKED: Final = -1
"""`RequestHead.length` of a body in chunks."""

METHODS: Final = frozenset(
    b"ACL BIND CHECKOUT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL "
    b"MOVE NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH "
    b"SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE".split()
)
"""Methods that reach the application: those that llhttp knows, less CONNECT and TRACE."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 3986 2: no "#", and no "\" in the path, which browsers read as "/". Other characters that
# no URI may have are let through: real clients send them.
_VISIBLE = rb"[!-\"$->@-\[\]-~]++(?:\?[!-\"$-~]*+)?+"
_BLOCK = re.compile(
    rb"(?:\r\n)?"  # RFC 9112 2.2: an empty line before the request line is to be ignored
    rb"(" + _TOKEN + rb") (" + _VISIBLE + rb") HTTP/1\.([0-9])\r\n"
    rb"((?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+)\r\n"
).fullmatch
_NAME = re.compile(_TOKEN).fullmatch
valid_target = re.compile(_VISIBLE).fullmatch
"""Matches a target of characters that one may have."""
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
_NUMBER = re.compile(rb"[0-9]+").fullmatch
_TRAILING = re.compile(rb"(?<![\t ])[\t ]++\r\n").sub
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_ABSOLUTE = re.compile(rb"([Hh][Tt]{2}[Pp][Ss]?)://([^/?]*)(/[^?]*)?(?:\?(.*))?").fullmatch

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
        "_small",
        "size",
    )

    def __init__(self, config: HttpConfig, peer: Peer) -> None:
        self._config = config
        self._peer = peer
        self._small = min(config.request_line, config.header_bytes)
        """Bytes up to which a head is within every limit on bytes."""
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
        if match is None or end > self._small:
            (self._lines or _Lines(self._config)).check(block)
        self._lines = None
        if match is None:
            raise Refused("request-line")
        if match[1] not in METHODS:
            _Lines(self._config).check(block)
            refuse_method(match[1])
        minor = match[3]
        if minor > b"1":
            # RFC 9110 2.5: a higher minor version SHOULD be read as the highest known one.
            block = block.replace(b" HTTP/1.%b\r\n" % minor, b" HTTP/1.1\r\n", 1)
        if b" \r\n" in block or (b"\t" in block and b"\t\r\n" in block):  # one byte is found faster
            # The whitespace after a value is no part of it (RFC 9112 5.1), but llhttp leaves it.
            block = _TRAILING(b"\r\n", block)
        headers: list[Header] = []
        self._headers = headers
        self._framing = []
        try:
            self._parser.feed_data(block)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError:
            headers = self._again(block, match)
        if len(headers) > self._config.header_count:
            raise Refused("header-count")
        head = self._head(match, headers)
        if head.length:
            self._parser = httptools.HttpRequestParser(self)
        return head

    def _again(self, block: bytes, match: re.Match[bytes]) -> list[Header]:
        """Have a fresh parser read what the one in use refused. Raises `Refused`.

        llhttp reads no more behind a request that it takes for the connection's last, by
        Proxy-Connection too, which says nothing. That is not its business.
        """
        headers: list[Header] = []
        self._headers = headers
        self._framing = []
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(block)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError as error:
            self._refuse(block, match, error)
        return headers

    def _refuse(self, block: bytes, match: re.Match[bytes], error: Exception) -> None:
        """Say what llhttp refused in a block that fits the grammar. Always raises `Refused`."""
        _Lines(self._config).check(block)
        if isinstance(error, httptools.HttpParserInvalidMethodError):  # of a later llhttp
            refuse_method(match[1])
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
        head.http_version = "1.0" if minor == b"0" else "1.1"
        head.client = peer.client
        head.server = peer.server
        head.identity = peer.identity
        head.scheme = "https" if peer.tls else "http"
        head.root_path = self._config.root_path
        head.protocol = ""
        host = self._frame(head)
        if target[0] == 0x2F:
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
                if not authority.valid(value):
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


def refuse_method(method: bytes) -> NoReturn:
    """Say what is wrong with a method that is not one of `METHODS`. Always raises `Refused`."""
    names = {b"CONNECT": "connect", b"TRACE": "trace"}
    raise Refused(names.get(method, "method-unknown"))


def set_path(head: RequestHead, raw_path: bytes) -> None:
    """Set the path as it came, and decoded. Raises `Refused`."""
    head.raw_path = raw_path
    if b"%" in raw_path:
        if b"%00" in raw_path:
            # RFC 3986 7.3: to be refused unless raw data is expected, and a path is none.
            raise Refused("target-nul")
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
    if head.target == b"*" and head.method == "OPTIONS":
        return head.target, b""
    match = _ABSOLUTE(head.target)
    if match is None:
        raise Refused("target")
    scheme, place, path, query = match.groups()
    if b"@" in place:
        raise Refused("target-userinfo")
    if not authority.valid(place):
        raise Refused("target")
    if scheme.lower().decode() != head.scheme:
        raise Refused("target-scheme")
    if host is None:  # in HTTP/1.0; RFC 9112 3.2.2: the host is the target's
        head.headers.append((b"host", place))
    elif not authority.same(host, place, head.scheme):
        # RFC 9112 3.2: a client sends the same in both; taking either would be a guess.
        raise Refused("target-host")
    return path or b"/", query or b""


_GLIMPSE = re.compile(
    rb"(?:\r\n)?(" + _TOKEN + rb") (?:(/[!-~]*))?(?:[^\n]* HTTP/(1\.[01])\r\n)?"
).match


def glimpse(data: bytes, config: HttpConfig) -> Head | None:
    """Return what can be said of a request that was refused; None if that is nothing.

    For the access log. Of a target that is no path nothing is said: it may hold a password.
    The version is "" unless the request line is complete, so that whoever goes by it finds the
    same however the data is cut.
    """
    found = _GLIMPSE(data, 0, min(config.request_line + 2, config.header_bytes))
    if found is None:
        return None
    head = Head()
    head.method = found[1].decode()
    head.raw_path = (found[2] or b"").partition(b"?")[0]
    head.http_version = (found[3] or b"").decode()
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
        if data[:1] == HANDSHAKE:
            raise Refused("tls")
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
    if valid_target(parts[1]) is None:
        raise Refused("target")
    if not parts[2].startswith(b"HTTP/1."):
        raise Refused("version")


def _check_header_line(line: bytes) -> None:
    if line[:1] in {b" ", b"\t"}:
        raise Refused("obs-fold")
    name, colon, _ = line.partition(b":")
    if not colon:
        raise Refused("header-line")
    if _NAME(name) is None:
        raise Refused("space-before-colon" if _NAME(name.rstrip(b" \t")) else "header-name")
