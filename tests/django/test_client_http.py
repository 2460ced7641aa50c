"""`GatewayClient` and Django's views: requests the whole way, without a socket."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import override_settings

from django_gateway import Channel, HttpConsumer, path, route, route_class
from tests.django.toys import Told


def test_views_are_asked_as_djangos_client_asks(client_of):
    """Methods, data, headers, JSON and cookies go in and come out as with Django's client."""
    client = client_of(headers={"x-all": "1"})
    found = client.get("/meta/", {"a": "b c"}, headers={"x-one": "2"}, secure=True).json()
    assert found["get"] == {"a": "b c"}
    assert (found["headers"]["X-All"], found["headers"]["X-One"]) == ("1", "2")
    assert found["url"] == "https://testserver/meta/?a=b+c"
    assert found["meta"]["REMOTE_ADDR"] == "127.0.0.1"
    assert client.get("/").content == b"hello"
    head = client.head("/")
    assert (head.content, head.headers["Content-Length"]) == (b"", "5")
    for method in ("put", "patch", "delete"):
        answer = getattr(client, method)("/meta/", b"{}", content_type="application/json")
        assert answer.json()["method"] == method.upper()
    assert client.get("/nowhere/").status_code == 404
    assert client.get("/meta/").resolver_match.route == "meta/"


def test_the_response_is_that_of_the_wire(client_of):
    """Streams, files and the gateway's own headers are what a client would get."""
    client = client_of()
    stream = client.get("/stream/3/")
    assert stream.streaming
    assert b"".join(stream.streaming_content) == stream.content != b""
    assert client.get("/async-stream/3/").content == stream.content
    plain = client.get("/")
    assert not plain.streaming
    assert plain.headers["Content-Length"] == "5"
    assert "Date" in plain.headers


def test_uploads_of_any_size(client_of):
    """A small body, and one that comes in pieces, for every kind of view."""
    client = client_of()
    for size in (10, 1_000_000):
        file = SimpleUploadedFile("a.bin", b"x" * size)
        small = client.post("/upload/", {"file": file})
        assert small.status_code == 200, small.content
        assert str(size) in small.content.decode()
        for place in ("/body/", "/streamed-body/", "/async-body/"):
            answer = client.post(place, b"y" * size, content_type="application/octet-stream")
            assert answer.status_code == 200, (place, answer.content)


def test_views_that_raise(client_of):
    """An exception of a view is raised in the test, or the response is a 500."""
    with pytest.raises(RuntimeError, match="broken view"):
        client_of().get("/error/")
    response = client_of(raise_request_exception=False).get("/error/")
    assert response.status_code == 500
    assert response.exc_info[0] is RuntimeError


def test_views_may_decide_otherwise(client_of):
    """Reject, ConsumeLater and ResponseLater of views come to what the gateway makes of them."""
    jobs = route("jobs", lambda message: Channel(message["answer"]).send({"text": "at last"}))
    client = client_of(jobs)
    assert client.get("/reject/").status_code == 429
    assert client.get("/later/").content == b"at last"
    assert client.get("/again/").status_code == 200


def test_a_view_that_never_answers_gets_the_gateways_timeout(client_of):
    """Time passes until the gateway gives up: a request always comes to its end."""
    client = client_of(route("http.request", Told(), path="^/silent/"))
    before = client.clock.time()
    assert client.get("/silent/").status_code == 504
    assert client.clock.time() - before == pytest.approx(120, abs=1)


def test_consumers_answer_requests(client_of):
    """A consumer of http.request stands before the views, its replies checked by the gateway."""

    def page(message):
        message.reply(status=201, headers=[(b"x-made", b"by hand")], content=b"<p>")

    client = client_of(route("http.request", page, path="^/raw/"))
    answer = client.get("/raw/")
    assert (answer.status_code, answer.headers["X-Made"], answer.content) == (
        201,
        "by hand",
        b"<p>",
    )
    assert client.get("/").content == b"hello"


def test_redirects_are_followed(client_of):
    """``follow=True`` goes on as Django's client does."""

    def away(message):
        message.reply(status=302, headers=[(b"location", b"/?from=away")])

    client = client_of(route("http.request", away, path="^/away/"))
    answer = client.get("/away/", follow=True)
    assert answer.content == b"hello"
    assert answer.redirect_chain == [("/?from=away", 302)]


class Lamp(HttpConsumer):
    def post(self, request, pk):
        return HttpResponse(f"{pk} {request.POST['state']}")

    async def put(self, request, pk):
        return HttpResponse(str(pk))


LAMPS = route_class(Lamp, path=path("lamps/<int:pk>/"))
CSRF = override_settings(MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"])


@CSRF
@pytest.mark.parametrize("method", ["post", "put"])
def test_classes_are_asked_as_views_are(client_of, method):
    """A class that answers requests is spared CSRF checks as views are, and its request and what
    the path captured can be looked at.
    """
    client = client_of(LAMPS)
    data = {"state": "on"} if method == "post" else b""
    response = getattr(client, method)("/lamps/7/", data)
    assert response.content == (b"7 on" if method == "post" else b"7")
    assert response.wsgi_request.message["path"] == "/lamps/7/"
    assert response.resolver_match.kwargs == {"pk": 7}
    strict = client.another(enforce_csrf_checks=True)
    assert getattr(strict, method)("/lamps/7/", data).status_code == 403


def test_a_test_overrides_the_middleware_of_classes(client_of):
    """A site has the middleware of the settings as they are when it is made."""
    ask = {"path": "/lamps/7/", "data": {"state": "on"}}
    assert client_of(LAMPS, enforce_csrf_checks=True).post(**ask).status_code == 200
    with CSRF:
        assert client_of(LAMPS, enforce_csrf_checks=True).post(**ask).status_code == 403
    assert client_of(LAMPS, enforce_csrf_checks=True).post(**ask).status_code == 200
