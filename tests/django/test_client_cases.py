"""`GatewayClient` in Django's test cases: transactions, users, twins; and the life of a site."""

import gc
import re
import subprocess
import sys
import threading
import unittest

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.http import parse_cookie
from django.test import TestCase, TransactionTestCase, override_settings

from django_gateway import Channel, Group, WebsocketConsumer, route, route_class
from django_gateway.asgi import channel_layers
from django_gateway.testing import GatewayClient, GatewayTestMixin
from tests.django.toys import ECHO, join

WITH_SESSIONS = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]


@pytest.fixture(scope="module", autouse=True)
def _tables():
    call_command("migrate", verbosity=0)
    User.objects.all().delete()  # those of other modules' tests


def user_of(message):
    """The user id of a connect's session cookie."""
    cookies = parse_cookie(dict(message["headers"]).get(b"cookie", b"").decode())
    return SessionStore(cookies.get("sessionid", "")).get("_auth_user_id")


@override_settings(MIDDLEWARE=WITH_SESSIONS)
class UsersTest(GatewayTestMixin, TestCase):
    """In a test case of Django's, with its transaction around each test."""

    @classmethod
    def setUpTestData(cls):
        User.objects.all().delete()  # other modules' users, until this class is over
        cls.ann = User.objects.create_user("ann", password="x")
        cls.bob = User.objects.create_user("bob", password="x")

    def client_of(self, *routes):
        client = GatewayClient(routing=list(routes))
        self.addCleanup(client.close)
        return client

    def test_logins_are_shared_with_websockets(self):
        """The session cookie of the client goes with its connections; ``user`` is for one."""
        users = []
        client = self.client_of(
            route("websocket.connect", lambda message: users.append(user_of(message))), ECHO
        )
        with client.websocket("/"):
            pass
        assert client.login(username="ann", password="x")
        with client.websocket("/"), client.websocket("/", user=self.bob):
            pass
        client.logout()
        with client.websocket("/"):
            pass
        assert users == [None, str(self.ann.pk), str(self.bob.pk), None]

    @override_settings(CHANNEL_SESSION_ENGINE="django.contrib.sessions.backends.db")
    def test_message_user_is_who_logged_in(self):
        """In the connect and after it, synchronous or not; a logged-out client is nobody."""

        class Names(WebsocketConsumer):
            def connect(self, message):
                self.accept()
                self.send(str(self.message.user))

            def receive(self, text=None, bytes=None):
                self.send(str(self.message.user))

        client = self.client_of(route_class(Names))
        with client.websocket("/", user=self.bob) as bob, client.websocket("/") as nobody:
            bob.expect_text("bob")
            bob.send_text("?")
            bob.expect_text("bob")
            nobody.expect_text("AnonymousUser")

    def test_consumers_see_the_tests_transaction(self):
        """Synchronous or not, in another thread's clothes or not: it is the test's connection."""

        def sync(message):
            User.objects.create(username="sync")
            message.reply(str(User.objects.count()))

        async def on_loop(message):
            await User.objects.acreate(username="async")
            found = await sync_to_async(User.objects.count)()
            message.reply(str(found))

        client = self.client_of(
            route("websocket.receive", sync, text="sync"),
            route("websocket.receive", on_loop, text="async"),
        )
        with client.websocket("/") as ws:
            with self.assertNumQueries(2):
                ws.send_text("sync")
            ws.expect_text("3")
            ws.send_text("async")
            ws.expect_text("4")
        assert {user.username for user in User.objects.all()} == {"ann", "bob", "sync", "async"}

    def test_commits_are_run_where_they_are_captured(self):
        """``captureOnCommitCallbacks`` works as ever."""

        def receive(message):
            Group("room").send({"text": "committed"}, on_commit=True)

        client = self.client_of(
            route("websocket.connect", join), route("websocket.receive", receive)
        )
        with client.websocket("/") as ws:
            with self.captureOnCommitCallbacks(execute=True):
                ws.send_text("?")
                ws.expect_nothing()
            ws.expect_text("committed")

    @override_settings(CHANNEL_LAYERS={"default": {"ROUTING": [ECHO]}})
    def test_the_site_is_made_of_the_settings_at_its_first_use(self):
        """As with Django's client, a test method may override them; its layer is the default."""
        Group("room").send({"text": "nobody hears"})
        assert channel_layers["default"] is self.client.layer
        with self.client.websocket("/") as ws:
            ws.send_text("hi")
            ws.expect_text("hi")

    def test_csrf_is_as_with_djangos_client(self):
        """Not enforced, unless it is asked for."""
        with override_settings(ROOT_URLCONF="tests.django.project.urls"):
            assert self.client.post("/meta/").status_code == 200
            strict = self.client.another(enforce_csrf_checks=True)
            assert strict.post("/meta/").status_code == 403

    async def test_asynchronous_tests_have_twins(self):
        """Every verb has one with the prefix ``a``; the database is the test's here, too."""

        def sync(message):
            message.reply(str(User.objects.count()))

        async def connect(message):
            message.reply(accept=True, text=str(await User.objects.acount()))

        client = await sync_to_async(self.client_of)(
            route("websocket.connect", connect), route("websocket.receive", sync)
        )
        async with client.websocket("/", user=self.bob) as ws:
            await ws.aexpect_text("2")
            await User.objects.acreate(username="third")
            await ws.asend_text("?")
            await ws.aexpect_text("3")
            async with client.together():
                await ws.asend_bytes(b"?")
            await ws.aexpect_text("3")
            await ws.asend_json({})
            await ws.aexpect_json(3)
            await ws.aexpect_nothing()
            await Channel("somewhere.else").asend({"a": 1})
            await client.aexpect("somewhere.else", {"a": 1})
            await client.clock.aadvance(5)
        answer = await client.aget("/meta/", {"a": "b"})
        assert answer.json()["get"] == {"a": "b"}
        assert (await client.apost("/async-body/", b"x", content_type="text/plain")).status_code

    async def test_a_sync_verb_on_a_loop_names_its_twin(self):
        """It would block the loop; the error says what to write."""
        client = self.client
        ws = client.websocket("/")
        for call, twin in (
            (lambda: client.get("/"), "await aget()"),
            (lambda: client.send("a.b", {}), "await asend()"),
            (lambda: client.expect("a.b"), "await aexpect()"),
            (lambda: client.clock.advance(1), "await aadvance()"),
            (lambda: ws.connect(), "await aconnect()"),
            (lambda: ws.__enter__(), "use async with"),
            (lambda: client.together().__exit__(None, None, None), "use async with"),
            (lambda: ws.send_text("a"), "await asend_text()"),
            (lambda: ws.expect_text("a"), "await aexpect_text()"),
            (lambda: ws.expect_close(), "await aexpect_close()"),
            (lambda: ws.forget(), "await aforget()"),
        ):
            with pytest.raises(RuntimeError, match=re.escape(twin)):
                call()


