"""The cases: what is measured, against whom, and what is to be reached.

Every case starts its servers once, warms each, and then measures them in turn, ``pairs``
times: A B A B … A ratio is formed within each round, so that whatever else the machine is
doing meanwhile weighs on both; the median of the ratios is what a target is held against.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import irc_load, mail_load, mqtt_load, processes, servers
from benchmarks.crowd import gathered
from benchmarks.h2_load import h2_load, missing
from benchmarks.http_load import handshakes, http_load, request
from benchmarks.members import Member, idle_bytes, told
from benchmarks.mqtt import devices
from benchmarks.poll_load import PAUSE_SECONDS, Poller
from benchmarks.report import Check, Report, Row
from benchmarks.sample import Sample, Spread
from benchmarks.servers import Running, Server, running
from benchmarks.sse_load import Stream
from benchmarks.stream import hub, rate
from benchmarks.ws_load import Socket, echo_load, group_load
from tests.house.serving import free_port

CONNECTIONS = 64
"""Clients at once: enough to keep a worker busy, few enough for one thread to serve fairly."""

NORMAL_RATE = 2000
"""Requests a second beside a crowd: a busy site, and far below what the server can do; at its limit
the latency would only say how busy the machine is."""

SLEEP_SECONDS = 0.02
SLEEP_EVERY = 20
THREADS = 4

EVENTS: Final[dict[str, Any]] = {"consumers": "events", "plugins": "http,sse"}
"""What a gateway is to have for event streams."""


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    pairs: int = 5
    scale: float = 1.0
    """Share of the operations of a full run."""
    only: frozenset[str] = frozenset()
    """Names of the servers to measure; empty for all."""

    def count(self, full: int) -> int:
        """Return how many operations stand for ``full``."""
        return max(10, int(full * self.scale))

    def wants(self, server: Server) -> bool:
        """Say whether ``server`` is to be measured."""
        return not self.only or server.name in self.only


Load = Callable[[Running], Coroutine[Any, Any, Any]]


def interleave(
    plan: Plan, candidates: Sequence[Server], load: Load, warm: Load | None = None
) -> dict[str, list[Any]]:
    """Measure the servers in turn; return the figures of each, round by round."""
    wanted = [server for server in candidates if plan.wants(server)]
    found: dict[str, list[Any]] = {server.name: [] for server in wanted}
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(running(server)) for server in wanted]
        for server in started:
            if warm is not None:
                uvloop.run(warm(server))
        for _ in range(plan.pairs):
            for server in started:
                found[server.name].append(uvloop.run(load(server)))
    return found


def _cpu(sample: Sample) -> float:
    return sample.cpu_us


def _rate(sample: Sample) -> float:
    return sample.rate


def _p99(sample: Sample) -> float:
    return sample.latency_us(0.99)


def _p50(sample: Sample) -> float:
    return sample.latency_us(0.5)


def against(
    found: dict[str, list[Sample]],
    peer: str,
    target: float,
    figure: Callable[[Sample], float] = _cpu,
    word: str = "CPU",
    name: str = "gateway",
) -> list[Check]:
    """Return the check of the gateway's figure as a ratio to a peer's, if both were measured."""
    if name not in found or peer not in found:
        return []
    ratios = [
        figure(ours) / figure(theirs) for ours, theirs in zip(found[name], found[peer], strict=True)
    ]
    return [Check(f"{word} / {peer}", Spread.of(ratios), target)]


def _rows(found: dict[str, list[Sample]]) -> list[Row]:
    return [Row.of_samples(name, samples) for name, samples in found.items()]


def _http(count: int, requests: Sequence[bytes] = (request("/"),)) -> Load:
    return partial(http_load, requests=requests, count=count, connections=CONNECTIONS)


# ---------------------------------------------------------------- http


def view(plan: Plan) -> Report:
    """A view without middleware."""
    report = Report("view", "Django view, no middleware, CPU a request")
    candidates = [servers.gateway(), servers.gunicorn(), servers.uvicorn(), servers.daphne()]
    found = interleave(plan, candidates, _http(plan.count(6000)), _http(plan.count(1000)))
    report.rows = _rows(found)
    report.checks = against(found, "gunicorn", 0.33) + against(found, "uvicorn", 0.08)
    return report


def middleware(plan: Plan) -> Report:
    """The same with the middleware of a new project."""
    report = Report("middleware", "Django view, default middleware, CPU a request")
    candidates = [servers.gateway(middleware="default"), servers.gunicorn(middleware="default")]
    found = interleave(plan, candidates, _http(plan.count(6000)), _http(plan.count(1000)))
    report.rows = _rows(found)
    report.checks = against(found, "gunicorn", 0.55)
    return report


def gateways(plan: Plan) -> Report:
    """One gateway process with the hub in it, against two over a hub of its own.

    The rate can grow only where there are cores that the rest (workers, the client) leaves; the
    CPU says what the hop to a hub of its own costs, on any machine.
    """
    report = Report("gateways", "Django view, two gateway processes against one, two workers")
    candidates = [
        servers.gateway(name="gateway", workers=2),
        servers.gateway(name="two gateways", workers=2, options=("--gateways", "2")),
    ]
    found = interleave(plan, candidates, _http(plan.count(6000)), _http(plan.count(1000)))
    report.rows = _rows(found)
    cores = len(os.sched_getaffinity(0))
    report.notes.append(f"{cores} cores for supervisor, hub, gateways, two workers and the client")
    if len(found) == len(candidates):
        pairs = list(zip(found["two gateways"], found["gateway"], strict=True))
        for word, figure in (("CPU", _cpu), ("rate", _rate)):
            spread = Spread.of([figure(two) / figure(one) for two, one in pairs])
            report.notes.append(f"{word} of two / of one: {spread.middle:.2f}")
    return report


def sleep(plan: Plan) -> Report:
    """One request in 20 sleeps 20 ms, on four threads.

    The ideal is what four threads could do if nothing but the work itself took time. Twenty
    requests keep threads busy for 20 ms of sleep and 20 times the service time; four threads
    have four seconds of that a second; and no server is faster than it is without sleeping.
    The service time is 1 / the rate that the same server reaches without any sleep, the
    shortest that it can be, which makes the ideal the highest::

        ideal = min(rate without sleep, 4 * 20 / (0.020 s + 20 * service time))
    """
    title = f"1 request in {SLEEP_EVERY} sleeps {SLEEP_SECONDS * 1000:.0f} ms, {THREADS} threads"
    report = Report("sleep", title)
    mixed = (*[request("/")] * (SLEEP_EVERY - 1), request("/sleepy"))
    candidates = [
        servers.gateway(options=("--set", f"workers.threads={THREADS}")),
        servers.gunicorn(threads=THREADS),
    ]
    fast, slow = _http(plan.count(6000)), _http(plan.count(6000), mixed)

    async def both(server: Running) -> tuple[Sample, Sample]:
        return await fast(server), await slow(server)

    found = interleave(plan, candidates, both, _http(plan.count(1000)))
    for name, rounds in found.items():
        report.rows.append(Row.of_samples(name, [mixture for _, mixture in rounds]))
    if "gateway" in found:
        ideals = [ideal_rate(plain.rate) for plain, _ in found["gateway"]]
        shares = [
            mixture.rate / ideal
            for (_, mixture), ideal in zip(found["gateway"], ideals, strict=True)
        ]
        report.notes.append(f"ideal rate: {Spread.of(ideals).middle:,.0f} a second")
        report.checks = [Check("rate / ideal rate", Spread.of(shares), 0.8, at_most=False)]
    return report


def ideal_rate(without_sleep: float) -> float:
    """Return the requests a second that four threads could do at best; see `sleep`."""
    busy = SLEEP_SECONDS + SLEEP_EVERY / without_sleep
    return min(without_sleep, THREADS * SLEEP_EVERY / busy)


def tls(plan: Plan) -> Report:
    """The trivial view over TLS, HTTP/1.1; and what a connection costs that is only opened."""
    report = Report("tls", "Django view over TLS 1.3, HTTP/1.1, CPU a request")
    candidates = [
        servers.gateway(tls=True),
        servers.uvicorn(tls=True),
        servers.hypercorn(),
        servers.granian(),
    ]
    load = _http(plan.count(3000))
    greet = partial(handshakes, count=plan.count(500), connections=CONNECTIONS // 4)

    async def both(server: Running) -> tuple[Sample, Sample]:
        return await load(server), await greet(server)

    found = interleave(plan, candidates, both, _http(plan.count(500)))
    requests = {name: [sample for sample, _ in rounds] for name, rounds in found.items()}
    for row in _rows(requests):
        opened = Spread.of([sample.cpu_us for _, sample in found[row.name]])
        report.rows.append(Row(row.name, {**row.figures, "CPU µs a handshake": opened}))
    report.checks = against(requests, "uvicorn", 0.15)
    return report


def http2(plan: Plan) -> Report:
    """The trivial view over HTTP/2; uvicorn has none."""
    report = Report("h2", "Django view over HTTP/2 and TLS 1.3, CPU a request")
    if missing():
        report.skipped = "there is no h2load to ask with (apt-get install nghttp2-client)"
        return report
    candidates = [servers.gateway(tls=True), servers.hypercorn(), servers.granian()]
    load, warm = (partial(h2_load, count=plan.count(count)) for count in (2000, 500))
    found = interleave(plan, candidates, load, warm)
    report.rows = _rows(found)
    report.checks = against(found, "hypercorn", 0.25)
    return report


def crowd(plan: Plan) -> Report:
    """Requests beside a crowd of idle and slow clients, which comes and goes with each round."""
    idle, slow = plan.count(5000), plan.count(500)
    report = Report("crowd", f"requests beside {idle:,} idle and {slow} slow clients")
    load = partial(_http(plan.count(6000)), pause=CONNECTIONS / NORMAL_RATE)
    alone: list[Sample] = []
    beside: list[Sample] = []
    seen: Counter[str] = Counter()
    with running(servers.gateway()) as server:
        uvloop.run(load(server))
        for _ in range(plan.pairs):
            alone.append(uvloop.run(load(server)))
            with gathered(server.port, idle, slow) as found:
                beside.append(uvloop.run(load(server)))
            seen.update(found)
    report.rows = [Row.of_samples("alone", alone), Row.of_samples("in the crowd", beside)]
    ratios = [_p99(many) / _p99(few) for few, many in zip(alone, beside, strict=True)]
    report.checks = [Check("p99 in the crowd / alone", Spread.of(ratios), 2.0)]
    report.notes = [f"the crowd saw {what}, {number} times" for what, number in seen.items()]
    return report


# ---------------------------------------------------------------- websocket


def _echo(plan: Plan, report: Report, flavour: str, target: float) -> Report:
    consumers = f"{flavour}_echo"
    candidates = [
        servers.gateway(consumers=consumers),
        servers.uvicorn(consumers=consumers),
        servers.daphne(consumers=consumers),
    ]
    load = partial(echo_load, count=plan.count(10_000), connections=CONNECTIONS)
    warm = partial(echo_load, count=plan.count(1000), connections=CONNECTIONS)
    found = interleave(plan, candidates, load, warm)
    report.rows = _rows(found)
    report.checks = against(found, "uvicorn", target)
    return report


def echo_sync(plan: Plan) -> Report:
    """A sync consumer that echoes, against Channels' WebsocketConsumer."""
    return _echo(plan, Report("echo-sync", "WebSocket echo, sync consumer"), "sync", 0.2)


