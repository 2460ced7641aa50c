"""A Django project served to devices: users, topics, and MQTT over WebSocket in node and Chromium."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests import npm
from tests.demo.browser import PROGRAM, Browser
from tests.e2e.serving import Served, wait_until
from tests.plugins.mqtt.test_peers import Client

PROJECT = Path(__file__).parent / "project"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return where the users are: one of them is anna."""
    path = str(tmp_path_factory.mktemp("mqtt") / "db.sqlite3")
    made = """
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
User.objects.create_user("anna", password="secret")
"""
    subprocess.run(
        [sys.executable, "-c", made],
        env=os.environ
        | {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(PROJECT), "MQTT_DATABASE": path},
        check=True,
    )
    return path


class Devices(Served):
    """A served project whose gateway speaks MQTT."""

    @property
    def mqtt(self) -> int:
        """The port that devices connect to."""
        found = re.search(r"mqtt\D+127\.0\.0\.1:(\d+)", self.text())
        assert found is not None, self.text()
        return int(found[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Devices]:
    with Devices(
        tmp_path_factory.mktemp("served"),
        "--plugins",
        "http,websocket,mqtt",
        "--set",
        "mqtt.listen='127.0.0.1:0'",
        "--set",
        "mqtt.max_connections_per_address=1",  # this machine's own are not counted
        "--set",
        "http.trusted_proxies=127.0.0.1",
        project=PROJECT,
        MQTT_DATABASE=database,
    ) as running:
        yield running


def client(served: Devices, name: str, password: str | None = None, user: str = "anna") -> Client:
    found = Client(served.mqtt, name)
    if password is not None:
        found.username_pw_set(user, password)
    return found


def test_an_address_has_its_bound_over_websocket(served: Devices) -> None:
    """One address holds no more connections over WebSocket than over TCP; its place is given back."""

    def handshake(address: str) -> tuple[HTTPConnection, int]:
        connection = HTTPConnection("127.0.0.1", served.port, timeout=5)
        fields = {
            "upgrade": "websocket",
            "connection": "upgrade",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-version": "13",
            "sec-websocket-protocol": "mqtt",
            "x-forwarded-for": address,
        }
        connection.request("GET", "/mqtt", headers=fields)
        return connection, connection.getresponse().status

    one, status = handshake("192.0.2.1")
    two, refused = handshake("192.0.2.1")
    other, elsewhere = handshake("192.0.2.2")
    assert (status, refused, elsewhere) == (101, 503, 101)
    for connection in (one, two, other):
        connection.close()

    def again() -> bool:
        connection, status = handshake("192.0.2.1")
        connection.close()
        return status == 101

    wait_until(again)


def payloads(found: Client) -> list[str]:
    return [message.payload.decode() for message in found.got]


def test_users_and_topics(served: Devices) -> None:
    """A user name and password are Django's to check; a class has its topics, with their names."""
    with client(served, "a", "secret") as a, client(served, "b") as b:
        b.subscribe("seen/#", 1)
        wait_until(lambda: b.granted)
        a.publish("sensors/7/temp", "20.5", 1)
        wait_until(lambda: b.got)
        assert payloads(b) == ["7=20.5 by anna"]
        b.publish("sensors/8/hum", "40", 1)
        wait_until(lambda: len(b.got) == 2)
        assert payloads(b)[1] == "8=40 by somebody"


def test_wrong_password(served: Devices) -> None:
    """Who is not known is refused, with the words of the application."""
    wrong = client(served, "a", "wrong")
    wrong.connect("127.0.0.1", served.mqtt)
    wrong.loop_start()
    wait_until(lambda: wrong.codes)
    wrong.loop_stop()
    assert wrong.codes == [(False, 0x86)]


def test_answers(served: Devices) -> None:
    """A reply comes to the topic that the device waits at."""
    with client(served, "c") as c:
        c.publish("hello", "you", 1)
        wait_until(lambda: c.got)
        assert [(m.topic, m.payload) for m in c.got] == [("hello/reply", b"you said you")]


def test_idempotent(served: Devices) -> None:
    """A message with an id of the application's runs once, however often it comes."""
    with client(served, "i") as found:
        its = Properties(PacketTypes.PUBLISH)
        its.UserProperty = ("id", "order-1")
        for _ in range(3):
            found.publish("once/x", "pay", 1, properties=its)
        found.publish("once/x", "other", 1)
        wait_until(lambda: len(found.acked) == 4)
        wait_until(lambda: len(found.got) == 2)
        assert payloads(found) == ["run 1", "run 2"]


def test_from_a_view(served: Devices) -> None:
    """What a view publishes reaches who subscribes."""
    with client(served, "v") as found:
        found.subscribe("jobs/+", 1)
        wait_until(lambda: found.granted)
        urllib.request.urlopen(f"http://127.0.0.1:{served.port}/publish?text=go").read()
        wait_until(lambda: found.got)
        assert payloads(found) == ["go"]


JS = """
const client = mqtt.connect(URL, {
  protocolVersion: VERSION, clientId: 'js' + VERSION, reconnectPeriod: 0, username: 'anna', password: 'secret',
});
const got = [];
const done = new Promise((resolve, reject) => {
  client.on('error', reject);
  client.on('message', (topic, payload, packet) => {
    got.push(`${topic} ${payload.length} ${packet.qos}`);
    if (got.length === 4) { client.end(); resolve(got); }
  });
  client.on('connect', async () => {
    await client.subscribeAsync('js/#', { qos: 2 });
    for (const qos of [0, 1, 2]) await client.publishAsync(`js/${qos}`, 'hé', { qos });
    await client.publishAsync('js/large', 'x'.repeat(300000), { qos: 1 });
  });
});
"""
ALL = ["js/0 3 0", "js/1 3 1", "js/2 3 2", "js/large 300000 1"]


def script(url: str, version: int) -> str:
    return f"const URL = {json.dumps(url)}, VERSION = {version};" + JS


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("scheme", ["mqtt", "ws"])
def test_mqtt_js(served: Devices, scheme: str, version: int) -> None:
    """MQTT.js in node publishes and subscribes with every QoS, over TCP and over WebSocket."""
    if why := npm.missing("mqtt"):
        pytest.skip(why)
    port = served.mqtt if scheme == "mqtt" else served.port
    path = "/mqtt" if scheme == "ws" else ""
    code = (
        "const mqtt = require('mqtt');"
        + script(f"{scheme}://127.0.0.1:{port}{path}", version)
        + "done.then(got => console.log(JSON.stringify(got)));"
    )
    found = subprocess.run(
        ["node", "-e", code],
        env=os.environ | {"NODE_PATH": str(npm.HOME / "node_modules")},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert sorted(json.loads(found.stdout)) == [f"{one}" for one in ALL if one]


def test_chromium(served: Devices, tmp_path: Path) -> None:
    """MQTT.js in a page of Chromium does the same over WebSocket."""
    if PROGRAM is None:
        pytest.skip("no chromium here (Debian: apt install chromium)")
    if why := npm.missing("mqtt"):
        pytest.skip(why)
    library = (npm.HOME / "node_modules" / "mqtt" / "dist" / "mqtt.min.js").read_text()
    browser = Browser(tmp_path)
    try:
        with browser.open(f"http://127.0.0.1:{served.port}/") as page:
            page.run(library + "\n1")
            url = f"ws://127.0.0.1:{served.port}/mqtt"
            found: Any = page.run(f"(async () => {{ {script(url, 5)}; return await done; }})()")
    finally:
        browser.close()
    assert sorted(found) == ALL


def test_foreign_pages_are_refused(served: Devices) -> None:
    """A page of another site is refused."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request(
        "GET",
        "/mqtt",
        headers={
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "mqtt",
            "Origin": "https://evil.example",
        },
    )  # fmt: skip
    assert connection.getresponse().status == 403
    connection.close()
