"""One certificate for every server under test: ECDSA P-256, as issuers give it today."""

from __future__ import annotations

import atexit
import ssl
import tempfile
from functools import cache
from pathlib import Path


@cache
def files() -> tuple[str, str]:
    """Return the paths of the certificate and its key, which are gone when the process ends."""
    import trustme

    folder = tempfile.TemporaryDirectory(prefix="bench-tls-")
    atexit.register(folder.cleanup)
    made = trustme.CA().issue_cert("localhost", "127.0.0.1")
    certificate, key = (Path(folder.name) / name for name in ("certificate.pem", "key.pem"))
    certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    made.private_key_pem.write_to_path(str(key))
    return str(certificate), str(key)


@cache
def client() -> ssl.SSLContext:
    """Return how the clients speak TLS: 1.3, HTTP/1.1 offered, the server's name left unchecked."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context
