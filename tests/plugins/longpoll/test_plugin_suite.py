"""longpoll does what every plugin must."""

from gateway.plugins.longpoll.conformance import LongpollSuite


class TestLongpoll(LongpollSuite):
    """Over the http port."""
