"""What a network can do that the first networks could not (IRCv3 capability negotiation). Pure.

::

    CAP LS 302            ──►
                          ◄──   CAP * LS * :batch chghost sasl=PLAIN,EXTERNAL     there is more
                          ◄──   CAP * LS :server-time
    CAP REQ :batch …      ──►
                          ◄──   CAP * ACK :batch …                                or NAK: none of it
    CAP END               ──►
"""

from __future__ import annotations

from typing import Final

REQUEST: Final = 400
"""Bytes of capabilities in one request: a line has 512, and the answer repeats them."""
MOST: Final = 200
"""Capabilities that are remembered: four times what the richest network has."""


class Capabilities:
    """Those of one connection."""

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self.available: dict[str, str] = {}
        """With what is said of each: ``sasl`` -> ``PLAIN,EXTERNAL``."""
        self.enabled: set[str] = set()
        self.listed = False
        """Whether the network has said all that it has."""
        self._wanted = wanted
        self._asked: list[str] = []

    @property
    def settled(self) -> bool:
        """Whether everything is known, and all that was asked for answered."""
        return self.listed and not self._asked

    def offered(self, words: str, *, more: bool = False) -> list[str]:
        """Take what the network has (LS, NEW); return what to ask for, a request each."""
        for word in words.split():
            name, _, value = word.partition("=")
            if len(self.available) < MOST:
                self.available[name] = value
        if more:
            return []
        self.listed = True
        return self._requests(
            [name for name in self._wanted if name in self.available and name not in self.enabled]
        )

    def _requests(self, names: list[str]) -> list[str]:
        found: list[str] = []
        for name in names:
            if found and len(found[-1]) + len(name) < REQUEST:
                found[-1] += f" {name}"
            else:
                found.append(name)
        self._asked += found
        return found

    def given(self, words: str) -> None:
        """Take what the network has granted, or with ``-`` before it taken away (ACK)."""
        self._answered(words)
        for word in words.split():
            if word.startswith("-"):
                self.enabled.discard(word[1:])
            elif word in self._wanted:
                self.enabled.add(word)

    def refused(self, words: str) -> list[str]:
        """Take what it refuses (NAK); return what to ask for one by one: one may be why."""
        self._answered(words)
        names = words.split()
        if len(names) < 2:
            return []
        found = [name for name in names if name in self._wanted]
        self._asked += found
        return found

    def _answered(self, words: str) -> None:
        names = set(words.split())
        for asked in self._asked:
            if names == set(asked.split()):
                self._asked.remove(asked)
                return
        # Some answer in other pieces than they were asked in.
        left = [" ".join(n for n in asked.split() if n not in names) for asked in self._asked]
        self._asked = [asked for asked in left if asked]

    def gone(self, words: str) -> None:
        """Take what the network has no more (DEL)."""
        for name in words.split():
            self.available.pop(name, None)
            self.enabled.discard(name)
