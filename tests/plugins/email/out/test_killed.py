"""Whole gateways that are killed at every step of a delivery, and while mail is spooled."""

from __future__ import annotations

import os
import signal
from collections import defaultdict

import pytest

from gateway.core.layers.options import LayerOptions
from gateway.core.layers.unix import UnixLayer
from gateway.core.names import fill
from tests.e2e.serving import Served, wait_until
from tests.plugins.email.out.peer import Peer

pytestmark = pytest.mark.timeout(120)  # five processes start, and some seven times

STEPS = ("EHLO", "MAIL", "RCPT", "DATA", "END", "late hang")


@pytest.fixture
def peer():
    with Peer() as made:
        yield made


def serve(folder, peer):
    settings = {
        "smarthosts": f'{{peer = {{connect = "{peer.where}", tls = "none"}}}}',
        "delivery": "{retry_first = 0.1, retry_longest = 0.2, connections_per_destination = 1}",
        "spool": f'"{folder / "spool"}"',
        "sender": '"shop@example.org"',
        "listen": "[]",
    }
    options = [
        word for key, value in settings.items() for word in ("--set", f"email.{key}={value}")
    ]
    return Served(folder, "--plugins", "http,email", *options, gateways=2)


def deliverer(served):
    """The gateway process that delivers, by what it wrote down when it began to."""
    path = served.folder / "spool" / "deliverer"
    pid = int(path.read_text() or 0) if path.exists() else 0
    return pid if pid in served.processes()["gateway"] else 0


def test_nothing_is_lost_and_nothing_differs(tmp_path, peer):
    """Mail whose ack came arrives, though the gateway that delivers is killed at each step of it.

    What arrives a second time is the same to the last octet, its Message-ID included.
    """
    with serve(tmp_path, peer) as served:
        served.folder = tmp_path
        layer = UnixLayer(f"unix://{served.socket}", LayerOptions())
        acks = fill("acks.killed?")
        taken = []

        def send(number, *, wait=True):
            message = {"rcpt_to": ["ann@example.net"], "subject": f"mail {number}", "text": "hi"}
            layer.send("email.send", {**message, "ack": number, "ack_channel": acks})
            if wait:
                hear(10.0)

        def hear(seconds):
            _, ack = layer.receive([acks], block=seconds)
            if ack is not None:
                assert ack["outcome"] == "accepted", ack
                taken.append(ack["ack"])
            return ack

        def stuck(step, number):
            """Have the delivery of a mail stand still at a step."""
            name = "END" if step == "late hang" else step
            last = "hang" if step == "late hang" else name
            before = peer.asked.count(last)
            peer.script[name] = [step if step == "late hang" else "hang"]
            send(number)
            wait_until(lambda: peer.asked.count(last) > before)

        try:
            for number, step in enumerate(STEPS):
                stuck(step, number * 100)
                wait_until(lambda: deliverer(served))
                # Some more are on their way into the spool when it dies.
                for extra in range(1, 6):
                    send(number * 100 + extra, wait=False)
                os.kill(deliverer(served), signal.SIGKILL)
                while hear(0.3) is not None:
                    pass
            wait_until(lambda: len(served.processes()["gateway"]) == 2)
            send(9999)
            arrived = defaultdict(list)

            def all_there():
                arrived.clear()
                for raw, mail in zip(list(peer.mails), peer.parsed(), strict=False):
                    arrived[str(mail["subject"])].append(raw.original_content)
                return {f"mail {number}" for number in taken} <= arrived.keys()

            wait_until(all_there, 20.0)
            wait_until(lambda: not list((tmp_path / "spool" / "queue").iterdir()), 20.0)
            all_there()
        finally:
            layer.close()
    assert len(taken) >= len(STEPS) + 1
    assert all(len(set(copies)) == 1 for copies in arrived.values())
    # One was taken, and its server not heard of.
    assert max(map(len, arrived.values())) == 2
