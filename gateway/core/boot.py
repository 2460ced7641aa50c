"""From options to all that a process needs to start: project, plugins, application, settings.

Every command begins here, and so does every child process, which sees the same options.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from gateway.core import control, descriptors, logs, recycling
from gateway.core.certificates import Pair, checked
from gateway.core.config import LogSettings, Settings
from gateway.core.errors import ConfigError, GatewayError
from gateway.core.listen import Listen, answers, parse
from gateway.core.loop import HAS_UVLOOP
from gateway.core.plugin import Application
from gateway.core.project import Project, default_layer_url, find_project
from gateway.core.registry import Loaded, Registry
from gateway.core.sources import Sources, find_file
from gateway.core.tls import Tls


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says; None and () where it says nothing."""

    plugins: str | None = None
    plugins_dir: str | None = None
    listen: tuple[str, ...] = ()
    workers: str | None = None
    gateways: str | None = None
    layer: str | None = None
    config: str | None = None
    assignments: tuple[str, ...] = ()
    settings: str | None = None
    only_channels: tuple[str, ...] = ()
    exclude_channels: tuple[str, ...] = ()
    log_level: str | None = None
    log_format: str | None = None


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """All that a process needs to start."""

    project: Project
    registry: Registry
    application: Application | None
    plugins: tuple[Loaded, ...]
    sources: Sources
    settings: Settings
    workers: int | None
    """Worker processes; 0: a worker on threads of this process; None: no workers here."""

    @property
    def layer_url(self) -> str:
        """Where the layer is: what the settings say, else the hub of this user and project.

        ``memory://`` reaches no other process, so it stands only where there is one.
        """
        url = self.settings.layer.url
        if url and not url.startswith("memory://"):
            return url
        if self.workers == 0:
            return url if url.partition("://")[2] else "memory://gateway"
        return default_layer_url(self.project.directory)

    def log(self, process: str = "") -> None:
        """Log as the settings say, from now on; ``process`` names this one."""
        logs.set_up(self.settings.log, process)
        if self.settings.log.hooks:
            self.registry.hook_calls.tell()

    @property
    def joins(self) -> bool:
        """Whether this serves on a hub that runs already, instead of one of its own."""
        scheme, _, path = self.layer_url.partition("://")
        return self.workers is None and scheme == "unix" and answers(path)

    def check_gateways(self) -> None:
        """Raise ConfigError where several gateway processes were asked for and cannot be."""
        count = self.settings.gateway.count
        if count == 1:
            return
        asked = f"gateway.count (--gateways) is {count}: "
        if self.workers == 0:
            raise ConfigError(
                f"{asked}with workers.count = 0 (--workers 0) all is one process; run workers, or "
                "one gateway"
            )
        url = self.layer_url
        if not url.startswith("unix://"):
            raise ConfigError(
                f"{asked}they meet on a hub, so layer.url is unix:///path or empty, not {url!r}"
            )
        for endpoints in self.endpoints().values():
            for endpoint in endpoints:
                if endpoint.kind == "twisted":
                    raise endpoint.error(
                        f"{asked}each process would bind this endpoint of Twisted's itself; "
                        "listen at tcp:, unix:, fd: or systemd:, or run one gateway process"
                    )

    @property
    def control_path(self) -> str:
        """Where the supervisor hears ``gateway reload``: beside the hub, or where that would be."""
        url = self.layer_url
        if not url.startswith("unix://"):
            url = default_layer_url(self.project.directory)
        return url.removeprefix("unix://") + control.SUFFIX

    def need_application(self) -> Application:
        """Return the application; ConfigError that says where it was looked for if none."""
        if self.application is not None:
            return self.application
        missing = "".join(f"; {reason}" for reason in self.registry.missing)
        raise ConfigError(
            "no application found: DJANGO_SETTINGS_MODULE is not set and no manage.py in "
            f"{Path.cwd()} or above names a settings module{missing}. Name it with --settings, "
            "or run the protocol servers alone with --workers none"
        )

    def unserved(self) -> list[str]:
        """Return the protocols that the application routes, and no plugin here serves.

        It asks the application, and so imports its code.
        """
        channels = () if self.application is None else self.application.channels()
        routed = {channel.partition(".")[0] for channel in channels}
        served = {plugin.name for plugin in self.plugins}
        return sorted(routed & self.registry.available.keys() - served)

    def endpoints(self) -> dict[str, list[Listen]]:
        """Return where each plugin listens, by its name. Raises ConfigError for bad endpoints."""
        certificates = self.settings.tls.certificates()
        datagrams = {loaded.name for loaded in self.plugins if loaded.kind.datagrams}
        listens = {loaded.name: loaded.kind.listens for loaded in self.plugins}
        found: dict[str, list[Listen]] = {}
        for name, config in self.settings.tables.items():
            found[name] = []
            for setting in listens.get(name, ("listen",)):
                written = getattr(config, setting, ())
                texts = (written,) if isinstance(written, str) else tuple(written or ())
                found[name] += [parse(text, f"{name}.{setting}") for text in texts]
            for endpoint in found[name]:
                if endpoint.datagrams != (name in datagrams):
                    raise endpoint.error(
                        f"{name!r} speaks in datagrams; write 'udp:' before it"
                        if name in datagrams
                        else f"{name!r} has connections, not datagrams; leave out 'udp:'"
                    )
                if endpoint.tls and endpoint.kind != "twisted" and not certificates:
                    raise endpoint.error(
                        "there is no certificate to show; set tls.certificate to a PEM file, and "
                        "tls.key to its key's unless that stands in it"
                    )
        return found

    def certificates(self) -> tuple[Pair, ...]:
        """Return the site's certificates as they are in their files now.

        Raises ConfigError for files that cannot be used.
        """
        if not self.settings.tls.certificates():
            return ()
        return checked(self.settings.tls)

    def tls(self) -> Tls | None:
        """Return the site's TLS for a gateway process; None where there is no certificate.

        Raises ConfigError for files that cannot be used.
        """
        if not self.settings.tls.certificates():
            return None
        return Tls(self.settings.tls)

    def warnings(self) -> Iterator[str]:
        """Iterate over what an operator should know although it stops nothing."""
        yield from self.sources.warnings
        if not HAS_UVLOOP:
            yield "uvloop is not installed, and asyncio's own loop is slower: pip install uvloop"
        if self.settings.tls.certificates() and not self._listens_with_tls():
            yield (
                "tls.certificate is set, and nothing listens with TLS: put 'tls:' before an "
                "endpoint, as in http.listen = 'tls:*:443'"
            )
        if (few := descriptors.shortage(self.settings.tables)) is not None:
            yield few
        yield from self._recycling()
        for plugin in self.plugins:
            yield from plugin.kind.warnings(self.settings.tables[plugin.name])

    def _recycling(self) -> Iterator[str]:
        workers = self.settings.workers
        if self.workers == 0:
            for name in ("max_requests", "max_memory"):
                if getattr(workers, name):
                    yield (
                        f"workers.{name} does not apply: everything runs in one process, which is "
                        "not replaced; give it workers of their own (--workers N)"
                    )
        elif workers.max_memory and not recycling.STATM.exists():
            yield (
                f"workers.max_memory does not apply: this system has no {recycling.STATM}, which "
                "says how much memory a process has; workers.max_requests does"
            )

    def _listens_with_tls(self) -> bool:
        try:
            return any(listen.tls for found in self.endpoints().values() for listen in found)
        except ConfigError:
            return True  # that is told elsewhere


