"""Each behaviour of an application, seen by `GatewayClient` and by clients of a real gateway."""

import contextlib
import http.client
import json
import socket as socket_module

import pytest
from django.test import override_settings
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from django_gateway.testing import GatewayClient
from tests.e2e.serving import Served, wait_until


class RealSocket:
    """A WebSocket to a real gateway."""

    def __init__(self, url, subprotocols, stack):
        self.status = 101
        self.subprotocol = None
        self.made = None
        try:
            self._socket = stack.enter_context(
                connect(url, subprotocols=subprotocols, proxy=None, compression=None)
            )
        except InvalidStatus as error:
            self.status = error.response.status_code
            self.made = error.response.body
            return
        self.subprotocol = self._socket.subprotocol
        self.made = self._socket.response.headers.get("x-made")

    def send(self, data):
        self._socket.send(data)

    def read(self):
        try:
            return self._socket.recv(timeout=5)
        except ConnectionClosed as error:
            return error.rcvd.code, error.rcvd.reason

    def close(self, code=1000):
        self._socket.close(code)

    def cut(self):
        self._socket.socket.shutdown(socket_module.SHUT_RDWR)


class RealSite:
    """A real gateway, as its clients see it."""

    def __init__(self, served, stack):
        self._served = served
        self._stack = stack

    def open(self, path, subprotocols=None):
        return RealSocket(self._served.url(path, "ws"), subprotocols, self._stack)

    def ask(self, method, path, body=None):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._served.port)) as line:
            line.request(method, path, body)
            response = line.getresponse()
            try:
                content = response.read()
            except http.client.IncompleteRead:
                return "cut off"
            return response.status, response.headers.get("x-made"), content

    def wait_until(self, condition):
        wait_until(condition)


class TestSocket:
    """A WebSocket of a `GatewayClient`."""

    __test__ = False

    def __init__(self, client, path, subprotocols):
        self._client = client
        self._ws = client.websocket(path, subprotocols=subprotocols or ()).connect()
        self.status = self._ws.rejected or self._ws.response.status
        self.subprotocol = self._ws.subprotocol
        headers = {name.lower(): value for name, value in self._ws.response.headers}
        self.made = self._ws.response.content if self._ws.rejected else headers.get("x-made")

    def send(self, data):
        if isinstance(data, str):
            self._ws.send_text(data)
        else:
            self._ws.send_bytes(data)

    def read(self):
        for _ in range(5):
            if not self._ws.waiting:
                self._client.clock.advance(1)
        [event, *_] = self._ws.waiting
        return self._ws.expect(event.kind)

    def close(self, code=1000):
        self._ws.close(code)

    def cut(self):
        self._ws.cut()


class TestSite:
    """The same application behind a `GatewayClient`."""

    __test__ = False

    def __init__(self, client):
        self._client = client

    def open(self, path, subprotocols=None):
        return TestSocket(self._client, path, subprotocols)

    def ask(self, method, path, body=None):
        try:
            response = self._client.generic(method, path, body or b"")
        except ConnectionResetError:
            return "cut off"
        return response.status_code, response.headers.get("x-made"), response.content

    def wait_until(self, condition):
        assert condition()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("fidelity"), "--settings", "settings_behaviours") as served:
        yield served


@pytest.fixture(params=["client", "gateway"])
def site(request):
    """The application, behind the one and behind the other."""
    if request.param == "gateway":
        with contextlib.ExitStack() as stack:
            site = RealSite(request.getfixturevalue("served"), stack)
            site.ask("GET", "/clear/")
            yield site
        return
    with override_settings(ROOT_URLCONF="tests.e2e.project.behaviours", ALLOWED_HOSTS=["*"]):
        client = GatewayClient(
            routing="tests.e2e.project.behaviours.routing", raise_request_exception=False
        )
        site = TestSite(client)
        site.ask("GET", "/clear/")
        yield site
        client.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/echo/", 101),
        ("/accept/", 101),
        ("/early/", 101),
        ("/refuse/", 403),
        ("/refuse-with-status/", 429),
        ("/reject/", 404),
        ("/reject-strangely/", 403),
        ("/fail-connect/", 500),
        ("/nowhere/", 404),
    ],
)
def test_decisions(site, path, status):
    """What a connect comes to: acceptance, or the status of a refusal."""
    socket = site.open(path)
    assert socket.status == status
    if status == 101:
        socket.close()


def test_the_words_of_a_refusal(site):
    """The body is the application's, or the reason that it gave."""
    assert site.open("/refuse-with-status/").made == b"slowly"
    assert site.open("/reject/").made == b"no such room\n"


def test_subprotocol_and_headers(site):
    """Both are those of the reply that accepted."""
    socket = site.open("/accept/", ["v1", "v2"])
    assert (socket.subprotocol, socket.made) == ("v2", "here")
    socket.close()


def test_a_subprotocol_that_nobody_offered(site):
    """That reply is invalid, and the outcome accepts without it."""
    socket = site.open("/accept/")
    assert (socket.status, socket.subprotocol, socket.made) == (101, None, None)
    socket.close()


