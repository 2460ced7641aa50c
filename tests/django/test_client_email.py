"""`GatewayClient.email()`: people who write to the application, and consumers tried with them."""

import asyncio
import re

import pytest
from django.core import mail as django_mail
from django.core.mail import EmailMessage as DjangoMail
from django.test import override_settings

from django_gateway import Channel, ConsumeLater, EmailConsumer, Group, Reject, mailbox, route
from django_gateway import route_class as routes_of
from gateway import address

PDF = bytes(range(256)) * 20
SETTINGS = {
    "plugins": ["email"],
    "email": {"domains": ["x.org"], "replies": "anyone", "sender": "shop@x.org"},
}


@pytest.fixture(autouse=True)
def _settings():
    with override_settings(GATEWAY=SETTINGS):
        yield


@pytest.fixture
def site(client_of):
    """Make clients of a site that speaks SMTP."""
    return lambda *routes, **arguments: client_of(*routes, **arguments)


class Support(EmailConsumer):
    mailboxes = ["support+{ticket:int}@x.org"]
    heard = []

    def receive(self, message, ticket):
        if ticket == 13:
            raise Reject(553, "not that one")
        if ticket == 500:
            raise RuntimeError("broken")
        files = [(one.name, one.size) for one in message.attachments]
        self.heard.append((ticket, message["mail_from"], message.text.strip(), files))
        if message.text.startswith("?"):
            self.reply(
                f"Ticket {ticket}.", html="<p>", attachments=[("a.pdf", "application/pdf", PDF)]
            )


@pytest.fixture
def heard():
    Support.heard.clear()
    return Support.heard


def test_accepted(site, heard):
    """A mail that its consumer has handled is answered 250; the consumer had all of it."""
    ann = site(routes_of(Support)).email("Ann <ann@y.org>")
    answer = ann.send(
        "Support+7@X.org",
        "Grüße\n.\n..",
        subject="Grüße",
        attachments=[("../b.pdf", "application/pdf", PDF)],
        html="<p>",
    )
    assert (answer.code, answer.command, answer.accepted) == (250, "DATA", True)
    assert ann.outcome.kind == "accepted"
    assert heard == [(7, "ann@y.org", "Grüße\n.\n..", [("b.pdf", len(PDF))])]
    ann.expect_nothing()


def test_large(site, heard):
    """A mail of megabytes comes in pieces, which its consumer reads."""
    content = bytes(range(256)) * 8000
    ann = site(routes_of(Support)).email("ann@y.org")
    answer = ann.send("support+7@x.org", "x", attachments=[("b.pdf", "application/pdf", content)])
    assert answer.code == 250
    assert heard[0][3] == [("b.pdf", len(content))]


def test_refused(site, heard):
    """What a consumer refuses has its code; a mailbox that nobody takes mail for is none."""
    ann = site(routes_of(Support)).email("ann@y.org")
    answer = ann.send("support+13@x.org", "x")
    assert (answer.code, answer.command) == (553, "DATA")
    assert "not that one" in answer.text
    assert ann.outcome.kind == "rejected"
    answer = ann.send("sales@x.org", "x")
    assert (answer.code, answer.command) == (550, "RCPT")
    assert ann.send("support+7@elsewhere.org", "x").command == "RCPT"
    assert heard == []


def test_some_recipients(site, heard):
    """Of several recipients those are left that somebody takes mail for."""
    ann = site(routes_of(Support)).email("ann@y.org")
    answer = ann.send(["sales@x.org", "support+7@x.org"], "x")
    assert answer.code == 250
    assert answer.refused["sales@x.org"][0] == 550
    assert len(heard) == 1


def test_failed(site):
    """A consumer that fails has the sender come again; the test is told what it raised."""
    client = site(routes_of(Support))
    ann = client.email("ann@y.org")
    with pytest.raises(RuntimeError, match="broken"):
        ann.send("support+500@x.org", "x")
    client.raise_request_exception = False
    answer = ann.send("support+500@x.org", "x")
    assert (answer.code, ann.outcome.kind) == (451, "failed")


