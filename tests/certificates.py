"""An authority, and certificates of its making, as files."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import Any

import trustme

from gateway.core.config import TlsSettings
from gateway.core.tls import Tls

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Authority:
    """Signs certificates, and keeps them as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA()
        self.path = self._write("ca.pem", self._ca.cert_pem)
        """The authority's own certificate."""

    def _write(self, name: str, *blobs: trustme.Blob) -> str:
        path = self.folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        path.chmod(0o600)
        return str(path)

    def issue(self, name: str, *hosts: str, **more: Any) -> str:
        """Make ``NAME.pem``, with certificate and key in it; return its path."""
        more.setdefault("not_after", NOW + 30 * DAY)
        made = self._ca.issue_cert(*hosts, **more)
        return self._write(f"{name}.pem", made.private_key_and_cert_chain_pem)

    def issue_pair(self, name: str, *hosts: str, **more: Any) -> tuple[str, str]:
        """Make ``NAME.crt`` and ``NAME.key``; return their paths."""
        more.setdefault("not_after", NOW + 30 * DAY)
        made = self._ca.issue_cert(*hosts, **more)
        return (
            self._write(f"{name}.crt", *made.cert_chain_pems),
            self._write(f"{name}.key", made.private_key_pem),
        )

    def tls(self, certificate: Any = None, **settings: Any) -> Tls:
        """Return the TLS of a gateway that shows ``certificate`` (default: for localhost)."""
        if certificate is None:
            certificate = self.issue("server", "localhost", "127.0.0.1", "::1")
        return Tls(TlsSettings(certificate=certificate, **settings))

    def client(self, certificate: str | None = None, *alpn: str) -> ssl.SSLContext:
        """Return what a client needs that trusts this authority, and has a certificate or not."""
        context = ssl.create_default_context(cafile=self.path)
        if certificate is not None:
            context.load_cert_chain(certificate)
        if alpn:
            context.set_alpn_protocols(alpn)
        return context
