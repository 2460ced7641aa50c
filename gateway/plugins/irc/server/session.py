"""`IrcSession`: one client's connection: its lines, their order and pace, what it is answered.

One command is worked on after another. Where one waits for the application (a JOIN, say), those
behind it wait, too; what is said in channels waits for nothing, and what is no talk waits until
all that was said before is decided. Lines that come too fast wait for their turn. All that waits
is bounded.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from gateway.core.errors import LocalProtocolError, RemoteProtocolError
from gateway.core.plugin import (
    Accepted,
    Action,
    Close,
    Connection,
    Drop,
    Emit,
    Forget,
    Message,
    Outcome,
    Peer,
    Session,
    Summary,
    Timer,
    Write,
)
from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.lines import (
    MAX_REST,
    LineTooLong,
    encode,
    encode_tags,
    fitted,
    fold,
    parse,
    split_text,
)
from gateway.plugins.irc.server import channels, commands, registration, replies, talk
from gateway.plugins.irc.server.event import Cap, Event, stamp
from gateway.plugins.irc.server.house import House
from gateway.plugins.irc.server.network import User
from gateway.plugins.irc.server.numerics import TEXTS
from gateway.plugins.irc.server.pending import TIMED_OUT, Barrier, Pending

MAX_TAGS: Final = 4096
"""Bytes of the tags of a client's line (message-tags: 4094 of data)."""
MAX_LINE: Final = MAX_TAGS + MAX_REST
"""Bytes of a client's whole line."""
WORD: Final = 120
"""Bytes of a word in the middle of a numeric: more than any name has."""
PRIVATE: Final = 100
"""Private conversations that are remembered: where their messages are answered."""
SEEN: Final = 1000
"""Users or channels that are looked at for the price of a line: some 10 ms."""
TOLD: Final = 65_536
"""Bytes of answers for the price of a line."""
PACE: Final = 1.0
"""Seconds between two looks at how many lines may come."""

Lines = list[tuple[dict[str, str], bytes]]


