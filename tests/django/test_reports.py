"""Errors of consumers are reported once, to the log and to Django's signal."""

import json
import logging
import subprocess
import sys
import threading

import django
import pytest
from django.core import mail
from django.core.signals import got_request_exception
from django.test import override_settings

from django_gateway import ConsumeLater, Message, Reject
from tests.django.peer import Outcome

OK = Outcome("accepted")
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


def fails(message):
    raise ValueError("of the consumer")


async def afails(message):
    fails(message)


def plain(message):
    """Do nothing."""


CONSUMERS = {"sync": fails, "async": afails}


@pytest.fixture
def heard():
    """What got_request_exception told: its arguments, what was being handled, on which thread."""
    heard = []

    def hear(sender, request, signal, **more):
        heard.append((sender, request, more, sys.exc_info()[1], threading.current_thread().name))

    got_request_exception.connect(hear)
    yield heard
    got_request_exception.disconnect(hear)


def errors(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


@KINDS
@pytest.mark.parametrize("place", ["alone", "in a mixed delivery"])
def test_once(work, peer, caplog, heard, kind, place):
    """One record with channel, route, connection and traceback; one signal, while it is handled."""
    consumer = CONSUMERS[kind]
    table = {"a": consumer}
    messages = [{"reply_channel": peer.new_reply_channel(), "text": "the-text"}]
    if place != "alone":  # the other kind runs first: both go to the loop then

        async def before(message):
            if message["text"]:
                consumer(message) if kind == "sync" else await consumer(message)

        table = {"a": before}
        messages.insert(0, {**messages[0], "text": ""})
    work(table)
    outcome = peer.settled("a", *messages)[1][-1]
    assert outcome == Outcome("failed", cause="ValueError")
    (record,) = errors(caplog)
    assert record.name == "django.gateway"
    assert record.channel == "a"
    assert record.route.startswith(__name__)
    assert record.connection == messages[0]["reply_channel"]
    assert str(record.exc_info[1]) == "of the consumer"
    outermost = record.exc_info[1].__traceback__.tb_frame.f_code.co_filename
    assert outermost.endswith("runner.py")
    assert "the-text" not in str(vars(record))
    ((sender, request, more, error, thread),) = heard
    assert (sender, request) == (Message, None)
    assert more["message"]["text"] == "the-text"
    assert error is record.exc_info[1]
    assert thread != "loop"  # who hears it may block


def test_a_plain_consumer_behind_an_async_one(work, peer, caplog, heard):
    """A plain consumer that the loop has run on a thread is reported from there, once."""

    async def asynchronous(message):
        """Do nothing."""

    from django_gateway import route

    work([route("a", asynchronous, path="/async"), route("a", fails)])
    _, outcomes = peer.settled("a", {"path": "/async"}, {"path": "/"})
    assert outcomes == [OK, Outcome("failed", cause="ValueError")]
    assert len(errors(caplog)) == len(heard) == 1
    assert errors(caplog)[0].connection == "nobody"


@KINDS
def test_a_receiver_that_fails(work, peer, caplog, kind):
    """A receiver that does not expect that there is no request changes no outcome."""

    def hear(request, **more):
        return request.path

    work({"a": CONSUMERS[kind]})
    got_request_exception.connect(hear)
    try:
        assert peer.outcome("a", {}) == Outcome("failed", cause="ValueError")
    finally:
        got_request_exception.disconnect(hear)
    assert [record.name for record in errors(caplog)] == ["django.gateway", "django.dispatch"]


@pytest.mark.parametrize("raised", [Reject(), ConsumeLater(30)])
@KINDS
def test_decisions_are_none(work, peer, heard, kind, raised):
    """Decisions are no errors: no signal."""
    ran = threading.Event()

    def consumer(message):
        ran.set()
        raise raised

    async def twin(message):
        consumer(message)

    worker = work({"a": consumer if kind == "sync" else twin})
    peer.post("a", {})
    assert ran.wait(5)
    worker.finish()
    assert not heard


@pytest.mark.parametrize("path", ["/error/", "/async-error/"])
def test_views_are_djangos(work, peer, caplog, heard, path):
    """What a view raises Django reports: one record, one signal."""
    work()
    assert peer.ask(path).status == 500
    assert [record.name for record in errors(caplog)] == ["django.request"]
    ((_, request, _, error, _),) = heard
    assert request.path == path
    assert str(error) == "broken view"


@pytest.mark.parametrize("path", ["/broken-stream/", "/broken-async-stream/"])
def test_a_stream_that_breaks(work, peer, caplog, heard, path):
    """What Django does not see, an iterator that raises after its view, is reported, once."""
    work()
    assert peer.exchange(peer.request(path)) == (None, Outcome("failed", cause="RuntimeError"))
    (record,) = errors(caplog)
    assert record.name == "django.gateway"
    assert record.route == "django_gateway.handler.Views"
    assert len(heard) == 1


LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
MAIL = {"ADMINS": [("Ann", "ann@example.org")], "EMAIL_BACKEND": LOCMEM}
if django.VERSION >= (6, 1):
    MAIL = {"ADMINS": ["ann@example.org"], "MAILERS": {"default": {"BACKEND": LOCMEM}}}


@override_settings(**MAIL)
@KINDS
def test_mail_to_admins(work, peer, monkeypatch, kind):
    """Django's AdminEmailHandler, in its default logging, sends one mail, without the message."""
    monkeypatch.setattr(mail, "outbox", [], raising=False)
    work({"a": CONSUMERS[kind]})
    peer.outcome("a", {"reply_channel": peer.new_reply_channel(), "password": "hunter2"})
    (sent,) = mail.outbox
    assert "failed, on a for test.send." in sent.subject
    assert "of the consumer" in sent.body
    assert "hunter2" not in sent.subject + sent.body


@KINDS
def test_a_handler_that_fails(work, peer, heard, capsys, kind):
    """A handler of the log that fails itself changes no outcome; what it raised is on stderr."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the mail server is away")

    handler = Broken(logging.ERROR)
    logger = logging.getLogger("django.gateway")
    logger.addHandler(handler)
    try:
        work({"a": CONSUMERS[kind]})
        assert peer.outcome("a", {}) == Outcome("failed", cause="ValueError")
    finally:
        logger.removeHandler(handler)
    assert "the mail server is away" in capsys.readouterr().err
    assert len(heard) == 1


SENTRY = """
import json, sys
import sentry_sdk
from sentry_sdk.integrations.django import DjangoIntegration

events = []

class Transport(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            events.append(event)

sentry_sdk.init(
    dsn="http://nobody@127.0.0.1:9/1", transport=Transport, integrations=[DjangoIntegration()]
)
import tests.django.conftest
import gateway
from django_gateway import asgi, route
from django_gateway.handler import Views
from django_gateway.routing import Route, Router
from django_gateway.worker import Worker
from gateway.core.config import WorkerSettings
from tests.django.peer import Peer
from tests.django.test_reports import afails, fails

peer = Peer(gateway.open_layer("memory://sentry"))
layer = gateway.open_layer("memory://sentry")
asgi.channel_layers.use(layer)
views = Views()
table = Router(
    [route("sync.fails", fails), route("async.fails", afails)],
    [Route(("http.request",), views, {}, on_loop=views.on_loop)],
)
worker = Worker(layer, table, WorkerSettings(threads=2))
worker.start()
worker.ready.wait(5)
message = {"reply_channel": peer.new_reply_channel(), "password": "hunter2"}
for _ in range(2):
    peer.outcome("sync.fails", message)
    peer.outcome("async.fails", message)
for path in ("/error/", "/async-error/", "/broken-stream/"):
    peer.exchange(peer.request(path))
worker.stop(5)
sentry_sdk.flush()
json.dump(events, sys.stdout, default=str)
"""


def test_sentry():
    """Sentry's own integration hears of each error once, and where it happened."""
    pytest.importorskip("sentry_sdk", reason="sentry-sdk is not installed")
    done = subprocess.run(
        [sys.executable, "-c", SENTRY], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    events = json.loads(done.stdout)
    said = [
        (
            event["exception"]["values"][-1]["type"],
            event["exception"]["values"][-1]["value"],
            event.get("extra", {}).get("channel"),
        )
        for event in events
    ]
    assert said == [
        ("ValueError", "of the consumer", "sync.fails"),
        ("ValueError", "of the consumer", "async.fails"),
        ("ValueError", "of the consumer", "sync.fails"),
        ("ValueError", "of the consumer", "async.fails"),
        ("RuntimeError", "broken view", None),
        ("RuntimeError", "broken view", None),
        ("RuntimeError", "broken stream", "http.request"),
    ]
