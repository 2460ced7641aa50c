"""What the gateway refuses to read, each with an id, a status and the rule behind it. Pure.

Whatever two programs on the way could read in two ways is refused rather than guessed: the
answer carries the id, and the connection ends, since nobody knows where the next request
would begin.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from gateway.core.errors import RemoteProtocolError


class Rule(NamedTuple):
    """Why something is refused."""

    status: int
    sentence: str
    source: str
    """The rule: RFC and section, or the setting."""


RULES: Final[dict[str, Rule]] = {
    "tls": Rule(400, "a TLS handshake, and this port speaks plain HTTP", "http.listen"),
    # ------------------------------------------------ lines
    "bare-lf": Rule(400, "a line ends with LF alone", "RFC 9112 2.2"),
    "bare-cr": Rule(400, "CR stands alone inside a line", "RFC 9112 2.2"),
    "nul": Rule(400, "a line holds NUL", "RFC 9110 5.5"),
    "control-character": Rule(400, "a line holds a control character", "RFC 9110 5.5"),
    # ------------------------------------------------ the request line
    "leading-whitespace": Rule(400, "whitespace before the request line", "RFC 9112 2.2"),
    "empty-lines": Rule(400, "more than one empty line before the request line", "RFC 9112 2.2"),
    "request-line": Rule(400, "the request line is not method, target and version", "RFC 9112 3"),
    "http-0.9": Rule(400, "the request line has no version", "RFC 9112 3"),
    "method": Rule(400, "the method is not a token", "RFC 9110 9.1"),
    "method-unknown": Rule(501, "the method is not known here", "RFC 9110 9.1"),
    "connect": Rule(501, "this is no proxy: CONNECT is not served", "RFC 9110 9.3.6"),
    "trace": Rule(
        501, "TRACE is not served: it shows scripts what they must not see", "RFC 9110 9.3.8"
    ),
    "version": Rule(505, "the version is not HTTP/1", "RFC 9110 15.6.6"),
    "target": Rule(400, "the target is not a path or an http URL", "RFC 9112 3.2"),
    "target-nul": Rule(400, "the path holds NUL", "RFC 3986 7.3"),
    "target-scheme": Rule(421, "the target's scheme is not the connection's", "RFC 9110 7.4"),
    "target-userinfo": Rule(400, "the target holds user information", "RFC 9110 4.2.4"),
    "target-host": Rule(400, "Host differs from the target's host", "RFC 9112 3.2.2"),
    "request-line-size": Rule(414, "the request line is too long", "http.request_line"),
    # ------------------------------------------------ header lines
    "header-line": Rule(400, "a header line has no colon", "RFC 9112 5"),
    "header-name": Rule(400, "a header's name is not a token", "RFC 9110 5.1"),
    "space-before-colon": Rule(400, "whitespace before a header's colon", "RFC 9112 5.1"),
    "obs-fold": Rule(400, "a header line begins with whitespace", "RFC 9112 5.2"),
    "header-size": Rule(431, "the request's head is too large", "http.header_bytes"),
    "header-count": Rule(431, "too many header lines", "http.header_count"),
    "header-timeout": Rule(408, "the request's head did not come in time", "http.header_timeout"),
    # ------------------------------------------------ Host
    "host-missing": Rule(400, "HTTP/1.1 without Host", "RFC 9112 3.2"),
    "host-double": Rule(400, "more than one Host", "RFC 9112 3.2"),
    "host": Rule(400, "Host is not a host with an optional port", "RFC 9112 3.2"),
    # ------------------------------------------------ framing
    "content-length": Rule(400, "Content-Length is not a number", "RFC 9112 6.3"),
    "content-length-repeated": Rule(400, "more than one Content-Length", "RFC 9110 8.6"),
    "content-length-and-transfer-encoding": Rule(
        400, "Content-Length together with Transfer-Encoding", "RFC 9112 6.3"
    ),
    "transfer-encoding-1.0": Rule(400, "Transfer-Encoding in HTTP/1.0", "RFC 9112 6.1"),
    "transfer-encoding-not-chunked": Rule(
        400, "the last transfer coding is not chunked", "RFC 9112 6.3"
    ),
    "transfer-encoding-chunked-twice": Rule(400, "chunked is applied twice", "RFC 9112 7.1"),
    "transfer-encoding-unknown": Rule(501, "the transfer coding is not known", "RFC 9112 6.1"),
    "expect": Rule(417, "the expectation is not 100-continue", "RFC 9110 10.1.1"),
    "body-size": Rule(413, "the body is too large", "http.max_body"),
    "body-timeout": Rule(408, "the body did not come in time", "http.body_timeout, body_rate"),
    # ------------------------------------------------ chunks
    "chunk-size": Rule(400, "a chunk's size is not a hexadecimal number", "RFC 9112 7.1"),
    "chunk-size-overflow": Rule(400, "a chunk's size has over 15 digits", "RFC 9112 7.1"),
    "chunk-extension": Rule(400, "a chunk's extension is malformed", "RFC 9112 7.1.1"),
    "chunk-line-size": Rule(400, "chunk extensions or trailers are too long", "RFC 9112 7.1.1"),
    "chunk-end": Rule(400, "a chunk does not end where its size says", "RFC 9112 7.1"),
    "trailer": Rule(400, "a trailer line is malformed", "RFC 9112 7.1.2"),
    # ------------------------------------------------ HTTP/2
    "pseudo-header": Rule(400, "a pseudo-header that does not belong here", "RFC 9113 8.3.1"),
    "pseudo-header-late": Rule(400, "a pseudo-header behind a header", "RFC 9113 8.3"),
    "pseudo-header-repeated": Rule(400, "a pseudo-header stands twice", "RFC 9113 8.3"),
    "pseudo-header-missing": Rule(400, "a pseudo-header is missing", "RFC 9113 8.3.1"),
    "scheme": Rule(400, "the scheme is not http or https", "RFC 9113 8.3.1"),
    "header-case": Rule(400, "a header's name is not lower-case", "RFC 9113 8.2.1"),
    "header-value": Rule(
        400, "a header's value holds a control character or outer whitespace", "RFC 9113 8.2.1"
    ),
    "connection-header": Rule(400, "a header that is for connections of HTTP/1", "RFC 9113 8.2.2"),
    "body-length": Rule(400, "the body is not as long as Content-Length says", "RFC 9113 8.1.1"),
    "protocol": Rule(501, "this protocol is not spoken here", "RFC 8441 4"),
}
"""Every refusal by its id."""


class Refused(RemoteProtocolError):  # noqa: N818 - a decision, told to the peer
    """The peer sent what is refused. ``id`` is a key of `RULES`, ``answer`` its status."""

    def __init__(self, id: str) -> None:  # noqa: A002 - what it is called everywhere else
        rule = RULES[id]
        super().__init__(f"{rule.sentence} ({id})", rule.status)
        self.id = id
        self.status = rule.status
