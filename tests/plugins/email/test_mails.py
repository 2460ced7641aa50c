"""Mails of every shape: large and small, broken and smuggling, by SMTP and by LMTP."""

from __future__ import annotations

from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.layers.base import FAILED, OK, REJECTED, Outcome
from gateway.plugins.email.headers import read
from gateway.plugins.email.text import plain_text
from tests.plugins.email.mx import MAIL, Client, Site, site
from tests.plugins.email.test_lines import EVIL, SMUGGLED


@pytest.mark.parametrize("end", SMUGGLED, ids=repr)
def test_smuggling(end: bytes) -> None:
    """A mail that another server would take for two is refused whole, and nothing after it is heard."""
    with site() as served:
        client = served.client()
        client.begin()
        client.say(b"Subject: x\r\n\r\nhello" + end + EVIL)
        assert client.hear().startswith("550 5.6.0 ")
        client.say(b"NOOP\r\n")
        served.rig.run(3)
        assert client.hear() == ""
        assert client.ended
        assert served.heard == []


@pytest.mark.parametrize(
    ("mail", "answer", "settings"),
    [
        (b"x" * 999 + b"\r\n", "554 5.6.0 A line in it is too long", {}),
        (b"Subject: " + b"x" * 990 + b"\r\n\r\n", "554 5.6.0 A line in it is too long", {}),
        (b"x" * 1200 + b"\r\n", "250", {"max_line": 2000}),
        (b"a: b\r\n\r\n" + (b"y" * 998 + b"\r\n") * 66, "552 5.3.4 It is too large", {"max_size": 65536}),
        (b"A: b\r\n" * 101 + b"\r\n", "552 5.3.4 Its header is too large", {"max_header_fields": 100}),
        (b"A: b\r\n" * 700 + b"\r\n", "552 5.3.4 Its header is too large", {"max_header_bytes": 4096}),
        (b"no header\r\n" * 700, "250", {"max_header_bytes": 4096}),
        (b"Received: x\r\n" * 11 + b"\r\n", "554 5.4.6 It goes in a circle: too many Received fields", {"max_hops": 10}),
        (b"Received: x\r\n" * 10 + b"\r\n", "250", {"max_hops": 10}),
        (b"", "250", {}),
    ],
)  # fmt: skip
def test_bounds(mail: bytes, answer: str, settings: dict[str, Any]) -> None:
    """Each bound of a mail has its answer, and the connection goes on with the next mail."""
    with site(**settings) as served:
        client = served.client()
        assert client.mail(mail)[: len(answer)] == answer
        assert client.mail().startswith("250")
        assert served.counted("mails_refused_total") == (answer != "250")


# ------------------------------------------------ large mail


