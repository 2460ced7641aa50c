"""A layer of somebody else's, found by its URL's scheme."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.cli.toy import asking, register

LAYER = '''
"""Messages by carrier pigeon."""
from gateway.core.layers.memory import MemoryLayer

class PigeonLayer(MemoryLayer):
    def __init__(self, url, options):
        print("a loft at", url, flush=True)
        super().__init__("memory://" + url.partition("://")[2], options)
'''


def install(toys):
    (toys / "pigeon.py").write_text(LAYER)
    points = "[gateway.layers]\npigeon = pigeon:PigeonLayer\nbroken = pigeon:Nothing\n"
    register(toys, "pigeon", "1.0", points)


def test_served(start, toys):
    """An installed layer serves gateway and workers; no plugin need be loaded for it."""
    install(toys)
    gateway = start("run", "--plugins", "toy", "--workers", "0", "--layer", "pigeon://roof")
    with asking(gateway.port()) as client:
        assert client.ask("hello") == "hello"
    assert gateway.text().count("a loft at pigeon://roof") == 2
    assert "layer      pigeon://roof" in gateway.text()
    gateway.signal()
    assert gateway.wait() == 0


def test_anywhere(toys):
    """Any process opens it by its URL; one that cannot be imported is told by name."""
    install(toys)
    code = "import gateway; print(type(gateway.open_layer('pigeon://x')).__name__)"
    broken = "import gateway; gateway.open_layer('broken://x')"
    done = [
        subprocess.run(
            [sys.executable, "-P", "-c", text],
            env=os.environ | {"PYTHONPATH": str(toys)},
            capture_output=True,
            text=True,
            check=False,
            timeout=15,
        )
        for text in (code, broken)
    ]
    assert done[0].stdout.endswith("PigeonLayer\n")
    assert "layer 'broken://x': pigeon:Nothing cannot be imported" in done[1].stderr
