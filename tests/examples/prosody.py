"""A real chat server, and people who use it by a real client; all on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import trustme

from tests.cli.toy import wait_until
from tests.house.serving import free_port, stop, wait_for_listener

PASSWORD = "wonderland"
CONFIG = """
run_as_root = true
daemonize = false
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
certificates = "{folder}"
log = {{ info = "*console" }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "message", "presence", "iq", "offline" }}
modules_disabled = {{ "s2s", "http", "posix" }}
authentication = "internal_plain"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {people} }}
component_ports = {{ {components} }}
component_interfaces = {{ "127.0.0.1" }}
ssl = {{ certificate = "{folder}/chain.pem"; key = "{folder}/key.pem" }}
VirtualHost "localhost"
Component "bot.localhost"
    component_secret = "{secret}"
"""


def missing() -> str:
    """What is not installed, as the reason of a skip; empty where all is."""
    names = [name for name in ("prosody", "prosodyctl", "go-sendxmpp") if not shutil.which(name)]
    return f"there is no {' and no '.join(names)}" if names else ""


class Prosody:
    """A server with alice and bob, and a domain for a bot."""

    secret = "between us"

    def __init__(self, folder: Path) -> None:
        self.people = free_port()
        self.components = free_port()
        self._folder = folder / "prosody"
        self._home = folder / "home"
        self._output = folder / "prosody.log"
        (self._folder / "data").mkdir(parents=True)
        self._home.mkdir()
        certificate = trustme.CA().issue_cert("localhost")
        certificate.private_key_pem.write_to_path(self._folder / "key.pem")
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(self._folder / "chain.pem", append=True)
        self._config = self._folder / "prosody.cfg.lua"
        self._config.write_text(
            CONFIG.format(
                folder=self._folder,
                people=self.people,
                components=self.components,
                secret=self.secret,
            )
        )

    def __enter__(self) -> Self:
        for name in ("alice", "bob"):
            done = subprocess.run(
                ["prosodyctl", "--config", self._config, "register", name, "localhost", PASSWORD],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        with self._output.open("w") as out:
            self._process = subprocess.Popen(
                ["prosody", "--config", self._config, "-F"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
            )
        try:
            for port in (self.people, self.components):
                wait_for_listener(port, self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)

    def _client(self, name: str, *words: str) -> list[str]:
        who = ["-u", f"{name}@localhost", "-p", PASSWORD, "-j", f"localhost:{self.people}"]
        return ["go-sendxmpp", "-n", *who, *words]

    def _environ(self) -> dict[str, str]:
        return os.environ | {"HOME": str(self._home)}

    def says(self, name: str, to: str, text: str) -> None:
        """Send a message."""
        done = subprocess.run(
            self._client(name, to),
            input=text,
            env=self._environ(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @contextlib.contextmanager
    def listening(self, name: str) -> Iterator[Callable[[str], None]]:
        """Have somebody listen; yields what waits until they have heard a text."""
        output = self._folder / f"{name}.heard"
        with output.open("w") as out:
            process = subprocess.Popen(
                self._client(name, "--listen"),
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
            )

        def told() -> str:
            return f"{output.read_text()}\n{self._output.read_text()}"

        try:
            wait_until(lambda: f"{name}@localhost" in self._output.read_text(), 20, told)
            yield lambda text: wait_until(lambda: text in output.read_text(), 20, told)
        finally:
            process.kill()
            process.wait()
