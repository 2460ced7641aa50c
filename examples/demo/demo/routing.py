"""The one routing table. What no route takes is Django's: urls.py."""

from demo.consumers import join, leave, say
from django_gateway import include, route

chat = [
    route("websocket.connect", join),
    route(["websocket.receive", "http.request"], say),
    route("websocket.disconnect", leave),
]

routes = [
    include(chat, path=r"^/room/$"),
]
