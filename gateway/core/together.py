"""What one read brings, gathered so that it leaves together: one delivery of each conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.core.conversation import Conversation
    from gateway.core.flow import Flow
    from gateway.core.kinds import Entry


def gather(flow: Flow) -> Flow | None:
    """Have what is pushed wait for `let_go`; return what to call that with, None: another does."""
    if flow.gathered is not None:
        return None
    flow.gathered = {}
    return flow


def let_go(flow: Flow) -> None:
    """Let leave what was gathered."""
    gathered, flow.gathered = flow.gathered or {}, None
    for conversation, run in gathered.items():
        leave(flow, conversation, run)


def leave(flow: Flow, conversation: Conversation, run: list[Entry]) -> None:
    """Let leave what was gathered of a conversation: in one step, if nothing is in its way."""
    owner = conversation.owner
    kind = run[0][0]
    announced = flow.announced
    if (
        conversation.flight is None
        and not (conversation.queue or flow.full or owner.abandoned or kind.alone)
        and announced is not None
        and kind.channel in announced
        and flow.edge.available
        and len(run) <= flow.run_messages
        and len({entry[0] for entry in run}) == 1
    ):
        payloads = [payload for _, payload, _ in run]
        if sum(map(len, payloads)) <= flow.run_bytes:
            owner.flights += 1
            flow.fly(conversation, owner, kind.channel, run, payloads)
            return
    for entry in run:
        flow.keep(conversation, entry)
    flow.pump(conversation)
