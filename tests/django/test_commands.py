"""What the commands of `gateway` say of a Django project."""

import os
import subprocess
import sys

import pytest

from tests.django.developing import ROOT, ROUTED, make_project


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


@pytest.fixture
def gateway(project):
    """Run a command in the project to its end; return status, output and errors."""

    def run(*arguments, **environ):
        clean = {key: value for key, value in os.environ.items() if "GATEWAY" not in key}
        clean.pop("DJANGO_SETTINGS_MODULE", None)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gateway", *arguments],
            cwd=project,
            env=clean | {"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(project)} | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("module", "missing"), [("site2.settings", "site2"), ("site1.setings", "site1.setings")]
)
def test_settings_that_are_nowhere(gateway, module, missing):
    """A misspelt settings module stops the start with one sentence that names it, and status 2."""
    says = (
        f"gateway: Django settings {module}: there is no module '{missing}'; the settings are named"
    )
    for arguments, environ in (
        (("run", "--settings", module), {}),
        (("run",), {"DJANGO_SETTINGS_MODULE": module}),
    ):
        status, _, errors = gateway(*arguments, **environ)
        assert status == 2
        assert errors.startswith(says)
        assert errors.count("\n") == 1


def test_settings_that_import_what_is_nowhere(gateway, project):
    """What the settings themselves miss keeps its traceback, which names their line."""
    with (project / "site1/settings.py").open("a") as out:
        out.write("import site1.nothing\n")
    status, _, errors = gateway("run")
    assert status == 1
    assert "import site1.nothing" in errors


def test_check_says_what_is_routed_and_not_served(gateway, project):
    """`check` names the protocols that have routes, and no plugin that serves them."""
    with (project / "site1/settings.py").open("a") as out:
        out.write(ROUTED)
    with (project / "site1/routing.py").open("a") as out:
        out.write('routes += [route(["longpoll.receive", "sse.receive", "my.own"], echo)]\n')
    line = "# routed, and not served: longpoll, sse; name them in plugins (--plugins)\n"
    assert line in gateway("check")[1]
    status, said, _ = gateway("check", "--plugins", "http,websocket,sse,longpoll")
    assert (status, "not served" in said) == (0, False)


def test_check_has_the_warnings_of_django(gateway, project):
    """`check` has what django_gateway's own checks warn of, and it is no problem."""
    with (project / "site1/settings.py").open("a") as out:
        out.write(ROUTED)
    with (project / "site1/routing.py").open("a") as out:
        out.write('routes += [route("websocket.receive", echo, path="/<room>/")]\n')
    status, said, _ = gateway("check")
    assert status == 0, said
    assert "Write path=path(…), imported from django_gateway.\n" in said
    assert said.count("warning: <route") == 1


def test_check_says_where_the_routing_fails(gateway, project):
    """`check` names the project's line that raised, whoever's code it was in."""
    with (project / "site1/settings.py").open("a") as out:
        out.write(ROUTED)
    (project / "site1/routing.py").write_text(
        "from django.urls import path\nroutes = [path('chat/')]\n"
    )
    status, said, _ = gateway("check")
    assert status == 1
    assert "problem: the application's routing: TypeError: " in said
    assert "'view' (site1/routing.py, line 2)\n" in said


def test_the_supervisor_starts_without_what_it_does_not_need(project):
    """All plugins and the settings are read without Twisted, autobahn's engine, Django's models."""
    code = (
        "import sys\n"
        "from gateway.core import commands\n"
        "started = commands.boot(commands.Options(plugins='email,http,longpoll,mqtt,sse,websocket'))\n"
        "assert started.application is not None\n"
        "heavy = {'twisted', 'OpenSSL', 'autobahn.websocket', 'django.db.models', 'django.http'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=project,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "site1.settings", "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
