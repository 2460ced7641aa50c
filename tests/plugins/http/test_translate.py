"""HttpSession, without any socket: messages, replies, outcomes, decisions."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import (
    ACCEPTED,
    FAILED,
    OK,
    REJECTED,
    RELEASED,
    UNROUTED,
    Close,
    Drop,
    Emit,
    Outcome,
    Peer,
    Refusal,
    Write,
)
from gateway.plugins.http import messages, response
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.head import HeadReader
from gateway.plugins.http.translate import REQUEST, HttpSession, Site
from gateway.plugins.http.upload import BLOCK, PIECE, Flow

STAMP = b"\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: gateway"
PEER = Peer(("127.0.0.1", 1234), ("127.0.0.1", 80))
INLINE = 65536


class Case:
    """A session for one request, its opening actions, and what it counted."""

    def __init__(self, head: bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", **settings) -> None:
        config = HttpConfig(**settings)
        self.drops: list[Drop] = []
        self.head = HeadReader(config, PEER).read(head)
        assert self.head is not None
        site = Site(config, response, lambda: STAMP, self.drops.append)
        self.session = HttpSession(self.head, site)
        self.opened = list(self.session.opened(PEER))

    def send(self, **reply) -> list:
        return list(self.session.send(None, reply, None))

    def answer(self, **reply) -> bytes:
        """Return the bytes of a complete answer."""
        (action,) = self.send(**reply)
        assert isinstance(action, Close)
        assert not action.abort
        return action.data


def parse(data: bytes, method: str = "GET") -> tuple[int, dict[bytes, bytes], bytes]:
    """Return status, headers and content, read with h11; nothing may be left over."""
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(data)
    response = reader.next_event()
    assert isinstance(response, h11.Response)
    headers = [(bytes(n), bytes(v)) for n, v in response.headers]
    assert len(dict(headers)) == len(headers), f"a header stands twice: {headers}"
    content = b""
    while isinstance(event := reader.next_event(), h11.Data):
        content += bytes(event.data)
    if event is h11.NEED_DATA:  # the end of the connection is the end of the content
        reader.receive_data(b"")
        event = reader.next_event()
    assert isinstance(event, h11.EndOfMessage)
    assert reader.trailing_data[0] == b""
    return response.status_code, dict(headers), content


# ---------------------------------------------------------------- requests


def test_a_request_is_one_message():
    """A request without body is emitted at once, with all that the format names."""
    case = Case(
        b"GET /caf%C3%A9/%ff?a=%20 HTTP/1.1\r\nHost: x\r\nX-Two: a\r\nx-two:  b \r\n\r\n",
        root_path="/app",
    )
    (emit,) = case.opened
    assert set(emit.message) == set(messages.Request.__annotations__)
    assert emit == Emit("request", emit.message, REQUEST)
    assert emit.message == {
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/café/\ufffd",
        "raw_path": b"/caf%C3%A9/%ff",
        "query_string": b"a=%20",
        "root_path": "/app",
        "headers": [(b"host", b"x"), (b"x-two", b"a"), (b"x-two", b"b")],
        "body": b"",
        "body_channel": None,
    }


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"GET http://x/a?b", "/a", b"b"),
        (b"GET http://X", "/", b""),
        (b"GET http://x?b", "/", b"b"),
        (b"GET HTTP://x:80/", "/", b""),
        (b"OPTIONS *", "*", b""),
        (b"GET //a", "//a", b""),
        (b"GET /?", "/", b""),
        (b"GET /a?b?c", "/a", b"b?c"),
        (b'GET /"<>^`{|}[]?\\', '/"<>^`{|}[]', b"\\"),
    ],
)
def test_target(target, path, query):
    """Every form of a target gives path and query (RFC 9112 3.2)."""
    head = Case(target + b" HTTP/1.1\r\nHost: x\r\n\r\n").head
    assert (head.path, head.query_string) == (path, query)


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"close", False),
        (b"1.1", b"Keep-Alive, Close", False),
        (b"1.1", b"keep-alive", True),
        (b"1.0", b"", False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"keep-alive, close", False),
    ],
)
def test_keep_alive(version, connection, kept):
    """The connection stays as RFC 9112 9.3 says, and the response says so too."""
    line = b"Connection: %b\r\n" % connection if connection else b""
    case = Case(b"GET / HTTP/%b\r\nHost: x\r\n%b\r\n" % (version, line))
    _, headers, _ = parse(case.answer(status=200, content=b"x"))
    assert case.session.keep_alive is kept
    said = b"close" if not kept else b"keep-alive" if version == b"1.0" else None
    assert headers.get(b"connection") == said


def test_http_10_needs_no_host():
    """HTTP/1.0 knows requests without Host."""
    assert Case(b"GET / HTTP/1.0\r\n\r\n").head.http_version == "1.0"


def test_one_empty_line_before_a_request_is_ignored():
    """RFC 9112 2.2: some clients send one after a body."""
    assert Case(b"\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n").head.path == "/a"


# ---------------------------------------------------------------- bodies

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


def upload(body: bytes, pieces: list[bytes]) -> tuple[list, list]:
    """Feed a body; settle each piece at once. Return the request's Emits and the pieces."""
    case = Case(POST % len(body))
    assert case.opened == []
    actions = []
    for piece in [*pieces, None]:
        todo = list(case.session.received(piece))
        while todo:
            action = todo.pop(0)
            actions.append(action)
            if isinstance(action, Emit) and action.token == PIECE:
                todo += case.session.outcome(PIECE, OK)
    emits = [a for a in actions if isinstance(a, Emit)]
    return [e for e in emits if e.token == REQUEST], [e for e in emits if e.token == PIECE]


