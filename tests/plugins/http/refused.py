"""Every input that http refuses: (refusal, case, bytes). Makes docs/reference/http-refusals.md.

Run as ``python -m tests.plugins.http.refused`` it writes that page.
"""

from __future__ import annotations

from pathlib import Path

from gateway.plugins.http.http2.faults import FAULTS
from gateway.plugins.http.refusals import RULES
from tests.plugins.http.http2 import cases as faulty
from tests.plugins.http.http2 import refused as http2

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "http-refusals.md"

HOST = b"Host: localhost\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def _get(*lines: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + b"".join(lines) + b"\r\n"


def _post(*lines: bytes) -> bytes:
    return _get(*lines, line=b"POST / HTTP/1.1") + b"0\r\n\r\n"


CASES: list[tuple[str, str, bytes]] = [
    ("bare-lf", "after the request line", b"GET / HTTP/1.1\nHost: localhost\r\n\r\n"),
    ("bare-lf", "after a header", _get(b"A: b\nC: d\r\n")),
    ("bare-lf", "everywhere", b"GET / HTTP/1.1\nHost: localhost\n\n"),
    ("bare-lf", "before an empty line", _get(b"A: b\n")),
    ("bare-lf", "as an empty line first", b"\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("bare-lf", "after a chunk size", CHUNKED + b"5\nhello\r\n0\r\n\r\n"),
    ("bare-lf", "in a chunk extension", CHUNKED + b"5;a=b\nhello\r\n0\r\n\r\n"),
    ("bare-lf", "after the last chunk", CHUNKED + b"0\n\n"),
    ("bare-lf", "in a trailer", CHUNKED + b"0\r\nA: b\n\r\n"),
    ("bare-cr", "in the target", _get(line=b"GET /a\rb HTTP/1.1")),
    ("bare-cr", "in a value", _get(b"A: b\rc\r\n")),
    ("bare-cr", "before the colon", _get(b"A\r: b\r\n")),
    ("bare-cr", "doubled", _get(b"A: b\r\r\n")),
    ("bare-cr", "instead of a line's end", _get(b"A: b\rTransfer-Encoding: chunked\r\n")),
    ("bare-cr", "before a line feed alone", _get(b"A: b\rc\nD: e\r\n")),
    ("bare-cr", "in a chunk extension", CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("nul", "in the target", _get(line=b"GET /\0 HTTP/1.1")),
    ("nul", "in a name", _get(b"A\0: b\r\n")),
    ("nul", "in a value", _get(b"A: b\0c\r\n")),
    ("nul", "before the method", b"\0" + _get()),
    ("control-character", "in a value", _get(b"A: b\x0bc\r\n")),
    ("control-character", "in a coding", _post(b"Transfer-Encoding: \x0bchunked\r\n")),
    ("control-character", "DEL in a value", _get(b"A: \x7f\r\n")),
    ("control-character", "ESC in the target", _get(line=b"GET /\x1b HTTP/1.1")),
    ("leading-whitespace", "space", b" " + _get()),
    ("leading-whitespace", "tab", b"\t" + _get()),
    ("leading-whitespace", "a line of spaces", b"  \r\n" + _get()),
    ("empty-lines", "two", b"\r\n\r\n" + _get()),
    ("empty-lines", "three", b"\r\n\r\n\r\n" + _get()),
    ("request-line", "two spaces", _get(line=b"GET  / HTTP/1.1")),
    ("request-line", "space at the end", _get(line=b"GET / HTTP/1.1 ")),
    ("request-line", "tabs", _get(line=b"GET /\tHTTP/1.1 x")),
    ("request-line", "a fourth word", _get(line=b"GET / x HTTP/1.1")),
    ("request-line", "another protocol", _get(line=b"GET / ICY/1.1")),
    ("request-line", "lower-case version", _get(line=b"GET / http/1.1")),
    ("request-line", "version of one digit", _get(line=b"GET / HTTP/1")),
    ("request-line", "version of two digits", _get(line=b"GET / HTTP/1.10")),
    ("request-line", "signed version", _get(line=b"GET / HTTP/+1.1")),
    ("request-line", "method alone", _get(line=b"GET")),
    ("request-line", "nothing but method and space", _get(line=b"GET ")),
    ("http-0.9", "no version", b"GET /\r\n"),
    ("http-0.9", "no version, headers", _get(line=b"GET /")),
    ("method", "in brackets", _get(line=b"(GET) / HTTP/1.1")),
    ("method", "with a colon", _get(line=b"GET: / HTTP/1.1")),
    ("method", "not ASCII", _get(line=b"G\xc3\x89T / HTTP/1.1")),
    ("control-character", "a TLS hello", b"\x16\x03\x01\x02\r\n"),
    ("method-unknown", "a token", _get(line=b"BREW / HTTP/1.1")),
    ("method-unknown", "lower-case", _get(line=b"get / HTTP/1.1")),
    ("connect", "host and port", _get(line=b"CONNECT localhost:443 HTTP/1.1")),
    ("connect", "a path", _get(line=b"CONNECT / HTTP/1.1")),
    ("version", "0.9", _get(line=b"GET / HTTP/0.9")),
    ("version", "1.2", _get(line=b"GET / HTTP/1.2")),
    ("version", "2.0", _get(line=b"GET / HTTP/2.0")),
    ("version", "3.0", _get(line=b"GET / HTTP/3.0")),
    ("target", "no slash", _get(line=b"GET index.html HTTP/1.1")),
    ("target", "a fragment", _get(line=b"GET /#a HTTP/1.1")),
    ("target", "not ASCII", _get(line="GET /é HTTP/1.1".encode())),
    ("target", "an asterisk without OPTIONS", _get(line=b"GET * HTTP/1.1")),
    ("target", "host and port without CONNECT", _get(line=b"GET localhost:80 HTTP/1.1")),
    ("target", "another scheme", _get(line=b"GET ftp://localhost/ HTTP/1.1")),
    ("target", "a URL without host", _get(line=b"GET http:///a HTTP/1.1")),
    ("target", "a backslash first", _get(line=b"GET \\a HTTP/1.1")),
    ("target", "a tab", _get(line=b"GET /a\tb HTTP/1.1")),
    ("target-userinfo", "user", _get(line=b"GET http://me@localhost/ HTTP/1.1")),
    ("target-host", "another", _get(line=b"GET http://other/ HTTP/1.1")),
    ("target-host", "another port", _get(line=b"GET http://localhost:81/ HTTP/1.1")),
    ("request-line-size", "in one piece", _get(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1")),
    ("request-line-size", "without an end", b"GET /" + b"a" * 9000),
    ("request-line-size", "a method without an end", b"A" * 9000),
    ("header-line", "no colon", _get(b"Accept\r\n")),
    ("header-line", "a second request line", _get(b"GET /secret HTTP/1.1\r\n")),
    ("header-name", "empty", _get(b": a\r\n")),
    ("header-name", "space inside", _get(b"A B: c\r\n")),
    ("header-name", "not ASCII", _get(b"\xc3\x84: b\r\n")),
    ("header-name", "in brackets", _get(b"[A]: b\r\n")),
    ("space-before-colon", "space", _get(b"A : b\r\n")),
    ("space-before-colon", "tab", _get(b"A\t: b\r\n")),
    ("space-before-colon", "of a length", _post(b"Content-Length : 5\r\n")),
    ("space-before-colon", "of a coding", _post(b"Transfer-Encoding : chunked\r\n")),
    ("obs-fold", "space", _get(b"A: b\r\n c\r\n")),
    ("obs-fold", "tab", _get(b"A: b\r\n\tc\r\n")),
    ("obs-fold", "of a coding", _post(b"Transfer-Encoding:\r\n chunked\r\n")),
    ("obs-fold", "after the request line", b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n"),
    ("obs-fold", "a header that begins with space", _get(b" A: b\r\n")),
    ("obs-fold", "a line of spaces at the end", _get(b" \r\n")),
    ("header-size", "one line", _get(b"A: " + b"b" * 70_000 + b"\r\n")),
    ("header-size", "many lines", _get(*[b"A%d: %b\r\n" % (n, b"b" * 1000) for n in range(70)])),
    ("header-size", "without an end", _get()[:-2] + b"A: " + b"b" * 70_000),
    ("header-count", "101", _get(*[b"A: b\r\n"] * 100)),
    ("host-missing", "in HTTP/1.1", _get(host=b"")),
    ("host-missing", "with a URL", _get(line=b"GET http://localhost/ HTTP/1.1", host=b"")),
    ("host-double", "different", _get(b"Host: other\r\n")),
    ("host-double", "the same", _get(HOST)),
    ("host-double", "in HTTP/1.0", _get(HOST, line=b"GET / HTTP/1.0")),
    ("host", "empty", _get(host=b"Host:\r\n")),
    ("host", "a URL", _get(host=b"Host: http://localhost\r\n")),
    ("host", "a path", _get(host=b"Host: localhost/a\r\n")),
    ("host", "user information", _get(host=b"Host: me@localhost\r\n")),
    ("host", "two with a comma", _get(host=b"Host: a, b\r\n")),
    ("host", "a port of letters", _get(host=b"Host: localhost:http\r\n")),
    ("host", "two ports", _get(host=b"Host: localhost:80:80\r\n")),
    ("host", "an IPv6 address without brackets", _get(host=b"Host: ::1\r\n")),
    ("host", "not ASCII", _get(host=b"Host: \xc3\xa4\r\n")),
    ("host", "a fragment", _get(host=b"Host: a#b\r\n")),
    ("content-length", "letters", _post(b"Content-Length: five\r\n")),
    ("content-length", "negative", _post(b"Content-Length: -5\r\n")),
    ("content-length", "with a plus", _post(b"Content-Length: +5\r\n")),
    ("content-length", "hexadecimal", _post(b"Content-Length: 0x5\r\n")),
    ("content-length", "fraction", _post(b"Content-Length: 5.0\r\n")),
    ("content-length", "underscore", _post(b"Content-Length: 1_0\r\n")),
    ("content-length", "empty", _post(b"Content-Length:\r\n")),
    ("content-length", "two words", _post(b"Content-Length: 5 5\r\n")),
    ("content-length", "other digits", _post("Content-Length: \u0665\r\n".encode())),
    ("content-length-repeated", "different", _post(b"Content-Length: 5\r\nContent-Length: 6\r\n")),
    ("content-length-repeated", "the same", _post(b"Content-Length: 5\r\nContent-Length: 5\r\n")),
    ("content-length-repeated", "the same in one line", _post(b"Content-Length: 5, 5\r\n")),
    ("content-length-repeated", "different in one line", _post(b"Content-Length: 5, 6\r\n")),
    (
        "content-length-and-transfer-encoding",
        "length first",
        _post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    ),
    (
        "content-length-and-transfer-encoding",
        "coding first",
        _post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
    ),
    (
        "content-length-and-transfer-encoding",
        "length 0",
        _post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
    ),
    (
        "content-length-and-transfer-encoding",
        "an unknown coding",
        _post(b"Content-Length: 5\r\nTransfer-Encoding: x\r\n"),
    ),
    (
        "transfer-encoding-1.0",
        "chunked",
        _get(b"Transfer-Encoding: chunked\r\n", line=b"POST / HTTP/1.0"),
    ),
    ("transfer-encoding-not-chunked", "gzip", _post(b"Transfer-Encoding: gzip\r\n")),
    ("transfer-encoding-not-chunked", "identity", _post(b"Transfer-Encoding: identity\r\n")),
    (
        "transfer-encoding-not-chunked",
        "chunked first",
        _post(b"Transfer-Encoding: chunked, gzip\r\n"),
    ),
    (
        "transfer-encoding-not-chunked",
        "in two lines",
        _post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
    ),
    ("transfer-encoding-not-chunked", "misspelt", _post(b"Transfer-Encoding: xchunked\r\n")),
    ("transfer-encoding-not-chunked", "quoted", _post(b'Transfer-Encoding: "chunked"\r\n')),
    ("transfer-encoding-not-chunked", "empty", _post(b"Transfer-Encoding:\r\n")),
    (
        "transfer-encoding-not-chunked",
        "a comma at the end",
        _post(b"Transfer-Encoding: chunked,\r\n"),
    ),
    (
        "transfer-encoding-not-chunked",
        "with a parameter",
        _post(b"Transfer-Encoding: chunked;q=1\r\n"),
    ),
    (
        "transfer-encoding-chunked-twice",
        "in one line",
        _post(b"Transfer-Encoding: chunked, chunked\r\n"),
    ),
    (
        "transfer-encoding-chunked-twice",
        "in two lines",
        _post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    ),
    (
        "transfer-encoding-unknown",
        "gzip before chunked",
        _post(b"Transfer-Encoding: gzip, chunked\r\n"),
    ),
    (
        "transfer-encoding-unknown",
        "in two lines",
        _post(b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"),
    ),
    ("transfer-encoding-unknown", "an empty element", _post(b"Transfer-Encoding: , chunked\r\n")),
    ("expect", "something else", _post(b"Content-Length: 5\r\nExpect: a-miracle\r\n")),
    ("body-size", "Content-Length", _post(b"Content-Length: 1073741825\r\n")),
    (
        "body-size",
        "Content-Length of a hundred digits",
        _post(b"Content-Length: " + b"9" * 100 + b"\r\n"),
    ),
    ("body-size", "a chunk", CHUNKED + b"40000001\r\n"),
    ("chunk-size", "empty", CHUNKED + b"\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size", "negative", CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size", "with a plus", CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size", "0x", CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size", "space before", CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size", "space after", CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n"),
    ("chunk-size", "tab after", CHUNKED + b"5\t\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size", "underscore", CHUNKED + b"1_0\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size", "space before an extension", CHUNKED + b"5 ;a\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size", "letters", CHUNKED + b"five\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size", "NUL", CHUNKED + b"5\0\r\nhello\r\n0\r\n\r\n"),
    ("chunk-size-overflow", "16 digits", CHUNKED + b"f" * 16 + b"\r\n"),
    ("chunk-size-overflow", "2 to the 64th and 5", CHUNKED + b"10000000000000005\r\nhello\r\n"),
    ("chunk-size-overflow", "zeros before", CHUNKED + b"0000000000000005\r\nhello\r\n"),
    ("chunk-extension", "no name", CHUNKED + b"5;\r\nhello\r\n0\r\n\r\n"),
    ("chunk-extension", "not closed", CHUNKED + b'5;a="b\r\nhello\r\n0\r\n\r\n'),
    ("chunk-extension", "a control character", CHUNKED + b"5;a=\x01\r\nhello\r\n0\r\n\r\n"),
    ("chunk-line-size", "an endless extension", CHUNKED + b"5;a=" + b"b" * 5000),
    (
        "chunk-line-size",
        "many extensions",
        CHUNKED + b"".join(b"1;a=%b\r\nx\r\n" % (b"b" * 2000) for _ in range(9)),
    ),
    (
        "chunk-line-size",
        "many trailers",
        CHUNKED + b"0\r\n" + b"".join(b"A: %b\r\n" % (b"b" * 2000) for _ in range(9)),
    ),
    ("chunk-end", "longer than it says", CHUNKED + b"4\r\nhello\r\n0\r\n\r\n"),
    ("chunk-end", "LF alone", CHUNKED + b"5\r\nhello\n0\r\n\r\n"),
    ("chunk-end", "shorter than it says", CHUNKED + b"6\r\nhello\r\n0\r\n\r\n"),
    ("trailer", "no colon", CHUNKED + b"0\r\nA\r\n\r\n"),
    ("trailer", "space before the colon", CHUNKED + b"0\r\nA : b\r\n\r\n"),
    ("trailer", "folded", CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n"),
    ("trailer", "NUL", CHUNKED + b"0\r\nA: \0\r\n\r\n"),
    ("header-timeout", "half a request line", b"GET / HT"),
    ("header-timeout", "no empty line", _get()[:-2]),
    ("body-timeout", "nothing of a body", _get(b"Content-Length: 5\r\n", line=b"POST / HTTP/1.1")),
    ("body-timeout", "half a chunk", CHUNKED + b"5\r\nhe"),
]
"""A case's id is ``refusal: case``."""


def page() -> str:
    """Return the text of the page."""
    lines = [
        "# What HTTP refuses",
        "",
        "Input that two programs could read in two ways is refused, never guessed at: that is how",
        "requests are smuggled past a proxy. The answer's text ends with the refusal's id, and",
        "`gateway_http_refused_total{why=…}` counts it. Over HTTP/1 the connection is closed. Over",
        "HTTP/2 it is the stream that ends, with RST_STREAM and PROTOCOL_ERROR behind a 400. The",
        "application hears nothing of it, unless a body that it is reading turns out to be",
        "malformed: then it is cut off.",
        "",
        "Each case below is a test (`tests/plugins/http/test_refused.py`). The page is written by",
        "`python -m tests.plugins.http.refused`.",
        "",
        "| id | status | what is refused | rule | cases |",
        "| --- | --- | --- | --- | --- |",
    ]
    for refusal, rule in RULES.items():
        named = ((name, case) for name, case, _ in (*CASES, *http2.CASES))
        cases = "; ".join(case for name, case in named if name == refusal)
        lines.append(f"| `{refusal}` | {rule.status} | {rule.sentence} | {rule.source} | {cases} |")
    lines += [
        "",
        "## What ends streams and connections of HTTP/2",
        "",
        "Frames that are wrong end their stream (RST_STREAM) where they concern one request, and the",
        "connection (GOAWAY) where nobody knows what the client means, or it goes too far. GOAWAY",
        "carries the sentence and the id for people; `gateway_http_faults_total{why=…}` counts both.",
        "Each case is a test (`tests/plugins/http/http2/`); the number before it is the section that",
        "it is about.",
        "",
        "| id | code | what is wrong | rule | cases |",
        "| --- | --- | --- | --- | --- |",
    ]
    for fault, rule in FAULTS.items():
        found = [case.id for case in (*faulty.ENDING, *faulty.COSTING) if case.fault == fault]
        cases = "; ".join([*found, *faulty.ELSEWHERE.get(fault, ())])
        lines.append(
            f"| `{fault}` | {rule.code.name} | {rule.sentence} | {rule.source} | {cases} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