def test_reply(site):
    """A reply is a mail in the thread of what it answers, from the mailbox that was written to."""
    client = site(routes_of(Support))
    ann, bob = client.email("ann@y.org"), client.email("bob@y.org")
    asked = ann.send("support+7@x.org", "?", subject="Help")
    mail = ann.expect_mail("Re: Help", "Ticket 7.")
    assert mail["From"] == "support+7@x.org"
    assert mail["In-Reply-To"] == asked.message_id
    assert mail.html == "<p>"
    assert [(one.name, one.read()) for one in mail.attachments] == [("a.pdf", PDF)]
    assert mail["Auto-Submitted"] == "auto-replied"
    bob.expect_nothing()
    assert client.outbox == [mail] == ann.inbox
    with pytest.raises(AssertionError, match="expected a mail, and nothing came"):
        ann.expect_mail()


def test_thread(site):
    """Those who answer an answer go on with the conversation, and have its session."""
    threads = []

    def receive(message):
        threads.append(message.thread)
        message.reply(f"{len(threads)}")

    ann = site(route("email.receive", receive)).email("ann@y.org")
    first = ann.send("any@x.org", "a", subject="A")
    answer = ann.expect_mail("Re: A", "1")
    ann.send("any@x.org", "b", reply_to=answer)
    ann.expect_mail("Re: A", "2")
    assert threads == [first.message_id.strip("<>")] * 2


KEPT = ("message_id", "subject", "headers", "rcpt_to")


@pytest.mark.parametrize("kept", ["message", "dict"])
def test_answer_later(site, kept):
    """Another consumer answers in the thread, by what was kept, from the mailbox written to."""
    threads, tickets = [], []

    def receive(message):
        threads.append(message.thread)
        tickets.append(message if kept == "message" else {key: message[key] for key in KEPT})

    def solve(message):
        EmailConsumer.mail("ann@y.org", "solved", in_reply_to=tickets[-1])

    client = site(route("email.receive", receive), route("work", solve))
    ann = client.email("ann@y.org")
    ann.send("support+7@x.org", "?", subject="Help", headers={"References": "<first@y.org>"})
    Channel("work").send({})
    mail = ann.expect_mail("Re: Help", "solved")
    assert mail["From"] == mail.mail_from == "support+7@x.org"
    parent = tickets[0]["message_id"]
    assert (mail["In-Reply-To"], mail["References"]) == (parent, f"<first@y.org> {parent}")
    ann.send("support+7@x.org", "thanks", reply_to=mail)
    assert threads == ["first@y.org"] * 2
    Channel("work").send({})
    assert ann.expect_mail("Re: Help", "solved")["In-Reply-To"] == tickets[1]["message_id"]


def test_bounces_are_not_answered(site):
    """The null sender, and who sends automatically, get no reply."""

    def receive(message):
        message.reply("hi")

    client = site(route("email.receive", receive))
    assert client.email("").send("any@x.org", "x").code == 250
    ann = client.email("ann@y.org")
    assert ann.send("any@x.org", "x", headers={"Auto-Submitted": "auto-replied"}).code == 250
    assert client.outbox == []


def test_what_the_application_sends(site):
    """What is sent by channel, address, group or class is in the outbox; nothing leaves the test."""
    client = site(route("work", lambda message: None))
    ann = client.email("ann@y.org")
    ann.expect_nothing()
    to_ann = Channel(address("email.send", "ann@y.org"))
    to_ann.send({"text": "one", "subject": "A", "email": {"html": "<p>"}})
    assert ann.expect_mail("A", "one").html == "<p>"
    Channel("email.send").send({"text": "two", "rcpt_to": ["ann@y.org", "bob@y.org"]})
    assert ann.expect_mail(text="two").rcpt_to == ["ann@y.org", "bob@y.org"]
    Group("room").add(to_ann)
    Group("room").send({"text": "three"})
    ann.expect_mail(text="three")
    EmailConsumer.mail("ann@y.org", "four", subject="Four")
    ann.expect_mail(re.compile("^F"), re.compile("ou"))
    EmailConsumer.mail("ann@y.org", "five")
    with pytest.raises(AssertionError, match="expected a mail, subject 'x', got <mail to ann"):
        ann.expect_mail("x")
    assert len(client.outbox) == 5


