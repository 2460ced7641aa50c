"""Locations: what any gateway process can be asked for, though one of them has it.

A plugin whose connections outlive their requests gives each a location, a part of a URL. A later
request for it may reach any of several gateway processes; the one that it reaches asks the one
that has the connection, over the layer, and hears its answer::

    location = context.locate(deliver)             # PLUGIN.p_AbCdEfGhIjKl.TOKEN, a secret
    ...
    context.ask(text, {"method": "GET"}, heard)    # in any process; at home without a detour
    ...
    def deliver(ask): ask.answer({"status": 204})  # where it is, now or later

Between processes go three messages, in the inboxes of both::

    asker                                          owner
      │ relay.ask.OWNER!PLUGIN {asker, number, token, message} ─► │
      │ relay.ask.OWNER!PLUGIN {asker, number} ─────────────────► │  it is not wanted any more
      │ ◄──────────────── relay.answer.ASKER! {number, answer}    │
      │ ◄──────────────── relay.answer.ASKER! {number, unanswered}│

Each watches the other's lease, so that neither waits for who is dead. While the layer is away
nothing can be asked; what was, is forgotten by both.
"""

from __future__ import annotations

import enum
import logging
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway.core.deadlines import Deadline
from gateway.core.errors import MessageTooLarge
from gateway.core.layers import codec
from gateway.core.metrics import Drop
from gateway.core.names import random_text
from gateway.core.session import Message

if TYPE_CHECKING:
    from gateway.core.connection import Engine

log = logging.getLogger("gateway.relay")

PREFIX: Final = "relay."
"""What the names of its messages begin with."""
TOKEN: Final = 22
"""Letters and digits of a token: 131 bits, which nobody finds by trying."""

_TEXT: Final = re.compile(rf"([^.]+)\.(p_[A-Za-z0-9]{{1,40}})\.([A-Za-z0-9]{{{TOKEN}}})").fullmatch


class Unanswered(enum.Enum):
    """Why an ask has no answer."""

    GONE = "gone"
    """Nothing has that location, or not any more."""
    UNAVAILABLE = "unavailable"
    """Another process has it, and the layer cannot be reached."""
    BUSY = "busy"
    """Too many are under way."""
    TOO_BIG = "too_big"
    """The ask, or its answer, is larger than the layer lets through."""
    TIMEOUT = "timeout"
    """No answer came in time."""
    DRAINING = "draining"
    """This gateway process is shutting down, and the ask waits for something to happen."""
    BROKEN = "broken"
    """What has it raised an exception, which is logged there."""


Answer = Message | Unanswered