def test_a_small_body_travels_with_the_request():
    """Up to 64 KiB nothing follows."""
    requests, pieces = upload(b"x" * INLINE, [b"x" * INLINE])
    assert requests[0].message["body"] == b"x" * INLINE
    assert requests[0].message["body_channel"] is None
    assert pieces == []


@given(st.integers(1, 5 * BLOCK), st.lists(st.integers(0, 5 * BLOCK), max_size=8))
def test_a_body_is_the_same_however_it_is_cut(size, cuts):
    """Any cutting of the bytes gives the same messages, in which nothing is lost."""
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    marks = sorted({0, size, *(cut for cut in cuts if cut < size)})
    parts = [body[a:b] for a, b in pairwise(marks)]
    (request,), pieces = upload(body, parts)
    (whole,), whole_pieces = upload(body, [body])
    assert request.message["body"] == whole.message["body"]
    assert [p.message for p in pieces] == [p.message for p in whole_pieces]
    content = request.message["body"]
    for piece in pieces:
        assert piece.channel == request.message["body_channel"]
        assert piece.channel.startswith("http.request.body?")
        assert piece.message["offset"] == len(content)
        content += piece.message["content"]
    assert content == body
    assert [p.message["more_content"] for p in pieces] == [True] * (len(pieces) - 1) + [
        False
    ] * bool(pieces)


def test_at_most_four_pieces_are_unsettled():
    """Beyond four pieces reading is paused; each settled one lets the next go."""
    case = Case(POST % (20 * BLOCK))
    actions = list(case.session.received(b"x" * (INLINE + 8 * BLOCK)))
    assert sum(isinstance(a, Emit) and a.token == PIECE for a in actions) == 4
    assert actions[-1] == Write(Flow.PAUSE)
    assert case.session.received(b"") == []
    for _ in range(2):
        (emit,) = case.session.outcome(PIECE, OK)
        assert emit.token == PIECE
    emit, flow = case.session.outcome(PIECE, OK)
    assert emit.token == PIECE
    assert flow == Write(Flow.RESUME)


@pytest.mark.parametrize("kind", [FAILED, RELEASED, UNROUTED])
def test_pieces_that_nobody_reads_stop(kind):
    """After a piece that was not read none follows."""
    case = Case(POST % (20 * BLOCK))
    case.session.received(b"x" * (INLINE + 8 * BLOCK))
    assert case.session.outcome(PIECE, Outcome(kind)) == []
    assert case.session.outcome(PIECE, OK) == []


