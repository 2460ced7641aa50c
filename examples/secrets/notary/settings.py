"""The same settings for all workers; what a worker takes is said where it is started."""

SECRET_KEY = "only-for-the-example"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
TIME_ZONE = "UTC"
ROOT_URLCONF = "notary.urls"
INSTALLED_APPS = ["django_gateway"]
CHANNEL_LAYERS = {"default": {"ROUTING": "notary.routing.routes"}}
