"""Autobahn's fuzzing client against an echo consumer through the bus."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.config import GatewaySettings
from tests.plugins.websocket import suite
from tests.plugins.websocket.serving import ECHO, Serving, on_loop

FAST = (
    ("1.*", "2.*", "3.*", "4.*"),
    ("5.*",),
    ("6.1.*", "6.2.*", "6.3.*", "6.4.*", "6.5.*"),
    tuple(f"6.{section}.*" for section in range(6, 24)),
    ("7.*", "10.*"),
)
"""Framing, pings, reserved bits, opcodes, fragments, UTF-8, closing, fragmented writes."""
FULL = tuple((f"9.{section}.*",) for section in range(1, 9))
"""Large messages and many of them."""
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}

pytestmark = [
    pytest.mark.autobahn,
    pytest.mark.skipif(bool(suite.missing()), reason=suite.missing()),
]


@pytest.mark.parametrize("cases", FAST, ids=" ".join)
@on_loop
async def test_fast(cases: tuple[str, ...], tmp_path: Path) -> None:
    """Every case is passed, at worst in a way that the suite calls non-strict."""
    async with Serving(ECHO) as gateway:
        found = await suite.fuzz(gateway.url, cases, tmp_path)
    assert found
    bad = {
        number: report
        for number, report in found.items()
        if not {report["behavior"], report["behaviorClose"]} <= GOOD
    }
    assert not bad


@pytest.mark.parametrize("cases", FULL, ids=" ".join)
@on_loop
async def test_full(cases: tuple[str, ...], tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Large and many messages pass; one that is over a message's limit is told so: 1009."""
    if pytestconfig.getoption("--autobahn") != "full":
        pytest.skip("only with --autobahn=full")
    settings = GatewaySettings(outbox_messages=10_000, outbox_bytes=64 * 1024 * 1024)
    async with Serving(ECHO, settings=settings) as gateway:
        found = await suite.fuzz(gateway.url, cases, tmp_path)
    assert found
    for number, report in found.items():
        passed = {report["behavior"], report["behaviorClose"]} <= GOOD
        assert passed or (number in TOO_BIG and report["remoteCloseCode"] == 1009), report


TOO_BIG = frozenset(
    [
        *(f"9.{section}.{case}" for section in (1, 2) for case in range(3, 7)),
        *(f"9.{section}.{case}" for section in (3, 4) for case in range(1, 10)),
        *(f"9.{section}.{case}" for section in (5, 6) for case in range(1, 7)),
    ]
)
"""Cases whose messages are of 1 MiB and more, where the layer carries 1 MiB, address included."""
