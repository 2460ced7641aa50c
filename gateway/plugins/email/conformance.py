"""What email sounds like, for `gateway.testing.plugin_suite`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from gateway.core.layers.base import REJECTED, Outcome
from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.plugin import EmailPlugin
from gateway.testing.plugin_suite import Answer, PluginSuite, Turn

MAIL: Final = (
    b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@b.example>\r\n\r\nhello\r\n..\r\n.\r\n"
)
_ID: Final = re.compile(rb"taken as [0-9a-f]{16}")
_HELLO: Final = (
    b"250-mx.example\r\n250-SIZE 65536\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-PIPELINING\r\n"
    b"250-ENHANCEDSTATUSCODES\r\n250 HELP\r\n"
)
_AGAIN: Final = b"; try again later\r\n"


class EmailSuite(PluginSuite):
    """A client of SMTP."""

    plugin = EmailPlugin
    config = EmailConfig(hostname="mx.example", max_size=65536, spool="")
    opening: ClassVar = (
        Turn(answer=b"220 mx.example ESMTP\r\n"),
        Turn(b"EHLO a.example\r\n", answer=_HELLO),
        Turn(b"MAIL FROM:<a@b.example> SIZE=100\r\n", answer=b"250 2.1.0 OK\r\n"),
    )
    conversation: ClassVar = (
        Turn(
            b"RCPT TO:<x@localhost>\r\n",
            ("recipient", {"mail_from": "a@b.example", "rcpt_to": ["x@localhost"]}),
            answer=b"250 2.1.5 OK\r\n",
        ),
        Turn(
            b"RCPT TO:<y@localhost>\r\n",
            ("recipient", {"rcpt_to": ["y@localhost"]}),
            outcome=Outcome(REJECTED, 551, "5.1.6 moved away"),
            answer=b"551 5.1.6 moved away\r\n",
        ),
        Turn(b"DATA\r\n", answer=b"354 Go ahead, and end with a dot on a line of its own\r\n"),
        Turn(
            MAIL,
            (
                "receive",
                {
                    "subject": "grüße",
                    "message_id": "<1@b.example>",
                    "text": "hello\n.\n",
                    "rcpt_to": ["x@localhost"],
                    "protocol": "ESMTP",
                },
            ),
            answer=b"250 2.0.0 OK, taken as ID\r\n",
        ),
        Turn(b"RCPT TO:<x@localhost>\r\n", answer=b"503 5.5.1 Say MAIL first\r\n"),
        Turn(b"MAIL FROM:<>\r\n", answer=b"250 2.1.0 OK\r\n"),
    )
    question = b"RCPT TO:<x@localhost>\r\n"
    answers: ClassVar[Mapping[str, Answer]] = {
        "accepted": b"250 2.1.5 OK\r\n",
        "rejected": b"550 5.1.1 There is no such mailbox\r\n",
        "failed": b"451 4.3.0 It could not be handled now" + _AGAIN,
        "released": b"421 4.3.2 Nobody is there to take it now" + _AGAIN,
        "unrouted": b"550 5.1.1 There is no such mailbox\r\n",
    }
    closes = frozenset({"released"})
    pipelined = False  # who sends the mail before the 354 is sent away
    full = b"452 4.3.1 Too much is waiting" + _AGAIN
    unavailable = b"451 4.3.2 The application cannot be reached" + _AGAIN
    too_much = b"N" * 511 + b"\r\n"
    too_much_answer = b"500 5.5.6 The line is too long\r\n"
    farewell = b"421 4.3.2 The server is shutting down" + _AGAIN

    def normal(self, data: bytes) -> bytes:
        """Return what was heard with the same id for all mails."""
        return _ID.sub(b"taken as ID", data)
