"""What the commands print, and with which status they end."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

import pytest

from gateway import __version__ as gateway_version
from gateway.cli import main


@pytest.fixture
def gateway(toys):
    """Run a command to its end; return status and output."""

    def run(*arguments, **environ):
        clean = {key: value for key, value in os.environ.items() if "GATEWAY" not in key}
        clean.pop("DJANGO_SETTINGS_MODULE", None)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "gateway", *arguments],
            cwd=toys / "project",
            env=clean | {"PYTHONPATH": str(toys), "XDG_RUNTIME_DIR": str(toys)} | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    "command", ["run", "worker", "hub", "reload", "plugins", "check", "routes"]
)
def test_help(command, capsys):
    """Each command explains itself, and its options tell their defaults."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert f"usage: gateway {command}" in text
    assert "(default: DJANGO_SETTINGS_MODULE, else what a manage.py" in text


def test_overview(capsys):
    """Help and no arguments at all show the commands, examples and exit statuses."""
    for arguments in (["--help"], []):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        text = capsys.readouterr().out
        assert ended.value.code == 0
        for part in ("commands:", "examples:", "exit status:", "\n  routes ", "\n  mail "):
            assert part in text


def test_version(capsys):
    """--version tells the version."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("gateway 0.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rum"], "gateway: there is no command 'rum'; did you mean run?"),
        (["mial"], "gateway: there is no command 'mial'; did you mean mail?"),
        (["zzz"], "there is no command 'zzz'; there are run, worker, hub"),
        (["run", "--lisen", "8000"], "there is no option '--lisen'; did you mean --listen?"),
        (["run", "--lisen=8000"], "there is no option '--lisen=8000'; did you mean --listen?"),
        (["run", "8000"], "there is no argument '8000'"),
        (["run", "--plugins"], "gateway run: argument --plugins: expected one argument"),
        (["--workers", "2"], "gateway: "),
        (["worker", "--listen", "8000"], "there is no option '--listen'"),
        (["run", "--set", "x"], "gateway: --set 'x': expected table.key=value"),
    ],
)
def test_slips(arguments, says, capsys, monkeypatch, tmp_path):
    """A slip on the command line is told with what was probably meant, and status 2."""
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert says in capsys.readouterr().err


def test_check(gateway, toys):
    """`check` prints every setting with its value and origin, and exits 0 where all is well."""
    (toys / "project" / "gateway.toml").write_text("[toy]\nlisten = ['127.0.0.1:7']\n")
    status, text = gateway(
        "check",
        "--plugins",
        "toy",
        "--set",
        "toy.password=hunter2",
        TOY_SETTINGS='{"workers": {"threads": 2}}',
        GATEWAY_LOG_LEVEL="error",
        GATEWAY_SERVICE_HOST="10.0.0.1",
    )
    assert status == 0
    assert 'plugins = ["toy"]  # --plugins\n' in text
    assert "workers.threads = 2  # toy settings: workers.threads\n" in text
    assert 'log.level = "error"  # GATEWAY_LOG_LEVEL\n' in text
    assert "gateway.toml: toy.listen\n" in text
    assert "workers.async_limit = 1000  # default\n" in text
    assert f"layer: unix://{toys}/gateway-" in text
    assert "warning: GATEWAY_SERVICE_HOST" in text
    assert "hunter2" not in text
    assert text.endswith("0 problems\n")


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (("--set", "toy.listen=nowhere"), {}, "problem: toy.listen: 'nowhere': expected a port"),
        (("--set", "toy.listn=1"), {}, "problem: --set toy.listn: [toy] has no setting 'listn'"),
        (("--set", "log.access=no/log"), {}, "problem: log.access: cannot open 'no/log': No such"),
        ((), {"TOY_ABSENT": "1"}, "problem: no application found"),
        ((), {"TOY_SETTINGS": '{"workers": 3}'}, "problem: toy settings: 'workers' stands outside"),
        ((), {"TOY_SETTINGS": "{"}, "problem: the settings cannot be read: JSONDecodeError"),
    ],
)
def test_check_finds_problems(gateway, arguments, environ, says):
    """`check` names what would stop the start, and exits 1."""
    status, text = gateway("check", "--plugins", "toy", *arguments, **environ)
    assert status == 1
    assert says in text


def test_stats_with_broken_settings(gateway):
    """Settings that cannot be read are told in a line."""
    status, text = gateway("stats", TOY_SETTINGS="{")
    assert status == 2
    assert text.startswith("gateway: the settings cannot be read: JSONDecodeError")


def test_stats_of_nothing(gateway):
    """Where no gateway runs `stats` says so, and ends as `reload` does: the settings are right."""
    status, text = gateway("stats", TOY_SETTINGS="{}")
    assert (status, text.startswith("gateway: no hub answers at ")) == (1, True)
    assert gateway("reload", TOY_SETTINGS="{}")[0] == 1


def test_check_knows_the_limit_of_files(gateway):
    """`check` warns where the connections that settings allow need more files than there may be."""
    status, text = gateway("check", "--plugins", "http", "--set", "http.max_connections=99999999")
    assert status == 0
    assert "warning: http.max_connections = 99999999: that needs 100000199 open files" in text


def test_check_knows_whom_nobody_replaces(gateway):
    """`check` warns of limits of workers where there is no worker to replace."""
    limits = ("--set", "workers.max_requests=5", "--set", "workers.max_memory=5")
    for workers, warnings in (("0", 2), ("1", 0), ("none", 0)):
        status, text = gateway("check", "--plugins", "toy", "--workers", workers, *limits)
        assert status == 0
        assert text.count("does not apply: everything runs in one process") == warnings


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--gateways", "2", "--workers", "0"), "(--workers 0) all is one process; run workers"),
        (
            ("--gateways", "2", "--set", "toy.listen=haproxy:tcp:0"),
            "this endpoint of Twisted's itself",
        ),
        (("--gateways", "0"), "--gateways: '0' does not fit"),
        (("--gateways", "two"), "--gateways: 'two' does not fit"),
    ],
)
def test_gateways_that_cannot_be(gateway, options, says):
    """`check` and `run` say why several gateways cannot be, and what to do."""
    status, text = gateway("check", "--plugins", "toy", "--workers", "1", *options)
    assert (status, says in text) == (1, True), text
    status, text = gateway("run", "--plugins", "toy", "--workers", "1", *options)
    assert (status, says in text) == (2, True), text


def test_what_several_gateways_need(gateway, toys):
    """`check` says where several gateways meet: on a hub of their own, or one that runs."""
    options = ("--plugins", "toy", "--gateways", "3", "--layer", f"unix://{toys}/h.sock")
    status, text = gateway("check", *options, "--workers", "1")
    assert status == 0, text
    assert "# gateways: 3 processes on a hub process of their own there" in text
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{toys}/h.sock")
        sock.listen()
        status, text = gateway("check", *options, "--workers", "none")
    assert status == 0, text
    assert "# gateways: 3 processes on the hub that runs there" in text


def test_reload_of_nothing(gateway, toys):
    """`reload` says where it has looked for a gateway, and exits 1."""
    status, text = gateway("reload")
    assert status == 1
    assert f"no gateway runs that listens at {toys}/gateway-" in text
    assert "as the user, in the project and with the --layer of its 'gateway run'" in text


def test_plugins(gateway, toys):
    """`plugins` shows name, version, origin and summary of all, and imports those asked for."""
    (toys / "project" / "own").mkdir()
    (toys / "project" / "own" / "single.py").write_text('"""A single one."""\n1 / 0')
    status, text = gateway("plugins", "--plugins", "toy", "--plugins-dir", "own")
    assert status == 0, text
    rows = [re.split(r"  +", line) for line in text.splitlines()]
    assert rows[0] == ["plugin", "version", "from", "served", "what it is"]
    assert ["toy", "1.5", "gateway-toy", "yes", "A toy: one line in, one line out."] in rows
    assert ["bad", "1.5", "gateway-toy", "no", "Requires toy and fails to start."] in rows
    assert ["single", "-", "own/single.py", "no", "A single one."] in rows
    assert ["websocket", gateway_version, "gateway", "no"] in [row[:4] for row in rows]
    assert text.endswith("served: toy  # --plugins\n")


def test_plugins_that_are_broken(gateway, toys):
    """`plugins` says of each that is asked for and cannot be had which it is and why, and exits 1."""
    (toys / "project" / "own").mkdir()
    (toys / "project" / "own" / "http.py").touch()
    asked = ("--plugins", "toy,needy,misspelt,zzz", "--plugins-dir", "own")
    status, text = gateway("plugins", *asked)
    assert status == 1
    assert re.search(r"^toy +1.5 +gateway-toy +yes ", text, re.MULTILINE)
    assert re.search(r"^needy +1.5 +gateway-toy +broken$", text, re.MULTILINE)
    for problem in (
        "plugin 'needy': needy cannot be imported: No module named 'no_such_library'",
        "install it with: pip install 'gateway-toy[needy]'\n",
        "plugin 'misspelt': misspelt implements 'gateway_plugins', which is no hook; did you mean",
        "--plugins: there is no plugin 'zzz'; installed are ",
        "own/http.py: 'http' is gateway ",
    ):
        assert problem in text, text
    assert text.count("problem: ") == 4


def test_plugins_with_unmet_requirements(gateway, toys):
    """`plugins` says of one that can be imported what its distribution requires in vain."""
    metadata = toys / "gateway_toy-1.5.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + "Requires-Dist: msgspec>=99\n")
    for arguments in (("--plugins", "toy"), ("toy",)):
        status, text = gateway("plugins", *arguments)
        assert status == 1
        assert re.search(r"problem: .*gateway-toy requires msgspec>=99, and msgspec ", text)


def test_one_plugin(gateway, toys):
    """`plugins NAME` shows manual, origin, messages, replies, settings with origins and reasons."""
    status, text = gateway("plugins", "toy", "--plugins", "needy", GATEWAY_TOY_FAIL="often")
    assert status == 0, text
    assert text.startswith("toy 1.5\n  A toy: one line in, one line out.\n\nfrom ")
    for line in (
        "from      gateway-toy 1.5",
        f"module    toy ({toys}/toy.py)",
        "served    no; add it to --plugins or 'plugins'",
        "requires  no other plugin",
        "hooks     gateway_plugin",
        "commands  none",
        "reads     no channel",
        "listens   0",
        "  toy.receive",
        "      text",
        '  toy.listen = ["0"]  # default',
        "      Where toys listen.",
        '  toy.fail = "often"  # GATEWAY_TOY_FAIL',
    ):
        assert f"{line}\n" in text, (line, text)
    status, text = gateway("plugins", "bad", "--plugins", "bad")
    assert "served    yes (--plugins)\nrequires  toy\n" in text
    for name, says in (("tyo", "no plugin 'tyo'; did you mean 'toy'?"), ("needy", "no_such_lib")):
        status, text = gateway("plugins", name)
        assert (status, says in text) == (2, True), text


def test_hooks_are_told(gateway):
    """With `log.hooks` a start tells which plugin implements what, and what came of each call."""
    asked = ("--set", "log.hooks=true", "--workers", "none")
    status, text = gateway("run", *asked, "--plugins", "toy,needy")
    assert status == 2
    for line in (
        r"application 'toyapp' \(toyapp\) implements gateway_application\n",
        r"application 'toyapp' \(toyapp\): gateway_application returned <toyapp.App object .*> after",
        r"plugin 'toy' \(toy\) implements gateway_plugin\n",
        r"plugin 'toy' \(toy\): gateway_plugin returned <class 'toy.ToyPlugin'> after \d+\.\d ms\n",
    ):
        assert re.search(f"INFO gateway.hooks: {line}", text), (line, text)
    assert "gateway: plugin 'needy': needy cannot be imported" in text
    _, text = gateway("run", *asked[2:], "--plugins", "toy,needy")
    assert "gateway.hooks" not in text
    _, text = gateway("run", *asked, "--plugins", "bad")
    assert text.count("plugin 'bad' (bad): gateway_plugin returned") == 1


def test_routes(gateway):
    """`routes` shows which consumer gets what."""
    assert gateway("routes") == (
        0,
        "channel      filters  consumer\ntoy.receive  text=.*  toys.play\n",
    )


def test_routes_without_application(gateway):
    """Where there is no application, `routes` says so with status 2."""
    status, text = gateway("routes", TOY_ABSENT="1")
    assert status == 2
    assert text.startswith("gateway: no application found")


def test_worker_without_application(gateway):
    """Where there is no application, a worker does not start, with status 2."""
    status, text = gateway("worker", TOY_ABSENT="1")
    assert status == 2
    assert "no application found" in text


def test_hub_needs_a_unix_layer(gateway):
    """A hub serves a Unix socket and nothing else."""
    status, text = gateway("hub", "--layer", "redis://x")
    assert status == 2
    assert "a hub's socket is an absolute path, unix:///path" in text


def test_hub_for_memory_is_the_projects_own(gateway, toys):
    """The names of a project's hub do not depend on who asks: worker, hub and run agree."""
    _, text = gateway("check", "--plugins", "toy")
    url = next(line for line in text.splitlines() if line.startswith("# layer: "))
    _, again = gateway("check", "--plugins", "toy", "--layer", "memory://", "--workers", "none")
    assert url in again
