"""Throw what devices may send, and what none should, at the server role: ``make fuzz``.

Conversations are made by chance from a seed and a number, some of their bytes damaged, cut into
pieces, and sent by several devices at once, some of which leave in the middle. Wrong is: a session
that raised, a neighbour that is not served, bytes that paho's side of the codec does not read, a
connection that is left.

Run as ``python -m tests.plugins.mqtt.fuzz --seconds 60``; ``--seed`` and ``--only`` repeat one.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random
from typing import Any

from gateway.core.layers.base import FAILED, OK, REJECTED, Outcome
from gateway.plugins.mqtt import packets as p
from gateway.plugins.mqtt.codec import Decoder, encode
from gateway.plugins.mqtt.packets import Fault
from tests.plugins.mqtt.device import Site, site

DEVICES = 6
OUTCOMES = [OK] * 6 + [Outcome(REJECTED), Outcome(REJECTED, 0x97), Outcome(FAILED)]


class Finding(AssertionError):  # noqa: N818 - a result, told to whoever asked
    """Something is wrong: what, and the bytes that led to it."""


def packet(random: Random, protocol: int) -> p.Packet:
    """Return a packet such as a device sends, or such as none should."""
    topic = random.choice(["a", "a/b", "$SYS/x", "long/" * 40, "é"])
    number = random.randrange(1, 6)
    qos = random.randrange(3)
    five = protocol == p.V5
    properties: dict[str, Any] = {}
    if five and random.random() < 0.3:
        properties = random.choice(
            [{"topic_alias": random.randrange(1, 20)}, {"response_topic": "r"},
             {"user_properties": [("id", "x")]}, {"payload_format_indicator": 1}]
        )  # fmt: skip
    choices: list[p.Packet] = [
        p.Publish(topic, random.randbytes(random.choice([0, 5, 300])), qos,
                  random.random() < 0.3, bool(qos) and random.random() < 0.3,
                  number if qos else 0, properties),
        p.Ack(random.choice([p.PUBACK, p.PUBREC, p.PUBREL, p.PUBCOMP]), number),
        p.Subscribe(number, [(random.choice(["#", "a/+", "$share/g/a", "$share/g"]), qos)]),
        p.Unsubscribe(number, [random.choice(["#", "a/+", "$share/g/a"])]),
        p.Ping(random.choice([p.PINGREQ, p.PINGREQ, p.PINGRESP])),
        p.Connect("again", protocol),
        p.Disconnect(),
    ]  # fmt: skip
    return random.choices(choices, [10, 4, 4, 2, 3, 0.2, 0.5])[0]


def conversation(random: Random) -> tuple[int, bytes]:
    """Return the version that a device speaks, and all that it says."""
    protocol = random.choice([p.V311, p.V5])
    will = p.Will("a", b"gone", random.randrange(3)) if random.random() < 0.3 else None
    name = random.choice(["", "one", "two", "three"])
    hello = p.Connect(name, protocol, random.random() < 0.5 or not name, will=will)
    wire = bytearray(encode(hello, protocol))
    for _ in range(random.randrange(12)):
        wire += encode(packet(random, protocol), protocol)
    for _ in range(random.choice([0, 0, 1, 3])):
        place = random.randrange(len(wire))
        wire[place] ^= 1 << random.randrange(8)
    if random.random() < 0.1:
        wire += random.randbytes(random.randrange(40))
    return protocol, bytes(wire)


def reads(answer: bytes, protocol: int) -> bool:
    """Return whether bytes are packets of that version."""
    found = Decoder(protocol=protocol).feed(answer)
    return not any(isinstance(one, Fault) for one in found)


def round_of(served: Site, random: Random) -> None:
    """Have some devices say what they have to say, mixed; then look whether all is well."""
    served.decide = lambda _: random.choice(OUTCOMES)
    said = [conversation(random) for _ in range(DEVICES)]
    clients = [served.rig.connect() for _ in said]
    rest = [wire for _, wire in said]
    heard = [b"" for _ in said]
    while any(rest):
        number = random.choice([n for n, wire in enumerate(rest) if wire])
        size = random.choice([1, 3, 20, 1000])
        clients[number].send(rest[number][:size])
        rest[number] = rest[number][size:]
        if random.random() < 0.02:
            clients[number].cut()
            rest[number] = b""
        if random.random() < 0.3:
            served.serve(random.choice([0, 0, 0.1]))
    served.serve(3)
    for number, client in enumerate(clients):
        heard[number] += client.take()
    texts = served.rig.gateway.complaints
    if any("raised" in text or "Traceback" in text for text in texts):
        raise Finding(f"a session raised: {texts[-1]!r}; {said!r}")
    for (_, wire), answer in zip(said, heard, strict=True):
        # Whose CONNECT was damaged is answered in whatever version that says, if in any.
        if not (reads(answer, p.V311) or reads(answer, p.V5)):
            raise Finding(f"what is answered is no MQTT: {answer!r} to {wire!r}")
    served.decide = lambda _: OK
    neighbour = served.device("neighbour")
    answers = neighbour.ask(p.Publish("n", b"", 1, packet_id=1))
    if p.Ack(p.PUBACK, 1) not in answers:
        raise Finding(f"a neighbour is not served: {answers!r}; {said!r}")
    for client in (*clients, neighbour.client):
        client.cut()
    served.serve(1)
    if left := list(served.rig.engine.by_channel):
        raise Finding(f"left are {left!r}; {said!r}")
    served.heard.clear()


def run(seconds: float, seed: int, only: int | None = None) -> int:
    """Return how many rounds were run."""
    number = only or 0
    end = time.monotonic() + seconds
    with site(attempts=2, retry_wait=0.2, max_queued=20) as served:
        while time.monotonic() < end or number == (only or 0):
            try:
                round_of(served, Random(f"{seed}-{number}"))
            except Finding as finding:
                raise Finding(f"--seed {seed} --only {number}: {finding}") from None
            number += 1
            if only is not None:
                break
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    done = run(options.seconds, options.seed, options.only)
    print(f"{done} rounds of {DEVICES} devices: nothing found (seed {options.seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
