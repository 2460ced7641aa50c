"""For another WSGI server, which loads it before it forks: what it then sends is heard, too."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "anywhere_settings")

from django.core.wsgi import get_wsgi_application

from django_gateway import Group

application = get_wsgi_application()
Group("all").send({"text": f"loaded {os.getpid()}"})
