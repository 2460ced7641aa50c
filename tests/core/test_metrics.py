"""Counters, gauges and histograms."""

import pytest

from gateway.core.metrics import Drop, Metrics


def test_counters():
    """A counter is one object for a name and labels, in any order; it only adds."""
    metrics = Metrics()
    counter = metrics.counter("a_total", x="1", y="2")
    counter.value += 2
    metrics.count("a_total", y="2", x="1")
    metrics.count("a_total", 5, x="other")
    metrics.count("b_total")
    assert metrics.counter("a_total", y="2", x="1") is counter
    assert metrics.snapshot() == {
        'a_total{x="1",y="2"}': 3,
        'a_total{x="other"}': 5,
        "b_total": 1,
    }


def test_drops():
    """A drop is counted by cause and place; `dropped` sums the places."""
    metrics = Metrics()
    metrics.drop(Drop.FULL, where="layer")
    metrics.drop(Drop.FULL, 2, where="edge")
    metrics.drop(Drop.GONE, 0, where="edge")
    assert metrics.dropped() == {"full": 3}
    assert metrics.snapshot() == {
        'gateway_drops_total{cause="full",where="layer"}': 1,
        'gateway_drops_total{cause="full",where="edge"}': 2,
    }


def test_gauges():
    """A gauge is read when somebody looks."""
    metrics = Metrics()
    values = [1.0]
    metrics.gauge("open", lambda: values[0], plugin="http")
    assert metrics.snapshot() == {'open{plugin="http"}': 1.0}
    values[0] = 2.5
    assert metrics.snapshot() == {'open{plugin="http"}': 2.5}


def test_histograms():
    """A histogram counts by upper bound, cumulatively, with count and sum."""
    metrics = Metrics()
    histogram = metrics.histogram("seconds", (0.1, 1.0), plugin="http")
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert metrics.histogram("seconds", (99.0,), plugin="http") is histogram
    assert metrics.snapshot() == {
        'seconds_bucket{plugin="http",le="0.1"}': 2,
        'seconds_bucket{plugin="http",le="1"}': 3,
        'seconds_bucket{plugin="http",le="+Inf"}': 4,
        'seconds_count{plugin="http"}': 4,
        'seconds_sum{plugin="http"}': pytest.approx(7.65),
    }


def test_text():
    """The text is the Prometheus format: a line for each value, sorted."""
    metrics = Metrics()
    metrics.count("b_total", 2)
    metrics.count("a_total", path="x")
    metrics.gauge("c", lambda: 0.5)
    assert metrics.text() == 'a_total{path="x"} 1\nb_total 2\nc 0.5\n'


def test_label_values_are_escaped():
    """Backslash, quote and line feed in a label's value are escaped."""
    metrics = Metrics()
    metrics.count("a_total", x='\\ " \n')
    assert metrics.text() == 'a_total{x="\\\\ \\" \\n"} 1\n'


def test_large_counts_are_exact():
    """A counter over a million is written with every digit."""
    metrics = Metrics()
    metrics.count("a_total", 12_345_678)
    assert metrics.text() == "a_total 12345678\n"


def test_causes():
    """Every cause is a label value that needs no escaping."""
    assert all(cause.value.isidentifier() for cause in Drop)
    assert len({cause.value for cause in Drop}) == len(Drop)
