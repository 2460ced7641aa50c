"""``manage.py runworker``: one worker, as ``gateway worker`` runs it."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway.core.errors import GatewayError


class Command(BaseCommand):
    """Run one worker until SIGTERM or SIGINT."""

    help = "Runs one worker: takes messages from the channel layer and runs views and consumers."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ``--threads``, ``--layer`` and ``--set``."""
        parser.add_argument(
            "--threads", type=int, help="threads for synchronous consumers (default: 4)"
        )
        parser.add_argument(
            "--layer", metavar="URL", help="channel layer (default: the project's own hub)"
        )
        parser.add_argument(
            "--only-channels",
            metavar="A,B",
            action="append",
            default=[],
            help="take these channels of the routing table alone, * for any characters; repeatable",
        )
        parser.add_argument(
            "--exclude-channels",
            metavar="A,B",
            action="append",
            default=[],
            help="leave these to other workers; repeatable",
        )
        parser.add_argument(
            "--set",
            metavar="TABLE.KEY=VALUE",
            action="append",
            default=[],
            dest="assignments",
            help="set anything, as in --set workers.async_limit=100; repeatable",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the worker; exit with its status."""
        from gateway.core.boot import Options  # noqa: PLC0415 - manage.py help needs none of it
        from gateway.core.commands import worker  # noqa: PLC0415 - as above

        assignments = list(options["assignments"])
        if options["threads"] is not None:
            assignments.append(f"workers.threads={options['threads']}")
        try:
            status = worker(
                Options(
                    layer=options["layer"],
                    assignments=tuple(assignments),
                    settings=options["settings"],
                    only_channels=tuple(options["only_channels"]),
                    exclude_channels=tuple(options["exclude_channels"]),
                    log_level="debug" if options["verbosity"] > 1 else None,
                )
            )
        except GatewayError as error:
            raise CommandError(str(error), returncode=2) from None
        if status:
            sys.exit(status)
