"""A reply to a mail: a decision while it waits, a mail in the same thread otherwise."""

from __future__ import annotations

from email.message import Message

import pytest

from gateway.core.layers.base import FAILED, OK, REJECTED, Outcome
from gateway.plugins.email.client.envelope import Refused
from tests.plugins.email.mx import MAIL, Client, Site, site

HERE = {"trusted": ("127.0.0.1",)}


def reply_to(served: Site, number: int = -1, **keys: object) -> None:
    served.rig.send(served.mails[number]["reply_channel"], keys)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ({"accept": False}, "550 5.7.1 It is refused"),
        ({"accept": False, "text": "not here"}, "550 5.7.1 not here"),
        ({"accept": False, "bytes": "schön".encode()}, "550 5.7.1 sch?n"),
        ({"accept": False, "reason": "4.2.2 full", "close": 452}, "452 4.2.2 full"),
        ({"close": 554}, "554 5.7.1 It is refused"),
        ({"accept": False, "close": 4000}, "550 5.7.1 It is refused\n421 4.3.2 The connection is closed"),
    ],
)  # fmt: skip
def test_refused_by_a_reply(reply: dict[str, object], answer: str) -> None:
    """A reply may refuse a mail that its consumer has returned from; its words are no mail then."""
    with site(**HERE) as served:
        served.replies = lambda _: (reply,)
        client = served.client()
        client.begin()
        client.say(MAIL + b".\r\n")
        assert client.hear(0.1).startswith(answer.partition("\n")[0])
        assert served.box.sent == []
        assert served.dropped().get("foreign_code", 0) == (reply.get("close") == 4000)
        served.rig.run(3)
        assert client.ended is ("close" in reply)


def test_a_thread() -> None:
    """A text becomes a mail in the same thread, from whom it was written to; spooled before the 250."""
    mail = MAIL.replace(b"\r\n\r\n", b"\r\nReferences: <0@example.org>\r\n\r\n")
    with site(**HERE) as served:
        served.replies = lambda _: ({"text": "thank you"},)
        assert served.client().mail(mail, "Support+7@localhost").startswith("250")
        [(envelope, sent)] = served.box.sent
        assert (envelope.mail_from, envelope.rcpt_to) == ("", ("ann@example.org",))
        assert envelope.author == "Support+7@localhost"
        assert (sent["from"], sent["to"]) == ("Support+7@localhost", "ann@example.org")
        assert (sent["subject"], sent["in-reply-to"]) == ("Re: hi", "<1@example.org>")
        assert sent["references"] == "<0@example.org> <1@example.org>"
        assert sent["auto-submitted"] == "auto-replied"
        assert text(sent) == "thank you"


def text(sent: Message) -> str:
    payload = sent.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload.decode().strip()


def test_not_spooled() -> None:
    """Where a reply cannot be spooled the mail is not accepted: it comes again, and with it the reply."""
    with site(**HERE) as served:
        served.replies = lambda _: ({"text": "thank you"},)
        served.box.fails = Refused("the disk of the spool is full", 452, "full", fault=True)
        client = served.client()
        assert client.mail() == "451 4.3.0 It could not be handled now; try again later"
        served.box.fails = None
        assert client.mail().startswith("250")
        assert len(served.box.sent) == 1


def test_after_a_reply_that_cannot_be() -> None:
    """A reply that is invalid does not stand in the way of the next one to the same mail."""
    with site(**HERE) as served:
        served.replies = lambda _: ({"text": "a", "attachments": [["x", "none", b""]]},)
        assert served.client().mail().startswith("250")
        reply_to(served, text="b")
        served.rig.run(0.1)
        assert len(served.box.sent) == 1


@pytest.mark.parametrize(
    "outcome", [Outcome(FAILED), Outcome(REJECTED)], ids=["failed", "rejected"]
)
def test_not_accepted(outcome: Outcome) -> None:
    """What is said to a mail that is not accepted after all is dropped, counted, and its ack says so."""
    with site(**HERE) as served:
        served.decide = lambda _: None
        client = served.client()
        client.begin()
        client.say(MAIL + b".\r\n")
        client.hear()
        reply_to(served, text="at once", ack=7, ack_channel="acks?A")
        served.heard[-1].settle(outcome)
        client.hear()
        assert served.box.sent == []
        assert served.dropped()["discarded"] == 1
        assert acknowledged(served)["outcome"] == "failed"


