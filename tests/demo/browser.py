"""A real browser, driven by the DevTools protocol over one WebSocket a page."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")


class NotNowError(AssertionError):
    """The browser could not do it; between two documents it can do nothing."""


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol and return its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=10))
            if answer.get("id") == number:
                if "error" in answer:
                    raise NotNowError(answer["error"])
                return answer["result"]

    def run(self, script: str) -> Any:
        """Return the value of an expression, a promise's too."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 8) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while True:
            with suppress(NotNowError):
                if self.run(condition):
                    return
            assert time.monotonic() < end, f"not true within {seconds} s: {condition}"
            time.sleep(0.05)


class Browser:
    """Chromium without a window, with a profile of its own, and more options if need be."""

    def __init__(self, profile: Path, *options: str) -> None:
        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [
                PROGRAM,
                "--headless=new",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "--window-size=900,720",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                *options,
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        said = profile / "DevToolsActivePort"
        end = time.monotonic() + 15
        while not (said.exists() and said.read_text().count("\n")):
            assert self._process.poll() is None, "the browser ended at once"
            assert time.monotonic() < end, "the browser does not start"
            time.sleep(0.05)
        self.port = int(said.read_text().split()[0])

    @contextmanager
    def open(self, url: str) -> Iterator[Page]:
        """A page in a new tab, once it is loaded."""
        request = urllib.request.Request(f"{self._address('http')}/json/new?{url}", method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            target = json.load(answer)["id"]
        with connect(f"{self._address('ws')}/devtools/page/{target}", max_size=None) as socket:
            page = Page(socket)
            page.wait("location.href !== 'about:blank' && document.readyState === 'complete'")
            yield page

    def _address(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
