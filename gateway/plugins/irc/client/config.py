"""The settings of one network: ``[irc.networks.NAME]``."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]

CAPABILITIES: Final = (
    "account-notify",
    "account-tag",
    "away-notify",
    "batch",
    "cap-notify",
    "chghost",
    "echo-message",
    "extended-join",
    "labeled-response",
    "message-tags",
    "multi-prefix",
    "server-time",
    "setname",
)
"""What a network is asked for; ``sasl`` is asked for where the settings have it."""


class Sasl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[irc.networks.NAME.sasl]``: how the gateway logs in while it connects."""

    mechanism: Annotated[
        Literal["PLAIN", "EXTERNAL", "SCRAM-SHA-256"],
        Meta(
            description="PLAIN: account and password, as they are. SCRAM-SHA-256: neither side "
            "shows the password, and the network proves that it knows it. EXTERNAL: the "
            "certificate (``certificate`` of the network) says who it is."
        ),
    ] = "PLAIN"
    account: Annotated[
        str, Meta(description="The account. Empty: the nick; with EXTERNAL the certificate's.")
    ] = ""
    password: Annotated[str, Meta(description="Its password.", extra={"secret": True})] = ""
    required: Annotated[
        bool,
        Meta(
            description="Whether a network that does not let it log in is left, to be tried again "
            "later. False: the gateway is there without an account."
        ),
    ] = True


