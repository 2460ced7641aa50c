"""Locations: asked at home and from other processes, and every way not to be answered."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.core.config import GatewaySettings
from gateway.core.connection import Engine
from gateway.core.layers import codec
from gateway.core.layers.edge import MESSAGE
from gateway.core.layers.memory import MemoryLayer, sibling
from gateway.core.layers.options import LayerOptions
from gateway.core.metrics import Metrics
from gateway.core.plugin import Unanswered
from gateway.testing.fakes import FakeEdge, ManualClock
from gateway.testing.stage import PATIENCE
from tests.core.toys import Requests, Talks

ELSEWHERE = "p_elsewhere000"
THERE = f"{Requests.name}.{ELSEWHERE}.{'t' * 22}"


class Process:
    """A gateway process on a layer, with the contexts of two plugins."""

    def __init__(self, layer, **settings):
        self.metrics = Metrics()
        loop = asyncio.get_running_loop()
        self.engine = Engine(layer, GatewaySettings(**settings), self.metrics, loop)
        self.context = self.engine.context(Requests, None)
        self.other = self.engine.context(Talks, None)
        self.asks = []
        self.heard = []

    def ask(self, location, message, context=None, seconds=PATIENCE, **how):
        context = context or self.context
        return context.ask(location, message, self.heard.append, seconds, **how)

    async def hears(self):
        await until(lambda: self.heard)
        return self.heard.pop(0)

    async def is_asked(self):
        await until(lambda: self.asks)
        return self.asks.pop(0)


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.002)


@pytest.fixture
def play():
    """Run a coroutine function with two processes on one layer."""

    def run(function, **settings):
        async def main():
            layer = MemoryLayer("memory://", LayerOptions())
            owner, asker = Process(layer, **settings), Process(sibling(layer), **settings)
            try:
                await function(owner, asker)
            finally:
                asker.engine.edge.leave()
                owner.engine.edge.leave()

        asyncio.run(main())

    return run


def test_text(play):
    """A location names plugin, process and an unguessable token; no two are alike."""

    async def act(owner, asker):
        texts = {owner.context.locate(owner.asks.append).text for _ in range(100)}
        assert len(texts) == 100
        for text in texts:
            plugin, process, token = text.split(".")
            assert (plugin, process) == (Requests.name, owner.engine.process)
            assert len(token) == 22  # 62 ** 22 > 2 ** 130
            assert token.isalnum()

    play(act)


def test_at_home(play):
    """An ask at home is handed over, and its answer back, without the layer."""

    async def act(owner, asker):
        location = owner.context.locate(lambda ask: ask.answer({"you said": ask.message}))
        sent = owner.engine.edge._state.messages
        asked = owner.ask(location.text, {"n": 1})
        assert owner.heard == [{"you said": {"n": 1}}]
        assert asked.over
        assert owner.engine.edge._state.messages == sent

    play(act)


def test_from_elsewhere(play):
    """An ask in another process comes to where the location is, and the answer back."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        asked = asker.ask(location.text, {"n": 1, "raw": b"\xff"})
        ask = await owner.is_asked()
        assert ask.message == {"n": 1, "raw": b"\xff"}
        assert not asked.over
        ask.answer({"status": 200})
        assert ask.over
        ask.answer({"status": 500})
        assert await asker.hears() == {"status": 200}
        asker.ask(location.text, {"n": 2})
        (await owner.is_asked()).answer({"status": 204})
        assert await asker.hears() == {"status": 204}
        assert asker.heard == []

    play(act)


