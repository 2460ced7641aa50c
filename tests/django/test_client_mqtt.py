"""`GatewayClient.mqtt()`: devices in tests, and consumers of devices tried with them."""

import asyncio
import hashlib
import hmac
import re
import secrets
import socket

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import override_settings

from django_gateway import Channel, MqttConsumer, Reject, route
from django_gateway import route_class as routes_of
from django_gateway.testing.conversation import Event

PLUGINS = ["mqtt"]
both = pytest.mark.parametrize("protocol", [4, 5])


@pytest.fixture
def site(client_of):
    """Make clients of a site that speaks MQTT."""
    return lambda *routes, **arguments: client_of(*routes, plugins=PLUGINS, **arguments)


@pytest.fixture
def tables():
    """Have a database, without the users of other modules' tests."""
    call_command("migrate", verbosity=0)
    User.objects.all().delete()


class Sensors(MqttConsumer):
    topics = ["sensors/+sensor/temp"]

    def connect(self, message):
        if message["username"] == "mallory":
            raise Reject(0x86, "go away")

    def subscribe(self, message):
        if ["#", 0] in [list(one) for one in message["filters"]]:
            raise Reject

    def receive(self, message, sensor):
        if message.text == "wrong":
            raise Reject(0x99)
        if message.text == "?":
            message.reply(f"I heard {sensor}", qos=1)
        self.publish("seen", text=f"{sensor}={message.text}", qos=1)


@both
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_one_publishes_the_other_hears(site, protocol, qos):
    """What a device publishes with any QoS its consumer hears, and who subscribes."""
    client = site(routes_of(Sensors))
    with (
        client.mqtt("ann", protocol=protocol) as ann,
        client.mqtt("bob", protocol=protocol) as bob,
    ):
        assert ann.accepted
        assert not ann.session_present
        assert bob.subscribe("seen", qos=2) == 2
        assert bob.subscribe("sensors/#", qos=qos) == qos
        assert bob.subscribe("#") >= 0x80
        code = ann.publish("sensors/7/temp", "20", qos)
        assert code == (0 if qos else None)
        assert ann.outcome.kind == "accepted"
        heard = [bob.receive() for _ in range(2)]
        assert {(one.name, str(one.value).strip("b'"), one.packet.qos) for one in heard} == {
            ("seen", "7=20", 1), ("sensors/7/temp", "20", qos),
        }  # fmt: skip
        bob.expect_nothing()
        ann.expect_nothing()


@both
def test_refused(site, protocol):
    """A device that is not let in knows the code, and nothing can be sent."""
    client = site(routes_of(Sensors))
    with client.mqtt("m", username="mallory", protocol=protocol) as device:
        assert not device.accepted
        assert device.rejected == (0x86 if protocol == 5 else 4)
        assert device.closed
        assert device.properties.get("reason_string") == ("go away" if protocol == 5 else None)
        with pytest.raises(AssertionError, match=r"nothing can be sent.*was refused: 0x"):
            device.publish("a")


def test_what_a_consumer_rejects(site):
    """A publish that is rejected is acknowledged with the code; unsubscribing has one, too."""
    with site(routes_of(Sensors)).mqtt("d") as device:
        assert device.publish("sensors/7/temp", "wrong", 1) == 0x99
        assert device.unsubscribe("nothing") == 0x11
        assert device.subscribe("a", no_local=True, retain_handling=2, identifier=7) == 0
        assert device.ping()


def test_expectations(site):
    """A message is expected by its topic, and as a text whatever it is marked as."""
    client = site(routes_of(Sensors))
    with client.mqtt("d") as device:
        device.subscribe("news/+", identifier=7)
        device.publish("sensors/7/temp", b"?", 1, response_topic="answers/d")
        event = device.expect_message("answers/d", "I heard 7")
        assert (event.kind, event.packet.qos) == ("text", 1)
        for payload in ("one", "two", "three"):
            MqttConsumer.publish("news/a", bytes=payload.encode())
        assert device.expect_message("news/a", "one").packet.properties == {
            "subscription_identifiers": [7]
        }
        assert device.expect_message("news/a", re.compile("^tw")).value == b"two"
        with pytest.raises(AssertionError, match="'news/a': 'four', got bytes b'three'"):
            device.expect_message("news/a", "four")
        Channel("mqtt.publish!news_2fb").send({"text": "x", "retain": True})
        device.forget()
        with pytest.raises(AssertionError, match="nothing came"):
            device.expect_message("news/b")
    with client.mqtt("later") as late:
        late.subscribe("news/#")
        assert late.expect_message("news/b", "x").packet.retain


