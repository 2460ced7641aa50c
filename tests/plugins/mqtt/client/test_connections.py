"""How brokers are joined: TLS, names and passwords, versions, and what goes wrong there."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time

import pytest

from gateway.core.errors import ConfigError
from gateway.plugins.mqtt.client.check import check, client_id
from gateway.plugins.mqtt.client.config import Broker, LastWill
from gateway.plugins.mqtt.config import MqttConfig
from gateway.testing.stage import wait_until
from tests.certificates import Authority
from tests.house.serving import free_port
from tests.plugins.mqtt.client.conftest import config, joined, member
from tests.plugins.mqtt.client.mosquitto import MISSING, Device, Mosquitto

VERSIONS = pytest.mark.parametrize("version", ["5", "3.1.1"])


@pytest.fixture
def authority(tmp_path):
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def tls(tmp_path, authority):
    """A broker that speaks TLS, and knows who has a certificate of the authority's."""
    if MISSING:
        pytest.skip(MISSING)
    certificate, key = authority.issue_pair("broker", "localhost")
    port = free_port()
    lines = (
        f"listener {port} 127.0.0.1",
        f"cafile {authority.path}",
        f"certfile {certificate}",
        f"keyfile {key}",
        "require_certificate true",
        "use_identity_as_username true",
    )
    with Mosquitto(tmp_path, *lines) as made:
        made.tls = f"tls:localhost:{port}"
        yield made


def error_of(it, said=""):
    """Wait for why there is no connection."""

    def found():
        facts = member(it).kept.facts()
        return facts["state"] == "waiting" and said in facts["error"]

    wait_until(found)


@VERSIONS
def test_tls_and_a_certificate(tls, authority, version):
    """TLS is verified against our authorities, and a certificate says who the gateway is."""
    certificate, key = authority.issue_pair("gateway", "the-gateway", common_name="the-gateway")
    with joined(
        tls.tls,
        ca=authority.path,
        certificate=certificate,
        key=key,
        version=version,
        subscribe=("a",),
    ) as it:
        with Device(tls) as device:
            device.publish("a", b"over TLS" * 10_000)
        heard = it.hear()
        assert heard.message["bytes"] == b"over TLS" * 10_000
        heard.settle()
        assert "u'the-gateway'" in tls.log


def test_tls_goes_wrong(tls, authority, tmp_path):
    """A certificate that is not good, or one that is missing, is said; it is tried again."""
    certificate = authority.issue("gateway", "the-gateway", common_name="the-gateway")
    with joined(tls.tls, certificate=certificate, wait=False) as it:
        error_of(it, "its certificate is not good")
        assert it.plugin.health()["ok"]
        wait_until(lambda: member(it).kept.attempts > 2)
    with joined(tls.tls, ca=authority.path, wait=False) as it:
        error_of(it)
        assert not member(it)._link.is_up
    wrong = tls.tls.replace("localhost", "127.0.0.1")
    with joined(wrong, ca=authority.path, certificate=certificate, wait=False) as it:
        error_of(it, "127.0.0.1")
    with joined(wrong, verify=False, certificate=certificate) as it:
        assert member(it)._link.is_up


@VERSIONS
def test_name_and_password(tmp_path, version):
    """A name and a password are given; a wrong one is said in the broker's words."""
    if MISSING:
        pytest.skip(MISSING)
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "me", "secret"], check=True)
    with Mosquitto(tmp_path, f"password_file {passwords}", anonymous=False) as strict:
        with joined(strict.where, username="me", password="secret", version=version) as it:
            assert member(it)._link.is_up
        with joined(
            strict.where, username="me", password="wrong", version=version, wait=False
        ) as it:
            error_of(it, "the broker refused the connection: Not authorized")
            assert "secret" not in repr(it.plugin.health())
            failures = 'gateway_mqtt_connect_failures_total{target="plant"}'
            assert it.metrics.snapshot()[failures] >= 1


