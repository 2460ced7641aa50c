"""The messages of one connection on their way out, batch by batch. Pure.

::

    put ──► next ──give──► the batch that the client may not have yet ──ask(its cursor)──► gone

Of the batches only the last one that was given is kept: it is given again, byte for byte, to
whoever asks with the cursor before it. Who asks with its own cursor has it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.core.opening import Refuse, refusal


class Marked(NamedTuple):
    """A message whose ``ack`` waits for the client to have it."""

    element: bytes
    token: Any


class Stray(ValueError):  # noqa: N818 - a client's fault, with its answer
    """A cursor that is none of the connection's now; ``answer`` says so."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.answer: Refuse = refusal(status, words)


class Batches:
    """What waits for the next poll, and what the last one was given.

    ``most`` are the bytes from which on a batch takes no more.
    """

    __slots__ = ("_given", "_marks", "_most", "_next", "_size", "number")

    def __init__(self, most: int) -> None:
        self._most = most
        self._next: list[bytes | Marked] = []
        self._size = 0
        self._given: bytes | None = None
        self._marks: list[Any] = []
        self.number = 0
        """Of the last batch that was given: its cursor."""

    @property
    def ready(self) -> bool:
        """Whether something waits for the next poll."""
        return bool(self._next)

    @property
    def left(self) -> int:
        """How many messages no poll was given."""
        return len(self._next)

    @property
    def takes(self) -> bool:
        """Whether the next batch takes more."""
        return self._size < self._most

    def put(self, element: bytes | Marked) -> None:
        """Add a message, whether there is room or not."""
        self._next.append(element)
        self._size += len(element.element if isinstance(element, Marked) else element)

    def ask(self, cursor: int | None) -> bytes | None:
        """Take a poll: return the batch to give again, None where the next one is due.

        ``cursor`` is that of the last batch that the client has, None where it says nothing. Raises
        `Stray` for one by which nobody can tell what it has.
        """
        if cursor is None:
            if self.number > 1 or (self.number == 1 and self._given is None):
                raise Stray(
                    428, f'say in If-None-Match what you have; the last was "{self.number}"'
                )
            cursor = 0
        if cursor == self.number:
            self._given = None
            return None
        if cursor == self.number - 1 and self._given is not None:
            return self._given
        raise Stray(409, f'there was no such ETag just now; the last was "{self.number}"')

    def had(self) -> list[Any]:
        """Return the tokens of what the client has, since the last question."""
        if self._given is not None:
            return []
        marks, self._marks = self._marks, []
        return marks

    def give(self) -> bytes:
        """Return the next batch, a JSON array; of what is too much for it, a later one."""
        count = size = 0
        pieces = []
        for element in self._next:
            if isinstance(element, Marked):
                piece = element.element
                self._marks.append(element.token)
            else:
                piece = element
            pieces.append(piece)
            size += len(piece)
            count += 1
            if size >= self._most:
                break
        del self._next[:count]
        self._size -= size
        self.number += 1
        self._given = b"[" + b",".join(pieces) + b"]"
        return self._given
