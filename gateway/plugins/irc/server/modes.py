"""MODE, of channels and of clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from gateway.plugins.irc.lines import Line, fold, whole_mask
from gateway.plugins.irc.server.greeting import MODES
from gateway.plugins.irc.server.network import Channel, Network

if TYPE_CHECKING:
    from gateway.plugins.irc.server.session import IrcSession

ALWAYS: Final = frozenset("ovb")
"""Modes of a channel that have a parameter, set or unset."""
SOMETIMES: Final = frozenset("kl")
"""Modes of which only what is set has one; ``k`` is unset with any."""
PLAIN: Final = frozenset("imnst")
MAX_MASK: Final = 100
"""Bytes of a ban: far above nick, user and host."""
MAX_KEY: Final = 23
"""Characters of a key (RFC 1459's server)."""

Fail = Callable[..., None]
Changes = list[tuple[str, str, str]]
"""Sign, letter, parameter: of ``o`` and ``v`` a uid."""


def mode(session: IrcSession, line: Line) -> None:
    """MODE: show or change modes."""
    target = line.params[0]
    if target.startswith("#"):
        _of_channel(session, target, line.params[1:])
    else:
        _of_user(session, target, line.params[1:])


def _of_user(session: IrcSession, nick: str, params: Sequence[str]) -> None:
    me, house = session.me, session.house
    user = session.network.nick(nick)
    if user is None:
        session.fail("401", nick[:60])
        return
    if user is not me:
        session.fail("502")
        return
    if not params:
        session.numeric("221", "+i" if me.invisible else "+")
        return
    sign, unknown = "+", False
    for letter in params[0]:
        if letter in "+-":
            sign = letter
        elif letter == "i":
            if me.invisible != (sign == "+"):
                house.change(do="invisible", uid=me.uid, on=sign == "+", at=house.now())
                session.write("MODE", me.nick, f"{sign}i", source=me.mask)
        elif letter != "o":  # nobody becomes operator by asking, and nothing is said of it
            unknown = True
    if unknown:
        session.fail("501")


def shown(channel: Channel, *, secrets: bool) -> list[str]:
    """Return the modes of a channel, and their parameters."""
    letters = "".join(sorted(channel.modes))
    params = [
        value if letter != "k" or secrets else "*"
        for letter, value in sorted(channel.modes.items())
        if value
    ]
    return [f"+{letters}", *params]


def _of_channel(session: IrcSession, name: str, params: Sequence[str]) -> None:
    me, house = session.me, session.house
    channel = session.network.channel(name)
    if channel is None:
        session.fail("403", name[:60])
        return
    if not params:
        inside = me in channel.members
        session.numeric("324", channel.name, *shown(channel, secrets=inside))
        session.numeric("329", channel.name, str(int(channel.since)))
        return
    if params[0] in {"b", "+b"} and len(params) == 1:
        for mask, (by, at) in channel.bans.items():
            session.numeric("367", channel.name, mask, by, str(int(at)))
        session.numeric("368", channel.name, "End of channel ban list")
        return
    if me not in channel.members:
        session.fail("442", channel.name)
        return
    if not channel.is_op(me):
        session.fail("482", channel.name)
        return
    changes = read(
        session.network, channel, params[0], params[1:], session.fail, house.config.max_list
    )
    if changes:
        apply(session, channel, changes)


def apply(session: IrcSession, channel: Channel, changes: Changes) -> None:
    """Change modes for a client, and tell the application."""
    house = session.house
    letters, params = written(session.network, changes)
    house.change(
        do="mode", channel=channel.name, by=session.me.mask, changes=changes, at=house.now()
    )
    message = {"channel": channel.name, "modes": letters, "params": params}
    session.tell("mode", message, fold(channel.name))


def written(network: Network, changes: Changes) -> tuple[str, list[str]]:
    """Return changes as the application hears of them."""
    letters, last = "", ""
    params = []
    for sign, letter, param in changes:
        letters += letter if sign == last else sign + letter
        last = sign
        user = network.users.get(param) if letter in "ov" else None
        if param:
            params.append(param if user is None else user.nick)
    return letters, params


def read(
    network: Network,
    channel: Channel,
    letters: str,
    params: Sequence[str],
    fail: Fail,
    max_list: int,
    most: int = MODES,
) -> Changes:
    """Return what a change of modes says; ``fail(numeric, …)`` hears what it cannot."""
    rest = iter(params)
    sign, found, counted = "+", [], 0
    for letter in letters:
        if letter in "+-":
            sign = letter
            continue
        if letter in PLAIN:
            found.append((sign, letter, ""))
            continue
        if letter not in ALWAYS and letter not in SOMETIMES:
            fail("472", letter)
            continue
        param = next(rest, "") if letter != "l" or sign == "+" else ""
        counted += 1
        if counted > most:
            break
        change = _with_param(network, channel, sign, letter, param, fail)
        if change is None:
            continue
        bans = sum(1 for s, one, _ in found if s == "+" and one == "b")
        if letter == "b" and sign == "+" and len(channel.bans) + bans >= max_list:
            fail("478", channel.name, "b")
            continue
        found.append(change)
    return found


def _with_param(
    network: Network, channel: Channel, sign: str, letter: str, param: str, fail: Fail
) -> tuple[str, str, str] | None:
    if letter == "l" and sign == "-":
        return sign, letter, ""
    if letter == "k" and sign == "-":
        return sign, letter, ""
    if not param:
        if letter != "b":
            fail("696", channel.name, letter, "*", text="It takes a parameter")
        return None
    if letter in "ov":
        user = network.nick(param)
        if user is None:
            fail("401", param[:60])
        elif user not in channel.members:
            fail("441", user.nick, channel.name)
        else:
            return sign, letter, user.uid
        return None
    if letter == "b":
        mask = whole_mask(param)
        if len(mask.encode()) > MAX_MASK or " " in mask:
            fail("696", channel.name, letter, "*", text="That is no mask")
            return None
        return sign, letter, mask
    if letter == "k":
        if len(param) > MAX_KEY or set(param) & set(" ,") or param[0] == ":":
            fail("525", channel.name)
            return None
        return sign, letter, param
    if not param.isascii() or not param.isdecimal() or not 0 < int(param[:9]) < 10**8:
        fail("696", channel.name, letter, param[:20], text="It takes a number")
        return None
    return sign, letter, str(int(param[:8]))
