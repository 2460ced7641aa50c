"""`Server`: the server role of one gateway process: listeners, sessions, what all of them know.

The processes tell each other what changes on their bus. A new one says hello; each other one
answers with the users that it has and the channels that those are in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, ClassVar, Final

from gateway.core import names
from gateway.core.arrivals import Arrived
from gateway.core.deadlines import Deadline
from gateway.core.errors import LayerError, MessageTooLarge
from gateway.core.places import Places
from gateway.core.plugin import OK, Connection, Context, Drop, Message, Peer, Session
from gateway.core.stream import StreamPlugin, StreamProtocol
from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.lines import fold
from gateway.plugins.irc.messages import channel_group
from gateway.plugins.irc.server import addressed, talk
from gateway.plugins.irc.server.event import Cap
from gateway.plugins.irc.server.fans import Fans
from gateway.plugins.irc.server.house import Kept
from gateway.plugins.irc.server.network import Change, Channel, Network, User
from gateway.plugins.irc.server.nicks import Nicks
from gateway.plugins.irc.server.recall import dated, own
from gateway.plugins.irc.server.reunion import Reunion
from gateway.plugins.irc.server.rooms import PREFIX, Rooms
from gateway.plugins.irc.server.session import IrcSession

HELLO: Final = 5.0
"""Seconds that the layer may take for that; if it is away the others hear of us later."""
SWEEP: Final = 10.0
"""Seconds between two looks at what may have been lost."""
PIECE: Final = 50
"""Changes in one message of a burst: some 20 KB."""


class IrcWire(StreamProtocol):
    """One client's connection, which tells the server of its end."""

    _session: IrcSession | None = None

    def __init__(self, server: Server, arrived: Arrived | None = None) -> None:
        super().__init__(server, arrived)
        self._server = server

    def _attach(self, session: Session, peer: Peer) -> Connection:
        connection = super()._attach(session, peer)
        if isinstance(session, IrcSession):
            session.connection = connection
            self._server.clients[connection.reply_channel] = session
            self._session = session
        return connection

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802 - Twisted's name
        """Hear that it is gone."""
        super().connectionLost(reason)
        session, self._session = self._session, None
        if session is not None:
            self._server.leave(session, session.why)
            if session.connection is not None:
                del self._server.clients[session.connection.reply_channel]
            session.connection = None


