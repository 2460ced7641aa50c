"""The settings table ``[irc]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.plugins.irc.client.config import Network

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class IrcConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[irc]``: where clients connect, which networks are joined, and the limits."""

    listen: Annotated[
        str | tuple[str, ...],
        Meta(
            description="Where clients connect, one endpoint or several: 6667, *:6667, "
            "tls:*:6697, unix:/run/irc.sock. Without an interface: loopback. An empty list: the "
            "gateway only joins networks."
        ),
    ] = "127.0.0.1:6667"
    networks: Annotated[
        dict[str, Network],
        Meta(description="Networks that the gateway joins, by name: ``[irc.networks.NAME]``."),
    ] = {}
    network: Annotated[
        str,
        Meta(
            pattern=r"\A[A-Za-z0-9._-]{1,50}\Z",
            description="What the gateway's own network is called: by clients in their lists, and "
            "in messages.",
        ),
    ] = "Gateway"
    server: Annotated[
        str,
        Meta(
            pattern=r"\A[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+\Z",
            max_length=63,
            description="What the server is called: the source of what it says itself. A dot in "
            "it tells it from nicks. 63: RFC 1459.",
        ),
    ] = "irc.gateway"
    nick: Annotated[
        str,
        Meta(
            pattern=r"\A[A-Za-z\[\]\\`_^{|}][A-Za-z0-9\[\]\\`_^{|}-]{0,30}\Z",
            description="Who says what the application says, where it names no nick. Nobody else "
            "can take it; what is said to it goes to the application.",
        ),
    ] = "gateway"
    motd: Annotated[
        str, Meta(description="The message of the day; its lines are sent after the welcome.")
    ] = ""
    relay: Annotated[
        bool,
        Meta(
            description="Whether what clients say reaches others where nobody routes irc.receive. "
            "Where it is routed, it does once it is accepted."
        ),
    ] = True
    history: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Messages of each channel that are kept, for those who ask for them "
            "(chathistory). 0: none. The layer bounds all of them together.",
        ),
    ] = 0
    history_seconds: Annotated[
        Seconds, Meta(description="How long they are kept. 604800: a week, for who was away.")
    ] = 604_800.0
    sasl: Annotated[
        tuple[Literal["PLAIN", "EXTERNAL"], ...],
        Meta(
            description="Mechanisms of SASL that are offered: PLAIN where irc.authenticate is "
            "routed, EXTERNAL to who shows a certificate."
        ),
    ] = ("PLAIN", "EXTERNAL")
    sasl_required: Annotated[
        bool, Meta(description="Whether only clients are let in that said who they are, by SASL.")
    ] = False
    operators: Annotated[
        Literal["first", "application"],
        Meta(
            description="Who is operator of a channel. first: whoever joins it first. "
            "application: whom a reply of type mode makes one."
        ),
    ] = "first"
    channel_modes: Annotated[
        str,
        Meta(
            pattern=r"\A[imnst]*\Z",
            description="Modes of a new channel. nt: only members speak in it, and only operators "
            "set the topic.",
        ),
    ] = "nt"
    websocket: Annotated[
        str,
        Meta(
            pattern=r"\A(/[^?#\s]*)?\Z",
            description="The path of the http port at which pages and clients may speak IRC over "
            "WebSocket. Only where the plugin http is served. Empty: nowhere.",
        ),
    ] = "/irc"
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description="Web pages that may do so, as websocket.origins. Clients that are no "
            "browsers send no origin and are let in."
        ),
    ] = ("same-host",)
    addresses: Annotated[
        bool,
        Meta(
            description="Whether clients see each other's addresses. Off, all have the host that "
            "``server`` is; the application has the address in any case."
        ),
    ] = False
    max_connections: Annotated[
        Count, Meta(description="Connections at once. 10,000: what 1 GiB serves easily.")
    ] = 10_000
    max_connections_per_address: Annotated[
        Count | None,
        Meta(
            description="Connections of one client address at once. 100: an office behind one. "
            "Absent: any number."
        ),
    ] = 100
    max_pending: Annotated[
        Count,
        Meta(
            description="Clients that may wait for a decision at once; more are closed. 1000: as "
            "many as may wait on the channel irc.connect."
        ),
    ] = 1000
    max_channels: Annotated[
        Count, Meta(description="Channels that one client may be in. 100: far above usual.")
    ] = 100
    max_targets: Annotated[
        int, Meta(ge=1, le=20, description="Targets of one PRIVMSG, KICK or such. 4: usual.")
    ] = 4
    max_list: Annotated[
        Count, Meta(description="Bans of one channel, of each kind. 100: usual.")
    ] = 100
    max_nick: Annotated[int, Meta(ge=9, le=64, description="Characters of a nick. 30: usual.")] = 30
    max_channel: Annotated[
        int,
        Meta(ge=16, le=60, description="Bytes of a channel's name. 60: escaped, it names a group."),
    ] = 60
    max_topic: Annotated[
        int,
        Meta(
            ge=16,
            le=390,
            description="Bytes of a topic. 300: it fits a line.",
        ),
    ] = 300
    max_reason: Annotated[
        int,
        Meta(ge=16, le=300, description="Bytes of the words of AWAY, KICK, PART, QUIT. 255."),
    ] = 255
    max_realname: Annotated[
        int, Meta(ge=16, le=200, description="Bytes of a real name. 150: usual.")
    ] = 150
    line_rate: Annotated[
        float,
        Meta(
            ge=0,
            description="Lines a second that a client may send for long; what comes faster waits. "
            "4: faster than people type. 0: any number.",
        ),
    ] = 4.0
    line_burst: Annotated[
        Count,
        Meta(
            description="Lines that may come at once, on top of the rate. 30: a client that joins "
            "its channels."
        ),
    ] = 30
    max_queue: Annotated[
        int,
        Meta(
            ge=8192,
            description="Bytes of lines that may wait for their turn; more ends the connection "
            "(Excess Flood). 16,384: some hundred lines.",
        ),
    ] = 16_384
    registration_timeout: Annotated[
        Seconds,
        Meta(description="Seconds for a client to say who it is. 60: people type passwords."),
    ] = 60.0
    decision_timeout: Annotated[
        Seconds,
        Meta(description="Seconds until what a consumer has not decided is refused. 10."),
    ] = 10.0
    implicit_accept: Annotated[
        bool,
        Meta(
            description="Whether a client is let in when its connect consumer returns without "
            "having decided. Off, it waits for a direct reply."
        ),
    ] = True
    ping_interval: Annotated[
        Seconds,
        Meta(
            description="Seconds of silence after which a client is asked for a sign of life. 90: "
            "below what firewalls forget."
        ),
    ] = 90.0
    ping_timeout: Annotated[
        Seconds, Meta(description="Seconds that it has to answer. 60: a phone between two cells.")
    ] = 60.0
    slow_consumer: Annotated[
        Literal["close", "drop_oldest", "drop_newest"] | None,
        Meta(
            description="What happens to messages for a client whose outbox is full. Absent: what "
            "[gateway] says of every protocol."
        ),
    ] = None
