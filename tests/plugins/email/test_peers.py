"""Clients that people have: smtplib and swaks, over TCP, TLS and Unix sockets, by SMTP and LMTP."""

from __future__ import annotations

import base64
import contextlib
import shutil
import smtplib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.core.access import AccessLog
from gateway.core.config import LogSettings
from gateway.core.layers.base import OK, REJECTED, Outcome
from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.plugin import EmailPlugin
from gateway.plugins.email.server.checking import Checker
from gateway.testing.stage import Staged, wait_until
from tests.certificates import Authority
from tests.plugins.email.mx import Box

MAIL = "From: ann@example.org\r\nSubject: hi\r\n\r\n.hello\r\n"


class Application:
    """A worker on a thread: it knows one password and one mailbox that is full."""

    def __init__(self, staged: Staged) -> None:
        self.staged = staged
        self.heard: list[Any] = []
        self.replies: Callable[[Any], list[dict[str, Any]]] = lambda _: []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            heard = self.staged.hear_any(0.05)
            if heard is not None:
                self.heard.append(heard)
                heard.settle(self.decide(heard), *self.replies(heard))

    @staticmethod
    def decide(heard: Any) -> Outcome:
        message = heard.message
        if heard.kind == "authenticate":
            return OK if message["password"] == "sécret" else Outcome(REJECTED)
        if "full@localhost" in message["rcpt_to"]:
            return Outcome(REJECTED, 452, "4.2.2 full")
        return OK

    @property
    def mails(self) -> list[dict[str, Any]]:
        return [heard.message for heard in self.heard if heard.kind == "receive"]

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def serve(config: EmailConfig, **options: Any) -> Iterator[Application]:
    with Staged(EmailPlugin, config, **options) as staged:
        application = Application(staged)
        yield application
        application.close()


@pytest.fixture(scope="module")
def served(authority: Authority) -> Iterator[Application]:
    """A server with a certificate, which may be shown one."""
    tls = authority.tls(client_ca=authority.path, client_certificates="optional")
    config = EmailConfig(hostname="mx.example", spool="", proxies=("127.0.0.2",))
    yield from serve(config, tls=tls)


@pytest.fixture(autouse=True)
def forgotten(request: pytest.FixtureRequest) -> None:
    if "served" in request.fixturenames:
        request.getfixturevalue("served").heard.clear()


def connect(served: Application) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", served.staged.port, timeout=5)


def context(authority: Authority, certificate: str | None = None) -> ssl.SSLContext:
    found = authority.client(certificate)
    found.check_hostname = False
    return found


def test_smtplib(served: Application) -> None:
    """The standard library's client sends to several, learns who is refused, and sends again."""
    with connect(served) as client:
        refused = client.sendmail("ann@example.org", ["x@localhost", "full@localhost"], MAIL)
        assert refused == {"full@localhost": (452, b"4.2.2 full")}
        client.sendmail("ann@example.org", ["y@localhost"], MAIL)
        with pytest.raises(smtplib.SMTPRecipientsRefused, match="is not taken here"):
            client.sendmail("ann@example.org", ["x@foreign.example"], MAIL)
    assert [mail["rcpt_to"] for mail in served.mails] == [["x@localhost"], ["y@localhost"]]
    assert served.mails[0]["text"] == ".hello\n"


def test_utf8(served: Application) -> None:
    """A mail with addresses and a header of UTF-8 comes as it is (RFC 6531)."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "jörg@example.org", "müller@localhost", "Grüße"
    mail.set_content("Füße")
    with connect(served) as client:
        client.send_message(mail)
    [heard] = served.mails
    assert (heard["mail_from"], heard["rcpt_to"]) == ("jörg@example.org", ["müller@localhost"])
    assert (heard["subject"], heard["text"], heard["protocol"]) == ("Grüße", "Füße\n", "UTF8SMTP")


def test_starttls_and_auth(served: Application, authority: Authority) -> None:
    """AUTH is offered over TLS alone; a wrong password is refused, a right one is who mail is from."""
    with connect(served) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN AGEAYg==")[0] == 538
        client.starttls(context=context(authority))
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        with pytest.raises(smtplib.SMTPAuthenticationError, match="5\\.7\\.8"):
            client.login("ann", "wrong")
        client.user, client.password = "ann", "sécret"
        code, _ = client.docmd("AUTH", "LOGIN " + "YW5u")
        assert code == 334
        assert client.docmd("c8OpY3JldA==")[0] == 235
        client.sendmail("ann@example.org", ["x@localhost"], MAIL)
    [mail] = served.mails
    assert (mail["identity"], mail["tls"], mail["protocol"]) == ("ann", True, "ESMTPSA")
    asked = [heard.message for heard in served.heard if heard.kind == "authenticate"]
    assert [one["mechanism"] for one in asked] == ["PLAIN", "LOGIN", "LOGIN"]
    assert "identity" not in asked[0]


def test_passwords_run_out(served: Application, authority: Authority) -> None:
    """After three wrong passwords the connection is closed."""
    with connect(served) as client:
        client.starttls(context=context(authority))
        client.ehlo()
        codes = [client.docmd("AUTH", "PLAIN AGEAYg==")[0] for _ in range(3)]
        assert codes == [535, 535, 535]
        assert client.getreply()[0] == 421
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.noop()


def test_a_certificate(served: Application, authority: Authority) -> None:
    """A client's certificate is its identity, without a password."""
    crt = authority.issue("mta", "mta.example", common_name="mta.example")
    with connect(served) as client:
        client.starttls(context=context(authority, crt))
        client.sendmail("ann@example.org", ["x@localhost"], MAIL)
    [mail] = served.mails
    assert "CN=mta.example" in mail["identity"]
    assert mail["protocol"] == "ESMTPS"


