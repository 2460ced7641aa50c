"""The browser of the demo's tests, for the examples that have a page."""

from tests.demo.conftest import browser

__all__ = ["browser"]
