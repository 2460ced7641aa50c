"""The Django app, for its checks and its commands."""

from __future__ import annotations

from django.apps import AppConfig


class DjangoGatewayConfig(AppConfig):
    """``INSTALLED_APPS = ["django_gateway", …]``: optional, worth it for ``manage.py check``."""

    name = "django_gateway"
    verbose_name = "Gateway"

    def ready(self) -> None:
        """Register the checks, and hear of log-outs in whatever process."""
        from django_gateway import checks, endings  # noqa: F401, PLC0415 - checks registers itself

        endings.listen()
