"""websocket does what every plugin must."""

from gateway.plugins.websocket.conformance import WebsocketSuite


class TestWebsocket(WebsocketSuite):
    """Over the http port."""
