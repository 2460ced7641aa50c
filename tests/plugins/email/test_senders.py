"""SPF, DKIM and DMARC, by a DNS that the test keeps."""

from __future__ import annotations

import base64
import time
from functools import cache
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.plugins.email.headers import read
from gateway.plugins.email.server.asked import Asked, proves
from gateway.plugins.email.server.senders import Senders, TemporaryFault

MAIL = b"From: Ann <ann@example.org>\r\nSubject: hi\r\n\r\nhello\r\n"
CLIENT = "192.0.2.7"


@cache
def key(bits: int = 1024) -> tuple[bytes, bytes]:
    """Return a private key, and the record of the public one."""
    made = rsa.generate_private_key(65537, bits)
    pem = made.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    public = made.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def signed(domain: bytes = b"example.org", mail: bytes = MAIL, **options: Any) -> bytes:
    return dkim.sign(mail, b"s1", domain, key()[0], **options) + mail


class Zone:
    """What DNS says. A name that is None does not answer."""

    def __init__(self, **records: Any) -> None:
        self.records = {name.replace("__", "."): value for name, value in records.items()}
        self.asked: list[tuple[str, str]] = []

    def __call__(self, name: str, kind: str, seconds: float) -> list[Any]:
        self.asked.append((name, kind))
        found = self.records.get(f"{kind} {name}", [])
        if found is None:
            raise TemporaryFault("no answer")
        return list(found)


def check(records: dict[str, Any], mail: bytes = MAIL, **asked: Any) -> dict[str, Any]:
    zone = Zone()
    zone.records = records
    facts = {"client": CLIENT, "helo": "mx.example.org", "mail_from": "ann@example.org"}
    found = Senders(zone, 5.0).check(Asked(**{**facts, **asked, "head": read(mail)}), lambda: mail)
    check.zone = zone  # type: ignore[attr-defined]
    return found


PASS = {"TXT example.org": [b"v=spf1 ip4:192.0.2.0/24 -all"]}
DMARC = {"TXT _dmarc.example.org": [b"v=DMARC1; p=reject; sp=quarantine"]}
KEY = {"TXT s1._domainkey.example.org": [key()[1]]}


@pytest.mark.parametrize(
    ("records", "result"),
    [
        (PASS, "pass"),
        ({"TXT example.org": [b"v=spf1 -all"]}, "fail"),
        ({"TXT example.org": [b"v=spf1 ~all"]}, "softfail"),
        ({"TXT example.org": [b"v=spf1 ?all"]}, "neutral"),
        ({}, "none"),
        ({"TXT example.org": [b"v=spf1 nonsense:x"]}, "permerror"),
        ({"TXT example.org": [b"v=spf1 include:example.org"]}, "permerror"),
        ({"TXT example.org": None}, "temperror"),
        ({"TXT example.org": [b"v=spf1 mx -all"], "MX example.org": [(10, "m.example.org.")],
          "A m.example.org": [CLIENT]}, "pass"),
        ({"TXT example.org": [b"\xff\xfe"]}, "none"),
    ],
)  # fmt: skip
def test_spf(records: dict[str, Any], result: str) -> None:
    """The domain of the envelope's sender says which machines may send for it."""
    found = check(records)
    assert (found["spf"], found["spf_domain"]) == (result, "example.org")


def test_the_null_sender() -> None:
    """Of a bounce the name is asked that the client greeted with."""
    found = check({"TXT mx.example.org": [b"v=spf1 ip4:192.0.2.7 -all"]}, mail_from=None)
    assert (found["spf"], found["spf_domain"]) == ("pass", "mx.example.org")


@pytest.mark.parametrize(
    ("mail", "records", "result"),
    [
        (signed(), KEY, "pass"),
        (signed().replace(b"hello", b"hullo"), KEY, "fail"),
        (signed(), {}, "permerror"),
        (signed(), {"TXT s1._domainkey.example.org": None}, "temperror"),
        (signed(), {"TXT s1._domainkey.example.org": [b"nonsense"]}, "fail"),
        (signed(length=True), KEY, "policy"),
        (b"DKIM-Signature: nonsense\r\n" + MAIL, KEY, "permerror"),
        (b"DKIM-Signature: nonsense\r\n" + signed(), KEY, "pass"),
        (MAIL, KEY, "none"),
    ],
    ids=range(9),
)
def test_dkim(mail: bytes, records: dict[str, Any], result: str) -> None:
    """A signature is good or it is not; one that leaves something to anybody proves nothing."""
    found = check(records, mail)
    assert found["dkim"] == result
    assert found["dkim_domains"] == (["example.org"] if result == "pass" else [])


