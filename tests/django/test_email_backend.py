"""Django's mail by the gateway: sent once it is in the spool, or an error that says what to do."""

import asyncio
import email
import secrets
import threading
from smtplib import SMTPException

import pytest
from django.core.mail import EmailMultiAlternatives, get_connection, send_mail, send_mass_mail
from django.test import override_settings

import gateway
from django_gateway import asgi, mail
from django_gateway.mail import EmailBackend, NotSpooledError, envelope_address

BACKEND = "django_gateway.mail.EmailBackend"
OK = {"outcome": "accepted", "code": None, "reason": "", "reply_channel": "email.send"}


@pytest.fixture(autouse=True)
def _backend(url):
    layer = gateway.open_layer(url)
    asgi.channel_layers.use(layer)
    with override_settings(EMAIL_BACKEND=BACKEND, EMAIL_TIMEOUT=5):
        yield
    asgi.channel_layers.use(None)
    layer.close()


class Spool:
    """What a gateway does with ``email.send``: it reads a mail, and answers."""

    def __init__(self, layer, answers=()):
        self.layer = layer
        self.answers = list(answers)
        self.mails = []
        self.read = True
        """Whether it reads what comes in pieces."""
        self._thread = threading.Thread(target=self._run)
        self._stopped = False
        self._thread.start()

    def _run(self):
        while not self._stopped:
            _, message = self.layer.receive(["email.send"], block=0.02)
            if message is not None:
                self._take(message)

    def _take(self, message):
        raw = message.get("raw")
        if raw is None and self.read:
            raw, more = b"", True
            while more:
                _, piece = self.layer.receive([message["raw_channel"]], block=5)
                assert piece["offset"] == len(raw)
                raw += piece["content"]
                more = piece["more_content"]
                self.answer(piece, OK)
        self.mails.append((message, raw))
        self.answer(message, self.answers.pop(0) if self.answers else OK)

    def answer(self, message, said):
        self.layer.send(message["ack_channel"], {"ack": message["ack"], **said})

    def stop(self):
        self._stopped = True
        self._thread.join()


@pytest.fixture
def spool(url):
    """A gateway's spool: ``spool(answer, …)``."""
    layer = gateway.open_layer(url)
    started = []

    def start(*answers):
        started.append(Spool(layer, answers))
        return started[-1]

    yield start
    for one in started:
        one.stop()
    layer.close()


def test_send_mail(spool):
    """A mail is sent once the spool has it, as Django composes it, with its envelope."""
    there = spool()
    mail = EmailMultiAlternatives(
        "Grüße", "Text é", "Shop <shop@bücher.example>", ["Ann <ann@x.org>"], bcc=["b@x.org"],
        headers={"X-Own": "1", "Message-ID": "<own@x>"}, cc=["c@x.org"], reply_to=["r@x.org"],
    )  # fmt: skip
    mail.attach_alternative("<p>é</p>", "text/html")
    mail.attach("bill.pdf", b"\0\xff", "application/pdf")
    assert mail.send() == 1
    [(message, raw)] = there.mails
    assert (message["mail_from"], message["subject"]) == ("shop@xn--bcher-kva.example", "Grüße")
    assert message["rcpt_to"] == ["ann@x.org", "c@x.org", "b@x.org"]
    found = email.message_from_bytes(raw, policy=email.policy.default)
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert (found["Subject"], found["X-Own"], found["Message-ID"]) == ("Grüße", "1", "<own@x>")
    assert (found["Cc"], found["Bcc"], found["Reply-To"]) == ("c@x.org", None, "r@x.org")
    assert found.get_body(("html",)).get_content().strip() == "<p>é</p>"
    [bill] = found.iter_attachments()
    assert (bill.get_filename(), bill.get_content()) == ("bill.pdf", b"\0\xff")


def test_many(spool):
    """Many mails are under way at once, and counted; those to nobody are not sent."""
    there = spool()
    mails = [("s", f"{n}", "a@x.org", [f"u{n}@x.org"] if n % 10 else []) for n in range(50)]
    assert send_mass_mail(mails) == 45
    assert [one["rcpt_to"] for one, _ in there.mails] == [
        [f"u{n}@x.org"] for n in range(50) if n % 10
    ]
    assert get_connection().send_messages([]) == 0


def test_large():
    """A mail of megabytes goes in pieces, no faster than the spool writes them."""
    layer = gateway.open_layer(f"memory://{secrets.token_hex(4)}", capacity=mail.PIECES)
    asgi.channel_layers.use(layer)
    there = Spool(layer)
    try:
        sent = EmailMultiAlternatives("s", "t", "a@x.org", ["b@x.org"])
        sent.attach("f", bytes(range(256)) * 8000, "application/pdf")
        assert sent.send() == 1
        [(message, raw)] = there.mails
        assert "raw" not in message
        [found] = email.message_from_bytes(raw, policy=email.policy.default).iter_attachments()
        assert found.get_content() == bytes(range(256)) * 8000
    finally:
        there.stop()
        layer.close()


REFUSED = {"outcome": "rejected", "code": 552, "reason": "the spool is full"}


