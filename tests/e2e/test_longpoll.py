"""Long-polling by curl and by bare sockets: one gateway, two, one that is killed; lost answers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.e2e.serving import Served, wait_until

pytestmark = [
    pytest.mark.timeout(60),  # up to five processes start for each
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl"),
]
PROJECT = Path(__file__).parent / "longpolling"


@contextlib.contextmanager
def serving(folder: Path, gateways: int = 1, *options: str) -> Iterator[Served]:
    """The room, served."""
    plugins = ("--plugins", "http,websocket,longpoll")
    with Served(folder, *plugins, *options, gateways=gateways, project=PROJECT) as served:
        yield served


def curl(served: Served, path: str, *options: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content of a request by curl."""
    done = subprocess.run(
        ["curl", "-sS", "-i", "--max-time", "20", *options, served.url(path)],
        capture_output=True,
        check=True,
    )
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, content


def say(served: Served, text: str, path: str = "/say/") -> None:
    """Have the application say something to its group."""
    status, _ = served.get(path, urlencode({"text": text}).encode())
    assert status == 204


class Client:
    """A client that uses a new connection for each request, and loses answers if it is to."""

    def __init__(self, served: Served, last: str = "") -> None:
        self.served = served
        self.last = last
        self.heard: list[str] = []
        self.missed = False
        self.cursor = ""
        headers = {"Prefer": "respond-async", "Last-Event-ID": last}
        status, _, content = self.request("POST", "/room", **headers)
        assert status == 201, content
        self.location: str = json.loads(content)["location"]

    def request(
        self, method: str, path: str, content: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.served.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read()

    def poll(self, wait: int = 10) -> int:
        """Poll once, and take what comes; return the status."""
        headers = {"Prefer": f"wait={wait}"}
        if self.cursor:
            headers["If-None-Match"] = self.cursor
        status, found, content = self.request("GET", self.location, None, **headers)
        if status in (200, 204):
            self.cursor = found["etag"]
        if status == 200:
            self.take(json.loads(content))
        return status

    def take(self, messages: list[dict[str, Any]]) -> None:
        """Take the elements of an array."""
        for message in messages:
            if message.get("missed"):
                self.missed = True
            elif "text" in message:
                self.heard.append(message["text"])
            self.last = message.get("id", self.last)

    def lose(self) -> None:
        """Poll, and hang up when the answer is there, unread."""
        request = f"GET {self.location} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=10\r\n"
        if self.cursor:
            request += f"If-None-Match: {self.cursor}\r\n"
        with socket.create_connection(("127.0.0.1", self.served.port)) as sock:
            sock.sendall(f"{request}\r\n".encode())
            select.select([sock], [], [], 20)


def test_curl(tmp_path: Path) -> None:
    """The whole life of a connection, by curl."""
    with serving(tmp_path) as served:
        status, headers, content = curl(
            served, "/room", "-X", "POST", "-H", "Prefer: respond-async"
        )
        assert status == 201
        told = json.loads(content)
        assert headers["location"] == told["location"].lower()
        location = told["location"]
        status, headers, content = curl(served, location, "-H", "Prefer: wait=10")
        assert status == 200  # where it is in what the room remembers
        assert [set(message) for message in json.loads(content)] == [{"id"}]
        assert curl(served, location, "--data-binary", "hi")[0] == 204
        tag = headers["etag"]
        status, headers, content = curl(served, location, "-H", f"If-None-Match: {tag}")
        (message,) = json.loads(content)
        assert message["text"].endswith(" hi")
        again = curl(served, location, "-H", f"If-None-Match: {tag}")
        assert (again[2], again[1]["etag"]) == (content, headers["etag"])
        tag = headers["etag"]
        empty = curl(served, location, "-H", f"If-None-Match: {tag}", "-H", "Prefer: wait=0")
        assert empty[0] == 204
        assert curl(served, location, "-d", "bye")[0] == 204
        _, _, content = curl(served, location, "-H", f"If-None-Match: {tag}")
        assert json.loads(content) == [
            {"text": "bye"},
            {"close": 4001, "reason": "as you wish"},
        ]
        assert curl(served, location, "-d", "more")[0] == 404
        wait_until(lambda: "disconnect 4001 as you wish" in served.seen.read_text())
        _, _, content = curl(served, "/room", "-X", "POST", "-H", "Prefer: respond-async")
        location = json.loads(content)["location"]
        assert [curl(served, location, "-X", "DELETE")[0] for _ in range(2)] == [204, 404]
        assert curl(served, "/room", "-X", "POST")[0] == 404  # Django has no such view


def test_http2(tmp_path: Path) -> None:
    """The same over HTTP/2, poll and post beside each other on one connection."""
    with serving(tmp_path) as served:
        h2 = "--http2-prior-knowledge"
        _, _, content = curl(served, "/room", h2, "-X", "POST", "-H", "Prefer: respond-async")
        location = json.loads(content)["location"]
        assert curl(served, location, h2)[0] == 200
        done = subprocess.run(
            [
                *("curl", "-sS", h2, "--parallel", "--parallel-immediate", "--max-time", "20"),
                *("-H", 'If-None-Match: "1"', served.url(location), "--next", h2, "-sS"),
                *("-d", "both", served.url(location)),
            ],
            capture_output=True,
            check=True,
        )
        (message,) = json.loads(done.stdout)
        assert message["text"].endswith(" both")


def test_lost_answers(tmp_path: Path) -> None:
    """Numbered messages, two gateways, every third answer lost: no gap, and none twice."""
    numbers = 60
    with serving(tmp_path, 2) as served:
        client = Client(served)

        def talk() -> None:
            for number in range(numbers):
                say(served, str(number))
                time.sleep(chance.random() / 50)

        chance = random.Random(0)
        talking = threading.Thread(target=talk)
        talking.start()
        while len(client.heard) < numbers:
            if chance.random() < 1 / 3:
                client.lose()
            else:
                assert client.poll() in (200, 204)
        talking.join()
        assert client.heard == [str(number) for number in range(numbers)]
        # Both had a hand in it: each poll reaches either, and one of them asks the other.
        assert served.total("gateway_relay_asks_total", plugin="longpoll", result="answered") > 0
        assert served.total("gateway_longpoll_polls_total", result="repeated") > 0
        by_gateway = [
            served.total("gateway_relay_asks_total", plugin="longpoll", gateway=str(number))
            for number in (1, 2)
        ]
        assert min(by_gateway) > 0


def test_gateway_is_killed(tmp_path: Path) -> None:
    """The other says 404 at once; a new connection goes on where the client was."""
    with serving(tmp_path, 2) as served:
        clients = [Client(served) for _ in range(12)]  # all at one gateway: once in 2,000
        for client in clients:
            assert client.poll() == 200  # the position
        say(served, "first")
        for client in clients:
            assert client.poll() == 200
        victim = served.processes()["gateway"][0]
        os.kill(victim, signal.SIGKILL)
        say(served, "second")
        gone = 0
        for client in clients:
            began = time.monotonic()
            status = client.poll()
            assert time.monotonic() - began < 5
            if status == 404:
                gone += 1
                back = Client(served, client.last)
                back.heard = client.heard
                assert back.poll() == 200
                assert not back.missed
            else:
                assert status == 200
            assert client.heard == ["first", "second"]
        assert 0 < gone < len(clients)
        wait_until(lambda: served.seen.exists())
        wait_until(lambda: served.seen.read_text().count("server-lost") == gone)


# ---------------------------------------------------------------- requests that are held


class Waiter:
    """A request that waits."""

    def __init__(self, served: Served) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        self.connection.request("GET", "/wait/")

    def answer(self) -> tuple[int, bytes]:
        """Status and content of the answer."""
        response = self.connection.getresponse()
        return response.status, response.read()

    def leave(self) -> None:
        """Hang up."""
        self.connection.close()


def count(served: Served) -> int:
    """How many wait."""
    return int(served.get("/count/")[1])


def test_held_requests(tmp_path: Path) -> None:
    """One message to a group answers all the requests that wait; who left is not among them."""
    with serving(tmp_path, 2) as served:
        waiters = [Waiter(served) for _ in range(150)]
        wait_until(lambda: count(served) == len(waiters))
        for waiter in waiters[:50]:
            waiter.leave()
        wait_until(lambda: count(served) == 100)
        wait_until(lambda: served.seen.read_text().count("left /wait/") == 50)
        say(served, "now", "/answer/")
        assert {waiter.answer() for waiter in waiters[50:]} == {(200, b"now")}
        wait_until(lambda: count(served) == 0)
        for waiter in waiters:
            waiter.leave()


def test_held_too_long(tmp_path: Path) -> None:
    """A request that nothing answers in ``http.timeout`` is answered 504, and waits no more."""
    with serving(tmp_path, 1, "--set", "http.timeout=1") as served:
        waiter = Waiter(served)
        wait_until(lambda: count(served) == 1)
        assert waiter.answer()[0] == 504
        wait_until(lambda: count(served) == 0)
        waiter.leave()
