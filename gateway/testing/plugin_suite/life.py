"""How a plugin starts, stops and tells of itself: on real sockets, where it listens."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.testing.plugin_suite.voice import Voice, matches, shown
from gateway.testing.rig import Rig
from gateway.testing.stage import Staged

CORES: Final = frozenset({"gateway_unsettled", "gateway_errors_total", "gateway_relayed"})
"""Metrics of the core's that say of no plugin that they are about it."""


class Life(Voice):
    """The checks of a plugin's life."""

    def staged(self, **options: Any) -> Staged:
        """Return the plugin, to be started on real sockets."""
        where = {"listen": f"{self._kind}127.0.0.1:0"}
        return Staged(self.plugin, self.config, **{**where, **self.settings, **options})

    @property
    def _kind(self) -> str:
        """What its endpoints begin with."""
        return "udp:" if self.plugin.datagrams else ""

    def dial(self, staged: Staged) -> socket.socket:
        """Return a real connection to it."""
        return staged.connect()

    def _need_listening(self) -> None:
        if "listen" not in self.plugin.Config.__struct_fields__:
            self.skip("it has no setting listen: it listens nowhere itself")

    def test_start_stop_start(self) -> None:
        """What was stopped can be started again, serves, and leaves no socket open."""
        self._need_listening()
        with self.staged():
            pass  # what a process opens once, and keeps, is open now
        before = open_sockets()
        for _ in range(2):
            with self.staged() as staged:
                client = self.dial(staged)
                for turn in (*self.opening, self.conversation[0]):
                    client.sendall(turn.sends)
                    for kind, _ in turn.expected():
                        heard = staged.hear()
                        self.that(heard.kind == kind, f"the worker hears {heard.kind}, not {kind}")
                        heard.settle(turn.outcome, *turn.replies)
                    came = b""
                    while not matches(turn.answer, self.normal(came)):
                        piece = client.recv(65536)
                        self.that(piece, f"over a socket the client hears {shown(came)}")
                        came += piece
            left = open_sockets() - before
            self.that(left <= 0, f"after its stop {left} sockets are open that were not before")

    def test_failed_start(self) -> None:
        """A plugin that cannot listen where it should says where, and leaves nothing."""
        self._need_listening()
        with self.staged():
            pass
        kind = socket.SOCK_DGRAM if self.plugin.datagrams else socket.SOCK_STREAM
        with socket.socket(type=kind) as taken:
            taken.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                taken.listen()
            port = taken.getsockname()[1]
            before = open_sockets()
            staged = self.staged(listen=f"{self._kind}127.0.0.1:{port}", bound=False)
            try:
                with staged:
                    pass
            except Exception as error:  # noqa: BLE001 - any is a failed start
                text = str(error)
                self.that(str(port) in text, f"its failed start does not say where: {error!r}")
            else:
                raise AssertionError("it starts although its port is taken: start() must raise")
            left = open_sockets() - before
            self.that(left <= 0, f"a failed start leaves {left} sockets open")

    # ------------------------------------------------ what it tells

    def test_metrics(self) -> None:
        """Messages and connections are counted by its name, and all of its own begins with it."""
        name = self.plugin.name
        with self.rig() as rig:
            client = self.connect(rig)
            told: dict[str, int] = {}
            for turn in self.turns:
                for heard in self.take_turn(rig, client, turn):
                    told[heard.kind] = told.get(heard.kind, 0) + 1
            found = rig.metrics.snapshot()
            for kind, count in told.items():
                series = f'gateway_messages_total{{kind="{kind}",plugin="{name}"}}'
                counted = found.get(series)
                self.that(counted == count, f"{series} is {counted}; the worker heard {count}")
            client.cut()
            self.finish(rig)
            rig.wait(lambda: not self._open(rig))
            self.that(not self._open(rig), "connections are counted that have ended")
            strangers = [one for one in found if not self._is_known(rig, one)]
            self.that(
                not strangers,
                f"metrics that are not named gateway_{name}_…: {', '.join(strangers)}",
            )

    def _open(self, rig: Rig) -> float:
        return rig.metrics.snapshot()[f'gateway_connections{{plugin="{self.plugin.name}"}}']

    def _is_known(self, rig: Rig, series: str) -> bool:
        own = tuple(f"gateway_{name}_" for name in rig.gateway.server.plugins)
        labelled = 'plugin="' in series or 'where="' in series
        return series.startswith("gateway_") and (
            series.startswith(own) or labelled or series.partition("{")[0] in CORES
        )

    def test_health(self) -> None:
        """Its facts are there while it runs, and say that it is well."""
        with self.rig() as rig:
            facts = rig.call(rig.plugin.health)
            self.that(facts.get("ok") is True, f"health() of the started plugin is {facts!r}")
            try:
                msgspec.json.encode(facts)
            except (TypeError, ValueError) as error:
                raise AssertionError(f"health() is no JSON: {error}") from None

    def test_settings_are_described(self) -> None:
        """Every setting says what it is for, by ``Meta(description=…)``."""
        for field in msgspec.inspect.type_info(self.plugin.Config).fields:  # type: ignore[attr-defined] # a StructType
            extra = getattr(field.type, "extra_json_schema", None) or {}
            self.that(extra.get("description"), f"setting {field.name!r} has no description")


def open_sockets() -> int:
    """Return how many sockets this process has open."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            count += str(descriptor.readlink()).startswith("socket:")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return count