def test_a_client_that_leaves_cuts_the_body_off():
    """The reader of the body hears ``closed``, the application ``http.disconnect``."""
    case = Case(POST % (20 * BLOCK))
    request = case.session.received(b"x" * (INLINE + 1))[0]
    closed, disconnect = case.session.gone()
    assert closed == Emit("request", {"closed": True}, None, None, request.message["body_channel"])
    assert disconnect == Emit("disconnect", {"path": "/"})


def test_nobody_hears_of_a_request_that_was_never_complete():
    """A client that leaves before its small body is complete leaves no message."""
    case = Case(POST % 10)
    assert case.session.received(b"12345") == []
    assert case.session.gone() == []


def test_100_continue():
    """A client that waits for 100 gets it; one without a body, or of HTTP/1.0, does not."""
    expect = b"POST / HTTP/%b\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-Continue\r\n\r\n"
    assert Case(expect % (b"1.1", 5)).opened == [Write(b"HTTP/1.1 100 Continue\r\n\r\n")]
    assert [type(a) for a in Case(expect % (b"1.1", 0)).opened] == [Emit]
    assert Case(expect % (b"1.0", 5)).opened == []


# ---------------------------------------------------------------- complete responses


def test_a_response():
    """Status, headers and content are sent as they are, completed by the gateway's own."""
    status, headers, content = parse(
        Case().answer(
            status=418,
            headers=[(b"Content-Type", b"text/plain"), (b"x-a", b"\xff b\tc")],
            content=b"short",
        )
    )
    assert (status, content) == (418, b"short")
    assert headers == {
        b"content-type": b"text/plain",
        b"x-a": b"\xff b\tc",
        b"content-length": b"5",
        b"date": b"Thu, 01 Jan 1970 00:00:00 GMT",
        b"server": b"gateway",
    }


@pytest.mark.parametrize(
    ("method", "status", "own", "content", "length"),
    [
        ("GET", 200, None, b"", b"0"),
        ("GET", 200, b"5", b"hello", b"5"),
        ("HEAD", 200, None, b"hello", b"5"),
        ("HEAD", 200, b"5", b"hello", b"5"),
        ("HEAD", 200, b"5", b"", b"5"),
        ("GET", 204, None, b"", None),
        ("GET", 204, b"0", b"", None),
        ("GET", 204, None, b"dropped", None),
        ("GET", 205, None, b"dropped", b"0"),
        ("GET", 304, None, b"", None),
        ("GET", 304, b"5", b"", b"5"),
    ],
)
def test_framing_of_a_complete_response(method, status, own, content, length):
    """There is one Content-Length or none, as RFC 9110 8.6 says, and content where it may be."""
    case = Case(method.encode() + b" / HTTP/1.1\r\nHost: x\r\n\r\n")
    headers = [] if own is None else [(b"Content-Length", own)]
    data = case.answer(status=status, headers=headers, content=content)
    _, found, body = parse(data, method)
    assert found.get(b"content-length") == length
    empty = method == "HEAD" or status in {204, 205, 304}
    assert body == (b"" if empty else content)


def test_headers_between_two_hops_are_left_out():
    """Framing is the gateway's business, whatever the application says."""
    names = [b"Transfer-Encoding", b"keep-alive", b"Upgrade", b"TE", b"Trailer", b"connection"]
    _, headers, content = parse(
        Case().answer(status=200, headers=[(n, b"chunked") for n in names], content=b"x")
    )
    assert set(headers) == {b"content-length", b"date", b"server"}
    assert content == b"x"


@pytest.mark.parametrize("name", [b"Date", b"Server"])
@pytest.mark.parametrize("server_header", ["gateway", ""])
def test_the_applications_own_date_and_server(name, server_header):
    """They replace ours: there is never a second one."""
    case = Case(server_header=server_header)
    _, headers, _ = parse(case.answer(status=200, headers=[(name, b"mine")], content=b""))
    assert headers[name.lower()] == b"mine"


