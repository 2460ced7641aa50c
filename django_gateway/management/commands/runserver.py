"""``manage.py runserver``: Django's own, with every protocol of the gateway."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandParser, OutputWrapper
from django.utils.autoreload import BaseReloader, autoreload_started

from gateway.core.errors import GatewayError

if apps.is_installed("django.contrib.staticfiles"):
    from django.contrib.staticfiles.management.commands.runserver import Command as RunserverCommand
else:
    from django.core.management.commands.runserver import (  # type: ignore[assignment]  # its base
        Command as RunserverCommand,
    )

if TYPE_CHECKING:
    import socket

    from django_gateway.handler import Views
    from gateway.core.guest import Guest


class Command(RunserverCommand):
    """Serve the project for development, in one process that starts anew when code changes.

    The gateway runs on a thread of its own, since the reloader watches files on the main one.
    """

    help = "Starts a server of every configured protocol for development."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--noworker`` to Django's options."""
        super().add_arguments(parser)
        parser.add_argument(
            "--noworker",
            action="store_false",
            dest="use_worker",
            help="Tells Django to run no consumers and views here; start manage.py runworker.",
        )

    def run(self, **options: Any) -> None:
        """Run the server, and end it in good order with the process."""
        self._guest: Guest | None = None
        autoreload_started.connect(_watch, dispatch_uid="django_gateway.runserver")
        status: Any = 0
        try:
            super().run(**options)
        except SystemExit as error:
            status = error.code
            raise
        finally:
            if self._guest is not None and not self._guest.stop():
                # Somebody's code still runs on a thread that the interpreter would wait for.
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status if isinstance(status, int) else 1)

    def inner_run(self, *args: Any, **options: Any) -> None:
        """Run the server once: until the process ends, or cannot serve."""
        from django_gateway import development  # noqa: PLC0415 - --help needs none of it

        self._options = options
        try:
            self._boot = development.load(workers=options["use_worker"])
            own = not options["addrport"] and development.says_where(self._boot)
            server = development.Unbound if own else development.Server
            self.server_cls = server  # type: ignore[assignment]  # what Django's run() uses of it
            super().inner_run(*args, **options)
        except GatewayError as error:
            self.stderr.write(f"Error: {error}")
            if not options["use_reloader"]:
                sys.exit(1)
            # Else the reloader goes on watching, and starts anew once a file has changed.

    def get_handler(self, *args: Any, **options: Any) -> Any:
        """Return what runs the gateway on a socket, static files and views behind it."""
        static = options.get("use_static_handler", False)
        if static and (settings.DEBUG or options["insecure_serving"]):
            # needs the app
            from django_gateway.staticfiles import StaticFilesConsumer  # noqa: PLC0415 - as it says

            return partial(self._serve, StaticFilesConsumer())
        from django_gateway.handler import Views  # noqa: PLC0415 - --help needs none of it

        return partial(self._serve, Views())

    def on_bind(self, server_port: int) -> None:
        """Say nothing yet: the socket is bound, but nobody serves it."""
        self._port = server_port

    def _serve(self, views: Views, sock: socket.socket | None) -> None:
        from django_gateway import development  # noqa: PLC0415 - --help needs none of it
        from gateway.core.guest import Guest  # noqa: PLC0415 - as above

        found = development.fitted(
            self._boot, views, sock, threading=self._options["use_threading"]
        )
        self._guest = guest = Guest(found, development.RequestLog())
        guest.start()
        for text in found.warnings():
            self.stderr.write(self.style.WARNING(f"WARNING: {text}"))
        unserved = found.unserved() if self._options["use_worker"] else ()
        self._say(guest, bound=sock is not None, unserved=unserved)
        guest.wait()

    def _say(self, guest: Guest, *, bound: bool, unserved: Sequence[str] = ()) -> None:
        """Print Django's lines, with ours between them."""
        real, said = self.stdout, StringIO()
        self.stdout = OutputWrapper(said)
        try:
            super().on_bind(self._port)
        finally:
            self.stdout = real
        started = re.compile(r"^Starting (?:\w+ )?development server at (.*)$", re.MULTILINE)
        lines = []
        for name, places in guest.places:
            if name != "http":
                lines += [f"Starting {name} {_at(place)}" for place in places]
            else:
                if bound:  # Django says it as it was asked for
                    pages = started.findall(said.getvalue())
                else:
                    pages = [_page(place) for place in places]
                lines += [f"Starting development server at {page}" for page in pages]
        lines += [f"Not starting {name}: it is routed, and not in 'plugins'" for name in unserved]
        if not self._options["use_worker"]:
            lines.append(
                "Starting no worker here; start some with 'manage.py runworker' (layer "
                f"{guest.boot.layer_url})"
            )
        text = started.sub(lambda _: "\n".join(lines), said.getvalue())
        self.stdout.write(text, ending="")
        self.stdout.flush()


def _page(place: str) -> str:
    return place if place.startswith("unix:") else f"{place}/"


def _at(place: str) -> str:
    return place if place.startswith("on ") else f"at {place}"


def _watch(sender: BaseReloader, **_: Any) -> None:
    """Have the gateway's file of settings watched as well."""
    from gateway.core.project import find_project  # noqa: PLC0415 - as above
    from gateway.core.sources import find_file  # noqa: PLC0415 - as above

    found = find_file((Path.cwd(), find_project().directory))
    if found is not None:
        sender.watch_dir(found.parent, found.name)
