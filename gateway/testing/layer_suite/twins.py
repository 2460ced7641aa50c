"""The async twins."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from gateway.core.errors import ChannelFull
from gateway.core.layers.base import OK, Layer, Outcome
from gateway.core.layers.base import send as sending
from gateway.testing.layer_suite.harness import Harness, numbers, own

CALLS: dict[str, tuple[Any, ...]] = {
    "send": ("x", {}),
    "receive": (["x"],),
    "group_add": ("g", "x"),
    "group_discard": ("g", "x"),
    "group_channels": ("g",),
    "group_members": ("g",),
    "group_count": ("g",),
    "send_group": ("g", {}),
    "flush": (),
    "global_statistics": (),
    "channel_statistics": ("x",),
    "send_many": ("x", [{}]),
    "cancel": (1,),
    "take": (["x"],),
    "apply": ([sending("x", {})],),
    "announce": (["x"],),
    "announced": (),
    "watch": ("x?a", "p_a"),
    "unwatch": ("x?a", "p_a"),
    "acquire": ("k",),
    "release": ("k",),
}


class Twins(Harness):
    """Verbs with the prefix ``a``."""

    @pytest.mark.parametrize("verb", CALLS)
    def test_on_a_running_loop(self, verb: str) -> None:
        """A sync verb called on a running loop raises RuntimeError and names its twin."""
        layer = self.join()

        async def main() -> None:
            with pytest.raises(RuntimeError, match=f"a{verb}"):
                getattr(layer, verb)(*CALLS[verb])
            await layer.aclose()

        asyncio.run(main())

    def test_intake_on_a_running_loop(self) -> None:
        """So does ``Intake.take``."""
        layer = self.join()

        async def main() -> None:
            intake = layer.intake(["x"])
            with pytest.raises(RuntimeError, match="atake"):
                intake.take(0)
            intake.close()
            await layer.aclose()

        asyncio.run(main())

    def test_signatures(self) -> None:
        """Each twin takes what its verb takes."""
        for verb in (*CALLS, "settle", "close"):
            assert inspect.signature(getattr(Layer, verb)).parameters == (
                inspect.signature(getattr(Layer, f"a{verb}")).parameters
            ), verb

    def test_the_simple_face(self) -> None:
        """Each twin of the simple face does what its verb does."""
        layer = self.join(capacity=2)

        async def main() -> None:
            await layer.asend("x", {"n": 1})
            await layer.asend("x", {"n": 2})
            with pytest.raises(ChannelFull):
                await layer.asend("x", {})
            assert await layer.areceive(["x"]) == ("x", {"n": 1})
            assert await layer.areceive(["y", "x"], block=1) == ("x", {"n": 2})
            assert await layer.areceive(["x"]) == (None, None)
            assert await layer.areceive(["x"], block=0.02) == (None, None)
            await layer.agroup_add("g", "x", {"n": 1})
            await layer.agroup_add("g", "y")
            assert await layer.agroup_members("g") == {"x": {"n": 1}, "y": None}
            await layer.agroup_discard("g", "y")
            assert await layer.agroup_channels("g") == ["x"]
            assert await layer.agroup_count("g") == 1
            await layer.asend_group("g", {"n": 3}, exclude=["z"])
            assert (await layer.achannel_statistics("x")).pending == 1
            assert (await layer.aglobal_statistics()).full == 1
            await layer.aflush()
            assert await layer.areceive(["x"]) == (None, None)
            await layer.aclose()

        asyncio.run(main())

    def test_deliveries(self) -> None:
        """Each twin of the deliveries' face does what its verb does."""
        layer = self.join()

        async def main() -> None:
            await layer.asend_many("x", numbers(2), receipt=1)
            await layer.asend_many("x", [{}], receipt=2)
            assert await layer.acancel(2) is True
            delivery = await layer.atake(["x"], block=1)
            assert delivery is not None
            assert delivery.messages == numbers(2)
            await layer.asettle(delivery, [OK, Outcome("rejected")], [sending("y", {"n": 1})])
            assert await layer.areceive(["y"], block=1) == ("y", {"n": 1})
            found = [await layer.areceive([own(layer)], block=1) for _ in range(2)]
            assert [m and m["kind"] for _, m in found] == ["accepted", "rejected"]
            await layer.aapply([sending("y", {"n": 2})])
            assert await layer.areceive(["y"], block=1) == ("y", {"n": 2})
            await layer.aannounce(["x"])
            assert await layer.aannounced() == frozenset({"x"})
            await layer.awatch("b?a", "p_nobody")
            assert await layer.areceive(["b?a"], block=1) == ("b?a", {"closed": True})
            await layer.aunwatch("b?a", "p_nobody")
            await layer.aclose()

        asyncio.run(main())

    def test_an_intake(self) -> None:
        """``Intake.atake`` waits on the loop, and is woken."""
        layer, sender = self.join(), self.join()

        async def main() -> None:
            intake = layer.intake(["x"], credit=2)
            assert await intake.atake(0) is None
            assert await intake.atake(0.02) is None
            waiting = asyncio.create_task(intake.atake())
            await asyncio.sleep(0)
            await asyncio.to_thread(sender.send, "x", {"n": 1})
            delivery = await asyncio.wait_for(waiting, self.patience)
            assert delivery is not None
            await layer.asettle(delivery, [OK])
            waiting = asyncio.create_task(intake.atake())
            await asyncio.sleep(0)
            intake.close()
            assert await asyncio.wait_for(waiting, self.patience) is None
            await layer.aclose()

        asyncio.run(main())

    def test_aclose(self) -> None:
        """``aclose`` leaves as ``close`` does."""
        layer, other, sender = self.join(), self.join(), self.join()

        async def main() -> None:
            await layer.agroup_add("g", own(layer))
            assert await layer.atake(["x"], block=1) is not None
            await layer.aclose()
            await layer.aclose()

        sender.send_many("x", [{}], receipt=1)
        asyncio.run(main())
        assert self.outcomes(sender, 1) == [(1, 0, "failed", "lost")]
        self.until(lambda: other.group_channels("g") == [])

    def test_many_wait(self) -> None:
        """Many tasks wait for the same channel; each message wakes one."""
        layer, sender = self.join(), self.join()

        async def main() -> None:
            waiting = [
                asyncio.create_task(layer.areceive(["x"], block=self.patience)) for _ in range(10)
            ]
            await asyncio.sleep(0.01)
            for message in numbers(10):
                await asyncio.to_thread(sender.send, "x", message)
            found = await asyncio.gather(*waiting)
            assert sorted(m["n"] for _, m in found if m) == list(range(10))
            await layer.aclose()

        asyncio.run(main())

    def test_a_cancelled_receive_loses_nothing(self) -> None:
        """A cancelled ``areceive`` loses no message, whenever it is cancelled."""
        layer, sender = self.join(), self.join()

        async def main() -> None:
            got = []
            for n in range(60):
                task = asyncio.create_task(layer.areceive(["x", own(layer)], block=self.patience))
                await asyncio.sleep(0)
                sending_ = asyncio.create_task(
                    asyncio.to_thread(sender.send, "x" if n % 2 else own(layer), {"n": n})
                )
                for _ in range(n % 7):
                    await asyncio.sleep(0 if n % 3 else 0.0003)
                task.cancel()
                try:
                    message = (await task)[1]
                except asyncio.CancelledError:
                    message = None
                if message is not None:
                    got.append(message["n"])
                await sending_
            while (found := await layer.areceive(["x", own(layer)]))[1] is not None:
                got.append(found[1]["n"])
            assert sorted(got) == list(range(60))
            assert (await layer.aglobal_statistics()).pending_bytes == 0
            await layer.aclose()

        asyncio.run(main())

    def test_a_cancelled_take_holds_nothing(self) -> None:
        """Nor does a cancelled ``atake``, of a layer or an intake, hold any."""
        layer, sender = self.join(), self.join()

        async def main() -> None:
            intake = layer.intake(["x"])
            for n in range(10):
                take = intake.atake() if n % 2 else layer.atake(["x"], block=self.patience)
                task = asyncio.ensure_future(take)
                await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            intake.close()
            await asyncio.to_thread(sender.send, "x", {"n": 1})
            assert await layer.areceive(["x"], block=self.patience) == ("x", {"n": 1})
            await layer.aclose()

        asyncio.run(main())

    def test_threads_and_a_loop(self) -> None:
        """Threads and a loop use one layer at the same time."""
        layer = self.join(capacity=1000)

        def work(who: int) -> None:
            for n in range(50):
                layer.send("x", {"who": who, "n": n})

        async def main() -> None:
            works = [asyncio.to_thread(work, who) for who in range(2)]
            writing = asyncio.gather(*works)
            found: list[tuple[int, int]] = []
            while len(found) < 100:
                _, message = await layer.areceive(["x"], block=self.patience)
                assert message is not None
                found.append((message["who"], message["n"]))
            await writing
            assert sorted(found) == [(who, n) for who in range(2) for n in range(50)]
            await layer.aclose()

        asyncio.run(main())
