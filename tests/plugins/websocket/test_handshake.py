"""The opening handshake: what is asked, what is refused, what is answered."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import RemoteProtocolError
from gateway.core.websockets import handshake
from gateway.core.websockets.handshake import Accept
from tests.plugins.websocket.peers import HANDSHAKE, KEY, head


def with_(name: bytes, *values: bytes) -> list[tuple[bytes, bytes]]:
    """Return the handshake's headers with other values for one of them."""
    return [item for item in HANDSHAKE if item[0] != name] + [(name, value) for value in values]


def test_accept_key() -> None:
    """The answer to the key of RFC 6455 section 1.3 is the one that stands there."""
    assert handshake.accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "headers",
    [
        HANDSHAKE,
        with_(b"upgrade", b"h2c, WebSocket"),
        with_(b"connection", b"keep-alive, upgrade"),
        with_(b"connection", b"keep-alive", b"UPGRADE"),
        with_(b"content-length", b"0"),
        with_(b"sec-websocket-extensions", b"permessage-deflate", b"x-y; z=1"),
    ],
)
def test_good(headers: list[tuple[bytes, bytes]]) -> None:
    """Tokens are compared without case, in lists and on several lines."""
    request = head(headers)
    assert handshake.asks(request)
    found = handshake.check(request)
    assert (found.key, found.subprotocols) == (KEY, [])


def test_subprotocols() -> None:
    """Offered subprotocols come in the client's order, from several lines."""
    request = head(with_(b"sec-websocket-protocol", b"chat.v2 , chat.v1", b"wamp"))
    assert handshake.check(request).subprotocols == ["chat.v2", "chat.v1", "wamp"]


@pytest.mark.parametrize(
    ("values", "extensions"),
    [
        ((), []),
        ((b"",), []),
        ((b" , ,",), []),
        ((b"a",), [(b"a", [])]),
        ((b"a;b;c=1 ; d = x",), [(b"a", [(b"b", None), (b"c", b"1"), (b"d", b"x")])]),
        ((b"a, b;c", b"a;x=2"), [(b"a", []), (b"b", [(b"c", None)]), (b"a", [(b"x", b"2")])]),
        ((b'a;b="c"; d="\\1\\2"',), [(b"a", [(b"b", b"c"), (b"d", b"12")])]),
        ((b"a;b;b=1",), [(b"a", [(b"b", None), (b"b", b"1")])]),
    ],
)
def test_extensions(values: tuple[bytes, ...], extensions: list[Any]) -> None:
    """Offered extensions come in the client's order, from several lines, with their parameters."""
    request = head(with_(b"sec-websocket-extensions", *values))
    assert handshake.check(request).extensions == extensions


@pytest.mark.parametrize(
    "value",
    [
        b"a;",
        b"a;;b",
        b";a",
        b"a=1",
        b"a b",
        b"a;b=",
        b"a;=b",
        b"a;b=c d",
        b'a;b="c',
        b'a;b="c d"',
        b'a;b=""',
        b'a;b="c"d',
        b'a;b="c,d"',
        b"a/b",
        b"permessage-deflate, b\x80",
    ],
)
def test_bad_extensions(value: bytes) -> None:
    """What does not conform to the grammar fails the handshake (RFC 6455 section 9.1): 400."""
    with pytest.raises(RemoteProtocolError) as caught:
        handshake.check(head(with_(b"sec-websocket-extensions", value)))
    assert caught.value.answer.status == 400


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ([], "1.1"),
        (with_(b"upgrade", b"h2c"), "1.1"),
        (HANDSHAKE, "1.0"),
        (HANDSHAKE, "2"),
    ],
)
def test_not_asked(headers: list[tuple[bytes, bytes]], version: str) -> None:
    """No Upgrade to websocket, HTTP/1.0 or HTTP/2: the request is somebody else's."""
    assert not handshake.asks(head(headers, version=version))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param(with_(b"connection"), 400, id="no-connection"),
        pytest.param(with_(b"connection", b"close"), 400, id="connection-not-upgrade"),
        pytest.param(with_(b"sec-websocket-version"), 426, id="no-version"),
        pytest.param(with_(b"sec-websocket-version", b"8"), 426, id="version-8"),
        pytest.param(with_(b"sec-websocket-version", b"013"), 426, id="version-013"),
        pytest.param(with_(b"sec-websocket-version", b"13", b"13"), 400, id="two-versions"),
        pytest.param(with_(b"sec-websocket-key"), 400, id="no-key"),
        pytest.param(with_(b"sec-websocket-key", KEY, KEY), 400, id="two-keys"),
        pytest.param(with_(b"sec-websocket-key", b"c2hvcnQ="), 400, id="short-key"),
        pytest.param(with_(b"sec-websocket-key", KEY[:-3] + b"*=="), 400, id="key-not-base64"),
        pytest.param(with_(b"sec-websocket-key", b"A" * 24), 400, id="key-of-18-bytes"),
        pytest.param(with_(b"origin", b"http://a", b"http://b"), 400, id="two-origins"),
        pytest.param(with_(b"sec-websocket-protocol", b"a, a"), 400, id="subprotocol-twice"),
        pytest.param(with_(b"sec-websocket-protocol", b"a,,b"), 400, id="subprotocol-empty"),
        pytest.param(with_(b"sec-websocket-protocol", b"a b"), 400, id="subprotocol-not-a-token"),
        pytest.param(with_(b"content-length", b"5"), 400, id="with-a-body"),
        pytest.param(with_(b"transfer-encoding", b"chunked"), 400, id="with-a-chunked-body"),
    ],
)
def test_bad(headers: list[tuple[bytes, bytes]], status: int) -> None:
    """Each fault of a handshake is refused before anybody is asked."""
    with pytest.raises(RemoteProtocolError) as caught:
        handshake.check(head(headers))
    assert caught.value.answer.status == status


def test_other_methods() -> None:
    """A WebSocket is opened with GET and nothing else."""
    with pytest.raises(RemoteProtocolError) as caught:
        handshake.check(head(method="POST"))
    assert caught.value.answer.status == 405
    assert (b"allow", b"GET") in caught.value.answer.headers


def test_other_version() -> None:
    """Another version is told which one is spoken (RFC 6455 section 4.4)."""
    with pytest.raises(RemoteProtocolError) as caught:
        handshake.check(head(with_(b"sec-websocket-version", b"25")))
    assert (b"sec-websocket-version", b"13") in caught.value.answer.headers


def test_fields() -> None:
    """The 101 carries the key's answer, the subprotocol and the application's headers."""
    assert handshake.fields(
        b"dGhlIHNhbXBsZSBub25jZQ==",
        Accept("chat", [(b"set-cookie", b"a=1"), (b"set-cookie", b"b")]),
    ) == [
        (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"Sec-WebSocket-Protocol", b"chat"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b"),
    ]
