"""What the client of one connection has posted, by its Idempotency-Key. Pure.

A client that hears no answer posts again, with the same key: what it said is not done twice. What
never reached a consumer, or was given back by all, was not done at all, and is not remembered.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from gateway.core.opening import Refuse, refusal
from gateway.core.relay import Ask

DIGEST: Final = 16
"""Bytes by which two messages are told apart: none of the same by mistake."""


class Post:
    """One message, and who waits for its answer."""

    __slots__ = ("answer", "asks", "digest", "key")

    def __init__(self, key: str, digest: bytes) -> None:
        self.key = key
        self.digest = digest
        self.asks: list[Ask] = []
        self.answer: Refuse | None = None
        """What it was answered, once it was."""


class Posts:
    """The posts of a connection that have no answer yet, and the latest that have a key."""

    __slots__ = ("_keyed", "_most", "_number", "_waiting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._number = 0
        self._waiting: dict[int, Post] = {}
        self._keyed: dict[str, Post] = {}

    def knows(self, key: str) -> bool:
        """Return whether something was posted with that key of late."""
        return key in self._keyed

    def take(self, ask: Ask, key: str, content: bytes) -> int | Refuse | None:
        """Take a post: return the number of one that is new, or what is to be answered.

        None: it is the same as one that has no answer yet, and is answered with it.
        """
        digest = blake2b(content, digest_size=DIGEST).digest() if key else b""
        known = self._keyed.get(key) if key else None
        if known is None:
            self._number += 1
            post = self._waiting[self._number] = Post(key, digest)
            post.asks.append(ask)
            if key:
                self._remember(post)
            return self._number
        if known.digest != digest:
            return refusal(422, "another message was posted with that Idempotency-Key")
        if known.answer is None:
            known.asks.append(ask)
        return known.answer

    def _remember(self, post: Post) -> None:
        self._keyed[post.key] = post
        if len(self._keyed) > self._most:
            del self._keyed[next(iter(self._keyed))]

    def settle(self, number: int, answer: Refuse) -> list[Ask]:
        """Take the answer of a post; return who is to hear it."""
        post = self._waiting.pop(number, None)
        if post is None:
            return []
        post.answer = answer
        if answer.status in (503, 413) and self._keyed.get(post.key) is post:
            del self._keyed[post.key]
        asks, post.asks = post.asks, []
        return asks

    def end(self) -> list[Ask]:
        """Forget all; return who has no answer."""
        asks = [ask for post in self._waiting.values() for ask in post.asks]
        self._waiting.clear()
        self._keyed.clear()
        return asks
