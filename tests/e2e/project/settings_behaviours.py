"""The application whose behaviours test clients have to show just as a real gateway does."""

from settings import *  # noqa: F403 - settings are made so

ROOT_URLCONF = "behaviours"
CHANNEL_LAYERS = {"default": {"ROUTING": "behaviours.routing"}}
