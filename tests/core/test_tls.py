"""Certificates from files: what is wrong is told, what changes is loaded again."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import os
import shutil
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from gateway.core import certificates, tls
from gateway.core.config import TlsSettings
from gateway.core.errors import ConfigError
from gateway.core.metrics import Metrics
from gateway.core.sources import Sources
from gateway.core.tls import Tls
from tests.certificates import DAY, NOW, Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def pair(authority, tmp_path):
    """Paths of a certificate and its key, to be written over."""
    certificate, key = authority.issue_pair("site", "localhost")
    return shutil.copy(certificate, tmp_path), shutil.copy(key, tmp_path)


def shown(offer, authority, host="localhost"):
    """The certificate that a client is shown, which has to trust it; in memory."""
    client_in, client_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client().wrap_bio(client_in, client_out, server_hostname=host)
    certificates.SOCKET.set(None)
    server = offer.context.wrap_bio(client_out, client_in, server_side=True)
    for side in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client.getpeercert(binary_form=True)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"certificate": ["a", "b"], "key": "k"}, "key names 1 files and certificate 2"),
        ({"client_ca": "ca.pem"}, "client_ca needs a certificate of our own"),
        (
            {"certificate": "a", "client_certificates": "optional"},
            "client_certificates needs client_ca",
        ),
        ({"minimum": "1.1"}, "expected '1.2' or '1.3'"),
        ({"handshake_timeout": 0}, "'0' does not fit|0 does not fit"),
    ],
)
def test_settings_that_do_not_fit(table, says):
    """What several settings say together is checked, with a text that names them."""
    sources = Sources()
    sources.add_tables({"tls": table}, "gateway.toml")
    with pytest.raises(ConfigError, match=says):
        sources.settings({})


def test_one_path_or_several():
    """A certificate is one path, or a list."""
    assert TlsSettings().certificates() == ()
    assert TlsSettings(certificate="a").certificates() == ("a",)
    assert TlsSettings(certificate=("a", "b"), key=("c", "d")).keys() == ("c", "d")


# ---------------------------------------------------------------- files that cannot be used


def rsa_key(bits=2048):
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem(key, *, password=None, style=PrivateFormat.PKCS8):
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, style, how)


def refused(**settings):
    with pytest.raises(ConfigError) as caught:
        Tls(TlsSettings(**settings))
    return str(caught.value)


def test_no_such_file(pair):
    """A file that is not there is named with its setting."""
    certificate, key = pair
    assert refused(certificate="/nowhere/site.crt") == (
        "tls.certificate: '/nowhere/site.crt': there is no such file"
    )
    text = refused(certificate=certificate, key="/nowhere/site.key")
    assert text == "tls.key: '/nowhere/site.key': there is no such file"
    text = refused(certificate=certificate, key=key, client_ca="/nowhere/ca.pem")
    assert text == "tls.client_ca: '/nowhere/ca.pem': there is no such file"


def test_a_directory(tmp_path):
    """A directory is no file."""
    assert "cannot be read: Is a directory" in refused(certificate=str(tmp_path))


def test_permission(pair, monkeypatch):
    """A file that may not be read is told with the remedy."""

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    assert "permission denied; let the user that runs the gateway read it" in refused(
        certificate=pair[0]
    )


def test_no_certificate(pair, tmp_path):
    """A file without certificate is told so, and a binary one how it is converted."""
    certificate, key = pair
    assert f"tls.certificate: {key!r} holds no certificate" in refused(certificate=key, key=key)
    binary = tmp_path / "site.der"
    binary.write_bytes(
        ssl.PEM_cert_to_DER_cert(
            certificates._text(certificate, "").partition("-----END")[0]
            + "-----END CERTIFICATE-----"
        )
    )
    assert "is not PEM but binary; convert it with openssl x509" in refused(certificate=str(binary))
    text = refused(certificate=certificate, key=key, client_ca=key)
    assert text.startswith(f"tls.client_ca: {key!r} holds no certificate")
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "no X.509 certificate" in refused(certificate=str(broken), key=key)


def test_no_key(pair):
    """Where no key is, it is said where it may be put."""
    certificate, _ = pair
    assert refused(certificate=certificate) == (
        f"tls.key: {certificate!r} holds no private key; name its file with tls.key, or put it there"
    )
    empty = certificate + ".empty"
    Path(empty).touch()
    assert refused(certificate=certificate, key=empty) == (
        f"tls.key: {empty!r} holds no private key; it has a block that begins with "
        "-----BEGIN PRIVATE KEY-----"
    )


@pytest.mark.parametrize("style", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_encrypted_key(pair, tmp_path, style):
    """An encrypted key is told so, and nobody is asked for a passphrase."""
    key = tmp_path / "secret.key"
    key.write_bytes(pem(rsa_key(), password=b"secret", style=style))
    assert f"tls.key: {str(key)!r} is encrypted" in refused(certificate=pair[0], key=str(key))


def test_another_key(pair, tmp_path, authority):
    """A key that is not the certificate's is told so, be it of the same type or not."""
    other = tmp_path / "other.key"
    for content in (pem(rsa_key()), Path(authority.issue_pair("x", "x")[1]).read_bytes()):
        other.write_bytes(content)
        text = refused(certificate=pair[0], key=str(other))
        assert f"tls.key: {str(other)!r} is not the key of the first certificate" in text


