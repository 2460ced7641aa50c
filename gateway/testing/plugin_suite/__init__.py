r"""`PluginSuite`: what every protocol plugin must do, tested by bytes alone.

Subclass it in a test module, say what the protocol sounds like, and pytest does the rest::

    class TestSensor(PluginSuite):
        plugin = Sensor
        conversation = (
            Turn(b"S 1 20.5\n", ("receive", {"value": 20.5}), answer=b"OK 1\n"),
        )
        question = b"S 7 1\n"
        answers = {"accepted": b"OK 7\n", "rejected": b"NO 7\n", …}
        full = b"LATER 7\n"
        too_much = b"x" * 5000

`gateway.testing.plugin_suite.voice.Voice` has all that may be said. The plugin is really
started, in a gateway without sockets whose time is virtual (`gateway.testing.rig`); the test is
client and worker. Where it listens it is started on real sockets, too.

Nothing here needs pytest: ``gateway conformance NAME`` runs the same checks, and each says by the
text of its AssertionError what is wrong, by SkipTest why it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.testing.plugin_suite.ends import Ends
from gateway.testing.plugin_suite.hostile import Hostile
from gateway.testing.plugin_suite.life import Life
from gateway.testing.plugin_suite.pressure import Pressure
from gateway.testing.plugin_suite.talks import Talks
from gateway.testing.plugin_suite.voice import Answer, Expected, Turn, Voice

__all__ = ["Answer", "Expected", "PluginSuite", "Turn", "Voice"]


class PluginSuite(Talks, Ends, Pressure, Hostile, Life):
    """All checks of a plugin. See `Voice` for what to fill in."""

    @classmethod
    def checks(cls) -> Iterator[tuple[str, Callable[[PluginSuite], None]]]:
        """Iterate over the checks, by name, in their order."""
        for base in (*PluginSuite.__bases__, cls):
            for name in vars(base):
                if name.startswith("test_"):
                    yield name.removeprefix("test_").replace("_", " "), getattr(cls, name)