def test_data_before_acceptance(site):
    """It accepts, and is the first that the client hears."""
    socket = site.open("/early/")
    assert socket.read() == "welcome"
    socket.close()


@pytest.mark.parametrize("path", ["/echo/", "/aecho/"])
def test_order(site, path):
    """Answers come in the order of the questions."""
    socket = site.open(path)
    for number in range(50):
        socket.send(str(number))
    assert [socket.read() for _ in range(50)] == [str(number) for number in range(50)]
    socket.send("späß".encode())
    assert socket.read() == "späß"
    socket.close()


@pytest.mark.parametrize(
    ("path", "said", "heard"),
    [
        ("/close/", "1000", ["bye", (1000, "go")]),
        ("/close/", "4003", ["bye", (4003, "go")]),
        ("/close/", "99999", ["bye", (1000, "go")]),
        ("/close/", "1005", ["bye", (1000, "go")]),
        ("/fail/", "?", [(1011, "the application failed")]),
        ("/afail/", "?", [(1011, "the application failed")]),
        ("/reject-message/", "?", [(4001, "say something else")]),
        ("/reject-plainly/", "?", [(1008, "")]),
        ("/deaf/", "?", [(1011, "the application failed")]),
    ],
)
def test_ends(site, path, said, heard):
    """Close codes and reasons, of the application's and of the gateway's, and one disconnect."""
    socket = site.open(path)
    socket.send(said)
    assert [socket.read() for _ in heard] == heard
    site.wait_until(lambda: len(noted(site)) == 1)
    [[word, where, code, _]] = noted(site)
    assert (word, where, code) == ("left", path, heard[-1][0])


def noted(site):
    status, _, content = site.ask("GET", "/noted/")
    assert status == 200
    return json.loads(content)["noted"]


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        (lambda socket: socket.close(), 1000),
        (lambda socket: socket.close(4001), 4001),
        (lambda socket: socket.cut(), 1006),
    ],
)
def test_clients_that_leave(site, leave, code):
    """One disconnect each, with the client's code, and the order that follows."""
    socket = site.open("/echo/")
    socket.send("a")
    assert socket.read() == "a"
    leave(socket)
    site.wait_until(lambda: noted(site) == [["left", "/echo/", code, 2]])


def test_who_was_refused_leaves_nothing(site):
    """A connect that was refused has no disconnect."""
    site.open("/refuse/")
    socket = site.open("/echo/")
    socket.close()
    site.wait_until(lambda: [entry[1] for entry in noted(site)] == ["/echo/"])


def test_invalid_replies_are_dropped(site):
    """They cost nothing but themselves."""
    socket = site.open("/invalid/")
    for said in ("bad", "good"):
        socket.send(said)
        assert socket.read() == "good"
    socket.close()


def test_consume_later(site):
    """What is put back is tried again, and what comes behind it waits."""
    socket = site.open("/again/")
    socket.send("again")
    socket.send("behind")
    assert socket.read() == "again 3"
    assert socket.read() in {"behind 1", "behind 3"}  # what was sent together comes back together
    socket.close()


def test_groups(site):
    """Ten members: all but the one who is left out hear it, each once, in order."""
    sockets = [site.open(f"/room/{number}/") for number in range(10)]
    for said in ("one", "two"):
        sockets[0].send(said)
        assert sockets[0].read() == "told"
    for socket in sockets[1:]:
        assert [socket.read(), socket.read()] == ["one", "two"]
    for socket in sockets:
        socket.close()
    site.wait_until(lambda: len(noted(site)) == 10)


@pytest.mark.parametrize(
    ("method", "path", "body", "answer"),
    [
        ("GET", "/view/", None, (200, "by a view", b"hello")),
        ("HEAD", "/view/", None, (200, "by a view", b"")),
        ("PUT", "/aview/", b"x", (200, None, b'{"method": "PUT"}')),
        ("GET", "/page/", None, (201, "by hand", b"<p>")),
        ("GET", "/bad-page/", None, (500, None, b"500 Internal Server Error\n")),
        ("GET", "/fail-page/", None, (500, None, b"500 Internal Server Error\n")),
        ("GET", "/rejecting/", None, (451, None, b"not here\n")),
        ("GET", "/trying/", None, (200, None, b"attempt 3")),
        ("GET", "/later/", None, (200, None, b"at last")),
        ("POST", "/size/", b"x" * 10, (200, None, b"10")),
        ("POST", "/size/", b"x" * 400_000, (200, None, b"400000")),
        ("GET", "/broken-stream/", None, "cut off"),
    ],
)
def test_requests(site, method, path, body, answer):
    """Status, headers and content, whoever answers."""
    assert site.ask(method, path, body) == answer


def test_streams(site):
    """Pieces arrive whole and in order."""
    _, _, content = site.ask("GET", "/stream/")
    assert content.decode() == "".join(f"{number}," for number in range(100))


@pytest.mark.parametrize(("path", "status"), [("/nowhere/", 404), ("/raising/", 500)])
def test_djangos_own_answers(site, path, status):
    """What Django answers where there is no view, or it raised."""
    found, _, content = site.ask("GET", path)
    assert (found, b"<h1>" in content) == (status, True)
