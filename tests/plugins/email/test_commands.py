"""What clients say, rightly and wrongly: addresses, parameters, order, limits, relaying."""

from __future__ import annotations

import pytest

from gateway.core.errors import ConfigError, PluginError
from gateway.core.layers.memory import MemoryLayer
from gateway.core.layers.options import LayerOptions
from gateway.plugins.email.client.config import Delivery, Smarthost
from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.plugin import EmailPlugin
from gateway.plugins.email.server import commands
from gateway.plugins.email.server.commands import CommandError, Domains
from gateway.testing.stage import Staged
from tests.plugins.email.mx import MAIL, site

LONG = "a" * 64


@pytest.mark.parametrize(
    ("argument", "mailbox"),
    [
        ("FROM:<ann@Example.ORG>", "ann@example.org"),
        ("from: <ann@example.org>", "ann@example.org"),
        ("FROM:<>", None),
        ("FROM:<@a.example,@b.example:ann@example.org>", "ann@example.org"),
        ('FROM:<"ann"@example.org>', "ann@example.org"),
        ('FROM:<"ann smith"@example.org>', '"ann smith"@example.org'),
        ('FROM:<"a\\"b@c"@example.org>', '"a\\"b@c"@example.org'),
        ("FROM:<ann@[192.0.2.1]>", "ann@[192.0.2.1]"),
        ("FROM:<ann@[IPv6:2001:db8::1]>", "ann@[ipv6:2001:db8::1]"),
        ("FROM:<a..b.@example.org>", "a..b.@example.org"),
        ("FROM:<jörg@münchen.example>", "jörg@münchen.example"),
        (f"FROM:<{LONG}@example.org>", f"{LONG}@example.org"),
    ],
)
def test_paths(argument: str, mailbox: str | None) -> None:
    """An address is read as RFC 5321 and 6531 have it, in one form for one mailbox."""
    assert commands.path(argument, "FROM:").mailbox == mailbox


@pytest.mark.parametrize(
    "argument",
    ["", "FROM", "FROM:", "FROM:ann@example.org", "FROM:<ann>", "FROM:<ann@example.org", "FROM:<@b>",
     "FROM:<a b@example.org>", "FROM:<ann@exa mple.org>", "FROM:<ann@>", "FROM:<ann@-a.example>",
     "FROM:<ann@example..org>", "FROM:<a@b@example.org>", f"FROM:<{LONG}a@example.org>",
     "FROM:<ann@example.org>SIZE=1", "FROM:<a@b.example> SIZE=1 SIZE=2", "FROM:<a@b.example> =1",
     "FROM:<a@b.example> SIZE=", "TO:<a@b.example>", 'FROM:<"a@b.example>', "FROM:<ann@" + "a" * 256 + ">"],
)  # fmt: skip
def test_no_paths(argument: str) -> None:
    """What is no address is refused with words that show the form."""
    with pytest.raises(CommandError) as error:
        commands.path(argument, "FROM:")
    assert error.value.answer.code in {501, 553}


def test_domains() -> None:
    """Mail is taken for the domains that are named, and below those with a dot before them."""
    domains = Domains(["example.org", ".sub.example", "münchen.example"])
    for ours in (
        "example.org",
        "EXAMPLE.org",
        "a.sub.example",
        "a.b.sub.example",
        "xn--mnchen-3ya.example",
        "MÜNCHEN.example",
    ):
        assert ours in domains, ours
    for foreign in (
        "a.example.org",
        "sub.example",
        "xsub.example",
        "example.org.",
        "",
        "[192.0.2.1]",
        "example.org\n",
    ):
        assert foreign not in domains, foreign


@pytest.mark.parametrize(
    "domain", ["*", "", ".", "a b", "[192.0.2.1]", "ann@example.org", "*.example.org"]
)
def test_no_open_relay(domain: str) -> None:
    """There is no way to write that mail for anybody is taken."""
    with pytest.raises(ConfigError, match="open relay"):
        EmailPlugin.check(EmailConfig(domains=(domain,)), LayerOptions())


