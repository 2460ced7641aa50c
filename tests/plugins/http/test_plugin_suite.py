"""http does what every plugin must."""

from gateway.plugins.http.conformance import HttpSuite


class TestHttp(HttpSuite):
    """Over HTTP/1.1."""
