"""The commands. No logic: options in, `gateway.core` called, texts and exit statuses out."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import gateway
from gateway.core.boot import Options
from gateway.core.child import CANNOT_START
from gateway.core.errors import GatewayError

_EPILOG = """\
examples:
  gateway run                              serve the Django project found here
  gateway run --listen 0.0.0.0:80          … to the world, on port 80
  gateway run --workers 0                  … in one process, for debugging
  gateway run --plugins http --workers none --layer unix:///run/site.sock
                                           the protocol servers alone
  gateway worker --layer unix:///run/site.sock
                                           … and one worker for them
  gateway reload                           new code is deployed: replace the workers
  gateway check                            what is set, where, and what is wrong

exit status:
  0  done, or stopped as asked         1  check found problems; stopped at once;
                                          nothing was reloaded
  2  wrong options or settings, or a plugin that cannot start; the text says which

Settings come, in rising order, from defaults, Django (GATEWAY, CHANNEL_LAYERS),
gateway.toml or [tool.gateway] in pyproject.toml, GATEWAY_<TABLE>_<KEY> variables
and these options.
"""

_COMMANDS = {
    "run": "serve: protocol servers, channel layer and workers",
    "worker": "run one worker alone",
    "hub": "run the unix:// channel layer alone",
    "reload": "replace the workers of a running gateway one by one: new code, no connection lost",
    "plugins": "show the installed plugins and their settings",
    "check": "show the effective settings and what is wrong with them; starts nothing",
    "routes": "show which consumer gets what",
    "stats": "show the numbers of a running gateway and its layer",
}


class _Parser(argparse.ArgumentParser):
    """Says what was probably meant, and exits with status 2."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}\n'{self.prog} --help' shows what there is\n")
        raise SystemExit(CANNOT_START)

    def known(self) -> list[str]:
        """Return the options of this command."""
        return [name for name in self._option_string_actions if name.startswith("--")]


def _closest(word: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return f"; did you mean {found[0]}?" if found else f"; there are {', '.join(known)}"


def _parser() -> tuple[_Parser, dict[str, _Parser]]:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="gateway",
        description="One Django application for every protocol.",
        epilog=_EPILOG,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"gateway {gateway.__version__}")
    listed = "\n".join(f"  {name:<10} {text}" for name, text in _COMMANDS.items())
    parser.usage = "gateway COMMAND [options]"
    parser.epilog = f"commands:\n{listed}\n\n'gateway COMMAND --help' explains one.\n\n{_EPILOG}"
    parsers = {
        name: _Parser(
            prog=f"gateway {name}",
            description=text[0].upper() + text[1:] + ".",
            epilog=_EPILOG if name == "run" else None,
            formatter_class=formatter,
            allow_abbrev=False,
        )
        for name, text in _COMMANDS.items()
    }
    for name, sub in parsers.items():
        _add_project(sub)
        if name in {"run", "check", "plugins"}:
            _add_serving(sub)
        if name in {"run", "check"}:
            sub.add_argument(
                "--workers",
                metavar="N|0|none",
                help="worker processes; 0: all in one process; none: protocol servers alone "
                "(default: one fewer than there are CPUs, at least 1)",
            )
            sub.add_argument(
                "--gateways",
                metavar="N",
                help="gateway processes that share the endpoints (default: gateway.count, 1)",
            )
        if name in {"run", "worker", "check"}:
            _add_channels(sub)
    return parser, parsers


def _add_project(parser: _Parser) -> None:
    group = parser.add_argument_group("project and settings")
    group.add_argument(
        "--settings",
        metavar="MODULE",
        help="Django settings (default: DJANGO_SETTINGS_MODULE, else what a manage.py in this "
        "directory or above names)",
    )
    group.add_argument(
        "--config",
        metavar="FILE",
        help="TOML file (default: gateway.toml, or pyproject.toml with [tool.gateway], here or "
        "beside manage.py)",
    )
    group.add_argument(
        "--set",
        metavar="TABLE.KEY=VALUE",
        action="append",
        default=[],
        dest="assignments",
        help="set anything, as in --set workers.threads=8; repeatable",
    )
    group.add_argument(
        "--layer",
        metavar="URL",
        help="channel layer: memory://, unix:///path (default: a hub of this user and project)",
    )
    group = parser.add_argument_group("logging, to standard error")
    group.add_argument(
        "--log-level", metavar="LEVEL", help="debug, info, warning or error (default: info)"
    )
    group.add_argument("--log-format", metavar="FORMAT", help="text or json (default: text)")


def _add_channels(parser: _Parser) -> None:
    group = parser.add_argument_group("what workers take")
    group.add_argument(
        "--only-channels",
        metavar="A,B",
        action="append",
        default=[],
        help="these channels of the routing table alone, * for any characters: 'thumbnails.*'; "
        "repeatable (default: all)",
    )
    group.add_argument(
        "--exclude-channels",
        metavar="A,B",
        action="append",
        default=[],
        help="not these, which other workers take; repeatable",
    )


def _add_serving(parser: _Parser) -> None:
    group = parser.add_argument_group("protocols")
    group.add_argument(
        "--plugins", metavar="A,B", help="protocols to serve (default: http,websocket)"
    )
    group.add_argument(
        "--listen",
        metavar="ENDPOINT",
        action="append",
        default=[],
        help="where http listens: 8000, 0.0.0.0:80, [::1]:8000, unix:/path, fd:3, systemd:; "
        "repeatable (default: http.listen)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` (default: the process's) name; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, parsers = _parser()
    if not words or words[0].startswith("-"):
        parser.parse_args(words or ["--help"])
        parser.error("name a command first: " + ", ".join(parsers))
    sub = parsers.get(words[0])
    if sub is None:
        parser.error(f"there is no command {words[0]!r}{_closest(words[0], list(parsers))}")
    found, unknown = sub.parse_known_args(words[1:])
    if unknown:
        what = "option" if unknown[0].startswith("-") else "argument"
        hint = _closest(unknown[0].partition("=")[0], sub.known()) if what == "option" else ""
        sub.error(f"there is no {what} {unknown[0]!r}{hint}")
    from gateway.core import commands  # noqa: PLC0415 - --help answers without loading it all

    values = vars(found)
    values |= {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
    options = Options(**values)
    try:
        if words[0] == "run":
            return commands.run(options, words)
        command: Callable[[Options], int] = getattr(commands, words[0])
        return command(options)
    except BrokenPipeError:
        # Whoever read our text has enough of it; nothing is left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except GatewayError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return CANNOT_START
