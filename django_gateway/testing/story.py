"""What happened in a test, told when an expectation fails."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from gateway.core.layers.base import Outcome

LONGEST: Final = 60
"""Characters of one value that are shown."""
MOST: Final = 20
"""Lines of each part that are shown, the latest."""
COMMON: Final = frozenset(
    (
        "reply_channel",
        "order",
        "client",
        "server",
        "headers",
        "raw_path",
        "query_string",
        "root_path",
        "scheme",
        "http_version",
        "body_channel",
        "subprotocols",
        "traceparent",
    )
)
"""Keys that are left out: every message has them."""


class Failure(NamedTuple):
    """What a consumer raised, and where."""

    error: BaseException
    route: str
    channel: str


class Run(NamedTuple):
    """One message of the application, and what became of it."""

    channel: str
    message: dict[str, Any]
    outcome: Outcome

    def __str__(self) -> str:
        return (
            " ".join(filter(None, (self.channel, shown(self.message)))) + ": " + told(self.outcome)
        )


class Story:
    """All that an application did in one test."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.failures: list[Failure] = []
        """What consumers raised, and nobody has heard yet."""

    def last_of(self, client: tuple[str, int]) -> Outcome | None:
        """Return what became of the last message of a client."""
        outcomes = (
            run.outcome for run in reversed(self.runs) if run.message.get("client") == [*client]
        )
        return next(outcomes, None)

    def lines(self) -> list[str]:
        """Return one line for each message that was run."""
        return [str(run) for run in self.runs]


def told(outcome: Outcome) -> str:
    """Return an outcome in words: ``rejected (4001, 'say something')``."""
    more: list[str] = []
    if outcome.code is not None:
        more.append(str(outcome.code))
    if outcome.reason:
        more.append(repr(outcome.reason))
    if outcome.cause:
        more.append(outcome.cause)
    if outcome.delay:
        more.append(f"for {outcome.delay:g} s")
    return f"{outcome.kind} ({', '.join(more)})" if more else outcome.kind


def shown(message: dict[str, Any]) -> str:
    """Return what is special in a message: ``path='/chat/' text='hi'``."""
    return " ".join(
        f"{key}={short(value)}"
        for key, value in message.items()
        if key not in COMMON and value not in (b"", None)
    )


def short(value: object) -> str:
    """Return a value's repr, cut."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def report(sentence: str, parts: Iterable[tuple[str, list[str]]]) -> str:
    """Return a failure's text: a sentence, and under titles what may explain it."""
    text = [sentence]
    for title, lines in parts:
        if lines:
            text.append(f"  {title}:")
            if len(lines) > MOST:
                text.append(f"    … {len(lines) - MOST} before these")
            text += [f"    {line}" for line in lines[-MOST:]]
    return "\n".join(text)
