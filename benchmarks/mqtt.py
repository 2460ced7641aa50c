"""Devices: what a message in, a delivery out and an idle device cost.

The gateway (supervisor, gateway, hub, one worker with a sync consumer) against amqtt, which has no
application behind it. Both are asked in turn, round by round; CPU is that of all their processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks import processes, servers
from benchmarks.report import Check, Report, Row
from benchmarks.sample import Spread
from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt.codec import Decoder, encode
from tests.house.serving import free_port

if TYPE_CHECKING:
    from benchmarks.cases import Plan

PUBLISHERS = 16
WINDOW = 16
"""Messages of one publisher on their way: as many as a busy device has."""
SUBSCRIBERS = 1000
IDLE = 1000
PAYLOAD = b"x" * 64
V = p.V311
START_SECONDS = 30.0
FIGURES: Final = ("CPU µs", "per s", "CPU µs to each", "KiB each")
"""What is measured of each: of a QoS 1 message, of a delivery, of an idle device."""

SETTINGS = """
SECRET_KEY = "bench"
INSTALLED_APPS = ["django_gateway"]
CHANNEL_LAYERS = {"default": {"ROUTING": "bench_mqtt_routing.routing"}}
"""
ROUTING = """
from django_gateway import route

def receive(message):
    pass

routing = [route("mqtt.receive", receive)]
"""
AMQTT = """
import asyncio, sys
from amqtt.broker import Broker

