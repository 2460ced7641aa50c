"""What a distribution needs and has not."""

from __future__ import annotations

from importlib.metadata import distribution

import pytest

from gateway.core.requirements import extra_of, unmet
from tests.core.test_registry import Installed


@pytest.mark.parametrize(
    ("requires", "extra", "says"),
    [
        (["pluggy>=1", "msgspec"], "", []),
        (["No_Such.Thing>=2"], "", ["mod-dist requires No_Such.Thing>=2, which is not installed"]),
        (["pluggy>=99"], "", ["mod-dist requires pluggy>=99, and pluggy "]),
        (["no-such; python_version < '3'"], "", []),
        (["no-such; extra == 'b'"], "a", []),
        (["no-such; extra == 'a'"], "a", ["mod-dist requires no-such, which"]),
        (["no-such; extra == 'a'"], "other", []),
        (
            ["mod-dist[b]; extra == 'a'", "no-such; extra == 'b'"],
            "a",
            ["mod-dist requires no-such"],
        ),
        (
            ["mod-dist[a]; extra == 'a'", "no-such; extra == 'a'"],
            "a",
            ["mod-dist requires no-such"],
        ),
        (["what is this"], "", []),
    ],
)
def test_unmet(requires, extra, says):
    """What is missing or of another version is told, with the extra and those that it needs."""
    found = list(unmet(Installed(*requires, extras=("a", "b")), extra))
    assert len(found) == len(says)
    for text, begin in zip(found, says, strict=True):
        assert text.startswith(begin)


def test_our_own():
    """All that the built-in plugins need is here; their extras are called as they are."""
    dist = distribution("gateway")
    assert extra_of(dist, "websocket") == "websocket"
    assert list(unmet(dist, "websocket")) == []
