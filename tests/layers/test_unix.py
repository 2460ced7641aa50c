"""The unix layer keeps the contract, over real sockets to a hub in a thread."""

import asyncio
import socket
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from gateway.core.layers.base import OK
from gateway.core.layers.hub import Hub, bind
from gateway.core.layers.options import LayerOptions
from gateway.core.layers.unix import UnixLayer
from gateway.testing.layer_suite import LayerSuite, wait_until


class HubThread:
    """A hub on a loop of its own thread."""

    def __init__(self, path, options, clock):
        self.loop = asyncio.new_event_loop()
        self.hub = Hub(options, clock)
        self.state = self.hub.shared.state
        self.path = path
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.run(self.hub.serve(bind(path)))

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(5)

    def stop(self):
        self.run(self.hub.stop())
        self.run(asyncio.sleep(0))  # the transports close
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()
        with suppress(FileNotFoundError):
            Path(self.path).unlink()


class TestUnix(LayerSuite):
    def start(self):
        self.now = 1000.0
        self.hub = None
        self.frozen = set()
        self.folder = Path(mkdtemp(prefix="gw-"))
        self.path = str(self.folder / "hub.sock")

    def stop(self):
        self.cut()
        self.folder.rmdir()

    def open(self, **options):
        if self.hub is None:
            self.options = LayerOptions(**options)
            self.hub = HubThread(self.path, self.options, lambda: self.now)
        return UnixLayer(f"unix://{self.path}", LayerOptions())

    def advance(self, seconds):
        async def step(passed):
            self.now += passed
            for name, process in self.hub.state.processes.items():
                if name not in self.frozen:
                    process.still = 0.0
            self.hub.state.tick()

        quarter = self.options.lease / 4  # a tick counts no more of standing still
        while seconds > 0:
            self.hub.run(step(min(quarter, seconds)))
            seconds -= quarter

    def kill(self, layer):
        layer.closed = True
        if (threads := layer._threads) is not None:
            with threads._mutex:
                threads._closed = True
                if (sock := threads._sock) is not None:
                    sock.shutdown(socket.SHUT_RDWR)
                    if not threads._leading:
                        threads._lose(sock, "killed")
        for loop, client in layer._loops.items():
            loop.call_soon_threadsafe(self._die, client)
        wait_until(lambda: layer.process not in self.hub.state.processes, self.patience)

    def _die(self, client):
        client._closed = True
        client._transport.abort()

    def freeze(self, layer):
        self.frozen.add(layer.process)

    def thaw(self, layer):
        self.frozen.discard(layer.process)

    def cut(self):
        if self.hub is not None:
            self.hub.stop()
            self.hub = None

    def mend(self):
        self.hub = HubThread(self.path, self.options, lambda: self.now)

    def test_settled_on_a_loop(self):
        """What a thread set aside and a loop settles leaves at once, though no thread waits for
        more, and the last work is long ago.
        """
        sender, taker = self.join(lease=1000.0), self.join()
        sender.send_many("x", [{}], receipt=1)
        intake = taker.intake(["x"])
        delivery = intake.take(self.patience)
        wait_until(lambda: not taker._threads._minding, self.patience)
        intake.set_aside(delivery)

        async def settle():
            await taker.asettle(delivery, [OK])

        asyncio.run(settle())
        assert self.outcomes(sender, 1) == [(1, 0, "accepted", "")]

    def test_settled_twice_in_one_turn(self):
        """What is settled again is counted, though both settlements travel as one."""
        sender, taker = self.join(), self.join()
        sender.send_many("x", [{}, {}], receipt=1)

        async def settle():
            delivery = await taker.atake(["x"], self.patience)
            for _ in range(3):
                await taker.asettle(delivery, [OK])
            await taker.aglobal_statistics()

        asyncio.run(settle())
        assert self.outcomes(sender, 2) == [(1, n, "accepted", "") for n in range(2)]
        self.dropped(sender, stale=1)
