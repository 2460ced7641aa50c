"""A site for HTTP/2, with a consumer that does what the path says."""

from __future__ import annotations

from typing import Any

from gateway.core.layers.base import REJECTED, Outcome
from tests.certificates import Authority
from tests.plugins.http.serving import Client, Served


def answer(message: dict[str, Any]) -> Any:
    """Do what the path says; else answer with it, or with the body of a POST."""
    match message["path"]:
        case "/reject":
            return Outcome(REJECTED, code=409, reason="not now")
        case "/fail":
            raise ValueError("a consumer's fault")
        case "/inject":
            return [{"status": 200, "headers": [(b"a", b"b\r\nc: d")], "content": b""}]
        case "/begin":
            return [{"status": 200, "headers": [], "content": b"half", "more_content": True}]
        case "/break":
            begun = {"status": 200, "headers": [], "content": b"half", "more_content": True}
            return [begun, {"offset": 3, "content": b"wrong"}]
        case "/bytes":
            return [{"status": 200, "headers": [], "content": b"x" * int(message["query_string"])}]
        case "/large":
            return [{"status": 200, "headers": [], "content": b"x" * 300_000}]
        case "/status":
            status = int(message["query_string"])
            return [{"status": status, "headers": [(b"x-a", b"b")], "content": b"content"}]
        case "/hop":
            hop = [
                (b"Connection", b"close"),
                (b"Transfer-Encoding", b"chunked"),
                (b"Upgrade", b"x"),
            ]
            hop += [(b"Keep-Alive", b"1"), (b"X-Own", b"Yes"), (b"Date", b"today")]
            return [{"status": 200, "headers": hop, "content": b""}]
        case "/silence":
            return []
    content = message["body"] if message["method"] == "POST" else message["path"].encode()
    return [{"status": 200, "headers": [], "content": content}]


CONSUMERS = {"http.request": answer, "http.disconnect": lambda _: None}


def faults(site: Served, fault: str) -> int:
    """Return how often a fault was counted."""
    return int(site.metrics.snapshot().get(f'gateway_http_faults_total{{why="{fault}"}}', 0))


def leftovers(site: Served) -> list[Any]:
    """Return the streams of all connections that are not over."""
    return [s for c in list(site.plugin._port.connections) for s in getattr(c, "streams", {})]


def later(site: Served, before: int, kind: str = "request") -> list[dict[str, Any]]:
    """Return the messages of a kind that came after the first ``before``."""
    return site.messages(f"http.{kind}")[before:]


class Secure(Served):
    """A site with TLS."""

    def __init__(self, authority: Authority, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, listen="tls:127.0.0.1:0", tls=authority.tls(), **kwargs)
        self._authority = authority

    def connect(self, *alpn: str) -> Client:
        """Return a new connection, over which HTTP/1 is spoken if nothing is agreed on."""
        sock = super().connect().sock
        context = self._authority.client(None, *alpn)
        return Client(context.wrap_socket(sock, server_hostname="localhost"))


def connect2(served: Served) -> Any:
    """Return the socket of a new connection for HTTP/2."""
    return (served.connect("h2") if isinstance(served, Secure) else served.connect()).sock
