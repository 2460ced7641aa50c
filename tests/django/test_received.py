"""A mail as its consumer reads it: Python's email, text, attachments, its thread; never an error."""

import email
from email.message import EmailMessage

import pytest
from django.core.files.base import ContentFile
from django.test import override_settings

from django_gateway import ConsumeLater, Message, idempotent, route
from django_gateway.exceptions import RequestAborted
from django_gateway.received import Received
from django_gateway.sessions import channel_session_of
from tests.django.connected import make_tables
from tests.django.peer import nothing_left

PDF = bytes(range(256)) * 2000


def mail_of(subject="Hi", **headers):
    mail = EmailMessage()
    mail["Subject"] = subject
    for name, value in headers.items():
        mail[name.replace("_", "-")] = value
    mail.set_content("Grüße\nan alle\n")
    mail.add_alternative("<p>Grüße</p>", subtype="html")
    mail.add_attachment(PDF, maintype="application", subtype="pdf", filename="../bill.pdf")
    mail.add_attachment("note", filename="note.txt")
    return mail


def content_of(raw, **more):
    """What the gateway makes of a mail."""
    raw = raw if isinstance(raw, bytes) else raw.as_bytes()
    return {
        "mail_from": "ann@x.org",
        "rcpt_to": ["support@x.org"],
        "headers": [
            [str(name), str(value)] for name, value in email.message_from_bytes(raw).items()
        ],
        "message_id": None,
        "raw": raw,
        "size": len(raw),
        **more,
    }


def received(raw, **more):
    return Message(content_of(raw, **more), "email.receive")


def test_email():
    """The mail is Python's, with all that it can; made once."""
    message = received(mail_of("Grüße", To="Bob <bob@x.org>"))
    assert message.email["subject"] == "Grüße"
    assert message.email["to"].addresses[0].addr_spec == "bob@x.org"
    assert message.email.get_body(("html",)).get_content() == "<p>Grüße</p>\n"
    assert [one.get_filename() for one in message.email.iter_attachments()] == [
        "../bill.pdf",
        "note.txt",
    ]
    assert message.email is message.email
    message.mail.close()


BROKEN = {
    "From": [b"From: =?utf-8?q?=", b"From: \xff\xfe <", b'From: "a@b', b"From: <<>>@,,;:", b"From: @"],
    "Date": [b"Date: yesterday", b"Date: Mon, 99 Foo 99999 99:99:99 +9999", b"Date: \xff"],
    "To": [b"To: a:b:c;;", b"To: " + b"(" * 300, b"To: =?x?q?y?=@z", b"To: a@[", b"To: .@."],
    "Content-Type": [b"Content-Type: ;;;", b"Content-Type: text/\xff; charset*=x''%", b"Content-Type: a"],
    "Content-Disposition": [b"Content-Disposition: x; filename*0*=%%; filename*2=z", b"Content-Disposition: ;"],
    "Message-ID": [b"Message-ID: <[", b"Message-ID: <a@@b>", b"Message-ID: \xff"],
    "Content-Transfer-Encoding": [b"Content-Transfer-Encoding: \xff", b"Content-Transfer-Encoding: a b"],
    "MIME-Version": [b"MIME-Version: one", b"MIME-Version: \xff."],
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_never_raises(name):
    """Whatever stands in the headers, they can be read, and so can the rest."""
    for header in BROKEN[name]:
        message = received(header + b"\nSubject: =?nowhere?b?x?=\n\n\xffabc\n")
        found = message.email
        str(found[name])
        getattr(found[name], "addresses", ())
        assert found["subject"] is not None
        assert found.get_filename("") is not None
        assert "abc" in str(message.text or found.get_payload())
        list(found.iter_attachments())
        assert isinstance(message.attachments, list)
        message.mail.close()


@pytest.mark.parametrize("kind", ["multipart/mixed", "foo/bar", "mess*age/x"])
def test_a_type_that_is_none(kind):
    """What a part holds can be had, whatever its type is called; of one that has parts that is an error."""
    message = received(f"Content-Type: {kind}\n\nabc\n".encode())
    assert bytes(message.email.get_content()) == b"abc\n"
    message.mail.close()
    message = received(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\nabc\n--b--\n")
    with pytest.raises(KeyError):
        message.email.get_content()
    message.mail.close()


@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        ("utf-8", "é".encode(), "é"),
        ("x-nowhere", "é".encode(), "é"),
        ("x-nowhere", b"\xe9\x80", "é€"),
        ("us-ascii", b"\xe9", "é"),
        ("idna", b"\xc3\xa9", "é"),
        ("base64", b"QQ==", "QQ=="),
        ("iso-8859-15", b"\xa4", "€"),
    ],
)
def test_charsets(charset, raw, text):
    """A text is read in its charset, else in the one that it looks like."""
    message = received(b"Content-Type: text/plain; charset=%s\n\n%s\r\n" % (charset.encode(), raw))
    assert message.text == text + "\n"
    assert message.email.get_content().strip()
    message.mail.close()