def test_djangos_mail(site):
    """What goes by Django's backend for tests is in the outbox, too; and so is the gateway's."""
    client = site(route("work", lambda message: None))
    ann = client.email("ann@y.org")
    django_mail.outbox = []
    try:
        with override_settings(EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend"):
            DjangoMail("A", "one", "shop@x.org", ["Ann <ann@y.org>"]).send()
        mail = ann.expect_mail("A", "one")
        assert (mail.mail_from, mail.rcpt_to) == ("shop@x.org", ["ann@y.org"])
        with override_settings(EMAIL_BACKEND="django_gateway.mail.EmailBackend", EMAIL_TIMEOUT=5):
            large = DjangoMail("B", "two", "shop@x.org", ["ann@y.org"])
            large.attach("a.pdf", PDF * 200, "application/pdf")
            assert large.send() == 1
        mail = ann.expect_mail("B", "two")
        assert mail.attachments[0].read() == PDF * 200
    finally:
        del django_mail.outbox


def test_mail_from_a_consumer(site):
    """A consumer may send by Django's mail, which waits for the spool meanwhile."""

    def receive(message):
        DjangoMail("Copy", message.text, "shop@x.org", ["ann@y.org"]).send()

    ann = site(route("email.receive", receive)).email("ann@y.org")
    with override_settings(EMAIL_BACKEND="django_gateway.mail.EmailBackend", EMAIL_TIMEOUT=5):
        assert ann.send("any@x.org", "x").code == 250
    ann.expect_mail("Copy", "x")


def test_authenticated(site):
    """Who says who they are is asked for, over TLS; their mail says that it is theirs."""
    identities = []

    def authenticate(message):
        if message["password"] != "right":
            raise Reject(535)

    def receive(message):
        identities.append(message.get("identity"))

    routes = (route("email.authenticate", authenticate), route("email.receive", receive))
    client = site(*routes)
    wrong = client.email("ann@y.org", username="ann", password="wrong").send("any@x.org", "x")
    assert (wrong.code, wrong.command) == (535, "AUTH")
    assert (
        client.email("ann@y.org", username="ann", password="right").send("any@x.org", "x").code
        == 250
    )
    assert client.email("ann@y.org").send("any@x.org", "x").code == 250
    assert identities == ["ann", None]


def test_pending(site):
    """A mail whose consumer takes its time is decided once the time has passed."""

    def receive(message):
        if message.attempt == 1:
            raise ConsumeLater(20)

    client = site(route("email.receive", receive))
    answer = client.email("ann@y.org").send("any@x.org", "x")
    assert answer.pending
    assert answer.code is None
    client.clock.advance(21)
    assert answer.code == 250


def test_async(site):
    """On a loop everything has its twin."""

    async def receive(message):
        message.reply(f"{(await message.aemail())['subject']}")

    async def body():
        ann = client.email("ann@y.org")
        assert (await ann.asend("any@x.org", "x", subject="A")).code == 250
        assert (await ann.aexpect_mail()).text == "A"
        await ann.aexpect_nothing()
        assert (await ann.asend_raw("any@x.org", b"Subject: B\r\n\r\nx")).code == 250
        assert (await ann.aexpect_mail()).text == "B"
        with pytest.raises(RuntimeError, match="await asend"):
            ann.send("any@x.org", "x")

    client = site(route("email.receive", receive))
    asyncio.run(body())


def test_mailbox_route(site):
    """A route has mailboxes as a class has; what another takes it does not see."""
    seen = []
    routes = [
        route(
            "email.receive",
            lambda message, name: seen.append(name),
            rcpt_to=mailbox("{name}@x.org"),
        ),
    ]
    client = site(*routes)
    assert client.email("ann@y.org").send("Bob@X.ORG", "x").code == 250
    assert seen == ["Bob"]


def test_without_the_plugin(client_of):
    """Without the plugin the client says so."""
    client = client_of(plugins=["http"])
    with pytest.raises(LookupError, match="no plugin 'email'"):
        client.email("ann@y.org").send("any@x.org", "x")
    assert client.outbox == []
