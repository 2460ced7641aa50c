"""The contract of `gateway.core.layers.base` as tests, sentence by sentence.

A layer's author subclasses `LayerSuite` in a pytest module and fills in the hooks::

    class TestMyLayer(LayerSuite):
        def start(self):
            self.clock = ManualClock()
            self.hub = MyHub(clock=self.clock)

        def open(self, **options):
            return MyLayer(self.hub, LayerOptions(**options))

        def advance(self, seconds):
            self.clock.now += seconds
            self.hub.tick()

        ...

The test of each sentence is named after it, and its docstring is the sentence.
"""

from __future__ import annotations

from gateway.testing.layer_suite.edges import EdgeGroups, Edges
from gateway.testing.layer_suite.groups import Groups
from gateway.testing.layer_suite.harness import Harness, Server, wait_until
from gateway.testing.layer_suite.history import Histories, Logs
from gateway.testing.layer_suite.holds import Holds
from gateway.testing.layer_suite.inboxes import Addresses, Inboxes
from gateway.testing.layer_suite.intakes import Intakes
from gateway.testing.layer_suite.leases import Announcements, Connections, Leases, Losses, Watches
from gateway.testing.layer_suite.limits import Capacity, Expiry
from gateway.testing.layer_suite.outage import Outage
from gateway.testing.layer_suite.pins import Pins
from gateway.testing.layer_suite.presence import Presence
from gateway.testing.layer_suite.properties import Properties
from gateway.testing.layer_suite.release import Cancel, Release
from gateway.testing.layer_suite.settlement import Deliveries, Sends
from gateway.testing.layer_suite.simple import Refusals, SimpleFace
from gateway.testing.layer_suite.statistics import Numbers
from gateway.testing.layer_suite.threads import Threads
from gateway.testing.layer_suite.twins import Twins

__all__ = ["Harness", "LayerSuite", "Server", "wait_until"]


class LayerSuite(
    SimpleFace,
    Refusals,
    Expiry,
    Capacity,
    Inboxes,
    Addresses,
    Groups,
    Presence,
    Logs,
    Histories,
    Deliveries,
    Sends,
    Release,
    Cancel,
    Intakes,
    Edges,
    EdgeGroups,
    Losses,
    Leases,
    Connections,
    Announcements,
    Watches,
    Holds,
    Pins,
    Numbers,
    Threads,
    Twins,
    Outage,
    Properties,
):
    """All tests of a channel layer. See `Harness` for the hooks to fill in."""