def test_several_at_once(play):
    """Answers find their asks, in whatever order they come."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        heard = {}
        for n in range(20):
            asker.context.ask(
                location.text, {"n": n}, lambda answer, n=n: heard.update({n: answer}), PATIENCE
            )
        await until(lambda: len(owner.asks) == 20)
        for ask in reversed(owner.asks):
            ask.answer({"was": ask.message["n"]})
        await until(lambda: len(heard) == 20)
        assert heard == {n: {"was": n} for n in range(20)}

    play(act)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "p_a", "p_a.short", f"{THERE}t", f"{THERE}\n", "../../etc"),
        *(THERE.replace("p_", "p_é"), THERE.partition(".")[2], f"other.{THERE}"),
    ],
)
def test_no_location(play, text):
    """What was never a location is answered at once."""

    async def act(owner, asker):
        asker.ask(text, {})
        assert asker.heard == [Unanswered.GONE]

    play(act)


def test_gone_at_home(play):
    """A location that was closed is gone, and so is one of another plugin's."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        owner.ask(location.text, {}, owner.other)
        owner.ask(location.text.replace(Requests.name, Talks.name), {}, owner.other)
        location.close()
        location.close()
        owner.ask(location.text, {})
        assert owner.heard == [Unanswered.GONE] * 3
        assert owner.asks == []

    play(act)


def test_gone_elsewhere(play):
    """Neither does another process find a location that was closed, or is another plugin's."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        for text in (location.text, location.text.replace(Requests.name, Talks.name)):
            asker.ask(text, {}, asker.other)
            assert await asker.hears() is Unanswered.GONE
        location.close()
        asker.ask(location.text, {})
        assert await asker.hears() is Unanswered.GONE
        assert owner.asks == []

    play(act)


def test_closed_meanwhile(play):
    """What waits for an answer when its location is closed hears so, here and elsewhere."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        owner.ask(location.text, {})
        asker.ask(location.text, {})
        await until(lambda: len(owner.asks) == 2)
        location.close()
        assert owner.heard == [Unanswered.GONE]
        assert await asker.hears() is Unanswered.GONE
        assert all(ask.over for ask in owner.asks)

    play(act)


def test_no_such_process(play):
    """A process that is not there is known to be gone within a round trip, each time."""

    async def act(owner, asker):
        for _ in range(2):
            asker.ask(THERE, {})
            assert await asker.hears() is Unanswered.GONE

    play(act)


def test_process_dies(play):
    """What was asked of a process that dies is gone at once, and so is what is asked later."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        asker.ask(location.text, {})
        await owner.is_asked()
        owner.engine.edge.leave()
        assert await asker.hears() is Unanswered.GONE
        asker.ask(location.text, {})
        assert await asker.hears() is Unanswered.GONE

    play(act)


def test_asker_leaves(play):
    """An answer that is not wanted any more is forgotten where it was to come from."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        gone = []
        for process in (owner, asker):
            asked = process.ask(location.text, {})
            ask = await owner.is_asked()
            ask.on_gone(lambda: gone.append(1))
            asked.forget()
            asked.forget()
            await until(lambda: gone)
            assert gone.pop() == 1
            assert ask.over
            ask.answer({})
        await asyncio.sleep(0)
        assert owner.heard == asker.heard == gone == []
        assert not location.asks
        assert owner.metrics.snapshot()['gateway_relayed{way="in"}'] == 0
        assert asker.metrics.snapshot()['gateway_relayed{way="out"}'] == 0

    play(act)


def test_asker_dies(play):
    """What a process asked that died is forgotten."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        asker.ask(location.text, {})
        ask = await owner.is_asked()
        asker.engine.edge.leave()
        await until(lambda: ask.over)
        assert owner.metrics.snapshot()['gateway_relayed{way="in"}'] == 0

    play(act)


def test_in_time(play):
    """No answer in time is heard as such, and the ask forgotten."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        for process in (owner, asker):
            process.ask(location.text, {}, seconds=0.01)
            ask = await owner.is_asked()
            assert await process.hears() is Unanswered.TIMEOUT
            await until(lambda ask=ask: ask.over)

    play(act)


