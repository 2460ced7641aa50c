"""What goes out where nothing can: it is kept, for a test to look at (`Context.outbound`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from gateway.core.plugin import Context
from gateway.plugins.email.client.config import Outgoing
from gateway.plugins.email.client.envelope import Entry
from gateway.plugins.email.client.outbox import Outbox
from gateway.plugins.email.client.sign import Signer
from gateway.plugins.email.client.spool import Draft, Spool

T = TypeVar("T")


class KeptSpool(Spool):
    """A spool without a directory: the mails of this process, in the order of their coming."""

    def __init__(self) -> None:
        self.directory = self.queue = Path("nowhere")
        self.mails: list[tuple[Entry, bytes]] = []

    def draft(self, name: str) -> Draft:
        """Begin a mail."""
        return KeptDraft(self, name)

    def knows(self, name: str) -> bool:
        """Whether there is a mail."""
        return any(entry.id == name for entry, _ in self.mails)

    def usage(self) -> tuple[int, int]:
        """Return how many mails are there, and their bytes."""
        return len(self.mails), sum(entry.size for entry, _ in self.mails)


class KeptDraft(Draft):
    """A mail that is being written."""

    def __init__(self, spool: KeptSpool, name: str) -> None:
        self.name = name
        self._kept = spool
        self._content = bytearray()

    def write(self, data: bytes) -> None:
        """Write more of it."""
        self._content += data

    def commit(self, entry: Entry) -> None:
        """Have it in the spool, unless it is there."""
        if not self._kept.knows(entry.id):
            self._kept.mails.append((entry, bytes(self._content)))

    def discard(self) -> None:
        """Do nothing: what is not committed is forgotten."""


class KeptOutbox(Outbox):
    """Takes mail as the outbox does, with every check of it, and has no threads."""

    def __init__(self, config: Outgoing, context: Context) -> None:
        self.spool = KeptSpool()
        super().__init__(config, context, self.spool, Signer({}), _unheard)

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run it here: nothing of it waits."""
        return call(*arguments)


def _unheard(entry: Entry) -> None:
    """Deliver nothing."""
