"""``gateway mail list``, ``retry``, ``drop``: what is in the spool, with or without a gateway."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from gateway.core.errors import ConfigError
from gateway.plugins.email.client.config import Outgoing
from gateway.plugins.email.client.envelope import Entry, Recipient, packed
from gateway.plugins.email.client.spool import Spool
from gateway.plugins.email.client.where import spool_of

OK: Final = 0
NOT_DONE: Final = 1
"""What was named is not there, or somebody works on it."""

_UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60))


def list_(arguments: list[str], config: Outgoing) -> int:
    """Show the mails that wait, the oldest first, and why."""
    parser = _parser("list", "Show the mails that wait in the spool, the oldest first, and why.")
    parser.add_argument("id", nargs="*", metavar="ID", help="these alone (default: all)")
    found = parser.parse_args(arguments)
    spool = _spool(found.spool, config)
    status = OK
    entries = []
    for name in _named(spool, found.id):
        entry = spool.read(name)
        if entry is None:
            status = max(status, _missing(spool, name, found.id))
        else:
            entries.append(entry)
    now = time.time()
    for entry in entries:
        _say("\n".join(_lines(entry, now)))
    if not found.id:
        size = sum(entry.size for entry in entries)
        what = f"{len(entries)} mail{'s' if len(entries) != 1 else ''}, {_size(size)}"
        _say(f"{what if entries else 'no mail'} in {spool.directory}{_whether(spool)}")
    return status


def retry(arguments: list[str], config: Outgoing) -> int:
    """Have mails tried now, whatever failed before."""
    parser = _parser("retry", "Have mails tried now, whatever failed before.")
    parser.add_argument("id", nargs="*", metavar="ID", help="these alone (default: all)")
    found = parser.parse_args(arguments)
    spool = _spool(found.spool, config)
    done, status = 0, OK
    for name in _named(spool, found.id):
        claim = spool.claim(name)
        if claim is None:
            status = max(status, _missing(spool, name, found.id))
            continue
        try:
            for one in claim.entry.waiting():
                one.due = 0.0
            spool.update(name, packed(claim.entry))
        finally:
            claim.close()
        done += 1
    _say(f"{_mails(done)} to be tried now{_whether(spool)}")
    return status


def drop(arguments: list[str], config: Outgoing) -> int:
    """Remove mails; nobody is told of it."""
    parser = _parser("drop", "Remove mails from the spool. Nobody is told that they do not come.")
    parser.add_argument("id", nargs="*", metavar="ID", help="which")
    parser.add_argument("--all", action="store_true", help="all that there are")
    found = parser.parse_args(arguments)
    if bool(found.id) is found.all:
        parser.error("name the mails to remove, as 'gateway mail list' shows them, or say --all")
    spool = _spool(found.spool, config)
    done, status = 0, OK
    for name in _named(spool, found.id):
        claim = spool.claim(name)
        if claim is None:
            status = max(status, _missing(spool, name, found.id or spool.knows(name)))
            continue
        try:
            spool.remove(claim.entry)
        finally:
            claim.close()
        done += 1
    _say(f"{_mails(done)} removed")
    return status


COMMANDS: Final = {"list": list_, "retry": retry, "drop": drop}


class _Parser(argparse.ArgumentParser):
    """Raises ConfigError where argparse would write usage and end the process."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; '{self.prog} --help' shows what there is")


def _parser(word: str, text: str) -> _Parser:
    parser = _Parser(prog=f"gateway mail {word}", description=text, allow_abbrev=False)
    parser.add_argument(
        "--spool", metavar="DIR", help="the spool (default: email.spool, in the project found here)"
    )
    return parser


def _spool(option: str | None, config: Outgoing) -> Spool:
    directory = Path(option).resolve() if option else spool_of(config)
    if option and not directory.is_dir():
        raise ConfigError(f"--spool: there is no directory {directory}")
    return Spool(directory)


def _named(spool: Spool, names: Sequence[str]) -> Iterator[str]:
    return iter(names or sorted(spool.names()))


def _missing(spool: Spool, name: str, named: object) -> int:
    """Say why there is nothing to be done with a mail; return the exit status.

    Nothing is wrong with one that nobody ``named`` and that is delivered meanwhile.
    """
    if not named:
        return OK
    if spool.knows(name):
        sys.stderr.write(f"{name}: it is being delivered right now; try again in a moment\n")
    else:
        sys.stderr.write(f"{name}: there is no such mail, or not any more\n")
    return NOT_DONE


def _whether(spool: Spool) -> str:
    """Return words on whether somebody delivers."""
    return "" if spool.is_delivered() else "; no gateway runs that delivers from there"


def _lines(entry: Entry, now: float) -> Iterator[str]:
    what = entry.subject or entry.message_id
    yield (
        f"{entry.id}  {_span(now - entry.created)} old  {_size(entry.size)}  "
        f"from {entry.mail_from or '<>'}{f'  {_printable(what)!r}' if what else ''}"
    )
    for one in entry.recipients:
        yield f"    {one.address}: {_state(one, now)}"


def _state(one: Recipient, now: float) -> str:
    said = _printable(" ".join(filter(None, (str(one.code or ""), one.status, one.reason))))
    if one.state == "failed":
        return f"undeliverable, to be reported: {said}"
    if not one.tries:
        return "not tried yet"
    when = f"again in {_span(one.due - now)}" if one.due > now else "again now"
    times = "once" if one.tries == 1 else f"{one.tries} times"
    return f"tried {times}, {when}: {said}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _span(seconds: float) -> str:
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _size(octets: int) -> str:
    if octets < 1000:
        return f"{octets} B"
    return f"{octets / 1000:.0f} kB" if octets < 1_000_000 else f"{octets / 1_000_000:.1f} MB"


def _mails(count: int) -> str:
    return f"{count} mail{'s are' if count != 1 else ' is'}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
