"""GATEWAY and CHANNEL_LAYERS, the checks, the application, and the commands."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

import gateway
from django_gateway import EmailConsumer, asgi, include, path, route, route_class
from gateway.core.boot import Options, boot
from gateway.core.config import Settings
from gateway.core.errors import ConfigError
from gateway.core.layers import open_layer
from gateway.core.plugin import Application
from gateway.core.project import Project
from tests.django.peer import Outcome, Peer, wait_until

ROOT = pathlib.Path(__file__).parents[2]
MODULE = "tests.django.project.settings"


@pytest.fixture
def application(monkeypatch):
    """Django as the gateway's application."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", MODULE)
    found = asgi.gateway_application(Project(ROOT, MODULE))
    yield found
    asgi.channel_layers.use(None)


def test_no_settings_no_application():
    """A project without Django settings is not Django's."""
    assert asgi.gateway_application(Project(ROOT)) is None


def test_application(application):
    """Django offers what the gateway asks of an application."""
    assert isinstance(application, Application)
    assert application.source == f"Django settings {MODULE}"
    assert application.channels() == ["http.request", "websocket.receive"]
    assert application.routes() == [
        ("http.request", "", "django_gateway.handler.Views"),
        ("websocket.receive", "", "tests.django.project.routing.echo"),
    ]


def test_tables(application):
    """GATEWAY's tables are the gateway's; CHANNEL_LAYERS' URL and CONFIG are the table layer."""
    with override_settings(
        GATEWAY={"plugins": ["http"], "http": {"listen": 8000}, "layer": {"expiry": 5}},
        CHANNEL_LAYERS={
            "default": {"URL": "unix:///x", "CONFIG": {"expiry": 60, "capacity": 7}, "ROUTING": []}
        },
    ):
        assert application.settings() == {
            "plugins": ["http"],
            "http": {"listen": 8000},
            "layer": {"url": "unix:///x", "expiry": 5, "capacity": 7},
        }


def test_nothing_set(application):
    """A project that sets nothing has its views served."""
    with override_settings(CHANNEL_LAYERS={}):
        assert application.settings() == {}
        assert application.channels() == ["http.request"]


