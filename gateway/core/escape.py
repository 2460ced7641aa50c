r"""Text of strangers on a line of ours: escaped, so that nobody can forge a line. Pure.

What is not printable ASCII is written as Python writes it: ``\n``, ``\x1b``, ``\u2028``.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_PLAIN = re.compile(r"[ !#-\[\]-~]*").fullmatch
_ODD = re.compile(r"[^ !#-\[\]-~]")
_UNSEEN = re.compile(r"[^\n\t -~]")

_encode = msgspec.json.Encoder(enc_hook=str).encode


def escaped(text: str) -> str:
    """Return text fit to stand between double quotes: one line of printable ASCII."""
    return text if _PLAIN(text) else _ODD.sub(_escape, text)


def indented(text: str) -> str:
    """Return text with its further lines indented: none can be taken for a line of its own.

    Letters stay as they are; what is neither printable nor a tab is escaped.
    """
    if not text.isprintable():
        text = _UNSEEN.sub(_keep_or_escape, text)
        if "\n" in text:
            text = text.replace("\n", "\n  ")
    return text


def json_line(value: Any) -> bytes:
    """Return a value as JSON in printable ASCII, which has no line break of any kind."""
    try:
        line = _encode(value)
    except UnicodeEncodeError:  # half of a surrogate pair, of a file's name perhaps
        line = b"\x7f"
    if line.isascii() and b"\x7f" not in line:
        return line
    plain = msgspec.to_builtins(value, enc_hook=str)
    return json.dumps(plain, separators=(",", ":")).encode()


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in {'"', "\\"}:
        return "\\" + character
    return character.encode("unicode_escape").decode()


def _keep_or_escape(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() else _escape(found)
