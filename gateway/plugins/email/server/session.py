"""`MailSession`: what a client asks for, as messages, and what became of them, as answers. Pure.

Its input is what the wire has read of one command; its output what the wire is to do::

    Login ──► email.authenticate ──► Said
    Named ──► email.recipient ─────► Said
    Came ───► email.receive, one for each `Deal`, and pieces of what is large
              reply, outcome ──► Post, once that is in the spool ──► Answers, and Keep

One thing is asked at a time, since SMTP answers in order. A mail is a conversation of its own, in
LMTP each recipient of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

import msgspec

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import (
    ACCEPTED,
    FAILED,
    REJECTED,
    UNROUTED,
    Action,
    Done,
    Drop,
    Emit,
    Forget,
    Message,
    Outcome,
    Refusal,
    Session,
    Summary,
    Timer,
    Write,
)
from gateway.plugins.email import translate
from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.server.intake import BLOCK
from gateway.plugins.email.server.mail import Arrival
from gateway.plugins.email.translate import Answer

UNSETTLED: Final = 4
"""Pieces of a mail on their way at once: the next ones travel while the consumer reads one."""
MOST_REPLIES: Final = 64
"""Replies to one mail that wait for its outcome: more are no answer, but a flood."""
WORDS: Final = frozenset(("accept", "close", "reason", "text", "bytes"))
"""What a decision may say that is about no mail."""

UNSENT: Final = Outcome(FAILED, reason="the mail that it answers was not accepted", cause="closed")
ODD: Final = Answer(451, "4.7.0 It could not be checked now; try again later")
WRONG: Final = Answer(535, "5.7.8 Who you are is not proven by that")
NO_MAILBOX: Final = Answer(550, "5.1.1 There is no such mailbox")
IN_ORDER: Final = Answer(250, "2.1.5 OK")
AUTHENTICATED: Final = Answer(235, "2.7.0 OK")

# ---------------------------------------------------------------- what the wire reads


class Login(msgspec.Struct, frozen=True):
    """A client says who it is."""

    message: Message


class Named(msgspec.Struct, frozen=True):
    """A client names a recipient of a domain that is ours."""

    key: str
    message: Message


class Came(msgspec.Struct, frozen=True):
    """A mail is there, whole."""

    arrivals: dict[str, Arrival]
    """By the key of its conversation: one, or in LMTP one for each recipient."""


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a mail, which was wanted."""

    key: str
    offset: int
    content: bytes


class Posted(msgspec.Struct, frozen=True):
    """What became of a `Post`."""

    key: str
    token: Any
    outcome: Outcome


class Gone(msgspec.Struct, frozen=True):
    """The client is gone."""


# ---------------------------------------------------------------- what the wire does


class Said(msgspec.Struct, frozen=True):
    """What was asked is answered so; a mail in LMTP has several answers."""

    answers: list[Answer]


class Want(msgspec.Struct, frozen=True):
    """A piece of a mail is wanted."""

    key: str
    offset: int
    size: int


class Post(msgspec.Struct, frozen=True):
    """A reply is to become a mail; the wire says `Posted`."""

    key: str
    reply: Message
    token: Any


class Keep(msgspec.Struct, frozen=True):
    """A mail is accepted: its reply channel is to be kept."""

    key: str


class Leave(msgspec.Struct, frozen=True):
    """The gateway is shutting down: end as soon as nothing is in hand."""


class Ending(msgspec.Struct, frozen=True):
    """The application wants the connection to end once what is asked is answered."""


class Deal:
    """One ``email.receive``: a mail between its consumer and its client."""

    __slots__ = ("answer", "arrival", "broken", "posting", "refusal", "replies", "sent", "travels")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.answer: Answer | None = None
        """What the client is told; None: not decided yet."""
        self.refusal: Answer | None = None
        """What a reply has decided, which counts once the consumer has returned."""
        self.replies: list[tuple[Message, Any]] = []
        self.posting = 0
        """Replies on their way into the spool."""
        self.sent = 0
        """Bytes of it that were asked for."""
        self.travels = 0
        """Pieces on their way."""
        self.broken = arrival.raw_channel is None
        """Whether no more pieces are sent."""