def test_settings_that_do_not_fit_the_layer() -> None:
    """A mail in one message has to fit the layer; the text names both settings."""
    with pytest.raises(
        ConfigError, match=r"email\.inline_bytes is 2000000 .* layer\.message_bytes"
    ):
        EmailPlugin.check(EmailConfig(inline_bytes=2_000_000), LayerOptions())


RELAYS = [
    "bob@foreign.example", "bob%foreign.example@localhost.foreign.example", '"bob@foreign.example"@b.example',
    "@localhost:bob@foreign.example", "bob@[127.0.0.1]", "bob@localhost.foreign.example", "bob@foreign.example@localhost",
    "foreign.example!bob", "bob@", "bob@xlocalhost",
]  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{}, {"trusted": ("*",)}, {"plain_auth": True, "replies": "anyone"}]
)
def test_relaying(settings: dict[str, object]) -> None:
    """Whoever asks and however it is written, mail for another domain is refused; who may log in, too."""
    with site(("receive", "recipient", "authenticate"), max_errors=99, **settings) as served:
        client = served.client()
        if "plain_auth" in settings:
            # A name with a line break in it.
            assert client.ask("AUTH PLAIN AGEKYgBzZWNyZXQ=").startswith("501 5.5.2 No name")
            assert client.ask("AUTH PLAIN AGFubgBzZWNyZXQ=") == "235 2.7.0 OK"
        client.ask("MAIL FROM:<root@localhost>")
        for relay in RELAYS:
            answer = client.ask(f"RCPT TO:<{relay}>")
            assert answer[:3] in {"550", "501"}, answer
        assert client.ask("DATA") == "503 5.5.1 There is no recipient"
        assert served.of("recipient") == []


def test_postmaster() -> None:
    """``postmaster`` without a domain is ours (RFC 5321 section 4.5.1)."""
    with site(domains=(".a.example", "Example.org")) as served:
        assert served.client().mail(MAIL, "PostMaster").startswith("250")
        assert served.mails[0]["rcpt_to"] == ["postmaster@example.org"]


DIALOGUE = [
    ("HELO a b", "501 5.5.4 The name of a host, or its address in brackets, please"),
    ("EHLO", "501 5.5.4 The name of a host, or its address in brackets, please"),
    ("MAIL FROM:<a@b.example>", "503 5.5.1 Say EHLO first"),
    ("RCPT TO:<x@localhost>", "503 5.5.1 Say MAIL first"),
    ("AUTH PLAIN", "503 5.5.1 Say EHLO first"),
    ("HELO a_b", "250 mx.example"),
    ("MAIL FROM:<a@b.example> SIZE=1", "555 5.5.4 Parameters take EHLO"),
    ("ehlo [192.0.2.1]", "250-mx.example"),
    ("NOOP whatever", "250 2.0.0 OK"),
    ("VRFY x", "252 2.0.0 Send a mail to learn whether it is taken"),
    ("VRFY", "501 5.5.4 Syntax: VRFY <address>"),
    ("EXPN x", "502 5.5.1 EXPN not implemented"),
    ("HELP", "250 2.0.0 Supported commands: AUTH DATA EHLO HELO HELP MAIL NOOP QUIT RCPT RSET VRFY"),
    ("HELP MAIL", "250 2.0.0 Syntax: MAIL FROM: <address> [SP <mail-parameters>]"),
    ("STARTTLS", "503 5.5.1 There is no TLS to begin"),
    ("AUTH PLAIN", "502 5.5.1 There is no AUTH here"),
    ("MAIL FROM:<a@b.example> SIZE=999999999999", "552 5.3.4 It is too large"),
    ("MAIL FROM:<a@b.example> SIZE=-1", "501 5.5.4 SIZE cannot be that"),
    ("MAIL FROM:<a@b.example> BODY=BINARYMIME", "501 5.5.4 BODY cannot be that"),
    ("MAIL FROM:<a@b.example> RET=FULL", "555 5.5.4 RET is not known"),
    ("MAIL FROM:<jörg@b.example>", "553 5.6.7 An address like that takes SMTPUTF8"),
    ("MAIL FROM:<jörg@b.example> SMTPUTF8 BODY=8BITMIME SIZE=7", "250 2.1.0 OK"),
    ("MAIL FROM:<a@b.example>", "503 5.5.1 There is a mail already; RSET drops it"),
    ("RCPT TO:<jörg@localhost>", "250 2.1.5 OK"),
    ("RCPT TO:<a\u0085b@localhost>", "501 5.1.3 An address has this form: <user@domain>"),
    ('RCPT TO:<"a\u2028b"@localhost>', "501 5.1.3 An address has this form: <user@domain>"),
    ("RCPT TO:<a@\u0085localhost>", "501 5.1.3 An address has this form: <user@domain>"),
    ("RCPT TO:<x@localhost> NOTIFY=NEVER", "555 5.5.4 NOTIFY is not known"),
    ("DATA now", "501 5.5.4 Syntax: DATA"),
    ("RSET", "250 2.0.0 OK"),
    ("DATA", "503 5.5.1 There is no recipient"),
    ("BDAT 5 LAST", "500 5.5.1 There is no such command"),
    (b"MAIL FROM:<\xff@b.example>\r\n", "500 5.5.2 A command is ASCII, or UTF-8 (RFC 6531)"),
    (b"NOOP \x00\r\n", "500 5.5.2 There is a control character in the command"),
    (b"NOOP\n", "500 5.5.2 A line ends with CR LF, and has neither in it"),
    (b"N" * 600 + b"\r\n", "500 5.5.6 The line is too long"),
    (b"\r\n", "500 5.5.1 There is no such command"),
    ("QUIT now", "501 5.5.4 Syntax: QUIT"),
    ("QUIT", "221 2.0.0 Bye"),
]  # fmt: skip