def test_text():
    """The text is what the gateway found, else the first that is not attached; or there is none."""
    assert received(mail_of(), text="short").text == "short"
    assert received(mail_of()).text == "Grüße\nan alle\n"
    html = EmailMessage()
    html.set_content("<p>", subtype="html")
    html.add_attachment("note", filename="note.txt")
    assert received(html).text is None
    assert Message({"raw": "x"}, "irc.receive").text is None


def test_attachments():
    """Attachments are files of Django's, whose names have no path; each read by itself."""
    message = received(mail_of())
    bill, note = message.attachments
    assert (bill.name, bill.content_type, bill.size) == ("bill.pdf", "application/pdf", len(PDF))
    assert (note.name, note.charset, note.inline, note.content_id) == (
        "note.txt",
        "utf-8",
        False,
        "",
    )
    assert bill.read(3) == PDF[:3]
    assert note.open().read() == b"note\n"
    assert bill.read(3) == PDF[3:6]
    assert b"".join(bill.chunks()) == PDF
    with bill.open() as file:
        assert file.read() == PDF
    assert ContentFile(note.open().read()).size == 5
    assert message.mail.open().read() == message["raw"]
    message.mail.close()
    assert note.closed


def test_inline():
    """What the HTML of a mail shows is attached, and says what it is called there."""
    mail = EmailMessage()
    mail.set_content('<img src="cid:logo@x">', subtype="html")
    mail.add_related(b"png", "image", "png", cid="<logo@x>")
    message = received(mail)
    [logo] = message.attachments
    assert (logo.name, logo.inline, logo.content_id) == ("attachment-1.png", True, "logo@x")
    message.mail.close()


def test_attachments_in_a_model_field(tmp_path):
    """A FileField takes an attachment as it is."""
    from django.core.files.storage import FileSystemStorage

    message = received(mail_of())
    storage = FileSystemStorage(tmp_path)
    name = storage.save(message.attachments[0].name, message.attachments[0])
    assert (tmp_path / name).read_bytes() == PDF
    message.mail.close()


@pytest.mark.parametrize(
    ("headers", "thread"),
    [
        ({}, "own@x"),
        ({"In_Reply_To": "<a@x>"}, "a@x"),
        ({"In_Reply_To": "Your mail of Monday <a@x>"}, "a@x"),
        ({"References": "<root@x>\n <a@x>", "In_Reply_To": "<a@x>"}, "root@x"),
        ({"References": "nothing", "In_Reply_To": "<a@x>"}, "a@x"),
        ({"References": "nothing", "In_Reply_To": "at all"}, "own@x"),
    ],
)
def test_thread(headers, thread):
    """All mails of a conversation have in common how it began."""
    written = [[name.replace("_", "-"), value] for name, value in headers.items()]
    assert received(b"\nx", headers=written, message_id="<own@x>").thread == thread


def test_thread_of_nothing():
    """A mail that nothing is known of begins no conversation that another could join."""
    assert received(b"\nx").thread == ""


def test_no_mail():
    """What is asked of a message that is no mail says so."""
    message = Message({"text": "x"}, "websocket.receive")
    for name in ("email", "attachments", "thread", "mail"):
        with pytest.raises(LookupError, match="is no mail"):
            getattr(message, name)


# ---------------------------------------------------------------- through a worker


def pieces(raw, size=65536):
    return [
        {"offset": at, "content": raw[at : at + size], "more_content": at + size < len(raw)}
        for at in range(0, len(raw), size)
    ]


def large(peer, raw, channel="email.receive.raw?1", *, send=None):
    """Post a mail whose content comes in pieces; send those."""
    content = content_of(raw, reply_channel=peer.new_reply_channel("email.send"), order=0)
    content.pop("raw")
    peer.post("email.receive", {**content, "raw_channel": channel})
    for piece in send if send is not None else pieces(raw):
        peer.layer.send(channel, piece)


@pytest.fixture
def kept():
    """The mails that consumers had, and what they found."""
    return []


def test_large(peer, work, kept):
    """A large mail is read by its consumer's thread as it comes; its files are closed at the end."""
    raw = mail_of().as_bytes()

    def consumer(message):
        kept.append(message)
        kept.append((message.text, message.attachments[0].read(), message.email["subject"]))
        message.reply("done")

    work([route("email.receive", consumer)])
    large(peer, raw)
    assert peer.hear()[1] == {"text": "done"}
    assert peer.hear()[1].kind == "accepted"
    message, found = kept
    assert found == ("Grüße\nan alle\n", PDF, "Hi")
    assert message.mail._raw.closed
    assert message.attachments[0].closed
    assert nothing_left(peer)


