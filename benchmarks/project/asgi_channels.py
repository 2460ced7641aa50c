"""The project for uvicorn and Daphne, with Channels; ``BENCH_CONSUMERS`` names the consumer."""

import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

http = get_asgi_application()  # sets Django up, which consumers may rely on

import peer_consumers  # noqa: E402

consumer = peer_consumers.BY_NAME[os.environ["BENCH_CONSUMERS"]]
application = ProtocolTypeRouter({"http": http, "websocket": consumer.as_asgi()})
