"""What the access log says, as text and as JSON."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.access import AccessLog, OpenLog
from gateway.core.config import LogSettings
from gateway.core.metrics import Metrics
from gateway.core.plugin import Peer, Summary
from gateway.core.sink import ATOMIC
from gateway.core.web import Head

PEER = Peer(("192.0.2.7", 50000), ("192.0.2.1", 443), identity="alice")
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def head(raw_path=b"/a", *headers, method="GET", version="1.1"):
    made = Head()
    made.method, made.raw_path, made.http_version = method, raw_path, version
    made.headers = list(headers)
    return made


class Log:
    """An access log whose lines are kept, at a time that stands still."""

    def __init__(self, style="text", now=1795687200.1239):
        self.lines = []
        self.now = now
        self.log = AccessLog(
            LogSettings(access="-", access_format=style), self.lines.append, lambda: self.now
        )

    def add(self, summary=None, peer=PEER, protocol="http", **more):
        self.log.add(protocol, peer, summary or Summary(), **{"end": "client"} | more)
        line = self.lines[-1]
        assert re.fullmatch(rb"[ -~]+\n", line), line
        assert len(line) <= ATOMIC
        return line.decode().rstrip("\n")


def test_a_request_as_text():
    """A request is a line: when, protocol, who, what, with what result, how much, how long."""
    log = Log()
    request = head(b"/a", (b"user-agent", b"curl/8"), (b"traceparent", TRACE))
    line = log.add(
        Summary(200, received=5, sent=13, head=request),
        end="application",
        seconds=0.00449,
        reply_channel="http.send.p_AbCdEfGhIjKl!7f",
    )
    assert line == (
        '2026-11-26T10:00:00.123Z http 192.0.2.7:50000 alice "GET /a HTTP/1.1" 200 application '
        "5 13 0.004 http.send.p_AbCdEfGhIjKl!7f"
    )


def test_a_request_as_json():
    """As JSON the same, and user agent, referer without its query, and the trace."""
    log = Log("json")
    request = head(
        b"/a",
        (b"user-agent", b"curl/8"),
        (b"referer", b"https://example.org/from?token=secret#part"),
        (b"traceparent", TRACE),
        version="2",
    )
    line = log.add(
        Summary(200, received=0, sent=13, head=request),
        end="application",
        seconds=0.0125,
        reply_channel="http.send.p_AbCdEfGhIjKl!7f",
    )
    assert json.loads(line) == {
        "time": "2026-11-26T10:00:00.123Z",
        "protocol": "http",
        "client": ["192.0.2.7", 50000],
        "identity": "alice",
        "method": "GET",
        "path": "/a",
        "http_version": "2",
        "code": 200,
        "end": "application",
        "received": 0,
        "sent": 13,
        "seconds": 0.013,
        "reply_channel": "http.send.p_AbCdEfGhIjKl!7f",
        "user_agent": "curl/8",
        "referer": "https://example.org/from",
        "traceparent": TRACE.decode(),
    }


def test_what_there_is_not():
    """In text what is not known is "-"; in JSON it is left out, but for the numbers."""
    assert Log().add(peer=Peer(), protocol="sensor") == (
        '2026-11-26T10:00:00.123Z sensor - - "-" - client 0 0 0.000 -'
    )
    assert json.loads(Log("json").add(peer=Peer(), protocol="sensor")) == {
        "time": "2026-11-26T10:00:00.123Z",
        "protocol": "sensor",
        "end": "client",
        "received": 0,
        "sent": 0,
        "seconds": 0.0,
    }


def test_the_time_moves_on():
    """Each line has its own time, to the millisecond, in UTC."""
    log = Log(now=1795687199.9999)
    assert log.add().startswith("2026-11-26T09:59:59.999Z ")
    log.now = 1795687200.0
    assert log.add().startswith("2026-11-26T10:00:00.000Z ")
    log.now = 1795687200.25
    assert log.add().startswith("2026-11-26T10:00:00.250Z ")


def test_addresses_and_words():
    """IPv6 stands in brackets; a code may be a word; what is no plain word stands in quotes."""
    log = Log()
    line = log.add(Summary("BYE"), Peer(("2001:db8::1", 5), identity="Alice Smith, Sales"))
    assert ' [2001:db8::1]:5 "Alice Smith, Sales" "-" BYE client ' in line
    assert ' "-" "-" "a\\"b" ' in log.add(Summary('a"b'), Peer(identity="-"))


NASTY = [
    ('/"quoted" \\', r"/\"quoted\" \\"),
    ("/a\r\n2026-11-26T10:00:00.123Z http forged", r"/a\r\n2026-11-26T10:00:00.123Z http forged"),
    ("/line\u2028separator\u0085", r"/line\u2028separator\x85"),
    ("/\x1b[2J\x1b]0;title\x07", r"/\x1b[2J\x1b]0;title\x07"),
    ("/\u202egnp.exe\udcff\U0001f4a9", r"/\u202egnp.exe\udcff\U0001f4a9"),
]


@pytest.mark.parametrize(("path", "shown"), NASTY)
def test_nobody_forges_a_line(path, shown):
    """Whatever a path holds, it is one field of one line of printable ASCII."""
    line = Log().add(Summary(method="GET", path=path))
    assert f' "GET {shown}" - client ' in line
    assert json.loads(Log("json").add(Summary(method="GET", path=path)))["path"] == path


@pytest.mark.parametrize("style", ["text", "json"])
def test_bytes_of_a_head(style):
    """What a head holds beyond ASCII is escaped, byte for byte."""
    line = Log(style).add(Summary(head=head(b'/"\xe2\x80\xa8\x7f', (b"user-agent", b'\xff"\x1b'))))
    if style == "json":
        found = json.loads(line)
        assert found["path"] == '/"\xe2\x80\xa8\x7f'
        assert found["user_agent"] == '\xff"\x1b'
    else:
        assert r'"GET /\"\xe2\x80\xa8\x7f HTTP/1.1"' in line


ANY = st.text(st.characters(), max_size=3000)


@given(st.sampled_from(["text", "json"]), st.lists(ANY, min_size=4, max_size=4))
def test_every_line_fits_a_pipe(style, texts):
    """Whatever its parts, a line is one line, and short enough for a pipe to take it whole."""
    identity, method, path, code = texts
    request = head(b"/", (b"user-agent", path.encode("utf-8", "ignore")))
    Log(style).add(Summary(code, method, path, head=request), Peer(identity=identity))


def test_long_texts_are_cut():
    """A long path or user agent is cut, and shows that it was."""
    line = Log().add(Summary(head=head(b"/" + b"a" * 5000)))
    assert f'"GET /{"a" * 1023}... HTTP/1.1"' in line
    found = json.loads(Log("json").add(Summary(head=head(b"/", (b"user-agent", b"b" * 999)))))
    assert found["user_agent"] == "b" * 256 + "..."
    found = json.loads(Log("json").add(Summary(head=head(b"\xff" * 2000))))
    assert found["path"] == "\xff" * 32 + "..."


@pytest.mark.parametrize(
    "value", [b"00-zz-00f067aa0ba902b7-01", b"", TRACE + b"-more", b"\xff" * 55]
)
def test_a_traceparent_that_is_none(value):
    """What is no trace of W3C's is not taken for one."""
    line = Log("json").add(Summary(head=head(b"/", (b"traceparent", value))))
    assert "traceparent" not in json.loads(line)


def test_opened(tmp_path):
    """An opened log writes to its file, is opened anew, and counts from zero what it drops."""
    metrics = Metrics()
    path = tmp_path / "access.log"
    log = OpenLog(LogSettings(access=str(path)), metrics)
    log.add("http", PEER, Summary(200), end="application")
    path.rename(tmp_path / "old")
    log.reopen()
    log.add("http", PEER, Summary(404), end="gateway")
    log.close()
    assert '"-" 200 application' in (tmp_path / "old").read_text()
    assert '"-" 404 gateway' in path.read_text()
    assert metrics.snapshot()['gateway_drops_total{cause="unwritten",where="access"}'] == 0
