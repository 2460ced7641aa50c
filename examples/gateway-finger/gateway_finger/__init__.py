"""Finger (RFC 1288): a query is a message, and the reply is its answer."""

from gateway.core.plugin import Peer, Session, hookimpl
from gateway.core.stream import StreamPlugin

from gateway_finger import messages
from gateway_finger.config import FingerConfig
from gateway_finger.translate import FingerSession


class FingerPlugin(StreamPlugin):
    """The plugin: `StreamPlugin` brings the sockets."""

    name = "finger"
    Config = FingerConfig
    messages = messages

    def session(self, peer: Peer) -> Session:
        """Return the session of a new connection."""
        return FingerSession(self.config.timeout)


@hookimpl
def gateway_plugin() -> type[FingerPlugin]:
    """Offer the plugin to the gateway."""
    return FingerPlugin
