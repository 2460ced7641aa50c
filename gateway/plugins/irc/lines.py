r"""Lines of IRC, both ways: read, made, cut, compared. Pure.

A line, with the tags of IRCv3 (https://ircv3.net/specs/extensions/message-tags)::

    '@' tag *(';' tag) SPACE | [':' source SPACE] command *(SPACE middle) [SPACE ':' trailing] CR LF
    `--- 8191 bytes --------'  `--- 512 bytes, with CR LF ----------------------------------------'

    tag     [+][vendor '/'] key ['=' value], ``; SPACE \ CR LF`` in a value as ``\: \s \\ \r \n``
    source  server name, or nick ['!' user] ['@' host]
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, Literal

import msgspec

from gateway.core.errors import LocalProtocolError, RemoteProtocolError

MAX_TAGS: Final = 8191
"""Bytes of the tags of a line, from ``@`` to the space behind them."""
MAX_REST: Final = 512
"""Bytes of the rest of a line, with CR and LF (RFC 1459, section 2.3)."""
MAX_PARAMS: Final = 15
"""Parameters of a line (RFC 1459, section 2.3); the last one takes what is left."""

CaseMapping = Literal["ascii", "rfc1459", "rfc1459-strict"]

_COMMAND = re.compile(r"[A-Za-z]+|[0-9]{3}", re.ASCII)
_KEY = re.compile(r"\+?(?:[A-Za-z0-9.-]+/)?[A-Za-z0-9-]+", re.ASCII)
_FORBIDDEN = re.compile("[\r\n\0]")
_UNESCAPED = {":": ";", "s": " ", "\\": "\\", "r": "\r", "n": "\n"}
_ESCAPED = str.maketrans({";": "\\:", " ": "\\s", "\\": "\\\\", "\r": "\\r", "\n": "\\n"})
_TEXTUAL: Final = frozenset(
    {"PRIVMSG", "NOTICE", "TOPIC", "QUIT", "KICK", "ERROR", "AWAY", "301", "332", "353", "372"}
)
"""Commands whose last parameter is text: it always has its colon, as people read it."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line."""

    command: str
    """In capitals, or three digits. Empty: the line was."""
    params: tuple[str, ...] = ()
    source: str = ""
    """Who says it; empty where it does not say so."""
    tags: dict[str, str] = {}
    """Its tags; one without a value has an empty one."""


class TooLong(LocalProtocolError):  # noqa: N818 - a state of the line
    """A line that is to be made is over the bounds."""


class LineTooLong(RemoteProtocolError):  # noqa: N818 - a state of the line
    """A line is over the bounds: numeric 417 says so."""


# ---------------------------------------------------------------- reading


