"""`IrcConsumer`: what people say in rooms, by network, channel and command."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from django.core.exceptions import ImproperlyConfigured

from django_gateway.commands import command
from django_gateway.filters import Filter
from django_gateway.generic.base import BaseConsumer, Consumer
from django_gateway.irc import irc_room
from django_gateway.message import Message
from django_gateway.routing import Filters, Route, name_of

IN_ROOMS: Final = frozenset(
    f"irc.{kind}" for kind in ("receive", "join", "part", "kick", "mode", "topic")
)
"""Channels whose messages are of a channel of IRC."""
PRIVATE: Final[Filters] = {"target": (Filter(re.compile(r"[^#&+!@%~$*]"), text="(a nick)"),)}
"""What was said to one: neither to a channel or a part of its members, nor to a whole server."""
SPOKEN: Final[Filters] = {"type": (Filter(re.compile(r"message\Z"), text="message"),)}
"""What a command is: nothing that must not be answered, as a notice."""


class IrcConsumer(Consumer):
    """A consumer of IRC, of the rooms of the gateway's own network and of others that it joined.

    ::

        class Helper(IrcConsumer):
            networks = ["libera"]
            channels = ["#django", "#django-dev"]
            commands = {"!roll <int:sides>": "roll"}

            def roll(self, message, sides):
                self.say(f"{message['nick']}: {random.randint(1, sides)}")

            def receive(self, message):
                if "good bot" in message.text:
                    self.action("purrs")

    Its other methods are named as the kinds of messages: ``connect``, ``join``, ``part``,
    ``nick``, ``topic``, ``kick``, ``mode``, ``quit``, ``disconnect``. Besides there is
    ``private(message)``, for what is said to one alone; without it ``receive`` has that, too,
    unless there are ``channels``. Where several classes take a message the first of the table does.
    """

    protocols: ClassVar[Any] = ("irc",)
    networks: ClassVar[Sequence[str]] = ()
    """Whose messages it takes, by the names in the settings: ``[irc.networks.NAME]``, or
    ``irc.network`` for the gateway's own. Empty: all."""
    channels: ClassVar[Sequence[str]] = ()
    """The channels that it is for, as `irc_room` reads them; the gateway joins them on those
    networks. Empty: all there are."""
    commands: ClassVar[Mapping[str, str]] = {}
    """By `command` the method that takes it, in place of ``receive``."""
    _synonyms = {"room": "channels", "rooms": "channels"}  # noqa: RUF012 - as declared

    def connect(self, message: Message, **kwargs: Any) -> Any:
        """Let in whoever connects."""

    # ---------------------------------------------------------------- saying

    def say(self, text: str, to: str | None = None, **content: Any) -> None:
        """Say ``text`` where the message came from, or ``to`` a channel or nick of that network.

        ``content`` are further keys of a reply.
        """
        self._say("message", text, to, content)

    def action(self, text: str, to: str | None = None, **content: Any) -> None:
        """Say what one does, as clients do for ``/me``."""
        self._say("action", text, to, content)

    def notice(self, text: str, to: str | None = None, **content: Any) -> None:
        """Say ``text`` as a notice, which no program answers."""
        self._say("notice", text, to, content)

    def _say(
        self,
        kind: Literal["message", "action", "notice"],
        text: str,
        to: str | None,
        content: dict[str, Any],
    ) -> None:
        if kind != "message":
            content["type"] = kind
        if to is not None:
            content["channel"] = to
        self.reply(text, **content)

    # ---------------------------------------------------------------- routes

    def get_handler(self, message: Message, **kwargs: Any) -> Callable[..., Any]:
        """Return the method for a message: that of the first command that it is, for one."""
        if message.channel_name == "irc.receive":
            for method, filters in _spoken(type(self)):
                if Route(("irc.receive",), _nobody, filters).match(message.content) is not None:
                    found: Callable[..., Any] = getattr(self, method)
                    return found
        return super().get_handler(message, **kwargs)

    @classmethod
    def dispatches(cls) -> bool:
        """Return whether messages go through a `dispatch` of its own."""
        return not (
            cls.dispatch is BaseConsumer.dispatch and cls.get_handler is IrcConsumer.get_handler
        )

    @classmethod
    def named(cls) -> set[str]:
        """Return the names of methods that are called besides those for kinds of messages."""
        return {*super().named(), *cls.commands.values(), "private"}

    @classmethod
    def routes(cls) -> list[Route]:
        """Return the routes of the class: its commands, what is private, then each method's."""
        _check(cls)
        networks = _networks(cls)
        found = [
            cls._route(("irc.receive",), method).under({**networks, **filters})
            for method, filters in _spoken(cls)
        ]
        for one in super().routes() if cls.methods() else ():
            by = one.under(networks)
            inside = tuple(channel for channel in by.channels if channel in IN_ROOMS)
            rest = tuple(channel for channel in by.channels if channel not in IN_ROOMS)
            found += [by.on(inside).under(room) for room in _rooms(cls)] if inside else []
            found += [by.on(rest)] if rest else []
        return found

    @classmethod
    def _takes(cls, kind: str, kinds: Sequence[str]) -> bool:
        # Whoever is let in is, where nobody asks: fewer messages for who does not.
        if kind in {"connect", "disconnect"}:
            return cls._has(kind) or bool(cls.groups) or cls.stateful
        return super()._takes(kind, kinds)

    @classmethod
    def _takes_more(cls) -> bool:
        return bool(cls.commands) or hasattr(cls, "private")


def _nobody() -> None:
    """Stand where only the filters of a route are of interest."""


def _spoken(kind: type[IrcConsumer]) -> list[tuple[str, Filters]]:
    """Return the methods that take some of what is said, with what that is."""
    found: list[tuple[str, Filters]] = [
        (method, {**SPOKEN, **room, "text": (command(text),)})
        for text, method in kind.commands.items()
        for room in _rooms(kind)
    ]
    return [*found, ("private", PRIVATE)] if hasattr(kind, "private") else found


def _networks(kind: type[IrcConsumer]) -> Filters:
    if not kind.networks:
        return {}
    names_ = "|".join(map(re.escape, kind.networks))
    return {"network": (Filter(re.compile(rf"(?:{names_})\Z"), text="|".join(kind.networks)),)}


def _rooms(kind: type[IrcConsumer]) -> list[Filters]:
    """Return the filters of where a class is: one for each channel, or one of everywhere."""
    return [{"channel": (irc_room(one),)} for one in kind.channels] or [{}]


def _check(kind: type[IrcConsumer]) -> None:
    """Raise ImproperlyConfigured, which names the fix, for what the class says wrongly."""
    where = name_of(kind)
    for name in ("networks", "channels"):
        value = getattr(kind, name)
        if isinstance(value, str):
            raise ImproperlyConfigured(f"{where}.{name} is a list of names: [{value!r}]")
    if not isinstance(kind.commands, Mapping):
        raise ImproperlyConfigured(
            f"{where}.commands is a dict of command and method's name: {{'!help': 'help'}}, not "
            f"{kind.commands!r}"
        )
    for text, method in kind.commands.items():
        if not isinstance(method, str) or not callable(getattr(kind, method, None)):
            raise ImproperlyConfigured(
                f"{where} has no method {method!r}, which the command {text!r} leads to"
            )
