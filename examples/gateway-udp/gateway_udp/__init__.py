"""The protocol udp: a datagram is a message, and a reply is a datagram."""

from gateway.core.datagram import DatagramPlugin
from gateway.core.plugin import Peer, Session, hookimpl

from gateway_udp import messages
from gateway_udp.config import UdpConfig
from gateway_udp.translate import UdpSession


class UdpPlugin(DatagramPlugin):
    """The plugin: `DatagramPlugin` brings the sockets."""

    name = "udp"
    Config = UdpConfig
    messages = messages

    def session(self, peer: Peer) -> Session:
        """Return the session of a new peer."""
        return UdpSession()


@hookimpl
def gateway_plugin() -> type[UdpPlugin]:
    """Offer the plugin to the gateway."""
    return UdpPlugin
