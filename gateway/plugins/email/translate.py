"""What a mail's outcome is in the words of SMTP. Pure.

::

    250 2.0.0 OK                    code, enhanced code (RFC 3463), text
    550-5.7.1 not here              several lines: a hyphen behind the code in all but the last
    550 5.7.1 try next door
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from gateway.core.plugin import ACCEPTED, FAILED, REJECTED, RELEASED, UNROUTED, Outcome, Refusal

LINE: Final = 400
"""Characters of one line of a reply: with its codes within the 512 bytes of RFC 5321 4.5.3.1.5,
also where some of them take two."""
LINES: Final = 10
"""Lines of one reply: what a person reads of a bounce."""

_ENHANCED: Final = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?: |\Z)")
_UNSAID: Final = re.compile(r"[^\x20-\x7e\x80-\U0010ffff]+")
_USUAL: Final = {
    250: "2.0.0",
    421: "4.3.2",
    450: "4.2.0",
    451: "4.3.0",
    452: "4.3.1",
    454: "4.7.0",
    455: "4.5.4",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    530: "5.7.0",
    534: "5.7.9",
    535: "5.7.8",
    538: "5.7.11",
    550: "5.7.1",
    551: "5.1.6",
    552: "5.3.4",
    553: "5.1.3",
    554: "5.7.1",
    555: "5.5.4",
}
"""The enhanced code of a reply code where none is said (RFC 5248, and its registry)."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One reply: a code, and a text of one or more lines, which may begin with an enhanced code."""

    code: int
    text: str
    close: bool = False
    """Whether the connection is closed after it."""

    def encoded(self, *, utf8: bool = False, enhanced: bool = True) -> bytes:
        """Return it as bytes. Without ``utf8`` what is not ASCII becomes ``?`` (RFC 6531 3.7.4)."""
        return _encoded(self.code, self.text, utf8, enhanced)


@lru_cache(maxsize=256)
def _encoded(number: int, text: str, utf8: bool, enhanced: bool) -> bytes:
    """Return a reply as bytes; nearly all are of a few dozen."""
    code, prefix = str(number), ""
    if enhanced:
        usual = _USUAL.get(number, f"{code[0]}.0.0")
        found = _ENHANCED.match(text)
        if found is not None:
            text = text[found.end() :]
            if found[1] == code[0]:  # RFC 2034 section 4: the class is that of the code
                usual = found[0].rstrip()
        prefix = f"{usual} "
    lines = _lines(text)
    said = [f"{code}-{prefix}{line}" for line in lines[:-1]]
    said.append(f"{code} {prefix}{lines[-1]}")
    return b"".join(line.encode("utf-8" if utf8 else "ascii", "replace") + b"\r\n" for line in said)


def _lines(text: str) -> list[str]:
    """Return a text as lines that a reply may have: short, without controls, one at least."""
    found: list[str] = []
    for line in text.splitlines():
        words = _UNSAID.sub(" ", line).strip()
        while words and len(found) < LINES:
            found.append(words[:LINE])
            words = words[LINE:].lstrip()
    return found or [""]


OK: Final = Answer(250, "2.0.0 OK")
FAILURE: Final = Answer(451, "4.3.0 It could not be handled now; try again later")
LOST: Final = Answer(451, "4.3.0 What became of it is not known; try again later")
UNAVAILABLE: Final = Answer(451, "4.3.2 The application cannot be reached; try again later")
LATE: Final = Answer(451, "4.4.5 It took too long; try again later", close=True)
FULL: Final = Answer(452, "4.3.1 Too much is waiting; try again later")
AWAY: Final = Answer(421, "4.3.2 Nobody is there to take it now; try again later", close=True)
DRAINING: Final = Answer(421, "4.3.2 The server is shutting down; try again later", close=True)
REJECTION: Final = Answer(550, "5.7.1 It is refused")
NOBODY: Final = Answer(550, "5.1.1 There is nobody who takes it")
TOO_BIG: Final = Answer(552, "5.3.4 It is too large")


def answer(outcome: Outcome) -> Answer:
    """Return what a client hears of an outcome."""
    match outcome.kind:
        case kind if kind == ACCEPTED:
            return OK
        case kind if kind == REJECTED:
            return rejection(outcome.code, outcome.reason)
        case kind if kind == FAILED:
            return LOST if outcome.cause == "layer_lost" else FAILURE
        case kind if kind == RELEASED:
            return AWAY
        case kind if kind == UNROUTED:
            return NOBODY
    return FAILURE


def rejection(code: int | None, reason: str, default: Answer = REJECTION) -> Answer:
    """Return a refusal by the application. A code that is none of a refusal is not said."""
    if code is None or not is_refusal(code):
        code = default.code
    words = reason or default.text
    if code == default.code and _ENHANCED.match(words) is None:
        words = f"{default.text.partition(' ')[0]} {words}"
    return Answer(code, words, close=code == 421)


def is_refusal(code: int) -> bool:
    """Return whether a code says no in SMTP (RFC 5321 section 4.2.1)."""
    return 400 <= code <= 599


def refused(refusal: Refusal) -> Answer:
    """Return what a client hears of a message that never reached a consumer."""
    match refusal:
        case Refusal.FULL | Refusal.TOO_SLOW:
            return FULL
        case Refusal.DRAINING:
            return DRAINING
        case Refusal.UNAVAILABLE:
            return UNAVAILABLE
        case Refusal.TOO_BIG:
            return TOO_BIG
    return FAILURE
