"""A Django project that does what the READMEs of the plugins say, and a gateway that serves it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.cli.toy import wait_until
from tests.house.serving import stop

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

SETTINGS = """
SECRET_KEY = "tests only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "routing"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django_gateway"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
CHANNEL_LAYERS = {"default": {"ROUTING": "routing.routing"}}
"""
PEOPLE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
User.objects.create(username="alice", first_name="Alice", last_name="Liddell")
"""


class Site:
    """One project and its gateway; the plugin ``name`` alone is served."""

    def __init__(self, folder: Path, name: str, *settings: str) -> None:
        self.folder = folder
        self._output = folder / "output"
        self._name = name
        self._settings = settings
        (block,) = re.findall(
            r"```python\n(.*?)```",
            (EXAMPLES / f"gateway-{name}" / "README.md").read_text(),
            re.DOTALL,
        )
        (folder / "settings.py").write_text(SETTINGS)
        (folder / "routing.py").write_text(f"{block}\nurlpatterns = []\n")
        (folder / "manage.py").write_text(
            'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")\n'
        )

    def __enter__(self) -> Self:
        env = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY")}
        env |= {"DJANGO_SETTINGS_MODULE": "settings", "XDG_RUNTIME_DIR": str(self.folder)}
        if "get_user_model" in (self.folder / "routing.py").read_text():
            subprocess.run([sys.executable, "-c", PEOPLE], cwd=self.folder, env=env, check=True)
        words = [part for setting in self._settings for part in ("--set", setting)]
        with self._output.open("w") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "--plugins", self._name, *words],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
            )
        try:
            wait_until(
                lambda: "again to stop at once" in self.said() or self._process.poll() is not None,
                30,
                self.said,
            )
            assert self._process.poll() is None, self.said()
        except BaseException:
            stop(self._process)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._process)

    def said(self) -> str:
        """What the gateway and its workers printed so far."""
        return self._output.read_text()