@both
def test_a_session_and_a_will(site, protocol):
    """A device that comes back has its session; one that is cut off leaves its will."""
    keeps = {"clean_start": False, "protocol": protocol}
    if protocol == 5:
        keeps["properties"] = {"session_expiry_interval": 60}
    client = site(routes_of(Sensors), route("mqtt.receive", lambda message: None))
    will = {"topic": "gone", "text": "d is lost", "qos": 1}
    device = client.mqtt("d", acknowledges=False, **keeps).connect()
    device.subscribe("seen", qos=1)
    MqttConsumer.publish("seen", text="1", qos=1)
    assert not device.receive().packet.duplicate
    device.cut()
    MqttConsumer.publish("seen", text="2", qos=1)
    with client.mqtt("d", will=will, **keeps) as device, client.mqtt("other") as other:
        assert device.session_present
        assert [device.expect_message("seen", text).packet.duplicate for text in "12"] == [
            True, False,
        ]  # fmt: skip
        other.subscribe("gone")
        device.cut()
        other.expect_message("gone", "d is lost")
    with client.mqtt("d", clean_start=True, protocol=protocol) as device:
        assert not device.session_present


def test_acknowledged_by_the_test(site):
    """A test may acknowledge by itself, and with a code."""
    client = site(routes_of(Sensors))
    with client.mqtt("d", acknowledges=False, properties={"receive_maximum": 1}) as device:
        device.subscribe("seen", qos=2)
        for number in range(3):
            MqttConsumer.publish("seen", text=str(number), qos=number % 2 + 1)
        for number in range(3):
            event = device.expect_message("seen", str(number))
            device.expect_nothing()
            device.acknowledge(event, 0x83 if number == 2 else 0)
        MqttConsumer.publish("seen", text="plain")
        event = device.receive()
        with pytest.raises(ValueError, match="only what came with QoS 1 or 2"):
            device.acknowledge(event)


def test_time(site):
    """A device that gives no sign of life is ended, as the clock of the client says."""
    client = site(routes_of(Sensors))
    with client.mqtt("d", keepalive=10) as device:
        client.clock.advance(9)
        assert device.ping()
        client.clock.advance(21)
        assert device.expect_close(0x8D) == 0x8D
        assert device.closed
    with client.mqtt("e") as first, client.mqtt("e") as second:
        first.expect_close(0x8E)
        assert second.accepted


def test_topic_aliases(site):
    """The device knows the gateway's topic aliases."""
    client = site(routes_of(Sensors))
    with client.mqtt("d", properties={"topic_alias_maximum": 3}) as device:
        device.subscribe("seen")
        for text in ("1", "2"):
            MqttConsumer.publish("seen", text=text)
            event = device.expect_message("seen", text)
        assert event.packet.topic == ""


def test_together(site):
    """What is sent in a block of `together` has no answer yet."""
    client = site(routes_of(Sensors))
    with client.mqtt() as device:
        assert device.client_id.startswith("gateway-")
        with client.together():
            assert device.subscribe("seen") is None
            assert device.publish("sensors/1/temp", "1", 1) is None
        device.expect_message("seen")


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (lambda c: c.mqtt("d", protocol=3), ValueError, "protocol is 4 .MQTT 3.1.1. or 5, not 3"),
        (lambda c: c.mqtt("d", protocol=4, method="X"), ValueError, "protocol=5 has"),
        (lambda c: c.mqtt("d", will={"topic": "a", "txt": "b"}), TypeError, "will has no 'txt'"),
        (lambda c: c.mqtt("d").publish("a"), AssertionError, "it is not connected"),
        (lambda c: c.mqtt("d").connect().subscribe("a", nolocal=1), TypeError, "'nolocal'"),
        (lambda c: c.mqtt("d").connect().authenticate(), ValueError, "no method"),
        (
            lambda c: c.mqtt("d", protocol=4).connect().publish("a", content_type="b"),
            ValueError,
            "has no properties",
        ),
        (
            lambda c: c.mqtt("d", protocol=4).connect().subscribe("a", no_local=True),
            ValueError,
            "knows no options",
        ),
    ],
)
def test_wrong(site, wrong, error, words):
    """What cannot be is said in words that name the fix."""
    with pytest.raises(error, match=words):
        wrong(site(routes_of(Sensors)))


