"""What the client of one connection has posted, by its Idempotency-Key. Pure.

A client that hears no answer posts again, with the same key: what it said is not done twice, and
whoever asked is answered alike. What never reached a consumer, or was given back by all, was not
done at all, and is not remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Final

from gateway.core.metrics import Drop
from gateway.core.opening import Refuse, refusal
from gateway.core.posting import UNKNOWN, packed, unsettled
from gateway.core.relay import Ask
from gateway.core.session import Refusal

DIGEST: Final = 16
"""Bytes by which two messages are told apart: none of the same by mistake."""


class Post:
    """One message of a client's, to be answered once. Made by `Posts`."""

    __slots__ = ("_answer", "_asks", "_posts", "digest", "key", "message", "size")

    def __init__(
        self, posts: Posts, key: str, digest: bytes, message: dict[str, str | bytes], size: int
    ) -> None:
        self.key = key
        self.digest = digest
        self.message = message
        """``{"text": …}`` or ``{"bytes": …}``; empty once it is answered."""
        self.size = size
        """Its bytes."""
        self._posts = posts
        self._asks: dict[Ask, None] = {}
        self._answer: Refuse | None = None

    def hear(self, ask: Ask) -> None:
        """Have one more answered as all are; nothing of it is held once its client has left."""
        if self._answer is None:
            self._asks[ask] = None
            ask.on_gone(partial(self._asks.pop, ask, None))
        else:
            ask.answer(packed(self._answer))

    def answer(self, answer: Refuse) -> None:
        """Answer all who asked, and will ask. Ignored where it was answered."""
        if self._answer is not None:
            return
        self._answer = answer
        self.message = {}
        self._posts.answered(self, answer)
        asks, self._asks = self._asks, {}
        for ask in asks:
            ask.answer(packed(answer))


class Posts:
    """The posts of one connection that have no answer yet, and the latest that have a key.

    ``most`` keys are remembered; ``drop`` counts what is answered 503 (`Context.drop`).
    """

    __slots__ = ("_drop", "_keyed", "_most", "_waiting")

    def __init__(self, most: int, drop: Callable[[Drop], None]) -> None:
        self._most = most
        self._drop = drop
        self._waiting: dict[Post, None] = {}
        self._keyed: dict[str, Post] = {}

    def take(self, ask: Ask, *, full: bool = False) -> Post | None:
        """Take a post, ``{"key", "message"}``; return one that is to be worked on.

        None: it is answered, or will be with the one that it repeats. ``full``: nothing more is
        worked on, and what is new is answered 503.
        """
        key: str = ask.message["key"]
        message: dict[str, str | bytes] = ask.message["message"]
        [(kind, content)] = message.items()
        raw = content.encode() if isinstance(content, str) else content
        digest = b""
        if key:
            digest = blake2b(raw, digest_size=DIGEST, person=kind.encode()).digest()
        known = self._keyed.get(key) if key else None
        if known is None:
            if full:
                self._drop(Drop.LIMITED)
                ask.answer(packed(unsettled(Refusal.TOO_SLOW)))
                return None
            post = Post(self, key, digest, message, len(raw))
            post.hear(ask)
            self._waiting[post] = None
            if key:
                self._remember(post)
            return post
        if known.digest != digest:
            words = "another message was posted with that Idempotency-Key"
            ask.answer(packed(refusal(422, words)))
        else:
            known.hear(ask)
        return None

    def _remember(self, post: Post) -> None:
        self._keyed[post.key] = post
        if len(self._keyed) > self._most:
            del self._keyed[next(iter(self._keyed))]

    def answered(self, post: Post, answer: Refuse) -> None:
        """Hear that a post is answered: what was not done may be posted again."""
        self._waiting.pop(post, None)
        if answer.status in (503, 413) and self._keyed.get(post.key) is post:
            del self._keyed[post.key]

    def end(self) -> None:
        """Answer all that have no answer yet: the connection has ended."""
        for post in list(self._waiting):
            post.answer(UNKNOWN)
        self._keyed.clear()
