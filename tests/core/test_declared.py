"""What a plugin declares, it has; what it does not declare, and what is others', it has not."""

from __future__ import annotations

import pytest

from gateway.core.errors import PluginError
from gateway.core.plugin import Emit, Refusal
from tests.core.toys import REQUESTS, Plugin, Talks, World


def test_listens_to_what_it_declares():
    """A plugin reads what its class names in ``reads``; anything else by name and remedy is not."""
    world = World()
    world.context.listen("ask.out", print)
    with pytest.raises(PluginError, match=r"'ask\.in': .* names 'ask\.out', .* write 'ask\.in' th"):
        world.context.listen("ask.in", print)


@pytest.mark.parametrize(
    "channel",
    ["talk.receive", "talk.publish!", "ask.send.p_fake00000000!1", "talk.send.p_x!", "ask.body?x"],
)
def test_does_not_read_what_is_others(channel):
    """Declared or not, a plugin reads no channel of another plugin, no inbox, no body."""

    class Curious(Plugin):
        name = "ask"
        messages = REQUESTS
        reads = (channel,)

    world = World(Curious)
    world.engine.context(Talks, None)
    with pytest.raises(PluginError, match=r"somebody else's; name one .* begins with 'ask\.'"):
        world.context.listen(channel, print)
    assert world.edge.called("listen") == []


def test_does_not_read_what_it_emits():
    """What a plugin emits is the application's: it does not take that away itself."""

    class Selfish(Plugin):
        name = "ask"
        messages = REQUESTS
        reads = ("ask.request",)

    with pytest.raises(PluginError, match="that is what it emits, and for the application"):
        World(Selfish).context.listen("ask.request", print)


def test_reads_no_more():
    """After ``unlisten`` the layer is told, and the channel may be read again."""
    world = World()
    heard = []
    world.context.listen("ask.out", lambda *args: heard.append(args))
    world.context.unlisten("ask.out")
    world.context.unlisten("ask.out")
    assert world.edge.called("unlisten") == [("ask.out",)]
    world.edge.reply("ask.out", {"text": "a"})
    assert heard == []
    world.context.listen("ask.out", lambda *args: heard.append(args))
    world.edge.reply("ask.out", {"text": "b"})
    assert heard == [("ask.out", {"text": "b"})]


def test_fault_of_a_listener():
    """An exception in what a channel's messages are handed to costs that message."""
    world = World()
    heard = []

    def deliver(channel, message):
        heard.append(message["text"])
        if message["text"] == "a":
            raise RuntimeError("a bug")

    world.context.listen("ask.out", deliver)
    world.edge.reply("ask.out", {"text": "a"})
    world.edge.reply("ask.out", {"text": "b"})
    assert heard == ["a", "b"]
    assert world.metrics.snapshot()["gateway_errors_total"] == 1


@pytest.mark.parametrize(
    "emit",
    [
        Emit("receive", {"text": "x"}, 1),
        Emit("talk.receive", {"text": "x"}, 1),
        Emit("request", {"text": "x"}, 1, channel="talk.receive"),
        Emit("request", {"text": "x"}, 1, channel="talk.body?x"),
        Emit("request", {"text": "x"}, 1, channel="talk.send.p_x!1"),
        Emit("request", {"text": "x"}, 1, channel="ask.request"),
        Emit("request", {"text": "x"}, 1, channel="askew.body?x"),
    ],
)
def test_emits_on_no_channel_of_others(emit, caplog):
    """A session emits kinds of its plugin, and on single-reader channels that begin with its name;
    anything else is refused, counted and logged with what there is.
    """
    world = World()
    world.engine.context(Talks, None)
    world.connection.received([emit])
    assert world.edge.take() == []
    assert world.edge.calls == []
    assert world.session.heard == [(1, Refusal.BROKEN)]
    assert world.dropped == {"invalid": 1}
    assert "KINDS of its messages: request" in caplog.text or "'ask.…?…'" in caplog.text


def test_metrics():
    """Counters, gauges and histograms of a plugin begin with its name."""
    world = World()
    world.context.count("things_total", kind="x")
    world.context.gauge("level", lambda: 3.5, tank="a")
    sizes = world.context.histogram("sizes", (1.0, 10.0))
    for value in (0.5, 5, 50):
        sizes.observe(value)
    found = world.metrics.snapshot()
    assert found['gateway_ask_things_total{kind="x"}'] == 1
    assert found['gateway_ask_level{tank="a"}'] == 3.5
    assert found['gateway_ask_sizes_bucket{le="10"}'] == 2
    assert (found["gateway_ask_sizes_count"], found["gateway_ask_sizes_sum"]) == (3, 55.5)
