"""The project for uvicorn and Daphne, with Channels: the async consumer."""

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

http = get_asgi_application()

import peer_consumers  # noqa: E402 - Django must be set up first

application = ProtocolTypeRouter({"http": http, "websocket": peer_consumers.Async.as_asgi()})