def test_raises(play, caplog):
    """An exception costs the ask alone: it is logged, and answered; the next is heard."""

    async def act(owner, asker):
        def deliver(ask):
            if ask.message:
                raise ZeroDivisionError("of the plugin")
            ask.answer({})

        location = owner.context.locate(deliver)
        for process in (owner, asker):
            process.ask(location.text, {"n": 1})
            assert await process.hears() is Unanswered.BROKEN
            process.ask(location.text, {})
            assert await process.hears() == {}

    play(act)
    assert [r.name for r in caplog.records if r.levelno >= logging.ERROR] == ["gateway.relay"] * 2
    assert "of the plugin" in caplog.text


def test_who_hears_raises(play, caplog):
    """An exception of who hears costs that answer alone."""

    async def act(owner, asker):
        location = owner.context.locate(lambda ask: ask.answer({}))

        def heard(answer):
            raise ZeroDivisionError("of who asked")

        asker.context.ask(location.text, {}, heard, PATIENCE)
        asker.ask(location.text, {})
        assert await asker.hears() == {}

    play(act)
    assert "of who asked" in caplog.text


def test_secret(play, caplog):
    """A token stands in no channel's name and in no line of the log."""
    caplog.set_level(logging.DEBUG)
    names = []

    async def act(owner, asker):
        location = owner.context.locate(lambda ask: 1 / 0)
        heard = owner.engine.deliver
        owner.engine.edge._deliver = lambda items: [names.extend(items), heard(items)]
        asker.ask(location.text, {})
        assert await asker.hears() is Unanswered.BROKEN
        [name] = [item[1] for item in names if item[0] == MESSAGE and b"asker" in item[2]]
        token = location.text.rpartition(".")[2]
        assert token not in name
        assert token not in caplog.text

    play(act)


def test_too_big(play):
    """An ask or an answer over what the layer lets through is answered so, counted."""

    async def act(owner, asker):
        location = owner.context.locate(lambda ask: ask.answer({"x": b"x" * 2_000_000}))
        asker.ask(location.text, {"x": b"x" * 2_000_000})
        assert asker.heard.pop() is Unanswered.TOO_BIG
        asker.ask(location.text, {})
        assert await asker.hears() is Unanswered.TOO_BIG
        assert asker.metrics.dropped() == owner.metrics.dropped() == {"too_big": 1}

    play(act)


def test_bounded(play):
    """Beyond ``gateway.relayed`` asks are answered at once, counted, by who asks and who is asked.

    Of a process's own there may be any number.
    """

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        for _ in range(3):
            owner.ask(location.text, {})
            asker.ask(location.text, {})
        assert asker.heard.pop() is Unanswered.BUSY
        third = Process(sibling(owner.engine.edge._layer), relayed=2)
        await until(lambda: len(owner.asks) == 5)
        third.ask(location.text, {})
        assert await third.hears() is Unanswered.BUSY
        assert owner.heard == []
        assert owner.metrics.dropped() == asker.metrics.dropped() == {"limited": 1}
        third.engine.edge.leave()

    play(act, relayed=2)