class NickServ(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[irc.networks.NAME.nickserv]``: a login by messages, for networks without SASL."""

    password: Annotated[str, Meta(description="The password.", extra={"secret": True})]
    account: Annotated[
        str, Meta(description="The account, where that is not the nick: IDENTIFY ACCOUNT PASSWORD.")
    ] = ""
    service: Annotated[str, Meta(min_length=1, description="Who is told so.")] = "NickServ"
    regain: Annotated[
        Literal["", "REGAIN", "GHOST", "RECOVER"],
        Meta(
            description="What it is told, with nick and password, if the nick is somebody else's. "
            "REGAIN: networks with Atheme. GHOST or RECOVER: others. Empty: nothing; the nick is "
            "taken when it is free."
        ),
    ] = ""


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network that the gateway joins."""

    connect: Annotated[
        str, Meta(description="Where it is: ``tls:irc.example:6697``, ``irc.example:6667``.")
    ]
    nick: Annotated[str, Meta(min_length=1, description="What the gateway is called there.")]
    alternatives: Annotated[
        tuple[str, ...],
        Meta(
            description="What else, in turn, while the nick is somebody else's. Where these are "
            "taken, too: the nick with ``_``, then with numbers behind it."
        ),
    ] = ()
    username: Annotated[
        str, Meta(description="The part before the @ of its mask. Empty: gateway.")
    ] = ""
    realname: Annotated[str, Meta(description="What WHOIS says of it. Empty: the nick.")] = ""
    password: Annotated[
        str,
        Meta(
            description="The password of the server itself (PASS), where it has one.",
            extra={"secret": True},
        ),
    ] = ""
    sasl: Annotated[Sasl | None, Meta(description="How to log in. Absent: without an account.")] = (
        None
    )
    nickserv: Annotated[
        NickServ | None, Meta(description="How to log in where the network has no SASL.")
    ] = None
    ca: Annotated[
        str, Meta(description="A PEM file: whose certificates to trust beside the system's.")
    ] = ""
    verify: Annotated[
        bool, Meta(description="Whether its certificate must be good. False: any will do.")
    ] = True
    certificate: Annotated[
        str, Meta(description="A PEM file: the certificate (chain) that the gateway shows.")
    ] = ""
    key: Annotated[
        str, Meta(description="A PEM file: the key of that. Empty: it is in the same file.")
    ] = ""
    channels: Annotated[
        tuple[str, ...],
        Meta(description="Channels to be in, whatever the routing table says: ``#room``."),
    ] = ()
    keys: Annotated[
        dict[str, str],
        Meta(description="Keys of channels, by channel.", extra={"secret": True}),
    ] = {}
    routes: Annotated[
        bool,
        Meta(
            description="Whether to be in the channels that routing tables name, too, while a "
            "worker has them."
        ),
    ] = True
    modes: Annotated[
        str, Meta(description="Modes that the gateway gives itself: ``+i``. Empty: none.")
    ] = ""
    capabilities: Annotated[
        tuple[str, ...],
        Meta(
            description="What the network is asked for, where it has it (IRCv3). With fewer the "
            "gateway knows less: without account-tag no ``identity``, say."
        ),
    ] = CAPABILITIES
    encoding: Annotated[
        str,
        Meta(description="What text that is not UTF-8 is read as. cp1252: what old clients write."),
    ] = "cp1252"
    rate: Annotated[
        float,
        Meta(
            ge=0,
            description="Lines a second that are sent, after the first ``burst``. 1: what networks "
            "bear without calling it flood. 0: any number, for a server of your own.",
        ),
    ] = 1.0
    burst: Annotated[
        Count, Meta(description="Lines that are sent at once after a silence. 5: usual limits.")
    ] = 5
    max_queued: Annotated[
        Count,
        Meta(
            description="Lines that wait for their turn; more are dropped, counted, and their "
            "``ack`` says so. 500: some eight minutes, and what comes later is of no interest."
        ),
    ] = 500
    max_queued_bytes: Annotated[Count, Meta(description="Their bytes. 256 KiB: full lines.")] = (
        256 << 10
    )
    max_lines: Annotated[
        Count,
        Meta(
            description="Lines that one reply may become; a longer one is an invalid reply. 50: "
            "nobody wants to read more in a room."
        ),
    ] = 50
    max_targets: Annotated[
        Count,
        Meta(
            description="Conversations whose order is remembered while nothing of them is in hand; "
            "of the one that was silent longest ``order`` begins anew. 10,000: some 5 MB."
        ),
    ] = 10_000
    allow_raw: Annotated[
        bool,
        Meta(
            description="Whether a reply of the type raw is sent as it is: any command. Who may "
            "write to the layer may then do anything that the gateway may on the network."
        ),
    ] = False
    ctcp: Annotated[
        tuple[Literal["VERSION", "PING", "TIME", "CLIENTINFO"], ...],
        Meta(description="What a client may ask for that the gateway answers itself."),
    ] = ("VERSION", "PING", "TIME", "CLIENTINFO")
    version: Annotated[str, Meta(description="What VERSION is answered.")] = "gateway"
    ignore: Annotated[
        tuple[str, ...],
        Meta(
            description="Masks (``nick!user@host`` with * and ?) whose messages are not handed in: "
            "other bots, that would answer what they are answered."
        ),
    ] = ()
    ignore_bots: Annotated[
        bool,
        Meta(
            description="Whether the same is done with whoever the network marks as a bot (IRCv3 "
            "bot mode): two bots that answer each other never end."
        ),
    ] = True
    playback: Annotated[
        bool,
        Meta(
            description="Whether old messages that the network plays back at a join are handed "
            "in. False: who asked then is not answered now."
        ),
    ] = False
    connect_timeout: Annotated[
        Seconds,
        Meta(description="Seconds for a connection to be there. 10: lost packets, and TLS."),
    ] = 10.0
    register_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds until the network has let it in. 60: some look for a name and an "
            "identd for 30."
        ),
    ] = 60.0
    keepalive: Annotated[
        Seconds,
        Meta(
            description="Seconds of silence after which the network is asked whether it is there."
        ),
    ] = 60.0
    ping_timeout: Annotated[
        Seconds,
        Meta(description="Seconds that it has to answer. 60: a lag that rooms still live with."),
    ] = 60.0
    retry_longest: Annotated[
        Seconds,
        Meta(
            description="Seconds between two attempts to connect, at most, and at least where the "
            "network has banned the gateway or refused its login. 300: networks ban who knocks "
            "more often."
        ),
    ] = 300.0
    rejoin_wait: Annotated[
        Seconds,
        Meta(
            description="Seconds before a channel is joined again after a kick or a refusal; each "
            "further wait is twice as long. 10: nobody is to be annoyed."
        ),
    ] = 10.0
    rejoin_longest: Annotated[
        Seconds, Meta(description="Seconds that such a wait is at most. 600: a ban may be lifted.")
    ] = 600.0
    regain_wait: Annotated[
        Seconds,
        Meta(
            description="Seconds between two looks at whether the nick is free, where the network "
            "cannot tell by itself. 60: a line a minute."
        ),
    ] = 60.0
    quit: Annotated[str, Meta(description="What is said at the end.")] = "restarting"
