"""``manage.py runserver``: what it prints and takes, whom it serves, how it starts anew and ends."""

import concurrent.futures
import http.client
import io
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from django import get_version
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from django_gateway.management.commands import runserver as runserver_command
from tests.certificates import Authority
from tests.cli.toy import install, refused, wait_until
from tests.django.developing import FILES, ROUTED, Runserver, make_project
from tests.house.serving import free_port

pytestmark = pytest.mark.timeout(40)  # each starts Python several times, on a busy machine


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


@pytest.fixture
def runserver(project):
    """Start it: ``runserver("--noreload", PRODUCTION="1")``; a free port unless one is named."""
    running = []

    def start(*arguments, **environ):
        running.append(Runserver(project, *arguments, **environ))
        return running[-1]

    yield start
    for one in running:
        one.end()


def add(project, name, text):
    with (project / name).open("a") as out:
        out.write(text)


WORDS = r"""Watching for file changes with StatReloader
Performing system checks\.\.\.

System check identified no issues \(0 silenced\)\.
\w+ \d\d, \d{4} - \d\d:\d\d:\d\d
Django version VERSION, using settings 'site1\.settings'
Starting development server at http://127\.0\.0\.1:\d+/
Starting websocket on http
Quit the server with CONTROL-C\.

WARNING: This is a development server\. Do not use it in a production setting\. .*
For more information on production servers see: https://docs\.djangoproject\.com/\S+
"""


def test_it_says_what_django_says(runserver):
    """It starts with Django's own lines, and a line for each further protocol between them."""
    running = runserver("0")
    running.wait_for("production servers see: .*\n")
    assert re.fullmatch(WORDS.replace("VERSION", re.escape(get_version())), running.text())


def test_what_a_newer_django_says(monkeypatch):
    """Django 6 says which kind of server its own is. This one is another, in the same place."""

    def on_bind(self, port):
        self.stdout.write(f"Starting WSGI development server at http://[::1]:{port}/\nQuit.")

    class Running:
        places = (("http", ["http://127.0.0.1:1"]), ("websocket", ["on http"]))

    monkeypatch.setattr(runserver_command.RunserverCommand, "on_bind", on_bind)
    for bound, page in ((True, "http://[::1]:8000/"), (False, "http://127.0.0.1:1/")):
        said = io.StringIO()
        command = runserver_command.Command(stdout=said)
        command.on_bind(8000)
        command._options = {"use_worker": True}
        command._say(Running(), bound=bound)
        assert said.getvalue() == (
            f"Starting development server at {page}\nStarting websocket on http\nQuit.\n"
        )


def test_a_project_that_sets_nothing(runserver):
    """Views, what they print, static files and the debug pages work with no setting of ours."""
    running = runserver("0")
    assert running.get("/") == (200, "first")
    assert running.get("/static/site.css") == (200, FILES["site1/static/site.css"])
    status, text = running.get("/nothing?really=nothing")
    assert status == 404
    assert "Using the URLconf defined in" in text
    status, text = running.get("/boom")
    assert status == 500
    assert "LookupError at /boom" in text
    assert running.get("/static/nothing.css")[0] == 404
    running.wait_for("a view prints\n")
    stamp = r"\[\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d\] "
    running.wait_for(rf'\n{stamp}"GET / HTTP/1\.1" 200 5\n')
    running.wait_for(rf'\n{stamp}"GET /nothing\?really=nothing HTTP/1\.1" 404 \d+\n')
    running.wait_for(rf'\n{stamp}"GET /boom HTTP/1\.1" 500 \d+\n')
    running.wait_for(r"Internal Server Error: /boom\nTraceback")


NO_REQUESTS = {
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": '"-" 400',  # TLS
    b"nonsense\r\n\r\n": '"-" 400',
    b"GET ?a=b HTTP/1.1\r\nHost: x\r\n\r\n": '"GET - HTTP/1.1" 400',
    b"GET /a?b HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n": '"GET /a HTTP/1.1" 400',
    b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n": '"GET / HTTP/1.1" 400',
}


