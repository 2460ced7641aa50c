"""The site's certificates as TLS contexts, and how they are loaded again while it runs.

A plugin takes an `Offer` at its start and begins every connection with the context that the
offer holds at that moment::

    offer = context.tls.offer(["http/1.1"])
    await offer.accept(Protocol, sock, loop)

`Tls.reload` makes wholly new contexts and then puts them into the offers: new connections get
the new certificate, open ones are not touched, nobody is refused meanwhile, and where a file is
broken everything stays as it was. A new context has new keys for session tickets, so a
session that an older client certificate began is not resumed past a new ``client_ca``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import socket
from typing import Any, Final, NamedTuple

from gateway.core import x509
from gateway.core.config import TlsSettings
from gateway.core.errors import ConfigError
from gateway.core.metrics import Metrics

log = logging.getLogger("gateway.tls")

SETTLE: Final = 1.0
"""Seconds that changed files have to stay as they are before they are read: certificate and key
are not written at the same moment."""
SOON: Final = timedelta(days=7)
"""How long before its end a certificate is warned of: renewals are due weeks before."""
WATER: Final = 65536
"""Bytes that wait for a client before its protocol is told to pause, as without TLS; the
loops' own limit with TLS is eight times that."""
PIECE: Final = 65536

_KEY = re.compile(r"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----")
_REVOCATIONS = "-----BEGIN X509 CRL-----"
_SOCKET: ContextVar[socket] = ContextVar("_SOCKET")
"""The socket of the handshake that begins in this context."""
_MISFITS: Final = frozenset(("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"))
_WEAK: Final = frozenset(("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"))


class Pair(NamedTuple):
    """One certificate with its key, as far as it was read."""

    certificate: str
    key: str
    says: x509.Certificate


class Offer:
    """What connections of one kind begin with. ``context`` is the present one."""

    __slots__ = ("alpn", "context", "handshake_timeout", "max_handshakes")

    def __init__(
        self, alpn: tuple[str, ...], context: ssl.SSLContext, settings: TlsSettings
    ) -> None:
        self.alpn = alpn
        self.context = context
        self.handshake_timeout = settings.handshake_timeout
        self.max_handshakes = settings.max_handshakes

    async def accept(
        self,
        factory: Callable[[], asyncio.Protocol],
        sock: socket,
        loop: asyncio.AbstractEventLoop,
        shutdown_timeout: float,
    ) -> None:
        """Shake hands on an accepted socket; the protocol is connected when it is done.

        Raises OSError (ssl.SSLError is one) where that fails; the transport is closed then.
        ``shutdown_timeout`` bounds a close, as the last resort behind the protocol's own.
        """
        _SOCKET.set(sock)
        await loop.connect_accepted_socket(
            factory,
            sock,
            ssl=self.context,
            # Who calls has a deadline of its own, which began with the accept.
            ssl_handshake_timeout=self.handshake_timeout + 1,
            ssl_shutdown_timeout=shutdown_timeout,
        )


def tune(transport: asyncio.Transport) -> None:
    """Have a TLS transport buffer as one without TLS does, in both directions."""
    transport.set_write_buffer_limits(WATER)
    # A paused reader leaves what comes in the socket: there it holds the client back, and what
    # is left of it does not get lost when the client closes.
    transport.set_read_buffer_limits(1, 0)  # type: ignore[attr-defined] # of TLS transports alone


class Tls:
    """The certificates of one gateway process. Reads the files; raises ConfigError for them."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._offers: list[Offer] = []
        self._reloading = asyncio.Lock()
        self._seen = self._look()
        self.pairs = read_pairs(settings)
        make_context(settings, self.pairs, ())
        self._metrics = Metrics()

    def count_in(self, metrics: Metrics) -> None:
        """Count there from now on."""
        self._metrics = metrics
        metrics.gauge("gateway_tls_expiry_timestamp_seconds", self._expiry)

    def offer(self, alpn: Sequence[str] = ()) -> Offer:
        """Return what connections begin with that speak one of these protocols (RFC 7301)."""
        names = tuple(alpn)
        offer = Offer(names, make_context(self._settings, self.pairs, names), self._settings)
        self._offers.append(offer)
        return offer

    async def reload(self) -> bool:
        """Load everything again, or, where a file is broken, nothing; say which.

        What is wrong is logged and counted.
        """
        async with self._reloading:
            self._seen = await asyncio.to_thread(self._look)
            try:
                pairs, contexts = await asyncio.to_thread(self._load)
            except ConfigError as error:
                log.error("%s; the certificate in use stays", error)  # noqa: TRY400 - no fault of ours
                self._metrics.count("gateway_tls_reloads_total", result="failed")
                return False
            self.pairs = pairs
            for offer, context in zip(self._offers, contexts, strict=True):
                offer.context = context
        self._metrics.count("gateway_tls_reloads_total", result="done")
        for pair in pairs:
            log.info("%s is loaded, valid until %s", pair.certificate, _day(pair.says.not_after))
        for text in self.warnings():
            log.warning("%s", text)
        return True

    def _load(self) -> tuple[tuple[Pair, ...], list[ssl.SSLContext]]:
        pairs = read_pairs(self._settings)
        contexts = [make_context(self._settings, pairs, offer.alpn) for offer in self._offers]
        return pairs, contexts

    async def watch(self) -> None:
        """Load the files again whenever they change, without end; never, for ``watch`` 0."""
        every = self._settings.watch
        while every:
            await asyncio.sleep(every)
            found = await asyncio.to_thread(self._look)
            if found == self._seen:
                continue
            while True:
                await asyncio.sleep(min(SETTLE, every))
                again = await asyncio.to_thread(self._look)
                if again == found:
                    break
                found = again
            await self.reload()

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return what tells whether a file is another than before, for each file."""
        settings = self._settings
        paths = [*settings.certificates(), *settings.keys()]
        if settings.client_ca:
            paths.append(settings.client_ca)
        found: list[tuple[int, int, int] | None] = []
        for path in paths:
            try:
                status = Path(path).stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)

    def _expiry(self) -> float:
        return min(pair.says.not_after for pair in self.pairs).timestamp()

    def warnings(self) -> Iterator[str]:
        """Iterate over what an operator should know of the certificates in use."""
        now = datetime.now(UTC)
        for pair in self.pairs:
            certificate, says = pair.certificate, pair.says
            if says.not_after < now:
                yield (
                    f"tls.certificate: {certificate!r} expired on {_day(says.not_after)}: clients "
                    "refuse it; renew it"
                )
            elif says.not_after < now + SOON:
                yield f"tls.certificate: {certificate!r} expires on {_day(says.not_after)}"
            if says.not_before > now:
                yield (
                    f"tls.certificate: {certificate!r} is valid from {_day(says.not_before)} on: "
                    "clients refuse it until then; is the clock right?"
                )
            with contextlib.suppress(OSError):
                if Path(pair.key).stat().st_mode & 0o004:
                    yield (
                        f"tls.key: {pair.key!r} can be read by every user of this machine; "
                        "chmod 600 keeps it to its owner"
                    )


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


# ---------------------------------------------------------------- files


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
        made.socket = _SOCKET.get()  # type: ignore[attr-defined]
        return made
