"""Flow control and settings: what the client allows is what it gets, to the byte."""

from __future__ import annotations

import pytest
from hpack import Decoder

from tests.plugins.http.http2.serving import CONSUMERS, leftovers
from tests.plugins.http.http2.wire import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    Frame,
    Wire,
    block,
    data,
    headers,
    post,
    request,
    settings,
    window,
)
from tests.plugins.http.serving import Served, wait_until
from tests.plugins.http.test_bodies import read_body

MIB = 1024 * 1024
TABLE, WINDOW, FRAME = 1, 4, 5


def answer(message: dict) -> list[dict]:
    """Answer with as many bytes, or headers of so many bytes, as the path says."""
    match message["path"].split("/"):
        case ["", "bytes", size]:
            return [{"status": 200, "headers": [], "content": b"x" * int(size)}]
        case ["", "fields", size]:
            value = b"v" * int(size)
            return [{"status": 200, "headers": [(b"a", value), (b"b", value)], "content": b""}]
        case ["", "named", name]:
            return [{"status": 200, "headers": [(b"x-name", name.encode())], "content": b""}]
    return CONSUMERS["http.request"](message)


class Site(Served):
    """A site whose consumer reads bodies, too."""

    def __init__(self) -> None:
        super().__init__({**CONSUMERS, "http.request": self.consume})

    def consume(self, message: dict) -> list[dict]:
        if message["path"] == "/sum":
            return [{"text": str(len(read_body(self.layer, message)))}]
        return answer(message)


@pytest.fixture(scope="module")
def site():
    with Site() as served:
        yield served


def is_data(found: Frame) -> bool:
    return found.kind == DATA


def contents(wire: Wire, stream: int = 1) -> list[int]:
    """Return the sizes of a stream's DATA frames so far."""
    return [len(f.payload) for f in wire.seen if f.kind == DATA and f.stream == stream]


def ask(wire: Wire, path: str, stream: int = 1) -> None:
    wire.send(headers(stream, request(path)))


def test_no_more_than_the_window(site):
    """6.9.1: of the content goes what the window of the stream has room for."""
    with Wire(site, (WINDOW, 1)) as wire:
        ask(wire, "/bytes/10")
        assert len(wire.until(is_data)[-1].payload) == 1
        wire.alive()
        assert contents(wire) == [1]
        wire.send(window(1, 4)).alive()
        assert contents(wire) == [1, 4]
        wire.send(window(1, 100))
        assert wire.ended(1).flags == END_STREAM
        assert contents(wire) == [1, 4, 5]


def test_a_window_that_opens_after_the_request(site):
    """6.9.2: a change of SETTINGS_INITIAL_WINDOW_SIZE is a change of every open stream's window."""
    with Wire(site, (WINDOW, 0)) as wire:
        ask(wire, "/bytes/10")
        ask(wire, "/bytes/10", 3)
        wire.until(lambda f: f.kind == HEADERS and f.stream == 3)
        wire.alive()
        assert contents(wire) == contents(wire, 3) == []
        wire.send(settings((WINDOW, 3))).alive()
        assert contents(wire) == contents(wire, 3) == [3]


def test_a_window_that_becomes_negative(site):
    """6.9.2: what was sent already is to be made up for before anything is sent again."""
    with Wire(site, (WINDOW, 3)) as wire:
        ask(wire, "/bytes/10")
        wire.until(is_data)
        wire.send(settings((WINDOW, 2))).alive()  # 1 less than nothing
        wire.send(window(1, 1)).alive()  # nothing
        assert contents(wire) == [3]
        wire.send(window(1, 1)).alive()
        assert contents(wire) == [3, 1]


def test_the_end_needs_no_window(site):
    """6.9: only content counts; what has none is complete with a window of nothing."""
    with Wire(site, (WINDOW, 0)) as wire:
        ask(wire, "/bytes/0")
        assert wire.ended(1).ends
        wire.send(headers(3, request("/bytes/5", method=b"HEAD")))
        assert wire.ended(3).ends


def test_the_connections_window(site):
    """6.9.1: all streams together send no more than the connection's window."""
    with Wire(site, (WINDOW, MIB)) as wire:
        for stream in (1, 3, 5):
            ask(wire, "/bytes/30000", stream)
        wire.until(lambda _: sum(len(f.payload) for f in wire.seen if is_data(f)) == 65535)
        wire.alive()
        wire.send(window(0, 24465))
        for stream in (1, 3, 5):
            wire.ended(stream)
            assert wire.content(stream) == b"x" * 30000


def test_frames_have_the_least_size(site):
    """4.2: no frame is larger than every client takes, whatever this one would."""
    with Wire(site, (WINDOW, MIB), (FRAME, 65536)) as wire:
        ask(wire, "/bytes/50000")
        wire.ended(1)
        assert contents(wire) == [16384, 16384, 16384, 848]


def test_large_headers(site):
    """6.10: a header block of over 16384 bytes goes on in CONTINUATION."""
    with Wire(site) as wire:
        ask(wire, "/fields/20000")
        wire.until(lambda f: f.flags & END_HEADERS and f.kind == CONTINUATION)
        kinds = [(f.kind, len(f.payload)) for f in wire.seen if f.stream == 1]
        assert [kind for kind, _ in kinds] == [HEADERS, CONTINUATION, CONTINUATION]
        assert max(size for _, size in kinds) == 16384
        assert dict(wire.fields[1][0])[b"b"] == b"v" * 20000