def test_nobody_is_there():
    """A name that does not resolve, and a port where nobody is, are said; nothing else stops."""
    for where in ("nowhere.invalid:1883", f"127.0.0.1:{free_port()}"):
        with joined(where, wait=False) as it:
            error_of(it)
            assert it.plugin.health()["ok"]


class Peer:
    """Takes connections, and does with them what the test says; each on a thread."""

    def __init__(self, serve):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.where = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.serve = serve
        self.taken = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.taken.append(sock)
            threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock):
        with contextlib.suppress(OSError):
            self.serve(sock)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._thread.join(5)
        for sock in self.taken:
            sock.close()


def test_a_peer_that_says_nothing():
    """A peer that takes connections and says nothing is given up; the loop never waits for it."""
    with Peer(lambda sock: None) as peer, joined(peer.where, connect_timeout=0.3, wait=False) as it:
        longest = 0.0
        while member(it).kept.attempts < 3:
            before = time.monotonic()
            it.call(int)
            longest = max(longest, time.monotonic() - before)
        assert longest < 0.25
        error_of(it, "no connection within 0.3 s")


def test_a_peer_that_shakes_no_hands():
    """TLS that never comes to an end is given up, too: on its thread."""
    with (
        Peer(lambda sock: None) as peer,
        joined(f"tls:{peer.where}", connect_timeout=0.3, wait=False) as it,
    ):
        error_of(it)
        it.call(int)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\x02\x00\x05",
        b"\x20\x00",
        b"\x20\x03\x00\x00",
        b"\x20\x02\x00\x00\x30\x02\x00\x00",
        b"\x20\x03\x00\x00\x00" + b"\x32\x03\x00\x01a",
        b"\x20\x03\x00\x00\x00" + b"\x3e\x05\x00\x01a\x00\x01",
        b"\x20\x03\x00\x00\x00" + b"\x40\x00",
        b"\x20\x03\x00\x00\x00" + b"\xf0\xff\xff\xff\xff\xff",
        b"\xff" * 100,
        b"",
    ],
)
@VERSIONS
def test_a_peer_that_is_no_broker(answer, version):
    """Bytes that are no MQTT cost that connection; it is tried again, and the loop goes on."""

    def serve(sock):
        sock.recv(1000)
        sock.sendall(answer)
        if not answer:
            sock.close()

    with (
        Peer(serve) as peer,
        joined(peer.where, version=version, connect_timeout=0.5, wait=False) as it,
    ):
        wait_until(lambda: member(it).kept.attempts > 1)
        it.call(int)


def test_a_topic_that_is_no_utf8():
    """A message whose topic is no UTF-8 is dropped, counted, and refused: it would come for ever."""
    heard = []

    def serve(sock):
        sock.recv(1000)
        sock.sendall(b"\x20\x03\x00\x00\x00" + b"\x32\x07\x00\x02\xff\xfe\x00\x09\x00")
        while data := sock.recv(1000):
            heard.append(data)

    with Peer(serve) as peer, joined(peer.where, wait=False) as it:
        wait_until(lambda: b"\x40\x03\x00\x09\x90" in b"".join(heard))
        assert it.metrics.dropped() == {"invalid": 1}


def test_the_will(own):
    """If the gateway is lost the broker says its will; if it leaves, it does not."""
    will = LastWill(topic="status", text="gone", qos=1, retain=True, delay=0)
    with Device(own, "status") as listener:
        with joined(own.where, will=will):
            pass
        with joined(own.where, will=will) as it:
            it.call(member(it)._link.cut)
            assert listener.payloads(1) == [b"gone"]


def test_taken_over():
    """A session that another client takes over is said so: two sites have one client id."""

    def serve(sock):
        sock.recv(1000)
        sock.sendall(b"\x20\x03\x00\x00\x00" + b"\xe0\x01\x8e")

    with Peer(serve) as peer, joined(peer.where, retry_longest=5.0) as it:
        heard = it.hear()
        assert heard.kind == "disconnect"
        assert heard.message["code"] == 0x8E
        assert heard.message["broker"] == "plant"
        assert heard.message["reason"] == "the broker ended it: Session taken over"
        heard.settle()
        error_of(it, "Session taken over")


