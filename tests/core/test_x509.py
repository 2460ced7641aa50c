"""What a certificate says of itself."""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress

import pytest
from cryptography import x509 as other
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import x509

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN, END = dt.datetime(2020, 2, 3, 4, 5, 6, tzinfo=dt.UTC), dt.datetime(2050, 1, 1, tzinfo=dt.UTC)
SPIFFE = other.UniformResourceIdentifier("spiffe://example.org/web")


def made(*relatives, alternatives=()):
    """The DER of a certificate; ``relatives`` are lists of attributes, in its order."""
    builder = (
        other.CertificateBuilder()
        .subject_name(other.Name([other.RelativeDistinguishedName(r) for r in relatives]))
        .issuer_name(other.Name([other.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .add_extension(other.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if alternatives:
        names = other.SubjectAlternativeName(alternatives)
        builder = builder.add_extension(names, critical=not relatives)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def attribute(oid, value, kind=None):
    return other.NameAttribute(oid, value, kind)


ALICE = attribute(NameOID.COMMON_NAME, "alice")
EXAMPLE = attribute(NameOID.ORGANIZATION_NAME, "Example")


@pytest.mark.parametrize(
    ("relatives", "identity"),
    [
        ([[EXAMPLE], [ALICE]], "CN=alice,O=Example"),
        ([[attribute(NameOID.COUNTRY_NAME, "NL")], [EXAMPLE], [ALICE]], "CN=alice,O=Example,C=NL"),
        ([[attribute(NameOID.COMMON_NAME, "a,O=Example")]], r"CN=a\,O=Example"),
        ([[attribute(NameOID.COMMON_NAME, '# "a+b"<c>;\\ ')]], r"CN=\# \"a\+b\"\<c\>\;\\\ "),
        ([[attribute(NameOID.COMMON_NAME, " ")]], "CN=\\ "),
        ([[attribute(NameOID.COMMON_NAME, "a\0b\r\nc")]], r"CN=a\00b\0D\0Ac"),
        ([[attribute(NameOID.COMMON_NAME, "Lučić")]], "CN=Lučić"),
        ([[attribute(NameOID.COMMON_NAME, "Lučić", other.name._ASN1Type.BMPString)]], "CN=Lučić"),
        (
            [[attribute(NameOID.DOMAIN_COMPONENT, "net")], [attribute(NameOID.USER_ID, "j")]],
            "UID=j,DC=net",
        ),
        (
            [[attribute(NameOID.EMAIL_ADDRESS, "a@b.c")], [ALICE]],
            "CN=alice,1.2.840.113549.1.9.1=a@b.c",
        ),
        ([[attribute(NameOID.TITLE, "Dr, the")]], r"2.5.4.12=Dr\, the"),
    ],
)
def test_identity(relatives, identity):
    """The identity is the whole subject as RFC 4514 writes it, the last part first."""
    assert x509.read(made(*relatives)).identity == identity


def test_two_names_in_one_part():
    """A part of two attributes keeps both."""
    found = x509.read(made([EXAMPLE, ALICE])).identity
    assert sorted(found.split("+")) == ["CN=alice", "O=Example"]


@pytest.mark.parametrize(
    ("alternatives", "identity"),
    [
        ([SPIFFE, other.DNSName("example.org")], "URI:spiffe://example.org/web"),
        ([other.DNSName("Example.org")], "DNS:Example.org"),
        ([other.RFC822Name("a@example.org")], "email:a@example.org"),
        ([other.IPAddress(ipaddress.ip_address("192.0.2.1"))], "IP:192.0.2.1"),
        ([other.IPAddress(ipaddress.ip_address("2001:db8::1")), SPIFFE], "IP:2001:db8::1"),
        ([other.RegisteredID(NameOID.TITLE), SPIFFE], "URI:spiffe://example.org/web"),
    ],
)
def test_identity_without_subject(alternatives, identity):
    """Where the subject is empty, the identity is the first alternative name with its kind."""
    assert x509.read(made(alternatives=alternatives)).identity == identity


def test_identity_of_nobody():
    """A certificate without any name is known by its fingerprint."""
    der = made()
    assert x509.read(der).identity == f"SHA256:{hashlib.sha256(der).hexdigest()}"


def test_the_subject_comes_first():
    """Alternative names do not matter where there is a subject."""
    assert x509.read(made([ALICE], alternatives=[SPIFFE])).identity == "CN=alice"


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=16
)
NAMES = [NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME, NameOID.USER_ID]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(NAMES), TEXT), max_size=4))
def test_identity_is_unambiguous(parts):
    """From the identity the subject can be read back: no two have the same."""
    name = other.Name([attribute(oid, text) for oid, text in parts])
    der = made(*[[attribute(oid, text)] for oid, text in parts], alternatives=[SPIFFE])
    identity = x509.read(der).identity
    if parts:
        assert other.Name.from_rfc4514_string(identity) == name
    else:
        assert identity == f"URI:{SPIFFE.value}"


def test_validity():
    """Both ways of writing a time are read: with two digits of the year, and with four."""
    found = x509.read(made([ALICE]))
    assert (found.not_before, found.not_after) == (BEGIN, END)


@pytest.mark.parametrize(
    ("relatives", "alternatives", "hosts"),
    [
        ([[ALICE]], ["Example.org", "*.example.net"], ("example.org", "*.example.net")),
        ([[attribute(NameOID.COMMON_NAME, "Example.org")]], [], ("example.org",)),
        ([[EXAMPLE]], [], ()),
    ],
)
def test_hosts(relatives, alternatives, hosts):
    """A server's host names are its alternative ones, or the common name where there are none."""
    names = [other.DNSName(name) for name in alternatives]
    assert x509.read(made(*relatives, alternatives=names)).hosts == hosts


def test_pem():
    """Of a PEM text the first certificate counts, whatever stands around it."""
    first, second = (other.load_der_x509_certificate(made([who])) for who in (ALICE, EXAMPLE))
    pem = first.public_bytes(Encoding.PEM) + second.public_bytes(Encoding.PEM)
    text = "Subject: alice\n" + pem.decode().replace("\n", "\r\n")
    assert x509.first(text) == first.public_bytes(Encoding.DER)
    assert x509.first("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n") is None
    assert x509.first("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n") is None


WHOLE = made([EXAMPLE], [ALICE], alternatives=[SPIFFE])


@given(
    st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), max_size=3),
    st.none() | st.integers(0, 300),
)
def test_broken(changes, end):
    """A certificate that is cut off or changed is read or refused with ValueError, no other way."""
    der = bytearray(WHOLE)
    for place, byte in changes:
        der[place] = byte
    try:
        found = x509.read(bytes(der[:end]))
    except ValueError:
        return
    assert isinstance(found.identity, str)
    assert isinstance(found.hosts, tuple)


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x80", b"\x30\x03\x02\x01\x01", b"x" * 50])
def test_no_certificate(der):
    """What is no certificate is told so."""
    with pytest.raises(ValueError, match=r"^no X[.]509 certificate"):
        x509.read(der)
