"""Chat: a bot at any XMPP server, as a component of it (XEP-0114).

A consumer hears what people write to the bot, and answers by the uniform reply::

    def receive(message):  # xmpp.receive
        message.reply(f"you wrote {message.text}")

Each person is a conversation, answered at an address, which outlives every connection and may be
stored: ``Channel(address("xmpp.send", "alice@example.org")).send({"text": "hello"})`` writes to
somebody who has never written.

What a client hears of its message: a receipt (XEP-0184) once a consumer has accepted it, if it
asked for one; the reason of a ``Reject``; an error that says whether trying again may help.
"""

from __future__ import annotations

from gateway.core.client import ClientPlugin, Target
from gateway.core.plugin import Session, hookimpl

from gateway_xmpp import messages
from gateway_xmpp.config import XmppConfig
from gateway_xmpp.translate import XmppSession


class XmppPlugin(ClientPlugin):
    """The plugin: `ClientPlugin` keeps the connection."""

    name = "xmpp"
    Config = XmppConfig
    messages = messages

    def session(self, target: Target) -> Session:
        """Return the session of a new connection."""
        return XmppSession(self.config)


@hookimpl
def gateway_plugin() -> type[XmppPlugin]:
    """Offer the plugin to the gateway."""
    return XmppPlugin
