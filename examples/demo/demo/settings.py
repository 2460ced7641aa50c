"""Django's settings of the demo: no database, one template."""

from pathlib import Path

SECRET_KEY = "only-for-the-demo"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
TIME_ZONE = "UTC"
ROOT_URLCONF = "demo.urls"
INSTALLED_APPS = ["django.contrib.staticfiles", "django_gateway"]
STATIC_URL = "static/"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
    }
]
CHANNEL_LAYERS = {"default": {"ROUTING": "demo.routing.routes"}}
