"""`Target`: whom a client connects to, and how, as settings say it. Nothing is connected here."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.core import listen
from gateway.core.errors import ConfigError

PEER: Final = "expected 'host:port', 'tls:host:port' or 'unix:/path' of a peer"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A peer to be connected to: at ``host`` and ``port``, or at the Unix socket ``path``."""

    name: str = ""
    """What addresses, metrics and health call it; with an empty name it is the only one."""
    host: str = ""
    port: int = 0
    path: str = ""
    tls: bool = False
    """Whether to speak TLS, and verify that the peer's certificate is good for ``host``."""

    @property
    def label(self) -> str:
        """Its name, else where it is."""
        return self.name or self.path or f"{self.host}:{self.port}"


def target(text: str, setting: str = "connect", name: str = "") -> Target:
    """Return what an endpoint string of a peer means: ``tls:host:port``, ``unix:/path``, ….

    Raises ConfigError that names ``setting``.
    """
    words = text.strip()
    tls = words[:4].lower() == "tls:"
    rest = words[4:].strip() if tls else words
    if not rest:
        raise ConfigError(f"{setting}: {text!r}: {PEER}")
    try:
        found = listen.parse(rest, setting, PEER)
    except ConfigError as error:
        reason = str(error).removeprefix(f"{setting}: {rest!r}: ")
        raise ConfigError(f"{setting}: {text!r}: {reason}") from None
    if found.tls or found.kind not in {"tcp", "unix"} or (found.kind == "tcp" and not found.port):
        raise ConfigError(f"{setting}: {text!r}: {PEER}")
    return Target(name=name, host=found.host, port=found.port, path=found.path, tls=tls)


def client_tls(where: str, config: Any) -> ssl.SSLContext:
    """Return what TLS is spoken with, as the settings ``where`` say.

    They may have ``ca`` and ``verify`` (`ClientPlugin`), and PEM files ``certificate`` and ``key``:
    what we show. Raises ConfigError that names the setting.
    """
    context = ssl.create_default_context()
    ca, certificate = getattr(config, "ca", ""), getattr(config, "certificate", "")
    if ca:
        try:
            context.load_verify_locations(Path(ca))
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{where}.ca: {ca!r}: {error}") from None
    if certificate:
        try:
            # Without a password a key that has one fails, and asks nobody at a terminal.
            context.load_cert_chain(certificate, config.key or None, password="")
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{where}.certificate: {certificate!r}: {error}") from None
    if not getattr(config, "verify", True):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
