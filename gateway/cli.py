"""The commands. No logic: options in, `gateway.core` called, texts and exit statuses out."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

import gateway
from gateway.core.boot import Options
from gateway.core.child import CANNOT_START
from gateway.core.errors import GatewayError
from gateway.core.registry import Registry

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
  gateway conformance websocket            whether a plugin does what it must
  gateway new plugin lamp                  begin a protocol of your own, in gateway-lamp

exit status:
  0  done, or stopped as asked         1  check found problems, conformance failures;
                                          stopped at once; nothing was reloaded
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
    "new": "write the project of a plugin of your own, which works and is tested",
    "plugins": "show the plugins that there are, or one of them in full",
    "check": "show the effective settings and what is wrong with them; starts nothing",
    "routes": "show which consumer gets what",
    "conformance": "run the suite of an installed plugin: does it do what every plugin must",
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
    _add_new(parsers["new"])
    _add_conformance(parsers["conformance"])
    parsers["plugins"].add_argument(
        "name", metavar="NAME", nargs="?", help="the plugin to show in full (default: a table)"
    )
    for name, sub in parsers.items():
        if name in {"new", "conformance"}:
            continue
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


def _add_conformance(parser: _Parser) -> None:
    parser.epilog = (
        "Prints a table: check, result, reason. Exits with 1 where a check fails. Starts the\n"
        "plugin on loopback, alone; reads no settings."
    )
    parser.add_argument("plugin", metavar="NAME", help="the plugin, as in --plugins")
    parser.add_argument(
        "--suite",
        metavar="MODULE:CLASS",
        help="its suite (default: its entry point in gateway.conformance)",
    )


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
        help="set anything, as in --set workers.threads=8 or --set email.delivery.enabled=false; "
        "repeatable",
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


def _add_new(parser: _Parser) -> None:
    parser.usage = "gateway new plugin NAME [--flavour FLAVOUR] [--directory DIR]"
    parser.add_argument("what", metavar="plugin", help="what to write")
    parser.add_argument(
        "name", metavar="NAME", help="the plugin's name: lower-case letters, digits, underscores"
    )
    parser.add_argument(
        "--flavour",
        default="stream",
        metavar="FLAVOUR",
        help="what carries the protocol: stream (TCP, TLS, Unix sockets), datagram (UDP), client "
        "(the gateway connects to a peer) or http (requests of the http port) (default: stream)",
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="where the project goes (default: gateway-NAME in the current directory)",
    )


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
        "--plugins-dir",
        metavar="DIR",
        help="directory of plugins of one file: NAME.py is the plugin NAME (default: plugins_dir)",
    )
    group.add_argument(
        "--listen",
        metavar="ENDPOINT",
        action="append",
        default=[],
        help="where http listens: 8000, 0.0.0.0:80, [::1]:8000, unix:/path, fd:3, systemd:; "
        "repeatable (default: http.listen)",
    )


def _of_plugins(words: Mapping[str, str]) -> str:
    """Return the commands that installed plugins bring, for the page of help."""
    listed = [
        f"  {word:<10} of the plugin {name}: see 'gateway {word}'" for word, name in words.items()
    ]
    return "\n".join(["commands of plugins:", *listed, "", ""]) if listed else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` (default: the process's) name; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, parsers = _parser()
    if not words or words[0].startswith("-"):
        mark = "'gateway COMMAND"
        brought = _of_plugins(Registry().words)
        parser.epilog = str(parser.epilog).replace(mark, brought + mark, 1)
        parser.parse_args(words or ["--help"])
        parser.error("name a command first: " + ", ".join(parsers))
    sub = parsers.get(words[0])
    if sub is None:
        registry = Registry()
        name = registry.words.get(words[0], words[0])
        if name in registry.available:
            return _of_plugin(name, words[0], words[1:])
        known = [*parsers, *registry.words]
        parser.error(f"there is no command {words[0]!r}{_closest(words[0], known)}")
    found, unknown = sub.parse_known_args(words[1:])
    if unknown:
        what = "option" if unknown[0].startswith("-") else "argument"
        hint = _closest(unknown[0].partition("=")[0], sub.known()) if what == "option" else ""
        sub.error(f"there is no {what} {unknown[0]!r}{hint}")
    if words[0] == "new" and found.what != "plugin":
        sub.error(f"a plugin is what can be written: gateway new plugin {found.name}")
    if words[0] == "new":
        return _told(lambda: _new(found))
    if words[0] == "conformance":
        from gateway.testing import conformance  # noqa: PLC0415 - no other command needs it

        return _told(lambda: conformance.run(found.plugin, found.suite))
    return _told(lambda: _command(words, vars(found)))


def _of_plugin(name: str, word: str, arguments: Sequence[str]) -> int:
    from gateway.core import subcommands  # noqa: PLC0415 - --help answers without loading it all

    return _told(lambda: subcommands.run(name, arguments, word))


def _told(command: Callable[[], int]) -> int:
    """Run a command, and say what stopped it; return the exit status."""
    try:
        return command()
    except BrokenPipeError:
        # Whoever read our text has enough of it; nothing is left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except GatewayError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return CANNOT_START


def _command(words: Sequence[str], values: dict[str, object]) -> int:
    from gateway.core import commands  # noqa: PLC0415 - --help answers without loading it all

    values |= {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
    name = values.pop("name", None)
    options = msgspec.convert(values, Options)
    if words[0] == "run":
        return commands.run(options, words)
    if words[0] == "plugins":
        return commands.plugins(options, None if name is None else str(name))
    command: Callable[[Options], int] = getattr(commands, words[0])
    return command(options)


def _new(found: argparse.Namespace) -> int:
    from gateway import scaffold  # noqa: PLC0415 - as above

    directory = None if found.directory is None else Path(found.directory)
    installed = Registry().available
    target = scaffold.new_plugin(found.name, found.flavour, directory, installed, _COMMANDS)
    sys.stdout.write(scaffold.farewell(found.name, target))
    return 0