def boot(
    options: Options,
    environ: Mapping[str, str] = os.environ,
    *,
    load_plugins: bool = True,
    application: Application | None = None,
) -> Boot:
    """Find project and application, load the plugins, read all settings.

    Without ``load_plugins`` (a worker) their tables stay unread. An ``application`` that runs
    already, in this process, stands for the project's. Raises ConfigError and PluginError;
    starts nothing.
    """
    project = find_project(options.settings, environ=environ)
    registry = Registry()
    if application is None:
        project.activate()
        application = registry.application(project)
    sources = Sources()
    if application is not None:
        sources.add_tables(application.settings(), application.source)
    if options.config is not None:
        sources.add_file(Path(options.config))
    elif (found := find_file(dict.fromkeys((Path.cwd(), project.directory)))) is not None:
        sources.add_file(found)
    # The variables of its plugins are read after the directory is known, so it is asked before.
    for origin, directory in (
        ("GATEWAY_PLUGINS_DIR", environ.get("GATEWAY_PLUGINS_DIR")),
        ("--plugins-dir", options.plugins_dir),
    ):
        if directory is not None:
            sources.add_option("", "plugins_dir", directory, origin)
    place, named_by = sources.plugins_dir()
    if place is not None:
        registry.add_files(place, named_by)
    sources.add_environment(environ, registry.available)
    workers = _add_options(sources, options)
    try:
        plugins = registry.load(*sources.plugins()) if load_plugins else ()
        configs = {loaded.name: loaded.kind.Config for loaded in plugins}
        settings = sources.settings(configs, registry.available)
        if load_plugins:
            sources.check_options(configs)
            for loaded in plugins:
                loaded.kind.check(settings.tables[loaded.name], settings.layer)
    except GatewayError:
        _tell_hooks(sources, registry)  # what was called up to there is what is looked for
        raise
    return Boot(
        project=project,
        registry=registry,
        application=application,
        plugins=plugins,
        sources=sources,
        settings=settings,
        workers=None if workers == "none" else settings.workers.number(),
    )


def _tell_hooks(sources: Sources, registry: Registry) -> None:
    """Log the calls of hooks of a start that fails, where ``log.hooks`` says so."""
    table = sources.table("log")
    if isinstance(table, LogSettings) and table.hooks:
        logs.set_up(table)
        registry.hook_calls.tell()


def _add_options(sources: Sources, options: Options) -> str | None:
    """Add what the command line says; return the word of ``--workers``."""
    for assignment in options.assignments:
        sources.add_assignment(assignment)
    if options.plugins is not None:
        sources.add_option("", "plugins", options.plugins, "--plugins")
    if options.listen:
        # As TOML, since an endpoint may hold a comma.
        sources.add_option("http", "listen", _array(options.listen), "--listen")
    for option, key, given in (
        ("--only-channels", "only_channels", options.only_channels),
        ("--exclude-channels", "exclude_channels", options.exclude_channels),
    ):
        if given:
            names = [name.strip() for text in given for name in text.split(",") if name.strip()]
            sources.add_option("workers", key, _array(names), option)
    if options.workers not in {None, "none"}:
        sources.add_option("workers", "count", str(options.workers), "--workers")
    if options.gateways is not None:
        sources.add_option("gateway", "count", options.gateways, "--gateways")
    for option, table, key, value in (
        ("--plugins-dir", "", "plugins_dir", options.plugins_dir),
        ("--layer", "layer", "url", options.layer),
        ("--log-level", "log", "level", options.log_level),
        ("--log-format", "log", "format", options.log_format),
    ):
        if value is not None:
            sources.add_option(table, key, value, option)
    return options.workers


def _array(texts: Iterable[str]) -> str:
    return "[" + ",".join(msgspec.json.encode(text).decode() for text in texts) + "]"
