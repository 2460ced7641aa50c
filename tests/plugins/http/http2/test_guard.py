"""The guard alone: what it lets through, however the bytes are cut; what it charges for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from gateway.plugins.http.http2.faults import Fault
from gateway.plugins.http.http2.guard import Act, Guard
from gateway.plugins.http.port import PREFACE
from tests.plugins.http.http2 import cases
from tests.plugins.http.http2.wire import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    HEADERS,
    SETTINGS,
    data,
    frame,
    goaway,
    headers,
    ping,
    post,
    priority,
    reset,
    settings,
    window,
)

ALL = [case for case in (*cases.RIGHT, *cases.ENDING, *cases.COSTING) if not case.raw]
HELLO = PREFACE + settings()


def guard(rate: float = 100.0, *, streams: int = 100) -> Guard:
    return Guard(rate, 131072, streams, 0.0)


def judge(judging: Guard, pieces: list[bytes], now: float = 0.0) -> list:
    """Return the rulings on pieces, and the fault that ended them."""
    found: list = []
    try:
        for piece in pieces:
            for ruling in judging.feed(piece, now):
                found.append(ruling)
                if ruling[0] is Act.TAKE and ruling[1] and ruling[2][3] == 3:
                    judging.close(ruling[1])
    except Fault as fault:
        found.append(fault.id)
    return found


def cut(sent: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    return [sent[start:stop] for start, stop in pairwise(marks)]


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_every_case_however_it_is_cut(case):
    """Whole, byte by byte or in pieces, the same bytes get the same rulings."""
    sent = HELLO + b"".join(step for step in case.steps if isinstance(step, bytes))
    if b"\0\0\x04\x03" in sent:
        return  # of a reset in the same read nothing is begun: see the next test
    whole = judge(guard(), [sent])
    step = 1 if len(sent) < 2000 else 1009
    assert judge(guard(), cut(sent, list(range(0, len(sent), step)))) == whole
    for at in range(1, len(sent), step):
        assert judge(guard(), [sent[:at], sent[at:]]) == whole


FRAMES = st.one_of(
    st.integers(1, 12).map(headers),
    st.integers(1, 12).map(post),
    st.tuples(st.integers(0, 12), st.binary(max_size=20)).map(lambda t: data(*t)),
    st.integers(1, 12).map(lambda n: data(n, b"a", end=True)),
    st.integers(0, 12).map(lambda n: window(n, 5)),
    st.tuples(st.integers(1, 12), st.integers(0, 12)).map(lambda t: priority(*t)),
    st.sampled_from([ping(), ping(ack=True), goaway(), frame(99, 1, 3, b"x"), settings((4, 9))]),
    st.sampled_from([frame(SETTINGS, ACK), frame(SETTINGS, 0, 0, b"1"), frame(HEADERS, 0, 1)]),
    st.integers(1, 12).map(lambda n: frame(CONTINUATION, END_HEADERS, n)),
)


@tried(deadline=None)
@given(frames=st.lists(FRAMES, max_size=12), cuts=st.lists(st.integers(0, 600), max_size=8))
def test_any_cutting_gives_the_same_rulings(frames, cuts):
    """However the bytes of any frames arrive, they are judged alike."""
    sent = HELLO + b"".join(frames)
    assert judge(guard(), cut(sent, cuts)) == judge(guard(), [sent])


@tried(deadline=None)
@given(frames=st.lists(FRAMES, max_size=12))
def test_what_the_library_gets(frames):
    """It is what came, whole frames in order, less what the library is not to see."""
    sent = HELLO + b"".join(frames)
    taken = [found[2] for found in judge(guard(), [sent]) if found[0] is Act.TAKE]
    position = 0
    for piece in taken[1:]:  # the first is SETTINGS
        if piece[3] != SETTINGS:  # and others are rid of what does not concern us
            position = sent.index(piece, position) + len(piece)
    assert not any(piece[3] in {2, 5, 7} or piece[3] > 9 for piece in taken)


def test_a_reset_in_the_same_read():
    """What is reset in the same breath is never begun: its fields are unpacked, and that is all."""
    judging = guard()
    sent = HELLO + post(1) + data(1, b"a") + headers(3) + reset(1)
    found = judge(judging, [sent])
    assert [ruling[0] for ruling in found] == [Act.TAKE, Act.UNPACK, Act.SPEND, Act.TAKE, Act.SKIP]
    assert found[1][2] == cases.block(cases.request(method=b"POST"))
    assert judge(judging, [data(1, b"b")])[0][3] == "stream-closed"


def test_streams_at_once():
    """One stream too many is refused; one that is over makes room."""
    judging = guard(streams=2)
    found = judge(judging, [HELLO, headers(1), headers(3), headers(5)])
    assert [ruling[3] for ruling in found] == ["", "", "", "stream-refused"]
    judging.close(1)
    assert judge(judging, [headers(7)])[0][0] is Act.TAKE
    assert judge(judging, [headers(9)])[0][3] == "stream-refused"


def test_what_may_still_come_for_a_stream_that_we_closed():
    """Content, trailers, resets and windows on their way are let pass, until the client knows."""
    judging = guard()
    judge(judging, [HELLO, post(1)])
    judging.close(1)
    found = judge(judging, [data(1, b"a"), window(1, 9), headers(1, cases.TRAILERS)])
    assert [(ruling[0], ruling[3]) for ruling in found] == [
        (Act.SPEND, ""),
        (Act.SKIP, ""),
        (Act.UNPACK, ""),
    ]
    assert judge(judging, [data(1, b"b")])[0][3] == "stream-closed"
    judge(judging, [post(3)])
    judging.close(3)
    assert [ruling[0] for ruling in judge(judging, [reset(3), reset(3)])] == [Act.SKIP] * 2
    assert judge(judging, [headers(3)]) == ["stream-closed"]


def test_the_connections_window():
    """Content beyond it is a fault, whoever it was for; what is opened may be used."""
    judging = guard()
    judge(judging, [HELLO, post(1), *[data(1, b"x" * 16383)] * 4])
    judging.close(1)
    assert judge(judging, [data(1, b"x" * 3)])[0][0] is Act.SPEND
    judging.window += 5
    assert judge(judging, [data(1, b"x" * 5), data(1, b"x")])[1:] == ["window-exceeded"]


FLOODS = {
    "PING": ping(),
    "SETTINGS": settings(),
    "ACK": frame(SETTINGS, ACK),
    "PRIORITY": priority(1),
    "WINDOW_UPDATE": window(0, 1),
    "GOAWAY": goaway(),
    "an unknown type": frame(99),
    "empty DATA": data(1),
    "padding": frame(0, 8, 1, b"\x02\0\0"),
    "RST_STREAM": reset(1),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_floods(flood):
    """Ten seconds' worth is let through at once, a second's worth each second, and no more."""
    price = 5 if flood == reset(1) else 1
    most = 999 // price  # the connection's first SETTINGS is paid for too
    judging = guard()
    judge(judging, [HELLO, post(1)])
    assert "control-frames" not in judge(judging, [flood] * most)
    assert judge(judging, [flood])[-1] == "control-frames"
    judging = guard()
    judge(judging, [HELLO, post(1), *[flood] * most])
    for second in range(1, 50):
        assert "control-frames" not in judge(judging, [flood] * (100 // price), float(second))
    assert judge(judging, [flood], 49.0)[-1] == "control-frames"


def test_rapid_reset():
    """Requests that are begun and reset are let through 200 times at once, 20 times a second."""
    judging = guard()
    judge(judging, [HELLO])
    found = []
    for stream in range(1, 1000, 2):
        found += judge(judging, [headers(stream), reset(stream)])
        if found[-1] == "control-frames":
            break
    assert 195 <= sum(1 for ruling in found if ruling[0] is Act.TAKE) // 2 <= 200
    assert found[-1] == "control-frames"


@pytest.mark.parametrize(
    "fault",
    [
        [window(1, 0)],
        [priority(1, 1)],
        [frame(2, 0, 1, b"1")],
        [headers(1, cases.TRAILERS, flags=END_HEADERS)],
    ],
    ids=["WINDOW_UPDATE", "dependency", "PRIORITY", "trailers"],
)
def test_resets_that_the_server_is_made_to_send(fault):
    """They cost as much as the client's own: it is the same to who works on the request."""
    judging = guard()
    judge(judging, [HELLO])
    found = []
    for stream in range(1, 1000, 2):
        sent = [piece.replace(b"\0\0\0\1", stream.to_bytes(4), 1) for piece in fault]
        found += judge(judging, [post(stream), *sent])
        if found[-1] == "control-frames":
            break
    assert 150 <= sum(1 for ruling in found if ruling[3]) <= 200


