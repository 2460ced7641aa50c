"""Mail by its recipients: the filter, the class with mailboxes, and who is a recipient at all."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_gateway import EmailConsumer, Message, include, mailbox, route, route_class
from django_gateway.channel import Outbox, outbox
from django_gateway.recipients import recipient, recipients
from django_gateway.routing import Router
from gateway.core.layers import codec

UUID = "12345678-1234-5678-1234-567812345678"


def take(message, **found):
    """Take anything."""


def found(one, *rcpt_to, channel="email.receive"):
    """Return what the table of one route captures, or None where it does not match."""
    match = Router([one]).match(Message({"rcpt_to": list(rcpt_to)}, channel))
    return None if match is None else match[1]


def captures(written, **options):
    return route("email.receive", take, rcpt_to=mailbox(written, **options))


@pytest.mark.parametrize(
    ("written", "address", "expected"),
    [
        ("a@x.org", "a@x.org", {}),
        ("a@x.org", "A@X.ORG", {}),
        ("A@x.org", "a@x.org", {}),
        ("a@x.org", "a@x.org.evil", None),
        ("a@x.org", "aa@x.org", None),
        ("a@x.org", "a@xxorg", None),
        ("a@x.org", "a@x.org\n", None),
        ("a+{tag}@x.org", "a+b@x.org", {"tag": "b"}),
        ("a+{tag}@x.org", "A+bC@x.org", {"tag": "bC"}),
        ("a+{tag}@x.org", "a+@x.org", None),
        ("a+{tag}@x.org", "a@x.org", None),
        ("a+{n:int}@x.org", "a+42@x.org", {"n": 42}),
        ("a+{n:int}@x.org", "a+4x@x.org", None),
        ("a+{n:uuid}@x.org", f"a+{UUID.upper()}@x.org", {"n": __import__("uuid").UUID(UUID)}),
        ("{user}+{tag}@x.org", "a+b+c@x.org", {"user": "a", "tag": "b+c"}),
        ("{user}@x.org", '"a@b"@x.org', {"user": '"a@b"'}),
        ("{user}@{host}.org", "a@b.c.org", {"user": "a", "host": "b.c"}),
        ("{user}@{host}", "a@evil@x.org", {"user": "a@evil", "host": "x.org"}),
        ("{user}@bücher.example", "a@xn--bcher-kva.example", {"user": "a"}),
        ("{user}@bücher.example", "a@BÜCHER.example", {"user": "a"}),
        ("jörg@x.org", "JÖRG@x.org", {}),
    ],
)
def test_mailbox(written, address, expected):
    """An address is matched whole, by any case, and gives what its braces name, as it is."""
    assert found(captures(written), address) == expected


def test_case_sensitive():
    """Upper and lower case may matter before the @; in a domain they never do."""
    one = captures("Ann+{tag}@x.org", case_sensitive=True)
    assert found(one, "Ann+1@X.org") == {"tag": "1"}
    assert found(one, "ann+1@x.org") is None


def test_any_recipient():
    """A mail to several is matched by any of them; a message without any is not."""
    one = captures("a+{n:int}@x.org")
    assert found(one, "b@x.org", "a+x@x.org", "a+7@x.org") == {"n": 7}
    assert found(one) is None


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("x.org", "'{name}@x.org'|is not an address"),
        ("@x.org", "'{name}@x.org'"),
        ("a@", "is not an address"),
        (None, "takes an address"),
        ("a+{n:integer}@x.org", "did you mean 'int'"),
        ("a+{n:zzzzzz}@x.org", "there are .*int"),
        ("a+{}@x.org", "cannot name an argument"),
        ("a+{class x}@x.org", "cannot name an argument"),
        ("{a}+{a}@x.org", "twice"),
        ("{a}@{a}", "twice"),
        ("a+{n@x.org", "brace too few"),
        ("Ann <ann@x.org>", "an address alone"),
        ("a+<n>@x.org", "written '{name}'"),
        ("a@é..x", "no such domain"),
    ],
)
def test_wrong(written, hint):
    """What is no address, or no pattern of one, is refused by a text that shows what is."""
    with pytest.raises(ImproperlyConfigured, match=hint):
        mailbox(written)


def test_include():
    """In an include a mailbox is a whole one, of which the routes within see nothing more."""
    routes = include([route("email.receive", take, subject="^Re")], rcpt_to=mailbox("{a}@x.org"))
    match = Router([routes]).match(
        Message({"rcpt_to": ["b@x.org"], "subject": "Re"}, "email.receive")
    )
    assert match[1] == {"a": "b"}
    with pytest.raises(ImproperlyConfigured, match="leave one of them out"):
        include([captures("b@x.org")], rcpt_to=mailbox("{a}@x.org"))


class Support(EmailConsumer):
    mailboxes = ["support+{ticket:int}@x.org", "help-{ticket:int}@x.org"]

    def receive(self, message, ticket):
        self.reply("Thanks.", subject=f"#{ticket}", headers={"X-Ticket": "7"})

    def authenticate(self, message):
        pass


@pytest.fixture
def sent():
    """What is sent, as a worker collects it."""
    box = Outbox(1 << 20)
    token = outbox.set(box)
    yield lambda: [(name, codec.decode(payload)) for _, name, payload, *_ in box.sends]
    outbox.reset(token)


def test_class():
    """A class gets the mail of its mailboxes alone, and every other kind whatever the mailbox."""
    router = Router([route_class(Support)])
    for channel, content, expected in (
        ("email.receive", {"rcpt_to": ["support+1@x.org"]}, {"ticket": 1}),
        ("email.receive", {"rcpt_to": ["help-2@x.org"]}, {"ticket": 2}),
        ("email.receive", {"rcpt_to": ["help@x.org"]}, None),
        ("email.authenticate", {"username": "u"}, {}),
    ):
        match = router.match(Message(content, channel))
        assert (None if match is None else match[1]) == expected


def test_mailboxes_are_a_list():
    """One address as a text is refused: each of its characters would be one."""
    for wrong in ("a@x.org", mailbox("a@x.org")):
        kind = type("Wrong", (EmailConsumer,), {"mailboxes": wrong, "receive": take})
        with pytest.raises(ImproperlyConfigured, match=r"is a list of addresses: \['a@x.org'\]"):
            route_class(kind)


def test_reply(sent):
    """A reply is what a message can hold, whatever the attachments and headers came as."""
    from django.core.files.base import ContentFile

    message = Message({"reply_channel": "email.send.p_x!1", "rcpt_to": []}, "email.receive")
    consumer = Support(message)
    consumer.receive(message, 7)
    file = ContentFile(b"%PDF", name="a/b\\bill.pdf")
    file.read()
    consumer.reply(
        html="<p>", attachments=[file, ("x.txt", "text/plain", "é")], headers=[("A", "b")]
    )
    assert sent() == [
        (
            "email.send.p_x!1",
            {"text": "Thanks.", "subject": "#7", "headers": [["X-Ticket", "7"]]},
        ),
        (
            "email.send.p_x!1",
            {
                "html": "<p>",
                "attachments": [
                    ["bill.pdf", "application/pdf", b"%PDF"],
                    ["x.txt", "text/plain", "é".encode()],
                ],
                "headers": [["A", "b"]],
            },
        ),
    ]


def test_mail(sent):
    """A mail is sent to an address; one that is too long for it by the normal channel."""
    Support.mail("ann@x.org", "hi", subject="s")
    far = "a" * 60 + "@" + "b.__" * 60 + "org"
    Support.mail(far, html="<p>")
    assert sent() == [
        ("email.send!ann_40x.org", {"text": "hi", "subject": "s"}),
        ("email.send", {"html": "<p>", "rcpt_to": [far]}),
    ]


def test_mail_to_several(sent):
    """A list is one mail to all in it; what is no address and no list is told what to write."""
    Support.mail(["a@x.org", "b@x.org"], "hi")
    Support.mail(("a@x.org",), "hi")
    assert sent() == [
        ("email.send", {"text": "hi", "rcpt_to": ["a@x.org", "b@x.org"]}),
        ("email.send!a_40x.org", {"text": "hi"}),
    ]
    for wrong in ([], None, [None], 7):
        with pytest.raises(TypeError, match=r"write mail\('ann@example.com', …\)"):
            Support.mail(wrong, "hi")


IDS = [["In-Reply-To", "<1@y>"], ["References", "<1@y>"]]


@pytest.mark.parametrize(
    ("answered", "given", "expected"),
    [
        ("<1@y>", {}, {"headers": IDS}),
        ("1@y", {"subject": "S", "mail_from": "s@x.org"}, {"headers": IDS, "subject": "S",
         "mail_from": "s@x.org"}),
        ({"message_id": "<1@y>", "subject": "re: A", "rcpt_to": "s@x.org"}, {},
         {"headers": IDS, "subject": "re: A", "mail_from": "s@x.org"}),
        ({"message_id": "<1@y>", "subject": "A", "rcpt_to": ["s@x.org", "t@x.org"]},
         {"subject": "B", "mail_from": "u@x.org", "headers": {"references": "<0@y>", "X": "1"}},
         {"headers": [["references", "<0@y>"], ["X", "1"], IDS[0]], "subject": "B",
          "mail_from": "u@x.org"}),
        ({"message_id": None, "subject": "", "headers": None, "rcpt_to": ["postmaster"]}, {},
         {"subject": "Re:"}),
        ({"message_id": "<1@y>", "headers": [("In-Reply-To", "<0@y>")]}, {},
         {"headers": [IDS[0], ["References", "<0@y> <1@y>"]]}),
        ("<a b>\r\nBcc: v@x", {}, {}),
        ({"message_id": "<1@y>\nBcc: v@x", "subject": "A\r\nBcc: v@x"}, {},
         {"subject": "Re: A  Bcc: v@x"}),
    ],
)  # fmt: skip
def test_in_reply_to(sent, answered, given, expected):
    """An answer has the thread of what it answers; what is given goes before; nothing is injected."""
    Support.mail("ann@x.org", "hi", in_reply_to=answered, **given)
    assert sent() == [("email.send!ann_40x.org", {"text": "hi", **expected})]


def test_in_reply_to_of_another_kind():
    """What can be answered is named where something else is given."""
    with pytest.raises(TypeError, match="in_reply_to is the Message-ID of a mail, its message, or"):
        Support.mail("ann@x.org", "hi", in_reply_to=7)


def test_attachments_of_another_kind():
    """What is no attachment is refused by a text that shows one."""
    with pytest.raises(TypeError, match="triples"):
        Support.mail("ann@x.org", "hi", attachments=["bill.pdf"])


def accepted(routes, *rcpt_to):
    """Return who decides on a recipient; None: nobody, so it is refused."""
    table = Router(routes)
    whole = Router([*table.routes, *recipients(table.routes)])
    match = whole.match(Message({"rcpt_to": list(rcpt_to)}, "email.recipient"))
    return None if match is None else match[0].consumer


def decide(message, **found):
    """Decide."""


def test_recipients():
    """Those are accepted that have a route, and no others, once every route says which it is for."""
    routes = [captures("a+{n:int}@x.org"), captures("b@x.org")]
    assert accepted(routes, "a+1@x.org") is recipient
    assert accepted(routes, "b@x.org") is recipient
    assert accepted(routes, "a+x@x.org") is None
    own = [*routes, route("email.recipient", decide, rcpt_to=mailbox("b@x.org"))]
    assert accepted(own, "b@x.org") is decide
    assert accepted(own, "a+1@x.org") is recipient


def test_any_recipients():
    """Where some route takes whatever comes, nobody is asked, unless the table itself asks."""
    routes = [captures("a@x.org"), route("email.receive", take)]
    assert recipients(Router(routes).routes) == []
    own = [*routes, route("email.recipient", decide, rcpt_to=mailbox("b@x.org"))]
    assert accepted(own, "b@x.org") is decide
    assert accepted(own, "c@x.org") is recipient
    assert recipients(Router([route("http.request", take)]).routes) == []


def test_worker_names_recipients():
    """A worker's table has the recipients of its mailboxes, so that the gateway asks for them."""
    from django_gateway import asgi

    assert "email.recipient" in asgi.router([captures("a@x.org")]).channels()
    assert "email.recipient" not in asgi.router([route("email.receive", take)]).channels()
