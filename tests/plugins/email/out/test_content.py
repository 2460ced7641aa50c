"""Line ends, dots, headers and signatures, over any cutting of the octets."""

from __future__ import annotations

import re

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import ConfigError
from gateway.plugins.email.client.config import Dkim
from gateway.plugins.email.client.content import Dots, Facts, Lines, fields
from gateway.plugins.email.client.sign import Signer

OCTETS = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"b c", b"\t ", b"\xc3"]), max_size=30
).map(b"".join)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    ends = sorted({min(one, len(data)) for one in at})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(OCTETS, st.lists(st.integers(0, 40), max_size=6))
@settings(max_examples=80)
def test_line_ends(data, at):
    """Every CR, LF and CRLF becomes one CRLF, and the last line ends with one, however it is cut."""
    lines = Lines()
    found = b"".join(map(lines.feed, cut(data, at))) + lines.end()
    expected = re.sub(rb"\r\n|\r|\n", b"\r\n", data)
    if not expected.endswith(b"\r\n") and expected:
        expected += b"\r\n"
    assert found == expected


@given(OCTETS, st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=80)
def test_dots(data, at):
    """No line of a mail can be taken for its end, and the dots come out as they went in."""
    whole = re.sub(rb"\r\n|\r|\n", b"\r\n", data) + b"\r\n"
    dots = Dots()
    sent = b"".join(map(dots.feed, cut(whole, at)))
    lines = sent.split(b"\r\n")
    assert b"." not in lines
    assert b"\r\n".join(one[1:] if one[:1] == b"." else one for one in lines) == whole


@given(st.lists(st.integers(0, 80), max_size=6))
def test_facts(at):
    """What is said of a mail does not depend on how it is cut."""
    data = b"Subject: a\r\n b\r\nX: \xc3\xa4\r\n\r\nbody\r\n\r\nNot: one\r\n"
    facts = Facts()
    for piece in cut(data, at):
        facts.feed(piece)
    assert (facts.size, facts.eight_bit, facts.utf8, facts.nul) == (len(data), True, True, False)
    assert facts.fields() == [("subject", b"a b"), ("x", b"\xc3\xa4")]


def test_fields_end_where_the_header_does():
    """What is no field ends the header; a mail that begins with an empty line has none."""
    assert fields(b"A: 1\r\nno field\r\nB: 2\r\n") == [("a", b"1")]
    assert fields(b"no field\r\n") == []
    facts = Facts()
    facts.feed(b"\r\nA: 1\r\n")
    assert facts.fields() == []


def test_a_header_without_an_end_is_not_kept():
    """A header that has no end is told, and not held in memory."""
    facts = Facts()
    for _ in range(400):
        facts.feed(b"A: " + b"x" * 1000 + b"\r\n")
    assert facts.too_long
    assert len(facts.head) < 300_000


# ------------------------------------------------ DKIM


def written(path, key):
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(path)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A signer for each kind of key, and what DNS says of it."""
    import base64

    folder = tmp_path_factory.mktemp("keys")
    one = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    spki = one.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    two = ed25519.Ed25519PrivateKey.generate()
    raw = two.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    found = {}
    for kind, key, public in (("rsa", one, spki), ("ed25519", two, raw)):
        path = written(folder / kind, key)
        record = b"v=DKIM1; k=%s; p=%s" % (kind.encode(), base64.b64encode(public))
        found[kind] = (Signer({"Example.org": Dkim(selector="s1", key=path)}), record)
    return found


def signed(signer: Signer, data: bytes, at: list[int]) -> bytes:
    signing, facts = signer.begin("shop@example.org"), Facts()
    for piece in cut(data, at):
        signing.feed(piece)
        facts.feed(piece)
    return signing.field(bytes(facts.head)).encode() + data


@given(
    body=OCTETS,
    at=st.lists(st.integers(0, 120), max_size=4),
    kind=st.sampled_from(["rsa", "ed25519"]),
)
@settings(max_examples=40, deadline=None)
def test_signatures_are_good(keys, body, at, kind):
    """What is signed is found good by dkimpy, whatever the body, and however it was cut."""
    signer, record = keys[kind]
    body = re.sub(rb"\r\n|\r|\n", b"\r\n", body)
    data = (
        b"From: Shop <shop@example.org>\r\nSubject: a\r\n  b \r\nTo: x@y.z\r\nto: z@y.x\r\n\r\n"
        + body
        + b"\r\n"
    )
    mail = signed(signer, data, at)
    names = []

    def txt(name, timeout=5):
        names.append(name)
        return record

    assert dkim.verify(mail, dnsfunc=txt)
    assert names == [b"s1._domainkey.example.org."]
    assert max(map(len, mail.partition(b"From:")[0].split(b"\r\n"))) <= 78
    for spoiled in (
        mail + b"x\r\n",
        b"Subject: other\r\n" + mail,
        mail.replace(b"Subject: a", b"Subject: c"),
    ):
        assert not dkim.verify(spoiled, dnsfunc=lambda *_, **__: record)


def test_only_its_own_domain_is_signed(keys):
    """Mail of a domain that has no key is not signed."""
    signer, _ = keys["rsa"]
    assert signer.begin("a@sub.example.org").field(b"From: a\r\n") == ""


@pytest.mark.parametrize("what", ["missing", "junk", "small"])
def test_a_key_that_cannot_be(tmp_path, what):
    """A key that cannot be used stops the start with the setting's name."""
    path = tmp_path / "key"
    if what == "junk":
        path.write_bytes(b"junk")
    elif what == "small":
        from cryptography.hazmat.primitives.asymmetric import ec

        written(path, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(ConfigError, match=r"email\.dkim\.example\.org\.key"):
        Signer({"example.org": Dkim(selector="s", key=str(path))})
    with pytest.raises(ConfigError, match="selector"):
        Signer({"example.org": Dkim(selector="a b", key=str(path))})