def test_drain(play):
    """A shutdown ends what waits in this process for another; what does something is finished."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        asker.ask(location.text, {"n": 0}, waits=True)
        asker.ask(location.text, {"n": 1})
        await until(lambda: len(owner.asks) == 2)
        waits, does = owner.asks
        await asker.engine.drain(0)
        assert asker.heard == [Unanswered.DRAINING]
        await until(lambda: waits.over)
        asker.ask(location.text, {}, waits=True)
        assert asker.heard.pop() is Unanswered.DRAINING
        does.answer({"done": True})
        await until(lambda: len(asker.heard) == 2)
        assert asker.heard[1] == {"done": True}

    play(act)


def test_counted(play):
    """How asks end is counted by plugin, and how many are under way can be seen."""

    async def act(owner, asker):
        location = owner.context.locate(owner.asks.append)
        asker.ask(location.text, {})
        ask = await owner.is_asked()
        assert owner.metrics.snapshot()['gateway_relayed{way="in"}'] == 1
        assert asker.metrics.snapshot()['gateway_relayed{way="out"}'] == 1
        ask.answer({})
        await asker.hears()
        location.close()
        asker.ask(location.text, {})
        await asker.hears()
        snapshot = asker.metrics.snapshot()
        name = Requests.name
        for result in ("answered", "gone"):
            key = f'gateway_relay_asks_total{{plugin="{name}",result="{result}"}}'
            assert snapshot[key] == 1

    play(act)


# ---------------------------------------------------------------- without the layer


class Alone:
    """A process on an edge that does what a test says."""

    def __init__(self):
        self.edge = FakeEdge([])
        self.engine = self.edge.engine(ManualClock())
        self.context = self.engine.context(Requests, None)
        self.asks = []
        self.heard = []
        self.location = self.context.locate(self.asks.append)

    def ask(self, location):
        return self.context.ask(location, {}, self.heard.append, 5.0)

    def is_asked(self, number=1):
        token = self.location.text.rpartition(".")[2]
        said = {"asker": ELSEWHERE, "number": number, "token": token, "message": {}}
        self.edge.reply(f"relay.ask.{self.edge.process}!{Requests.name}", said)


def test_layer_away():
    """While the layer is away another process cannot be asked; the own one can."""
    alone = Alone()
    alone.edge.go_down()
    alone.ask(THERE)
    assert alone.heard == [Unanswered.UNAVAILABLE]
    alone.ask(alone.location.text)
    assert len(alone.asks) == 1
    assert alone.edge.called("send") == []


def test_layer_goes_away():
    """What is under way when the layer goes away is given up by both; later all is as before."""
    alone = Alone()
    alone.ask(THERE)
    alone.is_asked()
    [ask] = alone.asks
    alone.edge.go_down()
    assert alone.heard == [Unanswered.UNAVAILABLE]
    assert ask.over
    alone.edge.come_up()
    alone.ask(THERE)
    alone.is_asked(2)
    assert len(alone.asks) == 2
    assert [process for _, process in alone.edge.called("watch")] == [ELSEWHERE] * 2


def test_watched_once():
    """A process is watched once, whoever of the two asks; after its end, anew."""
    alone = Alone()
    alone.ask(THERE)
    alone.ask(THERE)
    alone.is_asked()
    gone = f"relay.gone.{alone.edge.process}!{ELSEWHERE}"
    assert alone.edge.called("watch") == [(gone, ELSEWHERE)]
    alone.edge.reply(gone, {"closed": True})
    assert alone.heard == [Unanswered.GONE] * 2
    assert alone.asks[0].over
    alone.ask(THERE)
    assert len(alone.edge.called("watch")) == 2


def test_fenced():
    """When the lease of a process has ended nothing is found in it any more, by any name."""
    alone = Alone()
    alone.ask(alone.location.text)
    alone.ask(THERE)
    alone.is_asked()
    alone.edge.fence()
    assert alone.heard == [Unanswered.GONE, Unanswered.UNAVAILABLE]
    assert all(ask.over for ask in alone.asks)
    token = alone.location.text.rpartition(".")[2]
    alone.ask(f"{Requests.name}.{alone.edge.process}.{token}")
    assert alone.heard[2:] == [Unanswered.GONE]


def test_late_answers():
    """An answer to what is not asked any more is nobody's."""
    alone = Alone()
    alone.ask(THERE).forget()
    [ask, withdrawn] = [message for _, message in alone.edge.called("send")]
    assert withdrawn == {"asker": alone.edge.process, "number": ask["number"]}
    alone.edge.reply(f"relay.answer.{alone.edge.process}!", {"number": ask["number"], "answer": {}})
    assert alone.heard == []


def test_garbage():
    """What does not speak the relay's language costs itself alone."""
    alone = Alone()
    item = (MESSAGE, f"relay.ask.{alone.edge.process}!x", codec.encode({"no": 1}))
    alone.edge.deliver([item])
    alone.is_asked()
    assert len(alone.asks) == 1
    assert alone.engine.metrics.snapshot()["gateway_errors_total"] == 1
