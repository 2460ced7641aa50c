"""What xmpp sounds like; the suite's client is the chat server. The rest is `PluginSuite`'s."""

from __future__ import annotations

import hashlib
import re

from gateway.core.plugin import REJECTED, Outcome
from gateway.testing.plugin_suite import PluginSuite, Turn

from gateway_xmpp import XmppPlugin
from gateway_xmpp.config import XmppConfig

HEAD = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
    b"xmlns:stream='http://etherx.jabber.org/streams' from='bot.localhost' id='a&amp;b'>"
)
"""How a server begins."""
HANDSHAKE = f"<handshake>{hashlib.sha1(b'a&bshared').hexdigest()}</handshake>".encode()
"""What is to be said to that."""
TO_ALICE = b"<message to='alice@localhost/phone' from='bot@bot.localhost' id='7' type='error'>"


def hello(number: int, text: str = "hello") -> bytes:
    """Return what alice writes to the bot."""
    return (
        f"<message from='alice@localhost/phone' to='bot@bot.localhost' id='{number}'>"
        f"<body>{text}</body><request xmlns='urn:xmpp:receipts'/></message>"
    ).encode()


def receipt(number: int) -> bytes:
    """Return what she hears once it was accepted."""
    return (
        f"<message to='alice@localhost/phone' from='bot@bot.localhost' id='r-{number}'>"
        f"<received xmlns='urn:xmpp:receipts' id='{number}'/></message>"
    ).encode()


def error(condition: str) -> re.Pattern[bytes]:
    """Return what she hears otherwise."""
    return re.compile(
        re.escape(TO_ALICE) + rb"<error type='\w+'><%b " % condition.encode() + rb".*"
    )


class XmppSuite(PluginSuite):
    """A server that lets the component in, and what alice and others do there."""

    plugin = XmppPlugin
    config = XmppConfig(secret="shared")
    opening = (
        Turn(answer=re.compile(rb"<\?xml.*<stream:stream .* to='bot.localhost'>")),
        Turn(HEAD, answer=HANDSHAKE),
        Turn(b"<handshake/>"),
    )
    conversation = (
        Turn(
            hello(1, "1 &lt; 2 é"),
            (
                "receive",
                {"sender": "alice@localhost", "resource": "phone", "id": "1", "text": "1 < 2 é"},
            ),
            answer=receipt(1),
        ),
        Turn(
            hello(2),
            ("receive", {"text": "hello", "order": 1}),
            replies=({"text": "<hi>"},),
            answer=(
                b"<message to='alice@localhost' from='bot@bot.localhost' type='chat'>"
                b"<body>&lt;hi&gt;</body></message>"
            )
            + receipt(2),
        ),
        Turn(
            hello(7),
            ("receive", {}),
            Outcome(REJECTED, reason="not today"),
            answer=error("not-allowed"),
        ),
        Turn(
            b"<iq from='localhost' to='bot.localhost' id='p' type='get'><ping/></iq>",
            answer=re.compile(rb"<iq to='localhost' from='bot.localhost' id='p' type='error'>.*"),
        ),
        Turn(b" \n<presence from='alice@localhost' to='bot@bot.localhost'/>"),
    )
    question = hello(7)
    answers = {
        "accepted": receipt(7),
        "rejected": error("not-allowed"),
        "failed": error("internal-server-error"),
        "released": error("resource-constraint"),
        "unrouted": error("service-unavailable"),
    }
    full = error("resource-constraint")
    too_much = b"<message><body>" + b"x" * 300_000
    too_much_answer = re.compile(rb"<stream:error><policy-violation .*</stream:stream>")
    farewell = b"</stream:stream>"