def test_many_signatures() -> None:
    """Only so many signatures of a mail are looked at: it costs its sender nothing to make more."""
    check(KEY, b"DKIM-Signature: v=1; d=example.org; s=x\r\n" * 50 + signed())
    assert len(check.zone.asked) < 20  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("mail", "records", "asked", "result", "policy"),
    [
        (MAIL, {**PASS, **DMARC}, {}, "pass", "reject"),
        (MAIL, DMARC, {}, "fail", "reject"),
        (MAIL, PASS, {}, "none", None),
        (signed(), {**KEY, **DMARC}, {"mail_from": "x@other.example"}, "pass", "reject"),
        (signed(b"other.example"), {"TXT s1._domainkey.other.example": [key()[1]], **DMARC}, {}, "fail", "reject"),
        # A subdomain is its organization's, unless that is strict.
        (MAIL.replace(b"@example.org", b"@news.example.org"), {**PASS, **DMARC}, {}, "pass", "quarantine"),
        (MAIL.replace(b"@example.org", b"@news.example.org"),
         {**PASS, "TXT _dmarc.example.org": [b"v=DMARC1; p=none; aspf=s"]}, {}, "fail", "none"),
        # A public suffix is nobody's organization.
        (MAIL.replace(b"@example.org", b"@a.com.example"),
         {"TXT b.com.example": [b"v=spf1 +all"], "TXT _dmarc.com.example": [b"v=DMARC1; psd=y; p=none"]},
         {"mail_from": "x@b.com.example"}, "fail", "none"),
        (MAIL.replace(b"@example.org", b"@a.com.example"),
         {"TXT x.a.com.example": [b"v=spf1 +all"], "TXT _dmarc.com.example": [b"v=DMARC1; psd=y; p=none"]},
         {"mail_from": "x@x.a.com.example"}, "pass", "none"),
        (MAIL, {"TXT _dmarc.example.org": None}, {}, "temperror", None),
        (MAIL, {"TXT _dmarc.example.org": [b"v=DMARC1; p=none", b"v=DMARC1; p=reject"]}, {}, "none", None),
        (b"From: a@example.org, b@example.net\r\n\r\n", DMARC, {}, "permerror", None),
        (b"From: a@example.org\r\nFrom: a@example.org\r\n\r\n", DMARC, {}, "permerror", None),
        (b"Subject: x\r\n\r\n", DMARC, {}, "permerror", None),
        (b'From: "x@bank.example" <a@example.org> (y@z.example)\r\n\r\n', {**PASS, **DMARC}, {}, "pass", "reject"),
    ],
    ids=range(15),
)  # fmt: skip
def test_dmarc(
    mail: bytes, records: dict[str, Any], asked: dict[str, Any], result: str, policy: str | None
) -> None:
    """What SPF or DKIM confirm has to be of the domain that readers see."""
    found = check(records, mail, **asked)
    assert (found["dmarc"], found.get("dmarc_policy")) == (result, policy)


def test_a_long_name() -> None:
    """The walk up from a long name asks few names, whatever a stranger writes."""
    domain = b".".join([b"a"] * 60) + b".example"
    check({}, b"From: x@" + domain + b"\r\n\r\n")
    assert len([name for name, _ in check.zone.asked if name.startswith("_dmarc")]) == 8  # type: ignore[attr-defined]


def test_time_runs_out() -> None:
    """All questions of a mail have one time together."""

    def slow(name: str, kind: str, seconds: float) -> list[Any]:
        time.sleep(min(seconds, 0.05))
        return []

    asked = Asked(client=CLIENT, helo="x", mail_from="a@example.org", head=read(signed()))
    found = Senders(slow, 0.04).check(asked, signed)
    assert {found["dkim"], found["dmarc"]} == {"temperror"}


@pytest.mark.parametrize(
    ("found", "proven"),
    [
        ({"spf": "pass", "spf_domain": "example.org"}, True),
        ({"spf": "pass", "spf_domain": "other.example"}, False),
        ({"spf": "softfail", "spf_domain": "example.org"}, False),
        ({"dkim_domains": ["example.org"]}, True),
        ({"dkim_domains": ["org"]}, True),
        ({"dkim_domains": ["ample.org", "mail.example.org"]}, False),
        ({}, False),
    ],
)
def test_proven(found: dict[str, Any], proven: bool) -> None:
    """The envelope's sender is proven by its own domain, or one above it; nobody proves the null sender."""
    assert proves(found, "ann@example.org") is proven
    assert proves(found, None) is False
