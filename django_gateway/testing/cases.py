"""What Django's test cases become a test case of the gateway's by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_gateway.testing.client import GatewayClient

if TYPE_CHECKING:
    from django.test import SimpleTestCase as Base
else:
    Base = object


class GatewayTestMixin(Base):
    """``self.client`` is a `GatewayClient`; before a test case of Django's, among the bases.

    Each test has a site of its own.
    """

    client_class = GatewayClient
    client: GatewayClient

    def _post_teardown(self) -> None:
        """End the site, while the test's database is still there."""
        self.client.close()
        super()._post_teardown()  # type: ignore[misc]  # a method of Django's that the stubs leave out
