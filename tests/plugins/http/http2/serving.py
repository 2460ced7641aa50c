"""A site for HTTP/2, with a consumer that does what the path says."""

from __future__ import annotations

from typing import Any

from tests.plugins.http.serving import Served


def echo(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Answer with the path, or the body of a POST; or not at all."""
    path = message["path"]
    if path == "/silence":
        return []
    content = message["body"] if message["method"] == "POST" else path.encode()
    return [{"status": 200, "headers": [], "content": content}]


CONSUMERS = {"http.request": echo, "http.disconnect": lambda _: None}


def faults(site: Served, fault: str) -> int:
    """Return how often a fault was counted."""
    return int(site.metrics.snapshot().get(f'gateway_http_faults_total{{why="{fault}"}}', 0))


def leftovers(site: Served) -> list[Any]:
    """Return the streams of all connections that are not over."""
    return [s for c in list(site.plugin._port.connections) for s in getattr(c, "streams", {})]
