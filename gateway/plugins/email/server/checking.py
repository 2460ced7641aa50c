"""`Checker`: has senders checked on threads, beside the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.server.asked import Asked
from gateway.plugins.email.server.intake import Intake
from gateway.plugins.email.server.senders import UNKNOWN, Lookup, Resolver, Senders

THREADS: Final = 8
"""Mails that are checked at once: nearly all of it is waiting for DNS."""
SPARE: Final = 1.0
"""Seconds beyond the questions' own, for signatures to be reckoned."""


class Checker:
    """Checks who mails are from. ``lookup`` asks DNS, by default dnspython."""

    def __init__(self, config: EmailConfig, lookup: Lookup | None = None) -> None:
        self._seconds = config.dns_timeout
        self._senders = Senders(lookup or Resolver(config.delivery.resolvers), self._seconds)
        self._threads = ThreadPoolExecutor(THREADS, "gateway-senders")
        self._large = asyncio.Lock()

    async def check(self, asked: Asked, intake: Intake) -> dict[str, Any]:
        """Return the keys of ``authentication``."""
        signed = any(name == "dkim-signature" for name, _ in asked.head.fields)
        if not intake.spilled or not signed:
            return await self._check(asked, intake.content if not intake.spilled else bytes)
        # One that is in a file takes as much memory as it is long: one at a time.
        async with self._large:
            return await self._check(asked, *intake.borrow())

    async def _check(
        self, asked: Asked, content: Callable[[], bytes], descriptor: int = -1
    ) -> dict[str, Any]:
        future = self._threads.submit(self._senders.check, asked, content)
        if descriptor >= 0:
            # The client may leave meanwhile, and what it sent be closed; the thread reads on.
            future.add_done_callback(lambda _: os.close(descriptor))
        try:
            async with asyncio.timeout(self._seconds + SPARE):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            return UNKNOWN

    def close(self) -> None:
        """End the threads; what they are at is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
