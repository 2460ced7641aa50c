"""What others do and say, made messages. Pure, but for the clocks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gateway.core.plugin import Action, Emit, Forget, Write
from gateway.plugins.irc.client import ctcp
from gateway.plugins.irc.client.presence import Presence
from gateway.plugins.irc.client.speech import Speech
from gateway.plugins.irc.client.standing import Standing
from gateway.plugins.irc.client.terms import Skipped
from gateway.plugins.irc.lines import Line, is_any, whole_mask
from gateway.plugins.irc.translate import heard


def calendar() -> str:
    """Return the time as CTCP TIME tells it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())


class Hearing:
    """One connection's. Conversations are with channels and nicks, folded."""

    def __init__(
        self,
        standing: Standing,
        presence: Presence,
        speech: Speech,
        clock: Callable[[], float],
        calendar: Callable[[], str] = calendar,
    ) -> None:
        self._standing = standing
        self._presence = presence
        self._speech = speech
        self._clock = clock
        self._calendar = calendar
        self._answers = ctcp.Answers(standing.network, clock())
        self._known: OrderedDict[str, None] = OrderedDict()
        """The conversations, the one that was silent longest first."""
        self.handlers: Mapping[str, Callable[[Line], Iterable[Action]]] = {
            "PRIVMSG": self._privmsg,
            "NOTICE": self._notice,
            "JOIN": self._join,
            "PART": self._part,
            "KICK": self._kick,
            "NICK": self._nick,
            "QUIT": self._quit,
            "TOPIC": self._topic,
            "MODE": self._mode,
        }

    def _emit(
        self, kind: str, line: Line, nick: str, conversation: str, more: Mapping[str, Any]
    ) -> tuple[Action, ...]:
        """Hand in a message; it is of a conversation, which is remembered."""
        message = {"network": self._standing.name, "mask": line.source, "nick": nick, **more}
        if line.tags and (account := line.tags.get("account")):
            message["identity"] = account
        emit = Emit(kind, message, None, conversation)
        known = self._known
        if conversation in known:
            known.move_to_end(conversation)
            return (emit,)
        known[conversation] = None
        if len(known) > self._standing.network.max_targets:
            return (Forget(known.popitem(last=False)[0]), emit)
        return (emit,)

    # ------------------------------------------------ what they say

    def _privmsg(self, line: Line) -> Iterable[Action]:
        nick = line.source.partition("!")[0]
        if len(line.params) < 2 or self._standing.is_me(nick):
            return ()  # what we said ourselves never comes back
        if why := self._why_not(line):
            return (Write(Skipped(why)),)
        kind, text = heard("PRIVMSG", line.params[1])
        if kind == "message" and text[:1] == ctcp.MARK:
            return self._asked(line, nick, *ctcp.asked(text))
        return self._said(line, nick, kind, text)

    def _notice(self, line: Line) -> Iterator[Action]:
        nick, bang, _ = line.source.partition("!")
        if len(line.params) < 2 or not bang or self._standing.is_me(nick):
            return  # of the server: for people who look at it
        text = line.params[1]
        yield from self._presence.noticed(nick, text)
        if why := self._why_not(line) or ("ctcp" if text[:1] == ctcp.MARK else ""):
            yield Write(Skipped(why))
        else:
            yield from self._said(line, nick, "notice", text)

    def _said(self, line: Line, nick: str, kind: str, text: str) -> tuple[Action, ...]:
        standing, target = self._standing, line.params[0]
        channel = standing.channel_of(target)
        message = {
            "type": kind,
            "channel": channel,
            "target": target,
            "text": text,
            "tags": line.tags,
        }
        # What was said to some of a channel is answered to those, and not to all.
        whom = standing.fold(nick if channel is None else target)
        return self._emit("receive", line, nick, whom, message)

    def _why_not(self, line: Line) -> str:
        """Return why a message is not handed in; empty: it is."""
        standing, tags = self._standing, line.tags
        network = standing.network
        if tags:
            if "batch" in tags and not network.playback and standing.batches.is_old(tags["batch"]):
                return "playback"
            if "bot" in tags and network.ignore_bots:
                return "bot"
        if network.ignore:
            masks = (standing.fold(whole_mask(one)) for one in network.ignore)
            if is_any(masks, standing.fold(line.source)):
                return "ignored"
        return ""

    def _asked(self, line: Line, nick: str, command: str, rest: str) -> Iterable[Action]:
        """Answer a question of a client's, where it was asked of us alone."""
        answer = None
        if self._standing.is_me(line.params[0]):
            answer = self._answers.answer(command, rest, self._clock(), self._calendar())
        if answer is None or not self._speech.own("NOTICE", nick, answer):
            return (Write(Skipped("ctcp")),)
        return ()

    # ------------------------------------------------ what they do

    def _in(self, kind: str, line: Line, nick: str, **more: Any) -> tuple[Action, ...]:
        """Hand in what somebody did in a channel."""
        channel = line.params[0]
        message = {"channel": channel, **more}
        return self._emit(kind, line, nick, self._standing.fold(channel), message)

    def _join(self, line: Line) -> Iterator[Action]:
        if not line.params:
            return
        nick = line.source.partition("!")[0]
        account = line.params[1] if len(line.params) > 2 else line.tags.get("account", "*")
        yield from self._in("join", line, nick, account=None if account == "*" else account)
        if self._standing.is_me(nick):
            yield from self._presence.joined(line.params[0], line.source)

    def _part(self, line: Line) -> Iterator[Action]:
        if not line.params:
            return
        nick = line.source.partition("!")[0]
        yield from self._in("part", line, nick, reason=_word(line, 1))
        if self._standing.is_me(nick):
            yield from self._presence.removed(line.params[0], "it was left")

    def _kick(self, line: Line) -> Iterator[Action]:
        if len(line.params) < 2:
            return
        nick, target, reason = line.source.partition("!")[0], line.params[1], _word(line, 2)
        yield from self._in("kick", line, nick, target=target, reason=reason)
        if self._standing.is_me(target):
            yield from self._presence.removed(line.params[0], f"kicked by {nick}: {reason}")

    def _topic(self, line: Line) -> Iterable[Action]:
        nick = line.source.partition("!")[0]
        if not line.params or self._standing.is_me(nick):
            return ()
        return self._in("topic", line, nick, text=_word(line, 1))

    def _mode(self, line: Line) -> Iterable[Action]:
        if len(line.params) < 2:
            return ()
        nick, (target, modes, *params) = line.source.partition("!")[0], line.params
        if self._standing.is_channel(target):
            if self._standing.is_me(nick):
                return ()
            return self._in("mode", line, nick, modes=modes, params=params)
        if modes[:1] == "+" and "r" in modes and self._standing.is_me(target):
            return self._presence.known()  # as whom we have registered
        return ()

    def _nick(self, line: Line) -> Iterator[Action]:
        if not line.params:
            return
        old, new = line.source.partition("!")[0], line.params[0]
        mine = self._standing.is_me(old)
        yield from self._emit("nick", line, old, self._standing.fold(old), {"text": new})
        if mine:
            yield from self._presence.renamed(new)
        else:
            self._presence.is_free(old)

    def _quit(self, line: Line) -> Iterator[Action]:
        nick = line.source.partition("!")[0]
        if not self._standing.is_me(nick):
            reason = {"reason": _word(line, 0)}
            yield from self._emit("quit", line, nick, self._standing.fold(nick), reason)
            self._presence.is_free(nick)


def _word(line: Line, place: int) -> str:
    """Return a parameter that may be absent."""
    return line.params[place] if len(line.params) > place else ""