def test_injection_before_tls(served: Application, authority: Authority) -> None:
    """What was sent behind STARTTLS in the clear is never taken for the client's words under TLS."""
    raw = served.staged.connect()
    raw.sendall(b"EHLO a\r\nSTARTTLS\r\nRSET\r\nMAIL FROM:<evil@example.org>\r\n")
    came = b""
    while b"220 2.0.0" not in came:
        came += raw.recv(4096)
    with context(authority).wrap_socket(raw) as secure:
        secure.sendall(b"MAIL FROM:<a@b.example>\r\n")
        assert secure.recv(4096) == b"503 5.5.1 Say EHLO first\r\n"
        secure.sendall(b"EHLO a\r\nRCPT TO:<x@localhost>\r\n")
        came = b""
        while b"RCPT" not in came and b"503" not in came:
            came += secure.recv(4096)
        assert came.endswith(b"503 5.5.1 Say MAIL first\r\n")


def test_no_tls_after_all(served: Application) -> None:
    """Who asks for TLS and then speaks none is closed, counted, and costs nobody else anything."""
    raw = served.staged.connect()
    raw.recv(4096)
    raw.sendall(b"EHLO a\r\nSTARTTLS\r\n")
    while not raw.recv(4096).endswith(b"220 2.0.0 Go ahead\r\n"):
        pass
    raw.sendall(b"hello?\r\n")
    assert served.staged.read_all(raw) == b""
    wait_until(lambda: not served.staged.left_over())
    with connect(served) as client:
        assert client.noop()[0] == 250


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 25\r\n", b""])
def test_a_proxy(served: Application, header: bytes) -> None:
    """A proxy's connection is whom its header says; without one it is closed."""
    raw = socket.create_connection(
        ("127.0.0.1", served.staged.port), 5, source_address=("127.0.0.2", 0)
    )
    said = b"EHLO a\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@localhost>\r\nQUIT\r\n"
    came = b""
    with raw, contextlib.suppress(ConnectionResetError):
        raw.sendall(header + said)
        came = served.staged.read_all(raw)
    if not header:
        assert came == b""
        return
    assert came.endswith(b"221 2.0.0 Bye\r\n")
    assert served.heard[-1].message["client"] == ["192.0.2.7", 50000]


def test_implicit_tls(authority: Authority) -> None:
    """At a ``tls:`` endpoint TLS comes first, AUTH is offered at once, and who speaks none is told."""
    config = EmailConfig(hostname="mx.example", spool="", require_tls=True)
    for served in serve(config, listen="tls:127.0.0.1:0", tls=authority.tls()):
        port = served.staged.port
        with smtplib.SMTP_SSL("127.0.0.1", port, timeout=5, context=context(authority)) as client:
            client.ehlo()
            assert client.has_extn("auth")
            client.sendmail("ann@example.org", ["x@localhost"], MAIL)
        assert served.mails[0]["tls"] is True
        raw = served.staged.connect()
        raw.sendall(b"EHLO a\r\n")
        assert served.staged.read_all(raw) == b"421 4.7.4 Speak TLS from the beginning here\r\n"


def test_tls_is_required(authority: Authority) -> None:
    """With require_tls no mail is taken without it; with plain_auth a local client may log in."""
    config = EmailConfig(spool="", require_tls=True, plain_auth=True)
    for served in serve(config, tls=authority.tls()):
        with connect(served) as client:
            client.ehlo()
            assert client.has_extn("auth")
            with pytest.raises(smtplib.SMTPSenderRefused, match="Begin TLS first"):
                client.sendmail("ann@example.org", ["x@localhost"], MAIL)
            client.starttls(context=context(authority))
            client.sendmail("ann@example.org", ["x@localhost"], MAIL)


def test_crowded() -> None:
    """Who finds no place is told so, and closed."""
    for served in serve(EmailConfig(spool="", max_connections=1)):
        with connect(served):
            raw = served.staged.connect()
            assert served.staged.read_all(raw).startswith(b"421 4.7.0 Too many connections")
        wait_until(partial(connects, served))


