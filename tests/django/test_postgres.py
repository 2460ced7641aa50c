"""Connections to a real PostgreSQL: kept, bounded, mended."""

import json
import os
import subprocess
import sys
import threading

import pytest

from tests.django.postgres import cluster

pytestmark = pytest.mark.timeout(90)  # a cluster is made, and 4,000 messages run

WORKER = """
import json, os, sys
import django
django.setup()
import gateway
from django.contrib.auth.models import User
from django.core.management import call_command
from django_gateway import asgi, route
from django_gateway.handler import Views
from django_gateway.routing import Route, Router
from django_gateway.worker import Worker
from gateway.core.config import WorkerSettings
from tests.django.peer import Peer

call_command("migrate", verbosity=0)
django.db.connections.close_all()

def count(message):
    message.reply(str(User.objects.count()))

async def acount(message):
    message.reply(str(await User.objects.acount()))

peer = Peer(gateway.open_layer("memory://pg"))
layer = gateway.open_layer("memory://pg")
asgi.channel_layers.use(layer)
views = Views()
table = Router(
    [
        route("a.sync", count),
        route("a.async", acount),
        route("a.mixed", acount, path="/async"),
        route("a.mixed", count),
    ],
    [Route(("http.request",), views, {}, on_loop=views.on_loop)],
)
worker = Worker(layer, table, WorkerSettings(threads=int(sys.argv[1]), async_limit=100))
worker.start()
worker.ready.wait(5)

def messages(n):
    name = peer.new_reply_channel()
    kind = n % 5
    if kind == 0:
        return "a.sync", [{"reply_channel": name}]
    if kind == 1:
        return "a.async", [{"reply_channel": name}]
    if kind == 2:  # one delivery of both kinds: the plain one runs aside of the loop
        return "a.mixed", [
            {"reply_channel": name, "path": "/async"}, {"reply_channel": name, "path": "/"}
        ]
    return "http.request", [peer.request("/users/" if kind == 3 else "/async-users/")]

def run(number):
    '''Have so many messages run, 64 of them under way; return the outcomes by kind.'''
    outcomes = {}
    sent = done = n = 0
    while done < number:
        while sent < number and sent - done < 64:
            channel, several = messages(n)
            several = several[: number - sent]
            peer.post(channel, *several)
            n += 1
            sent += len(several)
        place, said = peer.hear(20)
        assert place is not None, "nothing came"
        if place == "outcome":
            done += 1
            outcomes[said.kind] = outcomes.get(said.kind, 0) + 1
        elif said.get("status") == 500:
            outcomes["500"] = outcomes.get("500", 0) + 1
    return outcomes

print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(run(int(line))), flush=True)
worker.stop(5)
"""

THREADS = 4


@pytest.fixture(scope="module")
def server():
    with cluster() as folder:
        yield folder


@pytest.fixture
def ask(server):
    """Ask the server."""
    import psycopg

    with psycopg.connect(
        host=server, user="gateway", dbname="postgres", autocommit=True
    ) as connection:
        yield lambda query: connection.execute(query).fetchall()


class Worker:
    def __init__(self, server, *, health_checks):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(THREADS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.django.project.settings_postgres",
                "PGHOST": server,
                "HEALTH_CHECKS": "1" if health_checks else "0",
            },
        )
        assert self.process.stdout.readline() == "ready\n"

    def run(self, number):
        print(number, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def end(self):
        self.process.stdin.close()
        self.process.wait(15)
        self.process.stdout.close()


@pytest.fixture
def worker(server):
    started = []

    def start(*, health_checks=False):
        started.append(Worker(server, health_checks=health_checks))
        return started[-1]

    yield start
    for one in started:
        one.end()


CONNECTIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'worker'"


def test_connections_are_bounded(worker, ask):
    """After 4,000 messages of consumers and views of both kinds there were never more
    connections than threads: those that take messages, and as many for the loop's ORM; kept.
    """
    started = worker()
    seen = set()
    most = 0
    ended = threading.Event()

    def look():
        nonlocal most
        while not ended.wait(0.02):
            pids = {pid for (pid,) in ask(CONNECTIONS)}
            seen.update(pids)
            most = max(most, len(pids))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        outcomes = started.run(4_000)
    finally:
        ended.set()
        looking.join(5)
    assert outcomes == {"accepted": 4_000}
    left = {pid for (pid,) in ask(CONNECTIONS)}
    assert THREADS < most <= 2 * THREADS
    assert THREADS < len(left) <= 2 * THREADS
    assert len(seen) <= 2 * THREADS, "connections were not kept"
    started.end()
    assert ask(CONNECTIONS) == []


@pytest.mark.parametrize("health_checks", [False, True])
def test_broken_connections(worker, ask, health_checks):
    """A connection that the server ended is replaced: it costs the messages that are under way,
    and none with CONN_HEALTH_CHECKS.
    """
    started = worker(health_checks=health_checks)
    assert started.run(500) == {"accepted": 500}
    ended = ask(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'worker'"
    )
    assert len(ended) > THREADS
    outcomes = started.run(500)
    failed = outcomes.get("failed", 0) + outcomes.get("500", 0)
    assert failed == 0 if health_checks else 0 < failed <= 64
    assert started.run(500) == {"accepted": 500}
