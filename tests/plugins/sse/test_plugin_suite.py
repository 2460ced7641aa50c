"""sse does what every plugin must."""

from gateway.plugins.sse.conformance import SseSuite


class TestSse(SseSuite):
    """Over the http port."""