def test_the_application_may_close():
    """``Connection: close`` in a response ends the connection after it."""
    case = Case()
    data = case.answer(status=200, headers=[(b"Connection", b"close")], content=b"")
    assert parse(data)[1][b"connection"] == b"close"
    assert not case.session.keep_alive


INVALID = {
    "CR LF in a value": {"status": 200, "headers": [(b"a", b"b\r\nset-cookie: c")]},
    "CR in a value": {"status": 200, "headers": [(b"a", b"b\rc")]},
    "LF in a value": {"status": 200, "headers": [(b"a", b"b\nc")]},
    "NUL in a value": {"status": 200, "headers": [(b"a", b"b\0c")]},
    "CR LF in a name": {"status": 200, "headers": [(b"a: b\r\nc", b"d")]},
    "a colon in a name": {"status": 200, "headers": [(b"a:", b"b")]},
    "a space in a name": {"status": 200, "headers": [(b"a b", b"b")]},
    "an empty name": {"status": 200, "headers": [(b"", b"b")]},
    "a wrong length": {"status": 200, "headers": [(b"content-length", b"3")], "content": b"four"},
    "a length that is none": {"status": 200, "headers": [(b"content-length", b"x")]},
    "two lengths": {
        "status": 200,
        "headers": [(b"content-length", b"0"), (b"content-length", b"1")],
    },
    "two dates": {"status": 200, "headers": [(b"date", b"a"), (b"Date", b"b")]},
    "two servers": {"status": 200, "headers": [(b"server", b"a"), (b"Server", b"b")]},
    "injection into a stream": {"status": 200, "headers": [(b"a", b"b\n")], "more_content": True},
    "content without status": {"content": b"x"},
    "headers without status": {"headers": [], "text": "x"},
    "status and text": {"status": 200, "text": "x"},
    "status and close": {"status": 200, "close": True},
    "a piece without beginning": {"offset": 5, "content": b"x"},
}


@pytest.mark.parametrize("reply", INVALID.values(), ids=INVALID)
def test_a_reply_that_cannot_be_sent(reply):
    """It is invalid, and while nothing was sent the client gets 500, and nothing of it."""
    case = Case()
    with pytest.raises(LocalProtocolError) as caught:
        case.send(**reply)
    (action,) = caught.value.actions
    status, headers, _ = parse(action.data)
    assert status == 500
    own = {b"content-type", b"x-content-type-options", b"cache-control"}
    assert set(headers) == own | {b"content-length", b"date", b"server"}
    assert case.session.keep_alive


# ---------------------------------------------------------------- the uniform reply


@pytest.mark.parametrize(
    ("reply", "status", "kind", "content", "kept"),
    [
        ({"text": "hé"}, 200, b"text/plain; charset=utf-8", "hé".encode(), True),
        ({"bytes": b"\0"}, 200, b"application/octet-stream", b"\0", True),
        ({"text": ""}, 200, b"text/plain; charset=utf-8", b"", True),
        ({"accept": True, "text": "a"}, 200, b"text/plain; charset=utf-8", b"a", True),
        ({"accept": False}, 403, b"text/plain; charset=utf-8", b"", True),
        ({"accept": False, "text": "no"}, 403, b"text/plain; charset=utf-8", b"no", True),
        ({"accept": False, "close": True}, 403, b"text/plain; charset=utf-8", b"", False),
        ({"text": "a", "close": True}, 200, b"text/plain; charset=utf-8", b"a", False),
        ({"text": "a", "close": False}, 200, b"text/plain; charset=utf-8", b"a", True),
        ({"text": "a", "close": 410}, 410, b"text/plain; charset=utf-8", b"a", False),
        ({"close": True}, 204, None, b"", False),
        ({"close": 503}, 503, None, b"", False),
    ],
)
def test_the_uniform_reply(reply, status, kind, content, kept):
    """What every protocol understands is an HTTP response too."""
    case = Case()
    found, headers, body = parse(case.answer(**reply))
    assert (found, headers.get(b"content-type"), body) == (status, kind, content)
    assert case.session.keep_alive is kept
    assert case.drops == []


