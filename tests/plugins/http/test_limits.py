"""Every limit of ``[http]``: what lies within it is served, what goes beyond is ended and counted."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec
import pytest
from hyperframe.frame import Frame, GoAwayFrame, RstStreamFrame
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.config import GatewaySettings
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.pace import Pace
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.http.http2.wire import request
from tests.plugins.http.serving import Served, get, hello, wait_until
from tests.plugins.http.test_bodies import Site, post

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def silent(message: dict) -> list[dict]:
    """Answer nothing."""
    return []


def large(message: dict) -> list[dict]:
    """Answer with far more than any socket takes."""
    piece = b"x" * 900_000
    pieces = [{"offset": n * 900_000, "content": piece, "more_content": True} for n in range(1, 9)]
    return [{"status": 200, "content": piece, "more_content": True}, *pieces]


ROOMY = GatewaySettings(outbox_bytes=64 * 1024 * 1024)


def timeouts(site: Served, setting: str) -> float:
    """How often a timeout ended something."""
    series = f'gateway_http_timeouts_total{{setting="{setting}"}}'
    return site.metrics.snapshot().get(series, 0)


def refused(site: Served, why: str) -> float:
    return site.metrics.snapshot().get(f'gateway_http_refused_total{{why="{why}"}}', 0)


def until(done: Callable[[], object], step: Callable[[], object]) -> None:
    """Do something again and again, some hundred times a second, until something is true."""
    wait_until(lambda: step() and done(), 10)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("limit", "within", "beyond", "status", "why"),
    [
        ({"request_line": 30}, b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n", (16, 17), 414, "request-line-size"),
        ({"header_bytes": 50}, b"GET / HTTP/1.1\r\nHost: x\r\nA: %b\r\n\r\n", (18, 19), 431, "header-size"),
        ({"header_count": 3}, b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n", (2, 3), 431, "header-count"),
        ({"max_body": 7}, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n", (7, 8), 413, "body-size"),
        ({"max_body": 7}, CHUNKED.replace(b"%", b"%%") + b"%b0\r\n\r\n", (7, 8), 413, "body-size"),
    ],
    ids=["request_line", "header_bytes", "header_count", "max_body by length", "max_body by chunks"],
)  # fmt: skip
def test_sizes(limit, within, beyond, status, why):
    """What is just as large as a limit is served; one more is refused with its own status."""

    def made(size: int) -> bytes:
        if why == "header-count":
            return within % (b"A: b\r\n" * size)
        if b"Content-Length" in within:
            return within % b"%d" % size + b"b" * size
        if why == "body-size":
            return within % (b"1\r\nb\r\n" * size)
        return within % (b"a" * size)

    config = HttpConfig(**limit)
    with Served({"http.request": hello}, config=config) as site:
        with site.connect() as client:
            assert client.send(made(beyond[0])).response("POST").status == 200
            assert client.send(made(beyond[0])).response("POST").status == 200
        with site.connect() as client:
            assert client.send(made(beyond[1])).response("POST").status == status
            assert client.rest() == b""
        assert refused(site, why) == 1


def test_body_inline():
    """Beyond ``body_inline`` bytes a body travels on a channel of its own."""
    with Site(config=HttpConfig(body_inline=10)) as site, site.connect() as client:
        for size in (10, 11):
            assert client.send(post("/sum", size) + b"\1" * size).response().status == 200
        small, more = site.messages("http.request")
    assert (len(small["body"]), small["body_channel"]) == (10, None)
    assert len(more["body"]) == 10
    assert more["body_channel"]


# ---------------------------------------------------------------- times


def test_a_head_that_trickles():
    """``header_timeout`` is for the whole head: bytes that keep coming do not prolong it."""
    with Served({"http.request": hello}, config=HttpConfig(header_timeout=0.3)) as site:
        with site.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
            until(lambda: refused(site, "header-timeout"), lambda: client.send(b"a"))
            assert client.response().status == 408
        assert timeouts(site, "header_timeout") == refused(site, "header-timeout") == 1
        # The time of a head begins anew with each request.
        with site.connect() as client:
            for _ in range(3):
                client.send(get()[:-2])
                wait_until(lambda: site.connections)
                assert client.send(b"\r\n").response().status == 200


def test_a_body_that_trickles():
    """Slower than ``body_rate`` a body is ended, although no pause is ``body_timeout`` long."""
    config = HttpConfig(body_timeout=0.4, body_rate=20_000)
    with Served({"http.request": hello}, config=config) as site, site.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        until(lambda: refused(site, "body-timeout"), lambda: client.send(b"b"))
        assert client.response().status == 408
        assert timeouts(site, "body_timeout") == refused(site, "body-timeout") == 1


@pytest.mark.parametrize("rate", [0, 1])
def test_a_body_that_is_fast_enough(rate):
    """Faster than ``body_rate``, or where there is none, a body may take its time."""
    config = HttpConfig(body_timeout=0.4, body_rate=rate)
    with Site(config=config) as site, site.connect() as client:
        client.send(b"POST /sum HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        start = time.monotonic()
        until(lambda: time.monotonic() - start > 1.0, lambda: client.send(b"1\r\n\1\r\n"))
        assert client.send(b"0\r\n\r\n").response().status == 200
        assert timeouts(site, "body_timeout") == 0


def test_a_body_that_waits_for_its_reader():
    """While the application does not read, the client's time stands still."""
    config = HttpConfig(body_timeout=0.2, body_rate=1_000_000)
    with Site(config=config) as site, site.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        length = 4 * 1024 * 1024
        client.send(post("/wait", length) + b"x" * 700_000)
        (protocol,) = site.plugin._port.connections
        wait_until(lambda: protocol._paused)
        start = time.monotonic()
        wait_until(lambda: time.monotonic() - start > 0.8)
        site.go.set()
        client.send(b"x" * (length - 700_000))
        assert client.response().content == str(length).encode()


