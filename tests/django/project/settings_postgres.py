"""The same on a PostgreSQL of the test's own, with connections that are kept."""

import os

from tests.django.project.settings import *  # noqa: F403 - settings are made so

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("PGHOST", ""),
        "NAME": "postgres",
        "USER": "gateway",
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": os.environ.get("HEALTH_CHECKS") == "1",
        "OPTIONS": {"application_name": "worker"},
    }
}