def echo_async(plan: Plan) -> Report:
    """An async consumer that echoes, against Channels' AsyncWebsocketConsumer."""
    return _echo(plan, Report("echo-async", "WebSocket echo, async consumer"), "async", 0.35)


def one_connection(plan: Plan) -> Report:
    """Echo on a single connection: what a client waits when the server has nothing else to do."""
    report = Report("one", "WebSocket echo on one connection, latency")
    for flavour in ("sync", "async"):
        candidates = [
            servers.gateway(consumers=f"{flavour}_echo"),
            servers.uvicorn(consumers=f"{flavour}_echo"),
        ]
        load = partial(echo_load, count=plan.count(2000), connections=1)
        found = interleave(plan, candidates, load, partial(echo_load, count=100, connections=1))
        for name, samples in found.items():
            report.rows.append(Row.of_samples(f"{name} {flavour}", samples))
        report.checks += against(found, "uvicorn", 1.0, _p50, f"p50, {flavour} consumer,")
    return report


def group(plan: Plan) -> Report:
    """One message to a group of 1,000 sockets; the peer's Redis counts as the peer's CPU."""
    report = Report("group", "group send to 1,000 WebSockets, CPU a delivery")
    if shutil.which("redis-server") is None:
        report.skipped = "there is no redis-server for the peer (apt-get install redis-server)"
        return report
    candidates = [servers.gateway(consumers="group"), servers.uvicorn(consumers="group")]
    members = plan.count(1000)
    load = partial(group_load, members=members, rounds=plan.count(30))
    found = interleave(plan, candidates, load, partial(group_load, members=members, rounds=2))
    report.rows = _rows(found)
    report.checks = against(found, "uvicorn", 1 / 15)
    return report


