"""Channel and group names, and addresses. Pure.

=================  ==============================  =========================================
kind               example                         who reads it
=================  ==============================  =========================================
normal             ``http.request``                many readers, one gets each message
single-reader      ``http.request.body?AbC``       one unknown reader, in order
process-specific   ``websocket.send.p_k3J9!x7``    the process ``p_k3J9``, through its inbox
address            ``mqtt.publish!sensors_2fa``    whoever offers the prefix ``mqtt.publish!``
=================  ==============================  =========================================

Names are ASCII letters, digits, ``.``, ``-``, ``_``, at most 200 characters, with at
most one ``?`` or ``!``, neither first.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from contextlib import suppress

MAX_LENGTH = 200
PIN = "pin."
"""Before the name of a process: the normal channel of what is pinned to it."""
_WANT = ".want."
"""Between a channel and what a worker wants of it, in a name that nothing is ever sent to."""
PIN_PATTERN = r"\Apin\.p_[A-Za-z0-9]+\Z"

_CHANNEL = re.compile(r"[A-Za-z0-9._-]+(?:[!?][A-Za-z0-9._-]*)?\Z", re.ASCII)
_VALID = re.compile(r"(?=.{1,200}\Z)[A-Za-z0-9._-]+(?:[!?][A-Za-z0-9._-]*)?\Z", re.ASCII).match
_GROUP = re.compile(r"[A-Za-z0-9._-]+\Z", re.ASCII)
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_POSITION = re.compile(r"(0|[1-9a-f][0-9a-f]{0,15})-(0|[1-9a-f][0-9a-f]{0,15})", re.ASCII)
_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def check_channel(name: str) -> str:
    """Return ``name`` if it may be sent to; raise ValueError or TypeError that says why not."""
    if name.__class__ is str and _VALID(name) is not None:
        return name
    if not isinstance(name, str):
        raise TypeError(f"a channel name is a str, not {type(name).__name__}")
    if len(name) > MAX_LENGTH:
        raise ValueError(f"channel name {name[:40]!r}… is {len(name)} characters, over 200")
    if _CHANNEL.match(name) is None:
        raise ValueError(
            f"channel name {name!r} is not valid: ASCII letters, digits, '.', '-', '_', "
            "and one '?' or '!' that is not first"
        )
    return name


def check_receivable(name: str) -> str:
    """Return ``name`` if it may be received from: any channel, or a prefix that ends in ``!``.

    One address (``x!c``) cannot be received from: its prefix (``x!``) is.
    """
    check_channel(name)
    mark = name.find("!")
    if mark >= 0 and mark != len(name) - 1 and process_of(name) is None:
        raise ValueError(f"receive from the prefix {name[: mark + 1]!r}, not from {name!r}")
    return name


def check_group(name: str) -> str:
    """Return ``name`` if it may name a group; raise ValueError or TypeError that says why not."""
    if not isinstance(name, str):
        raise TypeError(f"a group name is a str, not {type(name).__name__}")
    if len(name) > MAX_LENGTH:
        raise ValueError(f"group name {name[:40]!r}… is {len(name)} characters, over 200")
    if _GROUP.match(name) is None:
        raise ValueError(
            f"group name {name!r} is not valid: ASCII letters, digits, '.', '-' and '_'"
        )
    return name


def process_of(channel: str) -> str | None:
    """Return the process that a process-specific name belongs to, else ``None``.

    >>> process_of("websocket.send.p_k3J9!x7")
    'p_k3J9'
    """
    mark = channel.find("!")
    if mark < 0:
        return None
    start = channel.rfind(".", 0, mark) + 1
    return channel[start:mark] if channel.startswith("p_", start) else None


def new_process() -> str:
    """Return a new process name, ``p_`` and 12 random characters (71 bits)."""
    return "p_" + random_text(12)


def random_text(length: int) -> str:
    """Return ``length`` unguessable letters and digits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def fill(pattern: str) -> str:
    """Return ``pattern``, which ends in ``?``, with a random rest.

    Raises ValueError for any other pattern.
    """
    if not pattern.endswith("?"):
        raise ValueError(f"a pattern for a new channel ends in '?', not {pattern!r}")
    return check_channel(pattern + random_text(12))