def decode(data: bytes, encoding: str = "cp1252") -> str:
    """Return bytes as text: UTF-8, or else as ``encoding`` or Latin-1 has it. Never raises."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            return data.decode("latin-1")


def parse(
    data: bytes,
    *,
    max_tags: int = MAX_TAGS,
    max_rest: int = MAX_REST,
    encoding: str = "cp1252",
) -> Line:
    """Return the line that ``data`` is, with or without its ending.

    What is not UTF-8 is in ``encoding``.

    Raises `LineTooLong`, and `RemoteProtocolError` for what is no line: with CR, LF or NUL in the
    middle, or without a command. A line of nothing but spaces has an empty command.
    """
    data = data.removesuffix(b"\n").removesuffix(b"\r")
    tags: dict[str, str] = {}
    if data[:1] == b"@":
        head, _, rest = data.partition(b" ")
        if len(head) + 1 > max_tags:
            raise LineTooLong(f"tags of over {max_tags} bytes")
        shown = decode(head[1:])
        if not shown.isascii() and len(shown.encode()) + 2 > max_tags:
            raise LineTooLong(f"tags of over {max_tags} bytes, as UTF-8")
        tags = _tags(shown)
    else:
        rest = data
    if len(rest) + 2 > max_rest:
        raise LineTooLong(f"a line of over {max_rest} bytes")
    text = decode(rest, encoding).lstrip(" ")
    if _FORBIDDEN.search(text) is not None or b"\0" in data:
        raise RemoteProtocolError("a line with CR, LF or NUL in it")
    source = ""
    if text[:1] == ":":
        source, _, text = text[1:].partition(" ")
        text = text.lstrip(" ")
    middle, colon, trailing = text.partition(" :")
    words = [word for word in middle.split(" ") if word]
    if not words:
        if text or source or tags:
            raise RemoteProtocolError("a line without a command")
        return Line("")
    command, *params = words
    if _COMMAND.fullmatch(command) is None:
        raise RemoteProtocolError("a command is letters, or three digits")
    if colon:
        params.append(trailing)
    if len(params) > MAX_PARAMS:
        params = _bounded(text)
    return Line(command.upper(), tuple(params), source, tags)


def _bounded(text: str) -> list[str]:
    """Return the parameters of a line that has too many: the last takes the rest as it is."""
    words: list[str] = []
    rest = text
    while len(words) < MAX_PARAMS and not rest.startswith(":"):
        word, _, rest = rest.partition(" ")
        rest = rest.lstrip(" ")
        words.append(word)
    return [*words[1:], rest.removeprefix(":")]


def _tags(text: str) -> dict[str, str]:
    tags = {}
    for one in text.split(";"):
        key, _, value = one.partition("=")
        if key:
            tags[key] = unescape(value) if "\\" in value else value
    return tags


def unescape(value: str) -> str:
    """Return the value of a tag as it is meant."""
    found = []
    characters = iter(value)
    for character in characters:
        if character == "\\":
            after = next(characters, "")
            found.append(_UNESCAPED.get(after, after))
        else:
            found.append(character)
    return "".join(found)


# ---------------------------------------------------------------- making


def encode(
    command: str, *params: str, source: str = "", tags: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of a line, with its ending.

    Raises `LocalProtocolError` for what no line can carry: CR, LF or NUL anywhere, a space in, a
    colon before, or nothing as another parameter than the last; and for what is over the bounds.
    """
    if _COMMAND.fullmatch(command) is None:
        raise LocalProtocolError(f"{command[:40]!r} is no command")
    words = [f":{_word(source)}", command] if source else [command]
    if params:
        *middles, last = params
        words += map(_word, middles)
        textual = command in _TEXTUAL or (command == "PART" and len(params) > 1)
        colon = textual or not last or last[0] == ":" or " " in last
        words.append(f":{last}" if colon else last)
    rest = _bytes(" ".join(words))
    if len(rest) + 2 > MAX_REST:
        raise TooLong(f"a line of {len(rest) + 2} bytes is over {MAX_REST}")
    return b"%b%b\r\n" % (encode_tags(tags), rest) if tags else rest + b"\r\n"


def fitted(command: str, *params: str, source: str = "") -> bytes:
    """Return the bytes of a line as `encode` does, its last parameter cut where that is too long.

    Raises `LocalProtocolError` for what no line can carry.
    """
    try:
        return encode(command, *params, source=source)
    except TooLong:
        *middles, last = params
        room = MAX_REST - len(encode(command, *middles, "", source=source))
        return encode(command, *middles, split_text(last, max(4, room))[0], source=source)


def encode_tags(tags: Mapping[str, str]) -> bytes:
    """Return the bytes of tags, with the space behind them. Raises `LocalProtocolError`."""
    found = []
    for key, value in tags.items():
        if _KEY.fullmatch(key) is None:
            raise LocalProtocolError(f"{key[:40]!r} is no key of a tag")
        found.append(f"{key}={value.translate(_ESCAPED)}" if value else key)
    data = _bytes(f"@{';'.join(found)} ")
    if len(data) > MAX_TAGS:
        raise TooLong(f"tags of {len(data)} bytes are over {MAX_TAGS}")
    return data


def _word(text: str) -> str:
    if not text or text[0] == ":" or " " in text:
        raise LocalProtocolError(
            f"{text[:40]!r} cannot stand in the middle of a line: it is empty, has a space in it "
            "or a colon before it"
        )
    return text


def _bytes(text: str) -> bytes:
    if _FORBIDDEN.search(text) is not None:
        raise LocalProtocolError("CR, LF or NUL in a line")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise LocalProtocolError("half of a surrogate pair in a line") from None


def is_sayable(text: str) -> bool:
    """Return whether a text may stand in a line: no CR, LF or NUL, and it can be encoded."""
    if _FORBIDDEN.search(text) is not None:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def is_tag(key: str) -> bool:
    """Return whether that may be the key of a tag."""
    return _KEY.fullmatch(key) is not None


def clean(text: str) -> str:
    """Return a text of somebody else's as it may stand in a line, on one."""
    if is_sayable(text):
        return text
    text = _FORBIDDEN.sub(" ", text).encode(errors="replace").decode()
    return " ".join(text.split())


# ---------------------------------------------------------------- cutting


_BACK: Final = 64
"""Characters to go back, at most, for the beginning of what is seen as one."""


