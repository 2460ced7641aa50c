"""An application that writes down what a broker has for it."""

SECRET_KEY = "tests only"
ROOT_URLCONF = "urls"
INSTALLED_APPS = ["django_gateway"]
CHANNEL_LAYERS = {"default": {"ROUTING": "routing.routing"}}
