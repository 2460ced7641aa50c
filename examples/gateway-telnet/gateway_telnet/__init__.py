"""Telnet: a line that somebody types is a message, and a reply is a line on the screen."""

from gateway.core.plugin import Peer, Session, hookimpl
from gateway.core.stream import StreamPlugin

from gateway_telnet import messages
from gateway_telnet.config import TelnetConfig
from gateway_telnet.translate import TelnetSession


class TelnetPlugin(StreamPlugin):
    """The plugin: `StreamPlugin` brings the sockets."""

    name = "telnet"
    Config = TelnetConfig
    messages = messages

    def session(self, peer: Peer) -> Session:
        """Return the session of a new connection."""
        return TelnetSession()


@hookimpl
def gateway_plugin() -> type[TelnetPlugin]:
    """Offer the plugin to the gateway."""
    return TelnetPlugin