def acknowledged(served: Site) -> dict[str, object]:
    served.rig.run(0.1)
    _, message = served.rig.worker.receive(["acks?A"])
    assert message is not None
    return message


def test_later() -> None:
    """For as long as the settings say a mail is answered by its reply channel, with its client gone."""
    with site(reply_lifetime=30, **HERE) as served:
        client = served.client()
        client.mail()
        client.line.cut()
        served.rig.run(5)
        reply_to(served, text="done", subject="Your order", ack=1, ack_channel="acks?A")
        assert acknowledged(served)["outcome"] == "accepted"
        reply_to(served, html="<p>and more</p>")
        served.rig.run(0.1)
        assert [sent["subject"] for _, sent in served.box.sent] == ["Your order", "Re: hi"]
        reply_to(served, accept=False, ack=2, ack_channel="acks?A")
        assert acknowledged(served)["outcome"] == "failed"
        reply_to(served, text=1)
        assert served.dropped() == {"invalid": 2}
        served.rig.run(31)
        reply_to(served, text="too late", ack=3, ack_channel="acks?A")
        assert acknowledged(served)["reason"] == "the connection is gone"
        assert len(served.box.sent) == 2
        assert served.dropped()["gone"] == 1
        assert served.rig.left_over() == {}


def test_bounded() -> None:
    """Only so many mails can be answered later; the oldest gives way, counted."""
    with site(max_replies=2, **HERE) as served:
        client = served.client()
        for number in range(3):
            client.mail(MAIL.replace(b"<1@", b"<%d@" % number))
        assert served.counted("answerable") == 2
        assert served.counted("replies_forgotten_total") == 1
        reply_to(served, 0, text="no")
        reply_to(served, 1, text="yes")
        served.rig.run(0.1)
        assert len(served.box.sent) == 1
        assert served.dropped() == {"gone": 1}


ROBOTS = [
    (b"Auto-Submitted: auto-replied\r\n", "ann@example.org"),
    (b"Precedence: bulk\r\n", "ann@example.org"),
    (b"List-Id: <x.example.org>\r\n", "ann@example.org"),
    (b"", ""),
    (b"", "mailer-daemon@example.org"),
    (b"", "x@localhost"),
]


@pytest.mark.parametrize(("field", "sender"), ROBOTS)
def test_robots(field: bytes, sender: str) -> None:
    """Robots, lists, bounces and ourselves are never answered; the mail is accepted all the same."""
    with site(**HERE) as served:
        served.replies = lambda _: ({"text": "thanks", "ack": 1, "ack_channel": "acks?A"},)
        answer = served.client().mail(field + MAIL, sender=sender)
        assert answer.startswith("250")
        assert served.box.sent == []
        assert served.dropped() == {"unanswered": 1}
        assert acknowledged(served)["outcome"] == "rejected"


def test_who_is_answered() -> None:
    """By itself only who has proven who it is; nobody, and anybody, where the settings say so."""
    for settings, count in (
        ({}, 0),
        ({"replies": "anyone"}, 1),
        ({"replies": "nobody", **HERE}, 0),
    ):
        with site(**settings) as served:
            served.replies = lambda _: ({"text": "thanks"},)
            assert served.client().mail().startswith("250")
            assert len(served.box.sent) == count


def test_once_for_each_mail() -> None:
    """A mail that comes again is not answered again; one without an id is a new one each time."""
    with site(**HERE) as served:
        served.replies = lambda _: ({"text": "one"}, {"text": "two"})
        for mail, count in (
            (MAIL, 2),
            (MAIL, 2),
            (b"Subject: x\r\n\r\n", 4),
            (b"Subject: x\r\n\r\n", 6),
        ):
            assert served.client().mail(mail).startswith("250")
            assert len(served.box.sent) == count


