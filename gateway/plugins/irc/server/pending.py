"""What a session waits for: `Pending`, the token of what it emitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from gateway.core.plugin import ACCEPTED, RELEASED, UNROUTED, Outcome
from gateway.plugins.irc.lines import clean

if TYPE_CHECKING:
    from gateway.plugins.irc.server.session import IrcSession

TIMED_OUT: Final = Outcome(RELEASED, reason="nobody has decided in time", cause="timeout")


class Pending:
    """A command whose answer is still to come."""

    blocks: ClassVar[bool] = True
    """Whether the commands behind it wait."""

    label = ""
    lines: list[tuple[dict[str, str], bytes]] | None = None
    """Its label, and what answers it already."""
    over = False

    def decided(self, session: IrcSession, outcome: Outcome) -> None:
        """Hear what became of it."""


class Barrier(Pending):
    """A command that waits until all that was said before it is decided."""


def words(outcome: Outcome) -> str:
    """Return why something was not accepted, for the client."""
    if outcome.reason and outcome.kind != "failed":
        return " ".join(clean(outcome.reason).split())
    if outcome.kind == RELEASED:
        return "Nobody can decide on that now; try again later"
    if outcome.kind == UNROUTED:
        return "Nobody is there to decide on that"
    if outcome.kind == "rejected":
        return ""
    return "That could not be handled; try again later"


def is_good(outcome: Outcome, *, unrouted: bool) -> bool:
    """Return whether something was accepted; ``unrouted``: also where nobody decides on it."""
    return outcome.kind == ACCEPTED or (unrouted and outcome.kind == UNROUTED)