def _idle(plan: Plan, report: Report, make: Callable[[], Member], *candidates: Server) -> Report:
    """Measure what each connection that says nothing adds to the process that holds it."""
    for server in candidates:
        if not plan.wants(server):
            continue
        figures = []
        # A fresh server each time: memory that the last round left free would be used again.
        for _ in range(min(plan.pairs, 3)):
            with running(server) as started:
                load = idle_bytes(started, make, plan.count(2000))
                figures.append(uvloop.run(load) / 1024)
        spread = Spread.of(figures)
        report.rows.append(Row(server.name, {"KiB each": spread}))
        if server.name == "gateway":
            report.checks.append(Check("resident memory of each", spread, 12.0, unit="KiB"))
    return report


def idle(plan: Plan) -> Report:
    """What a WebSocket that says nothing costs in memory, in the process that holds it."""
    report = Report("idle", "memory of an idle WebSocket")
    peer = servers.uvicorn(consumers="async_echo")
    return _idle(plan, report, lambda: Socket("/echo"), servers.gateway(), peer)


def idle_events(plan: Plan) -> Report:
    """The same of an event stream."""
    report = Report("idle-events", "memory of an idle event stream")
    return _idle(plan, report, Stream, servers.gateway(**EVENTS), servers.eventstream())


def events(plan: Plan) -> Report:
    """A view tells 500 event streams: by a group, or by django-eventstream within its process.

    Once more where the group keeps its last 100 messages, each with an id, for those that come
    back; the peer keeps nothing.
    """
    report = Report("events", "broadcast to 500 event streams, CPU a delivery")
    members, rounds = plan.count(500), plan.count(40)
    candidates = [
        servers.gateway(**EVENTS),
        servers.gateway(name="with history", **EVENTS),
        servers.eventstream(),
    ]

    async def load(server: Running, rounds: int = rounds) -> Sample:
        path = "/keep" if server.name == "with history" else "/tell"
        return await told(server, Stream, members, rounds, path=path)

    found = interleave(plan, candidates, load, partial(load, rounds=2))
    report.rows = _rows(found)
    report.checks = against(found, "django-eventstream", 1 / 7)
    word = "CPU with history"
    report.checks += against(found, "django-eventstream", 1 / 7, word=word, name="with history")
    return report


