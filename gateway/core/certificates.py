"""Certificates and keys: read from files, checked, made into TLS contexts.

Every error is a `ConfigError` that names the setting, the file and the remedy.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket
from typing import Any, Final, NamedTuple

from gateway.core import x509
from gateway.core.config import TlsSettings
from gateway.core.errors import ConfigError

SOON: Final = timedelta(days=7)
"""How long before its end a certificate is warned of: renewals are due weeks before."""
PIECE: Final = 65536
"""Bytes of input that are dropped at once at the end of a connection."""
SOCKET: Final[ContextVar[socket]] = ContextVar("SOCKET")
"""The socket of the handshake that begins in this context."""

_KEY = re.compile(r"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----")
_REVOCATIONS: Final = "-----BEGIN X509 CRL-----"
_MISFITS: Final = frozenset(("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"))
_WEAK: Final = frozenset(("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"))


class Pair(NamedTuple):
    """One certificate with its key, as far as it was read."""

    certificate: str
    """The path of its file."""
    key: str
    """The path of its key's file."""
    says: x509.Certificate

    def warnings(self) -> Iterator[str]:
        """Iterate over what an operator should know although it can be used."""
        now = datetime.now(UTC)
        certificate, says = self.certificate, self.says
        if says.not_after < now:
            yield (
                f"tls.certificate: {certificate!r} expired on {day(says.not_after)}: clients "
                "refuse it; renew it"
            )
        elif says.not_after < now + SOON:
            yield f"tls.certificate: {certificate!r} expires on {day(says.not_after)}"
        if says.not_before > now:
            yield (
                f"tls.certificate: {certificate!r} is valid from {day(says.not_before)} on: "
                "clients refuse it until then; is the clock right?"
            )
        with contextlib.suppress(OSError):
            if Path(self.key).stat().st_mode & 0o004:
                yield (
                    f"tls.key: {self.key!r} can be read by every user of this machine; "
                    "chmod 600 keeps it to its owner"
                )


def day(moment: datetime) -> str:
    """Return a day as the log shows it."""
    return f"{moment:%Y-%m-%d}"


# ---------------------------------------------------------------- files


def checked(settings: TlsSettings) -> tuple[Pair, ...]:
    """Return certificates and keys that can be used. Raises ConfigError for what cannot."""
    pairs = read_pairs(settings)
    make_context(settings, pairs, ())
    return pairs


def read_pairs(settings: TlsSettings) -> tuple[Pair, ...]:
    """Return certificates and keys of the settings. Raises ConfigError for what is wrong."""
    certificates = settings.certificates()
    keys = settings.keys() or certificates
    pairs = []
    for certificate, key in zip(certificates, keys, strict=True):
        text = _text(certificate, "tls.certificate")
        der = x509.first(text)
        if der is None:
            raise _no_certificate("tls.certificate", certificate, text)
        try:
            says = x509.read(der)
        except ValueError as error:
            raise ConfigError(f"tls.certificate: {certificate!r}: {error}") from None
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"tls.certificate: TLS needs {error.name!r}; install it with: "
                "pip install 'gateway[tls]'"
            ) from None
        _check_key(certificate, key, text if key == certificate else _text(key, "tls.key"))
        pairs.append(Pair(certificate, key, says))
    return tuple(pairs)


def _text(path: str, setting: str) -> str:
    try:
        return Path(path).read_text(encoding="latin-1")
    except FileNotFoundError:
        raise ConfigError(f"{setting}: {path!r}: there is no such file") from None
    except PermissionError:
        raise ConfigError(
            f"{setting}: {path!r}: permission denied; let the user that runs the gateway read it"
        ) from None
    except OSError as error:
        raise ConfigError(f"{setting}: {path!r}: cannot be read: {error.strerror}") from None


def _no_certificate(setting: str, path: str, text: str) -> ConfigError:
    if text.startswith("0"):  # how DER and PKCS #12 begin
        return ConfigError(
            f"{setting}: {path!r} is not PEM but binary; convert it with openssl x509 -inform der "
            "(or openssl pkcs12)"
        )
    return ConfigError(
        f"{setting}: {path!r} holds no certificate; it has a block that begins with "
        "-----BEGIN CERTIFICATE-----"
    )


def _check_key(certificate: str, key: str, text: str) -> None:
    found = _KEY.search(text)
    if found is None:
        where = (
            "name its file with tls.key, or put it there"
            if key == certificate
            else ("it has a block that begins with -----BEGIN PRIVATE KEY-----")
        )
        raise ConfigError(f"tls.key: {key!r} holds no private key; {where}")
    if "ENCRYPTED" in found[1] or "Proc-Type: 4,ENCRYPTED" in text:
        raise ConfigError(
            f"tls.key: {key!r} is encrypted, and the gateway has nobody to ask for the passphrase; "
            "decrypt it with openssl pkey, and let only the gateway's user read it"
        )


