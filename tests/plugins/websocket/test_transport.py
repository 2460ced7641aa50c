"""One wire between a fake transport and its session: what sockets seldom do in tests."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.metrics import Drop
from gateway.core.opening import Refuse
from gateway.core.websockets import frames
from gateway.core.websockets.frames import Fault
from gateway.plugins.websocket.transport import BATCH
from tests.plugins.websocket.peers import Line, frame, server_frames


def test_unread_bytes_come_first() -> None:
    """What came with the handshake is read before what comes later, even in the same turn."""
    line = Line(unread=frame(1, b"1") + frame(1, b"2")[:3])
    assert line.feed(frame(1, b"2")[3:]) == ["1", "2"]


def test_unread_bytes_come_before_the_end() -> None:
    """What came with the handshake is read even if the end of file is there already."""
    line = Line(unread=frame(1, b"1"))
    line.wire.eof_received()
    line.turn()
    assert line.events == ["1"]
    assert line.transport.closing


def test_batches() -> None:
    """What one read brings is handed over in batches of what an inbox has room for."""
    line = Line()
    line.feed(frame(1, b"x") * (BATCH * 2 + 1))
    assert line.batches == [BATCH, BATCH, 1]


def test_pause_in_the_middle_of_a_read() -> None:
    """A pause takes effect within a read; the rest waits and comes in order."""
    line = Line()
    received = line.received

    def pausing(events: Any) -> None:
        received(events)
        line.wire.pause()

    line.received = pausing  # type: ignore[method-assign]
    count = BATCH * 3
    line.feed(b"".join(frame(1, b"%d" % number) for number in range(count)))
    assert len(line.events) == BATCH
    assert line.transport.paused
    assert line.session.paused
    for _ in range(3):
        line.wire.resume()
        line.turn()
    assert line.events == [str(number) for number in range(count)]


def test_nothing_but_pongs_after_our_close() -> None:
    """After our close frame nothing is sent but pongs, until the peer's (RFC 6455 section 5.5)."""
    line = Line()
    list(line.session.send(None, {"close": True}, None))
    line.wire.close(frames.close_frame(1000), abort=False)
    line.wire.write(b"\x81\x01x")
    line.feed(frame(9, b"1"), frame(1, b"late"))
    assert server_frames(b"".join(line.written)) == [(8, b"\x03\xe8"), (10, b"1")]
    assert not line.transport.closing
    line.feed(frame(8), frame(9, b"2"))
    assert line.transport.closing
    assert len(line.written) == 2


def test_pongs_after_our_close_to_a_congested_peer() -> None:
    """What does not read has its last ping answered after our close, too, and once it reads."""
    line = Line()
    line.writable = lambda _: None  # type: ignore[attr-defined]
    list(line.session.send(None, {"close": True}, None))
    line.wire.close(frames.close_frame(1000), abort=False)
    line.wire.pause_writing()
    line.feed(frame(9, b"1"), frame(9, b"2"))
    assert len(line.written) == 1
    line.wire.resume_writing()
    assert line.written[1:] == [b"\x8a\x012"]


def test_our_close_answered() -> None:
    """The peer's answer to our close ends the connection, at once."""
    line = Line()
    list(line.session.send(None, {"close": True}, None))
    line.wire.close(frames.close_frame(1000), abort=False)
    line.feed(frame(1, b"late") + frame(8, b"\x03\xe8"))
    assert line.transport.closing
    assert not line.events
    assert line.session.ended()["code"] == 1000


def test_our_close_while_paused() -> None:
    """A wire that is paused reads again once it closes, or it would never see the answer."""
    line = Line()
    line.wire.pause()
    list(line.session.send(None, {"close": True}, None))
    line.wire.close(frames.close_frame(1000), abort=False)
    line.turn()
    assert not line.transport.paused


@pytest.mark.parametrize("fault", [frame(3), frame(8, b"\x03\xed")], ids=["opcode", "close-code"])
def test_a_fault_is_read_to_the_end(fault: bytes) -> None:
    """After a fault our side is shut, the rest is read and dropped, and the core hears at once."""
    line = Line()
    line.feed(fault, frame(1, b"x") * 1000, b"\xff" * 1000)
    assert line.transport.shut
    assert not line.transport.closing
    assert line.lost_times == 1
    assert len(line.events) == 1
    line.wire.connection_lost(None)
    assert line.lost_times == 1


def test_a_fault_over_tls() -> None:
    """TLS is closed behind the close frame of a fault, and has ``close_timeout`` to be so."""
    line = Line(close_timeout=7)
    line.transport.halves = False
    line.feed(frame(3), frame(1, b"x") * 1000)
    assert server_frames(b"".join(line.written))[0][0] == 8
    assert line.lost_times == 1
    assert line.transport.closing
    assert not line.transport.aborted
    deadline, seconds = line.deadline
    assert seconds == 7
    deadline.due()
    assert line.transport.aborted


def test_a_session_that_fails() -> None:
    """When the core closes without a word the peer hears 1011."""
    line = Line()
    line.wire.close(b"", abort=False)
    assert server_frames(b"".join(line.written)) == [(8, b"\x03\xf3")]


def test_abort() -> None:
    """An abort is at once and without a word."""
    line = Line()
    line.wire.close(b"", abort=True)
    assert line.transport.aborted
    assert not line.written


@pytest.mark.parametrize("call", ["write", "close", "pause", "resume"])
def test_a_closing_transport_is_left_alone(call: str) -> None:
    """A transport that is closing is not written to: it would raise."""
    line = Line()
    line.transport.closing = True
    if call == "write":
        line.wire.write(b"\x81\x01x")
    elif call == "close":
        line.wire.close(frames.close_frame(1000), abort=False)
    else:
        getattr(line.wire, call)()
    line.turn()
    assert not line.written
    assert not line.transport.paused
    assert line.drops == ([Drop.GONE] if call == "write" else [])


def test_control_frames_are_no_messages() -> None:
    """A pong that finds its peer gone is not counted as a message that was dropped."""
    line = Line()
    line.transport.closing = True
    line.wire.write(frames.control_frame(frames.PONG, b"x"))
    assert not line.drops


def test_pongs_of_a_congested_peer() -> None:
    """While the peer does not read, only its last ping is answered, and once it reads again."""
    line = Line()
    line.writable = lambda _: None  # type: ignore[attr-defined]
    line.wire.pause_writing()
    line.wire.write(frames.control_frame(frames.PONG, b"1"))
    line.wire.write(frames.control_frame(frames.PONG, b"2"))
    line.wire.write(frames.text_frame("data"))
    assert line.written == [b"\x81\x04data"]
    line.wire.resume_writing()
    assert line.written[1:] == [b"\x8a\x012"]


def test_refusal_comes_too_late() -> None:
    """A refusal of what is accepted already closes it."""
    line = Line()
    line.wire.close(Refuse(403), abort=False)
    assert server_frames(b"".join(line.written)) == [(8, b"\x03\xf3")]


def test_rate() -> None:
    """What a client may send grows with time, up to a burst; after that it is a fault: 1008."""
    line = Line(message_rate=10, message_burst=5)
    line.feed(frame(1, b"x") * 5)
    line.now = 0.4
    line.feed(frame(1, b"x") * 4)
    assert line.events == ["x"] * 9
    line.now = 100.0
    line.feed(frame(1, b"x") * 5)
    line.now = 100.05
    line.feed(frame(1, b"x"))
    assert line.events[14:] == [Fault(1008, "over 10 messages a second")]
    assert line.transport.shut
    assert line.drops == [Drop.LIMITED]