class MailSession(Session):
    """One client. ``drop`` counts what is dropped."""

    __slots__ = ("_config", "_deals", "_drop", "_lmtp", "_number", "_waits", "last")

    acknowledges: ClassVar[bool] = True
    drains_itself: ClassVar[bool] = True

    def __init__(self, config: EmailConfig, drop: Any, *, lmtp: bool) -> None:
        self._config = config
        self._drop = drop
        self._lmtp = lmtp
        self._deals: dict[str, Deal] = {}
        self._waits: Named | Login | None = None
        """Which decision is waited for, beside that on a mail."""
        self._number = 0
        """The number of the last thing that was asked: what comes later is about another."""
        self.last = Summary()
        """What the access log says of the connection."""

    def summary(self) -> Summary:
        """Return what the access log says of it."""
        return self.last

    # ------------------------------------------------ what the client asks for

    def received(self, data: Any) -> Iterable[Action]:
        """Take what the wire has read."""
        kind = data.__class__
        if kind is Came:
            return self._came(data)
        if kind is Named or kind is Login:
            return self._asked(data)
        if kind is Chunk:
            return self._chunk(data)
        if kind is Posted:
            return self._posted(data)
        return self._gone()

    def _asked(self, event: Named | Login) -> Iterable[Action]:
        self._number += 1
        self._waits = event
        yield Timer("decision", self._config.decision_timeout)
        if isinstance(event, Named):
            yield Emit("recipient", event.message, self._number, event.key)
        else:
            yield Emit("authenticate", event.message, self._number)

    def _came(self, event: Came) -> Iterable[Action]:
        self._number += 1
        self._deals = {key: Deal(arrival) for key, arrival in event.arrivals.items()}
        yield Timer("outcome", self._config.outcome_timeout)
        for key, arrival in event.arrivals.items():
            yield Emit("receive", arrival.message, (self._number, key), key)
        for key, deal in self._deals.items():
            yield from self._want(key, deal)

    def _want(self, key: str, deal: Deal) -> Iterable[Action]:
        while not deal.broken and deal.travels < UNSETTLED and deal.sent < deal.arrival.size:
            size = min(BLOCK, deal.arrival.size - deal.sent)
            offset, deal.sent = deal.sent, deal.sent + size
            deal.travels += 1
            yield Write(Want(key, offset, size))

    def _chunk(self, event: Chunk) -> Iterable[Action]:
        deal = self._deals.get(event.key)
        if deal is None or deal.broken:
            return
        end = event.offset + len(event.content)
        message = {
            "offset": event.offset,
            "content": event.content,
            "more_content": end < deal.arrival.size,
        }
        token = (self._number, event.key, end)
        yield Emit("receive", message, token, channel=deal.arrival.raw_channel)

    def _gone(self) -> Iterable[Action]:
        for deal in self._deals.values():
            yield from self._cut(deal)

    @staticmethod
    def _cut(deal: Deal) -> Iterable[Action]:
        """Tell who reads the pieces of a mail that the rest will not come."""
        if not deal.broken:
            deal.broken = True
            yield Emit("receive", {"closed": True}, channel=deal.arrival.raw_channel)

    # ------------------------------------------------ what the application says

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Take a decision, or what is to become a mail."""
        deal = None if conversation is None else self._deals.get(conversation)
        waits = self._waits
        if deal is not None and deal.answer is None:
            return self._of_mail(deal, reply, token)
        if waits is not None and conversation == (waits.key if isinstance(waits, Named) else None):
            return self._decided(waits, reply, token)
        if conversation is None:
            raise LocalProtocolError("nothing is to be decided of this client now")
        return self._too_late(conversation, reply, token)

    def _of_mail(self, deal: Deal, reply: Message, token: Any) -> Iterable[Action]:
        refusal, ending = self._decision(reply, translate.REJECTION)
        if refusal is not None:
            deal.refusal = refusal
        elif reply.keys() - {"accept", "close", "reason", "ack", "ack_channel"}:
            if len(deal.replies) >= MOST_REPLIES:
                raise LocalProtocolError(f"over {MOST_REPLIES} replies to a mail that waits")
            deal.replies.append((reply, token))
            token = None
        if ending:
            yield Write(Ending())
        if token is not None:
            yield Done(token)

    def _decided(self, waits: Named | Login, reply: Message, token: Any) -> Iterable[Action]:
        what = "a recipient" if isinstance(waits, Named) else "a password"
        if unknown := reply.keys() - WORDS - {"ack", "ack_channel"}:
            raise LocalProtocolError(f"of {what} is decided; {min(unknown)!r} is for mails")
        refusal, ending = self._decision(reply, NO_MAILBOX if isinstance(waits, Named) else WRONG)
        if refusal is None and not ending and "accept" not in reply:
            raise LocalProtocolError(f"of {what} is decided: by 'accept' or 'close'")
        if ending:
            yield Write(Ending())
        if refusal is not None:
            yield from self._answer(refusal)
        if token is not None:
            yield Done(token)

    def _decision(self, reply: Message, default: Answer) -> tuple[Answer | None, bool]:
        """Return the refusal in a reply, and whether it ends the connection."""
        close = reply.get("close", False)
        code = None if close.__class__ is bool else close
        if code is not None and not translate.is_refusal(code):
            self._drop(Drop.FOREIGN_CODE)
            code = None
        if code is None and reply.get("accept") is not False:
            return None, bool(close)
        words = reply.get("reason") or reply.get("text")
        if words is None:
            words = reply.get("bytes", b"").decode("utf-8", "replace")
        return translate.rejection(code, words, default), bool(close)

    def _too_late(self, key: str, reply: Message, token: Any) -> Iterable[Action]:
        """Take what comes behind the answer: it can only become a mail."""
        yield Write(Post(key, reply, token))

    # ------------------------------------------------ outcomes

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Hear what became of a message."""
        if token.__class__ is int:
            return self._of_decision(token, outcome) if token == self._number else ()
        number, key, *piece = token
        deal = self._deals.get(key) if number == self._number else None
        if deal is None:
            return ()
        if piece:
            return self._of_piece(key, deal, outcome)
        return self._of_deal(key, deal, self._heard(outcome), accepted=outcome.kind == ACCEPTED)

    def refused(self, token: Any, refusal: Refusal) -> Iterable[Action]:
        """Hear that a message never reached a consumer."""
        if token.__class__ is int:
            return self._answer(translate.refused(refusal)) if token == self._number else ()
        number, key, *piece = token
        deal = self._deals.get(key) if number == self._number else None
        if deal is None:
            return ()
        if piece:
            deal.broken = True
            return ()
        return self._of_deal(key, deal, translate.refused(refusal), accepted=False)

    def _heard(self, outcome: Outcome) -> Answer:
        code = outcome.code
        if outcome.kind == REJECTED and code is not None and not translate.is_refusal(code):
            self._drop(Drop.FOREIGN_CODE)
        return translate.answer(outcome)

    def _of_decision(self, number: int, outcome: Outcome) -> Iterable[Action]:
        waits = self._waits
        if waits is None:
            return ()
        if isinstance(waits, Login):
            good, default = AUTHENTICATED, WRONG
        else:
            good, default = IN_ORDER, NO_MAILBOX
        if outcome.kind == ACCEPTED:
            return self._answer(good)
        if outcome.kind == REJECTED:
            self._heard(outcome)
            return self._answer(translate.rejection(outcome.code, outcome.reason, default))
        if outcome.kind == UNROUTED:
            return self._answer(default)
        return self._answer(translate.answer(outcome))

    def _of_piece(self, key: str, deal: Deal, outcome: Outcome) -> Iterable[Action]:
        deal.travels -= 1
        if outcome.kind != ACCEPTED:
            deal.broken = True
        return self._want(key, deal)

    def _of_deal(self, key: str, deal: Deal, answer: Answer, *, accepted: bool) -> Iterable[Action]:
        if deal.answer is not None or deal.posting:
            return
        deal.broken = True
        replies, deal.replies = deal.replies, []
        if accepted and deal.refusal is None:
            deal.posting = len(replies)
            for reply, token in replies:
                yield Write(Post(key, reply, token))
            if replies:
                return
        else:
            yield from self._discard(replies)
        yield from self._settle(key, deal, deal.refusal if accepted and deal.refusal else answer)

    def _discard(self, replies: list[tuple[Message, Any]]) -> Iterable[Action]:
        """Drop replies to a mail that is not accepted: its sender comes again, or is told."""
        self._drop(Drop.DISCARDED, len(replies))
        for _, token in replies:
            if token is not None:
                yield Done(token, UNSENT)

    def _posted(self, event: Posted) -> Iterable[Action]:
        if event.token is not None:
            yield Done(event.token, event.outcome)
        deal = self._deals.get(event.key)
        if deal is None or deal.answer is not None:
            return
        deal.posting -= 1
        if event.outcome.kind == FAILED:
            # The reply is lost unless the mail comes again.
            deal.refusal = translate.FAILURE
        if not deal.posting:
            yield from self._settle(event.key, deal, deal.refusal or translate.OK)

    def _settle(self, key: str, deal: Deal, answer: Answer) -> Iterable[Action]:
        if self._lmtp and answer.code == 421:
            # Others wait for theirs: RFC 2033 has an answer for each.
            answer = Answer(451, answer.text)
        deal.answer = answer
        if answer is translate.OK:
            yield Write(Keep(key))
        yield Forget(key)
        if all(one.answer is not None for one in self._deals.values()):
            yield from self._finish()

    def _finish(self) -> Iterable[Action]:
        answers = [deal.answer for deal in self._deals.values() if deal.answer is not None]
        self._deals = {}
        yield Timer("outcome", None)
        yield Write(Said(answers))

    def _answer(self, answer: Answer) -> Iterable[Action]:
        if self._waits is not None:
            self._waits = None
            self._number += 1  # its outcome says nothing more
            yield Timer("decision", None)
            yield Write(Said([answer]))

    # ------------------------------------------------ time

    def timeout(self, name: str) -> Iterable[Action]:
        """Hear that consumers took too long."""
        if name == "decision":
            yield from self._answer(ODD)
            return
        self._number += 1  # what comes now, comes too late
        for deal in self._deals.values():
            yield from self._cut(deal)
            if deal.answer is None:
                yield from self._discard(deal.replies)
                deal.answer = translate.LATE
        if self._deals:
            yield from self._finish()

    def draining(self, retry_after: float) -> Iterable[Action]:
        """Hear that the gateway is shutting down: what is in hand is finished first."""
        yield Write(Leave())

    def eof(self) -> Iterable[Action]:
        """Do nothing: who closes its half first still hears what became of its mail."""
        return ()