# ---------------------------------------------------------------- contexts


def make_context(
    settings: TlsSettings, pairs: Sequence[Pair], alpn: Sequence[str]
) -> ssl.SSLContext:
    """Return the context of the first pair, which hands over to the others by host name.

    Raises ConfigError for what OpenSSL does not take.
    """
    contexts = [_context(settings, pair, alpn) for pair in pairs]
    first = contexts[0]
    if len(contexts) > 1:
        hosts: dict[str, ssl.SSLContext] = {}
        for pair, context in zip(pairs, contexts, strict=True):
            for host in pair.says.hosts:
                hosts.setdefault(host, context)

        def choose(handshake: Any, name: str | None, _: ssl.SSLContext) -> None:
            host = (name or "").lower()
            # RFC 6125 section 6.4.3: "*" stands for one label, the leftmost.
            found = hosts.get(host) or hosts.get("*." + host.partition(".")[2])
            if found is not None:
                handshake.context = found

        first.sni_callback = choose
    return first


def _context(settings: TlsSettings, pair: Pair, alpn: Sequence[str]) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = (
        ssl.TLSVersion.TLSv1_3 if settings.minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    )
    context.options |= (
        ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    )
    try:
        context.set_ciphers(settings.ciphers)
    except ssl.SSLError:
        raise ConfigError(
            f"tls.ciphers: {settings.ciphers!r}: OpenSSL knows no cipher of these names"
        ) from None
    _load_pair(context, pair)
    if settings.client_ca:
        _load_authorities(context, settings)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def _load_pair(context: ssl.SSLContext, pair: Pair) -> None:
    try:
        # The password is never right, and never asked for on the terminal.
        context.load_cert_chain(pair.certificate, pair.key, password="")
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        if reason in _MISFITS:
            raise ConfigError(
                f"tls.key: {pair.key!r} is not the key of the first certificate in "
                f"{pair.certificate!r}; the site's own certificate comes first there"
            ) from None
        if reason in _WEAK:
            raise ConfigError(
                f"tls.certificate: {pair.certificate!r} is too weak ({reason}); have one made for "
                "a key of RSA with 2048 bits or of P-256"
            ) from None
        raise ConfigError(
            f"tls.certificate: {pair.certificate!r} with tls.key {pair.key!r}: OpenSSL cannot use "
            f"them ({reason})"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"tls.certificate: {pair.certificate!r}: cannot be read: {error.strerror}"
        ) from None


def _load_authorities(context: ssl.SSLContext, settings: TlsSettings) -> None:
    path = settings.client_ca
    text = _text(path, "tls.client_ca")
    if x509.first(text) is None:
        raise _no_certificate("tls.client_ca", path, text)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"tls.client_ca: {path!r}: OpenSSL cannot use it ({error})") from None
    context.verify_mode = (
        ssl.CERT_REQUIRED if settings.client_certificates == "required" else ssl.CERT_OPTIONAL
    )
    if _REVOCATIONS in text:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


class _Handshake(ssl.SSLObject):
    """A connection's TLS, with two things that the loops leave out."""

    outgoing: ssl.MemoryBIO | None
    socket: socket | None

    def do_handshake(self) -> None:
        """Go on; where it fails, tell the client why.

        RFC 8446 section 6.2: whoever ends a handshake says so with an alert. OpenSSL has it
        ready, but asyncio and uvloop close the socket without a look.
        """
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            if self.outgoing is not None and self.socket is not None:
                with contextlib.suppress(OSError):
                    self.socket.send(self.outgoing.read())
            raise
        self.outgoing = self.socket = None

    def unwrap(self) -> None:
        """Say that nothing more comes from here, and hear the same.

        What the client still sent before is dropped first, as uvloop does: asyncio takes it for
        a fault and resets the connection, which can take our last words back.
        """
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while self.read(PIECE):
                pass
        super().unwrap()


class _Context(ssl.SSLContext):
    """Makes `_Handshake`s that know their socket."""

    sslobject_class = _Handshake

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **more: Any
    ) -> Any:
        """Return the TLS of a new connection."""
        made = super().wrap_bio(incoming, outgoing, *args, **more)
        made.outgoing = outgoing  # type: ignore[attr-defined] # a _Handshake
        made.socket = SOCKET.get()  # type: ignore[attr-defined]
        return made