def test_broken_key(pair, tmp_path):
    """A key that OpenSSL cannot read is told so."""
    key = tmp_path / "broken.key"
    key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert "OpenSSL cannot use them" in refused(certificate=pair[0], key=str(key))


def test_weak_certificate(authority, tmp_path):
    """A certificate that OpenSSL finds too weak is told so, with what to get instead."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = rsa_key(1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "weak.pem"
    path.write_bytes(pem(key) + made.public_bytes(serialization.Encoding.PEM))
    assert "is too weak (EE_KEY_TOO_SMALL)" in refused(certificate=str(path))


def test_unknown_ciphers(pair):
    """Ciphers that OpenSSL does not know are told."""
    certificate, key = pair
    text = refused(certificate=certificate, key=key, ciphers="ROT13")
    assert text == "tls.ciphers: 'ROT13': OpenSSL knows no cipher of these names"


# ---------------------------------------------------------------- warnings


@pytest.mark.parametrize(
    ("begin", "end", "says"),
    [
        (-30, 30, None),
        (-30, -1, "expired on"),
        (-30, 3, "expires on"),
        (2, 30, "is valid from"),
    ],
)
def test_days_of_validity(authority, begin, end, says):
    """A certificate that clients refuse, or soon will, is warned of, and used all the same."""
    certificate = authority.issue(
        "days", "localhost", not_before=NOW + begin * DAY, not_after=NOW + end * DAY
    )
    found = list(authority.tls(certificate).pairs[0].warnings())
    if says is None:
        assert not found
    else:
        (text,) = found
        assert text.startswith(f"tls.certificate: {certificate!r} {says} 20")


def test_key_for_everybody(authority):
    """A private key that everybody can read is warned of."""
    certificate = authority.issue("open", "localhost")
    Path(certificate).chmod(0o644)
    (text,) = authority.tls(certificate).pairs[0].warnings()
    assert text == (
        f"tls.key: {certificate!r} can be read by every user of this machine; chmod 600 keeps it "
        "to its owner"
    )


def test_expiry_is_a_metric(authority):
    """The metrics say when the first certificate ends."""
    metrics = Metrics()
    later = authority.issue("later", "a.example", not_after=NOW + 30 * DAY)
    sooner = authority.issue("sooner", "b.example", not_after=NOW + 10 * DAY)
    authority.tls((later, sooner)).count_in(metrics)
    expiry = metrics.snapshot()["gateway_tls_expiry_timestamp_seconds"]
    assert dt.datetime.fromtimestamp(expiry, dt.UTC) == (NOW + 10 * DAY).replace(microsecond=0)


# ---------------------------------------------------------------- contexts


def test_defaults(authority):
    """No compression, no renegotiation, our order, TLS 1.2 at least, AEAD ciphers alone."""
    context = authority.tls().offer().context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for option in (
        ssl.OP_NO_COMPRESSION,
        ssl.OP_NO_RENEGOTIATION,
        ssl.OP_CIPHER_SERVER_PREFERENCE,
    ):
        assert context.options & option
    assert context.verify_mode is ssl.CERT_NONE
    for cipher in context.get_ciphers():
        assert cipher["aead"]
        assert cipher["protocol"] == "TLSv1.3" or cipher["kea"] == "kx-ecdhe"


def test_revoked(authority, tmp_path):
    """A revocation list among the authorities is heeded."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    issuer = authority._ca
    alice = x509.load_pem_x509_certificate(
        Path(authority.issue("alice", common_name="alice")).read_bytes()
    )
    bob = x509.load_pem_x509_certificate(
        Path(authority.issue("bob", common_name="bob")).read_bytes()
    )
    key = serialization.load_pem_private_key(issuer.private_key_pem.bytes(), None)
    revoked = (
        x509.RevokedCertificateBuilder()
        .serial_number(alice.serial_number)
        .revocation_date(NOW - DAY)
        .build()
    )
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(alice.issuer)
        .last_update(NOW - DAY)
        .next_update(NOW + DAY)
        .add_revoked_certificate(revoked)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "ca.pem"
    path.write_bytes(issuer.cert_pem.bytes() + crl.public_bytes(Encoding.PEM))
    context = authority.tls(client_ca=str(path)).offer().context
    assert context.verify_mode is ssl.CERT_REQUIRED
    results = {}
    for name in ("alice", "bob"):
        certificates.SOCKET.set(None)
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = authority.client(f"{authority.folder}/{name}.pem").wrap_bio(
            to_client, to_server, server_hostname="localhost"
        )
        server = context.wrap_bio(to_server, to_client, server_side=True)
        try:
            for side in (client, server, client, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
            results[name] = "good"
        except ssl.SSLError as error:
            results[name] = str(error)
    assert "certificate revoked" in results["alice"]
    assert results["bob"] == "good"
    assert bob.serial_number != alice.serial_number


# ---------------------------------------------------------------- loading again


def test_reload(authority, pair, caplog):
    """A new pair in the same files is shown to new connections, for every kind of them."""
    caplog.set_level(logging.INFO)

    async def main():
        certificate, key = pair
        metrics = Metrics()
        loaded = Tls(TlsSettings(certificate=certificate, key=key))
        loaded.count_in(metrics)
        offers = [loaded.offer(["h2", "http/1.1"]), loaded.offer()]
        before = [shown(offer, authority) for offer in offers]
        fresh = authority.issue_pair("fresh", "localhost", not_after=NOW + 3 * DAY)
        shutil.copy(fresh[0], certificate)
        shutil.copy(fresh[1], key)
        assert [shown(offer, authority) for offer in offers] == before
        assert await loaded.reload()
        after = [shown(offer, authority) for offer in offers]
        assert after[0] == after[1] != before[0]
        assert metrics.snapshot()['gateway_tls_reloads_total{result="done"}'] == 1
        assert f"{certificate} is loaded, valid until" in caplog.text
        assert f"tls.certificate: {certificate!r} expires on" in caplog.text

    asyncio.run(main())


def test_a_broken_pair_changes_nothing(authority, pair, caplog):
    """Where a file is broken all stay as they were, the error is logged and counted."""

    async def main():
        certificate, key = pair
        metrics = Metrics()
        loaded = Tls(TlsSettings(certificate=certificate, key=key))
        loaded.count_in(metrics)
        offer = loaded.offer()
        before = shown(offer, authority)
        fresh = authority.issue_pair("fresh", "localhost")
        shutil.copy(fresh[0], certificate)  # and its key not yet
        assert not await loaded.reload()
        assert shown(offer, authority) == before
        shutil.move(certificate, certificate + ".gone")
        assert not await loaded.reload()
        assert shown(offer, authority) == before
        assert metrics.snapshot()['gateway_tls_reloads_total{result="failed"}'] == 2
        assert "is not the key of the first certificate" in caplog.text
        assert "there is no such file; the certificate in use stays" in caplog.text

    asyncio.run(main())


def test_watch(authority, pair, monkeypatch):
    """Files that change are loaded again once they stay as they are."""
    monkeypatch.setattr(tls, "SETTLE", 0.02)

    async def main():
        certificate, key = pair
        metrics = Metrics()
        loaded = Tls(TlsSettings(certificate=certificate, key=key, watch=0.02))
        loaded.count_in(metrics)
        offer = loaded.offer()
        before = shown(offer, authority)
        watching = asyncio.ensure_future(loaded.watch())
        fresh = authority.issue_pair("fresh", "localhost")
        # As certbot does it: the new file takes the old one's place.
        for source, target in zip(fresh, pair, strict=True):
            shutil.move(shutil.copy(source, f"{target}.new"), target)
        async with asyncio.timeout(5):
            while shown(offer, authority) == before:  # noqa: ASYNC110 - another task does it
                await asyncio.sleep(0.01)
        assert metrics.snapshot()['gateway_tls_reloads_total{result="done"}'] == 1
        watching.cancel()

    asyncio.run(main())


def test_files_that_change_one_after_the_other(authority, pair, monkeypatch, caplog):
    """A certificate that is written before its key is not read until both are there."""
    monkeypatch.setattr(tls, "SETTLE", 0.2)

    async def main():
        certificate, key = pair
        metrics = Metrics()
        loaded = Tls(TlsSettings(certificate=certificate, key=key, watch=0.2))
        loaded.count_in(metrics)
        looks = []
        look = loaded._look
        monkeypatch.setattr(loaded, "_look", lambda: looks.append(look()) or looks[-1])
        watching = asyncio.ensure_future(loaded.watch())
        fresh = authority.issue_pair("fresh", "localhost")
        shutil.copy(fresh[0], certificate)
        async with asyncio.timeout(5):
            while len(looks) < 1:  # noqa: ASYNC110 - another task does it
                await asyncio.sleep(0.01)
            os.utime(certificate)  # somebody is still at it
            while len(looks) < 2:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            shutil.copy(fresh[1], key)
            while "gateway_tls_reloads_total" not in str(metrics.snapshot()):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
        watching.cancel()
        assert metrics.snapshot()['gateway_tls_reloads_total{result="done"}'] == 1
        assert "stays" not in caplog.text

    asyncio.run(main())


def test_watch_never(authority):
    """With ``watch`` 0 nobody looks."""
    asyncio.run(asyncio.wait_for(authority.tls(watch=0).watch(), 1))


def test_unchanged_files_are_left_alone(authority, tmp_path, monkeypatch):
    """A look that finds nothing new loads nothing, whatever else happens in the folder."""
    monkeypatch.setattr(tls, "SETTLE", 0.01)
    monkeypatch.chdir(tmp_path)

    async def main():
        metrics = Metrics()
        loaded = authority.tls(watch=0.01)
        loaded.count_in(metrics)
        looks = []
        look = loaded._look
        monkeypatch.setattr(loaded, "_look", lambda: looks.append(look()) or looks[-1])
        watching = asyncio.ensure_future(loaded.watch())
        async with asyncio.timeout(5):
            while len(looks) < 5:
                (tmp_path / str(len(looks))).touch()
                await asyncio.sleep(0.005)
        watching.cancel()
        assert "gateway_tls_reloads_total" not in str(metrics.snapshot())

    asyncio.run(main())
