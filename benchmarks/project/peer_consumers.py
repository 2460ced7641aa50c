"""The WebSocket consumers in Channels 4. `routing` and `consumers` say the same for the gateway."""

from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer


class Sync(WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        self.send(text_data=text_data)


class Async(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=text_data)


class Group(AsyncWebsocketConsumer):
    groups = ("bench",)

    async def receive(self, text_data=None, bytes_data=None):
        await self.channel_layer.group_send("bench", {"type": "bench.text", "text": text_data})

    async def bench_text(self, event):
        await self.send(text_data=event["text"])


BY_NAME = {"sync_echo": Sync, "async_echo": Async, "group": Group}
