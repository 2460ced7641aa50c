"""What the commands print, and with which status they end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

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
        for part in ("commands:", "examples:", "exit status:", "\n  routes "):
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
    ],
)
def test_check_finds_problems(gateway, arguments, environ, says):
    """`check` names what would stop the start, and exits 1."""
    status, text = gateway("check", "--plugins", "toy", *arguments, **environ)
    assert status == 1
    assert says in text


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


def test_plugins(gateway):
    """`plugins` shows name, version, origin, manual and settings with their descriptions."""
    status, text = gateway("plugins", "--plugins", "toy")
    assert status == 0
    assert "toy  (gateway-toy 1.5, toy; --plugins)\n  A toy: one line in, one line out." in text
    assert 'toy.listen = ["0"]\n        Where toys listen.' in text
    assert "http  (gateway.plugins.http; not asked for)" in text


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
