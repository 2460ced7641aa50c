"""The settings table ``[email]``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.plugins.email.client.config import Outgoing

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class EmailConfig(Outgoing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[email]``: where mail comes in, for whom, how it goes out, and the limits."""

    listen: Annotated[
        str | tuple[str, ...],
        Meta(
            description="Where SMTP is spoken, one endpoint or several: 2525, *:25, tls:*:465. "
            "Without an interface: loopback. With a certificate (tls.certificate) STARTTLS is "
            "offered at those without ``tls:``. An empty list: no SMTP."
        ),
    ] = "127.0.0.1:2525"
    lmtp: Annotated[
        str | tuple[str, ...],
        Meta(
            description="Where LMTP is spoken, to the site's own mail server: "
            "unix:/run/gateway/lmtp.sock:mode=660, 2424. Empty: nowhere."
        ),
    ] = ()
    domains: Annotated[
        tuple[str, ...],
        Meta(
            description="The domains that mail is taken for; ``.example.org``: all below that one. "
            "Mail for any other is refused whoever sends it, so that there is no open relay."
        ),
    ] = ("localhost",)
    hostname: Annotated[
        str,
        Meta(
            description="What the server calls itself in greetings and Received fields. Empty: the "
            "machine's name; it is not looked up."
        ),
    ] = ""
    require_tls: Annotated[
        bool,
        Meta(
            description="Whether mail is taken over TLS alone (530); by LMTP it is taken all the "
            "same. Not for a server that the Internet's MX records name: RFC 3207, section 4."
        ),
    ] = False
    plain_auth: Annotated[
        bool,
        Meta(
            description="Whether AUTH is offered without TLS, too, to clients on loopback and Unix "
            "sockets. Anybody else shows a password over TLS alone."
        ),
    ] = False
    proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Proxies, by address or network, whose connections begin with a PROXY "
            "header (version 1 or 2, before TLS), which says whom it is for; unix for peers on "
            "Unix sockets. One without a header is closed. Empty: nobody's."
        ),
    ] = ()
    trusted: Annotated[
        tuple[str, ...],
        Meta(
            description="Machines, by address or network, that may say whom a mail is from: a "
            "reply goes there as to who proved it (``replies``). They may relay nothing."
        ),
    ] = ()
    replies: Annotated[
        Literal["authenticated", "aligned", "anyone", "nobody"],
        Meta(
            description="To whom a reply to a mail is sent. authenticated: who used SMTP AUTH or a "
            "certificate, or is trusted. aligned: also whom SPF or DKIM confirms (the extra "
            "email-auth). anyone: whoever the mail says, though that may be a victim of who sent "
            "it. Lists, robots and bounces are never answered."
        ),
    ] = "authenticated"
    reply_lifetime: Annotated[
        Seconds,
        Meta(
            description="Seconds for which a mail can be answered by its reply channel, once it "
            "is accepted. 3600: for work that is done in the background; after that there is "
            "email.send."
        ),
    ] = 3600.0
    max_replies: Annotated[
        Count,
        Meta(
            description="Mails that can be answered so at once; beyond that the oldest cannot be "
            "any more. 10,000: some 20 MB."
        ),
    ] = 10_000
    check_senders: Annotated[
        bool,
        Meta(
            description="Whether SPF, DKIM and DMARC are checked of mail that comes by SMTP from "
            "elsewhere, where the extra email-auth is installed. Nothing is refused for it."
        ),
    ] = True
    dns_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds for all that this asks of DNS, for one mail; then it says "
            "temperror. 10: RFC 7208, section 4.6.4, has 20 at least, and the sender waits."
        ),
    ] = 10.0
    max_size: Annotated[
        int,
        Meta(
            ge=1 << 16,
            description="Bytes of one mail; a larger one is refused (552), before it is sent where "
            "its SIZE says so. 25 MiB: what large providers take. 65,536 at least: RFC 5321, "
            "section 4.5.3.1.7.",
        ),
    ] = 25 << 20
    inline_bytes: Annotated[
        Count,
        Meta(
            description="A mail of up to so many bytes is in its message; a larger one waits in a "
            "temporary file and comes in pieces. 262,144: nearly every mail without attachments, "
            "and far below a message's 1 MiB."
        ),
    ] = 1 << 18
    max_spilled: Annotated[
        Count,
        Meta(
            description="Bytes of all mails in temporary files together; beyond that mail is put "
            "off (452). 1 GiB: forty of the largest."
        ),
    ] = 1 << 30
    spill_directory: Annotated[
        str,
        Meta(
            description="Where those temporary files are, which have no names. Empty: the "
            "system's place for them (TMPDIR, /tmp)."
        ),
    ] = ""
    max_line: Annotated[
        int,
        Meta(
            ge=1000,
            description="Bytes of one line of a mail with its CR LF; one with a longer one is "
            "refused (554). 1000: RFC 5321, section 4.5.3.1.6.",
        ),
    ] = 1000
    max_header_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            description="Bytes of a mail's header; one with more is refused (552). 131,072: long "
            "chains of signatures take some 30,000.",
        ),
    ] = 131_072
    max_header_fields: Annotated[
        int,
        Meta(ge=100, description="Fields of a mail's header; as above. 1000: usual: 20 to 100."),
    ] = 1000
    max_hops: Annotated[
        int,
        Meta(
            ge=10,
            description="Received fields of a mail; one with more goes in a circle and is refused "
            "(554). 100: RFC 5321, section 6.3.",
        ),
    ] = 100
    max_recipients: Annotated[
        Count,
        Meta(
            description="Recipients of one mail; more are put off (452), as the sender expects. "
            "100: RFC 5321, section 4.5.3.1.8."
        ),
    ] = 100
    max_messages: Annotated[
        Count,
        Meta(description="Mails over one connection; then it is closed (421). 1000: senders come "
             "back."),
    ] = 1000  # fmt: skip
    max_errors: Annotated[
        Count,
        Meta(
            description="Commands of one connection that may be answered 5xx; then it is closed "
            "(421). 20: more recipients than that in one mail are not mistyped."
        ),
    ] = 20
    max_auth_errors: Annotated[
        Count,
        Meta(description="Wrong passwords of one connection; then it is closed (421). 3: usual."),
    ] = 3
    max_connections: Annotated[
        Count,
        Meta(description="Connections at once; more are answered 421. 1000: a busy site's."),
    ] = 1000
    max_connections_per_address: Annotated[
        Count | None,
        Meta(
            description="Connections of one client address at once; more are answered 421. 50: "
            "large senders keep to 20. Loopback and Unix sockets are not counted."
        ),
    ] = 50
    command_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds to wait for a command, or for the next piece of a mail. 300: RFC "
            "5321, section 4.5.3.2.7."
        ),
    ] = 300.0
    data_rate: Annotated[
        float,
        Meta(
            ge=0,
            description="Bytes a second that a mail must come with, command_timeout aside; a "
            "slower one is cut off (421). 100: less is an attack. 0: any.",
        ),
    ] = 100.0
    session_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds that one connection may last, mails in hand aside. 3600: a "
            "thousand mails at an easy pace."
        ),
    ] = 3600.0
    decision_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds for consumers to decide on a password or a recipient; then it is "
            "451. 60: senders wait for 300."
        ),
    ] = 60.0
    outcome_timeout: Annotated[
        Seconds,
        Meta(
            description="Seconds for a consumer to handle a mail; then it is 451, and the sender "
            "comes again. 240: senders wait for 600, some for 300."
        ),
    ] = 240.0
    greeting_delay: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds before the greeting; who speaks before it is refused (554), as "
            "programs that send spam do. 0: at once.",
        ),
    ] = 0.0
    queue_timeout: Annotated[
        Seconds,
        Meta(description="Seconds that a mail waits for room on a full channel; then it is 452."),
    ] = 5.0
