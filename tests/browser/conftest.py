"""The browser of the demo's tests."""

from tests.demo.conftest import browser

__all__ = ["browser"]