@VERSIONS
def test_subscriptions_that_are_refused(tmp_path, version, caplog):
    """A subscription that the broker refuses is logged and counted, and makes health say so."""
    if MISSING:
        pytest.skip(MISSING)
    # This broker refuses none by its access list.
    with Mosquitto(tmp_path) as broker, joined(broker.where, version=version) as it:
        subscriptions = member(it)._subscriptions

        def refuse():
            subscriptions.filters = frozenset({"x"})
            subscriptions.asked(9, ["x"])
            member(it).subscribed(9, [0x87])

        it.call(refuse)
        assert not it.plugin.health()["ok"]
        assert it.plugin.health()["client"]["brokers"]["plant"]["refused"] == {"x": 0x87}
        counted = it.metrics.snapshot()
        assert counted['gateway_mqtt_subscriptions_refused_total{broker="plant"}'] == 1
        assert "refused the subscription 'x'" in caplog.text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"connect": "x"}, "mqtt.brokers.plant.connect"),
        ({"connect": "host"}, "mqtt.brokers.plant.connect"),
        ({"subscribe": ("a/b#",)}, "mqtt.brokers.plant.subscribe: 'a/b#' is a '#' that"),
        ({"publish": ("a+",)}, "mqtt.brokers.plant.publish: 'a+' is"),
        ({"reply_topics": ("",)}, "mqtt.brokers.plant.reply_topics: '' is an empty filter"),
        ({"subscribe": ("$share/g/a",)}, "write the filter alone, and set mode"),
        ({"will": LastWill(topic="a/#")}, "mqtt.brokers.plant.will.topic"),
        ({"version": "3.1.1", "subscribe": ("a/#",), "publish": ("a/+",)}, "allow_loop"),
        ({"mode": "shared", "subscribe": ("a/#",), "publish": ("a/+",)}, "allow_loop"),
        ({"group": "a/b"}, "mqtt.brokers.plant.group"),
        ({"key": "x"}, "mqtt.brokers.plant.key: there is no 'certificate'"),
        ({"ca": "x"}, "mqtt.brokers.plant.ca: the connection has no TLS; write connect = 'tls:"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    """Settings that do not fit stop the start with a sentence that names them."""
    settings = {"connect": "127.0.0.1:1883", **settings}
    with pytest.raises(ConfigError) as caught:
        check(MqttConfig(brokers={"plant": Broker(**settings)}))
    assert said in str(caught.value)


def test_more_settings_that_cannot_be(tmp_path):
    """A default that is no broker, and files that are not there, stop the start."""
    with pytest.raises(ConfigError, match=r"mqtt.default: there is no broker 'x'; .* has 'plant'"):
        check(MqttConfig(default="x", brokers={"plant": Broker(connect="h:1")}))
    for setting in ("ca", "certificate"):
        with (
            pytest.raises(ConfigError, match=f"mqtt.brokers.plant.{setting}: "),
            joined("tls:127.0.0.1:1", wait=False, **{setting: str(tmp_path / "no")}),
        ):
            pass
    check(config("h:1", version="3.1.1", subscribe=("a/#",), publish=("a/+",), allow_loop=True))
    check(config("h:1", version="5", subscribe=("a/#",), publish=("a/+",)))


def test_client_ids():
    """A derived client id is stable, short, and another one for each broker and each share."""
    broker = Broker(connect="h:1")
    found = {client_id("a", broker), client_id("b", broker), client_id("a", broker, 1)}
    assert len(found) == 3
    assert all(one.isalnum() and len(one) <= 23 for one in found)
    assert client_id("a", broker) == client_id("a", Broker(connect="other:1"))
    assert client_id("a", Broker(connect="h:1", client_id="mine")) == "mine"
    assert client_id("a", Broker(connect="h:1", client_id="mine"), 2) == "mine-2"
