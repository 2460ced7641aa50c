"""A project as `django-admin startproject` makes it, and its ``manage.py runserver``."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.toy import wait_until

ROOT = Path(__file__).parents[2]

FILES = {
    "manage.py": """
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site1.settings")
execute_from_command_line(sys.argv)
""",
    "site1/__init__.py": "",
    "site1/settings.py": """
import os
SECRET_KEY = "developing"
DEBUG = not os.environ.get("PRODUCTION")
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site1.urls"
INSTALLED_APPS = ["django_gateway", "django.contrib.staticfiles", "site1"]
STATIC_URL = "static/"
USE_TZ = True
WSGI_APPLICATION = "nobody.imports.this"
ASGI_APPLICATION = "nor.this"
""",
    "site1/static/site.css": "h1 { color: rgb(1, 2, 3) }\n",
    "site1/urls.py": """
from django.urls import path
from site1 import views
urlpatterns = [
    path("", views.page), path("boom", views.boom), path("meet", views.meet),
    path("stop", views.stop), path("held", views.held),
]
""",
    "site1/views.py": """
import threading
from asgiref.sync import sync_to_async
from django.http import HttpResponse
barrier = threading.Barrier(2, timeout=1)
def page(request):
    print("a view prints", flush=True)
    return HttpResponse("first")
def boom(request):
    raise LookupError("so it goes")
def meet(request):
    barrier.wait()
    return HttpResponse("met")
def stop(request):
    answer = 41
    breakpoint()
    return HttpResponse(str(answer))
async def held(request):
    print("held", flush=True)
    await sync_to_async(threading.Event().wait, thread_sensitive=False)(100)
""",
    "site1/routing.py": """
from django_gateway import Reject, route
def echo(message):
    message.reply(message.text)
def join(message):
    message.accept()
def refuse(message):
    raise Reject(reason="no")
routes = [
    route("websocket.connect", refuse, path="^/no/$"),
    route("websocket.connect", join),
    route("websocket.receive", echo),
]
""",
}
ROUTED = 'CHANNEL_LAYERS = {"default": {"ROUTING": "site1.routing.routes"}}\n'


class Runserver:
    """``manage.py runserver ARGUMENTS``; what it prints; its end."""

    def __init__(
        self,
        project: Path,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        out: int | None = None,
        **environ: str,
    ) -> None:
        self.project = project
        self.output = project / "output"
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PYTEST_", "GATEWAY_")) and key != "DJANGO_SETTINGS_MODULE"
        }
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "runserver", *arguments],
                cwd=project,
                env=clean | {"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(project)} | environ,
                stdin=stdin,
                stdout=file if out is None else out,
                stderr=file if out is None else out,
                text=True,
                start_new_session=True,
                # who runs the tests may have it ignored, as shells do for what is in the background
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, pattern: str, times: int = 1, seconds: float = 15) -> re.Match[str]:
        """The last of so many matches in what it printed; AssertionError with it if none comes."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found[:] = re.finditer(pattern, self.text())
            return len(found) >= times or self.process.poll() is not None

        wait_until(look, seconds, self.text)
        assert len(found) >= times, f"no {pattern!r} in:\n{self.text()}"
        return found[-1]

    def port(self, times: int = 1) -> int:
        """Where it serves, once it does so for the ``times``-th time."""
        found = self.wait_for(r"development server at \w+://\S+:(\d+)/\n(?s:.*?)CONTROL-C\.", times)
        return int(found[1])

    def get(self, path: str, host: str = "127.0.0.1", times: int = 1) -> tuple[int, str]:
        """Status and text of an answer."""
        asked = http.client.HTTPConnection(host, self.port(times), timeout=10)
        with contextlib.closing(asked):
            asked.request("GET", path)
            answer = asked.getresponse()
            return answer.status, answer.read().decode()

    def interrupt(self) -> int:
        """Press Ctrl-C; the exit status."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.wait()

    def wait(self, seconds: float = 12) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs:\n{self.text()}") from None

    def edit(self, name: str, text: str) -> None:
        """Save a file of the project, and wait until the reloader has seen it.

        What is saved before its first look it cannot see: so it is saved again after a while.
        """
        path = self.project / name
        path.write_text(text)
        seen = self.text().count("changed, reloading")
        saved = 0.0

        def look() -> bool:
            nonlocal saved
            if time.monotonic() > saved + 3:
                saved = time.monotonic()
                later = path.stat().st_mtime + 2
                os.utime(path, (later, later))
            return self.text().count("changed, reloading") > seen

        wait_until(look, 15, self.text)

    def end(self) -> None:
        """Leave nothing behind, whatever the test did."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


def make_project(directory: Path) -> Path:
    """Write the project and return where it is."""
    for name, text in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory
