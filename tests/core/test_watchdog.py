"""The watchdog names what blocks the event loop."""

from __future__ import annotations

import asyncio
import threading

from gateway.core.metrics import Metrics
from gateway.core.watchdog import Watchdog


def hold_up_the_loop(metrics: Metrics) -> None:
    """Block the calling thread until the watchdog has told, and for as long again."""
    pause = threading.Event()
    for _ in range(500):
        if metrics.counter("gateway_loop_blocked_total").value:
            break
        pause.wait(0.01)
    pause.wait(0.1)


def test_blockage_is_logged_once_with_its_stack(caplog):
    """A blocked loop is logged once, with the stack that blocks it, counted, and its end too."""
    metrics = Metrics()

    async def main():
        dog = Watchdog(0.05, metrics)
        dog.start()
        hold_up_the_loop(metrics)
        async with asyncio.timeout(5):
            while "turns again" not in caplog.text:  # noqa: ASYNC110 - a thread, not an event
                await asyncio.sleep(0.01)
        dog.stop()

    asyncio.run(main())
    assert caplog.text.count("has not turned for") == 1
    assert "hold_up_the_loop(metrics)" in caplog.text
    assert metrics.snapshot()["gateway_loop_blocked_total"] == 1


def test_a_turning_loop_is_left_alone(caplog):
    """A loop that turns is no blockage, and the watchdog's thread ends with `stop`."""

    async def main():
        looked = asyncio.Event()
        loop = asyncio.get_running_loop()
        count = 0

        def clock() -> float:
            nonlocal count
            count += 1
            if count > 20:
                loop.call_soon_threadsafe(looked.set)
            return loop.time()

        dog = Watchdog(1.0, Metrics(), clock)
        dog.seconds = 0.02
        dog.start()
        dog.seconds = 5.0
        async with asyncio.timeout(5):
            await looked.wait()
        dog.stop()

    asyncio.run(main())
    assert not caplog.text
    assert not [t for t in threading.enumerate() if t.name == "gateway-watchdog"]


def test_stop_without_start():
    """A watchdog that never started can be stopped."""
    Watchdog(1.0, Metrics()).stop()
