"""The gateway's routing tables; ``BENCH_CONSUMERS`` names one. Views need none."""

import consumers

from django_gateway import route

sync_echo = [route("websocket.receive", consumers.echo)]
async_echo = [route("websocket.receive", consumers.echo_async)]
group = [
    route("websocket.connect", consumers.join),
    route("websocket.receive", consumers.tell),
]
