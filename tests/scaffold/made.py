"""Projects as authors have them: written, installed with pip into an environment, and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

from gateway.scaffold import new_plugin

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = """
SECRET_KEY = "tests only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "routing"
INSTALLED_APPS = ["django_gateway"]
CHANNEL_LAYERS = {"default": {"ROUTING": "routing.routing"}}
"""


class Made:
    """One project, in a virtual environment that has all of this one's, and the project."""

    def __init__(self, directory: Path, name: str, flavour: str) -> None:
        self.name = name
        self.project = new_plugin(name, flavour, directory / "project")
        self.site = directory / "site"
        environment = directory / "venv"
        venv.create(environment)
        self.python = str(environment / "bin" / "python")
        (lib,) = environment.glob("lib/python*/site-packages")
        ours = [path for path in sys.path if path.endswith("-packages")]
        lines = [f"import site; site.addsitedir({path!r})" for path in ours]
        # As a path too: mypy follows no import hook, which an editable installation may be.
        (lib / "ours.pth").write_text("\n".join([*lines, str(ROOT)]) + "\n")
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet"]
        self.run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "-e", str(self.project))

    def run(self, *command: str) -> str:
        """Run a command in the project; return what it says. AssertionError if it fails."""
        done = subprocess.run(
            command,
            cwd=self.project,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def environ(self) -> dict[str, str]:
        """Return an environment without anything of this process's."""
        foreign = ("GATEWAY", "DJANGO", "PYTEST", "PYTHON")
        found = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        return found | {"XDG_RUNTIME_DIR": str(self.site.parent), "NO_COLOR": "1"}

    def django(self) -> Path:
        """Return a Django project that does what the README says."""
        if not self.site.exists():
            readme = (self.project / "README.md").read_text()
            (block,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
            self.site.mkdir()
            (self.site / "settings.py").write_text(SETTINGS)
            (self.site / "routing.py").write_text(f"{block}\nurlpatterns = []\n")
            (self.site / "manage.py").write_text(
                'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")\n'
            )
        return self.site
