"""The commands of clients, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.plugins.irc.lines import Line, split_text
from gateway.plugins.irc.server import (
    channels,
    greeting,
    modes,
    queries,
    recall,
    registration,
    talk,
)

if TYPE_CHECKING:
    from gateway.plugins.irc.server.session import IrcSession


class Command(NamedTuple):
    """What is done, and how many parameters that takes at least."""

    do: Callable[[IrcSession, Line], None]
    params: int = 0


def ping(session: IrcSession, line: Line) -> None:
    """PING: answer."""
    if not line.params or not line.params[0]:
        session.fail("409")
        return
    server = session.house.config.server
    session.write("PONG", server, line.params[0])


def pong(_: IrcSession, __: Line) -> None:
    """PONG: a sign of life, as any line is."""


def quit(session: IrcSession, line: Line) -> None:  # noqa: A001 - the command's name
    """QUIT: leave."""
    words = line.params[0] if line.params else "Client quit"
    session.close(f"Quit: {split_text(words, session.house.config.max_reason)[0]}")


def oper(session: IrcSession, _: Line) -> None:
    """OPER: nobody is one by a password."""
    session.fail("491")


COMMANDS: Final = {
    "ADMIN": Command(greeting.admin),
    "AUTHENTICATE": Command(registration.authenticate, 1),
    "AWAY": Command(queries.away),
    "CAP": Command(registration.cap, 1),
    "CHATHISTORY": Command(recall.chathistory),
    "HELP": Command(greeting.help),
    "HELPOP": Command(greeting.help),
    "INFO": Command(greeting.info),
    "INVITE": Command(channels.invite, 2),
    "ISON": Command(queries.ison, 1),
    "JOIN": Command(channels.join, 1),
    "KICK": Command(channels.kick, 2),
    "LIST": Command(channels.list_channels),
    "LUSERS": Command(greeting.lusers),
    "MODE": Command(modes.mode, 1),
    "MOTD": Command(greeting.motd),
    "NAMES": Command(channels.names),
    "NICK": Command(registration.nick),
    "NOTICE": Command(talk.privmsg),
    "OPER": Command(oper, 2),
    "PART": Command(channels.part, 1),
    "PASS": Command(registration.password, 1),
    "PING": Command(ping),
    "PONG": Command(pong),
    "PRIVMSG": Command(talk.privmsg),
    "QUIT": Command(quit),
    "SETNAME": Command(queries.setname, 1),
    "TAGMSG": Command(talk.tagmsg),
    "TIME": Command(greeting.time),
    "TOPIC": Command(channels.topic, 1),
    "USER": Command(registration.user, 4),
    "USERHOST": Command(queries.userhost, 1),
    "VERSION": Command(greeting.version),
    "WHO": Command(queries.who),
    "WHOIS": Command(queries.whois, 1),
    "WHOWAS": Command(queries.whowas, 1),
}

BEFORE: Final = frozenset({"AUTHENTICATE", "CAP", "NICK", "PASS", "PING", "PONG", "QUIT", "USER"})
"""What a client may do before it is let in."""

FREE: Final = frozenset(
    {"PRIVMSG", "NOTICE", "TAGMSG", "PING", "PONG", "WHO", "WHOIS", "ISON", "USERHOST", "NAMES"}
)
"""What does not wait until all that was said before is decided."""