class Ask:
    """One ask, where the location is. To be answered once, now or later."""

    __slots__ = ("_gone", "_location", "_tell", "message")

    def __init__(
        self, location: Location, message: Message, tell: Callable[[Answer], None]
    ) -> None:
        self.message = message
        """What was asked."""
        self._location: Location | None = location
        self._tell = tell
        self._gone: Callable[[], None] | None = None

    @property
    def over(self) -> bool:
        """Whether it was answered, or is not wanted any more."""
        return self._location is None

    def answer(self, message: Message) -> None:
        """Answer. Ignored where it is over."""
        self._end(message)

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Call back once if the answer is not wanted any more: who asked has left."""
        self._gone = callback

    def forget(self) -> None:
        """Hear that the answer is not wanted any more."""
        if self._location is not None:
            self._location.asks.discard(self)
            self._location = None
            if self._gone is not None:
                try:
                    self._gone()
                except Exception:
                    log.exception("a plugin raised for an ask that is not wanted any more")

    def fail(self, why: Unanswered) -> None:
        """Say why there is no answer."""
        self._end(why)

    def _end(self, answer: Answer) -> None:
        if self._location is not None:
            self._location.asks.discard(self)
            self._location = None
            self._tell(answer)


class Location:
    """Where something is. Made by `Context.locate`."""

    __slots__ = ("_relay", "asks", "deliver", "plugin", "text", "token")

    def __init__(
        self, relay: Relay, plugin: str, process: str, deliver: Callable[[Ask], None]
    ) -> None:
        self._relay = relay
        self.plugin = plugin
        self.deliver = deliver
        self.token = random_text(TOKEN)
        self.text = f"{plugin}.{process}.{self.token}"
        """What clients are told: letters, digits, ``_`` and ``.``. Who knows it may ask."""
        self.asks: set[Ask] = set()
        """Those that wait for an answer."""

    def close(self) -> None:
        """Be nowhere any more; what waits for an answer hears `Unanswered.GONE`. Idempotent."""
        self._relay.close(self)


class Asked:
    """One ask, where it was made. Made by `Context.ask`."""

    __slots__ = ("_deadline", "_heard", "_relay", "ask", "number", "owner", "plugin", "waits")

    def __init__(self, relay: Relay, plugin: str, heard: Callable[[Answer], None]) -> None:
        self._relay = relay
        self._heard: Callable[[Answer], None] | None = heard
        self._deadline: Deadline | None = None
        self.plugin = plugin
        self.number = 0
        self.owner = ""
        """The process that is asked, "" for this one."""
        self.waits = False
        """Whether it waits for something to happen."""
        self.ask: Ask | None = None
        """The ask itself, in this process."""

    @property
    def over(self) -> bool:
        """Whether the answer was heard, or is not wanted any more."""
        return self._heard is None

    def wait(self, seconds: float) -> None:
        """Give up in so many seconds."""
        if not self.over:
            self._deadline = Deadline(partial(self._relay.give_up, self))
            self._relay.deadlines.set(self._deadline, seconds)

    def forget(self) -> None:
        """Want no answer any more: who asked has left. Idempotent."""
        if self._heard is not None:
            self._relay.forget(self)

    def end(self, answer: Answer | None) -> None:
        """Hear the answer; None: it is not wanted."""
        heard, self._heard = self._heard, None
        if self._deadline is not None:
            self._relay.deadlines.forget(self._deadline)
            self._deadline = None
        if heard is not None and answer is not None:
            heard(answer)


class Relay:
    """The locations of one gateway process, and what it asks and is asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._most = engine.settings.relayed
        self.deadlines = engine.deadlines
        self._locations: dict[str, Location] = {}
        """By token."""
        self._number = 0
        self._away: dict[int, Asked] = {}
        """What other processes were asked, by number."""
        self._asks: dict[tuple[str, int], Ask] = {}
        """What other processes ask, by their name and number."""
        self._watched: set[str] = set()
        engine.metrics.gauge("gateway_relayed", lambda: len(self._away), way="out")
        engine.metrics.gauge("gateway_relayed", lambda: len(self._asks), way="in")

    # ------------------------------------------------ what plugins do

    def locate(self, plugin: str, deliver: Callable[[Ask], None]) -> Location:
        """Return a new location, at which ``deliver`` is asked."""
        location = Location(self, plugin, self._engine.process, deliver)
        self._locations[location.token] = location
        return location

    def close(self, location: Location) -> None:
        """Forget a location."""
        if self._locations.get(location.token) is location:
            del self._locations[location.token]
        for ask in list(location.asks):
            ask.fail(Unanswered.GONE)

    def ask(
        self,
        plugin: str,
        text: str,
        message: Message,
        heard: Callable[[Answer], None],
        seconds: float,
        *,
        waits: bool,
    ) -> Asked:
        """Ask a location of ``plugin``, wherever it is. See `Context.ask`."""
        asked = Asked(self, plugin, partial(self._heard, plugin, heard))
        found = _TEXT(text)
        if found is None or found[1] != plugin:
            asked.end(Unanswered.GONE)
            return asked
        _, process, token = found.groups()
        # Looked up by its hash: how long that takes tells nothing of any token's characters.
        location = self._locations.get(token)
        if location is not None or process == self._engine.process:
            self._ask_here(asked, location, message)
        else:
            asked.waits = waits
            self._ask_there(asked, process, token, message)
        asked.wait(seconds)
        return asked

    def _heard(self, plugin: str, heard: Callable[[Answer], None], answer: Answer) -> None:
        result = answer.value if isinstance(answer, Unanswered) else "answered"
        self._engine.metrics.count("gateway_relay_asks_total", plugin=plugin, result=result)
        try:
            heard(answer)
        except Exception:
            log.exception("plugin %s raised for an answer", plugin)

    def _ask_here(self, asked: Asked, location: Location | None, message: Message) -> None:
        if location is None or location.plugin != asked.plugin:
            asked.end(Unanswered.GONE)
            return
        asked.ask = Ask(location, message, asked.end)
        self._deliver(location, asked.ask)

    def _ask_there(self, asked: Asked, process: str, token: str, message: Message) -> None:
        engine = self._engine
        if not engine.available:
            asked.end(Unanswered.UNAVAILABLE)
            return
        if engine.draining and asked.waits:
            asked.end(Unanswered.DRAINING)
            return
        if len(self._away) >= self._most:
            engine.metrics.drop(Drop.LIMITED, where="relay")
            asked.end(Unanswered.BUSY)
            return
        self._number = number = self._number + 1
        said = {"asker": engine.process, "number": number, "token": token, "message": message}
        try:
            payload = codec.encode(said, engine.edge.options.message_bytes)
        except MessageTooLarge:
            engine.metrics.drop(Drop.TOO_BIG, where="relay")
            asked.end(Unanswered.TOO_BIG)
            return
        asked.number = number
        asked.owner = process
        self._away[number] = asked
        self._watch(process)
        engine.edge.send(f"{PREFIX}ask.{process}!{asked.plugin}", payload)

    def _watch(self, process: str) -> None:
        """Have the layer say when a process is gone: at once where there is none of that name."""
        if process not in self._watched:
            self._watched.add(process)
            engine = self._engine
            engine.edge.watch(f"{PREFIX}gone.{engine.process}!{process}", process)

    def _deliver(self, location: Location, ask: Ask) -> None:
        location.asks.add(ask)
        try:
            location.deliver(ask)
        except Exception:
            log.exception("plugin %s raised for an ask", location.plugin)
            ask.fail(Unanswered.BROKEN)

    def forget(self, asked: Asked) -> None:
        """Want no answer any more."""
        self._withdraw(asked)
        asked.end(None)

    def give_up(self, asked: Asked) -> None:
        """Hear that no answer came in time."""
        self._withdraw(asked)
        asked.end(Unanswered.TIMEOUT)

    def _withdraw(self, asked: Asked) -> None:
        if asked.ask is not None:
            asked.ask.forget()
        elif self._away.pop(asked.number, None) is not None and self._engine.available:
            payload = codec.encode({"asker": self._engine.process, "number": asked.number})
            self._engine.edge.send(f"{PREFIX}ask.{asked.owner}!{asked.plugin}", payload)

    # ------------------------------------------------ what the layer says

    def heard(self, channel: str, payload: bytes) -> None:
        """Take a message of the relay of another process, or of the layer about one."""
        verb = channel[len(PREFIX) : channel.index(".p_")]
        rest = channel[channel.index("!") + 1 :]
        if verb == "gone":
            self._lost(rest)
        elif verb == "ask":
            self._asked(rest, codec.decode(payload))
        else:
            self._answered(codec.decode(payload))

    def _asked(self, plugin: str, said: Message) -> None:
        key = (said["asker"], said["number"])
        if "token" not in said:
            if (known := self._asks.pop(key, None)) is not None:
                known.forget()
            return
        location = self._locations.get(said["token"])
        if location is None or location.plugin != plugin:
            self._tell(key, Unanswered.GONE)
        elif len(self._asks) >= self._most:
            self._engine.metrics.drop(Drop.LIMITED, where="relay")
            self._tell(key, Unanswered.BUSY)
        else:
            self._watch(key[0])
            ask = self._asks[key] = Ask(location, said["message"], partial(self._tell, key))
            self._deliver(location, ask)

    def _tell(self, key: tuple[str, int], answer: Answer) -> None:
        """Tell another process the answer to what it asked."""
        self._asks.pop(key, None)
        engine = self._engine
        if not engine.available:
            return
        asker, number = key
        said: dict[str, Any] = {"number": number}
        if isinstance(answer, Unanswered):
            said["unanswered"] = answer.value
        else:
            said["answer"] = answer
        try:
            payload = codec.encode(said, engine.edge.options.message_bytes)
        except MessageTooLarge:
            engine.metrics.drop(Drop.TOO_BIG, where="relay")
            payload = codec.encode({"number": number, "unanswered": Unanswered.TOO_BIG.value})
        engine.edge.send(f"{PREFIX}answer.{asker}!", payload)

    def _answered(self, said: Message) -> None:
        asked = self._away.pop(said["number"], None)
        if asked is not None:
            why = said.get("unanswered")
            asked.end(said["answer"] if why is None else Unanswered(why))

    def _lost(self, process: str) -> None:
        """Hear that a process is gone."""
        self._watched.discard(process)
        self._end_away([one for one in self._away.values() if one.owner == process])
        for key in [key for key in self._asks if key[0] == process]:
            self._asks.pop(key).forget()

    def down(self) -> None:
        """Hear that the layer is away: no answer comes or goes."""
        self._watched.clear()
        self._end_away(list(self._away.values()), Unanswered.UNAVAILABLE)
        asks, self._asks = self._asks, {}
        for ask in asks.values():
            ask.forget()

    def drain(self) -> None:
        """Hear that this process is shutting down: what waits in it for others waits no more."""
        for asked in [one for one in self._away.values() if one.waits]:
            self._withdraw(asked)
            asked.end(Unanswered.DRAINING)

    def fenced(self) -> None:
        """Hear that the lease of this process has ended: nobody may find anything here."""
        for location in list(self._locations.values()):
            self.close(location)
        self.down()

    def _end_away(self, ended: list[Asked], why: Unanswered = Unanswered.GONE) -> None:
        for asked in ended:
            self._away.pop(asked.number, None)
            asked.end(why)