def test_a_dialogue() -> None:
    """Each command has its answer, with an enhanced code; what is wrong is said, and goes on."""
    with site(max_errors=99) as served:
        client = served.client(hello="")
        assert client.greeting == "220 mx.example ESMTP"
        for line, answer in DIALOGUE:
            said = client.ask(line)
            assert said.partition("\n")[0] == answer, line
        served.rig.run(3)
        assert client.ended


def test_pipelining() -> None:
    """Commands that are sent ahead are answered in order, in one write."""
    with site() as served:
        client = served.client()
        client.say(
            "MAIL FROM:<a@b.example>\r\nRCPT TO:<x@localhost>\r\nRCPT TO:<y@foreign.example>\r\nDATA"
        )
        assert [line[:3] for line in client.hear().split("\n")] == ["250", "250", "550", "354"]
        client.say(MAIL + b".\r\nMAIL FROM:<b@b.example>\r\nNOOP\r\nQUIT\r\n")
        assert [line[:3] for line in client.hear().split("\n")] == ["250", "250", "250", "221"]


def test_too_early() -> None:
    """Who sends a mail before it was asked for is sent away: it may be somebody else's words."""
    with site() as served:
        client = served.client()
        client.ask("MAIL FROM:<a@b.example>", "RCPT TO:<x@localhost>")
        client.say(b"DATA\r\n" + MAIL + b".\r\nMAIL FROM:<c@d.example>\r\n")
        assert client.hear() == "554 5.5.0 Wait for the 354 before the mail"
        served.rig.run(3)
        assert client.ended
        assert served.counted("injected_total") == 1


