"""The gateway's routing tables; ``BENCH_CONSUMERS`` names one. Views need none."""

import consumers

from django_gateway import route, route_class

sync_echo = [route("websocket.receive", consumers.echo)]
async_echo = [route("websocket.receive", consumers.echo_async)]
class_echo = [route_class(consumers.Echo)]
frame_echo = [route_class(consumers.FrameEcho)]
stateful_echo = [route_class(consumers.StatefulEcho)]
group = [
    route("websocket.connect", consumers.join),
    route("websocket.receive", consumers.tell),
]
events = [route("sse.connect", consumers.join)]
polls = [route("longpoll.connect", consumers.join)]
mqtt = [route("mqtt.receive", consumers.take)]
irc = [route("irc.receive", consumers.take_line)]