def test_answers_earn_resets():
    """Who lets every second request be answered may reset the others for ever."""
    judging = guard()
    judge(judging, [HELLO])
    for stream in range(1, 4000, 4):
        found = judge(judging, [headers(stream), headers(stream + 2), reset(stream + 2)])
        assert "control-frames" not in found
        judging.close(stream)
        judging.earn()


def test_windows_may_be_opened_for_what_was_sent():
    """Two WINDOW_UPDATE frames for each frame of content, however late they come."""
    judging = guard()
    judge(judging, [HELLO, headers(1)])
    for _ in range(20_000):
        judging.sent()
    assert "control-frames" not in judge(judging, [window(0, 1), window(1, 1)] * 20_000)
    assert judge(judging, [window(1, 1)] * 1001)[-1] == "control-frames"


def test_what_is_waited_for():
    """A header block, or the preface, that has begun is waited for; and whose content has."""
    judging = guard()
    assert not judging.in_head
    judge(judging, [PREFACE[:5]])
    assert judging.in_head
    judge(judging, [PREFACE[5:] + settings() + headers(1)[:9]])
    assert judging.in_head
    judge(judging, [headers(1)[9:]])
    assert not judging.in_head
    judge(judging, [frame(HEADERS, 1, 3, cases.GET)])
    assert judging.in_head
    judge(judging, [frame(CONTINUATION, 4, 3)[:7]])
    assert judging.in_head
    judge(judging, [frame(CONTINUATION, 4, 3)[7:]])
    assert not judging.in_head
    judge(judging, [post(5) + data(5, b"hello")[:11]])
    assert (judging.in_head, judging.partial_data) == (False, 5)
    judge(judging, [data(5, b"hello")[11:]])
    assert judging.partial_data == 0


def test_little_is_remembered():
    """Of a hundred thousand streams that are over, a hundred are remembered."""
    judging = guard(rate=1e9)
    judge(judging, [HELLO])
    for stream in range(1, 200_000, 2):
        judge(judging, [headers(stream)])
        judging.close(stream)
    assert len(judging._closed) == 100
    assert not judging._live
