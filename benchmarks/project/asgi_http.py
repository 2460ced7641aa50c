"""The project for uvicorn and Daphne, without Channels."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()