def test_without_the_plugin(client_of):
    """A site without the plugin says so."""
    with pytest.raises(LookupError, match="no plugin 'mqtt'"):
        client_of(routes_of(Sensors), plugins=["http"]).mqtt("d").connect()


def test_async(site):
    """All verbs have twins for tests that run on a loop."""

    async def main():
        client = site(routes_of(Sensors))
        async with client.mqtt("d") as device:
            assert await device.asubscribe("seen", 1) == 1
            assert await device.apublish("sensors/7/temp", "20", 1) == 0
            await device.aexpect_message("seen", "7=20")
            with pytest.raises(ValueError, match="only what came with QoS"):
                await device.aacknowledge(Event("text", "7=20"))
            assert await device.aunsubscribe("seen") == 0
            assert await device.aping()
            with pytest.raises(RuntimeError, match="await apublish"):
                device.publish("a")
            await device.aclose()
            assert device.closed

    asyncio.run(main())


# ---------------------------------------------------------------- who it is, by steps

SECRET = b"shared"


class Proven(MqttConsumer):
    channel_session = True

    def auth(self, message):
        if message["method"] != "CHALLENGE":
            raise Reject(0x8C, "CHALLENGE is spoken here")
        nonce = message.channel_session.get("nonce")
        if message["step"] == 1:
            nonce = message.channel_session["nonce"] = secrets.token_hex(8)
            message.reply(auth=nonce.encode())
        elif message["data"] == respond(nonce.encode()):
            message.channel_session["proven"] = message["client_id"]
            message.accept(auth=b"welcome")
        else:
            raise Reject(0x87, "wrong")

    def connect(self, message):
        if message.channel_session.get("proven") != message["client_id"]:
            raise Reject(0x87, "prove it")

    def receive(self, message):
        message.reply(message.channel_session["proven"])


def respond(nonce):
    return hmac.new(SECRET, nonce, hashlib.sha256).digest()


@override_settings(CHANNEL_SESSION_ENGINE="django.contrib.sessions.backends.db")
def test_authentication_by_steps(site, tables):
    """A device proves who it is by steps; what they keep is there for the consumers that follow."""
    client = site(routes_of(Proven))
    asked = {"method": "CHALLENGE", "data": b"hello"}
    with client.mqtt("d", answer=respond, **asked) as device:
        assert device.properties["authentication_data"] == b"welcome"
        device.publish("a")
        device.expect_message("a/reply", "d")
        assert device.authenticate(b"again") == b"welcome"
    with client.mqtt("d", answer=lambda nonce: b"guess", **asked) as device:
        assert (device.rejected, device.properties["reason_string"]) == (0x87, "wrong")
    with client.mqtt("d") as device:
        assert device.rejected == 0x87
    with client.mqtt("d", method="WALK") as device:
        assert device.rejected == 0x8C


@override_settings(CHANNEL_SESSION_ENGINE="django.contrib.sessions.backends.db")
def test_users(site, tables):
    """Name and password are those of a user of Django's."""
    User.objects.create_user("anna", password="secret")

    class Users(MqttConsumer):
        def connect(self, message):
            if not message.user.is_authenticated:
                raise Reject(0x86)

        def receive(self, message):
            pass

    client = site(routes_of(Users))
    with client.mqtt("d", username="anna", password="secret") as device:
        assert device.accepted
    with client.mqtt("d", username="anna", password=b"guess") as device:
        assert device.rejected == 0x86


def test_brokers_are_left_alone(client_of):
    """Nothing leaves the process: a broker that the settings name is not connected to."""
    with socket.create_server(("127.0.0.1", 0)) as broker:
        brokers = {"plant": {"connect": f"127.0.0.1:{broker.getsockname()[1]}"}}
        mqtt = {"listen": [], "default": "plant", "brokers": brokers}
        with override_settings(GATEWAY={"plugins": ["mqtt"], "mqtt": mqtt}):
            client = client_of(route("mqtt.receive", lambda message: None))
            client.clock.advance(30)
        broker.setblocking(False)
        with pytest.raises(BlockingIOError):
            broker.accept()