def split_text(text: str, budget: int) -> list[str]:
    """Cut a text into pieces of at most ``budget`` bytes each.

    At a space, which is left out, where there is one in the second half of a piece; else never
    within a character, and not within what is seen as one, such as a letter with its accents,
    unless that alone is too long. Raises ValueError for a budget under 4 bytes, the longest
    character.
    """
    if budget < 4:
        raise ValueError(f"{budget} bytes are less than a character may take")
    pieces = []
    at, size = 0, len(text)
    # At each piece no more is looked at than it can have: a long text costs what its length says.
    while size - at > budget or len(text[at:].encode()) > budget:
        window = text[at : at + budget + 1]
        end = len(window.encode()[:budget].decode(errors="ignore"))
        space = window.rfind(" ", end >> 1, end + 1)
        if space > 0:
            pieces.append(window[:space])
            at += space + 1
        else:
            end = _seam(window, end)
            pieces.append(window[:end])
            at += end
    return [*pieces, text[at:]] if at < size or not pieces else pieces


def _seam(text: str, end: int) -> int:
    """Return where to cut at or before ``end``: not within what is seen as one character."""
    for at in range(end, max(0, end - _BACK), -1):
        if not _joins(text, at):
            return at
    return end


def _joins(text: str, at: int) -> bool:
    """Return whether the character at ``at`` belongs to the one before it."""
    character, before = text[at], text[at - 1]
    if "\U0001f1e6" <= character <= "\U0001f1ff":  # flags: pairs of regional indicators
        run = at
        while run and at - run < _BACK and "\U0001f1e6" <= text[run - 1] <= "\U0001f1ff":
            run -= 1
        return (at - run) % 2 == 1
    return (
        before == "\u200d"  # what joins
        or character == "\u200d"
        or unicodedata.category(character)[0] == "M"  # accents, variants
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # colours of skin
        or "\U000e0020" <= character <= "\U000e007f"  # tags of flags
        or "\u1160" <= character <= "\u11ff"  # vowels and finals of Hangul
    )


# ---------------------------------------------------------------- comparing


def _folding(pairs: str = "") -> dict[int, int]:
    upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + pairs
    return dict(zip(map(ord, upper), map(ord, upper.lower()), strict=True))


_ASCII = _folding()
_FOLDING: Final[Mapping[str, Mapping[int, int]]] = {
    "ascii": _ASCII,
    "rfc1459-strict": _ASCII | {ord(a): ord(b) for a, b in zip("[]\\", "{}|", strict=True)},
    "rfc1459": _ASCII | {ord(a): ord(b) for a, b in zip("[]\\~", "{}|^", strict=True)},
}


@lru_cache(maxsize=10_000)  # those who speak have mostly spoken before; some 2 MB at most
def fold(name: str, mapping: CaseMapping = "rfc1459") -> str:
    """Return a nick or channel as it is compared: two that differ only in case are one.

    >>> fold("Alice[away]")
    'alice{away}'
    """
    return name.translate(_FOLDING[mapping])


def split_mask(mask: str) -> tuple[str, str, str]:
    """Return nick, user and host of ``nick!user@host``; what is not there is empty.

    >>> split_mask("alice!~al@example.org")
    ('alice', '~al', 'example.org')
    """
    rest, _, host = mask.partition("@")
    nick, _, user = rest.partition("!")
    return nick, user, host


def whole_mask(mask: str) -> str:
    """Return a mask with all its parts: ``alice`` is ``alice!*@*``, ``*.org`` is ``*!*@*.org``."""
    if "!" in mask:
        nick, _, rest = mask.partition("!")
        user, _, host = rest.partition("@")
    elif "@" in mask:
        nick = ""
        user, _, host = mask.partition("@")
    elif "." in mask or ":" in mask:
        nick, user, host = "", "", mask
    else:
        nick, user, host = mask, "", ""
    return f"{nick or '*'}!{user or '*'}@{host or '*'}"


def matches(pattern: str, text: str) -> bool:
    """Return whether ``*`` (any characters) and ``?`` (one) of a pattern can stand for a text.

    Both folded before. At most as many steps as the product of their lengths.
    """
    at = here = 0
    star, mark = -1, 0
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, here
            at += 1
        elif at < len(pattern) and pattern[at] in {"?", text[here]}:
            at += 1
            here += 1
        elif star >= 0:
            mark += 1
            at, here = star + 1, mark
        else:
            return False
    return not pattern[at:].strip("*")


def is_any(patterns: Iterable[str], text: str) -> bool:
    """Return whether any of the patterns matches."""
    return any(matches(pattern, text) for pattern in patterns)
