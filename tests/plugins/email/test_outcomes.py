"""A mail is answered with what became of it, and never before."""

from __future__ import annotations

from email import message_from_bytes

import pytest

from gateway.core.layers.base import FAILED, OK, REJECTED, RELEASED, UNROUTED, Outcome
from tests.plugins.email.mx import MAIL, site


def test_a_mail() -> None:
    """What the application gets is the mail, how it came, and the trace that the last server writes."""
    with site() as served:
        client = served.client()
        answer = client.mail(MAIL, "x@localhost")
        assert answer.startswith("250 2.0.0 OK, taken as ")
        [mail] = served.mails
        assert mail["mail_from"] == "ann@example.org"
        assert mail["rcpt_to"] == ["x@localhost"]
        assert (mail["subject"], mail["message_id"]) == ("hi", "<1@example.org>")
        assert (mail["text"], mail["helo"], mail["tls"]) == ("hello\n", "c.example", False)
        assert mail["protocol"] == "ESMTP"
        assert mail["size"] == len(mail["raw"])
        assert mail["raw"].endswith(MAIL)
        parsed = message_from_bytes(mail["raw"])
        assert parsed["return-path"] == "<ann@example.org>"
        assert parsed["delivered-to"] == "x@localhost"
        received = " ".join(parsed["received"].split())
        name = answer.rpartition(" ")[2]
        assert received.startswith(
            f"from c.example ([127.0.0.1]) by mx.example with ESMTP id {name} for <x@localhost>; "
        )
        assert [name for name, _ in mail["headers"]] == [key.lower() for key in parsed]
        assert "authentication" not in mail


def test_never_before_the_consumer() -> None:
    """While its consumer has a mail, however long, its client hears nothing."""
    with site() as served:
        served.decide = lambda _: None
        client = served.client()
        client.begin()
        client.say(MAIL + b".\r\n")
        assert client.hear(5) == ""
        served.heard[-1].settle(OK)
        assert client.hear().startswith("250")


@pytest.mark.parametrize(
    ("outcome", "answer", "closes"),
    [
        (Outcome(REJECTED), "550 5.7.1 It is refused", False),
        (
            Outcome(REJECTED, 552, "5.2.2 the mailbox is full"),
            "552 5.2.2 the mailbox is full",
            False,
        ),
        (Outcome(REJECTED, 450, "später"), "450 4.2.0 sp?ter", False),
        (Outcome(REJECTED, 421, "go"), "421 4.3.2 go", True),
        (Outcome(REJECTED, 200, "no"), "550 5.7.1 no", False),
        (Outcome(REJECTED, 403), "403 4.0.0 It is refused", False),
        (
            Outcome(REJECTED, 554, "a\r\n250 OK\nb"),
            "554-5.7.1 a\n554-5.7.1 250 OK\n554 5.7.1 b",
            False,
        ),
        (Outcome(FAILED), "451 4.3.0 It could not be handled now; try again later", False),
        (Outcome(RELEASED), "421 4.3.2 Nobody is there to take it now; try again later", True),
        (Outcome(UNROUTED), "550 5.1.1 There is nobody who takes it", False),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_refusals(outcome: Outcome, answer: str, closes: bool) -> None:
    """Every outcome has its code; an application's words cannot forge another answer."""
    with site(layer={"expiry": 600.0}) as served:
        served.decide = lambda _: outcome
        client = served.client()
        client.begin()
        client.say(MAIL + b".\r\n")
        heard = client.hear(60) if outcome.kind == RELEASED else client.hear()
        assert heard == answer
        served.rig.run(3)
        assert client.ended is closes
        assert served.dropped().get("foreign_code", 0) == (outcome.code == 200)


def test_too_late() -> None:
    """Without an outcome in time it is 451, the connection ends, and what comes later says nothing."""
    with site(outcome_timeout=4) as served:
        served.decide = lambda _: None
        client = served.client()
        client.begin()
        client.say(MAIL + b".\r\n")
        assert client.hear(5) == "451 4.4.5 It took too long; try again later"
        served.heard[-1].settle(OK, {"text": "thanks"})
        assert client.hear(3) == ""
        assert client.ended
        assert served.box.sent == []


def test_nobody_routes_mail() -> None:
    """Mail that no worker routes is refused at the recipient already; without a worker it waits."""
    with site(("authenticate",)) as served:
        client = served.client()
        answer = client.ask("MAIL FROM:<a@b.example>", "RCPT TO:<x@localhost>")
        assert answer == "550 5.1.1 There is no such mailbox"


def test_no_worker() -> None:
    """Without any worker a recipient is put off, and the connection ends."""
    with site(None) as served:  # type: ignore[arg-type]
        client = served.client()
        client.say("MAIL FROM:<a@b.example>\r\nRCPT TO:<x@localhost>")
        answer = client.hear(60)
        assert answer.startswith("250 2.1.0 OK\n421 4.3.2 Nobody is there")


def test_full() -> None:
    """Where the channel has no room a mail is put off: 452."""
    with site(layer={"capacities": {"email.receive": 1}}) as served:
        client = served.client()
        client.begin()
        served.rig.worker.send("email.receive", {"text": "in the way"})
        client.say(MAIL + b".\r\n")
        served.rig.run(6)
        assert client.line.take().startswith(b"452 4.3.1 ")


def test_layer_lost() -> None:
    """A mail whose fate is unknown, since the layer is away, is 451; the next one is not begun."""
    with site() as served:
        served.decide = lambda _: None
        client = served.client()
        client.begin()
        client.say(MAIL + b".\r\n")
        client.hear()
        served.rig.fail()
        served.rig.run(1)
        assert client.line.take().startswith(b"451 4.3.")
        assert served.rig.wait(lambda: client.ended)
        late = served.client()
        answer = late.ask("MAIL FROM:<a@b.example>", "RCPT TO:<x@localhost>")
        assert answer == "451 4.3.2 The application cannot be reached; try again later"
        served.rig.restore()
        served.rig.run(1)
        again = served.client()
        served.decide = lambda _: OK
        assert again.mail().startswith("250")


def test_draining() -> None:
    """At a shutdown who has a mail in hand hears what became of it; others are told at once."""
    with site() as served:
        served.decide = lambda _: None
        idle, busy = served.client(), served.client()
        busy.begin()
        busy.say(MAIL + b".\r\n")
        busy.hear()
        over = served.rig.drain()
        served.rig.run(0.2)
        assert idle.line.take().startswith(b"421 4.3.2 The server is shutting down")
        assert busy.line.take() == b""
        served.heard[-1].settle(OK)
        served.rig.run(0.2)
        assert busy.line.take().startswith(b"250 2.0.0 OK")
        served.rig.wait(lambda: busy.ended)
        served.rig.wait(over)
        assert over()


def test_client_leaves() -> None:
    """Who sends a mail and closes its half hears the answer; who vanishes costs nothing."""
    with site() as served:
        client = served.client()
        client.begin()
        client.say(MAIL + b".\r\n")
        client.line.leave()
        assert client.hear().startswith("250")
        gone = served.client()
        served.decide = lambda _: None
        gone.begin()
        gone.say(MAIL + b".\r\n")
        gone.hear()
        gone.line.cut()
        served.heard[-1].settle(OK, {"text": "thanks"})
        served.rig.run(3)
        assert served.box.sent == []
        assert "deadlines" not in served.rig.left_over() or len(served.server.threads) == 1
