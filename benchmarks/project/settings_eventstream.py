"""The same project with django-eventstream, which keeps no events and sends within the process."""

from settings import *  # noqa: F403 - a settings module extends another

INSTALLED_APPS = [*INSTALLED_APPS, "django_eventstream"]  # noqa: F405 - from settings
ROOT_URLCONF = "urls_eventstream"
