"""Asterisk's manager interface (AMI): managers log in, ask for actions, and hear events.

* The consumer of ``ami.connect`` decides on a Login, by ``username`` and ``secret``.
* Each further action is an ``ami.action``; Ping and Logoff are answered here. ``Success`` says that
  it was accepted, ``Error`` with a ``Message`` anything else: the reason of a ``Reject``,
  ``Action failed``, ``Busy, try again later``, ``Invalid/unknown command`` where nobody routes it.
* A reply, or what a group is sent, is an event; ``text`` is its name::

    Group("managers").send({"text": "PeerStatus", "headers": {"Peer": "SIP/7"}})

* At shutdown managers hear the event ``Shutdown``.
* ``ami.disconnect`` follows for each manager that was let in.
"""

from gateway.core.plugin import Peer, Session, hookimpl
from gateway.core.stream import StreamPlugin

from gateway_ami import config, messages, translate


class AmiPlugin(StreamPlugin):
    """The plugin: `StreamPlugin` brings the sockets."""

    name = "ami"
    Config = config.AmiConfig
    messages = messages

    def session(self, peer: Peer) -> Session:
        """Return the session of a new connection."""
        return translate.AmiSession(self.config.login_timeout)


@hookimpl
def gateway_plugin() -> type[AmiPlugin]:
    """Offer the plugin to the gateway."""
    return AmiPlugin
