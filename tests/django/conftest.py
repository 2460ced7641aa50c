"""One Django for the whole run, a layer and a peer for each test."""

import contextlib
import pathlib
import secrets

import django
import pytest
from django.conf import settings

import gateway
from gateway.core.config import WorkerSettings
from tests.django.project import settings as project_settings

if not settings.configured:
    # by hand rather than by DJANGO_SETTINGS_MODULE, which other tests' processes would inherit
    settings.configure(
        **{name: value for name, value in vars(project_settings).items() if name.isupper()}
    )
    django.setup()

from django_gateway import asgi
from django_gateway.middleware import middleware_of
from django_gateway.routing import Router
from django_gateway.testing import GatewayClient
from django_gateway.worker import Worker
from tests.django.peer import Peer
from tests.django.project import views as project_views


@pytest.fixture(scope="session", autouse=True)
def _database_file():
    yield
    pathlib.Path(settings.DATABASES["default"]["NAME"]).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def noted():
    """What the project's views noted."""
    project_views.noted.clear()
    return project_views.noted


@pytest.fixture
def url():
    """A layer of this test's own that several members of a process can share."""
    return f"memory://{secrets.token_hex(8)}"


@pytest.fixture
def options():
    """The layer's options; a test parametrizes it for others."""
    return {}


@pytest.fixture
def peer(url, options):
    """Somebody who sends messages and hears the answers."""
    peer = Peer(gateway.open_layer(url, **options))
    yield peer
    peer.layer.close()


@pytest.fixture
def work(url):
    """Start workers: ``work(routing, threads=2)``; they are stopped, in good order, at the end."""
    with contextlib.ExitStack() as stack:

        def start(
            routing=None, *, threads=2, stand_ins=16, async_limit=100, views=True, middleware=()
        ):
            layer = gateway.open_layer(url)
            asgi.channel_layers.use(layer)
            stack.callback(asgi.channel_layers.use, None)
            stack.callback(layer.close)
            config = WorkerSettings(threads=threads, stand_ins=stand_ins, async_limit=async_limit)
            router = Router(routing, asgi.behind() if views else ())
            router.middleware = middleware_of({"MIDDLEWARE": middleware}, router)
            worker = Worker(layer, router, config)
            worker.start()
            stopped = False

            def stop(grace=5.0):
                nonlocal stopped
                if not stopped:
                    stopped = True
                    assert worker.stop(grace), "the worker did not finish in time"

            worker.finish = stop
            stack.callback(stop)
            assert worker.ready.wait(5)
            return worker

        yield start


@pytest.fixture
def client_of():
    """Make clients: ``client_of(routing)``; their sites end after the test."""
    clients = []

    def make(*routes, **arguments):
        clients.append(GatewayClient(routing=list(routes), **arguments))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
