"""The same project under the gateway. ``BENCH_CONSUMERS`` names its routing table."""

import os

from settings import *  # noqa: F403 - a settings module extends another

INSTALLED_APPS = [*INSTALLED_APPS, "django_gateway"]  # noqa: F405 - from settings
CHANNEL_LAYERS = {"default": {"ROUTING": "routing." + os.environ["BENCH_CONSUMERS"]}}
ROOT_URLCONF = "urls_gateway"
