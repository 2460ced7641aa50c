"""What each command does: `gateway.cli` reads the options, this composes the parts.

Every function returns the exit status and raises GatewayError for what stops the start.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from gateway.core import catalogue, child, control, descriptors, loop, malloc, sink
from gateway.core.boot import Boot, Options, boot
from gateway.core.catalogue import shown
from gateway.core.errors import ConfigError, GatewayError, LayerUnavailable
from gateway.core.layers import open_layer
from gateway.core.layers.base import Layer
from gateway.core.layers.unix import UnixLayer
from gateway.core.listen import answers
from gateway.core.plugin import Application, RunningWorker
from gateway.core.recycling import Limits
from gateway.core.selection import select
from gateway.core.sources import CORE, Row
from gateway.core.supervisor import Supervisor

log = logging.getLogger("gateway.child")

DONE: Final = 0
PROBLEMS: Final = 1


def run(options: Options, arguments: Sequence[str]) -> int:
    """Serve: as a child that the supervisor started, as the supervisor, or alone.

    ``arguments`` are the command line, with which children are started.
    """
    told = child.orders()
    if told is not None and told.role == "worker":
        return _supervised_worker(options, told)
    if told is not None and told.role == "hub":
        return hub(options, told)
    started = boot(options)
    started.check_gateways()
    if told is None and (started.workers or started.settings.gateway.count > 1):
        return _supervise(started, arguments)
    started.log(_name(told))
    malloc.keep_pages()
    descriptors.allow(descriptors.MOST)
    from gateway.core import process  # noqa: PLC0415 - the supervisor stays small without it

    return loop.run(lambda: process.serve(started, told))


def _name(told: child.Orders | None) -> str:
    """Return what a gateway process is called in the log."""
    if told is None:
        return ""
    return f"gateway {told.number}" if told.number else "gateway"


def _supervise(started: Boot, arguments: Sequence[str]) -> int:
    if started.workers:
        started.need_application()
    started.certificates()
    started.log("supervisor")
    # -P: a package named gateway in the current directory is not ours.
    command = [sys.executable, "-P", "-m", "gateway", *arguments]
    malloc.keep_objects()
    return Supervisor(
        started.settings,
        command,
        started.endpoints(),
        started.layer_url,
        started.workers or 0,
        started.control_path,
        joins=started.joins,
    ).run()


def worker(options: Options) -> int:
    """Run one worker alone until a signal, on the layer that the settings name."""
    started = boot(options, load_plugins=False)
    application, layer = _prepared(started)
    return application.run_worker(layer, started.settings)


def _prepared(started: Boot, name: str = "") -> tuple[Application, Layer]:
    """Prepare this process to be a worker; return its application and the layer."""
    settings = started.settings
    started.log(name)
    malloc.keep_pages()
    # What runs on the loop may have a file or a socket each: a large body that is collected has.
    descriptors.allow(settings.workers.async_limit + descriptors.BESIDE)
    application = started.need_application()
    url = started.layer_url
    os.environ[child.LAYER_VARIABLE] = url
    return application, open_layer(url, **settings.layer.options())


def _supervised_worker(options: Options, told: child.Orders) -> int:
    """Run a worker of the supervisor, until that says so."""
    child.leave_signals_to_the_supervisor()
    with socket.socket(fileno=told.parent) as line:
        try:
            started = boot(options, load_plugins=False)
            workers = started.settings.workers
            version = workers.version or str(told.generation)
            workers = msgspec.structs.replace(workers, version=version)
            settings = msgspec.structs.replace(started.settings, workers=workers)
            application, layer = _prepared(started, f"worker {told.number} ({version})")
            running = application.start_worker(layer, settings)
            malloc.keep_objects()
        except GatewayError as error:
            child.say(line, child.CANNOT + str(error).encode())
            raise
        except Exception as error:
            log.exception("the application cannot start")
            text = f"{type(error).__name__}: {error}"
            child.say(line, child.CANNOT + text.encode())
            raise ConfigError(f"the application cannot start: {text}") from error
        _work(running, Limits(workers), line)
        ended = running.stop(workers.grace)
        if not ended:
            child.say(line, child.CUT_OFF)
        layer.close()
    return DONE if ended else child.cut_off(workers.grace)


def _work(running: RunningWorker, limits: Limits, line: socket.socket) -> None:
    """Tell the supervisor when the worker is ready, and when it is worn, until told to stop."""
    told = threading.Event()

    def tell() -> None:
        running.ready.wait()
        child.say(line, child.READY)
        told.set()

    threading.Thread(target=tell, name="ready", daemon=True).start()
    while not child.wait_for_stop(line, limits.look_every()):
        # Who is not ready yet serves nothing, and its asking would not be heard.
        worn = limits.reached(running.handled()) if told.is_set() else None
        if worn is not None:
            log.info("asks to be replaced: %s", worn)
            child.say(line, child.WORN)
            child.wait_for_stop(line)
            return


def _read(options: Options, so: str = "", *, load_plugins: bool = True) -> Boot:
    """As `boot`, where the application's own code raises anything: ConfigError that says it."""
    try:
        return boot(options, load_plugins=load_plugins)
    except GatewayError:
        raise
    except Exception as error:
        text = f"the settings cannot be read{so}: {type(error).__name__}: {error}"
        raise ConfigError(text) from error


