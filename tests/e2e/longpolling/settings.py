"""The application that the end-to-end tests of long-polling serve."""

SECRET_KEY = "tests only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "routing"
USE_TZ = True
MIDDLEWARE: list[str] = []
DATABASES: dict[str, object] = {}
INSTALLED_APPS = ["django_gateway"]
CHANNEL_LAYERS = {"default": {"ROUTING": "routing.routing"}}