def large(size: int) -> bytes:
    return MAIL + (b"0123456789" * 8 + b"\r\n") * (size // 82 + 1)


def pieces(served: Site, channel: str, most: int = 1 << 30) -> bytes:
    """Read the pieces of a mail as a consumer does."""
    found = b""
    while len(found) < most:
        served.rig.run()
        _, message = served.rig.worker.receive([channel])
        if message is None:
            break
        assert message.get("closed") is None, "it was cut off"
        assert message["offset"] == len(found)
        found += message["content"]
        if not message["more_content"]:
            break
    return found


def test_a_large_mail() -> None:
    """What is over inline_bytes waits in a file and comes in pieces, four at most on their way."""
    mail = large(900_000)
    with site(inline_bytes=100_000) as served:
        served.decide = lambda _: None
        client = served.client()
        client.begin()
        client.say(mail + b".\r\n")
        client.hear()
        [message] = served.mails
        assert "raw" not in message
        assert "text" not in message
        assert message["subject"] == "hi"
        assert served.counted("spilled_bytes") == len(mail)
        channel = message["raw_channel"]
        assert served.rig.worker.channel_statistics(channel).pending == 4
        raw = pieces(served, channel)
        assert len(raw) == message["size"]
        assert raw.endswith(mail)
        served.heard[-1].settle(OK)
        assert client.hear().startswith("250")
        assert served.counted("spilled_bytes") == 0


def test_a_large_mail_that_is_not_read() -> None:
    """A consumer that has seen enough returns, and the mail is accepted; the rest is not sent."""
    with site(inline_bytes=100_000) as served:
        client = served.client()
        assert client.mail(large(900_000)).startswith("250")
        assert client.mail().startswith("250")


@pytest.mark.parametrize("how", ["cut", "timeout"])
def test_cut_off(how: str) -> None:
    """Who reads a mail hears where the rest will not come: its client left, or the time is over."""
    with site(inline_bytes=100_000, outcome_timeout=3) as served:
        served.decide = lambda _: None
        client = served.client()
        client.begin()
        client.say(large(900_000) + b".\r\n")
        client.hear()
        channel = served.mails[0]["raw_channel"]
        pieces(served, channel, 100_000)
        if how == "cut":
            client.line.cut()
        served.rig.run(4)
        last: dict[str, Any] = {}
        while (message := served.rig.worker.receive([channel])[1]) is not None:
            last = message
        assert last == {"closed": True}
        assert served.counted("spilled_bytes") == 0


def test_no_room() -> None:
    """Beyond max_spilled mail is put off, and the room is there again afterwards."""
    with site(inline_bytes=10_000, max_spilled=200_000) as served:
        served.decide = lambda _: None
        first, second = served.client(), served.client()
        first.begin()
        first.say(large(150_000) + b".\r\n")
        first.hear()
        assert second.mail(large(100_000)).startswith("452 4.3.1 There is no room")
        served.heard[-1].settle(OK)
        assert first.hear().startswith("250")
        served.decide = lambda _: OK
        assert second.mail(large(100_000)).startswith("250")
        assert served.counted("spilled_bytes") == 0


def test_no_directory(tmp_path: Path) -> None:
    """Where the temporary file cannot be made, a large mail is put off, and small ones are taken."""
    with site(inline_bytes=10_000, spill_directory=str(tmp_path / "gone")) as served:
        client = served.client()
        assert client.mail(large(100_000)).startswith("452 4.3.1 ")
        assert client.mail().startswith("250")


# ------------------------------------------------ LMTP


def lmtp(served: Site) -> Client:
    return served.client("LHLO mta.example")


LMTP: dict[str, Any] = {"listen": (), "lmtp": "2424"}


def test_lmtp() -> None:
    """In LMTP each recipient has its own message, its own outcome, and its own answer, in order."""
    with site(**LMTP) as served:
        outcomes = iter([OK, Outcome(REJECTED, 552, "5.2.2 full"), Outcome(FAILED)])
        served.decide = lambda _: next(outcomes)
        client = lmtp(served)
        assert client.greeting == "220 mx.example LMTP"
        answers = client.mail(MAIL, "a@localhost", "b@localhost", "c@localhost").split("\n")
        assert [line[:9] for line in answers] == ["250 2.0.0", "552 5.2.2", "451 4.3.0"]
        assert [mail["rcpt_to"] for mail in served.mails] == [
            ["a@localhost"],
            ["b@localhost"],
            ["c@localhost"],
        ]
        assert [mail["order"] for mail in served.mails] == [0, 0, 0]
        assert len({mail["reply_channel"] for mail in served.mails}) == 3
        assert [message_from_bytes(mail["raw"])["delivered-to"] for mail in served.mails] == [
            "a@localhost", "b@localhost", "c@localhost",
        ]  # fmt: skip
        assert {mail["protocol"] for mail in served.mails} == {"LMTP"}
        assert client.ask("EHLO x").startswith("500")
        assert client.ask("HELO x").startswith("500")


def test_lmtp_waits_for_all() -> None:
    """The answers come when all are known, whatever the order of the outcomes; the same recipient twice has two."""
    with site(**LMTP) as served:
        served.decide = lambda _: None
        client = lmtp(served)
        client.begin("a@localhost", "a@localhost")
        client.say(MAIL + b".\r\n")
        assert client.hear() == ""
        first, second = served.heard
        second.settle(OK)
        assert client.hear() == ""
        first.settle(Outcome(REJECTED))
        assert [line[:3] for line in client.hear().split("\n")] == ["550", "250"]


def test_lmtp_refused() -> None:
    """A mail that is refused for what it is has the same answer for each recipient."""
    with site(**LMTP) as served:
        answers = lmtp(served).mail(b"x" * 2000 + b"\r\n", "a@localhost", "b@localhost")
        assert answers == "\n".join(["554 5.6.0 A line in it is too long"] * 2)


def test_lmtp_large() -> None:
    """A large mail for several is read by each of their consumers at its own pace."""
    mail = large(400_000)
    with site(inline_bytes=100_000, **LMTP) as served:
        served.decide = lambda _: None
        client = lmtp(served)
        client.begin("a@localhost", "b@localhost")
        client.say(mail + b".\r\n")
        client.hear()
        one, two = served.mails
        assert len(pieces(served, two["raw_channel"])) == two["size"]
        served.heard[1].settle(OK)
        assert len(pieces(served, one["raw_channel"])) == one["size"]
        served.heard[0].settle(OK)
        assert [line[:3] for line in client.hear().split("\n")] == ["250", "250"]


def test_lmtp_replies() -> None:
    """Each of two mailboxes may answer a mail to both, each from its own address."""
    with site(trusted=("127.0.0.1",), **LMTP) as served:
        served.replies = lambda heard: ({"text": heard.message["rcpt_to"][0]},)
        lmtp(served).mail(MAIL, "a@localhost", "b@localhost")
        assert sorted(sent["from"] for _, sent in served.box.sent) == ["a@localhost", "b@localhost"]


# ------------------------------------------------ odd mail


def nested(depth: int) -> bytes:
    head = b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n"
    found = b"MIME-Version: 1.0\r\n" + b"".join(head % (n, n) for n in range(depth))
    return found + b"Content-Type: text/plain\r\n\r\ndeep\r\n"


def attachment() -> bytes:
    mail = EmailMessage()
    mail["Subject"] = "Grüße, " + "ä" * 200
    mail["From"] = Address("Jörg Ü", "jorg", "example.org")
    mail.set_content("Füße\n")
    mail.add_alternative("<p>Füße</p>", subtype="html")
    mail.add_attachment(b"\x00\xff" * 100, maintype="image", subtype="png", filename="ü.png")
    return mail.as_bytes().replace(b"\n", b"\r\n")


ODD: dict[str, tuple[bytes, str | None]] = {
    "attachments": (attachment(), "Füße\n"),
    "8-bit": ("Subject: Grüße\r\n\r\nFüße\r\n".encode(), "Füße\n"),
    "latin-1": (b"Subject: Gr\xfc\xdfe\r\n\r\nF\xfc\xdfe\r\n", "Füße\n"),
    "no header": (b"just words: and more\r\n\r\nx\r\n", "just words: and more\n\nx\n"),
    "no body": (b"Subject: x\r\n", ""),
    "nothing": (b"", ""),
    "mbox": (b"From ann Thu Nov 26 2026\r\nSubject: x\r\n\r\n>From me\r\n", ">From me\n"),
    "html": (b"Content-Type: text/html\r\n\r\n<p>x\r\n", None),
    "quoted": (b"Content-Transfer-Encoding: quoted-printable\r\n\r\na=3D=\r\nb=XX\r\n", "a=b=XX\n"),
    "base64": (b"Content-Transfer-Encoding: base64\r\n\r\naGFsbG8\r\n", "hal"),
    "no base64": (b"Content-Transfer-Encoding: base64\r\n\r\n\xff!!\r\n", ""),
    "charset": (b'Content-Type: text/plain; charset="x-none"\r\n\r\n\xc3\xa4\r\n', "ä\n"),
    "utf-7": (b"Content-Type: text/plain; charset=utf-7\r\n\r\n+2AA-\r\n", "?\n"),
    "type": (b"Content-Type: nonsense\r\n\r\nx\r\n", "x\n"),
    "no boundary": (b"Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\nx\r\n", None),
    "boundary never": (b"Content-Type: multipart/mixed; boundary=x\r\n\r\nx\r\n", None),
    "not closed": (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nhello\r\n", "hello\n"),
    "longer boundary": (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--xy\r\n\r\na\r\n--x \r\n\r\nb\r\n--x--\r\n", "b"),
    "attached text": (b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nx\r\n", None),
    "deep": (nested(4), "deep\n"),
    "too deep": (nested(40), None),
    "many parts": (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\nContent-Type: a/b\r\n\r\n\r\n" * 3000, None),
    "type in colours": (b'Content-Type: TEXT/Plain;\r\n\tcharset="iso-8859-1"\r\n\r\n\xe4\r\n', "ä\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_mail(name: str) -> None:
    """Whatever shape a mail has it is heard, with the best text in it, as it is."""
    content, text = ODD[name]
    with site() as served:
        stuffed = content if not content.startswith(b".") else b"." + content
        assert served.client().mail(stuffed).startswith("250")
        [mail] = served.mails
        assert mail["raw"].endswith(content)
        assert mail.get("text") == text


_PIECES = st.sampled_from(
    [b"\r\n", b"--x", b"--", b"Content-Type: multipart/mixed; boundary=x", b"Content-Type: text/plain",
     b"Content-Transfer-Encoding: base64", b"\r\n\r\n", b"a", b"=", b"\xff", b"; charset=utf-16", b" "]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(_PIECES, max_size=30).map(b"".join))
def test_any_mail(content: bytes) -> None:
    """The search for a text never fails, and what it finds fits a message."""
    found = plain_text(content, read(content))
    msgspec.msgpack.encode(found)
    assert found is None or "\r\n" not in found
