"""Test clients for applications: `GatewayClient`, `GatewayTestMixin`, and pytest's fixtures.

::

    class ChatTest(GatewayTestMixin, TestCase):
        def test_echo(self):
            with self.client.websocket("/chat/") as ws:
                ws.send_text("hi")
                ws.expect_text("hi")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_gateway.testing.cases import GatewayTestMixin
    from django_gateway.testing.client import GatewayClient
    from django_gateway.testing.conversation import ANY
    from django_gateway.testing.inline import StuckError
    from django_gateway.testing.site import InvalidReplyError

__all__ = ["ANY", "GatewayClient", "GatewayTestMixin", "InvalidReplyError", "StuckError"]

_HOME = {
    "ANY": "conversation",
    "GatewayClient": "client",
    "GatewayTestMixin": "cases",
    "InvalidReplyError": "site",
    "StuckError": "inline",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: pytest loads this package where no Django is wanted."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - as above

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
