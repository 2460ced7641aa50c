"""Limits, times, start and stop of connections and streams; and that nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import threading

from gateway.core.config import GatewaySettings
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.exchange import HttpExchange
from gateway.plugins.http.http2.connection import Http2Protocol
from gateway.plugins.http.http2.library import Library
from gateway.plugins.http.http2.stream import Http2Stream
from gateway.plugins.http.translate import HttpSession
from gateway.plugins.http.transport import HttpProtocol
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.http.http2.serving import CONSUMERS, later
from tests.plugins.http.http2.wire import (
    GOAWAY,
    REFUSED_STREAM,
    RST_STREAM,
    Wire,
    data,
    goaway,
    headers,
    post,
    request,
    reset,
    settings,
    window,
)
from tests.plugins.http.serving import Served, wait_until

NO_ERROR = 0


# ---------------------------------------------------------------- limits and times


def test_too_many_streams():
    """5.1.2: one more than allowed is refused, to be sent anew; the others are answered."""
    with Served(CONSUMERS, config=HttpConfig(http2_streams=3)) as site, Wire(site) as wire:
        for stream in (1, 3, 5, 7):
            wire.send(headers(stream, request("/silence")))
        last = wire.ended(7)
        assert (last.kind, last.code) == (RST_STREAM, REFUSED_STREAM)
        for message in wait_until(
            lambda: len(site.messages("http.request")) == 3 and site.messages("http.request")
        ):
            site.layer.send(message["reply_channel"], {"text": "hi"})
        for stream in (1, 3, 5):
            wire.ended(stream)
            assert wire.content(stream) == b"hi"
        wire.send(headers(9)).ended(9)
        assert wire.content(9) == b"/"
        assert len(site.messages("http.request")) == 4


def test_a_response_that_does_not_come():
    """Without a response in ``timeout`` the client gets 504; the streams beside it go on."""
    with Served(CONSUMERS, config=HttpConfig(timeout=0.1)) as site, Http2Client(site) as client:
        slow = client.send(request("/silence"))
        assert client.ask(request("/")).content == b"/"
        assert client.answer(slow).status == 504
        assert client.ask(request("/")).content == b"/"


def test_a_body_that_does_not_come():
    """Without a byte of the body in ``body_timeout`` the client gets 408, that stream alone."""
    config = HttpConfig(body_timeout=0.2)
    with Served(CONSUMERS, config=config) as site, Wire(site) as wire:
        wire.send(post(1), data(1, b"x"), headers(3, request("/silence")))
        wire.until(lambda found: found.kind == RST_STREAM)
        assert (wire.status(1), wire.content(1)[-15:]) == (408, b"(body-timeout)\n")
        assert wire.seen[-1].code == NO_ERROR
        wire.alive()
        assert len(site.messages("http.request")) == 1


def test_a_slow_body_comes():
    """Without ``body_rate`` a byte now and then is enough, even within one frame."""
    config = HttpConfig(body_timeout=0.7, body_rate=0)
    pause = threading.Event()
    with Served(CONSUMERS, config=config) as site, Wire(site) as wire:
        sent = data(1, b"hello world", end=True)
        wire.send(post(1))
        for place in range(len(sent)):
            pause.wait(0.05)
            wire.send(sent[place : place + 1])
        wire.ended(1)
        assert wire.content(1) == b"hello world"


def test_a_header_block_that_does_not_come():
    """``header_timeout`` runs from its first byte, however slowly the others drip in."""
    pause = threading.Event()
    with Served(CONSUMERS, config=HttpConfig(header_timeout=0.3)) as site, Wire(site) as wire:
        wire.send(headers(1, request("/silence"))).alive()
        sent = headers(3)
        for place in range(len(sent) - 20):
            wire.send(sent[place : place + 1])
            pause.wait(0.02)
        assert wire.end().payload[8:].endswith(b"(header-block-time)")


def test_an_idle_connection():
    """After ``idle_timeout`` without a request the connection ends, PING or not."""
    pause = threading.Event()
    with Served(CONSUMERS, config=HttpConfig(idle_timeout=0.3)) as site:
        with Wire(site) as wire:
            wire.send(headers(1)).ended(1)
            for _ in range(3):
                wire.alive()
                pause.wait(0.05)
            assert wire.end().code == NO_ERROR
        with Wire(site) as fresh:
            assert fresh.end().code == NO_ERROR
        with Wire(site) as running:
            running.send(headers(1, request("/silence"))).alive()
            pause.wait(0.6)
            running.alive()


def test_no_worker():
    """With no worker at all the answer is 503 after ``queue_timeout``."""
    config, gateway = HttpConfig(queue_timeout=0.1), GatewaySettings(start_timeout=0)
    with Served({}, config=config, gateway=gateway) as site, Http2Client(site) as client:
        response = client.ask(request("/"))
        assert (response.status, response.header(b"retry-after")) == (503, b"1")


# ---------------------------------------------------------------- start and stop


def test_stop():
    """The idle end at once; what runs is answered; what is begun later is refused."""
    with Served(CONSUMERS) as site, Wire(site) as idle, Wire(site) as wire:
        idle.send(headers(1)).ended(1)
        wire.send(headers(1, request("/silence")), post(3)).alive()
        (message,) = wait_until(lambda: later(site, 1))
        stopping = site.stop()
        assert idle.end().code == NO_ERROR
        found = wire.until(lambda found: found.kind == GOAWAY)[-1]
        assert (found.code, found.payload[:4]) == (NO_ERROR, bytes((0, 0, 0, 3)))
        wire.send(headers(5))
        last = wire.ended(5)
        assert (last.kind, last.code) == (RST_STREAM, REFUSED_STREAM)
        wire.send(data(3, b"body", end=True)).ended(3)
        assert wire.content(3) == b"body"
        assert not stopping.done()
        site.layer.send(message["reply_channel"], {"text": "last"})
        wire.ended(1)
        assert wire.content(1) == b"last"
        wire.end()
        assert len([found for found in wire.seen if found.kind == GOAWAY]) == 1
        for client in (idle, wire):
            client.sock.close()
        stopping.result(5)
        assert site.connections == 0


def test_stop_that_is_cancelled():
    """When the grace is over, what still runs is cut off."""
    with Served(CONSUMERS) as site, Wire(site) as wire:
        wire.send(headers(1, request("/silence"))).alive()
        wait_until(lambda: site.messages("http.request"))
        stopping = site.stop()
        wire.until(lambda found: found.kind == GOAWAY)
        stopping.cancel()
        wire.until(lambda found: False)
        wait_until(lambda: not site.connections)
        wait_until(lambda: site.messages("http.disconnect"))


def test_the_client_says_goodbye(site):
    """6.8: after the client's GOAWAY what was begun is answered, and then the connection ends."""
    before = len(site.messages("http.request"))
    with Wire(site) as wire:
        wire.send(headers(1, request("/silence")), post(3), goaway())
        (message,) = wait_until(lambda: later(site, before))
        wire.send(data(3, b"a", end=True)).ended(3)
        site.layer.send(message["reply_channel"], {"text": "hi"})
        wire.ended(1)
        assert (wire.content(1), wire.content(3)) == (b"hi", b"a")
        assert wire.end().code == NO_ERROR


