"""One real ``gateway run``: supervisor, gateway with its hub, workers; and its numbers."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from gateway.core.layers.options import LayerOptions
from gateway.core.layers.unix import UnixLayer
from gateway.core.project import default_layer_url

PROJECT = Path(__file__).parent / "project"
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? ([0-9.e+-]+)$", re.MULTILINE)


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something holds; AssertionError if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{condition} did not hold within {seconds} s"
        time.sleep(0.01)


class Served:
    """A running gateway. Use as a context manager: everything it started ends with it."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        workers: int = 1,
        gateways: int = 1,
        open_files: tuple[int, int] | None = None,
        project: Path = PROJECT,
        default_layer: bool = False,
        others: int = 0,
        **environ: str,
    ) -> None:
        """``open_files`` is the soft and the hard limit of those, ``project`` what is served. With
        ``default_layer`` no layer is named: it is where every process of the project looks for
        it, among them the ``others`` that run already.
        """
        self.project = project
        self.socket = folder / "hub.sock"
        where = ["--layer", f"unix://{self.socket}", "--settings", "settings"]
        if default_layer:
            environ["XDG_RUNTIME_DIR"] = str(folder)
            self.socket = Path(default_layer_url(project, environ).removeprefix("unix://"))
            where = []
        self.seen = folder / "seen"
        self.log = folder / "log"
        self._output = self.log.open("wb")
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gateway",
                "run",
                "--plugins",
                "http,websocket",
                "--listen",
                "127.0.0.1:0",
                "--workers",
                str(workers),
                "--gateways",
                str(gateways),
                *where,
                *options,
            ],
            cwd=project,
            env=os.environ
            | {"PYTHONPATH": str(project), "PYTHONUNBUFFERED": "1", "E2E_SEEN": str(self.seen)}
            | environ,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        if open_files is not None:
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, open_files)
        self.port = 0
        self._layer: UnixLayer | None = None
        self._processes = workers + gateways + others

    def __enter__(self) -> Self:
        try:
            wait_until(self._is_up, 15 + 10 * (self._processes > 3))
        except BaseException:
            self.__exit__()
            raise
        return self

    def _is_up(self) -> bool:
        text = self.text()
        assert self._process.poll() is None, text
        found = re.search(r"http://127\.0\.0\.1:(\d+)", text)
        if found is None:
            return False
        self.port = int(found[1])
        # Workers, gateways, and we who ask: each is a process of the layer.
        return self.numbers()["gateway_layer_processes"] == self._processes + 1

    def __exit__(self, *_: object) -> None:
        if self._layer is not None:
            self._layer.close()
            self._layer = None
        try:
            if self._process.poll() is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(10)
        finally:  # the time of the test may be over meanwhile
            self._process.kill()
            self._process.wait()
            self._output.close()

    def stop(self) -> int:
        """Ask it to stop, and return its exit status."""
        if self._layer is not None:
            self._layer.close()
            self._layer = None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(15)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``gateway WORDS`` for it, and return how it went."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", *words, "--layer", f"unix://{self.socket}"],
            cwd=self.project,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "settings"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def text(self) -> str:
        """Everything it printed so far."""
        return self.log.read_text(errors="replace")

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def get(self, path: str, data: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body of a request, whatever the status."""
        try:
            with urllib.request.urlopen(self.url(path), data, timeout=10) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def numbers(self) -> dict[str, float]:
        """Every metric of the gateway process and its hub, by name and labels."""
        if self._layer is None:
            self._layer = UnixLayer(f"unix://{self.socket}", LayerOptions())
        found = {}
        for name, labels, value in SAMPLE.findall(self._layer.metrics_text()):
            found[f"{name}{{{labels}}}" if labels else name] = float(value)
        return found

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of one metric with these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            value
            for series, value in self.numbers().items()
            if series.partition("{")[0] == name and all(label in series for label in wanted)
        )

    def processes(self) -> dict[str, list[int]]:
        """The process ids of gateways, workers and a hub of its own, by what they are."""
        found: dict[str, list[int]] = {"gateway": [], "worker": [], "hub": []}
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for pid in map(int, children.read_text().split()):
            with contextlib.suppress(OSError):
                environ = Path(f"/proc/{pid}/environ").read_bytes()
                role = re.search(rb'"role":"(\w+)"', environ)
                if role is not None:
                    found[role[1].decode()].append(pid)
        return found

    def resident(self, pid: int) -> int:
        """Bytes of resident memory of a process."""
        return _status(pid, "VmRSS")

    def files(self, pid: int) -> list[str]:
        """What the open descriptors of a process are."""
        found = []
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(descriptor.readlink()))
        return found

    @contextlib.contextmanager
    def rise(self, most: int) -> Iterator[None]:
        """Check that no process of it needs more than ``most`` bytes of memory beyond what it
        has now, at any time of the block.
        """
        pids = [pid for group in self.processes().values() for pid in group]
        before = {}
        for pid in pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): the peak is now
            before[pid] = _status(pid, "VmRSS")
        yield
        rises = {pid: _status(pid, "VmHWM") - before[pid] for pid in pids}
        assert max(rises.values()) < most, f"more memory than {most} bytes: {rises}"


def _status(pid: int, key: str) -> int:
    """Bytes that /proc/PID/status names."""
    found = re.search(
        rf"^{key}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1]) * 1024
