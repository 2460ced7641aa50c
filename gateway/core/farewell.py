"""The end of a connection at a shutdown: first its peer is answered, then it hears farewell.

::

    begin ──nothing in hand──► farewell: `Session.draining`
      └──something is──► leaving ──the last of it is settled, and has gone out──► farewell

While it leaves, what the session emits is kept back: no consumer is to begin with it. A
plugin whose clients come for what is theirs says within how long (``farewell_timeout``): who does
not come is not waited for.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.core.attached import Connection


def begin(connection: Connection, retry_after: float) -> None:
    """Have its session hear of the shutdown, and when its peer had better come back (seconds).

    Who waits for a decision hears it at once: it is none of those that the application talks to.
    So does who is only slow to read, and may have left long ago; but not one that comes for what
    waits.
    """
    connection.leaving = retry_after
    if connection.session.drains_itself or not connection.accepted:
        say(connection)
    elif not connection.flights:
        if connection.context.farewell_timeout is None:
            say(connection)
        else:
            landed(connection)


def landed(connection: Connection) -> None:
    """Say the farewell that was put off, if nothing is in hand or on its way out any more."""
    if connection.clear:
        say(connection)
        return
    seconds = connection.context.farewell_timeout
    if seconds is not None and connection.outbox is not None and not connection.flights:
        connection.outbox.expect(seconds, partial(say, connection))


def say(connection: Connection) -> None:
    """Say farewell, unless that was done; what was kept back goes on if the session stays."""
    retry_after, connection.leaving = connection.leaving, None
    if retry_after is not None:
        connection.drain(retry_after)
        connection.context.engine.flow.accepted(connection)
