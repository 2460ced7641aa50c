"""Streams that come back: ids, positions, and what was missed."""

from __future__ import annotations

import re
from typing import Any

from gateway.core.layers.base import group_add, group_send
from tests.plugins.sse.serving import Serving, accept, on_loop, wait_until


def keeps(gateway: Serving) -> dict[str, Any]:
    """Return consumers whose connect joins the group from where the client was."""

    async def connect(message: dict[str, Any]) -> None:
        since = message["last_event_id"]
        joining = group_add("news", message["reply_channel"], since=since)
        await gateway.layer.aapply([joining])

    return {"sse.connect": connect, "sse.disconnect": accept}


async def say(gateway: Serving, *texts: str, history: int = 10) -> None:
    """Send messages that are kept."""
    await gateway.layer.aapply([group_send("news", {"text": t}, history=history) for t in texts])


def lines(body: bytes) -> list[str]:
    """Return a stream without its comments, ids as their last characters alone."""
    text = re.sub(r"id: [0-9a-f]+-([0-9a-f]+)", r"id: \1", body.decode())
    return [event for event in text.split("\n\n") if event.strip(":")]


@on_loop
async def test_resumed() -> None:
    """Who comes back with the last id gets what it missed, once, and then its position."""
    gateway = Serving({})
    gateway.consumers = keeps(gateway)
    async with gateway:
        stream = await gateway.open()
        while b"id: " not in stream.body:
            await stream.piece()
        assert len(lines(stream.body)) == 1  # the position, which is no event
        assert not stream.read()
        await say(gateway, "one", "two")
        await stream.until(b"data: two\n\n")
        one, two = stream.read()
        assert (one.data, two.data) == ("one", "two")
        assert one.last_event_id != two.last_event_id
        await stream.leave()
        await wait_until(lambda: gateway.messages("disconnect"))
        await say(gateway, "three", "four")
        back = await gateway.open("/news", f"Last-Event-ID: {one.last_event_id}")
        while len(lines(back.body)) < 4:
            await back.piece()
        assert [event.data for event in back.read()] == ["two", "three", "four"]
        *events, position = lines(back.body)
        assert position == events[-1].splitlines()[0]  # the id of the last
        await say(gateway, "five")
        await back.until(b"data: five\n\n")
        assert len(back.read()) == 4
        assert not gateway.drops


@on_loop
async def test_missed() -> None:
    """Who missed more than is kept is told so first; as is who brings an id that is none."""
    gateway = Serving({})
    gateway.consumers = keeps(gateway)
    async with gateway:
        stream = await gateway.open()
        await say(gateway, "first")
        await stream.until(b"data: first\n\n")
        first = stream.read()[-1].last_event_id
        await say(gateway, "a", "b", "c", history=2)
        for known, expected in [(first, ["{}", "b", "c"]), ("garbage", ["{}", "b", "c"])]:
            back = await gateway.open("/news", f"Last-Event-ID: {known}")
            while len(lines(back.body)) < len(expected) + 1:
                await back.piece()
            events = back.read()
            assert [event.data for event in events] == expected
            assert events[0].name == "missed"
