"""What the commands say of certificates, and what SIGHUP does."""

from __future__ import annotations

import signal

import pytest

from tests.certificates import DAY, NOW, Authority

RUN = ("run", "--plugins", "http", "--listen", "tls:127.0.0.1:0")
CHECK = ("check", "--plugins", "http", "--workers", "none")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


def test_no_certificate_set(start):
    """An endpoint with TLS and no certificate stops the start, with what to set."""
    gateway = start(*RUN, "--workers", "1")
    assert gateway.wait() == 2
    assert "http.listen: 'tls:127.0.0.1:0': there is no certificate to show" in gateway.text()
    assert "set tls.certificate to a PEM file" in gateway.text()


@pytest.mark.parametrize("workers", ["0", "1", "none"])
def test_broken_certificate(start, authority, workers):
    """A certificate that cannot be used stops the start, with the setting and the reason."""
    certificate, _ = authority.issue_pair("site", "localhost")
    gateway = start(*RUN, "--workers", workers, "--set", f"tls.certificate={certificate}")
    assert gateway.wait() == 2
    assert f"tls.key: {certificate!r} holds no private key" in gateway.text()
    assert "Traceback" not in gateway.text()


def test_banner(start, authority):
    """The start says https; a certificate that has expired is warned of, and served."""
    expired = authority.issue("old", "localhost", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    gateway = start(
        *RUN, "--listen", "127.0.0.1:0", "--workers", "0", "--set", f"tls.certificate={expired}"
    )
    gateway.wait_for(r"http +https://127\.0\.0\.1:\d+, http://127\.0\.0\.1:\d+")
    gateway.wait_for("expired on .*renew it")


def test_hangup(start, toys):
    """SIGHUP never ends a process: alone, supervising, as a worker, as a hub."""
    alone = start("run", "--plugins", "toy", "--workers", "0")
    alone.port()
    hub = start("hub", "--layer", f"unix://{toys}/own.sock")
    hub.wait_for("hub at")
    supervised = start("run", "--plugins", "toy", "--workers", "1")
    supervised.port()
    for gateway in (alone, supervised, hub):
        gateway.signal(signal.SIGHUP)
    alone.wait_for("SIGHUP: reloading(.|\n)*reloaded")
    supervised.wait_for("SIGHUP: reloading(.|\n)*reloaded")
    hub.wait_for("SIGHUP: a hub has nothing to reload")
    for gateway in (alone, supervised, hub):
        gateway.signal()
        assert gateway.wait() == 0


def test_check(start, authority):
    """`check` reads the files, and says what is wrong with them or soon will be."""
    good = authority.issue("good", "localhost", not_after=NOW + 2 * DAY)
    checks = {
        ("--listen", "tls:0", "--set", f"tls.certificate={good}"): (
            0,
            f"warning: tls.certificate: {good!r} expires on",
        ),
        ("--listen", "tls:0", "--set", "tls.certificate=/nowhere"): (
            1,
            "problem: tls.certificate: '/nowhere': there is no such file",
        ),
        ("--listen", "tls:0"): (1, "problem: http.listen: 'tls:0': there is no certificate"),
        ("--set", f"tls.certificate={good}"): (
            0,
            "warning: tls.certificate is set, and nothing listens with TLS",
        ),
    }
    running = {options: start(*CHECK, *options) for options in checks}
    for options, (status, says) in checks.items():
        assert running[options].wait() == status
        assert says in running[options].text()