def test_a_goodbye_with_nothing_left(site):
    """A client that says GOAWAY and runs nothing is let go at once."""
    with Wire(site) as wire:
        wire.send(headers(1)).ended(1)
        assert wire.send(goaway()).end().code == NO_ERROR


# ---------------------------------------------------------------- nothing is left


def alive() -> int:
    kinds = {HttpProtocol, Http2Protocol, Http2Stream, HttpSession, HttpExchange, Library}
    return sum(type(found) in kinds for found in gc.get_objects())


def test_nothing_is_left():
    """After connections and streams of every fate nothing of them is held, nor in a cycle."""
    config = HttpConfig(timeout=0.3, body_timeout=0.3)
    with Served(CONSUMERS, config=config) as site:
        fates = [
            [headers(1), headers(3)],
            [headers(1, request("/silence")), reset(1)],
            [post(1), data(1, b"x" * 16000) * 8, reset(1)],
            [post(1), data(1, b"x" * 10)],
            [headers(1, request("/silence"))],
            [headers(1, request("/fail")), headers(3, request("/break"))],
            [headers(1, request("/begin"))],
            [headers(1, request(method=None)), post(3), data(3, b"a", end=True)],
            [settings((4, 0)), headers(1, request("/large")), reset(1)],
            [settings((4, 0)), headers(1, request("/large"))],
            [headers(1, request("/silence")), b"\xff" * 30],
        ]
        with Wire(site) as wire:  # what is made once and kept
            wire.send(headers(1)).ended(1)
        wait_until(lambda: not site.connections)
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for fate in fates:
                with Wire(site) as wire:
                    wire.send(*fate)
                    if fate[-1][-1] != 255:
                        wire.alive()
            wait_until(lambda: not site.connections)
            wait_until(lambda: not site.engine.flow.flights)
            wait_until(lambda: not site.engine.by_channel)
            wait_until(lambda: alive() == before)
            wait_until(lambda: len(site.engine.deadlines) == 0)
        finally:
            gc.enable()


def test_a_long_connection_keeps_little(site):
    """After thousands of requests a connection holds no more than after the first ones."""
    with Http2Client(site) as client:
        for _ in range(300):
            assert client.ask(request("/")).status == 200
        (protocol,) = wait_until(lambda: list(site.plugin._port.connections))
        wait_until(lambda: len(protocol._h2.streams) == 0)
        assert len(protocol._h2._closed_streams) <= 100
        assert len(protocol.guard._closed) <= 100
        assert not protocol.streams


def test_without_uvloop():
    """On asyncio's own loop everything is the same."""
    config = HttpConfig(write_timeout=0.3)
    with Served(CONSUMERS, config=config, loop_factory=asyncio.new_event_loop) as site:
        with Wire(site) as wire:
            wire.send(headers(1), post(3), data(3, b"x" * 16000) * 3, data(3, end=True))
            wire.ended(1)
            wire.ended(3)
            assert (wire.content(1), wire.content(3)) == (b"/", b"x" * 48000)
            wire.send(headers(5, request("/silence")))
            wait_until(lambda: len(site.messages("http.request")) == 3)
            wire.send(reset(5))
            wait_until(lambda: site.messages("http.disconnect"))
            wire.send(b"\0\0\0\x09\0\0\0\0\1")
            assert wire.end().code == 1
        with Wire(site, (4, 1 << 30), buffer=4096) as wire:
            wire.send(window(0, 1 << 30), *[headers(n, request("/large")) for n in range(1, 99, 2)])
            wait_until(lambda: site.drops.get("slow"))
        wait_until(lambda: not site.connections)