def test_what_is_no_request(runserver):
    """What is refused before it is a request has its line, too, and forges none."""
    running = runserver("0", "--noreload")
    for number, (data, line) in enumerate(NO_REQUESTS.items(), 1):
        with socket.create_connection(("127.0.0.1", running.port()), timeout=10) as sock:
            sock.sendall(data)
            assert sock.recv(100).startswith(b"HTTP/1.1 400 ")
        said = running.wait_for(r'(?m)^\[.*\] (".*" 400) \d+$', number)
        assert said[1] == line
    assert "\x1b" not in running.text()
    assert "Traceback" not in running.text()


def test_websockets(project, runserver):
    """A WebSocket is served, and what becomes of it has lines as Channels 1 wrote them."""
    add(project, "site1/settings.py", ROUTED)
    running = runserver("0")
    with connect(f"ws://127.0.0.1:{running.port()}/yes/?a=b") as talk:
        talk.send("hello")
        assert talk.recv(timeout=10) == "hello"
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{running.port()}/no/")
    running.wait_for(r"\] WebSocket CONNECT /yes/\?a=b \[127\.0\.0\.1:\d+\]\n")
    running.wait_for(r"\] WebSocket DISCONNECT 1000 /yes/\?a=b \[127\.0\.0\.1:\d+\]\n")
    running.wait_for(r"\] WebSocket REJECT 403 /no/ \[127\.0\.0\.1:\d+\]\n")
    assert "CONNECT /no/" not in running.text()


def test_what_is_routed_and_not_served(project, runserver):
    """Routes of a protocol that is not among the plugins have a line, since they hear nothing."""
    add(project, "site1/settings.py", ROUTED)
    add(project, "site1/routing.py", 'routes += [route("sse.receive", echo)]\n')
    running = runserver("0", "--noreload")
    running.wait_for("Starting websocket on http\nNot starting sse: it is routed, and not in 'plug")
    assert "mail" not in running.text()


def test_mail_that_leaves_the_machine(project, runserver):
    """It is said that mail is delivered to real people, where nothing in the settings says how."""
    add(
        project,
        "site1/settings.py",
        "GATEWAY = {'plugins': ['email'], 'email': {'listen': []}}\n"
        "DEFAULT_FROM_EMAIL = 'shop@example.com'\n",
    )
    running = runserver("0", "--noreload")
    running.wait_for(r"WARNING: email\.smarthosts has no server yet: mail goes from this machine")
    assert "email.sender is empty" not in running.text()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_either_loop(project, runserver, loop):
    """The gateway runs on a thread that is not the main one, on uvloop and on asyncio's loop."""
    if loop == "asyncio":
        add(project, "site1/settings.py", "import sys\nsys.modules['uvloop'] = None\n")
    else:
        pytest.importorskip("uvloop")
    add(
        project,
        "site1/views.py",
        "def page(request):\n"
        "    from twisted.internet import reactor\n"
        "    return HttpResponse(type(reactor._asyncioEventloop).__module__)\n",
    )
    running = runserver("0")
    assert running.get("/")[1].startswith(loop)
    assert ("uvloop is not installed" in running.text()) == (loop == "asyncio")
    assert running.interrupt() == 0


# ---------------------------------------------------------------- where it listens

PLACES = {
    "0": ("http://127.0.0.1", "127.0.0.1"),
    "127.0.0.1:0": ("http://127.0.0.1", "127.0.0.1"),
    "0:0": ("http://0.0.0.0", "127.0.0.1"),
    "0.0.0.0:0": ("http://0.0.0.0", "127.0.0.1"),
    "localhost:0": ("http://localhost", "127.0.0.1"),
    "[::1]:0": ("http://[::1]", "::1"),
    "[::]:0": ("http://[::]", "127.0.0.1"),
    "-6 0": ("http://[::1]", "::1"),
}


@pytest.mark.parametrize("arguments", PLACES)
def test_addresses(runserver, arguments):
    """Whatever Django takes for an address and a port is served, and told in Django's words."""
    told, host = PLACES[arguments]
    if ":" in host + told[7:] and not _has_ipv6():
        pytest.skip("no IPv6 on this machine")
    running = runserver("--noreload", "--skip-checks", *arguments.split())
    assert running.get("/", host) == (200, "first")
    running.wait_for(rf"server at {re.escape(told)}:\d+/\n")
    assert "system checks" not in running.text()
    assert "Watching" not in running.text()


def _has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