def escape(text: str, *, dot: bool = False) -> str:
    """Escape a public name for use in an address: other bytes than letters, digits, ``.``, ``-``
    become ``_hh``; with ``dot`` the ``.`` too.
    """  # noqa: D205 - one sentence
    plain = _PLAIN - {0x2E} if dot else _PLAIN
    return "".join(chr(b) if b in plain else f"_{b:02x}" for b in text.encode())


def unescape(text: str) -> str:
    """Undo `escape`. Raises ValueError where ``text`` is not an escaped name."""
    try:
        head, *rest = text.split("_")
        raw = head.encode("ascii")
        for part in rest:
            raw += bytes.fromhex(part[:2]) + part[2:].encode("ascii")
        decoded = raw.decode()
    except (ValueError, UnicodeError):
        raise ValueError(f"{text!r} is not an escaped name") from None
    if any(len(part) < 2 for part in rest):
        raise ValueError(f"{text!r} is not an escaped name")
    return decoded


def address(verb: str, *parts: str) -> str:
    """Return the channel name of a public address.

    ``verb`` is the plugin's word (``mqtt.publish``), ``parts`` the public name: one part
    keeps its dots, several are joined by dots.

    Raises ValueError if the name would exceed 200 characters, naming the normal channel
    to use instead.

    >>> address("mqtt.publish", "sensors/alerts")
    'mqtt.publish!sensors_2falerts'
    >>> address("irc.say", "libera.chat", "#django")
    'irc.say!libera_2echat._23django'
    """
    if not parts or not all(parts):
        raise ValueError("an address needs a name that is not empty")
    check_group(verb)
    several = len(parts) > 1
    name = f"{verb}!" + ".".join(escape(part, dot=several) for part in parts)
    if len(name) > MAX_LENGTH:
        raise ValueError(
            f"the address of {parts[-1][:40]!r}… is {len(name)} characters, over 200: "
            f"send to the normal channel {verb!r} and name it in the message"
        )
    return name


def parse_address(name: str, parts: int = 1) -> tuple[str, ...]:
    """Undo `address`: return the verb and ``parts`` public names.

    Raises ValueError if ``name`` is no address of so many parts.

    >>> parse_address("irc.say!libera_2echat._23django", parts=2)
    ('irc.say', 'libera.chat', '#django')
    """
    check_channel(name)
    verb, mark, rest = name.partition("!")
    if not mark or not rest or process_of(name) is not None:
        raise ValueError(f"{name!r} is not an address")
    pieces = [rest] if parts == 1 else rest.split(".")
    if len(pieces) != parts:
        raise ValueError(f"{name!r} is not an address of {parts} parts")
    return (verb, *(unescape(piece) for piece in pieces))


def wanted(channel: str, what: str) -> str:
    """Return the name by which a worker announces what it wants of a channel: a topic, say.

    Raises ValueError if it would exceed 200 characters.

    >>> wanted("mqtt.receive", "sensors/+")
    'mqtt.receive.want.sensors_2f_2b'
    """
    return check_channel(f"{channel}{_WANT}{escape(what)}")


def wanted_of(channel: str, announced: Iterable[str]) -> frozenset[str]:
    """Return all that workers want of a channel, of the names that they announced."""
    prefix = f"{channel}{_WANT}"
    found = set()
    for name in announced:
        if name.startswith(prefix):
            with suppress(ValueError):
                found.add(unescape(name[len(prefix) :]))
    return frozenset(found)


def position(epoch: int, offset: int) -> str:
    """Return a place in the history of a layer as text: the ``id`` of a message.

    >>> position(0x1F, 10)
    '1f-a'
    """
    return f"{epoch:x}-{offset:x}"


def parse_position(text: str) -> tuple[int, int] | None:
    """Undo `position`: return the epoch and the offset, or ``None`` for what it never made."""
    found = _POSITION.fullmatch(text)
    return None if found is None else (int(found[1], 16), int(found[2], 16))