def test_a_reply_that_cannot_be(caplog: pytest.LogCaptureFixture) -> None:
    """A line break in a header makes a reply invalid; the mail that it answers is accepted."""
    with site(**HERE) as served:
        served.replies = lambda _: ({"text": "x", "headers": [["X-A", "b\r\nBcc: c@example.org"]]},)
        assert served.client().mail().startswith("250")
        assert served.box.sent == []
        assert served.dropped() == {"invalid": 1}


def test_a_flood_of_replies() -> None:
    """Replies to a mail that waits are bounded."""
    with site(**HERE) as served:
        served.decide = lambda _: None
        client = served.client()
        client.begin()
        client.say(MAIL + b".\r\n")
        client.hear()
        for _ in range(70):
            reply_to(served, text="x")
        served.heard[-1].settle(OK)
        assert client.hear(0.1).startswith("250")
        assert len(served.box.sent) == 64
        assert served.dropped() == {"invalid": 6}


def recipient(client: Client, name: str) -> str:
    return client.ask(f"RCPT TO:<{name}@localhost>")


def test_recipients() -> None:
    """A recipient is decided by its consumer's outcome or reply; it takes nothing that is a mail's."""
    with site(("recipient", "receive")) as served:
        client = served.client()
        client.ask("MAIL FROM:<>")
        assert recipient(client, "a") == "250 2.1.5 OK"
        assert served.of("recipient")[0]["mail_from"] is None
        served.replies = lambda _: ({"accept": False, "reason": "gone"},)
        assert recipient(client, "b") == "550 5.1.1 gone"
        served.replies = lambda _: ({"html": "x"},)
        assert recipient(client, "c") == "250 2.1.5 OK"
        served.replies = lambda _: ()
        served.decide = lambda _: Outcome(REJECTED, 551, "5.1.6 try next door")
        assert recipient(client, "d") == "551 5.1.6 try next door"
        served.decide = lambda _: Outcome(FAILED)
        assert recipient(client, "e").startswith("451 4.3.0")
        served.decide = lambda _: None
        client.say("RCPT TO:<f@localhost>")
        client.hear()
        reply_to_recipient = served.of("recipient")[-1]["reply_channel"]
        served.rig.send(reply_to_recipient, {"accept": False})
        assert client.hear() == "550 5.1.1 There is no such mailbox"
        served.heard[-1].settle(OK)
        served.decide = lambda _: OK
        client.ask("DATA")
        assert client.ask(MAIL + b".\r\n").startswith("250")
        assert served.mails[0]["rcpt_to"] == ["a@localhost", "c@localhost"]
        assert served.mails[0]["order"] == 6
        assert served.dropped() == {"failed": 1, "invalid": 1}


def test_a_slow_decision() -> None:
    """A recipient that nobody decides on in time is put off; the connection goes on."""
    with site(("recipient", "receive"), decision_timeout=2) as served:
        served.decide = lambda _: None
        client = served.client()
        client.ask("MAIL FROM:<>")
        client.say("RCPT TO:<a@localhost>")
        assert client.hear(3) == "451 4.7.0 It could not be checked now; try again later"
        served.heard[-1].settle(OK)
        served.decide = lambda _: OK
        assert recipient(client, "b") == "250 2.1.5 OK"


def test_for_other_protocols() -> None:
    """What a reply says to other protocols alone is none here, before the answer and after it."""
    with site(**HERE) as served:
        served.rig.context.reader.protocols = frozenset({"email", "irc"})
        served.replies = lambda _: ({"irc": {"text": "x"}},)
        served.client().mail()
        reply_to(served, irc={"text": "x"}, ack=1, ack_channel="acks?A")
        assert acknowledged(served)["outcome"] == "accepted"
        reply_to(served, text="all", email={"subject": "for mail"})
        served.rig.run(0.1)
        assert [sent["subject"] for _, sent in served.box.sent] == ["for mail"]
        assert served.dropped() == {}