def test_refused(spool):
    """What the gateway does not take is an error of smtplib's kind, with the gateway's words."""
    there = spool(OK, REFUSED, OK)
    mails = [("s", "t", "a@x.org", [f"{n}@x.org"]) for n in range(3)]
    with pytest.raises(SMTPException, match="552 the spool is full") as caught:
        send_mass_mail(mails)
    assert (caught.value.code, caught.value.spooled) == (552, 2)
    assert len(there.mails) == 3
    assert isinstance(caught.value, NotSpooledError)


def test_refused_before_its_end(spool, monkeypatch):
    """A large mail that is refused is not sent to its end: nobody reads it."""
    there = spool(REFUSED)
    there.read = False
    monkeypatch.setattr(mail, "PIECE", 1024)
    large = EmailMultiAlternatives("s", "x" * 400_000, "a@x.org", ["b@x.org"])
    with pytest.raises(NotSpooledError, match="the spool is full"):
        large.send()


def test_fail_silently(spool):
    """Asked to be silent it says by its count alone what is in the spool."""
    spool(OK, REFUSED, OK)
    mails = [("s", "t", "a@x.org", [f"{n}@x.org"]) for n in range(3)]
    assert send_mass_mail(mails, fail_silently=True) == 2


def test_an_address_that_is_none(spool):
    """What is no address is such an error, too; asked to be silent the others are sent."""
    there = spool()
    for sender, to in (("a@x.org", "nobody"), ("a b@@x", "b@x.org")):
        with pytest.raises(
            NotSpooledError, match=f"'{sender if '@@' in sender else to}' is no mail"
        ) as caught:
            send_mail("s", "t", sender, [to])
        assert (caught.value.code, caught.value.spooled) == (553, 0)
        assert send_mail("s", "t", sender, [to], fail_silently=True) == 0
    mails = [("s", "t", "a@x.org", [to]) for to in ("1@x.org", "nobody", "2@x.org")]
    assert send_mass_mail(mails, fail_silently=True) == 2
    with pytest.raises(NotSpooledError) as caught:
        send_mass_mail(mails)
    assert caught.value.spooled == 1
    assert [one["rcpt_to"] for one, _ in there.mails] == [["1@x.org"], ["2@x.org"], ["1@x.org"]]


def test_nobody_there(url):
    """Where no gateway takes it the error says which has to run; and none takes it later."""
    with override_settings(EMAIL_TIMEOUT=0.05):
        with pytest.raises(NotSpooledError, match=r"within 0.05 s: one with the plugin email"):
            send_mail("s", "t", "a@x.org", ["b@x.org"])
        assert send_mail("s", "t", "a@x.org", ["b@x.org"], fail_silently=True) == 0
    layer = gateway.open_layer(url)
    with pytest.raises(AssertionError):
        assert layer.receive(["email.send"], block=0.2) != (None, None)
    layer.close()


def test_no_layer(tmp_path):
    """Where the gateway is not there at all, the error says so."""
    layer = gateway.open_layer(f"unix://{tmp_path}/none")
    asgi.channel_layers.use(layer)
    try:
        with pytest.raises(NotSpooledError, match=r"cannot be reached.*start `gateway run`"):
            EmailBackend(timeout=0.2).send_messages(
                [EmailMultiAlternatives("s", "t", "a@x.org", ["b@x.org"])]
            )
    finally:
        layer.close()


def test_on_a_loop():
    """On a running loop it says how to send; and so it sends."""

    async def body():
        send_mail("s", "t", "a@x.org", ["b@x.org"])

    with pytest.raises(RuntimeError, match="sync_to_async"):
        asyncio.run(body())


def test_from_a_loop(spool):
    """As Django's own mail it is sent from a loop on a thread."""
    from asgiref.sync import sync_to_async

    there = spool()
    asyncio.run(sync_to_async(send_mail)("s", "t", "a@x.org", ["b@x.org"]))
    assert len(there.mails) == 1


def test_what_is_for_a_mail_server():
    """Who names a mail server is told that the gateway knows it."""
    with pytest.raises(TypeError, match=r"email\.smarthosts\.NAME"):
        send_mail("s", "t", "a@x.org", ["b@x.org"], auth_user="u", auth_password="p")


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("ann@x.org", "ann@x.org"),
        ("Ann B <ann@x.org>", "ann@x.org"),
        ('"Ann, B" <ann@bücher.example>', "ann@xn--bcher-kva.example"),
        ('"a b"@x.org', '"a b"@x.org'),
        ("jörg@x.org", "jörg@x.org"),
        ("a@[127.0.0.1]", "a@[127.0.0.1]"),
    ],
)
def test_envelope_address(written, address):
    """SMTP is told the address alone, its domain in ASCII."""
    assert envelope_address(written) == address


@pytest.mark.parametrize("written", ["", "root", "a@b, c@d", "a@b@c", "a\r\nb@x.org", "<>"])
def test_no_address(written):
    """What is no address is refused before anything is sent."""
    with pytest.raises(ValueError, match="is no mail address"):
        envelope_address(written)
