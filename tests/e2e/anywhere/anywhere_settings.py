"""A project of which several programs run at once: gateway, task queue, another server."""

import os

SECRET_KEY = "tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "anywhere_urls"
USE_TZ = True
MIDDLEWARE: list[str] = []
DATABASES: dict[str, object] = {}
INSTALLED_APPS = ["django_gateway", "anywhere_app"]
CHANNEL_LAYERS = {"default": {"ROUTING": "anywhere_urls.routing"}}

CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": os.environ.get("BROKER", "/nonexistent"),
    "data_folder_out": os.environ.get("BROKER", "/nonexistent"),
    "control_folder": os.environ.get("BROKER", "/nonexistent"),
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
