"""`Shared`: a claimed mail, which the parts of it that are tried at once share."""

from __future__ import annotations

import asyncio

from gateway.plugins.email.client.spool import Claim


class Shared:
    """A claimed mail. Whoever made it counts its ``users``, and closes the claim with the last."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.users = 0
        self.lock = asyncio.Lock()
        """Around what changes its entry, and the envelope on disk."""
