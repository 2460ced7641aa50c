"""Mail by way of a server that people use as smarthost: Exim, with TLS and a password."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest

from gateway.plugins.email.client.config import Smarthost
from gateway.testing.stage import wait_until
from tests.plugins.email.out.exim import MISSING, Exim
from tests.plugins.email.out.peer import config, serving

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING or "it is there")


@pytest.fixture(scope="module")
def exim():
    # Exim's own user may not look into pytest's directories.
    with tempfile.TemporaryDirectory() as folder, Exim(Path(folder)) as made:
        yield made


def settings(tmp_path, exim, **more):
    host = Smarthost(
        connect=f"localhost:{exim.port}", ca=exim.ca, username="us", password="secret", **more
    )
    return config(tmp_path, smarthosts={"exim": host}, sender="Shop <shop@example.net>")


def test_exim_takes_our_mail(tmp_path, exim):
    """Mails go to Exim over verified TLS with a password, text and attachments unharmed."""
    big = b"".join(b".line %d\r\n" % n for n in range(50_000))
    before = len(exim.mails())
    with serving(settings(tmp_path, exim)) as post:
        post.mail(subject="Größe", text=".\n..\nFram me\n")
        post.mail(subject="big", attachments=[("big.bin", "application/octet-stream", big)])
        post.sent(rcpt_to=["jörg@example.net"], raw="Subject: ä\r\n\r\nä\r\n.\r\n".encode())
        post.empty()
        wait_until(lambda: len(exim.mails()) == before + 3)
    found = {str(mail["subject"]): mail for mail in exim.mails()}
    [first] = [mail for mail in exim.mails() if "=?" in str(mail["subject"])]
    assert first.get_payload(decode=True).replace(b"\r\n", b"\n") == b".\n..\nFram me\n"
    assert "TLS1" in first["received"]
    assert "us" in first["received"] or "esmtpsa" in first["received"]
    attachment = found["big"].get_payload()[1]
    assert attachment.get_payload(decode=True) == big
    [last] = [
        mail
        for mail in exim.mails()
        if "jörg" in str(mail) or "j=" in str(mail) or b"\xc3\xa4" in mail.as_bytes()
    ]
    assert "ä\n.\n".encode() in last.as_bytes()


def test_what_exim_refuses_comes_back(tmp_path, exim):
    """A recipient that Exim refuses is reported to the sender, by way of Exim."""
    before = len(exim.mails())
    with serving(settings(tmp_path, exim)) as post:
        post.mail(rcpt_to=["nobody@example.net"], subject="lost")
        post.empty()
        wait_until(lambda: len(exim.mails()) == before + 1)
    [report] = [mail for mail in exim.mails() if mail["subject"] == "Undelivered: lost"]
    assert "unknown user" in report.as_string()


def test_exim_refuses_a_wrong_password(tmp_path, exim):
    """A wrong password is told by name, and the mail waits."""
    found = settings(tmp_path, exim)

    host = msgspec.structs.replace(found.smarthosts["exim"], password="wrong")
    with serving(msgspec.structs.replace(found, smarthosts={"exim": host})) as post:
        post.mail()
        wait_until(lambda: not post.staged.call(post.role.health)["ok"])
        assert "535" in str(post.staged.call(post.role.health))
        assert len(post.names) == 1
