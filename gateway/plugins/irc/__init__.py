"""IRC: stock clients connect to the gateway, and the gateway joins networks.

A consumer for what people say, and others where they are to be asked::

    def connect(message):            # irc.connect: who is let in
        if not known(message["nick"], message["password"]):
            raise Reject

    def join(message):               # irc.join: who may be in which channel
        ...

    def receive(message):            # irc.receive: others hear it once this returns
        if message["text"] == "!time":
            message.reply(now())

**Server role**: clients connect at ``irc.listen``. A channel is a group, across all gateway
processes and protocols: what is sent to `gateway.plugins.irc.messages.channel_group` is heard by
all that are in it, and a member of another protocol is seen as a nick.

**Client role**: each ``[irc.networks.NAME]`` is a network that the gateway joins.

**Over WebSocket** pages and clients connect to the http port, at ``/irc``, by the subprotocols of
IRCv3, where the plugin http is served beside this one.

The settings stand in the table ``[irc]``: `gateway.plugins.irc.config.IrcConfig`.
"""

from __future__ import annotations

from gateway.core.plugin import Context, ProtocolPlugin, hookimpl
from gateway.core.web import Claim
from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.plugin import IrcPlugin, http_claims


@hookimpl
def gateway_plugin() -> type[ProtocolPlugin]:
    """Return the plugin's class."""
    return IrcPlugin


@hookimpl
def gateway_http_claims(config: IrcConfig, context: Context) -> list[Claim]:
    """Claim handshakes for IRC over WebSocket, before the websocket plugin does."""
    return http_claims(config, context)
