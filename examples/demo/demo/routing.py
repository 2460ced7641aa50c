"""The one routing table. What no route takes is Django's: urls.py."""

from demo.consumers import Devices, Irc, Mail, Room
from django_gateway import path, route_class

routes = [
    route_class(Room, path=path("room/")),
    route_class(Devices),
    route_class(Irc),
    route_class(Mail),
]
