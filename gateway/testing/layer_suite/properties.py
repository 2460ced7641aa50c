"""Property tests."""

from gateway.testing.layer_suite.harness import Harness


class Properties(Harness):
    """Random."""
