"""The inward side is a plugin like any other."""

from __future__ import annotations

from gateway.plugins.email.conformance import EmailSuite


class TestEmail(EmailSuite):
    pass
