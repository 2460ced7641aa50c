"""The messages of the email plugin: what it emits, and what it understands. Pure.

The core adds ``reply_channel``, ``order``, ``client``, ``server`` and, where SMTP AUTH or a
certificate says who the client is, ``identity`` to what is emitted.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NotRequired, TypedDict

from msgspec import Meta

from gateway.core import names

HEADERS = Meta(description="[[name, value], …], in order; none of them may hold CR or LF.")
ATTACHMENTS = Meta(description="[[file name, content type, bytes], …].")


class Authenticate(TypedDict):
    """A client says who it is (SMTP AUTH). Accepted, its name is the ``identity`` of its mail."""

    mechanism: Annotated[str, Meta(description='"PLAIN" or "LOGIN".')]
    username: Annotated[str, Meta(description="What the client calls itself.")]
    password: Annotated[str, Meta(description="Its password.", extra={"secret": True})]
    helo: Annotated[str, Meta(description="The name that it greeted with.")]
    tls: Annotated[bool, Meta(description="Whether it came over TLS.")]


class Recipient(TypedDict):
    """A client names a recipient, of a domain of ours. Refused, there is no such mailbox."""

    mail_from: Annotated[str | None, Meta(description="Who sends; None: the null sender.")]
    rcpt_to: Annotated[list[str], Meta(description="The recipient, alone.")]
    helo: Annotated[str, Meta(description="The name that the client greeted with.")]
    tls: Annotated[bool, Meta(description="Whether it came over TLS.")]


class Authentication(TypedDict, total=False):
    """What DNS says of who a mail is from, in the words of RFC 8601 (``pass``, …)."""

    spf: Annotated[str, Meta(description="Whether the client may send for the sender's domain.")]
    spf_domain: Annotated[str, Meta(description="The domain that was asked.")]
    dkim: Annotated[
        str, Meta(description="Whether the mail is signed, and as it was; the best signature's.")
    ]
    dkim_domains: Annotated[list[str], Meta(description="Whose signatures are good.")]
    dmarc: Annotated[
        str, Meta(description="Whether one of the two is of the domain that ``From`` names.")
    ]
    dmarc_policy: Annotated[
        str, Meta(description="What that domain asks for if not: ``none``, ``quarantine``, …")
    ]


class Receive(TypedDict):
    """A mail. It is answered ``250`` once its consumer has returned, and not before.

    One for each transaction of SMTP, one for each recipient in LMTP.
    """

    mail_from: Annotated[str | None, Meta(description="Who sends; None: the null sender.")]
    rcpt_to: Annotated[list[str], Meta(description="Whom it is for; one at least.")]
    subject: Annotated[str, Meta(description="Its subject, decoded; empty where it has none.")]
    headers: Annotated[
        list[tuple[str, str]],
        Meta(description="[[name, value], …] as they stand in the mail, values decoded."),
    ]
    text: NotRequired[
        Annotated[
            str, Meta(description="The best plain text in it, where there is one and it is small.")
        ]
    ]
    raw: NotRequired[
        Annotated[bytes, Meta(description="The mail as it is, with the trace of its way here.")]
    ]
    raw_channel: NotRequired[
        Annotated[
            str, Meta(description="Instead: the single-reader channel that it comes on (`Piece`).")
        ]
    ]
    message_id: Annotated[
        str | None, Meta(description="Its Message-ID, with the angle brackets; None: it has none.")
    ]
    size: Annotated[int, Meta(description="How many bytes it has, as ``raw`` has them.")]
    helo: Annotated[str, Meta(description="The name that the client greeted with.")]
    tls: Annotated[bool, Meta(description="Whether it came over TLS.")]
    protocol: Annotated[
        str, Meta(description='"SMTP", "ESMTP" or "LMTP"; with "S" behind it over TLS, "A" after '
        'AUTH (RFC 3848); "UTF8SMTP" and the like where it needs that (RFC 6531).')
    ]  # fmt: skip
    authentication: NotRequired[
        Annotated[
            Authentication,
            Meta(description="What SPF, DKIM and DMARC say; only where they are checked."),
        ]
    ]


class Piece(TypedDict, total=False):
    """What comes on a ``raw_channel``: a piece of the mail, or that the rest will not come."""

    offset: Annotated[int, Meta(description="Position of the content, in bytes; the first is 0.")]
    content: Annotated[bytes, Meta(description="The bytes.")]
    more_content: Annotated[bool, Meta(description="Whether more follows.")]
    closed: Annotated[bool, Meta(description="True, alone: the client left, or the time is over.")]


class Reply(TypedDict, total=False):
    """The uniform reply, and what a mail has beside a text.

    Until the mail is answered it decides, too; a text becomes a mail in the same thread, which is
    in the spool before the ``250``.
    """

    text: Annotated[
        str,
        Meta(
            description="A mail with this text; with ``accept`` False or ``close`` the words of "
            "the refusal instead."
        ),
    ]
    bytes: Annotated[bytes, Meta(description="The same as UTF-8, or as a file if it is none.")]
    subject: Annotated[str, Meta(description="Its subject. Without it: ``Re:`` and the mail's.")]
    html: Annotated[str, Meta(description="The same in HTML, beside the text or instead of it.")]
    headers: Annotated[list[tuple[str, str]], HEADERS]
    attachments: Annotated[list[tuple[str, str, bytes]], ATTACHMENTS]
    accept: Annotated[bool, Meta(description="False: refuse the mail, recipient or password.")]
    close: Annotated[
        bool | int,
        Meta(
            description="End the connection once the mail is answered; a number (400 to 599) "
            "refuses it, with that code."
        ),
    ]
    reason: Annotated[str, Meta(description="The words of a refusal.")]
    ack: Annotated[int, Meta(description="Report under this number when the mail is in the spool.")]
    ack_channel: Annotated[str, Meta(description="Where to report, a ``?`` channel.")]
    pin: Annotated[
        str,
        Meta(
            pattern=names.PIN_PATTERN,
            description="From now on its messages go to one worker process: `pin.` and the name "
            "of that process on the layer. In a direct reply only.",
        ),
    ]


class Send(Reply, total=False):
    """What the normal channel ``email.send`` and the addresses ``email.send!MAILBOX`` take."""

    mail_from: Annotated[str, Meta(description="Who sends. Without it: ``email.sender``.")]
    rcpt_to: Annotated[
        list[str],
        Meta(description="Whom it is for. Without it, at an address: the mailbox that it names."),
    ]
    raw: Annotated[bytes, Meta(description="The whole mail, instead of the other keys.")]
    raw_channel: Annotated[
        str, Meta(description="Instead: the single-reader channel that it comes on (`Piece`).")
    ]


KINDS: Final[dict[str, Any]] = {
    "authenticate": Authenticate,
    "recipient": Recipient,
    "receive": Receive,
}
"""What the plugin emits, by kind."""

REPLY: Final = Reply
"""What the plugin understands on reply channels."""


def new_raw_channel() -> str:
    """Return a new name for the pieces of a mail."""
    return names.fill("email.receive.raw?")
