"""What a client is told when it is let in, and may ask for again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway import __version__
from gateway.plugins.irc.lines import Line, split_text
from gateway.plugins.irc.server.event import stamp

if TYPE_CHECKING:
    from gateway.plugins.irc.server.session import IrcSession

VERSION: Final = f"gateway-{__version__}"
MODES: Final = 6
"""Mode changes with a parameter in one MODE."""
TOKENS: Final = 12
"""Tokens of ISUPPORT in a line: 15 parameters, less nick and the words at the end."""
HELP: Final = {
    "JOIN": ["JOIN <channel>{,<channel>} [<key>{,<key>}]", "Enters channels. JOIN 0 leaves all."],
    "PART": ["PART <channel>{,<channel>} [<reason>]", "Leaves channels."],
    "PRIVMSG": ["PRIVMSG <target>{,<target>} <text>", "Says something to channels or nicks."],
    "NOTICE": ["NOTICE <target>{,<target>} <text>", "The same, and nobody answers by itself."],
    "TOPIC": ["TOPIC <channel> [<topic>]", "Shows the topic of a channel, or sets it."],
    "NAMES": ["NAMES <channel>{,<channel>}", "Lists who is in channels."],
    "LIST": ["LIST [<channel>{,<channel>}]", "Lists the channels."],
    "KICK": ["KICK <channel> <nick>{,<nick>} [<reason>]", "Removes somebody from a channel."],
    "INVITE": ["INVITE <nick> <channel>", "Invites somebody into a channel."],
    "MODE": ["MODE <target> [<modes> [<parameter>…]]", "Shows or changes modes: +o +v +b +i +k"],
    "NICK": ["NICK <nick>", "Takes another nick."],
    "AWAY": ["AWAY [<text>]", "Says that you are away, or back."],
    "WHO": ["WHO <mask or channel>", "Lists who there is."],
    "WHOIS": ["WHOIS <nick>", "Says what is known of somebody."],
    "QUIT": ["QUIT [<reason>]", "Leaves."],
}


def isupport(session: IrcSession) -> list[str]:
    """Return the tokens of numeric 005."""
    config = session.house.config
    most = config.max_targets
    tokens = [
        f"AWAYLEN={config.max_reason}",
        "CASEMAPPING=rfc1459",
        f"CHANLIMIT=#:{config.max_channels}",
        "CHANMODES=b,k,l,imnst",
        f"CHANNELLEN={config.max_channel}",
        "CHANTYPES=#",
        "ELIST=MNU",
        f"KICKLEN={config.max_reason}",
        f"MAXLIST=b:{config.max_list}",
        f"MAXTARGETS={config.max_targets}",
        f"MODES={MODES}",
        f"NAMELEN={config.max_realname}",
        f"NETWORK={config.network}",
        f"NICKLEN={config.max_nick}",
        "PREFIX=(ov)@+",
        "SAFELIST",
        f"TARGMAX=JOIN:,KICK:{most},NAMES:{most},NOTICE:{most},PART:,PRIVMSG:{most},TAGMSG:{most},WHOIS:1",
        f"TOPICLEN={config.max_topic}",
        "USERLEN=17",
        "WHOX",
    ]
    if config.history:
        tokens += [f"CHATHISTORY={config.history}", "MSGREFTYPES=msgid,timestamp"]
    return tokens


def welcome(session: IrcSession) -> None:
    """Tell a client that it is let in."""
    config = session.house.config
    user = session.user
    if user is None:
        return
    session.numeric("001", f"Welcome to the {config.network} network, {user.mask}")
    session.numeric("002", f"Your host is {config.server}, running version {VERSION}")
    session.numeric("003", f"This server was started {stamp(session.house.started)}")
    session.numeric("004", config.server, VERSION, "io", "biklmnostv", "bklov")
    tokens = isupport(session)
    for start in range(0, len(tokens), TOKENS):
        some = tokens[start : start + TOKENS]
        session.numeric("005", *some, "are supported by this server")
    lusers(session)
    motd(session)


def lusers(session: IrcSession, _: Line | None = None) -> None:
    """LUSERS: say how many there are."""
    network = session.network
    users = [user for user in network.users.values() if user is not session.house.service]
    hidden = sum(1 for user in users if user.invisible)
    here = sum(1 for user in users if user.link is not None)
    homes = len({user.home for user in users} | {network.name})
    shown = len(users) - hidden
    session.numeric("251", f"There are {shown} users and {hidden} invisible on {homes} servers")
    session.numeric("252", "0", "operator(s) online")
    session.numeric("254", str(len(network.channels)), "channels formed")
    session.numeric("255", f"I have {here} clients and {homes - 1} servers")
    most = max(network.most, here)
    session.numeric("265", str(here), str(most), f"Current local users {here}, max {most}")
    session.numeric("266", str(len(users)), str(len(users)), f"Current global users {len(users)}")


def motd(session: IrcSession, line: Line | None = None) -> None:
    """MOTD: say the message of the day."""
    server = session.house.config.server
    if line is not None and line.params and line.params[0] != server:
        session.fail("402", line.params[0])
        return
    lines = session.house.motd()
    if not lines:
        session.fail("422")
        return
    session.numeric("375", f"- {server} Message of the day -")
    for one in lines:
        session.numeric("372", f"- {one}")
    session.numeric("376", "End of MOTD command")


def version(session: IrcSession, line: Line) -> None:
    """VERSION: say what this is."""
    config = session.house.config
    if line.params and line.params[0] != config.server:
        session.fail("402", line.params[0])
        return
    session.numeric("351", VERSION, config.server, f"the {config.network} network")
    tokens = isupport(session)
    for start in range(0, len(tokens), TOKENS):
        some = tokens[start : start + TOKENS]
        session.numeric("005", *some, "are supported by this server")


def time(session: IrcSession, _: Line) -> None:
    """TIME: say what time it is."""
    now = session.house.now()
    session.numeric("391", session.house.config.server, stamp(now))


def info(session: IrcSession, _: Line) -> None:
    """INFO: say what this is."""
    for text in (f"{VERSION}: one application for every protocol", "It speaks IRC, and more."):
        session.numeric("371", text)
    session.numeric("374", "End of INFO list")


def help(session: IrcSession, line: Line) -> None:  # noqa: A001 - the command's name
    """HELP: say what a command does."""
    subject = line.params[0].upper() if line.params else "*"
    if subject == "*":
        lines = ["What there is to ask about: HELP <command>"]
        lines += split_text(" ".join(sorted(HELP)), 300)
    elif subject in HELP:
        lines = HELP[subject]
    else:
        session.fail("524", subject)
        return
    session.numeric("704", subject, lines[0])
    for text in lines[1:]:
        session.numeric("705", subject, text)
    session.numeric("706", subject, "End of HELP")


def admin(session: IrcSession, _: Line) -> None:
    """ADMIN: say who runs this."""
    session.numeric("256", session.house.config.server, "Administrative info")
    session.numeric("257", f"The {session.house.config.network} network")
