"""The sensor plugin, by bytes over real sockets."""

from __future__ import annotations

import json
from typing import ClassVar

from gateway.core.access import AccessLog
from gateway.core.config import LogSettings
from gateway.core.layers.base import FAILED, OK, REJECTED, RELEASED, Outcome, group_add, group_send
from gateway.core.plugin import Peer
from gateway.testing.plugin_suite import PluginSuite, Turn
from gateway.testing.stage import Staged, wait_until

from . import Sensor
from .config import SensorConfig
from .translate import SensorSession

HELLO = Turn(hears=("connect", {"order": 0}), answer=b"HELLO\n")


class TestSensor(PluginSuite):
    plugin = Sensor
    config = SensorConfig()
    opening = (HELLO,)
    conversation = (
        Turn(b"S 1 20.5\n", ("receive", {"seq": 1, "value": 20.5, "order": 1}), answer=b"OK 1\n"),
        Turn(b"S 2 -3\r\n", ("receive", {"seq": 2}), Outcome(REJECTED), answer=b"NO 2\n"),
        Turn(b"S 3 0\n", ("receive", {"seq": 3}), Outcome(FAILED), answer=b"LATER 3\n"),
        Turn(b"nonsense\n", answer=b"WHAT\n"),
        Turn(b"x" * 200 + b"\n", answer=b"WHAT\n"),
        Turn(
            b"S 4 1\n",
            ("receive", {"seq": 4}),
            replies=({"text": "one"}, {"text": "two"}),
            answer=b"T one\nT two\nOK 4\n",
        ),
        Turn(
            b"S 5 1\nS 6 2\n",
            [("receive", {"seq": 5, "order": 5}), ("receive", {"seq": 6, "order": 6})],
            answer=b"OK 5\nOK 6\n",
        ),
    )
    question = b"S 7 1\n"
    answers: ClassVar = {
        "accepted": b"OK 7\n",
        "rejected": b"NO 7\n",
        "failed": b"LATER 7\n",
        "released": b"LATER 7\n",
        "unrouted": b"NO 7\n",
    }
    full = b"LATER 7\n"
    too_much = b"x" * 5000
    too_much_answer = b"WHAT\n"
    farewell = b"BYE\n"


def greeted(staged):
    """A sensor that was let in, and the message that said so."""
    client = staged.connect()
    heard = staged.hear()
    heard.settle(OK)
    assert staged.read(client, 6) == b"HELLO\n"
    return client, heard.message


def test_refused_connect():
    """A sensor that is not let in hears BYE; no disconnect follows."""
    with Staged(Sensor) as staged:
        client = staged.connect()
        staged.hear().settle(Outcome(REJECTED))
        assert staged.read_all(client) == b"BYE\n"
        client.close()
        assert staged.hear_any() is None
        wait_until(lambda: not staged.left_over())


def test_closed_by_a_reply():
    """A consumer can end a connection; its disconnect says that it was there."""
    with Staged(Sensor) as staged:
        client, message = greeted(staged)
        staged.worker.send(message["reply_channel"], {"text": "enough", "close": True})
        assert staged.read_all(client) == b"T enough\nBYE\n"
        client.close()
        assert staged.hear().kind == "disconnect"


def test_invalid_replies(caplog):
    """What the protocol cannot say is dropped, counted, and costs nothing else."""
    with Staged(Sensor) as staged:
        client, message = greeted(staged)
        for reply in ({"text": "a\nb"}, {"bytes": b"a"}, {"nonsense": 1}, {"text": "fine"}):
            staged.worker.send(message["reply_channel"], reply)
        assert staged.read(client, 7) == b"T fine\n"
        assert staged.metrics.dropped() == {"invalid": 3}


def test_group():
    """A group's message reaches every sensor in it, in order with direct ones."""
    with Staged(Sensor) as staged:
        sensors = [greeted(staged) for _ in range(3)]
        channels = [message["reply_channel"] for _, message in sensors]
        staged.worker.apply([group_add("hall", channel) for channel in channels])
        staged.worker.apply([group_send("hall", {"text": "a"}, [channels[2]])])
        for channel in channels:
            staged.worker.send(channel, {"text": "b"})
        for client, _ in sensors[:2]:
            assert staged.read(client, 8) == b"T a\nT b\n"
        assert staged.read(sensors[2][0], 4) == b"T b\n"


def test_ack():
    """A consumer learns that its text was taken by the sensor's socket."""
    with Staged(Sensor) as staged:
        client, message = greeted(staged)
        acks = staged.worker.new_channel("acks?")
        reply = {"text": "a", "ack": 5, "ack_channel": acks}
        staged.worker.send(message["reply_channel"], reply)
        assert staged.read(client, 4) == b"T a\n"
        _, answer = staged.worker.receive([acks], block=5)
        assert (answer["ack"], answer["outcome"]) == (5, "accepted")
        client.close()
        assert staged.hear().kind == "disconnect"
        staged.worker.send(message["reply_channel"], reply)
        _, answer = staged.worker.receive([acks], block=5)
        assert (answer["ack"], answer["outcome"]) == (5, "failed")