def reload(options: Options) -> int:
    """Have the running supervisor of this project replace its workers, and wait until it has."""
    path = _read(options, ", nothing is replaced", load_plugins=False).control_path
    result = control.reload(path)
    if result is not None and result.done:
        _say(result.text)
        return DONE
    if result is not None:
        text = result.text
    elif answers(path.removesuffix(control.SUFFIX)):
        text = (
            "the gateway of this project has no workers of its own (--workers 0 or none), so there "
            "is none to replace; SIGHUP to its process loads certificates again, and what runs "
            "'gateway worker' restarts those"
        )
    else:
        text = (
            f"no gateway runs that listens at {path}; a reload is run as the user, in the "
            "project and with the --layer of its 'gateway run'"
        )
    sys.stderr.write(f"gateway: {text}\n")
    return PROBLEMS


def hub(options: Options, told: child.Orders | None = None) -> int:
    """Run the unix:// layer alone until a signal, or until the supervisor hangs up."""
    started = boot(options, load_plugins=False)
    started.log("hub")
    from gateway.core import process  # noqa: PLC0415 - as above

    return loop.run(lambda: process.serve_hub(started, told))


def plugins(options: Options, name: str | None = None) -> int:
    """Print the plugins that there are, or the one of that ``name`` in full."""
    if name is None:
        lines, well = catalogue.table(boot(options, load_plugins=False))
    else:
        lines, well = catalogue.sheet(options, name)
    for line in lines:
        _say(line)
    return DONE if well else PROBLEMS


def check(options: Options) -> int:
    """Print the effective settings with their origins, warnings and problems; start nothing."""
    try:
        started = _read(options)
    except GatewayError as error:
        _say(f"problem: {error}")
        return PROBLEMS
    for row in _rows(started):
        _say(f"{row.key} = {shown(row.value)}  # {row.origin}")
    _say(f"# layer: {started.layer_url}")
    if (count := started.settings.gateway.count) > 1:
        hub = "the hub that runs there" if started.joins else "a hub process of their own there"
        _say(f"# gateways: {count} processes on {hub}")
    warnings = list(started.warnings())
    problems = list(_problems(started))
    try:
        pairs = started.certificates()
    except ConfigError as error:
        problems.append(str(error))
    else:
        warnings += [text for pair in pairs for text in pair.warnings()]
    if not problems and started.application is not None:
        warnings += started.application.warnings()
    for text in warnings:
        _say(f"warning: {text}")
    if not problems and (left := started.unserved()):
        _say(f"# routed, and not served: {', '.join(left)}; name them in plugins (--plugins)")
    for text in problems:
        _say(f"problem: {text}")
    _say(f"{len(problems)} problem{'' if len(problems) == 1 else 's'}")
    return PROBLEMS if problems else DONE


def routes(options: Options) -> int:
    """Print which consumer gets what."""
    rows = boot(options, load_plugins=False).need_application().routes()
    table = [("channel", "filters", "consumer"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(2)]
    for channel, filters, consumer in table:
        _say(f"{channel:<{widths[0]}}  {filters:<{widths[1]}}  {consumer}")
    return DONE


def stats(options: Options) -> int:
    """Print the numbers of the layer and of the gateway process it lives in.

    In the Prometheus text format; see the metrics reference.
    """
    url = _read(options, load_plugins=False).layer_url
    layer = open_layer(url)
    if not isinstance(layer, UnixLayer):
        raise ConfigError(f"layer.url: {url!r}: only a unix:// layer can be looked at from outside")
    try:
        _say(layer.metrics_text().rstrip())
    except LayerUnavailable as error:
        sys.stderr.write(f"gateway: {error}\n")
        return PROBLEMS
    finally:
        layer.close()
    return DONE


def _rows(started: Boot) -> Iterator[Row]:
    names, asked_by = started.sources.plugins()
    yield Row("plugins", list(names), asked_by, "", list(names))
    tables = {name: getattr(started.settings, name) for name in CORE}
    for name, table in (tables | dict(started.settings.tables)).items():
        yield from started.sources.rows(name, table)


def _problems(started: Boot) -> Iterator[str]:
    if started.workers is not None and started.application is None:
        try:
            started.need_application()
        except ConfigError as error:
            yield str(error)
    access = started.settings.log.access
    for look in (started.endpoints, started.check_gateways, lambda: sink.check(access)):
        try:
            look()
        except ConfigError as error:
            yield str(error)
    if started.application is not None:
        try:
            select(started.application.channels(), started.settings.workers)
        except ConfigError as error:
            yield str(error)
        except Exception as error:  # noqa: BLE001 - the application's own code
            where = _line(error, started.project.directory)
            yield f"the application's routing: {type(error).__name__}: {error}{where}"


def _line(error: Exception, directory: Path) -> str:
    """Return the line of the project that an error comes from, in parentheses; "" without one."""
    lines = traceback.extract_tb(error.__traceback__)
    for line in reversed(lines):
        file = Path(line.filename)
        if file.is_relative_to(directory) and "site-packages" not in file.parts:
            return f" ({file.relative_to(directory)}, line {line.lineno})"
    return ""


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