def test_a_browser() -> None:
    """A browser that a page leads here is sent away at once: the rest is the page's to choose."""
    with site() as served:
        client = served.client(hello="")
        client.say(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO a\r\nMAIL FROM:<a@b.example>\r\n")
        assert client.hear(3) == "554 5.5.0 This is a mail server"
        assert client.ended


def test_errors() -> None:
    """After so many errors the connection is closed."""
    with site(max_errors=3) as served:
        client = served.client()
        assert [client.ask("X")[:3] for _ in range(3)] == ["500"] * 3
        assert client.ask("X") == (
            "500 5.5.1 There is no such command\n421 4.7.0 Too many errors; the connection is closed"
        )
        served.rig.run(3)
        assert client.ended


def test_bounds() -> None:
    """Recipients of a mail and mails of a connection have their bounds."""
    with site(max_recipients=2, max_messages=2) as served:
        client = served.client()
        client.ask("MAIL FROM:<a@b.example>", "RCPT TO:<a@localhost>", "RCPT TO:<a@localhost>")
        client.ask("RCPT TO:<b@localhost>")
        assert client.ask("RCPT TO:<c@localhost>").startswith("452 4.5.3 ")
        client.ask("DATA", MAIL + b".\r\n")
        assert served.mails[0]["rcpt_to"] == ["a@localhost", "b@localhost"]
        assert client.mail().startswith("250")
        assert client.ask("MAIL FROM:<a@b.example>").startswith("421 4.7.0 ")
        served.rig.run(3)
        assert client.ended


def test_silence() -> None:
    """Who says nothing, or sends a mail too slowly, is told so and closed; who is at work is not."""
    with site(command_timeout=20, data_rate=100, session_timeout=300) as served:
        silent, slow, steady = served.client(), served.client(), served.client()
        slow.begin()
        for _ in range(5):
            steady.ask("NOOP", seconds=6)
            slow.say("x" * 10)
        assert silent.hear().startswith("421 4.4.2 Nothing came")
        assert slow.hear() == "421 4.4.2 The mail comes too slowly; the connection is closed"
        for _ in range(50):
            steady.say("NOOP")
            served.rig.run(6)
        assert steady.line.take().endswith(
            b"421 4.4.2 Nothing came for too long; the connection is closed\r\n"
        )
        served.rig.run(3)
        assert (silent.ended, slow.ended, steady.ended) == (True, True, True)


def test_early_talkers() -> None:
    """With greeting_delay who speaks before the greeting is refused; who waits is greeted."""
    with site(greeting_delay=3.0) as served:
        polite, early = served.client(hello=""), served.client(hello="")
        early.say("EHLO spam")
        assert early.hear().startswith("554 5.5.0 ")
        assert polite.hear(4) == "220 mx.example ESMTP"
        assert polite.ask("EHLO a").startswith("250")
        assert served.counted("early_talkers_total") == 1


def test_a_flood_of_commands() -> None:
    """Thousands of commands in one piece are answered in order, and others get their turn."""
    with site() as served:
        client = served.client()
        client.say(b"NOOP\r\n" * 5000)
        assert client.hear().count("250 2.0.0 OK") == 5000


def test_hello_again() -> None:
    """A new greeting begins anew, as RSET does."""
    with site() as served:
        client = served.client()
        client.ask("MAIL FROM:<a@b.example>", "RCPT TO:<x@localhost>", "EHLO b.example")
        assert client.ask("DATA") == "503 5.5.1 There is no recipient"
        assert client.mail().startswith("250")
        assert served.mails[0]["helo"] == "b.example"


def test_warnings() -> None:
    """What is risky, or comes to nothing, is said to who starts it."""
    everywhere = Smarthost(connect="127.0.0.1:25")
    part = Smarthost(connect="127.0.0.1:25", domains=("x.org",))
    fine = {"sender": "a@x.org", "smarthosts": {"one": part, "two": everywhere}}
    for settings, word in (
        ({"replies": "anyone"}, "who forges a sender"),
        ({"domains": ()}, "email.domains is empty"),
        ({"sender": ""}, "email.sender is empty"),
        ({"smarthosts": {}}, "email.smarthosts has no server yet: mail goes from this machine"),
        ({"smarthosts": {"one": part}}, "email.smarthosts has no server for every domain"),
    ):
        [warning] = EmailPlugin.warnings(EmailConfig(**{**fine, **settings}))
        assert word in warning
    for good in (
        fine,
        {"spool": ""},
        {"sender": "a@x.org", "delivery": Delivery(enabled=False)},
        {"sender": "a@x.org", "hostname": "mx.x.org"},
    ):
        assert list(EmailPlugin.warnings(EmailConfig(**good))) == []


def test_a_layer_that_says_no_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a layer that cannot say what became of a mail none is taken, and mail still goes out."""
    monkeypatch.setattr(MemoryLayer, "extensions", MemoryLayer.extensions - {"deliveries"})
    with (
        pytest.raises(PluginError, match=r"^email\.listen: .* set layer\.url"),
        Staged(EmailPlugin, EmailConfig(spool="")),
    ):
        pass
    with Staged(EmailPlugin, EmailConfig(spool="", listen=())) as staged:
        assert staged.plugin.health() == {"ok": True}
