"""The worker without Django, on a hub of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gateway import open_layer
from tests.house.serving import stop, wait_for_listener

ROOT = Path(__file__).resolve().parents[2]


def test_plain_worker(tmp_path: Path) -> None:
    """Twenty lines take, answer and settle; the sender hears the answer, then the outcome."""
    source = (ROOT / "examples" / "plain_worker.py").read_text().split('"""')[2]
    assert len([line for line in source.splitlines() if line.strip()]) <= 20

    url = f"unix://{tmp_path}/hub.sock"
    hub = subprocess.Popen([sys.executable, "-m", "gateway", "hub", "--layer", url], text=True)
    wait_for_listener(f"{tmp_path}/hub.sock", hub)
    worker = subprocess.Popen(
        [sys.executable, ROOT / "examples" / "plain_worker.py", url], text=True
    )
    layer = open_layer(url)
    try:
        inbox = f"answers.{layer.process}!"
        layer.send_many("shout.receive", [{"text": "hi", "reply_channel": f"{inbox}1"}], receipt=7)
        channel, answer = layer.receive([inbox], block=15)
        assert (channel, answer) == (f"{inbox}1", {"text": "HI"})
        _, outcome = layer.receive([inbox], block=15)
        assert (outcome["receipt"], outcome["kind"]) == (7, "accepted")
    finally:
        layer.close()
        stop(worker)
        stop(hub)