class IrcSession(Session):
    """One client."""

    def __init__(self, house: House, peer: Peer) -> None:
        self.house = house
        self.network = house.network
        self.peer = peer
        self.connection: Connection | None = None
        self.user: User | None = None
        """Once it is let in."""
        self.caps = 0
        self.entry = registration.Registration(peer)
        """What is known of it before."""
        self.account: str | None = None
        """Who it says it is, as others see it, …"""
        self.identity: str | None = None
        """… and as the application does."""
        self.why = "Connection closed"
        """What others hear when it leaves."""
        self._todo: list[Action] = []
        self.busy = False
        self._over = False
        self._tail = b""
        self._skips = False
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._tokens = float(house.config.line_burst)
        self._told = 0
        self._ticking = False
        self._blocked: Pending | None = None
        self._talking = 0
        """How much of what it said is not decided yet."""
        self._undecided: dict[str, deque[talk.Said]] = {}
        """That, by conversation, in order."""
        self._label = ""
        self._lines: Lines | None = None
        """What answers a labeled command, while that is worked on."""
        self._batches = 0
        self._private: OrderedDict[str, None] = OrderedDict()
        self._asked = False
        """Whether it was asked for a sign of life."""
        self._heard = True

    # ------------------------------------------------ what the core says

    def opened(self, peer: Peer) -> Iterable[Action]:
        """Begin."""
        return (Timer("registration", self.house.config.registration_timeout),)

    def received(self, data: bytes) -> Iterable[Action]:
        """Cut the bytes into lines, which end in CR, LF or both."""
        self._heard = True
        if self.network.fans.busy:
            self.network.fans.catch_up(self)
        *lines, tail = (self._tail + data).replace(b"\r", b"\n").split(b"\n")
        self._tail = tail
        self.busy = True
        for line in lines:
            if self._over:
                break
            if self._skips:
                self._skips = False
            elif len(line) > MAX_LINE:
                self.fail("417")
            elif line:
                self._take(line)
        if len(tail) > MAX_LINE:
            self._tail = b""
            if not self._skips and not self._over:
                self._skips = True
                self.fail("417")
        return self._done()

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        """Do what the application says to this client, or in one of its conversations."""
        return self._doing(replies.direct, self, conversation, reply)

    def group_send(self, conversation: str | None, reply: Message) -> Iterable[Action]:
        """Show this client alone what was said in a group that its conversation is in."""
        return self._doing(replies.grouped, self, conversation, reply)

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[Action]:
        """Hear what became of what was emitted."""
        return self._doing(self._settled, token, outcome)

    def claimed(self, nick: str, *, yes: bool) -> Iterable[Action]:
        """Hear whether a nick is this client's."""
        return self._doing(lambda: registration.claimed(self, nick, yes=yes))

    def resumed(self, pending: Pending, done: Callable[[], None]) -> Iterable[Action]:
        """Go on with a command that had waited: what answers it is known."""
        return self._doing(self.resume, pending, done)

    def ending(self, reason: str) -> Iterable[Action]:
        """End the connection, for the server."""
        return self._doing(self.close, reason)

    def sasl_changed(self) -> Iterable[Action]:
        """Tell the client which mechanisms of SASL there are now."""
        return self._doing(registration.tell_mechanisms, self)

    def forced(self, channel: str, *, inside: bool) -> Iterable[Action]:
        """Be in a channel, or not, since the application has it in its group, or not."""
        return self._doing(self._force, channel, inside)

    def timeout(self, name: str) -> Iterable[Action]:
        """Hear that a timer is due."""
        return self._doing(self._due, name)

    def eof(self) -> Iterable[Action]:
        """Hear that it will send no more."""
        self.house.leave(self, self.why)
        return (Close(),)

    def draining(self, retry_after: float) -> Iterable[Action]:
        """Say that the gateway is shutting down."""
        return self._doing(self.close, "The gateway is shutting down")

    heeds_late = True

    def ended(self) -> Message:
        """Return the content of the disconnect."""
        return {
            "network": self.house.config.network,
            "nick": self.user.nick if self.user else self.entry.nick,
            "reason": self.why,
            **({"identity": self.identity} if self.identity else {}),
        }

    def summary(self) -> Summary:
        """Return what the access log says."""
        nick = self.user.nick if self.user else self.entry.nick
        return Summary(self.why if self.user else "", path=nick)

    def _doing(self, method: Callable[..., None], *args: Any) -> Iterable[Action]:
        if self.network.fans.busy:
            self.network.fans.catch_up(self)
        self.busy = True
        try:
            method(*args)
        except BaseException:
            self.busy = False
            raise
        return self._done()

    def _done(self) -> list[Action]:
        self.busy = False
        todo, self._todo = self._todo, []
        return todo if len(todo) < 2 else _joined(todo)

    # ------------------------------------------------ lines

    def _take(self, data: bytes) -> None:
        """Take a line: now, or when it is its turn."""
        if self._held or self._blocked is not None or not self._may():
            if data[:5].upper() in {b"PING ", b"PONG "} and self._tokens >= 1 and not self._label:
                self._tokens -= 1
                self._line(data)
                return
            self._held.append(data)
            self._held_bytes += len(data) + 64
            if self._held_bytes > self.house.config.max_queue:
                self.house.drop(Drop.LIMITED, len(self._held))
                self.close("Excess Flood")
            return
        self._line(data)

    def _may(self) -> bool:
        """Return whether another line may be worked on now."""
        rate = self.house.config.line_rate
        if not rate:
            return True
        if not self._ticking:
            self._ticking = True
            self.act(Timer("pace", PACE))
        return self._tokens >= 1

    def _go_on(self) -> None:
        """Work on what had to wait, as far as it may be."""
        while self._held and self._blocked is None and not self._over and self._may():
            data = self._held.popleft()
            self._held_bytes -= len(data) + 64
            self._line(data)

    def _line(self, data: bytes) -> None:
        try:
            line = parse(data, max_tags=MAX_TAGS)
        except LineTooLong:
            self._tokens -= 1
            self.fail("417")
            return
        except RemoteProtocolError:
            self._tokens -= 1
            self.house.drop(Drop.INVALID)
            return
        if not line.command:
            return
        handler = commands.COMMANDS.get(line.command)
        if self._talking and line.command not in commands.FREE:
            self._held.appendleft(data)
            self._held_bytes += len(data) + 64
            self._block(Barrier())
            return
        self._tokens -= 1
        self._begin(line.tags.get("label", "") if self.caps & Cap.LABELED else "")
        if handler is None:
            if self.user is None:
                self.fail("451")
            else:
                self.fail("421", line.command[:60])
        elif self.user is None and line.command not in commands.BEFORE:
            self.fail("451")
        elif len(line.params) < handler.params or (handler.params and not line.params[0]):
            self.fail("461", line.command)
        else:
            handler.do(self, line)
        self._finish()

    # ------------------------------------------------ answers, labeled where that is asked for

    def _begin(self, label: str) -> None:
        self._label = label[:64]
        self._lines = [] if label else None

    def _finish(self) -> None:
        """Write what answers a labeled command, if it is all there."""
        lines, self._lines = self._lines, None
        label, self._label = self._label, ""
        if lines is None:
            return
        if not lines:
            lines = [({}, encode("ACK", source=self.house.config.server))]
        elif len(lines) > 1:
            self._batches += 1
            name = f"l{self._batches:x}"
            server = self.house.config.server
            opening = encode("BATCH", f"+{name}", "labeled-response", source=server)
            # what is in a batch of its own already stays there
            lines = [({"batch": name} | tags, rest) for tags, rest in lines]
            lines = [({}, opening), *lines, ({}, encode("BATCH", f"-{name}", source=server))]
        lines[0][0]["label"] = label
        for tags, rest in lines:
            self._write(encode_tags(tags) + rest if tags else rest)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is gone."""
        return self._over or self.connection is None

    @property
    def waits_for(self) -> Pending | None:
        """What the next command waits for."""
        return self._blocked

    def defer(self, pending: Pending) -> None:
        """Answer this command later, and have those behind it wait."""
        pending.label, pending.lines = self._label, self._lines
        self._label, self._lines = "", None
        self._block(pending)

    def defer_talk(self, said: talk.Said, conversation: str) -> None:
        """Answer what was said later; more may be said meanwhile."""
        said.conversation = conversation
        self._undecided.setdefault(conversation, deque()).append(said)
        said.label, said.lines = self._label, self._lines
        self._label, self._lines = "", None
        self._talking += 1

    def undecided(self, conversation: str | None) -> talk.Said | None:
        """Return the first of what it said in a conversation that is not decided yet."""
        found = self._undecided.get(conversation or "")
        return found[0] if found else None

    def _decided(self, said: Pending) -> None:
        self._talking -= 1
        found = self._undecided.get(said.conversation) if isinstance(said, talk.Said) else None
        if found is not None and isinstance(said, talk.Said):
            found.remove(said)
            if not found:
                del self._undecided[said.conversation]

    def _block(self, pending: Pending) -> None:
        self._blocked = pending
        self.act(Timer("decision", self.house.config.decision_timeout))

    def resume(self, pending: Pending, done: Callable[[], None]) -> None:
        """Go on with a command that had waited: ``done`` answers it. Once."""
        if pending.over or (pending.blocks and (self.is_over or self._blocked is not pending)):
            return
        pending.over = True
        if pending.blocks:
            self._blocked = None
        else:
            self._decided(pending)
        self._label, self._lines = pending.label, pending.lines
        done()
        self._finish()
        if not pending.blocks:
            if not self._talking and isinstance(self._blocked, Barrier):
                self._unblock()
        elif self._blocked is None:
            self._unblock()

    def _unblock(self) -> None:
        self._blocked = None
        self.act(Timer("decision", None))
        self._go_on()

    # ------------------------------------------------ what commands do

    def charge(self, seen: int) -> None:
        """Count what a command has looked at: the lines behind it wait for that, too."""
        self._tokens -= seen // SEEN

    def act(self, action: Action) -> None:
        """Have the core do something."""
        self._todo.append(action)

    def _write(self, data: bytes) -> None:
        self._todo.append(Write(data))

    @property
    def me(self) -> User:
        """The client as others know it, who is let in."""
        if self.user is None:
            raise LocalProtocolError("it is not let in")
        return self.user

    def write(
        self, command: str, *params: str, source: str = "", tags: dict[str, str] | None = None
    ) -> None:
        """Tell the client a line, from the server if nobody else is named."""
        rest = fitted(command, *params, source=source or self.house.config.server)
        self.put(tags or {}, rest)

    def put(self, tags: dict[str, str], rest: bytes) -> None:
        """Tell the client a line that is made already, with tags where it takes them."""
        if self.caps & Cap.TIME and "time" not in tags:
            tags = {"time": stamp(self.house.now()), **tags}
        self._told += len(rest)
        if self._told >= TOLD:
            self._told = 0
            self._tokens -= 1
        if self._lines is not None:
            self._lines.append((dict(tags), rest))
        else:
            self._write(encode_tags(tags) + rest if tags else rest)

    def numeric(self, code: str, *params: str) -> None:
        """Tell the client a numeric; its last parameter is cut where the line is full."""
        nick = self.user.nick if self.user is not None else self.entry.nick or "*"
        *words, last = params or ("",)
        self.write(code, nick, *map(_word, words), *([last] if params else []))

    def standard(self, kind: str, command: str, code: str, *context: str, text: str) -> None:
        """Tell the client FAIL, WARN or NOTE (standard-replies)."""
        self.write(kind, command, code, *map(_word, context), text)

    def fail(self, code: str, *params: str, text: str = "") -> None:
        """Tell the client that something is refused, in the words of the numeric."""
        self.numeric(code, *params, text or TEXTS[code])

    def push(self, event: Event, *, answer: bool = True) -> None:
        """Hear what others do; with ``answer`` as what answers a command of its own, if one is
        worked on.
        """  # noqa: D205 - one sentence
        if not self.busy:
            if self.connection is not None:
                frame = event.frame(self.caps)
                self.connection.push(frame, len(frame))
        elif self._lines is None or not answer:
            self._write(event.frame(self.caps))
        else:
            self._lines.append((event.tags_for(self.caps), event.rest))

    def batch(self, kind: str, *params: str) -> str:
        """Begin a batch, and return its name."""
        self._batches += 1
        name = f"b{self._batches:x}"
        self.write("BATCH", f"+{name}", kind, *params)
        return name

    def emit(
        self, kind: str, message: Message, token: Any = None, conversation: str | None = None
    ) -> None:
        """Tell the application."""
        message["network"] = self.house.config.network
        if self.identity is not None:
            message["identity"] = self.identity
        self.act(Emit(kind, message, token, conversation))

    def tell(self, kind: str, message: Message, conversation: str | None = None) -> None:
        """Tell the application what has happened, if it hears of such things."""
        if self.house.routed(kind) is not False:
            user = self.user
            if user is not None:
                message = {"mask": user.mask, "nick": user.nick, **message}
            self.emit(kind, message, None, conversation)

    def private(self, nick: str) -> str:
        """Return the key of the conversation with a nick; the one longest unused is forgotten."""
        key = fold(nick)
        self._private[key] = None
        self._private.move_to_end(key)
        if len(self._private) > PRIVATE:
            self.act(Forget(self._private.popitem(last=False)[0]))
        return key

    def close(self, reason: str, *, code: str = "") -> None:
        """End the connection, with an ERROR that says why."""
        if self._over:
            return
        self._over = True
        self._held.clear()
        self._held_bytes = 0
        self.why = reason
        self._finish()
        if code:
            self.fail(code, text=reason)
        piece = split_text(reason, 300)[0]
        self.write("ERROR", f"Closing Link: {self.entry.host} ({piece})")
        self.house.leave(self, piece)
        self.act(Close())

    # ------------------------------------------------ outcomes, timers

    def _settled(self, token: Any, outcome: Outcome) -> None:
        if token is self.entry:
            registration.connected(self, outcome)
        elif isinstance(token, Pending):
            self.resume(token, lambda: token.decided(self, outcome))

    def _force(self, name: str, inside: bool) -> None:
        user, channel = self.user, self.network.channel(name)
        if user is None:  # once it is let in
            self.entry.rooms.pop(name, None)
            if inside:
                self.entry.rooms[name] = None
            return
        if user.uid not in self.network.users:
            return
        if inside and channel not in user.channels:
            channels.enter(self, name)
        elif not inside and channel is not None and channel in user.channels:
            channels.leave(self, channel, "")

    def let_in(self) -> None:
        """Have the core take note that it is."""
        self.act(Timer("registration", None))
        self.act(Accepted())
        self.act(Timer("ping", self.house.config.ping_interval))

    def _due(self, name: str) -> None:
        config = self.house.config
        if name == "pace":
            self._tokens = min(self._tokens + config.line_rate * PACE, config.line_burst)
            self._ticking = False
            self._go_on()
            if self._tokens < config.line_burst and not self._ticking and not self._over:
                self._ticking = True
                self.act(Timer("pace", PACE))
        elif name == "registration":
            self.close("Registration timed out")
        elif name == "decision":
            pending = self._blocked
            if pending is None or isinstance(pending, Barrier):
                self._unblock()
            else:
                self.resume(pending, lambda: pending.decided(self, TIMED_OUT))
        elif name == "ping":
            self._look(config)

    def _look(self, config: IrcConfig) -> None:
        """Look for a sign of life."""
        if self._heard:
            self._heard = self._asked = False
            self.act(Timer("ping", config.ping_interval))
        elif not self._asked:
            self._asked = True
            self.write("PING", config.server)
            self.act(Timer("ping", config.ping_timeout))
        else:
            self.close(f"Ping timeout: {config.ping_interval + config.ping_timeout:g} seconds")


def _word(word: str) -> str:
    """Return a word as it can stand in the middle of a line."""
    if not word or " " in word or word[0] == ":":
        return "*"
    return word if len(word) < WORD and word.isascii() else split_text(word, WORD)[0]


def _joined(todo: list[Action]) -> list[Action]:
    """Return actions with what is written in a row as one."""
    found: list[Action] = []
    for action in todo:
        last = found[-1] if found else None
        if action.__class__ is Write and last.__class__ is Write:
            found[-1] = Write(last.output + action.output)
        else:
            found.append(action)
    return found