async def main():
    broker = Broker({"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}})
    await broker.start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass
class Peer:
    """A running server."""

    name: str
    root: int
    port: int

    def cpu(self) -> float:
        return sum(processes.cpu_seconds(pid) for pid in processes.tree(self.root))

    def memory(self) -> int:
        return sum(processes.resident_bytes(pid) for pid in processes.tree(self.root))


@contextlib.contextmanager
def started(name: str, port: int) -> Iterator[Peer]:
    """Start a server; end it and all that it started at the end."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        room = Path(folder)
        (room / "bench_mqtt_settings.py").write_text(SETTINGS)
        (room / "bench_mqtt_routing.py").write_text(ROUTING)
        (room / "bench_amqtt.py").write_text(AMQTT)
        environment = os.environ | {"PYTHONPATH": f"{room}{os.pathsep}{servers.ROOT}"}
        argv: tuple[str, ...] = (sys.executable, str(room / "bench_amqtt.py"), str(port))
        if name == "gateway":
            argv = (
                sys.executable, "-m", "gateway", "run", "--plugins", "mqtt", "--workers", "1",
                "--settings", "bench_mqtt_settings", "--layer", f"unix://{room}/hub",
                "--set", f"mqtt.listen='127.0.0.1:{port}'",
            )  # fmt: skip
        with servers.child(argv, environment, room / "log") as process:
            peer = Peer(name, process.pid, port)
            end = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(OSError, ConnectionError, TimeoutError):
                    asyncio.run(_knock(port))
                    break
                if time.monotonic() > end or process.poll() is not None:
                    raise SystemExit(f"{name} does not answer\n{servers.tail(room / 'log')}")
                time.sleep(0.2)
            yield peer


async def _knock(port: int) -> None:
    device = await Device.connected(port, "knock")
    await asyncio.wait_for(device.told(p.Publish("knock", b"", 1, packet_id=1)), 5)
    device.transport.close()


class Device(asyncio.Protocol):
    """A device; what it hears is counted."""

    def __init__(self) -> None:
        self.decoder = Decoder(protocol=V)
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.on_packet: Any = self.heard.put_nowait
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for packet in self.decoder.feed(data):
            self.on_packet(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.put_nowait(None)

    async def told(self, packet: p.Packet) -> Any:
        self.transport.write(encode(packet, V))
        answer = await self.heard.get()
        if answer is None:
            raise ConnectionError("the server ended the connection")
        return answer

    @classmethod
    async def connected(cls, port: int, client_id: str) -> Device:
        loop = asyncio.get_running_loop()
        _, device = await loop.create_connection(cls, "127.0.0.1", port)
        hello = p.Connect(client_id, V, keepalive=600)
        answer = await asyncio.wait_for(device.told(hello), 10)
        if answer.code:
            raise ConnectionError(f"refused: {answer.code}")
        return device


async def ingest(peer: Peer, count: int) -> tuple[float, float]:
    """Return CPU (µs) a QoS 1 message, and messages a second."""
    each = count // PUBLISHERS
    devices = [await Device.connected(peer.port, f"pub{n}") for n in range(PUBLISHERS)]
    frames = [
        encode(p.Publish("sensors/7/temp", PAYLOAD, 1, packet_id=n + 1), V) for n in range(4096)
    ]

    async def run(device: Device) -> None:
        done = asyncio.get_running_loop().create_future()
        state = {"sent": 0, "acked": 0}

        def more(_: Any = None) -> None:
            if _ is not None:
                state["acked"] += 1
            if state["sent"] < each:
                device.transport.write(frames[state["sent"] % 4096])
                state["sent"] += 1
            elif state["acked"] >= each and not done.done():
                done.set_result(None)

        device.on_packet = more
        for _ in range(WINDOW):
            more()
        await done

    before, begun = peer.cpu(), time.perf_counter()
    await asyncio.gather(*(run(device) for device in devices))
    took = time.perf_counter() - begun
    cpu = peer.cpu() - before
    for device in devices:
        device.transport.close()
    return cpu / count * 1e6, count / took


async def fan_out(peer: Peer, publishes: int) -> float:
    """Return CPU (µs) a delivery to one of many subscribers."""
    heard = 0
    wanted = publishes * SUBSCRIBERS
    done = asyncio.get_running_loop().create_future()

    def on_packet(_: Any) -> None:
        nonlocal heard
        heard += 1
        if heard == wanted:
            done.set_result(None)

    devices = []
    for number in range(SUBSCRIBERS):
        device = await Device.connected(peer.port, f"sub{number}")
        await device.told(p.Subscribe(1, [("news/+", 0)]))
        device.on_packet = on_packet
        devices.append(device)
    publisher = await Device.connected(peer.port, "publisher")
    before = peer.cpu()
    for number in range(publishes):
        await publisher.told(p.Publish("news/x", PAYLOAD, 1, packet_id=number + 1))
    await asyncio.wait_for(done, 120)
    cpu = peer.cpu() - before
    for device in (publisher, *devices):
        device.transport.close()
    await asyncio.sleep(1)
    return cpu / wanted * 1e6


async def idle(peer: Peer) -> float:
    """Return bytes of an idle device with one subscription, over all processes of the server."""
    await asyncio.sleep(1)
    before = peer.memory()
    devices = []
    for number in range(IDLE):
        device = await Device.connected(peer.port, f"idle{number}")
        await device.told(p.Subscribe(1, [(f"devices/{number}/#", 1)]))
        devices.append(device)
    await asyncio.sleep(2)
    found = (peer.memory() - before) / IDLE
    for device in devices:
        device.transport.close()
    return found


def devices(plan: Plan) -> Report:
    """Devices of the gateway's own: a message in, a delivery out, and one that says nothing."""
    report = Report("mqtt", "devices: QoS 1 into a sync consumer, a publish to 1,000, an idle one")
    names = [name for name in ("gateway", "amqtt") if not plan.only or name in plan.only]
    if "amqtt" in names and importlib.util.find_spec("amqtt") is None:
        report.notes.append("without its peer: there is no amqtt")
        names.remove("amqtt")
    found: dict[str, dict[str, list[float]]] = {}
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(started(name, free_port())) for name in names]
        for peer in peers:
            # First of all: memory that something else left free would be used again.
            own = found[peer.name] = {name: [] for name in FIGURES}
            own["KiB each"].append(uvloop.run(idle(peer)) / 1024)
        for number in range(plan.pairs):
            for peer in peers:
                own = found[peer.name]
                ours = peer.name == "gateway"
                count = plan.count(20_000 if ours else 4000)
                for name, figure in zip(FIGURES, uvloop.run(ingest(peer, count)), strict=False):
                    own[name].append(figure)
                if ours or not number:  # its 1,000 subscribers take it long to come and go
                    publishes = plan.count(200) // 10
                    own["CPU µs to each"].append(uvloop.run(fan_out(peer, publishes)))
    for name, own in found.items():
        figures = {what: Spread.of(values) for what, values in own.items() if values}
        report.rows.append(Row(name, figures))
    if "gateway" in found:
        own = found["gateway"]
        if "amqtt" in found:
            pairs = zip(own["CPU µs"], found["amqtt"]["CPU µs"], strict=True)
            ratios = [one / other for one, other in pairs]
            report.checks.append(Check("CPU / amqtt", Spread.of(ratios), 1 / 5))
        report.checks += [
            Check("CPU of a delivery", Spread.of(own["CPU µs to each"]), 15.0, unit="µs"),
            Check("resident memory of each", Spread.of(own["KiB each"]), 12.0, unit="KiB"),
        ]
    return report
