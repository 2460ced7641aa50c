"""What ``manage.py runserver`` is made of: its log, its socket, its settings."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from django_gateway.asgi import DjangoApplication
from django_gateway.handler import Views
from gateway.core.access import AccessLog, Asked, Record
from gateway.core.boot import Boot, Options, boot
from gateway.core.config import LogSettings
from gateway.core.escape import escaped
from gateway.core.listen import BACKLOG
from gateway.core.session import Peer

log = logging.getLogger("django.server")

GRACE: Final = 0.2
"""Seconds that requests and connections get to finish at the end and at a reload: enough for the
words of farewell. Django's reloader kills its child after a quarter of a second."""

LABELS: Final = {"http": "HTTP", "websocket": "WebSocket"}
"""How a protocol is called in a line, where it is not in capitals."""


def load(*, workers: bool) -> Boot:
    """Return the project's settings, http among its plugins in any case. Raises GatewayError."""
    options = Options(workers="0" if workers else "none")
    found = boot(options)
    if "http" in found.settings.tables:
        return found
    names = ",".join(("http", *found.settings.plugins))
    return boot(msgspec.structs.replace(options, plugins=names))


def says_where(found: Boot) -> bool:
    """Return whether the project's settings say where http listens."""
    rows = found.sources.rows("http", found.settings.tables["http"])
    return any(row.key == "http.listen" and row.origin != "default" for row in rows)


def fitted(found: Boot, views: Views, sock: socket.socket | None, *, threading: bool) -> Boot:
    """Return the settings as one process in development has them; ``sock`` is http's."""
    settings = found.settings
    tables = dict(settings.tables)
    if sock is not None:
        tables["http"] = msgspec.structs.replace(tables["http"], listen=f"fd:{sock.detach()}")
    workers = settings.workers
    settings = msgspec.structs.replace(
        settings,
        tables=tables,
        gateway=msgspec.structs.replace(
            settings.gateway, count=1, grace=GRACE, reconnect_spread=0.0
        ),
        workers=msgspec.structs.replace(
            workers, grace=GRACE, threads=workers.threads if threading else 1
        ),
    )
    return msgspec.structs.replace(found, settings=settings, application=DjangoApplication(views))


class Server:
    """What Django's command takes for its WSGI server: binds as that does, and runs ``app``."""

    binds = True
    """Whether Django's ``addrport`` says where http listens."""

    def __init__(
        self, address: tuple[str, int], handler_class: type, *, ipv6: bool = False
    ) -> None:
        self.socket: socket.socket | None = None
        self.server_port = 0
        self._app: Callable[[socket.socket | None], None]
        if not self.binds:
            return
        self.socket = sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        self.server_port = sock.getsockname()[1]

    def set_app(self, app: Callable[[socket.socket | None], None]) -> None:
        """Take what is to be run."""
        self._app = app

    def serve_forever(self) -> None:
        """Run it."""
        self._app(self.socket)


class Unbound(Server):
    """The same where the gateway's own settings say where http listens."""

    binds = False


class RequestLog(AccessLog):
    """A line for each request, as Django's server writes it, and for what connections do."""

    hears_openings = True

    def __init__(self) -> None:
        super().__init__(LogSettings(), lambda _: None)

    def asked(self, head: Any) -> Asked:
        """Return what a request's head says, its query too: a developer wants to see it."""
        asked = super().asked(head)
        query: bytes = getattr(head, "query_string", b"")  # one that was refused may have none yet
        if not query:
            return asked
        path = f"{asked.path}?{query.decode('latin-1')}"
        return Asked(asked.method, path, asked.http_version)

    def opened(self, protocol: str, peer: Peer, path: str) -> None:
        """Log that a connection was accepted."""
        _line(protocol, "CONNECT", path, peer.client)

    def tell(self, record: Record) -> None:
        """Log a request, or the end of a connection."""
        if record.protocol != "http":
            what = "REJECT" if record.end == "refused" else "DISCONNECT"
            if record.code:
                what = f"{what} {escaped(str(record.code))}"
            _line(record.protocol, what, record.path, record.client)
            return
        code = record.code if isinstance(record.code, int) else 0
        level = logging.INFO
        if code >= 500:
            level = logging.ERROR
        elif code >= 400:
            level = logging.WARNING
        asked = "-"  # what came was no request
        if record.method:
            asked = f"{record.method} {record.path or '-'} HTTP/{record.http_version}"
        log.log(
            level,
            '"%s" %s %s',
            escaped(asked),
            code or "-",
            record.sent,
            extra=_now() | ({"status_code": code} if code else {}),
        )


def _line(protocol: str, what: str, path: str, client: tuple[str, int] | None) -> None:
    whom: Any = "-" if client is None else f"{client[0]}:{client[1]}"
    label = LABELS.get(protocol, protocol.upper())
    log.info("%s %s %s [%s]", label, what, escaped(path) or "-", escaped(whom), extra=_now())


def _now() -> dict[str, Any]:
    """Return the time as Django's server gives it to the formatter, without a fraction."""
    return {"server_time": time.strftime("%d/%b/%Y %H:%M:%S")}
