"""The application that is served while its processes are killed."""

SECRET_KEY = "tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "chaotic"
USE_TZ = True
MIDDLEWARE: list[str] = []
DATABASES: dict[str, object] = {}
INSTALLED_APPS = ["django_gateway"]
CHANNEL_LAYERS = {"default": {"ROUTING": "chaotic.routing"}}
