r"""The arguments of SMTP's commands: names, paths, parameters. Pure.

::

    EHLO client.example.org                       a domain, or an address in brackets
    MAIL FROM:<ann@example.org> SIZE=1000         a path, and parameters
    RCPT TO:<"ann smith"@example.org>             RFC 5321 section 4.1.2, and UTF-8 (RFC 6531)

Some of what clients get wrong is taken all the same: white space before the path, dots in a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.core.errors import ConfigError, RemoteProtocolError
from gateway.plugins.email.translate import Answer

MOST_LOCAL: Final = 64
"""Bytes of a local part (RFC 5321 section 4.5.3.1.1)."""
MOST_DOMAIN: Final = 255
"""Bytes of a domain (section 4.5.3.1.2)."""

_HELLO: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}").fullmatch
# Beyond ASCII there are controls, too, and line breaks: RFC 5198, section 2, has none of them.
_UNSEEN: Final = r"\x7f-\x9f\u2028\u2029"
_LOCAL: Final = rf"[^\x00-\x20{_UNSEEN}\"(),:;<>@\[\]\\]+"
_QUOTED: Final = rf"\"(?:[^\x00-\x1f{_UNSEEN}\"\\]|\\[\x20-\x7e])*\""
_LETTER: Final = r"A-Za-z0-9_\xa0-\u2027\u202a-\U0010ffff"
_LABEL: Final = rf"[{_LETTER}][{_LETTER}-]*"
_DOMAIN: Final = rf"{_LABEL}(?:\.{_LABEL})*|\[[A-Za-z0-9.:-]{{1,255}}\]"
_PATH: Final = re.compile(
    # A route (RFC 5321, appendix C) is to be ignored, though it is to be understood.
    rf"[ ]*<(?:@[^\s:<>]+:)?(?P<local>{_LOCAL}|{_QUOTED})@(?P<domain>{_DOMAIN})>(?P<rest>.*)"
)
_ALONE: Final = re.compile(r"[ ]*<(?i:postmaster)>(?P<rest>.*)")
_NULL: Final = re.compile(r"[ ]*<>(?P<rest>.*)")
_PARAMETERS: Final = re.compile(
    r"(?: +([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\u0080-\U0010ffff]+))?)"
)
_ESCAPED: Final = re.compile(r"\\(.)")
_PLAIN: Final = re.compile(rf"{_LOCAL}\Z").match


class CommandError(RemoteProtocolError):
    """A command that is wrong; ``answer`` is the `Answer` to it."""


class Path(msgspec.Struct, frozen=True, gc=False):
    """A mailbox, and what stands behind it."""

    mailbox: str | None
    """``local@domain``, the domain in lower case; None: the null sender."""
    parameters: dict[str, str | None]
    """By their names in upper case."""

    @property
    def domain(self) -> str:
        """The domain; of ``postmaster`` alone it is empty."""
        return (self.mailbox or "").rpartition("@")[2] if "@" in (self.mailbox or "") else ""


def text(line: bytes) -> str:
    """Return a command as text. Raises `CommandError` for what is not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError(
            "not UTF-8", Answer(500, "5.5.2 A command is ASCII, or UTF-8 (RFC 6531)")
        ) from None


def hello(argument: str) -> str:
    """Return the name that a client greets with. Raises `CommandError`."""
    name = argument.strip(" ")
    if not _HELLO(name):
        raise CommandError(
            "greeting", Answer(501, "5.5.4 The name of a host, or its address in brackets, please")
        )
    return name


def path(argument: str, keyword: str) -> Path:
    """Return what MAIL (``FROM:``) or RCPT (``TO:``) names. Raises `CommandError`."""
    if argument[: len(keyword)].upper() != keyword:
        command = "MAIL" if keyword == "FROM:" else "RCPT"
        raise CommandError("keyword", Answer(501, f"5.5.4 Syntax: {command} {keyword}<address>"))
    rest = argument[len(keyword) :]
    if keyword == "FROM:" and (found := _NULL.fullmatch(rest)):
        return Path(None, parameters(found["rest"]))
    if keyword == "TO:" and (found := _ALONE.fullmatch(rest)):
        return Path("postmaster", parameters(found["rest"]))
    found = _PATH.fullmatch(rest)
    if found is None:
        code = "5.1.7" if keyword == "FROM:" else "5.1.3"
        raise CommandError("path", Answer(501, f"{code} An address has this form: <user@domain>"))
    local, domain = plain(found["local"]), found["domain"].lower()
    if len(local.encode()) > MOST_LOCAL or len(domain.encode()) > MOST_DOMAIN:
        code = "5.1.7" if keyword == "FROM:" else "5.1.3"
        raise CommandError("path", Answer(553, f"{code} The address is too long"))
    return Path(f"{local}@{domain}", parameters(found["rest"]))


def plain(local: str) -> str:
    """Return a local part without quotes that it does not need: the same mailbox either way."""
    if not local.startswith('"'):
        return local
    inner = _ESCAPED.sub(r"\1", local[1:-1])
    return inner if inner and _PLAIN(inner) else local


def parameters(rest: str) -> dict[str, str | None]:
    """Return the parameters behind a path. Raises `CommandError`."""
    found: dict[str, str | None] = {}
    place = 0
    rest = rest.rstrip(" ")
    while place < len(rest):
        match = _PARAMETERS.match(rest, place)
        if match is None or match[1].upper() in found:
            raise CommandError("parameters", Answer(501, "5.5.4 The parameters are malformed"))
        found[match[1].upper()] = match[2]
        place = match.end()
    return found


def is_ascii(value: str | None) -> bool:
    """Return whether a mailbox needs no SMTPUTF8."""
    return value is None or value.isascii()


class Domains:
    """The domains that mail is taken for. Raises ConfigError for what is none."""

    __slots__ = ("_below", "_exact")

    def __init__(self, texts: Iterable[str]) -> None:
        self._exact: set[str] = set()
        self._below: list[str] = []
        for said in texts:
            below = said.startswith(".")
            name = _ascii(said.removeprefix("."))
            if not re.fullmatch(_DOMAIN, name) or name.startswith("["):
                raise ConfigError(
                    f"email.domains: {said!r}: expected a domain such as 'example.org', or "
                    "'.example.org' for all below it; there is no word for all domains, since "
                    "that would be an open relay"
                )
            if below:
                self._below.append(f".{name}")
            else:
                self._exact.add(name)

    def __contains__(self, domain: str) -> bool:
        """Return whether mail for a domain is taken."""
        name = _ascii(domain)
        return name in self._exact or any(name.endswith(one) for one in self._below)

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._exact or self._below)


def _ascii(domain: str) -> str:
    """Return a domain in lower case, and as DNS has it where it is not ASCII (RFC 5891)."""
    name = domain.lower()
    if name.isascii() or len(name) > MOST_DOMAIN:
        return name
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        return name
