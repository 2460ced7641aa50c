"""What a certificate says of itself: names, identity, days of validity. Pure.

Nothing is verified here: that is OpenSSL's work, and done before. Python's own reading
(``getpeercert()``) keeps neither the order nor the quoting that make an identity unambiguous,
and says nothing of a server's own certificate: the library cryptography does (extra ``tls``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography import x509

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s(.*?)-----END CERTIFICATE-----", re.DOTALL)
_CONTROL = re.compile(r"[\x01-\x1f\x7f]")


class Certificate(NamedTuple):
    """What is read of one certificate."""

    identity: str
    """Who it is: the subject as RFC 4514 writes it, the last part first; where there is none the
    first alternative name with its kind (``URI:spiffe://example.org/web``; URI, DNS, email or
    IP); where there is neither the fingerprint (``SHA256:…``).

    The whole subject, since parts of it are not unique: an authority may give two
    organizations a ``CN=alice`` each."""
    hosts: tuple[str, ...]
    """The host names that it is for, in lower case; ``*.example.org`` as it is written."""
    not_before: datetime
    not_after: datetime


def first(pem: str) -> bytes | None:
    """Return the DER of the first certificate in a PEM text, None if it holds none."""
    found = _BLOCK.search(pem)
    if found is None:
        return None
    try:
        return base64.b64decode("".join(found[1].split()), validate=True)
    except binascii.Error:
        return None


def read(der: bytes) -> Certificate:
    """Return what a certificate says.

    Raises ValueError for what is none, ModuleNotFoundError where cryptography is missing.
    """
    from cryptography import x509  # noqa: PLC0415 - optional, and slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it will refuse in a later version
        try:
            certificate = x509.load_der_x509_certificate(der)
            return _read(certificate)
        except (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension) as error:
            raise ValueError(f"no X.509 certificate ({error})") from None


def _read(certificate: x509.Certificate) -> Certificate:
    subject = certificate.subject
    alternatives = list(_alternatives(certificate))
    if subject.rdns:
        identity = _CONTROL.sub(lambda found: f"\\{ord(found[0]):02X}", subject.rfc4514_string())
    elif alternatives:
        identity = ":".join(alternatives[0])
    else:
        identity = f"SHA256:{hashlib.sha256(_der(certificate)).hexdigest()}"
    return Certificate(
        identity,
        tuple(_hosts(subject, alternatives)),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def _alternatives(certificate: x509.Certificate) -> Iterator[tuple[str, str]]:
    """Iterate over the kinds and texts of the alternative names that are text."""
    from cryptography import x509  # noqa: PLC0415 - as above

    kinds: dict[type[x509.GeneralName], str] = {
        x509.UniformResourceIdentifier: "URI",
        x509.DNSName: "DNS",
        x509.RFC822Name: "email",
        x509.IPAddress: "IP",
    }
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return
    for name in extension.value:
        kind = kinds.get(type(name))
        if kind is not None:
            yield kind, str(name.value)


def _hosts(subject: x509.Name, alternatives: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Return the host names. RFC 6125 section 6.4.4: a common name counts where no other is."""
    from cryptography.x509 import NameOID  # noqa: PLC0415 - as above

    names = [name for kind, name in alternatives if kind == "DNS"]
    if not names:
        common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(attribute.value) for attribute in common if attribute.value]
    return (name.lower() for name in names)


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - as above

    return certificate.public_bytes(Encoding.DER)