def polls(plan: Plan) -> Report:
    """A view tells 200 clients that wait by long-polling; each asks for more at once.

    The peer keeps no connection, no order, and nothing for who is between two polls: it wakes a
    request. WebSockets that are told as often show what the polling itself costs.
    """
    report = Report("polls", "message to 200 long-polls that wait, CPU and latency of each")
    members, rounds = plan.count(200), plan.count(20)
    candidates = [
        servers.gateway(consumers="polls", plugins="http,longpoll"),
        servers.polled(),
        servers.gateway(consumers="group", name="WebSockets"),
    ]

    async def load(server: Running, rounds: int = rounds) -> Sample:
        makers: dict[str, Callable[[], Member]] = {
            "gateway": lambda: Poller(session=True),
            "uvicorn": lambda: Poller(session=False),
            "WebSockets": lambda: Socket("/group"),
        }
        make = makers[server.name]
        return await told(server, make, members, rounds, path="/tell", pause=PAUSE_SECONDS)

    found = interleave(plan, candidates, load, partial(load, rounds=2))
    report.rows = _rows(found)
    report.checks = against(found, "uvicorn", 1 / 4)
    report.checks += against(found, "uvicorn", 1.0, _p99, "p99")
    return report


def layer(plan: Plan) -> Report:
    """The unix layer as a pipe, one message a delivery, against a bare stream; see `stream`."""
    report = Report("layer", "unix layer, messages a second, against a bare Unix socket")
    count = plan.count(60_000)
    bare: list[float] = []
    ours: list[float] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, hub(Path(folder), count) as path:
        for number in range(plan.pairs):
            bare.append(rate("bare-send", "bare-read", f"{folder}/{number}", count))
            ours.append(rate("layer-send", "layer-read", path, count))
    report.rows = [
        Row("unix layer", {"per s": Spread.of(ours)}),
        Row("bare socket", {"per s": Spread.of(bare)}),
    ]
    shares = [one / other for one, other in zip(ours, bare, strict=True)]
    report.checks = [Check("rate / bare", Spread.of(shares), 0.4, at_most=False)]
    return report