WRONG = {
    "GATEWAY": (
        {"GATEWAY": ["http"]},
        "GATEWAY is a dict of tables: GATEWAY = {'plugins': ['http'], 'http': {'listen': 8000}}",
    ),
    "CHANNEL_LAYERS": (
        {"CHANNEL_LAYERS": []},
        "CHANNEL_LAYERS is a dict by alias: {'default': {'ROUTING': 'shop.routing.routes'}}",
    ),
    "default": (
        {"CHANNEL_LAYERS": {"default": "unix:///x"}},
        "CHANNEL_LAYERS['default'] is a dict: {'ROUTING': 'shop.routing.routes'}",
    ),
    "alias": (
        {"CHANNEL_LAYERS": {"default": {}, "other": {}}},
        "CHANNEL_LAYERS has an alias 'other': there is one layer, 'default'",
    ),
    "BACKEND": (
        {"CHANNEL_LAYERS": {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}},
        (
            "CHANNEL_LAYERS['default'] names the BACKEND 'channels_redis.core.RedisChannelLayer'; "
            "name the layer by its URL instead ('URL': 'unix:///path'), or leave both out for the "
            "gateway's own hub"
        ),
    ),
    "key": (
        {"CHANNEL_LAYERS": {"default": {"ROUTE": "x"}}},
        (
            "CHANNEL_LAYERS['default'] has no 'ROUTE'; it may hold CONFIG, MIDDLEWARE, ROUTING, "
            "TEST_CONFIG, URL"
        ),
    ),
    "CONFIG": (
        {"CHANNEL_LAYERS": {"default": {"CONFIG": 3}}},
        "CHANNEL_LAYERS['default']['CONFIG'] is a dict of the layer's settings: {'expiry': 60}",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings(application, case):
    """A wrong setting is refused with a text that names the fix, at the start and by the check."""
    changed, text = WRONG[case]
    with override_settings(**changed):
        with pytest.raises(ConfigError) as caught:
            application.settings()
        assert str(caught.value) == f"Django settings {MODULE}: {text}"
        errors = run_checks(tags=["gateway"])
    assert ("gateway.E001", text) in [(error.id, error.msg) for error in errors]


def test_checks_pass(application):
    """A project that is right passes the checks."""
    assert run_checks(tags=["gateway"]) == []


@pytest.mark.parametrize(
    ("routing", "text"),
    [
        ("nowhere.routes", "the routing 'nowhere.routes': there is no module 'nowhere'"),
        ([print], "ROUTING holds <built-in function print>: write route('channel', consumer)"),
        ("tests.django.breaks.routes", "importing ROUTING failed: ZeroDivisionError"),
    ],
)
def test_check_of_the_routing(application, monkeypatch, routing, text):
    """A routing table that cannot be imported or compiled is an error of the check."""

    class Breaks:
        def find_spec(self, name, path=None, target=None):
            if name == "tests.django.breaks":
                raise ZeroDivisionError

    monkeypatch.setattr(sys, "meta_path", [Breaks(), *sys.meta_path])
    with override_settings(CHANNEL_LAYERS={"default": {"ROUTING": routing}}):
        (error,) = run_checks(tags=["gateway"])
        assert error.id == "gateway.E002"
        assert error.msg.startswith(text)


def test_check_of_mail(application):
    """Mail that is handed to a gateway without the plugin for it is warned of."""
    backend = "django_gateway.mail.EmailBackend"
    with override_settings(EMAIL_BACKEND=backend, GATEWAY={"plugins": ["http"]}):
        (warning,) = run_checks(tags=["gateway"])
    assert warning.id == "gateway.W004"
    assert warning.msg == "EMAIL_BACKEND hands mail to the gateway, whose plugins here are http"
    with override_settings(EMAIL_BACKEND=backend, GATEWAY={"plugins": ["http", "email"]}):
        assert run_checks(tags=["gateway"]) == []


def test_check_of_protocols(application):
    """A protocol misspelt in a channel is warned of; one's own channels are not."""
    routing = [route("websockets.receive", print), route("rooms.digest", print)]
    with override_settings(CHANNEL_LAYERS={"default": {"ROUTING": routing}}):
        (warning,) = run_checks(tags=["gateway"])
    assert warning.id == "gateway.W002"
    assert warning.msg == (
        "<route websockets.receive to builtins.print>: there is no protocol 'websockets' here; did "
        "you mean 'websocket.receive'?"
    )


def test_check_of_keys(application):
    """A filter by a key that no message of the protocol has is warned of, nothing else."""
    routing = [
        include([route(["irc.join", "sse.connect"], print)], path=path("chat/")),
        include([route("irc.join", print)], path=path("chat/")),
        route("irc.connect", print, identity="ann", network="lib.*"),
        route(["irc.receive", "rooms.digest"], print, size="big"),
        route("no-plugin.receive", print, size="big"),
    ]
    with override_settings(CHANNEL_LAYERS={"default": {"ROUTING": routing}}):
        (warning,) = run_checks(tags=["gateway"])
    assert warning.id == "gateway.W005"
    assert warning.msg == (
        "<route irc.join to builtins.print>: the filter path=chat/ never matches, since no such "
        "message has a 'path'"
    )
    assert "channel, client, host, identity" in warning.hint


def test_warnings(application):
    """What the checks warn of, with what to do, is what the application warns of."""
    assert application.warnings() == []
    routing = [route("irc.join", lambda message: None, channel="#t-<ticket>")]
    with override_settings(CHANNEL_LAYERS={"default": {"ROUTING": routing}}):
        (warning,) = application.warnings()
    assert "'<ticket>' is matched as it stands there. Write channel=irc_room(…)" in warning


@pytest.mark.parametrize(
    ("channel", "key", "written", "hint"),
    [
        ("email.receive", "rcpt_to", "support+{ticket}@x.org", "Write rcpt_to=mailbox(…)"),
        ("email.receive", "mail_from", "{who:str}@x.org", "Write mail_from=mailbox(…)"),
        ("irc.join", "channel", "#t-<ticket>", "Write channel=irc_room(…)"),
        ("irc.join", "channel", "#t-<int:ticket>", "Write channel=irc_room(…)"),
        ("mqtt.receive", "topic", "doors/+door/open", "Write topic=mqtt_topic(…)"),
        ("mqtt.receive", "topic", "doors/#", "Write topic=mqtt_topic(…)"),
        ("http.request", "path", "/chat/<room>", "Write path=path(…)"),
        ("email.receive", "rcpt_to", r"^\w{3}(?P<who>\w+)@(?=x)x\.org$", None),
        ("mqtt.receive", "topic", r"doors/+[0-9]+/open\d+", None),
        ("irc.receive", "text", "<b>{name}", None),
    ],
)
def test_check_of_placeholders(application, channel, key, written, hint):
    """A str with the placeholders of another filter is warned of; what is an expression is not."""
    routing = [route(channel, lambda message, **kwargs: None, **{key: written})]
    with override_settings(CHANNEL_LAYERS={"default": {"ROUTING": routing}}):
        warnings = run_checks(tags=["gateway"])
    if hint is None:
        assert warnings == []
    else:
        assert [warning.id for warning in warnings] == ["gateway.W006"]
        assert hint in warnings[0].hint


def test_check_of_networks(application, monkeypatch):
    """A route for a network of IRC that the settings lack is warned of, with those there are."""
    monkeypatch.setenv("GATEWAY_IRC_NETWORK", "libera")
    routing = [
        route("irc.receive", print, network="^libera$"),
        route("irc.receive", print, network="lib.*"),
        route("irc.receive", print, network="liber"),
    ]
    with override_settings(CHANNEL_LAYERS={"default": {"ROUTING": routing}}):
        (warning,) = run_checks(tags=["gateway"])
    assert warning.id == "gateway.W003"
    assert "no network 'liber' in the settings" in warning.msg
    assert "there are libera" in warning.msg
    assert run_checks(tags=["gateway"]) == []


def test_whom_mail_is_from(application):
    """Mail is from DEFAULT_FROM_EMAIL where the project sets it, unless email.sender says else."""
    assert "email" not in asgi.read_settings()
    with override_settings(DEFAULT_FROM_EMAIL="Our shop"):
        assert "email" not in asgi.read_settings()
    with override_settings(DEFAULT_FROM_EMAIL="Shop <shop@x.org>"):
        assert asgi.read_settings()["email"] == {"sender": "Shop <shop@x.org>"}
        assert boot(Options(plugins="http")).settings.plugins == ("http",)  # it harms nobody else
        with override_settings(GATEWAY={"plugins": ["email"], "email": {"domains": ["x.org"]}}):
            config = boot(Options(plugins="email")).settings.tables["email"]
            assert (config.sender, config.domains) == ("Shop <shop@x.org>", ("x.org",))
        with override_settings(GATEWAY={"email": {"sender": "a@x.org"}}):
            assert asgi.read_settings()["email"] == {"sender": "a@x.org"}
        with override_settings(GATEWAY={"email": 7}):
            assert asgi.read_settings()["email"] == 7


def test_check_of_domains(application, monkeypatch):
    """A mailbox of a domain that no mail is taken for is warned of once, with those there are."""

    class Support(EmailConsumer):
        mailboxes = ("a@x.org", "b@other.org", "c@sub.Y.org", "{n}@{host}", "d@bücher.example")

        def recipient(self, message, **_):
            """Let everybody in."""

        def receive(self, message, **_):
            """Take it."""

    monkeypatch.setenv("GATEWAY_EMAIL_DOMAINS", "X.org,.y.org,xn--bcher-kva.example")
    with override_settings(CHANNEL_LAYERS={"default": {"ROUTING": [route_class(Support)]}}):
        (warning,) = run_checks(tags=["gateway"])
    assert warning.id == "gateway.W007"
    assert warning.msg == (
        "mailbox('b@other.org') is routed, and its mail is refused: email.domains has no "
        "'other.org'; there is X.org, .y.org, xn--bcher-kva.example"
    )
    monkeypatch.setenv("GATEWAY_EMAIL_DOMAINS", "X.org,.y.org,bücher.example,other.org")
    with override_settings(CHANNEL_LAYERS={"default": {"ROUTING": [route_class(Support)]}}):
        assert run_checks(tags=["gateway"]) == []


def test_a_wrong_table_stops_the_start(application):
    """Commands hear of a wrong routing table by a ConfigError."""
    with (
        override_settings(CHANNEL_LAYERS={"default": {"ROUTING": "nowhere.routes"}}),
        pytest.raises(ConfigError, match="there is no module 'nowhere'") as caught,
    ):
        application.channels()
    assert isinstance(caught.value.__cause__, ImproperlyConfigured)


def test_start_worker(application, url):
    """A worker may run on threads of the gateway's own process."""
    layer = gateway.open_layer(url)
    peer = Peer(gateway.open_layer(url))
    worker = application.start_worker(layer, Settings())
    try:
        assert asgi.channel_layers["default"] is layer
        assert peer.ask("/").content == b"hello"
    finally:
        worker.stop(5)
        peer.layer.close()
        layer.close()


def test_the_default_layer_is_the_settings(application, monkeypatch, tmp_path):
    """Elsewhere the layer is the one that all settings together name, opened at first use."""
    monkeypatch.setenv("GATEWAY_LAYER_URL", f"unix://{tmp_path}/hub.sock")
    monkeypatch.setenv("GATEWAY_LAYER_CAPACITY", "7")
    layer = asgi.channel_layers["default"]
    assert layer is asgi.channel_layers["default"]
    assert layer.options.capacity == 7
    layer.close()


# ---------------------------------------------------------------- processes


@pytest.fixture
def hub(tmp_path):
    """A hub in a process of its own; its URL."""
    url = f"unix://{tmp_path}/hub.sock"
    with running("-m", "gateway", "hub", "--layer", url):
        yield url


class running:
    """A Python process of the tests' project; ended, and waited for, at the end."""

    def __init__(self, *arguments, **environ):
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": MODULE, **environ},
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self.process

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.communicate(timeout=10)
        finally:
            self.process.kill()
            self.process.wait()


def connected(url):
    """Return a peer on the hub at ``url``, once it is up."""
    layer = open_layer(url)
    end = time.monotonic() + 10
    while True:
        try:
            layer.announced()
        except gateway.LayerUnavailable:
            assert time.monotonic() < end
            time.sleep(0.02)
        else:
            return Peer(layer)


COMMANDS = {
    "runworker": ["-m", "django", "runworker", "--threads", "2"],
    "gateway worker": ["-m", "gateway", "worker"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_process(hub, command, number):
    """A worker process serves over the hub's socket, and ends with 0 at a signal; not at SIGHUP."""
    peer = connected(hub)
    with running(*COMMANDS[command], "--layer", hub) as process:
        assert peer.ask("/").content == b"hello"
        process.send_signal(signal.SIGHUP)
        names = frozenset({"http.request", "websocket.receive"})
        wait_until(lambda: peer.layer.announced() == names)
        assert peer.ask("/large/").content == b"x" * 1_000_000
        assert peer.ask("/async-stream/5/").content == b"0,1,2,3,4,"
        process.send_signal(number)
        _, log = process.communicate(timeout=10)
    assert process.returncode == 0, log
    assert peer.layer.announced() is None
    peer.layer.close()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("max_requests=1", "it has run 1 messages (workers.max_requests: 1)"),
        ("max_memory=1", "bytes of memory (workers.max_memory: 1)"),
    ],
)
def test_a_worn_worker_process_ends(hub, command, limit, reason):
    """A worker alone that reaches a limit of its settings drains, says why, and ends with 0."""
    peer = connected(hub)
    options = ("--layer", hub, "--set", f"workers.{limit}")
    with running(*COMMANDS[command], *options) as process:
        assert peer.ask("/").content == b"hello"
        _, log = process.communicate(timeout=10)
    assert process.returncode == 0, log
    assert "worker ends, to be started again by who started it: it has" in log
    assert reason in log
    assert peer.layer.announced() is None
    peer.layer.close()


def test_code_that_cannot_be_imported_stops_the_start(application, url):
    """The URLconf is imported by a worker's start, not by the first request."""
    layer = gateway.open_layer(url)
    with (
        override_settings(ROOT_URLCONF="tests.django.no_such_urls"),
        pytest.raises(ModuleNotFoundError, match="no_such_urls"),
    ):
        application.start_worker(layer, Settings())
    layer.close()


def test_default_middleware_over_a_socket(hub):
    """The settings module with Django's default middleware is served likewise."""
    peer = connected(hub)
    module = "tests.django.project.settings_default"
    with running(*COMMANDS["gateway worker"], "--layer", hub, DJANGO_SETTINGS_MODULE=module):
        assert peer.ask("/").header(b"x-frame-options") == b"DENY"
    peer.layer.close()


def test_a_killed_worker_fails_what_it_held(hub):
    """What a killed worker had in hand fails, and is not run again."""
    peer = connected(hub)
    with running(*COMMANDS["gateway worker"], "--layer", hub) as process:
        assert peer.ask("/").status == 200
        peer.post("http.request", peer.request("/silent-stream/"))
        while peer.hear(10)[1].get("content") != b"begun":
            pass
        process.kill()
        while (heard := peer.hear(10))[0] != "outcome":
            assert heard[0] is not None
    assert heard[1] == Outcome("failed", cause="lost")
    peer.layer.close()


def test_a_stuck_consumer_ends_with_the_grace(hub):
    """A worker whose consumer does not finish ends all the same, with 0, and the consumer fails."""
    peer = connected(hub)
    with running(*COMMANDS["runworker"], "--layer", hub, "--set", "workers.grace=0.2") as process:
        peer.post("http.request", peer.request("/stuck/"))
        assert peer.layer.receive(["stuck"], block=10) == ("stuck", {})
        process.terminate()
        _, log = process.communicate(timeout=10)
    assert process.returncode == 0, log
    assert "were cut off" in log
    assert peer.hear() == ("outcome", Outcome("failed", cause="lost"))
    peer.layer.close()


def test_a_second_signal_ends_the_worker_at_once(hub):
    """A second signal does not wait for the grace."""
    peer = connected(hub)
    with running(*COMMANDS["runworker"], "--layer", hub, "--set", "workers.grace=60") as process:
        peer.post("http.request", peer.request("/stuck/"))
        assert peer.layer.receive(["stuck"], block=10) == ("stuck", {})
        wait_until(peer.layer.announced)
        process.terminate()
        wait_until(lambda: peer.layer.announced() is None or process.send_signal(signal.SIGINT))
        process.communicate(timeout=10)
    assert process.returncode == 1
    peer.layer.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "workers.thread=3"], "[workers] has no setting 'thread'; did you mean"),
        (["--layer", "carrier-pigeon://x"], "no layer has this scheme"),
        (["--threads", "0"], "workers.threads"),
    ],
)
def test_runworker_refuses(arguments, text):
    """runworker ends with status 2 and a sentence for what is wrong."""
    with running("-m", "django", "runworker", *arguments) as process:
        _, log = process.communicate(timeout=15)
    assert process.returncode == 2
    assert text in log
    assert "Traceback" not in log