def test_large_for_async(peer, work, kept):
    """On the loop it is awaited; what asks for it before is told how."""
    raw = mail_of().as_bytes()

    async def consumer(message):
        for ask in (lambda: message.email, lambda: message.attachments, lambda: message.text):
            with pytest.raises(RuntimeError, match=r"await message\.mail\.acollect"):
                ask()
        attachments = await message.aattachments()
        kept.append(attachments[0].read())
        kept.append((await message.aemail())["subject"])
        kept.append(message.text)

    work([route("email.receive", consumer)])
    large(peer, raw)
    assert peer.hear()[1].kind == "accepted"
    assert kept == [PDF, "Hi", "Grüße\nan alle\n"]
    assert nothing_left(peer)


@pytest.mark.parametrize("end", [{"closed": True}, {"offset": 7, "content": b"x"}])
def test_cut_off(peer, work, kept, end):
    """A sender that left fails its mail, however much its consumer had read; nothing is left."""
    raw = mail_of().as_bytes()

    def consumer(message):
        with pytest.raises(RequestAborted) as caught:
            kept.append(message.text)
        kept.append("aborted")
        raise caught.value

    work([route("email.receive", consumer)])
    large(peer, raw, send=[*pieces(raw)[:2], end])
    outcome = peer.hear()[1]
    assert (outcome.kind, outcome.cause) == ("failed", "RequestAborted")
    assert kept == ["aborted"]
    assert nothing_left(peer)


def test_later_after_reading(peer, work, kept):
    """What was read from its sender cannot be offered again: it fails, and the sender tries."""

    def consumer(message):
        kept.append(message.text)
        raise ConsumeLater

    work([route("email.receive", consumer)])
    large(peer, mail_of().as_bytes())
    outcome = peer.hear()[1]
    assert (outcome.kind, outcome.cause) == ("failed", "spent")
    assert len(kept) == 1


def test_small_later(peer, work, kept):
    """A small one is offered again, as any message."""

    def consumer(message):
        kept.append(message.text)
        if message.attempt == 1:
            raise ConsumeLater(0)

    work([route("email.receive", consumer)])
    content = content_of(mail_of(), reply_channel=peer.new_reply_channel("email.send"), order=0)
    assert peer.outcome("email.receive", content).kind == "accepted"
    assert kept == ["Grüße\nan alle\n"] * 2


def test_files_of_a_failed_consumer(peer, work, kept):
    """Files are closed whatever became of the consumer."""

    def consumer(message):
        kept.append(message.attachments[0])
        raise RuntimeError("no")

    work([route("email.receive", consumer)])
    content = content_of(mail_of(), reply_channel=peer.new_reply_channel("email.send"), order=0)
    assert peer.outcome("email.receive", content).kind == "failed"
    assert kept[0].closed


def test_forgotten():
    """A mail that no worker runs lets go of its files when nobody knows it any more."""
    mail = Received(received(mail_of()))
    file = mail.attachments[0]
    del mail
    assert file.closed


def test_session_of_a_thread():
    """A conversation by mail has a session, whatever transaction a mail came by."""
    make_tables()
    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.db"):

        def session(name, thread, **more):
            message = received(b"\nx", message_id=thread, reply_channel=name, **more)
            return channel_session_of(message)

        first = session("email.send.p_x!1", "<a@x>")
        first["step"] = 1
        first.finish()
        again = [["References", "<a@x> <b@x>"]]
        assert session("email.send.p_x!2", "<c@x>", headers=again)["step"] == 1
        assert "step" not in session("email.send.p_x!1", "<d@x>")
        assert "step" not in session("email.send.p_x!1", None)


def test_idempotent():
    """A mail that comes twice, since its sender did not hear the answer, is handled once."""
    from django.core.cache import caches

    caches["default"].clear()
    runs = []

    @idempotent
    def consumer(message):
        runs.append(message["message_id"])

    for known in ("<a@x>", "<a@x>", "<b@x>", None, None):
        consumer(received(b"\nx", message_id=known))
    assert runs == ["<a@x>", "<b@x>", None, None]
    # by LMTP each recipient has a message; and anybody may write another's Message-ID
    consumer(received(b"\nx", message_id="<a@x>", rcpt_to=["sales@x.org"]))
    consumer(received(b"\nx", message_id="<a@x>", mail_from="eve@x.org"))
    consumer(received(b"\nx", message_id="<a@x>", mail_from="eve@x.org"))
    assert runs[4:] == ["<a@x>"] * 2


def test_user_of_a_mail():
    """Who sent a mail is told by the mail's own: what SMTP AUTH or a certificate said."""
    from django_gateway.credentials import brings_credentials, credentials_of

    content = content_of(b"Cookie: sessionid=x\nAuthorization: Bearer y\n\nx", identity="ann")
    assert brings_credentials("email.receive")
    assert not brings_credentials("websocket.receive")
    found = credentials_of("email.receive", content, None, "")
    assert (found.identity, found.bearer, found.protocol) == ("ann", None, "email")