def mqtt_client(plan: Plan) -> Report:
    """QoS 1 from a broker into a sync consumer, against a callback of paho's; see `mqtt_load`."""
    report = Report("mqtt-client", "QoS 1 from a broker, one hot topic, messages a second")
    if shutil.which("mosquitto") is None:
        report.notes.append("skipped: there is no mosquitto")
        return report
    count = plan.count(20_000)
    bare: list[float] = []
    ours: list[float] = []
    with mqtt_load.broker() as port, contextlib.ExitStack() as stack:
        options = mqtt_load.options(port, mqtt_load.TOPIC)
        gateway = servers.gateway(consumers="mqtt", plugins="http,mqtt", options=options)
        server = stack.enter_context(running(gateway))
        pid = stack.enter_context(mqtt_load.bare(port, mqtt_load.BARE))
        referee = stack.enter_context(contextlib.closing(mqtt_load.Referee(port)))
        for topic in (mqtt_load.TOPIC, mqtt_load.BARE):
            referee.wait_for(topic)
        takers = server.pids()[1:]  # not the supervisor, which looks after the others
        for _ in range(plan.pairs):
            bare.append(referee.rate(mqtt_load.BARE, count, [pid]))
            ours.append(referee.rate(mqtt_load.TOPIC, count, takers))
    report.rows = [
        Row("gateway, after the consumer", {"per s": Spread.of(ours)}),
        Row("paho, a callback alone", {"per s": Spread.of(bare)}),
    ]
    shares = [one / other for one, other in zip(ours, bare, strict=True)]
    report.checks = [Check("rate / bare", Spread.of(shares), 0.4, at_most=False)]
    return report


