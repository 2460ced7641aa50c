"""Decorators of views."""

from __future__ import annotations

from django_gateway.body import stream_body

__all__ = ["stream_body"]
