"""The application that the browser client is judged with."""

SECRET_KEY = "tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
USE_TZ = True
MIDDLEWARE: list[str] = []
DATABASES: dict[str, object] = {}
INSTALLED_APPS = ["django_gateway", "django.contrib.staticfiles"]
STATIC_URL = "/static/"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": ["templates"]}]
CHANNEL_LAYERS = {"default": {"ROUTING": "routing.routing"}}
