"""Commands of plugins: ``gateway NAME COMMAND …``, as `gateway_commands` declares them."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence

from gateway.core.boot import Options, boot
from gateway.core.errors import ConfigError, PluginError

HELP = ("--help", "-h", "help")


def run(name: str, arguments: Sequence[str], called: str = "") -> int:
    """Run a command of the plugin ``name``; return the exit status.

    Without one, or asked for help, it shows those that there are. ``called`` is what was said
    for the plugin's name. Raises GatewayError where there is no such command, and for settings
    that are wrong.
    """
    started = boot(Options(plugins=name))
    commands = started.registry.commands(name)
    if not commands:
        raise ConfigError(f"plugin {name!r} has no commands of its own")
    if not arguments or arguments[0] in HELP:
        sys.stdout.write(_listed(called or name, commands))
        return 0
    word, *rest = arguments
    command = commands.get(word)
    if command is None:
        close = difflib.get_close_matches(word, commands, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(commands)}"
        raise ConfigError(f"plugin {name!r} has no command {word!r}; {hint}")
    status = command(rest, started.settings.tables[name])
    if status is not None and not isinstance(status, int):
        raise PluginError(
            f"plugin {name!r}: its command {word!r} returned {status!r}; it returns the exit "
            "status, a number, or None for 0"
        )
    return status or 0


def _listed(name: str, commands: Mapping[str, Callable[..., int | None]]) -> str:
    lines = [f"usage: gateway {name} COMMAND …", ""]
    for word, command in commands.items():
        said = (inspect.getdoc(command) or "").partition("\n")[0]
        lines.append(f"  {word:<12} {said}".rstrip())
    return "\n".join(lines) + "\n"