def test_idle_and_silent_connections_are_counted():
    """So are connections that no request uses, and requests that nobody answers."""
    config = HttpConfig(idle_timeout=0.1, timeout=0.1)
    with Served({"http.request": silent}, config=config) as site, site.connect() as client:
        assert client.send(get()).response().status == 504
        assert client.rest() == b""
        assert (timeouts(site, "timeout"), timeouts(site, "idle_timeout")) == (1, 1)


def test_a_response_that_is_read_byte_by_byte():
    """A client that makes no room in ``write_timeout`` is cut off, although it reads on."""
    consumers = {"http.request": large, "http.disconnect": silent}
    config = HttpConfig(write_timeout=0.4)
    with Served(consumers, config=config, gateway=ROOMY) as site, site.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(get())
        until(lambda: site.drops.get("slow"), lambda: client.sock.recv(1))
        assert site.drops["slow"] == timeouts(site, "write_timeout") == 1
        wait_until(lambda: not site.connections)
        wait_until(lambda: site.messages("http.disconnect"))


def test_last_words_that_nobody_reads():
    """A client that does not read the end of its response is cut off too, and counted."""
    consumers = {"http.request": large, "http.disconnect": silent}
    config = HttpConfig(write_timeout=0.3)
    with Served(consumers, config=config, gateway=ROOMY) as site, site.connect() as client:
        client.send(get())
        (protocol,) = wait_until(lambda: list(site.plugin._port.connections))
        wait_until(lambda: protocol._full)
        site.call(protocol._say, b"the end")
        wait_until(lambda: site.drops.get("slow"))
        wait_until(lambda: not site.connections)


def test_a_flood_of_connections(monkeypatch):
    """So many beyond ``max_connections`` hear why they are closed; the others are just closed."""
    monkeypatch.setattr("gateway.plugins.http.transport.TURNED_AWAY", 2)
    with Served({"http.request": hello}, config=HttpConfig(max_connections=1)) as site:
        with ExitStack() as stack:
            first = stack.enter_context(site.connect())
            assert first.send(get()).response().status == 200
            others = [stack.enter_context(site.connect()) for _ in range(10)]
            told = 0
            for other in others:
                with suppress(ConnectionResetError):
                    told += other.rest().startswith(b"HTTP/1.1 503 ")
            assert told == 2
            assert site.drops["limited"] == 10
            assert first.send(get()).response().status == 200
        wait_until(lambda: not site.connections)
        with site.connect() as client:
            assert client.send(get()).response().status == 200


# ---------------------------------------------------------------- the number of requests


def test_max_requests():
    """The last response says that the connection ends; what was sent behind is not served."""
    config = HttpConfig(max_requests=3)
    with Served({"http.request": hello}, config=config) as site, site.connect() as client:
        client.send(get("/a") + get("/b") + get("/c") + get("/d"))
        answers = list(client.responses("GET", "GET", "GET"))
        said = [answer.header(b"connection") for answer in answers]
        assert said == [None, None, b"close"]
        assert client.rest() == b""
        assert [message["path"] for message in site.messages("http.request")] == ["/a", "/b", "/c"]


