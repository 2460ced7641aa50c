"""The same project with long-polling by views of its own."""

from settings import *  # noqa: F403 - a settings module extends another

ROOT_URLCONF = "urls_polls"
