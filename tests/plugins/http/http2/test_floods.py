"""Clients that send too much, take too little, or are only busy: who is ended, and who is not."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from gateway.core.config import GatewaySettings
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.http2.connection import Http2Protocol
from gateway.plugins.http.http2.faults import FAULTS
from gateway.plugins.http.http2.library import CONNECTION_WINDOW
from gateway.plugins.http.http2.outflow import TURN
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.http.http2.serving import CONSUMERS, faults, leftovers
from tests.plugins.http.http2.wire import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    Wire,
    block,
    data,
    frame,
    headers,
    ping,
    post,
    priority,
    request,
    reset,
    settings,
    window,
)
from tests.plugins.http.serving import Served, wait_until

MIB = 1024 * 1024
WINDOW = 4
GET = block(request())
SILENCE = request("/silence")


def numbers() -> Iterator[int]:
    return itertools.count(1, 2)


FLOODS = {
    "PING": ("control-frames", lambda n: ping()),
    "SETTINGS": ("control-frames", lambda n: settings((WINDOW, 100))),
    "unknown settings": ("control-frames", lambda n: settings(*[(n + m, 1) for m in range(9, 40)])),
    "PRIORITY": ("control-frames", lambda n: priority(n + 2)),
    "empty DATA": ("control-frames", lambda n: data(1)),
    "WINDOW_UPDATE": ("control-frames", lambda n: window(0, 1)),
    "unknown frames": ("control-frames", lambda n: frame(0x42, 0, 0, b"x" * 100)),
    "requests reset at once": ("control-frames", lambda n: headers(n + 2, SILENCE) + reset(n + 2)),
    "requests made to be reset": (
        "control-frames",
        lambda n: headers(n + 2, SILENCE) + window(n + 2, 2**31 - 1),
    ),
    "malformed requests": ("control-frames", lambda n: headers(n + 2, request(method=b"G T"))),
    "empty CONTINUATION": (
        "header-block-size",
        lambda n: frame(HEADERS, 1, 3) if n == 1 else frame(CONTINUATION, 0, 3),
    ),
    "CONTINUATION": (
        "header-block-size",
        lambda n: frame(HEADERS if n == 1 else CONTINUATION, 0, 3, b"\0\1a\1b" * 500),
    ),
    "requests beyond the limit": ("control-frames", lambda n: headers(n + 2, SILENCE)),
}


@pytest.mark.parametrize(("fault", "flood"), FLOODS.values(), ids=FLOODS)
def test_a_flood(site, fault, flood):
    """It ends its connection, in the words of the protocol; the others never notice."""
    before = faults(site, fault)
    with Wire(site) as neighbour, Wire(site) as wire:
        wire.send(post(1))
        for n in itertools.islice(numbers(), 3000):
            wire.send(flood(n))
            if n % 500 == 1:
                neighbour.send(headers(n)).ended(n)
                assert neighbour.content(n) == b"/"
            if faults(site, fault) > before:
                break
        last = wire.end()
        assert last.code == ENHANCE_YOUR_CALM
        assert last.payload[8:].decode() == f"{FAULTS[fault].sentence} ({fault})"
        neighbour.alive()
    assert faults(site, fault) == before + 1
    wait_until(lambda: not leftovers(site))
    wait_until(lambda: not site.engine.by_channel)


def test_rapid_reset_reaches_the_application_slowly(site):
    """Of thousands of requests that are reset, the application hears of some two hundred."""
    before = len(site.messages("http.request"))
    with Wire(site) as wire:
        for n in itertools.islice(numbers(), 2000):
            wire.send(headers(n, SILENCE)).send(reset(n))
        wire.end()
    wait_until(lambda: not site.engine.by_channel)
    assert len(site.messages("http.request")) - before <= 210


def test_unknown_settings_are_not_kept(site):
    """What nobody knows costs no memory, however often it comes."""
    with Wire(site) as wire:
        for n in range(9, 9 + 500 * 30, 30):
            wire.send(settings(*[(n + m, 1) for m in range(30)]))
        wire.alive()
        (protocol,) = wait_until(lambda: list(site.plugin._port.connections))
        assert len(protocol._h2.remote_settings) < 10


def test_a_bomb(site):
    """A header block that unpacks to more than is served ends the connection (CVE-2016-6581)."""
    with Wire(site) as wire:
        wire.send(headers(1, GET + b"\x40\x01a\x7f\x81\x1e" + b"x" * 4000 + b"\xbe" * 12_000))
        last = wire.end()
        assert last.code == ENHANCE_YOUR_CALM
        assert last.payload[8:].endswith(b"(header-block-size)")


# ---------------------------------------------------------------- who takes too little


def sizes(wire: Wire, stream: int = 1) -> int:
    return len(wire.content(stream))


def full(site):
    """The connection of HTTP/2 whose client takes no more, if there is one yet."""
    for connection in list(site.plugin._port.connections):
        if isinstance(connection, Http2Protocol) and connection.outflow.full:
            return connection
    return None


def test_a_client_that_never_reads():
    """What it is sent is bounded, what it sends is read no more, and soon it is cut off."""
    large = b"x" * 900_000

    def consume(message: dict) -> list[dict]:
        return [{"status": 200, "headers": [], "content": large}]

    consumers = {"http.request": consume, "http.disconnect": lambda _: None}
    config = HttpConfig(write_timeout=0.5)
    with Served(consumers, config=config) as site, Wire(site) as neighbour:
        with Wire(site, (WINDOW, 2**31 - 1), buffer=4096) as wire:
            wire.send(window(0, 2**30), *[headers(n) for n in itertools.islice(numbers(), 100)])
            protocol = wait_until(lambda: full(site))
            most = site.call(protocol.transport.get_write_buffer_size)
            assert most <= 65536 + 2 * TURN
            assert not protocol.transport.is_reading()
            neighbour.send(headers(1))
            neighbour.until(lambda found: found.kind == DATA)
            wait_until(lambda: site.drops.get("slow"))
            wait_until(lambda: len(site.plugin._port.connections) == 1)
        neighbour.alive()


@pytest.mark.parametrize("stream", [1, 0], ids=["the stream's", "the connection's"])
def test_a_window_that_opens_by_a_byte_now_and_then(stream):
    """It is as good as one that does not open: the stream is reset after ``write_timeout``."""
    pause = threading.Event()
    config = HttpConfig(write_timeout=0.4)
    with Served(CONSUMERS, config=config) as site:
        with Wire(site, (WINDOW, 5 if stream else MIB)) as wire:
            wire.send(headers(1, request("/large")))
            wire.until(lambda _: sizes(wire) == (5 if stream else 65535))
            opened = 0
            while not site.drops.get("slow"):
                wire.send(window(stream, 1))
                opened += 1
                assert opened < 100, "it was not ended"
                pause.wait(0.03)
            last = wire.ended(1)
            assert (last.kind, last.code) == (RST_STREAM, CANCEL)
            assert opened >= 5
            wire.send(window(0, MIB), headers(3)).ended(3)
        wait_until(lambda: not leftovers(site))


def test_a_window_that_opens_slowly():
    """16 KiB in each ``write_timeout`` are enough, however long it takes in all."""
    pause = threading.Event()
    config = HttpConfig(write_timeout=1.5)
    with Served(CONSUMERS, config=config) as site, Wire(site, (WINDOW, 0)) as wire:
        wire.send(window(0, MIB), headers(1, request("/large")))
        for _ in range(300_000 // 12_500):
            wire.send(window(1, 12_500))
            pause.wait(0.1)
        wire.ended(1)
        assert sizes(wire) == 300_000


def test_a_slow_connection_with_many_streams():
    """Who waits for its turn behind others that move is not cut off, though it moves little."""
    pause = threading.Event()
    config = HttpConfig(write_timeout=0.8)
    streams = list(itertools.islice(numbers(), 20))
    with Served(CONSUMERS, config=config) as site, Wire(site, (WINDOW, MIB)) as wire:
        wire.send(*[headers(n, request("/bytes?33000")) for n in streams])
        while sum(sizes(wire, n) for n in streams) < 20 * 33_000:
            wire.send(window(0, 16_384)).alive()
            pause.wait(0.06)
        assert {sizes(wire, n) for n in streams} == {33_000}
        assert not site.drops.get("slow")


def test_bodies_that_nobody_reads():
    """A hundred of them: no more than two windows of the connection wait in it."""
    config = HttpConfig(timeout=60)
    roomy = GatewaySettings()
    with Served(CONSUMERS, config=config, gateway=roomy) as site, Http2Client(site) as client:
        streams = [
            client.send(request("/silence", method=b"POST"), None, end=False) for _ in range(99)
        ]

        def push() -> bool:
            """Send what may be sent; return whether that was anything."""
            moved = False
            for number in streams:
                if room := min(16384, client.h2.local_flow_control_window(number)):
                    client.h2.send_data(number, b"x" * room)
                    moved = True
            client.flush()
            return moved

        def push_on() -> None:
            while push() or client.take():
                pass

        client.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            push_on()
        client.sock.settimeout(10)
        (protocol,) = site.plugin._port.connections
        assert site.call(lambda: protocol._retained) <= 2 * CONNECTION_WINDOW
        assert client.ask(request("/")).content == b"/"


# ---------------------------------------------------------------- who is only busy


def test_a_large_download_with_many_updates(site):
    """Both windows opened for every frame, and PING beside it: nobody takes that for a flood."""
    with Wire(site, (WINDOW, 65535)) as wire:
        for stream in itertools.islice(numbers(), 40):
            wire.send(headers(stream, request("/bytes?900000")), ping())
            while True:
                found = wire.next()
                assert found.kind not in {RST_STREAM, GOAWAY}
                if found.kind == DATA:
                    size = len(found.payload)
                    wire.send(window(0, size), window(stream, size))
                    if found.flags & END_STREAM:
                        break
        wire.alive()


def test_a_closed_tab(site):
    """Sixty requests cancelled at once, three times over, cost a browser nothing."""
    counted = numbers()
    with Wire(site) as wire:
        for _ in range(3):
            streams = list(itertools.islice(counted, 60))
            wire.send(*[headers(n, SILENCE) for n in streams]).alive()
            wire.send(*[reset(n) for n in streams]).alive()
        last = next(counted)
        wire.send(headers(last)).ended(last)
        assert wire.content(last) == b"/"
        assert not [found for found in wire.seen if found.kind == GOAWAY]


def test_thousands_of_requests(site):
    """A client with a hundred requests at a time is served as long as it likes."""
    with Wire(site) as wire:
        counted = numbers()
        for _ in range(20):
            streams = list(itertools.islice(counted, 100))
            wire.send(*[headers(n) for n in streams], window(0, 100))
            for n in streams:
                wire.ended(n)
                assert wire.status(n) == 200
