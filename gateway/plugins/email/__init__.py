"""Mail: SMTP and LMTP in, SMTP out. A mail is handled before it is accepted.

A consumer for mail that comes, and others where they are to be asked::

    def receive(message):            # email.receive: answered 250 once this returns
        ticket = save(message["mail_from"], message["subject"], message["text"])
        Channel(message["reply_channel"]).send({"text": f"Thank you: {ticket}"})

    def recipient(message):          # email.recipient: is there such a mailbox?
        if not known(message["rcpt_to"][0]):
            raise Reject(550, "no such mailbox")

    def authenticate(message):       # email.authenticate: SMTP AUTH, offered where it is routed
        if not valid(message["username"], message["password"]):
            raise Reject

**In**: clients connect at ``email.listen`` (SMTP), the site's mail server at ``email.lmtp`` (LMTP).
Mail is taken for ``email.domains`` alone. The reply to DATA is what became of the mail: ``250`` if
its consumer returned, ``451`` if it failed, and the sender keeps what was not accepted.

**Out**: what is sent to ``email.send`` or to an address ``email.send!MAILBOX`` is in the spool
on disk before its ``ack`` is answered, and is delivered from there.

The settings stand in the table ``[email]``: `gateway.plugins.email.config.EmailConfig`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.core.plugin import ProtocolPlugin, hookimpl
from gateway.plugins.email.plugin import EmailPlugin


@hookimpl
def gateway_plugin() -> type[ProtocolPlugin]:
    """Return the plugin's class."""
    return EmailPlugin


@hookimpl
def gateway_commands() -> dict[str, Callable[[list[str], Any], int | None]]:
    """Return the commands on the spool."""
    from gateway.plugins.email.commands import COMMANDS  # noqa: PLC0415 - no other needs it

    return dict(COMMANDS)