def test_a_close_code_of_another_protocol():
    """It becomes the default, counted."""
    case = Case()
    assert parse(case.answer(close=1000))[0] == 204
    assert case.drops == [Drop.FOREIGN_CODE]


def test_accept_alone_answers_nothing():
    """There is nothing to accept: the response may come later."""
    assert Case().send(accept=True) == []


# ---------------------------------------------------------------- streams


def stream(case: Case, *replies: dict) -> bytes:
    """Send replies, the last of which completes the response; return all bytes."""
    data = b""
    for reply in replies:
        for action in case.send(**reply):
            data += action.output if isinstance(action, Write) else action.data
    assert isinstance(action, Close)
    assert not action.abort
    return data


PIECES = (
    {"status": 200, "headers": [], "content": b"ab", "more_content": True},
    {"offset": 2, "content": b"", "more_content": True},
    {"offset": 2, "content": b"cde", "more_content": True},
    {"offset": 5, "content": b"f"},
)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("length", [None, b"6"])
def test_a_streamed_response(version, method, length):
    """Pieces arrive as one response: in chunks, by its length, or up to the connection's end."""
    case = Case(
        method.encode() + b" / HTTP/%b\r\nHost: x\r\nConnection: keep-alive\r\n\r\n" % version
    )
    first = dict(PIECES[0])
    if length is not None:
        first["headers"] = [(b"content-length", length)]
    status, headers, content = parse(stream(case, first, *PIECES[1:]), method)
    assert status == 200
    assert content == (b"" if method == "HEAD" else b"abcdef")
    assert headers.get(b"content-length") == length
    chunked = length is None and version == b"1.1"
    assert headers.get(b"transfer-encoding") == (b"chunked" if chunked else None)
    until_end = version == b"1.0" and length is None and method == "GET"
    assert case.session.keep_alive is not until_end


@pytest.mark.parametrize("status", [204, 304])
def test_a_stream_without_content(status):
    """204 and 304 have none, whatever the pieces bring, and no chunks."""
    case = Case()
    data = stream(case, {"status": status, "more_content": True}, {"offset": 0, "content": b"x"})
    _, headers, content = parse(data)
    assert content == b""
    assert b"transfer-encoding" not in headers


def test_an_empty_last_piece():
    """An empty last piece ends the chunks once."""
    data = stream(Case(), {"status": 200, "content": b"ab", "more_content": True}, {"offset": 2})
    assert parse(data)[2] == b"ab"
    assert data.endswith(b"2\r\nab\r\n0\r\n\r\n")


@pytest.mark.parametrize("offset", [0, 1, 3])
def test_a_gap_cuts_the_response_off(offset):
    """A piece that does not follow ends the connection without the last chunk."""
    case = Case()
    case.send(**PIECES[0])
    with pytest.raises(LocalProtocolError, match="should follow") as caught:
        case.send(offset=offset, content=b"x")
    assert caught.value.actions == (Close(abort=True),)


@pytest.mark.parametrize("content", [b"abcd", b"abcdefgh"])
def test_a_stream_that_breaks_its_length(content):
    """Less or more than Content-Length said is cut off."""
    case = Case()
    case.send(status=200, headers=[(b"content-length", b"6")], more_content=True)
    with pytest.raises(LocalProtocolError) as caught:
        case.send(offset=0, content=content)
    assert caught.value.actions == (Close(abort=True),)


@pytest.mark.parametrize("reply", [{"status": 200}, {"text": "x"}, {"offset": 2, "status": 200}])
def test_a_second_beginning_is_invalid(reply):
    """Once a response has begun only pieces may follow; the response goes on."""
    case = Case()
    case.send(**PIECES[0])
    with pytest.raises(LocalProtocolError) as caught:
        case.send(**reply)
    assert caught.value.actions == ()
    assert case.send(offset=2, content=b"x") == [Close(b"1\r\nx\r\n0\r\n\r\n")]


