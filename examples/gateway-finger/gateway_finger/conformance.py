"""What finger sounds like: the rest of its tests is `PluginSuite`'s."""

from __future__ import annotations

from gateway.testing.plugin_suite import PluginSuite, Turn

from gateway_finger import FingerPlugin


class FingerSuite(PluginSuite):
    """One query, one answer, and the end."""

    plugin = FingerPlugin
    conversation = (
        Turn(
            b"/W Alice@here\r\n",
            ("query", {"user": "Alice", "hosts": ["here"], "verbose": True}),
            replies=({"text": "Login: alice\nOn since noon"},),
            answer=b"Login: alice\r\nOn since noon\r\n",
        ),
    )
    question = b"bob\r\n"
    answers = {
        "accepted": b"",
        "rejected": b"no\r\n",
        "failed": b"try again later\r\n",
        "released": b"try again later\r\n",
        "unrouted": b"nobody answers here\r\n",
    }
    closes = frozenset(
        ("accepted", "rejected", "failed", "released", "unrouted", "full", "unavailable")
    )
    full = b"try again later\r\n"
    too_much = b"x" * 10_000
    pipelined = False
