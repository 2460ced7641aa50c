"""An application that answers in rooms."""

SECRET_KEY = "tests only"
ROOT_URLCONF = "urls"
INSTALLED_APPS = ["django_gateway"]
CHANNEL_LAYERS = {"default": {"ROUTING": "routing.routing"}}
urlpatterns = []
