"""Frame by frame, section by section, over real sockets: what RFC 9113 says is what happens."""

from __future__ import annotations

import pytest

from gateway.plugins.http.http2.faults import FAULTS
from gateway.plugins.http.port import PREFACE
from gateway.plugins.http.refusals import RULES
from tests.plugins.http.http2.cases import COSTING, ELSEWHERE, ENDING, MALFORMED, RIGHT, Case
from tests.plugins.http.http2.serving import faults, leftovers
from tests.plugins.http.http2.wire import (
    GOAWAY,
    PROTOCOL_ERROR,
    RST_STREAM,
    SETTINGS,
    Wire,
    headers,
    settings,
)
from tests.plugins.http.serving import wait_until

ERRORS = {RST_STREAM, GOAWAY}


def run(wire: Wire, case: Case) -> None:
    for step in case.steps:
        if isinstance(step, int):
            wire.ended(step)
        else:
            wire.send(step)


@pytest.mark.parametrize("case", RIGHT, ids=lambda case: case.id)
def test_what_is_right(site, case):
    """It is taken, or ignored; the connection goes on, and requests are answered."""
    with Wire(site) as wire:
        run(wire, case)
        for stream, content in case.answers:
            wire.ended(stream)
            assert (wire.status(stream), wire.content(stream)) == (200, content)
        wire.alive()
        assert not [found for found in wire.seen if found.kind in ERRORS]


@pytest.mark.parametrize("case", ENDING, ids=lambda case: case.id)
def test_what_ends_the_connection(site, case):
    """GOAWAY says why, in a code and in words, and the connection is closed."""
    before = faults(site, case.fault)
    with Wire(site, begin=not case.raw) as wire:
        run(wire, case)
        last = wire.end()
        assert last.code == FAULTS[case.fault].code
        assert last.payload[8:] == f"{FAULTS[case.fault].sentence} ({case.fault})".encode()
        assert len([found for found in wire.seen if found.kind == GOAWAY]) == 1
        assert wire.sock.recv(1) == b""
    assert faults(site, case.fault) == before + 1
    wait_until(lambda: not leftovers(site))


@pytest.mark.parametrize("case", COSTING, ids=lambda case: case.id)
def test_what_costs_a_stream(site, case):
    """RST_STREAM says why in a code; the connection goes on, and others are answered."""
    before = faults(site, case.fault)
    with Wire(site) as wire:
        run(wire, case)
        resets = wire.until(lambda found: found.kind in ERRORS)
        assert (resets[-1].kind, resets[-1].stream) == (RST_STREAM, case.stream)
        assert resets[-1].code == FAULTS[case.fault].code
        wire.send(headers(101)).ended(101)
        assert wire.content(101) == b"/"
        wire.alive()
        assert len([found for found in wire.seen if found.kind in ERRORS]) == 1
    assert faults(site, case.fault) == before + 1
    wait_until(lambda: not leftovers(site))


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.id)
def test_a_malformed_request(site, case):
    """It is answered 400 with the refusal's id, and reset; others are answered."""
    with Wire(site) as wire:
        run(wire, case)
        last = wire.ended(case.stream)
        assert (last.kind, last.code) == (RST_STREAM, PROTOCOL_ERROR)
        assert wire.status(case.stream) == 400
        assert wire.content(case.stream).endswith(f"({case.fault})\n".encode())
        assert case.fault in RULES
        wire.send(headers(101)).ended(101)
        assert wire.content(101) == b"/"


def test_the_server_begins_with_its_settings(site):
    """3.4: SETTINGS is the first frame of the server's; the client's is acknowledged."""
    with Wire(site) as wire:
        first = wire.next()
        assert (first.kind, first.flags, first.stream) == (SETTINGS, 0, 0)
        pairs = [first.payload[n : n + 6] for n in range(0, len(first.payload), 6)]
        said = {int.from_bytes(p[:2]): int.from_bytes(p[2:]) for p in pairs}
        assert said[3] == site.config.http2_streams
        assert said[4] == site.config.http2_window
        assert said[5] == 16384
        assert said[6] == site.config.header_bytes
        assert said[8] == 1
        assert said.get(2, 0) == 0
        assert wire.until(lambda found: found.kind == SETTINGS)[-1].flags == 1


def test_settings_are_acknowledged_one_by_one(site):
    """6.5.3: for each SETTINGS frame one ACK."""
    with Wire(site) as wire:
        wire.send(settings() * 3).alive()
        assert [f.flags for f in wire.seen if f.kind == SETTINGS] == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("size", [3, 14, 20, 23])
def test_a_wrong_preface(site, size):
    """3.4: what begins like the preface and is not is answered as HTTP/1, unless TLS agreed on 2."""
    with Wire(site, begin=False) as wire:
        wire.send(PREFACE[:size] + b"x" * 30 + b"\r\n\r\n")
        if site.tls:
            assert wire.end().payload[8:].endswith(b"(preface)")
            return
        data = wire.sock.recv(65536)
        assert data.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ", b"HTTP/1.1 505 "))
        assert b"connection: close" in data


def test_faults_are_documented_and_provoked():
    """Every fault has a case, here or elsewhere."""
    assert {case.fault for case in (*ENDING, *COSTING)} | set(ELSEWHERE) == set(FAULTS)
