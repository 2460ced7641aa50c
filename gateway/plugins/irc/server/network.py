"""`Network`: who there is, who is in which channel, what is known of those. Pure.

Every gateway process has all of it. What changes is a `Change`, applied where it was made at once
and told to the others, which apply the same; each tells those of its own clients whom it concerns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol
from weakref import WeakSet

from gateway.plugins.irc.lines import MAX_REST, fold, is_any
from gateway.plugins.irc.server.event import Cap, Event, in_lines
from gateway.plugins.irc.server.fans import Fans, Link

Change = dict[str, Any]
"""What changed, as it is told: ``do`` says what, the rest whose and how."""

WERE: Final = 500
"""Users who left that are remembered for WHOWAS, in all."""


class Listed(Protocol):
    """Hears of users of this process that enter channels and leave them."""

    def __call__(self, user: User, channel: Channel, inside: bool, /) -> None:
        """Hear of one."""


class User:
    """One who is there: a client of some gateway process, or a member of another protocol."""

    __slots__ = (
        "__weakref__",
        "account",
        "away",
        "channels",
        "guest",
        "home",
        "host",
        "invisible",
        "link",
        "nick",
        "realname",
        "since",
        "uid",
        "username",
    )

    def __init__(self, change: Change) -> None:
        self.uid: str = change["uid"]
        """Its reply channel."""
        self.home: str = change["home"]
        """The process that it is connected to."""
        self.nick: str = change["nick"]
        self.username: str = change["username"]
        self.host: str = change["host"]
        self.realname: str = change["realname"]
        self.account: str | None = change["account"]
        self.since: float = change["at"]
        self.guest: bool = change["guest"]
        """Whether it came by another protocol."""
        self.away: str = change["away"]
        """Its words; empty, it is there."""
        self.invisible: bool = change["invisible"]
        self.channels: dict[Channel, None] = {}
        self.link: Link | None = None
        """Where it is connected to this process."""

    @property
    def mask(self) -> str:
        """``nick!user@host``."""
        return f"{self.nick}!{self.username}@{self.host}"

    def introduced(self) -> Change:
        """Return the change that introduces it."""
        return {
            "do": "user",
            "uid": self.uid,
            "home": self.home,
            "nick": self.nick,
            "username": self.username,
            "host": self.host,
            "realname": self.realname,
            "account": self.account,
            "at": self.since,
            "guest": self.guest,
            "away": self.away,
            "invisible": self.invisible,
        }


class Channel:
    """One channel."""

    __slots__ = ("bans", "here", "invited", "members", "modes", "name", "since", "topic")

    def __init__(self, name: str, since: float) -> None:
        self.name = name
        self.since = since
        self.members: dict[User, str] = {}
        """Who is in it, with their modes: ``""``, ``o``, ``v``, ``ov``."""
        self.here: dict[User, Link] = {}
        """Those of them that are clients of this process."""
        self.modes: dict[str, str] = {}
        """By letter: the parameter, empty where there is none."""
        self.topic: tuple[str, str, float] = ("", "", 0.0)
        """The words, who set them and when."""
        self.bans: dict[str, tuple[str, float]] = {}
        """By mask: who set it and when."""
        self.invited: WeakSet[User] = WeakSet()
        """Who was invited and has not come yet; nobody is kept for that."""

    def is_op(self, user: User) -> bool:
        """Return whether somebody is its operator."""
        return "o" in self.members.get(user, "")

    def has_voice(self, user: User) -> bool:
        """Return whether somebody may always speak in it."""
        return bool(self.members.get(user, ""))

    def bars(self, user: User) -> bool:
        """Return whether a ban matches somebody."""
        return bool(self.bans) and is_any(map(fold, self.bans), fold(user.mask))


class Network:
    """All users and channels."""

    def __init__(self, name: str, server: str, listed: Listed, fans: Fans) -> None:
        self.name = name
        """Of the process that this is."""
        self._server = server
        """The source of what nobody did."""
        self._listed = listed
        self.fans = fans
        """What tells many."""
        self.users: dict[str, User] = {}
        """By uid."""
        self.nicks: dict[str, User] = {}
        """By nick, folded."""
        self.channels: dict[str, Channel] = {}
        """By name, folded."""
        self.were: deque[tuple[User, float]] = deque(maxlen=WERE)
        self.guests: dict[str, User] = {}
        """Those that came by another protocol, by the name that they gave."""
        self.doubles: set[User] = set()
        """Those of whose nick somebody else is known: a guest's, until it has another."""
        self.here = 0
        """The clients of this process."""
        self.most = 0
        """The most clients of this process there have been at once."""

    # ------------------------------------------------ looking

    def nick(self, nick: str) -> User | None:
        """Return who has a nick."""
        return self.nicks.get(fold(nick))

    def channel(self, name: str) -> Channel | None:
        """Return a channel by its name."""
        return self.channels.get(fold(name))

    def peers(self, user: User) -> Iterator[User]:
        """Iterate over the clients of this process that share a channel with somebody, once each,
        without itself.
        """  # noqa: D205 - one sentence
        seen = {user}
        for channel in user.channels:
            for other in channel.here:
                if other not in seen:
                    seen.add(other)
                    yield other

    def sees(self, user: User, channel: Channel) -> bool:
        """Return whether somebody may know of a channel."""
        return "s" not in channel.modes or user in channel.members

    # ------------------------------------------------ changing

    def apply(self, change: Change) -> None:
        """Apply a change, and tell the clients of this process whom it concerns.

        Of what is not known here (any more) nothing happens.
        """
        getattr(self, f"_{change['do']}")(change)

    def _user(self, change: Change) -> None:
        known = self.users.get(change["uid"])
        if known is not None:
            self._again(known, change)
            return
        user = User(change)
        self.users[user.uid] = user
        self._name(user)
        if user.guest:
            self.guests.setdefault(user.realname, user)

    def _again(self, user: User, change: Change) -> None:
        """Hear of who is known already: something of it may have changed unheard."""
        told = {"uid": user.uid, "at": change["at"]}
        if user.nick != change["nick"]:
            self._nick({**told, "nick": change["nick"]})
        if user.realname != change["realname"]:
            self._setname({**told, "text": change["realname"]})
        self._account({**told, "account": change["account"]})
        self._away({**told, "text": change["away"]})
        user.invisible = change["invisible"]

    def _name(self, user: User) -> None:
        """Have a user be found by its nick: a client before a guest."""
        holder = self.nicks.setdefault(fold(user.nick), user)
        if holder is not user:
            if holder.guest and not user.guest:
                self.nicks[fold(user.nick)] = user
                user = holder
            self.doubles.add(user)

    def _unname(self, user: User) -> None:
        self.doubles.discard(user)
        key = fold(user.nick)
        if self.nicks.get(key) is user:
            del self.nicks[key]
            for other in [one for one in self.doubles if fold(one.nick) == key]:
                self.doubles.discard(other)
                self._name(other)

    def _forget(self, guest: User) -> None:
        """Have the name of a guest be another one's, if one has given the same."""
        name = guest.realname
        if self.guests.get(name) is guest:
            del self.guests[name]
            for user in self.users.values():
                if user.guest and user.realname == name and user is not guest:
                    self.guests[name] = user
                    break

    def _nick(self, change: Change) -> None:
        user = self.users.get(change["uid"])
        if user is None:
            return
        event = Event(
            "NICK", change["nick"], source=user.mask, at=change["at"], account=user.account
        )
        self._unname(user)
        user.nick = change["nick"]
        self._name(user)
        self._tell([user, *self.peers(user)], event)
        if user.home == self.name:
            for channel in user.channels:
                self._listed(user, channel, True)

    def _quit(self, change: Change) -> None:
        user = self.users.pop(change["uid"], None)
        if user is None:
            return
        self._unname(user)
        self._forget(user)
        event = Event(
            "QUIT", change["reason"], source=user.mask, at=change["at"], account=user.account
        )
        self._tell(self.peers(user), event)
        for channel in list(user.channels):
            self._leave(user, channel)
        self.were.appendleft((user, change["at"]))

    def _join(self, change: Change) -> None:
        user = self.users.get(change["uid"])
        if user is None:
            return
        key = fold(change["channel"])
        channel = self.channels.get(key)
        status = change["status"]
        if channel is None:
            channel = self.channels[key] = Channel(change["channel"], change["at"])
            channel.modes.update(change["modes"])
        elif change["first"]:
            # Two made it at once: its operator is who was there first, in every process the same.
            if change["at"] < channel.since:
                self._older(channel, change["at"], change["modes"])
            else:
                status = ""
        self._enter(user, channel, status, change["at"])

    def _older(self, channel: Channel, since: float, modes: dict[str, str]) -> None:
        """Hear that a channel was there before it was here: who made it here only entered it."""
        channel.since = since
        channel.modes = dict(modes)
        for user in channel.members:
            self.restate(user.uid, channel, "", since)

    def restate(self, uid: str, channel: Channel, status: str, at: float) -> None:
        """Have a member have another status, which nobody gave it that was heard here."""
        user = self.users.get(uid)
        was = "" if user is None else channel.members.get(user, "")
        changes = [("-", letter, uid) for letter in was if letter not in status]
        changes += [("+", letter, uid) for letter in status if letter not in was]
        if changes:
            by = {"channel": channel.name, "by": self._server, "at": at}
            self._mode({**by, "changes": changes})

    def _enter(self, user: User, channel: Channel, status: str, at: float) -> None:
        if user in channel.members:
            return
        channel.members[user] = status
        channel.invited.discard(user)
        user.channels[channel] = None
        if user.link is not None:
            channel.here[user] = user.link
        if user.home == self.name:
            self._listed(user, channel, True)
        if not channel.here:
            return
        said: Any = {"source": user.mask, "at": at, "account": user.account}
        event = Event("JOIN", channel.name, **said)
        extended = Event("JOIN", channel.name, user.account or "*", user.realname, **said)
        away = Event("AWAY", user.away, **said) if user.away else None
        mode = None
        if status and user.link is None:
            letters = [user.nick] * len(status)
            mode = Event("MODE", channel.name, f"+{status}", *letters, source=user.mask, at=at)
        links = list(channel.here.values())
        whole = [link for link in links if link.caps & Cap.EXTENDED_JOIN]
        self.fans.tell(whole, extended)
        self.fans.tell([link for link in links if not link.caps & Cap.EXTENDED_JOIN], event)
        if mode is not None:
            self.fans.tell(links, mode)
        if away is not None:
            others = (other for other in channel.here if other is not user)
            self._tell(others, away, Cap.AWAY)

    def _part(self, change: Change) -> None:
        found = self._member(change)
        if found is None:
            return
        user, channel = found
        words = (change["reason"],) if change["reason"] else ()
        event = Event(
            "PART", channel.name, *words, source=user.mask, at=change["at"], account=user.account
        )
        self._tell(channel.here, event)
        self._leave(user, channel)

    def _kick(self, change: Change) -> None:
        found = self._member(change)
        if found is None:
            return
        user, channel = found
        event = Event(
            "KICK", channel.name, user.nick, change["reason"], source=change["by"], at=change["at"]
        )
        self._tell(channel.here, event)
        self._leave(user, channel)

    def _topic(self, change: Change) -> None:
        channel = self.channel(change["channel"])
        if channel is None or change["at"] < channel.topic[2]:
            return  # a newer one is known
        channel.topic = (change["text"], change["by"], change["at"])
        event = Event("TOPIC", channel.name, change["text"], source=change["by"], at=change["at"])
        self._tell(channel.here, event)

    def _mode(self, change: Change) -> None:
        channel = self.channel(change["channel"])
        if channel is None:
            return
        done = []
        for sign, letter, param in change["changes"]:
            shown = self._set(channel, sign, letter, param, change)
            if shown is not None:
                done.append((sign, letter, shown))
        room = MAX_REST - len(f":{change['by']} MODE {channel.name} \r\n".encode())
        for words in in_lines(done, room):
            event = Event("MODE", channel.name, *words, source=change["by"], at=change["at"])
            self._tell(channel.here, event)

    def _set(
        self, channel: Channel, sign: str, letter: str, param: str, change: Change
    ) -> str | None:
        """Set or unset one mode; return its parameter as it is shown, None if nothing changed."""
        if letter in "ov":
            user = self.users.get(param)
            if user is None or user not in channel.members:
                return None
            status = channel.members[user].replace(letter, "")
            if sign == "+":
                status = "".join(sorted(status + letter))
            if status == channel.members[user]:
                return None
            channel.members[user] = status
            return user.nick
        if letter == "b":
            if (param in channel.bans) == (sign == "+"):
                return None
            if sign == "+":
                channel.bans[param] = (change["by"], change["at"])
            else:
                del channel.bans[param]
            return param
        if sign == "-":
            was = channel.modes.pop(letter, None)
            return None if was is None else ("*" if letter == "k" else "")
        if channel.modes.get(letter) == param:
            return None
        channel.modes[letter] = param
        return param

    def _invite(self, change: Change) -> None:
        user, channel = self.users.get(change["uid"]), self.channel(change["channel"])
        if user is None or channel is None:
            return
        channel.invited.add(user)
        event = Event("INVITE", user.nick, channel.name, source=change["by"], at=change["at"])
        self._tell([user], event)
        nick = change["by"].partition("!")[0]
        self._tell(
            (o for o in channel.here if channel.is_op(o) and o.nick != nick), event, Cap.INVITE
        )

    def _away(self, change: Change) -> None:
        user = self.users.get(change["uid"])
        if user is None or user.away == change["text"]:
            return
        user.away = change["text"]
        words = (user.away,) if user.away else ()
        event = Event("AWAY", *words, source=user.mask, at=change["at"], account=user.account)
        self._tell(self.peers(user), event, Cap.AWAY)

    def _setname(self, change: Change) -> None:
        user = self.users.get(change["uid"])
        if user is None:
            return
        self._forget(user)
        user.realname = change["text"]
        if user.guest:
            self.guests.setdefault(user.realname, user)
        event = Event(
            "SETNAME", user.realname, source=user.mask, at=change["at"], account=user.account
        )
        self._tell([user, *self.peers(user)], event, Cap.SETNAME)

    def _account(self, change: Change) -> None:
        user = self.users.get(change["uid"])
        if user is None or user.account == change["account"]:
            return
        user.account = change["account"]
        event = Event("ACCOUNT", user.account or "*", source=user.mask, at=change["at"])
        self._tell(self.peers(user), event, Cap.ACCOUNT)

    def _tags(self, change: Change) -> None:
        user = self.users.get(change["uid"])
        channel = self.channel(change.get("channel", ""))
        to = self.users.get(change.get("to", ""))
        target = channel.name if channel is not None else to.nick if to is not None else ""
        if user is None or not target:
            return
        event = Event(
            "TAGMSG",
            target,
            source=user.mask,
            at=change["at"],
            account=user.account,
            id=change["id"],
            tags=change["tags"],
        )
        users = [u for u in channel.here if u is not user] if channel is not None else [to]
        self._tell((one for one in users if one is not None and one is not user), event, Cap.TAGS)
        link = user.link
        if link is not None and to is user and link.caps & Cap.TAGS:
            link.push(event, answer=False)
        if link is not None and link.caps & Cap.ECHO:
            link.push(event)

    def _invisible(self, change: Change) -> None:
        user = self.users.get(change["uid"])
        if user is not None:
            user.invisible = change["on"]

    def _channel(self, change: Change) -> None:
        """Learn of a channel of another process: what is older is kept."""
        key = fold(change["channel"])
        channel = self.channels.get(key)
        if channel is None:
            channel = self.channels[key] = Channel(change["channel"], change["since"])
            channel.modes.update(change["modes"])
        elif change["since"] < channel.since:
            self._older(channel, change["since"], change["modes"])
        younger = change["since"] > channel.since
        for mask, by, at in change["bans"]:
            channel.bans.setdefault(mask, (by, at))
        text, by, at = change["topic"]
        if at > channel.topic[2]:
            channel.topic = (text, by, at)
        for uid, status in change["members"].items():
            user = self.users.get(uid)
            if user is not None:
                self._enter(user, channel, "" if younger else status, change["at"])
        if not channel.members:
            del self.channels[key]

    # ------------------------------------------------ what others are told at their start

    def burst(self, now: float) -> Iterator[Change]:
        """Iterate over what another process is to know of the users of this one."""
        own = [user for user in self.users.values() if user.home == self.name]
        for user in own:
            yield user.introduced()
        for channel in {channel: None for user in own for channel in user.channels}:
            members = [(u.uid, s) for u, s in channel.members.items() if u.home == self.name]
            for start in range(0, len(members), 500):
                yield {
                    "do": "channel",
                    "channel": channel.name,
                    "since": channel.since,
                    "at": now,
                    "modes": channel.modes,
                    "topic": channel.topic,
                    "bans": [(mask, *said) for mask, said in channel.bans.items()],
                    "members": dict(members[start : start + 500]),
                }

    # ------------------------------------------------ helpers

    def _member(self, change: Change) -> tuple[User, Channel] | None:
        user, channel = self.users.get(change["uid"]), self.channel(change["channel"])
        if user is None or channel is None or user not in channel.members:
            return None
        return user, channel

    def _leave(self, user: User, channel: Channel) -> None:
        del channel.members[user]
        channel.here.pop(user, None)
        user.channels.pop(channel, None)
        if user.home == self.name:
            self._listed(user, channel, False)
        if not channel.members:
            self.channels.pop(fold(channel.name), None)

    def _tell(self, users: Iterable[User], event: Event, cap: int = 0) -> None:
        links = [user.link for user in users if user.link is not None]
        if cap:
            links = [link for link in links if link.caps & cap]
        self.fans.tell(links, event)