class CommittedTest(GatewayTestMixin, TransactionTestCase):
    """Without a transaction around each test."""

    available_apps = None

    def test_the_connection_of_the_test_stays_open(self):
        """Consumers close no connection of the test's thread."""
        from django.db import connection

        connection.ensure_connection()
        before = connection.connection
        assert self.client.get("/").content == b"hello"
        assert connection.connection is before

    def _fixture_teardown(self):
        """Leave the tables alone: there is no test database here."""


def test_cases_end_their_site():
    """After each test the site is closed, and the settings' layer is the default again."""

    class Inner(GatewayTestMixin, TestCase):
        def test(self):
            type(self).site = self.client.site
            assert self.client.get("/").status_code == 200

    result = unittest.TestResult()
    Inner("test")(result)
    assert (result.errors, result.failures) == ([], [])
    assert Inner.site.gateway.loop.closed
    assert channel_layers._default is None


# ---------------------------------------------------------------- sites


def test_test_config_is_for_tests():
    """TEST_CONFIG stands above CONFIG while a client runs the site."""
    layer = {"ROUTING": [], "CONFIG": {"capacity": 5, "expiry": 7}, "TEST_CONFIG": {"capacity": 1}}
    client = GatewayClient()
    with override_settings(CHANNEL_LAYERS={"default": layer}):
        assert channel_layers["default"] is client.layer
    assert (client.layer.options.capacity, client.layer.options.expiry) == (1, 7)
    client.close()
    for wrong, text in (("x", "TEST_CONFIG'] is a dict"), ({"capcity": 1}, "capcity")):
        layer = {"default": {"TEST_CONFIG": wrong}}
        with (
            override_settings(CHANNEL_LAYERS=layer),
            pytest.raises(ImproperlyConfigured, match=re.escape(text)),
        ):
            GatewayClient().get("/")


def test_a_site_ends_with_its_last_client():
    """A client that nobody closed leaves no thread behind once it is forgotten."""
    before = set(threading.enumerate())  # of other tests some may end meanwhile
    client = GatewayClient(routing=[ECHO])
    ws = client.websocket("/").connect()
    ws.send_text("a")
    [own] = set(threading.enumerate()) - before
    del client, ws
    gc.collect()
    assert not own.is_alive()
    assert channel_layers._default is None


def test_a_plugin_that_does_not_run_is_named(client_of):
    """Without the websocket plugin its handshakes are requests."""
    client = client_of(plugins=["http"])
    with client.websocket("/nowhere/") as ws:
        assert ws.rejected == 404


def test_the_fixtures_import_no_django_until_they_are_used():
    """pytest loads the plugin wherever the package is installed."""
    code = (
        "import sys, django_gateway.testing.pytest_plugin\n"
        "print([name for name in sys.modules if name.partition('.')[0] in {'django', 'twisted'}])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed == "[]\n"