def irc(plan: Plan) -> Report:
    """Lines of IRC into a sync consumer, against a callback of the irc library; see `irc_load`."""
    report = Report("irc", "lines of IRC into a sync consumer, lines a second")
    count = plan.count(40_000)
    rates: dict[str, list[float]] = {"network": [], "clients": [], "library": []}
    costs: dict[str, list[float]] = {name: [] for name in rates}
    taking: dict[str, Any] = {"consumers": "irc", "plugins": "http,irc"}

    def measure(name: str, cpu: Callable[[], float], rate: Callable[[], float]) -> None:
        before = cpu()
        rates[name].append(rate())
        costs[name].append((cpu() - before) / count * 1e6)

    with contextlib.ExitStack() as stack:
        flood = stack.enter_context(contextlib.closing(irc_load.Flood()))
        options = irc_load.options(flood.port, "gateway")
        joined = stack.enter_context(running(servers.gateway(**taking, options=options)))
        port = free_port()
        options = irc_load.listening(port)
        served = stack.enter_context(running(servers.gateway(**taking, options=options)))
        bot = stack.enter_context(irc_load.bare(flood.port, "bare"))
        for nick in ("gateway", "bare"):
            flood.wait_for(nick)
        for _ in range(plan.pairs):
            cpu = partial(processes.cpu_seconds, bot)
            measure("library", cpu, partial(flood.rate, "bare", count))
            measure("network", partial(_total, joined), partial(flood.rate, "gateway", count))
            clients = partial(_run, partial(irc_load.clients_rate, port, count))
            measure("clients", partial(_total, served), clients)
    names = {
        "network": "gateway, on a network, one channel",
        "clients": "gateway, clients in channels of their own",
        "library": "the irc library, a callback alone",
    }
    for key, name in names.items():
        figures = {"per s": Spread.of(rates[key]), "CPU µs": Spread.of(costs[key])}
        report.rows.append(Row(name, figures))
    report.checks = [
        Check("lines a second, on a network", Spread.of(rates["network"]), 10_000, at_most=False),
        Check("lines a second, of clients", Spread.of(rates["clients"]), 10_000, at_most=False),
    ]
    return report


def _run(load: Callable[[], Coroutine[Any, Any, float]]) -> float:
    return uvloop.run(load())


def _total(server: Running) -> float:
    return sum(server.cpu().values())


def email(plan: Plan) -> Report:
    """Mail by SMTP into a sync consumer, against a bare handler of aiosmtpd's; see `mail_load`."""
    report = Report("email", "mail by SMTP over 16 connections, mails a second")
    count = plan.count(3200)
    figures: dict[str, list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        takers = [stack.enter_context(mail_load.started(name)) for name in mail_load.TAKERS]
        for _ in range(plan.pairs):
            for taker in takers:
                cost, found = uvloop.run(mail_load.deliver(taker, count))
                figures.setdefault(taker.name, []).append((cost, found))
    for name, rounds in figures.items():
        cpu, per_second = zip(*rounds, strict=True)
        spread = {"CPU µs": Spread.of(list(cpu)), "per s": Spread.of(list(per_second))}
        report.rows.append(Row(name, spread))
    ours, theirs = ([found for _, found in figures[name]] for name in mail_load.TAKERS)
    shares = [one / other for one, other in zip(ours, theirs, strict=True)]
    report.checks = [Check("rate / aiosmtpd", Spread.of(shares), 0.6, at_most=False)]
    return report


CASES: dict[str, Callable[[Plan], Report]] = {
    "view": view,
    "middleware": middleware,
    "gateways": gateways,
    "echo-sync": echo_sync,
    "echo-async": echo_async,
    "one": one_connection,
    "group": group,
    "idle": idle,
    "events": events,
    "idle-events": idle_events,
    "polls": polls,
    "layer": layer,
    "mqtt": devices,
    "mqtt-client": mqtt_client,
    "irc": irc,
    "email": email,
    "sleep": sleep,
    "tls": tls,
    "h2": http2,
    "crowd": crowd,
}
