"""What is pinned to a worker, and what becomes of it when that stops."""

import threading

import pytest

import gateway
from django_gateway import asgi, route
from gateway.core.layers.base import OK
from gateway.core.layers.edge import MESSAGE, OUTCOME
from gateway.testing.layer_suite import Server
from tests.django.peer import wait_until


@pytest.fixture
def server(url):
    """A protocol server on the test's layer."""
    server = Server(gateway.open_layer(url), 5.0)
    yield server
    server.close()


def pin_of(worker):
    return f"pin.{worker.layer.process}"


def consumers(noted, *, is_async):
    """Return a consumer that notes on which thread it runs, and with what."""

    def consumer(message, room):
        noted.append((threading.current_thread().name, room, message.channel_name, message["n"]))

    async def aconsumer(message, room):
        consumer(message, room)

    return aconsumer if is_async else consumer


@pytest.mark.parametrize(("is_async", "views"), [(False, False), (True, True), (True, False)])
def test_a_pinned_delivery(work, server, is_async, views):
    """A pinned delivery is run by its worker, and routed as if it had come by its own channel:
    filters, threads or loop, counters.
    """
    noted = []
    others = []
    table = [
        route("x", consumers(noted, is_async=is_async), path=r"^/(?P<room>\w+)/$"),
        route("x", lambda message: None),
    ]
    worker = work(table, views=views)
    work({"x": others.append}, views=views)
    for n in range(20):
        server.post("x", {"path": "/a/", "n": n}, receipt=n + 1, pin=pin_of(worker))
        assert server.heard() == [(OUTCOME, n + 1, 0, OK)]
    assert others == []
    assert [note[1:] for note in noted] == [("a", "x", n) for n in range(20)]
    assert {note[0] == "loop" for note in noted} == {is_async}
    counted = worker.metrics.snapshot()
    assert counted['gateway_consumed_total{channel="x",outcome="accepted"}'] == 20


def test_the_reply(work, server):
    """A consumer pins its connection by a reply."""

    def connect(message):
        message.reply("hello", pin=f"pin.{asgi.channel_layers['default'].process}")

    worker = work({"x": connect})
    name = f"x.{server.process}!a"
    server.post("x", {"reply_channel": name}, receipt=1)
    reply = {"text": "hello", "pin": pin_of(worker)}
    assert server.heard(2) == [(MESSAGE, name, reply), (OUTCOME, 1, 0, OK)]


def test_a_worker_that_drains(work, server):
    """A worker that stops finishes what it has in hand; what was pinned to it and not begun goes
    to others, in order, and says so, and so does what comes later.
    """
    begun, go_on = threading.Event(), threading.Event()
    ran = []

    def slow(message):
        begun.set()
        ran.append(("old", message["n"], message.get("unpinned")))
        assert go_on.wait(5)

    old = work({"x": slow}, threads=1)
    for n in range(5):
        server.post("x", {"n": n}, receipt=n + 1, pin=pin_of(old))
    assert begun.wait(5)
    rest = {"x": lambda message: ran.append(("new", message["n"], message.get("unpinned")))}
    new = work(rest, threads=1)
    stopping = threading.Thread(target=old.finish)
    stopping.start()
    assert server.heard(4) == [(OUTCOME, n + 1, 0, OK) for n in range(1, 5)]
    server.post("x", {"n": 5}, receipt=6, pin=pin_of(old))
    assert server.heard() == [(OUTCOME, 6, 0, OK)]
    go_on.set()
    stopping.join(5)
    assert server.heard() == [(OUTCOME, 1, 0, OK)]
    assert ran == [("old", 0, None), *[("new", n, True) for n in range(1, 6)]]
    wait_until(lambda: new.layer.channel_statistics(pin_of(old)).pending == 0)
