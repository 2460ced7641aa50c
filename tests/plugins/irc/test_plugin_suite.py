"""The server role is a plugin like any other."""

from __future__ import annotations

from gateway.plugins.irc.conformance import IrcSuite


class TestIrc(IrcSuite):
    pass