def test_readings_before_the_greeting_wait():
    """What a sensor sends before it is let in waits for that, and is kept in order."""
    with Staged(Sensor) as staged:
        client = staged.connect()
        client.sendall(b"S 1 1\nS 2 2\n")
        connect = staged.hear()
        assert (connect.kind, connect.message["order"]) == ("connect", 0)
        connect.settle(OK)
        for seq in (1, 2):
            heard = staged.hear()
            assert heard.message["seq"] == heard.message["order"] == seq
            heard.settle(OK)
        assert staged.read(client, 16) == b"HELLO\nOK 1\nOK 2\n"


def test_released_rest_is_offered_again():
    """After a release the rest of the delivery comes again, in order, once."""
    with Staged(Sensor) as staged:
        client, _ = greeted(staged)
        client.sendall(b"S 1 1\n")
        first = staged.hear()
        client.sendall(b"S 2 2\nS 3 3\n")
        wait_until(lambda: staged.call(lambda: staged.metrics.snapshot()[RECEIVED] == 3))
        first.settle(OK)
        staged.hear().settle(Outcome(RELEASED))
        for seq in (2, 3):
            heard = staged.hear()
            assert heard.message["seq"] == seq
            heard.settle(OK)
        assert staged.read(client, 15) == b"OK 1\nOK 2\nOK 3\n"


RECEIVED = 'gateway_messages_total{kind="receive",plugin="sensor"}'


def test_flood():
    """A sensor that floods is read no further than its inbox goes, and loses nothing."""
    with Staged(Sensor, inbox_messages=8) as staged:
        client, _ = greeted(staged)
        count = 3000
        client.sendall(b"".join(b"S %d 1\n" % n for n in range(count)))
        client.settimeout(20)
        first = staged.hear()
        connection = staged.call(lambda: next(staged.context.connections()))
        wait_until(lambda: connection.is_over(1))
        assert not connection.is_over(100)
        first.settle(OK)
        for n in range(1, count):
            heard = staged.hear()
            assert heard.message["seq"] == n
            heard.settle(OK)
        expected = b"".join(b"OK %d\n" % n for n in range(count))
        assert staged.read(client, len(expected)) == expected
        assert staged.metrics.dropped() == {}


def test_session_is_pure():
    """The session alone turns lines into messages, without anything around it."""
    session = SensorSession()
    [connect] = session.opened(Peer())
    assert connect.kind == "connect"
    [emit] = session.received(b"S 1 2.5\n")
    assert (emit.kind, emit.message, emit.token) == ("receive", {"seq": 1, "value": 2.5}, 1)


def ended(lines, before):
    """The record of the one connection that ended since there were ``before``."""
    wait_until(lambda: len(lines) > before)
    return json.loads(lines[-1])


def test_access_log():
    """Who brings a protocol gets its access log without a line of code."""
    lines: list[bytes] = []
    log = AccessLog(LogSettings(access="-", access_format="json"), lines.append)
    with Staged(Sensor, SensorConfig(max_connections=1), access=log) as staged:
        client, message = greeted(staged)
        with staged.connect() as crowded:
            assert staged.read_all(crowded) == b"BUSY\n"
        record = ended(lines, 0)
        assert (record["end"], record["sent"]) == ("refused", len("BUSY\n"))
        client.sendall(b"S 1 20.5\n")
        staged.hear().settle(OK)
        assert staged.read(client, 5) == b"OK 1\n"
        client.close()
        record = ended(lines, 1)
        assert record.pop("time").endswith("Z")
        assert 0 <= record.pop("seconds") < 5
        assert record == {
            "protocol": "sensor",
            "client": message["client"],
            "end": "client",
            "received": len("S 1 20.5\n"),
            "sent": len("HELLO\nOK 1\n"),
            "reply_channel": message["reply_channel"],
        }
        assert staged.hear().kind == "disconnect"
        client, message = greeted(staged)
        staged.worker.send(message["reply_channel"], {"text": "enough", "close": True})
        assert staged.read_all(client) == b"T enough\nBYE\n"
        client.close()
        record = ended(lines, 2)
        assert record["end"] == "application"
        assert record["sent"] == len("HELLO\nT enough\nBYE\n")
        assert staged.hear().kind == "disconnect"
        refused = staged.connect()
        staged.hear().settle(Outcome(REJECTED))
        assert staged.read_all(refused) == b"BYE\n"
        refused.close()
        assert ended(lines, 3)["end"] == "refused"
        assert len(lines) == 4
