"""What requests of long-polling ask for."""

from __future__ import annotations

import pytest

from gateway.core.errors import RemoteProtocolError
from gateway.plugins.longpoll import requests
from tests.core.asked import head

ASYNC = (b"prefer", b"respond-async")


@pytest.mark.parametrize(
    "headers",
    [
        [ASYNC],
        [(b"prefer", b"wait=5, Respond-Async ; x=y, foo")],
        [(b"prefer", b"foo"), ASYNC],
        [ASYNC, (b"content-length", b"0")],
    ],
)
def test_opens(headers):
    """A POST of nothing that prefers to be answered by itself asks for a connection."""
    assert requests.opens(head(headers, method="POST"))
    assert not requests.opens(head(headers, method="GET"))


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"prefer", b"wait=5")],
        [(b"prefer", b"respond-asynchronously")],
        [(b"prefer", b'x="respond-async"')],
        [ASYNC, (b"content-length", b"7")],
        [ASYNC, (b"transfer-encoding", b"chunked")],
    ],
)
def test_opens_nothing(headers):
    """Any other is something of its own, and so is one with a body."""
    assert not requests.opens(head(headers, method="POST"))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], (25, False)),
        ([b"foo"], (25, False)),
        ([b"wait=7"], (7, True)),
        ([b"Wait = 7"], (7, True)),
        ([b'wait="7"'], (7, True)),
        ([b"x=1, wait=7;y=2"], (7, True)),
        ([b"wait=7, wait=9"], (7, True)),
        ([b"foo", b"wait=7"], (7, True)),
        ([b"wait=0"], (0, True)),
        ([b"wait=999999999"], (50, True)),
    ],
)
def test_wait(values, found):
    """A poll says how long it waits, up to a bound; the first that it says counts."""
    assert requests.wait_of(head([(b"prefer", value) for value in values]), 25, 50) == found


@pytest.mark.parametrize("value", [b"wait", b"wait=", b"wait=soon", b"wait=-1", b"wait=1.5"])
def test_bad_wait(value):
    """What is no number of seconds is told so."""
    with pytest.raises(RemoteProtocolError, match="wait=25") as caught:
        requests.wait_of(head([(b"prefer", value)]), 25, 50)
    assert caught.value.answer.status == 400


@pytest.mark.parametrize(
    ("value", "found"), [(None, None), (b'"0"', 0), (b' "17" ', 17), (b'W/"17"', 17)]
)
def test_cursor(value, found):
    """A cursor is the ETag of an answer, which a proxy may have weakened."""
    headers = [] if value is None else [(b"if-none-match", value)]
    assert requests.cursor_of(head(headers)) == found


@pytest.mark.parametrize("value", [b"", b"17", b"*", b'"x"', b'"1", "2"', b'"-1"', b'"%d"' % 2**64])
def test_bad_cursor(value):
    """What is no cursor is told so."""
    with pytest.raises(RemoteProtocolError, match="ETag of the last answer") as caught:
        requests.cursor_of(head([(b"if-none-match", value)]))
    assert caught.value.answer.status == 400
