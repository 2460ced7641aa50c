"""A connection that the access log is told of when it ends. Made where there is such a log.

So where there is none, nothing is looked at and nothing counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gateway.core.access import NOTHING
from gateway.core.attached import GATEWAY, OUTCOME, PEER, Connection
from gateway.core.conversation import CLOSING, LOST, OPEN
from gateway.core.layers.base import RELEASED, UNROUTED, Outcome
from gateway.core.metrics import Drop
from gateway.core.plugin import End, Peer, Refusal, Session, Summary, Wire
from gateway.core.web import Answer, Exchange

if TYPE_CHECKING:
    from gateway.core.context import PluginContext


class Meter:
    """A wire that counts the bytes it passes on."""

    __slots__ = ("_wire", "pause", "received", "resume", "sent")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.pause = wire.pause
        self.resume = wire.resume
        self.received = 0
        self.sent = 0

    def write(self, output: Any) -> None:
        """Count and write."""
        if output.__class__ is bytes:
            self.sent += len(output)
        self._wire.write(output)

    def close(self, data: Any, *, abort: bool) -> None:
        """Count and close."""
        if data.__class__ is bytes and not abort:
            self.sent += len(data)
        self._wire.close(data, abort=abort)


class Recorded(Connection):
    """A connection that the access log is told of when it ends."""

    __slots__ = ("_answer", "_asked", "_began", "_end", "_meter", "_ours", "_traffic")

    def __init__(
        self, context: PluginContext, reply_channel: str, session: Session, wire: Wire, peer: Peer
    ) -> None:
        self._meter: Meter | None = None
        if hasattr(wire, "traffic"):
            self._traffic = wire.traffic
        else:
            self._traffic = wire = self._meter = Meter(wire)
        super().__init__(context, reply_channel, session, wire, peer)
        self._began = context.loop.time()
        self._answer: Answer | None = None
        self._asked = NOTHING
        self._end: End = "client"
        self._ours = False
        """Whether the session last heard that nobody was there, or could be asked."""

    def came_by(self, exchange: Exchange) -> None:
        """Take what the request says that it came by, and be its record as well."""
        log = self.context.engine.access
        if log is not None:
            self._asked = log.asked(exchange.head)
            # Not the exchange itself: it holds the head, and a WebSocket may live for days.
            exchange.answer = self._answer = Answer()

    def received(self, data: Any) -> None:
        """Count, and hand input to the session."""
        if self._meter is not None and data.__class__ is bytes:
            self._meter.received += len(data)
        super().received(data)

    def _accept(self, *, registered: bool) -> None:
        before = self.accepted
        super()._accept(registered=registered)
        access = self.context.engine.access
        if access is not None and access.hears_openings and self.accepted and not before:
            path = self._asked.path or self._summary().path
            access.opened(self.context.name, self.peer, path)

    def tell(self, token: Any, outcome: Outcome) -> None:
        """Tell the session an outcome."""
        # Nobody was there: what the session makes of that is said by the gateway.
        self._ours = outcome.kind in {RELEASED, UNROUTED}
        super().tell(token, outcome)

    def handled(self, tokens: list[Any]) -> None:
        """Tell the session of several that were accepted."""
        self._ours = False
        super().handled(tokens)

    def refuse(self, token: Any, refusal: Refusal, drop: Drop | None = None) -> None:
        """Tell the session that a message never reached a consumer."""
        self._ours = True
        super().refuse(token, refusal, drop)

    def _close(self, data: Any, *, abort: bool) -> None:
        if self.state == OPEN or (abort and self.state == CLOSING):
            self._end = "cut" if abort else self._ended_by()
        super()._close(data, abort=abort)

    def _ended_by(self) -> End:
        if not self.accepted:
            return "refused"
        if self.cause == PEER:
            return "client"
        if self.cause == GATEWAY or (self.cause == OUTCOME and self._ours):
            return "gateway"
        return "application"

    def lost(self) -> None:
        """Tell the access log, and end."""
        if self.state < LOST:
            try:
                self._record(self._summary())
            except Exception:  # a summary with values of other types, say
                self.context.log.exception("%s: no record could be made", self.reply_channel)
        super().lost()

    def _summary(self) -> Summary:
        try:
            return self.session.summary()
        except Exception:
            self.context.log.exception(
                "%s: plugin %s raised for the access log", self.reply_channel, self.context.name
            )
            return Summary()

    def _record(self, summary: Summary) -> None:
        context = self.context
        log = context.engine.access
        if log is None:
            return
        answer = self._answer
        if answer is not None:
            if answer.declined:
                return
            if not self.accepted or summary.code == "":
                summary = msgspec.structs.replace(summary, code=answer.status or "")
            if answer.end is not None:
                self._end = answer.end
        traffic = self._traffic
        log.add(
            context.name,
            self.peer,
            summary,
            end=self._end,
            received=0 if traffic is None else traffic.received,
            sent=0 if traffic is None else traffic.sent,
            seconds=context.loop.time() - self._began,
            reply_channel=self.reply_channel,
            asked=self._asked,
        )