def connects(served: Application) -> bool:
    try:
        with connect(served) as client:
            return client.noop()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def test_lmtp_over_a_unix_socket(tmp_path: Path) -> None:
    """A mail server hands over by LMTP at a Unix socket; each recipient has its answer."""
    config = EmailConfig(listen=(), lmtp="x", spool="")
    path = str(tmp_path / "lmtp")
    for served in serve(config, listen=f"unix:{path}"):
        with smtplib.LMTP(path) as client:
            refused = client.sendmail("ann@example.org", ["full@localhost", "x@localhost"], MAIL)
            assert refused == {"full@localhost": (452, b"4.2.2 full")}
        [mail] = served.mails
        assert (mail["rcpt_to"], mail["client"], mail["protocol"]) == (
            ["x@localhost"],
            None,
            "LMTP",
        )


def swaks(served: Application, *args: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("swaks") is None:
        pytest.skip("swaks is not installed")
    where = ("--server", "127.0.0.1", "--port", str(served.staged.port))
    return subprocess.run(
        ["swaks", *where, *args], capture_output=True, text=True, timeout=15, check=False
    )


def test_swaks(served: Application) -> None:
    """swaks sends with an attachment, pipelined; a mail for elsewhere is refused."""
    found = swaks(
        served, "--to", "x@localhost,y@localhost", "--from", "ann@example.org", "--pipeline",
        "--attach", "a file", "--body", "hello",
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
    assert "250 2.0.0 OK, taken as" in found.stdout
    assert served.mails[0]["rcpt_to"] == ["x@localhost", "y@localhost"]
    assert served.mails[0]["text"].strip() == "hello"
    assert swaks(served, "--to", "x@foreign.example").returncode == 24
    lmtp = swaks(served, "--protocol", "LMTP", "--to", "x@localhost")
    assert "500" in lmtp.stdout


def test_senders_are_checked(authority: Authority) -> None:
    """What DNS says of a sender is in its mail, large or small; one that is confirmed may be answered."""
    config = EmailConfig(spool="", proxies=("127.0.0.2",), replies="aligned", inline_bytes=10_000)
    large = MAIL + "x" * 70 + "\r\n" + "0123456789\r\n" * 2000
    for served in serve(config):
        plugin = served.staged.plugin
        assert isinstance(plugin, EmailPlugin)
        assert plugin.server is not None
        zone = {"example.org": [b"v=spf1 ip4:192.0.2.7 -all"]}

        def lookup(name: str, kind: str, seconds: float, zone: Any = zone) -> list[Any]:
            return zone.get(name, []) if kind == "TXT" else []

        plugin.server.checker = Checker(config, lookup)
        plugin.server.threads.postbox = box = Box()
        served.replies = lambda heard: [{"text": "thanks"}] if heard.kind == "receive" else []
        for sender, mail in (("ann@example.org", MAIL), ("ann@other.example", large)):
            raw = socket.create_connection(("127.0.0.1", served.staged.port), 5, ("127.0.0.2", 0))
            with raw:
                raw.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 25\r\n")
                client = smtplib.SMTP(timeout=5)
                client.sock = raw
                client.getreply()
                client.sendmail(sender, ["x@localhost"], mail)
        first, second = [one["authentication"] for one in served.mails]
        assert (first["spf"], first["dkim"], first["dmarc"]) == ("pass", "none", "none")
        assert second["spf"] == "none"
        assert [envelope.rcpt_to for envelope, _ in box.sent] == [("ann@example.org",)]
        with connect(served) as client:
            client.sendmail("ann@example.org", ["x@localhost"], MAIL)
        assert "authentication" not in served.mails[-1]


def test_the_access_log(authority: Authority) -> None:
    """The log has a line for each mail with who, for whom and the answer, and one for the connection."""
    lines: list[bytes] = []
    access = AccessLog(LogSettings(), lines.append)
    for served in serve(EmailConfig(hostname="mx", spool=""), access=access, tls=authority.tls()):
        with connect(served) as client:
            client.starttls(context=context(authority))
            client.ehlo("c.example")
            said = base64.b64encode("\0ann\0sécret".encode()).decode()
            assert client.docmd("AUTH", f"PLAIN {said}")[0] == 235
            client.sendmail("ann@example.org", ["x@localhost", "y@localhost"], MAIL)
        wait_until(lambda: len(lines) > 1)
        words = [line.decode().split(" ", 3) for line in lines]
        assert [word[1] for word in words] == ["email", "email"]
        mail, connection = words[0][3], words[1][3]
        assert mail.startswith('ann "DATA <ann@example.org> <x@localhost> <y@localhost>" 250 ')
        assert connection.startswith('ann "EHLO c.example" 221 client ')
