from django_gateway import path, route, route_class
from rooms.consumers import RoomSocket, digest

routing = [
    route_class(RoomSocket, path=path("rooms/<slug:room>/")),
    route("rooms.digest", digest),
]