class Server(StreamPlugin):
    """The server role of one gateway process."""

    name: ClassVar[str] = "irc"
    alpn: ClassVar[tuple[str, ...]] = ("irc",)

    def __init__(self, config: IrcConfig, context: Context) -> None:
        super().__init__(config, context)
        self.now = time.time
        self.started = self.now()
        self.drop = context.drop
        self.network = Network("", config.server, self._listed, Fans(context.loop.call_soon))
        self.clients: dict[str, IrcSession] = {}
        """Those that are connected, by their reply channel."""
        self.pending: set[IrcSession] = set()
        """Who waits for a decision."""
        self._nicks = Nicks(context)
        self._others: set[str] = set()
        """The other gateway processes."""
        self._reunions: dict[str, Reunion] = {}
        """Those that are about to tell what they have."""
        self._unheard: set[str] = set()
        """Those that were there before the layer forgot us, and have not been heard of since."""
        self._heard = asyncio.Event()
        """Set once what this process tells has come back to it."""
        self._sweeping = Deadline(self._sweep)
        self.service = User(
            {
                "uid": "irc.service",
                "home": "",
                "nick": config.nick,
                "username": config.nick,
                "host": config.server,
                "realname": f"the application of {config.network}",
                "account": None,
                "at": self.started,
                "guest": False,
                "away": "",
                "invisible": False,
            }
        )

    # ------------------------------------------------ start and stop

    async def start(self) -> None:
        """Listen at every endpoint. Raises ConfigError that names the setting."""
        context = self.context
        rooms = Rooms(self, context, self._force, self._split, self._rejoined)
        self._gathered = context.gather(PREFIX, rooms, IrcSession)
        self._bus = context.bus(self._hear)
        self._begin()
        context.gauge("users", lambda: len(self.network.users) - 1)
        context.gauge("channels", lambda: len(self.network.channels))
        with suppress(TimeoutError):
            # What the others know comes the same way, and so mostly before anybody is let in.
            async with asyncio.timeout(HELLO):
                await self._heard.wait()
        context.deadlines.set(self._sweeping, SWEEP)
        self._plain = bool(self.routed("authenticate"))
        await super().start()

    def _begin(self) -> None:
        """Say hello, under the name that this process has now."""
        self.network.name = self._gathered.process
        self.network.users[self.service.uid] = self.service
        self.network.nicks[fold(self.config.nick)] = self.service
        self._tell({"hello": self.network.name})

    def session(self, peer: Peer) -> Session:
        """Return the session of a new connection."""
        return IrcSession(self, peer)

    @property
    def places(self) -> Places:
        """The places of its connections."""
        return self._places

    def wire(self, arrived: Arrived | None = None) -> StreamProtocol:
        """Return what carries a new connection."""
        return IrcWire(self, arrived)

    def crowded(self) -> bytes:
        """Return what a connection over ``max_connections`` hears."""
        return b"ERROR :Closing Link: (Too many connections)\r\n"

    async def stop(self) -> None:
        """Accept nothing more; return when the last connection is gone."""
        await super().stop()
        self.context.deadlines.forget(self._sweeping)
        await self._nicks.close()

    def health(self) -> Mapping[str, Any]:
        """Return how much there is."""
        return {
            **super().health(),
            "users": len(self.network.users) - 1,
            "channels": len(self.network.channels),
        }

    # ------------------------------------------------ what sessions ask for

    def routed(self, kind: str) -> bool | None:
        """Return whether the application hears of such things."""
        return self.context.routed(kind)

    def motd(self) -> list[str]:
        """Return the lines of the message of the day."""
        return str(self.config.motd).splitlines()

    def refuse_notice(self) -> None:
        """Count a notice that was not accepted."""
        self.context.count("notices_refused_total")

    def change(self, **change: Any) -> None:
        """Apply a change here, and tell the other processes."""
        self.network.apply(change)
        if self._others:
            self._tell({"from": self.network.name, "changes": [change]})
        self._settle(change)

    def claim(self, session: IrcSession, nick: str) -> None:
        """Ask whether a nick may be a client's."""
        if session.user is None:
            if len(self.pending) >= self.config.max_pending:
                self.drop(Drop.LIMITED)
                self.context.loop.call_soon(self._turn_away, session)
                return
            self.pending.add(session)
        self._nicks.claim(session, nick)

    @staticmethod
    def _turn_away(session: IrcSession) -> None:
        if session.connection is not None:
            session.connection.run(session.ending("Too many clients are waiting; try again later"))

    def release(self, session: IrcSession, nick: str) -> None:
        """Let go of a nick, or of the wish to have it."""
        if session.user is None:
            self.pending.discard(session)
        self._nicks.release(session, nick)

    def admit(self, session: IrcSession, user: Change) -> User:
        """Let a client in."""
        self.pending.discard(session)
        self.change(do="user", home=self.network.name, **user)
        found = self.network.users[user["uid"]]
        found.link = session
        self.network.here += 1
        self.network.most = max(self.network.most, self.network.here)
        return found

    def leave(self, session: IrcSession, reason: str) -> None:
        """Have a client be gone. Idempotent."""
        self.pending.discard(session)
        user = session.user
        if user is None:
            self._nicks.release(session, session.entry.claiming)
        elif user.uid in self.network.users:
            user.link = None
            self.network.here -= 1
            self.change(do="quit", uid=user.uid, reason=reason, at=self.now())
            self._nicks.release(session, user.nick)

    def say(self, channel: Channel, message: Message, speaker: User | None = None) -> None:
        """Have all in a channel hear a message: who is here at once, in order with all else."""
        own = message["irc"]
        told = list(talk.events(channel.name, own, own["mask"], self.now()))
        self._say_in(channel.name, message)
        links = [link for user, link in channel.here.items() if user is not speaker]
        for event in told:
            self.network.fans.tell(links, event)

    def address(self, channel: str, target: str | None, message: Message) -> None:
        """Say what was sent to ``channel``: ``irc.say``, or an address of this network."""
        outcome = addressed.say(self, self._hail, target, dict(message))
        if outcome is not OK:
            self.context.log.warning("%s: not said: %s", channel, outcome.reason)
        self.context.answer(channel, message, outcome)

    def _hail(self, name: str, message: Message) -> None:
        channel = self.network.channel(name)
        if channel is None:
            self._say_in(name, message)
        else:
            self.say(channel, message)

    def _say_in(self, name: str, message: Message) -> None:
        history = self.config.history
        self._gathered.send(
            channel_group(name),
            message,
            history=history,
            history_seconds=self.config.history_seconds if history else None,
        )

    def whisper(self, user: User, message: Message) -> None:
        """Send to one user, wherever it is."""
        if user.link is None:
            self._gathered.tell(user.uid, message)
            return
        own = message["irc"]
        if self.network.fans.busy:
            self.network.fans.catch_up(user.link)
        for event in talk.events(user.nick, own, own["mask"], self.now()):
            user.link.push(event, answer=False)

    def recall(self, channel: Channel, told: Callable[[list[Kept] | None], None]) -> None:
        """Have ``told`` called with what is kept of a channel."""
        self.context.spawn(self._recall(channel_group(channel.name), told))

    async def _recall(self, group: str, told: Callable[[list[Kept] | None], None]) -> None:
        try:
            history = await self._gathered.history(group)
        except LayerError:
            history = None
        if history is None:
            told(None)
            return
        epoch = history.position[0]
        kept = []
        for offset, message in history.entries:
            found = own(message)
            if found is not None:
                kept.append((names.position(epoch, offset), found))
        told(dated(kept))

    # ------------------------------------------------ the other processes

    def _tell(self, message: Message) -> None:
        try:
            self._bus(message)
        except MessageTooLarge:
            self.drop(Drop.TOO_BIG)

    def _hear(self, message: Message) -> None:
        """Take what any gateway process tells."""
        name = message.get("hello") or message.get("here") or message["from"]
        if name == self.network.name:
            self._heard.set()
            return
        if "hello" in message or "here" in message:
            self._meet(name, greet="hello" in message)
        reunion = self._reunions.get(name)
        for change in message.get("changes", ()):
            self.network.apply(change)
            if reunion is not None:
                reunion.heard(change)
            self._settle(change)
        if "whole" in message and reunion is not None:
            del self._reunions[name]
            reunion.ended(self.now())

    def _meet(self, name: str, *, greet: bool) -> None:
        """Tell another process, which is new to us, or to which we are, what we know."""
        new = name not in self._others
        self._others.add(name)
        self._unheard.discard(name)
        if new:
            self._reunions[name] = Reunion(self.network, name)
            self._gathered.watch(name)
        if new or greet:
            self._tell({"here": self.network.name})
            changes = self.network.burst(self.now())
            while piece := list(islice(changes, PIECE)):
                self._tell({"from": self.network.name, "changes": piece})
            self._tell({"from": self.network.name, "whole": True})

    def _settle(self, change: Change) -> None:
        """Give guests of this process another nick where a client has theirs by now."""
        if not self.network.doubles or change["do"] not in {"user", "nick"}:
            return
        for user in list(self.network.doubles):
            if user.home == self.network.name and user.guest:
                number = 2
                while self.network.nick(nick := f"{user.nick}_{number}") is not None:
                    number += 1
                self.change(do="nick", uid=user.uid, nick=nick, at=self.now())

    def _split(self, process: str) -> None:
        """Have the users of a process be gone with it."""
        self._others.discard(process)
        self._reunions.pop(process, None)
        gone = [user for user in self.network.users.values() if user.home == process]
        reason = f"{self.config.server} {process.replace('_', '-')}.{self.config.server}"
        for user in gone:
            self.network.apply({"do": "quit", "uid": user.uid, "reason": reason, "at": self.now()})

    def _rejoined(self) -> None:
        """Say hello again; who does not answer in time is gone."""
        self._unheard |= self._others
        self._others.clear()
        self._begin()
        self.context.loop.call_later(SWEEP, self._miss)

    def _miss(self) -> None:
        unheard, self._unheard = self._unheard, set()
        for process in unheard - self._others:
            self._split(process)

    def _sweep(self) -> None:
        self.context.deadlines.set(self._sweeping, SWEEP)
        plain = bool(self.routed("authenticate"))
        if plain != self._plain:
            self._plain = plain
            for connection in self.context.connections():
                session = connection.session
                if isinstance(session, IrcSession) and session.caps & Cap.NOTIFY:
                    connection.run(session.sasl_changed())
        for session in self._nicks.lost():
            if session.connection is not None:
                session.connection.run(session.ending("Nick collision"))

    # ------------------------------------------------ groups

    def _listed(self, user: User, channel: Channel, inside: bool) -> None:
        """Have a client of this process be a member of the group that its channel is."""
        group = channel_group(channel.name)
        if inside:
            if not user.guest:
                self._gathered.add(group, user.uid, {"nick": user.nick})
        else:
            self._gathered.discard(group, user.uid)

    def _force(self, uid: str, name: str, inside: bool) -> bool:
        """Have a client of this process be in a channel or not; return whether it is one."""
        session = self.clients.get(uid)
        if session is None:
            return False
        if session.connection is not None:
            session.connection.run(session.forced(name, inside=inside))
        return True
