r"""What both roles say and hear, as messages of the application. Pure.

An action (``/me``) and other requests between clients stand in the text of a PRIVMSG (CTCP)::

    \x01 ACTION SPACE text [\x01]
"""

from __future__ import annotations

import re
from typing import Final, Literal

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import Message
from gateway.plugins.irc.lines import decode, is_sayable, split_text

Type = Literal["message", "action", "notice"]

_NEWLINE = re.compile(r"\r\n|\r|\n")
CTCP: Final = "\x01"
_ACTION: Final = f"{CTCP}ACTION"

FORMS: Final = {
    "message": "<{nick}> {text}",
    "action": "* {nick} {text}",
    "notice": "-{nick}- {text}",
}
"""How those read who says it that only have the text of it: by type."""


def by(type: str, nick: str, text: str) -> str:  # noqa: A002 - the key's name
    """Return a text of such a type with who says it.

    >>> by("action", "alice", "waves")
    '* alice waves'
    """
    return FORMS[type].format(nick=nick, text=text)


def heard(command: str, text: str) -> tuple[Type, str]:
    r"""Return type and text of what a PRIVMSG or NOTICE says.

    >>> heard("PRIVMSG", "\x01ACTION waves\x01")
    ('action', 'waves')
    """
    if command == "NOTICE":
        return "notice", text
    if text.startswith(_ACTION) and text[len(_ACTION) : len(_ACTION) + 1] in {" ", CTCP, ""}:
        return "action", text[len(_ACTION) + 1 :].removesuffix(CTCP)
    return "message", text


def said(type: str, text: str) -> tuple[str, str]:  # noqa: A002 - the key's name
    """Return the command and the text that say a text of such a type. Undoes `heard`."""
    if type == "action":
        return "PRIVMSG", f"{_ACTION} {text}{CTCP}"
    return ("NOTICE" if type == "notice" else "PRIVMSG"), text


def pieces(type: str, text: str, budget: int) -> list[tuple[str, str]]:  # noqa: A002 - as above
    """Return the commands and texts that say it, each text of at most ``budget`` bytes."""
    if type == "message" and text.startswith(CTCP):
        return [said(type, split_text(text, budget)[0])]  # half of a request is none
    over = len(said(type, "")[1])
    return [said(type, piece) for piece in split_text(text, budget - over)]


def text_of(reply: Message) -> str | None:
    """Return the text of a reply, None where it has none.

    What is said may have newlines (`lines_of`). Raises `LocalProtocolError` for NUL, and for CR and
    LF in anything else: nothing may begin another command.
    """
    text: str | None = reply.get("text")
    if text is None and "bytes" in reply:
        text = decode(reply["bytes"])
    if text is None:
        return None
    spoken = reply.get("type", "message") in FORMS
    if not is_sayable(_NEWLINE.sub(" ", text) if spoken else text):
        raise LocalProtocolError("a text with CR, LF or NUL, or half of a surrogate pair")
    return text


def lines_of(text: str) -> list[str]:
    """Return the lines of what is said, without those that say nothing."""
    return [line for line in _NEWLINE.split(text) if line]
