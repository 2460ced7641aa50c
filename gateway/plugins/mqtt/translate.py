"""What both roles say and hear, as messages of the application. Pure."""

from __future__ import annotations