def test_streams_take_turns(site):
    """Ten long responses at once: each gets a frame in turn, no matter who asked first."""
    with Wire(site, (WINDOW, MIB)) as wire:
        for stream in range(1, 20, 2):
            ask(wire, "/bytes/200000", stream)
        wire.alive()
        wire.send(window(0, 1_500_000))
        wire.until(lambda _: sum(len(f.payload) for f in wire.seen if is_data(f)) > 1_400_000)
        sizes = [sum(contents(wire, stream)) for stream in range(1, 20, 2)]
        assert max(sizes) - min(sizes) <= 65536 + 2 * 16384  # the first had a start of 65535


def test_a_short_response_overtakes_long_ones(site):
    """What comes for another stream waits for one turn of the others', not for their end."""
    with Wire(site, (WINDOW, 2**31 - 1), buffer=65536) as wire:
        wire.send(window(0, 2**30))
        for stream in range(1, 40, 2):
            ask(wire, "/bytes/900000", stream)
        wire.until(is_data)
        ask(wire, "/bytes/5", 101)
        wire.ended(101)
        before = sum(len(f.payload) for f in wire.seen if is_data(f))
        assert before < 9 * MIB  # of 18


def test_the_client_may_send_on(site):
    """6.9: windows are opened again as content is worked on: 3 MB on one stream."""
    with Wire(site) as wire:
        wire.send(post(1, "/sum"))
        size, sent = 3 * MIB, 0
        while sent < size:
            wire.alive()
            room = min(262144 + wire.opened(1), 65535 + wire.opened(0), size) - sent
            wire.send(*[data(1, b"x" * min(16384, room - n)) for n in range(0, room, 16384)])
            sent += room
        wire.send(data(1, end=True)).ended(1)
        assert wire.content(1) == b"%d" % size
        assert wire.opened(1) <= size
        assert 65535 + wire.opened(0) <= size + MIB


def test_an_unread_body_holds_its_stream_alone(site):
    """A body that nobody reads fills its own window; another's is read, the connection's opens."""
    with Wire(site) as wire:
        wire.send(window(0, MIB), post(1, "/silence"))
        wire.send(*[data(1, b"x" * 16384)] * 36)  # 64 KiB inline, 4 pieces and one, its window
        wire.alive()
        for stream in range(3, 23, 2):
            wire.send(post(stream), *[data(stream, b"y" * 8192)] * 7, data(stream, end=True))
            wire.ended(stream)
            assert wire.content(stream) == b"y" * 57344
    wait_until(lambda: not leftovers(site))


def test_a_body_that_nobody_will_read(site):
    """Who is answered, and does not take the answer, can send no more than a window of the body."""
    with Wire(site, (WINDOW, 1)) as wire:
        wire.send(window(0, MIB), post(1, "/bytes/100"))
        wire.send(*[data(1, b"x" * 16384)] * 5).until(is_data)  # the answer comes, and waits
        before = wire.opened(1)
        wire.send(*[data(1, b"x" * 16384)] * 10).alive()
        assert wire.opened(1) == before
        wire.send(window(1, 1000), headers(3)).ended(3)
        assert wire.content(1) == b"x" * 100


# ---------------------------------------------------------------- the client's header table


@pytest.mark.parametrize("size", [0, 64, 4096, 65536, 2**32 - 1])
def test_the_clients_table(site, size):
    """6.5.2: responses use no more of the client's table than it allows, and say so first."""
    with Wire(site, (TABLE, size)) as wire:
        wire.decoder = Decoder()
        wire.decoder.max_allowed_table_size = size
        for stream in range(1, 400, 2):
            ask(wire, f"/named/{stream:050}", stream)
            wire.ended(stream)
            assert dict(wire.fields[stream][0])[b"x-name"] == b"%050d" % stream
        first = next(f for f in wire.seen if f.kind == HEADERS)
        assert first.payload[0] == 0x20  # RFC 7541 section 6.3
        assert wire.decoder.header_table_size == min(size, 4096)


def test_a_table_that_shrinks_and_grows(site):
    """RFC 7541 4.2: the smallest size in between is told, even of one SETTINGS frame."""
    with Wire(site) as wire:
        ask(wire, "/named/a")
        wire.ended(1)
        wire.send(settings((TABLE, 0), (TABLE, 4096)))
        wire.decoder.header_table.maxsize = 0
        wire.decoder.header_table.maxsize = 4096
        ask(wire, "/named/a", 3)
        wire.ended(3)
        assert [f.payload[:1] for f in wire.seen if f.kind == HEADERS][1] == b"\x20"
        assert dict(wire.fields[3][0])[b"x-name"] == b"a"


def test_our_table_is_the_clients_to_fill(site):
    """RFC 7541 4.4: fields that the client has us remember are forgotten oldest first."""
    with Wire(site) as wire:
        for stream in range(1, 200, 2):
            name = b"\x40\x01a" + bytes((60,)) + b"%060d" % stream
            # The field remembered last is index 62; of 93 bytes each, 44 have room.
            indexed = bytes((0x80 | 62,)) * 2 + (bytes((0x80 | 105,)) if stream > 100 else b"")
            wire.send(headers(stream, block(request()) + name + indexed))
            wire.ended(stream)
            assert wire.content(stream) == b"/"
        wire.send(headers(201, block(request()) + bytes((0x80 | 106,))))
        wire.end()
