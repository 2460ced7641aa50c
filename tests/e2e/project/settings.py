"""The application that the end-to-end tests serve."""

SECRET_KEY = "tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
USE_TZ = True
MIDDLEWARE: list[str] = []
DATABASES: dict[str, object] = {}
INSTALLED_APPS = ["django_gateway"]
CHANNEL_LAYERS = {"default": {"ROUTING": "routing.routing"}}
