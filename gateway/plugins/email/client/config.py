"""The settings of mail that goes out: a part of ``[email]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
TlsPolicy = Literal["none", "opportunistic", "require", "verify"]


class Smarthost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server that takes our mail and delivers it."""

    connect: Annotated[
        str,
        Meta(
            description="Where it is: ``mail.example:587``, ``tls:mail.example:465`` for TLS from "
            "the beginning, ``unix:/path``."
        ),
    ]
    tls: Annotated[
        TlsPolicy,
        Meta(
            description="verify: STARTTLS, and a certificate that is good for its name. require: "
            "STARTTLS with any certificate. opportunistic: STARTTLS where it is offered. none: "
            "never. With ``tls:`` in ``connect`` only the certificate is in question."
        ),
    ] = "verify"
    ca: Annotated[
        str, Meta(description="A PEM file: whose certificates to trust beside the system's.")
    ] = ""
    certificate: Annotated[
        str, Meta(description="A PEM file: the certificate (chain) that the gateway shows.")
    ] = ""
    key: Annotated[
        str, Meta(description="A PEM file: the key of that. Empty: it is in the same file.")
    ] = ""
    username: Annotated[
        str, Meta(description="What the gateway calls itself. Empty: it does not say who it is.")
    ] = ""
    password: Annotated[str, Meta(description="Its password.", extra={"secret": True})] = ""
    auth: Annotated[
        Literal["auto", "plain", "login", "cram-md5"],
        Meta(
            description="By which mechanism it proves that. auto: the best that is offered; PLAIN "
            "and LOGIN, which show the password, over TLS alone."
        ),
    ] = "auto"
    domains: Annotated[
        tuple[str, ...],
        Meta(
            description="The domains of recipients that it is for; ``.example.org``: all below. "
            "Empty: for all that no other smarthost is for."
        ),
    ] = ()


class Dkim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By which key mail of a domain is signed."""

    selector: Annotated[
        str,
        Meta(description="Under which name its public key stands: ``SELECTOR._domainkey.DOMAIN``."),
    ]
    key: Annotated[
        str, Meta(description="A PEM file: the private key, RSA of 1024 bits or more, or Ed25519.")
    ]


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How mail is delivered, and for how long that is tried."""

    enabled: Annotated[
        bool,
        Meta(description="Whether mail is delivered. False: it is spooled, and waits."),
    ] = True
    tls: Annotated[
        TlsPolicy,
        Meta(
            description="As a smarthost's ``tls``, for servers that DNS names. opportunistic: "
            "many servers of the Internet have no certificate that is good for their name."
        ),
    ] = "opportunistic"
    ca: Annotated[
        str, Meta(description="A PEM file: whose certificates to trust beside the system's.")
    ] = ""
    port: Annotated[
        int, Meta(ge=1, le=65535, description="Where servers that DNS names listen. 25: SMTP's.")
    ] = 25
    resolvers: Annotated[
        tuple[str, ...],
        Meta(
            description="Name servers to ask, ``192.0.2.1`` or ``192.0.2.1:5353``. Empty: those of "
            "/etc/resolv.conf."
        ),
    ] = ()
    private: Annotated[
        bool,
        Meta(
            description="Whether mail is delivered to servers with private, loopback and other "
            "addresses of no public network, where DNS or a recipient names them. Off: who may "
            "name a recipient cannot have the gateway speak to the site's own machines. A "
            "smarthost may be anywhere."
        ),
    ] = False
    literals: Annotated[
        bool, Meta(description="Whether recipients may be of an address: ``user@[192.0.2.1]``.")
    ] = False
    connections: Annotated[
        Count, Meta(description="Connections at once, to all servers together. 20: a busy site's.")
    ] = 20
    connections_per_destination: Annotated[
        Count,
        Meta(description="Of those to one destination. 2: what nobody takes for an attack."),
    ] = 2
    mails_per_connection: Annotated[
        Count,
        Meta(
            description="Mails over one connection, one after the other. 100: most servers allow "
            "that, and the cost of connecting is spread."
        ),
    ] = 100
    connect_timeout: Annotated[
        Seconds,
        Meta(description="Seconds for a connection to be there. 30: lost packets, and TLS."),
    ] = 30.0
    timeout: Annotated[
        Seconds,
        Meta(description="Seconds for the answer to a command. 300: RFC 5321, section 4.5.3.2."),
    ] = 300.0
    data_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds for the answer to a whole mail. 600: RFC 5321, section "
            "4.5.3.2.6; who gives up early delivers twice."
        ),
    ] = 600.0
    retry_first: Annotated[
        Seconds,
        Meta(
            description="Seconds before the second try, as each later wait twice as long as the "
            "one before, and less by up to a third at random. 90: greylists let in after one to "
            "five minutes."
        ),
    ] = 90.0
    retry_longest: Annotated[
        Seconds,
        Meta(description="Seconds between two tries, at most. 3600: a server is back for hours."),
    ] = 3600.0
    max_age: Annotated[
        Seconds,
        Meta(
            description="Seconds after which a mail is given up, and bounced. 432,000: five days, "
            "RFC 5321, section 4.5.4.1."
        ),
    ] = 432_000.0
    delay_warning: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds after which the sender is told, once, that a mail is still on its "
            "way. 0: never; most who send are programs.",
        ),
    ] = 0.0
    max_hops: Annotated[
        Count,
        Meta(
            description="Received fields of a mail; one with more goes in a circle and is "
            "refused. 100: RFC 5321, section 6.3."
        ),
    ] = 100
    max_size: Annotated[
        Count,
        Meta(description="Bytes of one mail; a larger one is refused. 50 MiB: few take more."),
    ] = 50 << 20
    max_recipients: Annotated[
        Count,
        Meta(description="Recipients of one mail. 1000: RFC 5321 has servers take 100 at once."),
    ] = 1000
    chunk_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds for the next piece of a mail that comes by ``raw_channel``. 30: "
            "whoever sends it has it at hand."
        ),
    ] = 30.0


class Outgoing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``[email]`` says of mail that goes out. A base of `EmailConfig`."""

    sender: Annotated[
        str,
        Meta(
            description="Whom mail is from that says nothing else: ``shop@example.org`` or ``Shop "
            "<shop@example.org>``. What cannot be delivered comes back there. Not set: Django's "
            "DEFAULT_FROM_EMAIL, where the project sets that."
        ),
    ] = ""
    spool: Annotated[
        str,
        Meta(
            description="The directory where mail waits. It has to survive a restart. Relative: in "
            "the project's directory. Gateway processes of one machine may share it. Empty: no "
            "mail goes out here, not even a reply."
        ),
    ] = "spool/email"
    spool_messages: Annotated[
        Count,
        Meta(
            description="Mails that may wait there; more are refused (452). 10,000: an hour of a "
            "site that sends three a second, with no server to take them."
        ),
    ] = 10_000
    spool_bytes: Annotated[
        Count, Meta(description="Their bytes. 1 GiB: what a small disk has room for.")
    ] = 1 << 30
    smarthosts: Annotated[
        dict[str, Smarthost],
        Meta(
            description="Servers that deliver for us, by name: ``[email.smarthosts.NAME]``; of "
            "several for one domain the next is asked where one cannot be reached. None: mail "
            "goes to the servers that DNS names (MX)."
        ),
    ] = {}
    delivery: Annotated[Delivery, Meta(description="How mail is delivered.")] = Delivery()
    dkim: Annotated[
        dict[str, Dkim],
        Meta(
            description="Keys to sign with, by the domain of who it is from: "
            '``[email.dkim."example.org"]``.'
        ),
    ] = {}