WRONG = {
    "*:8000": 'CommandError: "*:8000" is not a valid port number or address:port pair.',
    "eighty": 'CommandError: "eighty" is not a valid port number or address:port pair.',
    "192.0.2.1:8000": "Error: That IP address can't be assigned to.",
    "-6 127.0.0.1:8000": 'CommandError: "127.0.0.1" is not a valid IPv6 address.',
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_addresses(runserver, arguments):
    """An address that is none ends it, in Django's words, with status 1."""
    running = runserver(*arguments.split())
    assert running.wait() == 1
    assert running.text().endswith(WRONG[arguments] + "\n")


def test_port_in_use(runserver):
    """A port that somebody has ends it, in Django's words."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = runserver(str(taken.getsockname()[1]))
        assert running.wait() == 1
    assert running.text().endswith("\nError: That port is already in use.\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen anywhere")
def test_port_of_others(runserver):
    """A port that is not for this user ends it, in Django's words."""
    running = runserver("80")
    assert running.wait() == 1
    assert running.text().endswith("\nError: You don't have permission to access that port.\n")


def test_places_of_the_settings(project, runserver):
    """Without an address http listens where the settings say; other protocols always do."""
    install(project)
    add(
        project,
        "site1/settings.py",
        "GATEWAY = {'plugins': ['toy', 'websocket'], 'toy': {'listen': ['127.0.0.1:0']},"
        " 'http': {'listen': ['127.0.0.1:0', 'unix:./site.sock']}}\n",
    )
    running = runserver("--noreload", PYTHONPATH=f"{project}:{pathlib.Path(__file__).parents[2]}")
    running.wait_for(
        r"Starting toy at toy://127\.0\.0\.1:\d+\n"
        r"Starting development server at http://127\.0\.0\.1:\d+/\n"
        rf"Starting development server at unix:{re.escape(str(project))}/site\.sock\n"
        r"Starting websocket on http\n"
        r"Quit the server with CONTROL-C\.\n"
    )
    assert running.get("/") == (200, "first")


def test_an_address_is_https(project, runserver):
    """An address on the command line goes before ``http.listen``; other protocols keep theirs."""
    install(project)
    add(
        project,
        "site1/settings.py",
        "GATEWAY = {'plugins': ['toy'], 'toy': {'listen': ['127.0.0.1:0']},"
        " 'http': {'listen': 'systemd:'}}\n",
    )
    running = runserver("0", PYTHONPATH=f"{project}:{pathlib.Path(__file__).parents[2]}")
    assert running.get("/") == (200, "first")
    running.wait_for(r"Starting toy at toy://127\.0\.0\.1:\d+\n")


def test_tls(project, runserver):
    """Where the settings say so, development has TLS."""
    authority = Authority(project)
    certificate = authority.issue("server", "127.0.0.1")
    add(
        project,
        "site1/settings.py",
        "GATEWAY = {'http': {'listen': 'tls:127.0.0.1:0'},"
        f" 'tls': {{'certificate': {certificate!r}}}}}\n",
    )
    running = runserver()
    port = int(running.wait_for(r"server at https://127\.0\.0\.1:(\d+)/")[1])
    asked = http.client.HTTPSConnection("127.0.0.1", port, context=authority.client(), timeout=10)
    asked.request("GET", "/")
    assert asked.getresponse().read() == b"first"
    asked.close()


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("several", [True, False])
def test_threads(runserver, several):
    """Requests are run beside each other; one by one with ``--nothreading``."""
    running = runserver("0", "--noreload", *([] if several else ["--nothreading"]))
    running.port()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        statuses = [pool.submit(running.get, "/meet") for _ in range(2)]
        assert {one.result()[0] for one in statuses} == {200 if several else 500}


STATIC = {
    "DEBUG": ([], {}, 200),
    "--nostatic": (["--nostatic"], {}, 404),
    "production": ([], {"PRODUCTION": "1"}, 404),
    "--insecure": (["--insecure"], {"PRODUCTION": "1"}, 200),
    "both": (["--insecure", "--nostatic"], {"PRODUCTION": "1"}, 404),
}


@pytest.mark.parametrize("case", STATIC)
def test_static_files(runserver, case):
    """Static files are served as Django serves them: with DEBUG, or ``--insecure``."""
    arguments, environ, status = STATIC[case]
    running = runserver("0", "--noreload", *arguments, **environ)
    assert running.get("/static/site.css")[0] == status
    assert running.get("/") == (200, "first")


def test_without_staticfiles(project, runserver):
    """Where staticfiles is not installed there are neither static files nor their options."""
    settings = FILES["site1/settings.py"].replace('"django.contrib.staticfiles", ', "")
    (project / "site1/settings.py").write_text(settings)
    assert runserver("0", "--nostatic").wait() == 2
    running = runserver("0", "--noreload")
    assert running.get("/static/site.css")[0] == 404


def test_colours(project, runserver):
    """On a terminal a line is coloured by its status, and never with ``--no-color``."""
    ours, theirs = pty.openpty()
    for arguments in ([], ["--no-color"]):
        running = runserver("0", *arguments, out=theirs, DJANGO_COLORS="dark")
        copy = threading.Thread(target=_copy, args=(ours, running.output))
        copy.start()
        running.get("/")
        running.get("/boom")
        running.get("/")
        running.wait_for(r'"GET /boom (?s:.*)"GET / HTTP')
        running.interrupt()
        os.write(theirs, b"\0")
        copy.join()
        found = re.findall(r'\[[^\n]*\] (\x1b\[[;\d]*m|)"GET ', running.text())
        assert len(found) == 3
        assert len(set(found)) == (1 if arguments else 2), found
        assert ("\x1b" in running.text()) == (not arguments)
    os.close(theirs)
    os.close(ours)


def _copy(terminal, output):
    """Copy what a terminal shows to a file, until a NUL."""
    with output.open("wb", buffering=0) as out:
        data = b""
        while not data.endswith(b"\0"):
            data = os.read(terminal, 4096)
            out.write(data.replace(b"\r", b"").rstrip(b"\0"))


def test_production_warning(runserver):
    """DJANGO_RUNSERVER_HIDE_WARNING hides what it hides of Django's."""
    running = runserver("0", "--noreload", DJANGO_RUNSERVER_HIDE_WARNING="true")
    running.port()
    running.get("/")
    assert "WARNING" not in running.text()


def test_migrations(project, runserver):
    """Migrations that wait are told, as Django tells it."""
    add(
        project,
        "site1/settings.py",
        "INSTALLED_APPS.append('django.contrib.contenttypes')\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'db'}}\n",
    )
    running = runserver("0", "--noreload")
    running.port()
    running.wait_for(r"You have \d unapplied migration\(s\)\.")


def test_noworker(project, runserver):
    """``--noworker`` serves the protocols alone, on a hub that ``runworker`` finds."""
    add(project, "site1/settings.py", ROUTED)
    running = runserver("0", "--noworker")
    running.wait_for(r"Starting no worker here; .*'manage\.py runworker' \(layer unix:///.*\)\n")
    worker = subprocess.Popen(
        [sys.executable, "manage.py", "runworker"],
        cwd=project,
        env={key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        | {
            "PYTHONPATH": str(pathlib.Path(__file__).parents[2]),
            "XDG_RUNTIME_DIR": str(project),
            "DJANGO_SETTINGS_MODULE": "site1.settings",
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        assert running.get("/") == (200, "first")
        assert "a view prints" not in running.text()
    finally:
        worker.terminate()
        assert worker.wait(15) == 0
    assert running.interrupt() == 0
    assert not list(project.glob("gateway-*.sock"))


def test_the_order_of_apps(project, runserver):
    """Behind another app that has a runserver ours is not found: the start and the check say so."""
    settings = FILES["site1/settings.py"].replace('"django_gateway", ', "")
    (project / "site1/settings.py").write_text(settings)
    add(project, "site1/settings.py", "INSTALLED_APPS.append('django_gateway')\n")
    running = runserver("0", "--noreload")
    running.wait_for(
        r"\(gateway\.W001\) manage\.py runserver is that of django\.contrib\.staticfiles, which serves "
        r"HTTP alone and runs no consumers\n\s+HINT: Put 'django_gateway' before it in INSTALLED_APPS\."
    )


# ---------------------------------------------------------------- code that changes


def test_reload(project, runserver):
    """Code that changed serves at once, at the same port; a mistake is shown and waited out."""
    add(project, "site1/settings.py", ROUTED)
    port = free_port()
    running = runserver(str(port))
    assert running.get("/") == (200, "first")
    with connect(f"ws://127.0.0.1:{port}/") as talk:
        running.edit("site1/views.py", FILES["site1/views.py"].replace("first", "second"))
        with pytest.raises(ConnectionClosed) as closed:
            talk.recv(timeout=10)
        assert closed.value.rcvd.code == 1012
    running.wait_for(r"site1/views\.py changed, reloading\.")
    assert running.get("/", times=2) == (200, "second")

    running.edit("site1/views.py", "def page(:\n")
    running.wait_for("SyntaxError: invalid syntax")
    running.edit("site1/views.py", FILES["site1/views.py"].replace("first", "third"))
    assert running.get("/", times=3) == (200, "third")
    assert running.interrupt() == 0


def test_reload_of_a_mistake_in_the_settings(project, runserver):
    """A wrong setting of ours is told, in one line, and waited out; so is a file of settings."""
    (project / "gateway.toml").write_text("[http]\nbody_inlin = 3\n")
    running = runserver(str(free_port()))
    running.wait_for(r"Error: .*gateway\.toml: http\.body_inlin.* did you mean 'body_inline'\?\n")
    assert "Traceback" not in running.text()
    running.edit("gateway.toml", "[http]\nbody_inline = 300000\n")
    assert running.get("/") == (200, "first")
    alone = runserver("0", "--noreload", GATEWAY_HTTP_BODY_INLIN="3")
    assert alone.wait() == 1
    assert "did you mean 'body_inline'?" in alone.text()


def test_what_is_stuck_holds_up_no_reload(runserver):
    """A thread that the interpreter would wait for keeps neither a reload nor the end waiting."""
    running = runserver(str(free_port()))
    with socket.create_connection(("127.0.0.1", running.port())) as held:
        held.sendall(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        running.wait_for("held\n")
        running.edit("site1/views.py", FILES["site1/views.py"].replace("first", "second"))
        assert running.get("/", times=2) == (200, "second")
    assert running.interrupt() == 0


def test_a_reactor_that_was_there_before(project, runserver):
    """A project that imports Twisted's reactor too early hears it, without a traceback."""
    add(project, "site1/__init__.py", "from twisted.internet import reactor\n")
    running = runserver("0", "--noreload")
    assert running.wait() == 1
    assert running.text().endswith("; import it inside functions\n")
    assert "Traceback" not in running.text()


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize("arguments", [[], ["--noreload"]])
def test_interrupt(project, runserver, arguments):
    """Ctrl-C ends it at once although a WebSocket is open, with status 0, and the port is free."""
    add(project, "site1/settings.py", ROUTED)
    running = runserver(str(free_port()), *arguments)
    port = running.port()
    with connect(f"ws://127.0.0.1:{port}/") as talk:
        talk.send("hello")
        assert talk.recv(timeout=10) == "hello"
        began = time.monotonic()
        assert running.interrupt() == 0
        assert time.monotonic() - began < 5
    assert "Traceback" not in running.text()
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_terminated(runserver):
    """SIGTERM ends it and its child."""
    running = runserver(str(free_port()))
    port = running.port()
    running.process.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    wait_until(lambda: refused(port))


def test_breakpoint(runserver):
    """``breakpoint()`` in a view stops there; the terminal talks to the debugger, and it goes on."""
    running = runserver("0", stdin=subprocess.PIPE)
    running.port()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(running.get, "/stop")
        running.wait_for(r"\(Pdb\) ")
        running.process.stdin.write("answer = answer + 1\nc\n")
        running.process.stdin.flush()
        assert answer.result() == (200, "42")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_breakpoint_in_a_consumer(project, runserver, kind):
    """It works in consumers, too: what runs on other threads is served meanwhile."""
    add(project, "site1/settings.py", ROUTED)
    add(
        project,
        "site1/routing.py",
        f"{kind} stop(message):\n"
        "    said = message.text\n"
        "    breakpoint()\n"
        "    message.reply(said)\n"
        "routes.insert(0, route('websocket.receive', stop, path='^/stop/$'))\n",
    )
    running = runserver("0", stdin=subprocess.PIPE)
    with connect(f"ws://127.0.0.1:{running.port()}/stop/") as talk:
        talk.send("hello")
        running.wait_for(r"\(Pdb\) ")
        assert running.get("/") == (200, "first")
        running.process.stdin.write("said += ', you'\nc\n")
        running.process.stdin.flush()
        assert talk.recv(timeout=10) == "hello, you"