def test_close_completes_a_stream():
    """``close`` ends a response that has begun, whole."""
    case = Case()
    case.send(**PIECES[0])
    assert case.send(close=True) == [Close(b"0\r\n\r\n")]


# ---------------------------------------------------------------- outcomes

ANSWERS = [
    (Outcome(REJECTED), 403),
    (Outcome(REJECTED, code=404), 404),
    (Outcome(REJECTED, code=302), 302),
    (Outcome(FAILED, cause="ValueError"), 500),
    (Outcome(FAILED, cause="lost"), 500),
    (Outcome(RELEASED, cause="expired"), 503),
    (Outcome(UNROUTED), 404),
]


@pytest.mark.parametrize(("outcome", "status"), ANSWERS)
def test_outcome(outcome, status):
    """What no consumer answered, the gateway does; the connection stays."""
    case = Case()
    (action,) = case.session.outcome(REQUEST, outcome)
    found, headers, _ = parse(action.data)
    assert found == status
    assert headers.get(b"retry-after") == (b"1" if status == 503 else None)
    assert case.session.keep_alive


def test_accepted_says_nothing():
    """The response may come later."""
    assert list(Case().session.outcome(REQUEST, Outcome(ACCEPTED))) == []


def test_a_rejections_reason_is_told():
    """``Reject``'s words are the answer's text, whatever they hold."""
    case = Case()
    (action,) = case.session.outcome(REQUEST, Outcome(REJECTED, code=409, reason="a\r\nb"))
    assert parse(action.data)[2] == b"a\r\nb\n"


@pytest.mark.parametrize("code", [1008, 42, 200, 0x87])
def test_a_rejection_with_a_foreign_code(code):
    """It becomes 403, counted."""
    case = Case()
    (action,) = case.session.outcome(REQUEST, Outcome(REJECTED, code=code))
    assert parse(action.data)[0] == 403
    assert case.drops == [Drop.FOREIGN_CODE]


@pytest.mark.parametrize(("outcome", "status"), ANSWERS)
def test_outcome_after_the_beginning(outcome, status):
    """A response that has begun cannot change: it is cut off."""
    case = Case()
    case.send(**PIECES[0])
    assert list(case.session.outcome(REQUEST, outcome)) == [Close(abort=True)]


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Refusal.FULL, 503),
        (Refusal.DRAINING, 503),
        (Refusal.UNAVAILABLE, 503),
        (Refusal.TOO_SLOW, 503),
        (Refusal.TOO_BIG, 431),
        (Refusal.TIMEOUT, 504),
        (Refusal.BROKEN, 500),
    ],
)
def test_refused(refusal, status):
    """Every refusal of the core has its status."""
    (action,) = Case().session.refused(REQUEST, refusal)
    found, headers, _ = parse(action.data)
    assert found == status
    assert (b"retry-after" in headers) is (status == 503)


def test_every_refusal_is_answered():
    """None is left out."""
    for refusal in Refusal:
        assert Case().session.refused(REQUEST, refusal)


def test_no_response_in_time():
    """504; and who still reads the body hears that nothing more comes."""
    (action,) = Case().session.timeout("response")
    assert parse(action.data)[0] == 504
    case = Case(POST % (2 * BLOCK))
    case.session.received(b"x" * (INLINE + 1))
    closed, action = case.session.timeout("response")
    assert closed.message == {"closed": True}
    assert parse(action.data)[1][b"connection"] == b"close"


def test_an_answer_before_the_body_is_complete():
    """The connection cannot be used again: nobody knows where the next request begins."""
    case = Case(POST % (2 * BLOCK))
    case.session.received(b"x" * (INLINE + 1))
    _, headers, _ = parse(case.answer(status=200, content=b"x"))
    assert headers[b"connection"] == b"close"
    assert not case.session.keep_alive


def test_draining_closes_after_the_response():
    """A request in flight at shutdown is answered, and its connection ends."""
    case = Case()
    assert list(case.session.draining(1.0)) == []
    assert parse(case.answer(text="x"))[1][b"connection"] == b"close"