def test_max_requests_over_http2():
    """The client is told with GOAWAY; what it began before is answered, the rest refused."""
    config = HttpConfig(max_requests=3)
    with Served({"http.request": hello}, config=config) as site, Http2Client(site) as client:
        for path in ("/a", "/b", "/c", "/d"):
            client.send(request(path))
        data = b""
        while piece := client.sock.recv(65536):
            data += piece
        ended, refused, goaway = [], [], []
        while data:
            frame, length = Frame.parse_frame_header(memoryview(data)[:9])
            frame.parse_body(memoryview(data)[9 : 9 + length])
            data = data[9 + length :]
            if isinstance(frame, GoAwayFrame):
                goaway.append(frame.error_code)
            elif isinstance(frame, RstStreamFrame):
                refused.append((frame.stream_id, frame.error_code))
            elif "END_STREAM" in frame.flags:
                ended.append(frame.stream_id)
        assert sorted(ended) == [1, 3, 5]
        assert refused == [(7, 7)]  # REFUSED_STREAM: it may be sent anew elsewhere
        assert goaway == [0]
        assert len(site.messages("http.request")) == 3
    wait_until(lambda: not site.connections)


# ---------------------------------------------------------------- HTTP/2


def test_a_body_that_trickles_over_http2():
    """One stream's body is ended; the connection goes on."""
    config = HttpConfig(body_timeout=0.4, body_rate=20_000)
    with Served({"http.request": hello}, config=config) as site, Http2Client(site) as client:
        number = client.send(request(method=b"POST"), None, end=False)

        def step() -> bool:
            client.h2.send_data(number, b"b")
            client.flush()
            return True

        until(lambda: refused(site, "body-timeout"), step)
        assert client.answer(number).status == 408
        assert timeouts(site, "body_timeout") == 1
        assert client.ask(request("/next")).content == b"hello /next"


def test_a_window_that_is_opened_byte_by_byte():
    """A client that lets a response through byte by byte makes no room."""
    config = HttpConfig(write_timeout=0.4, http2_control_frames=1_000_000)
    consumers = {"http.request": large, "http.disconnect": silent}
    with Served(consumers, config=config, gateway=ROOMY) as site:
        with Http2Client(site, greedy=False) as client:
            number = client.send(request())

            def step() -> bool:
                client.h2.increment_flow_control_window(1, number)
                client.h2.increment_flow_control_window(1)
                client.flush()
                return True

            until(lambda: site.drops.get("slow"), step)
            assert client.answer(number).reset is not None
        assert timeouts(site, "write_timeout") == 1


# ---------------------------------------------------------------- the time that a body has


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 10_000)), max_size=30),
    st.sampled_from([0, 100, 500]),
)
def test_pace(events, rate):
    """A body has never more than ``body_timeout`` left, and never less than it has earned."""
    config = HttpConfig(body_timeout=30, body_rate=rate)
    pace = Pace(config, 100.0)
    now, left = 100.0, 30.0
    for pause, size in events:
        now += pause
        left = min(30.0, left - pause + (size / rate if rate else size * 30.0))
        found = pace.read(size, now)
        assert found == pytest.approx(max(0.0, left))
        if not found:
            return


def test_pace_stands_still():
    """Time in which the body is not read costs nothing."""
    pace = Pace(HttpConfig(body_timeout=30, body_rate=500), 0.0)
    assert pace.read(0, 10.0) == 20.0
    pace.stop(15.0)
    assert pace.go(1000.0) == 15.0
    assert pace.read(500, 1002.0) == 14.0


# ---------------------------------------------------------------- all of them


def test_every_limit_is_provoked_by_a_test():
    """No number among the settings of ``[http]`` is without a test that sets it."""
    texts = [path.read_text() for path in Path(__file__).parent.rglob("*.py")]
    numbers = [
        field.name
        for field in msgspec.structs.fields(HttpConfig)
        if type(field.default) in (int, float) and not field.name.startswith("http2")
    ]
    assert len(numbers) > 12
    for name in numbers:
        assert any(f"{name}=" in text or f'"{name}": ' in text for text in texts), name
