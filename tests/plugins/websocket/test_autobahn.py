"""Autobahn's fuzzing client against an echo consumer through the bus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
SOME = (
    ("9.1.6", "9.2.6", "9.3.1", "9.4.9", "9.5.1", "9.6.6", "9.7.1", "9.8.6"),
    ("12.1.1", "12.1.4", "12.2.3", "12.3.5", "12.4.2", "12.5.4", "12.1.11"),
    tuple(f"13.{section}.{1 + section}" for section in range(1, 8)),
)
"""Of each kind of large messages, of compressible and incompressible ones, and of each offer of
compression, one."""
FULL = (
    ("9.*", False),
    *((f"12.{section}.*", False) for section in range(1, 6)),
    *((f"13.{section}.*", context) for section in range(1, 8) for context in (False, True)),
)
"""Messages of up to 16 MiB, in up to 65,537 fragments, and 1000 compressed ones a case; whether
with context takeover, which the thirteenth section asks for."""
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}

LARGE: dict[str, Any] = {
    "settings": GatewaySettings(outbox_messages=10_000, outbox_bytes=64 << 20),
    "options": {"message_bytes": 17 << 20, "channel_bytes": 64 << 20},
    "max_message": 16 << 20,
    "max_frame": 16 << 20,
    "max_fragments": 65_537,
    "message_rate": 0,
    "compression": "deflate",
}
"""The settings of a gateway that lets all of it through."""

pytestmark = [
    pytest.mark.autobahn,
    pytest.mark.skipif(bool(suite.missing()), reason=suite.missing()),
]


async def passes(cases: tuple[str, ...], into: Path, **settings: Any) -> None:
    """Run cases against a gateway with those settings."""
    async with Serving(ECHO, **settings) as gateway:
        found = await suite.fuzz(gateway.url, cases, into)
    assert found
    bad = {
        number: report
        for number, report in found.items()
        if not {report["behavior"], report["behaviorClose"]} <= GOOD
    }
    assert not bad


@pytest.mark.parametrize("cases", FAST, ids=" ".join)
@on_loop
async def test_fast(cases: tuple[str, ...], tmp_path: Path) -> None:
    """Every case is passed, at worst in a way that the suite calls non-strict."""
    await passes(cases, tmp_path)


@pytest.mark.timeout(120)  # they take seconds, but the machine may be busy
@pytest.mark.parametrize("cases", SOME, ids=" ".join)
@on_loop
async def test_some(cases: tuple[str, ...], tmp_path: Path) -> None:
    """Large and compressed messages pass with settings that let them through."""
    await passes(cases, tmp_path, **LARGE)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("cases", "context"), FULL)
@on_loop
async def test_full(cases: str, context: bool, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """All of them do, with context takeover and without."""
    if pytestconfig.getoption("--autobahn") != "full":
        pytest.skip("only with --autobahn=full")
    await passes((cases,), tmp_path, compression_context=context, **LARGE)
