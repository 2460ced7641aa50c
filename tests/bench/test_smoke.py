"""The benchmarks run, and count what they say they count. No timing is judged here."""

import asyncio

import pytest

from benchmarks import plugins, processes, report
from benchmarks.cases import CASES, Plan, ideal_rate
from benchmarks.h2_load import latencies_of, missing
from benchmarks.sample import Sample, Spread
from benchmarks.sse_load import Stream
from benchmarks.ws_load import TEXT, frame

TINY = Plan(pairs=1, scale=0.01, only=frozenset({"gateway"}))


needs_h2load = pytest.mark.skipif(missing(), reason="h2load is not installed")


@pytest.mark.parametrize(
    "case", ["view", "echo-sync", "events", "polls", "tls", pytest.param("h2", marks=needs_h2load)]
)
def test_a_case_runs_against_the_gateway_alone(case):
    """A case measures the gateway without its peers, and says so in one row and in JSON."""
    found = CASES[case](TINY)
    (row,) = found.rows
    assert row.name == "gateway"
    assert row.figures["CPU µs"].middle > 0
    assert found.checks == []
    assert report.document([found], {})["cases"][case]["rows"]["gateway"]


def test_mail():
    """Mails are counted for the gateway and for its peer."""
    found = CASES["email"](TINY)
    assert [row.name for row in found.rows] == ["gateway", "aiosmtpd"]
    assert found.checks[0].found.middle > 0


@pytest.mark.timeout(60)  # seven processes start
def test_irc():
    """Lines are counted for the gateway in both roles, and for a bot of the irc library."""
    pytest.importorskip("irc", reason="the irc library is not installed: pip install '.[bench]'")
    found = CASES["irc"](TINY)
    assert len(found.rows) == 3
    assert all(row.figures["per s"].middle > 0 for row in found.rows)
    assert [check.found.middle > 0 for check in found.checks] == [True, True]


@pytest.mark.timeout(60)  # ten processes start
def test_two_gateways_against_one():
    """Both are measured, and the case says how many cores there were."""
    found = CASES["gateways"](Plan(pairs=1, scale=0.01))
    assert [row.name for row in found.rows] == ["gateway", "two gateways"]
    assert all(row.figures["per s"].middle > 0 for row in found.rows)
    assert any("cores for" in note for note in found.notes)
    assert sum("of two / of one" in note for note in found.notes) == 2


def test_handshakes_are_told_apart():
    """Over TLS a request's CPU is without its connection's handshake, which has its own figure."""
    (row,) = CASES["tls"](TINY).rows
    assert row.figures["CPU µs a handshake"].middle > 0


def test_the_crowd():
    """Requests are measured alone and beside a crowd, which says what it met."""
    found = CASES["crowd"](TINY)
    assert [row.name for row in found.rows] == ["alone", "in the crowd"]
    (check,) = found.checks
    assert check.found.middle > 0
    assert "the crowd saw kept connections: 200, 40 times" in found.notes
    assert "the crowd saw WebSockets: 101, 10 times" in found.notes


def split_at(data, place):
    """A stream's client that got these bytes in two reads; how many messages it counted."""

    async def read():
        stream = Stream()
        seen = []
        stream.on_text = seen.append
        for piece in (b"HTTP/1.1 200 OK\r\n\r\n:\n\n", data[:place], data[place:]):
            stream.data_received(piece)
        return len(seen)

    return asyncio.run(read())


def test_events_are_counted_wherever_they_are_cut():
    """An event counts once, however its bytes come."""
    data = b"id: 1\ndata: " + TEXT + b"\n\ndata: " + TEXT + b"\n\n"
    assert {split_at(data, place) for place in range(len(data) + 1)} == {2}


def test_a_log_of_h2load():
    """h2load's log is a line for each request: when it began, its status, microseconds."""
    assert latencies_of("1337000001\t200\t1500\n1337000002\t200\t20\n") == [0.0015, 0.00002]


def test_h2_without_its_client(monkeypatch):
    """Without h2load the case says so and how to get it."""
    monkeypatch.setenv("PATH", "")
    found = CASES["h2"](TINY)
    assert "nghttp2-client" in found.skipped
    assert found.rows == []


def test_a_target_is_held_against_the_median():
    """One lucky or unlucky round does not decide whether a target is reached."""
    spread = Spread.of([0.1, 0.4, 9.0])
    assert not report.Check("CPU / peer", spread, 0.3).reached
    assert report.Check("CPU / peer", spread, 0.5).reached
    assert report.Check("rate", spread, 0.3, at_most=False).reached


def test_the_figures_of_a_sample():
    """CPU is told by operation; a latency that all but one percent keep is the 99th percentile."""
    sample = Sample(100, cpu=0.005, seconds=0.5, latencies=[n / 1000 for n in range(100)])
    assert sample.cpu_us == pytest.approx(50)
    assert sample.rate == pytest.approx(200)
    assert sample.latency_us(0.5) == pytest.approx(50_000)
    assert sample.latency_us(0.99) == pytest.approx(99_000)


def test_the_ideal_rate_is_bounded_by_threads_and_by_the_service_time():
    """Fast work is bounded by what the threads sleep, slow work by itself."""
    assert ideal_rate(1e9) == pytest.approx(4 * 20 / 0.020, rel=1e-3)
    assert ideal_rate(100) == 100


def test_a_frame_is_masked_as_rfc_6455_shows():
    """The frame that RFC 6455 section 5.7 gives as its example of a masked text."""
    assert frame(b"Hello") == bytes.fromhex("818537fa213d7f9f4d5158")


def test_a_process_sees_its_own_cpu_and_children():
    """The tree begins with its root, and its CPU clock runs."""
    import os

    assert processes.tree(os.getpid())[0] == os.getpid()
    before = processes.cpu_seconds(os.getpid())
    sum(range(100_000))
    assert processes.cpu_seconds(os.getpid()) > before


@pytest.mark.parametrize("name", plugins.CASES)
def test_two_ways_of_a_plugin(name):
    """Both ways of a case do the same operations, and are compared by their CPU."""
    first, other, ratio = plugins.compare(plugins.CASES[name], 1, 0.0)
    assert min(first, other, ratio) > 0
