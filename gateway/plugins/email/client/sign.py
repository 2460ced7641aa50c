"""DKIM signatures (RFC 6376, RFC 8463) on mail that goes out: relaxed/relaxed.

A mail is signed as it is spooled, while its octets go by: it is never read twice, however large,
and the signature is the same over all tries. The field stands in the envelope and is sent before
the mail.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.core.errors import ConfigError
from gateway.plugins.email.client.config import Dkim
from gateway.plugins.email.client.content import fields

SIGNED: Final = (
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "list-id",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "auto-submitted",
)
"""What is signed where it is there (RFC 6376, section 5.4.1), and what large receivers ask for."""
ONCE: Final = ("from", "to", "cc", "subject", "date", "message-id", "reply-to")
"""What nobody may add a second one of: signed once more than it is there (section 8.15)."""

Sign = Callable[[bytes], bytes]


class Signing:
    """The signature of one mail, while it goes by. This one signs nothing."""

    def feed(self, data: bytes) -> None:
        """Look at octets of the mail, whose lines end with CRLF."""

    def field(self, head: bytes) -> str:
        """Return the DKIM-Signature, with its CRLF; empty for none."""
        return ""


class Signed(Signing):
    """A signature by the key of a domain."""

    def __init__(self, domain: str, key: Key) -> None:
        self._domain = domain
        self._key = key
        self._body = Body()
        self._head = bytearray()
        self._in_body = False

    def feed(self, data: bytes) -> None:
        """Hash the body."""
        if self._in_body:
            self._body.feed(data)
            return
        head = self._head
        since = max(0, len(head) - 3)
        head += data
        end = 0 if head[:2] == b"\r\n" else head.find(b"\r\n\r\n", since) + 2
        if end != 1:
            self._in_body = True
            self._body.feed(bytes(head[end + 2 :]))
            head.clear()

    def field(self, head: bytes) -> str:
        """Return the DKIM-Signature for a header."""
        found = fields(head)
        there = [name for name, _ in found]
        names = [name for name in SIGNED for _ in range(there.count(name))]
        names += [name for name in ONCE if name != "from" or "from" in there]
        text = (
            f"v=1; a={self._key.algorithm}; c=relaxed/relaxed; d={self._domain};"
            f" s={self._key.selector};\r\n t={int(time.time())};"
            f" h={_folded(names)};\r\n bh={self._body.digest()};\r\n b="
        )
        signed = bytearray()
        left = list(found)
        for name in names:
            # The last one first (section 5.4.2); one that is not there adds nothing.
            for index in range(len(left) - 1, -1, -1):
                if left[index][0] == name:
                    signed += relaxed(*left.pop(index)) + b"\r\n"
                    break
        signed += relaxed("dkim-signature", text.replace("\r\n", "").encode())
        value = base64.b64encode(self._key.sign(bytes(signed))).decode()
        pieces = "\r\n  ".join(re.findall(".{1,72}", value))
        return f"DKIM-Signature: {text}{pieces}\r\n"


def _folded(names: list[str]) -> str:
    lines, line = [], ""
    for name in names:
        if len(line) + len(name) > 60:
            lines.append(line)
            line = ""
        line += f"{name}:"
    return "\r\n  ".join([*lines, line])[:-1]


def relaxed(name: str, value: bytes) -> bytes:
    """Return a header field as "relaxed" has it (RFC 6376, section 3.4.2), without CRLF."""
    return name.encode() + b":" + re.sub(rb"[ \t]+", b" ", value).strip()


class Body:
    """The SHA-256 of a body as "relaxed" has it (section 3.4.4), over any cutting."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._rest = b""
        """The line that has not ended."""
        self._empty = 0
        """Empty lines that count only if another one follows."""

    def feed(self, data: bytes) -> None:
        """Hash octets whose lines end with CRLF."""
        data = self._rest + data
        end = data.rfind(b"\r\n") + 2
        if end == 1:
            self._rest = data
            return
        data, self._rest = data[:end], data[end:]
        data = re.sub(rb"[ \t]+", b" ", data).replace(b" \r\n", b"\r\n")
        kept = data.rstrip(b"\r\n")
        if not kept:
            self._empty += len(data) // 2
            return
        self._hash.update(b"\r\n" * self._empty + kept + b"\r\n")
        self._empty = (len(data) - len(kept)) // 2 - 1

    def digest(self) -> str:
        """Return the hash, in base64."""
        if self._rest:
            self.feed(b"\r\n")
        return base64.b64encode(self._hash.digest()).decode()


class Key:
    """A key to sign with. Raises ConfigError that names ``where`` it was to be had."""

    def __init__(self, where: str, dkim: Dkim) -> None:
        self.selector = dkim.selector
        if re.fullmatch(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*", dkim.selector) is None:
            raise ConfigError(f"{where}.selector: {dkim.selector!r} is no name of DNS")
        key = _load(f"{where}.key", dkim.key)
        self.algorithm, self._sign = _signer(f"{where}.key", key)

    def sign(self, data: bytes) -> bytes:
        """Return the signature of what is hashed."""
        return self._sign(data)


def _load(where: str, path: str) -> Any:
    try:
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - only then
            load_pem_private_key,
        )
    except ModuleNotFoundError:
        raise ConfigError(
            f"{where}: to sign takes cryptography; run: pip install 'gateway[email,tls]'"
        ) from None
    try:
        return load_pem_private_key(Path(path).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {path!r} has no key that can be used: {error}") from None


def _signer(where: str, key: Any) -> tuple[str, Sign]:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa  # noqa: PLC0415

    if isinstance(key, ed25519.Ed25519PrivateKey):
        # RFC 8463, section 3: the hash is what is signed.
        return "ed25519-sha256", lambda data: key.sign(hashlib.sha256(data).digest())
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < 1024:
            raise ConfigError(f"{where}: a key of {key.key_size} bits is taken by nobody")
        way = padding.PKCS1v15()
        return "rsa-sha256", lambda data: key.sign(data, way, hashes.SHA256())
    raise ConfigError(f"{where}: a key is RSA or Ed25519")


class Signer:
    """The keys of all domains. Raises ConfigError."""

    def __init__(self, dkim: Mapping[str, Dkim]) -> None:
        self._keys = {
            domain.lower(): Key(f"email.dkim.{domain}", one) for domain, one in dkim.items()
        }

    def begin(self, author: str) -> Signing:
        """Return the signature to be of a mail that is from ``author``: of its domain's key."""
        domain = author.rpartition("@")[2].lower()
        key = self._keys.get(domain)
        return Signing() if key is None else Signed(domain, key)
