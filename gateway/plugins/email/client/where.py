"""Where the spool is."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.core.project import VARIABLE, find_project
from gateway.plugins.email.client.config import Outgoing


def spool_of(config: Outgoing) -> Path:
    """Return the directory of the spool: relative to the project's directory."""
    return find_project(os.environ.get(VARIABLE)).directory / config.spool
