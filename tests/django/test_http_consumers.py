"""Classes that answer requests: verbs, responses, and what they share with views."""

import asyncio
import threading

import pytest
from django.core.signals import request_finished, request_started
from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt

from django_gateway import (
    ConsumeLater,
    Group,
    HttpConsumer,
    Reject,
    ResponseLater,
    path,
    route_class,
)
from django_gateway.decorators import stream_body
from tests.django.peer import Outcome

OK = Outcome("accepted")


def place():
    """Whether the caller runs on a thread or on the loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "thread"
    return "loop"


class Lamp(HttpConsumer):
    def get(self, request, pk):
        assert request is self.request
        return JsonResponse({"pk": pk, "query": request.GET, "on": place()})

    def post(self, request, pk):
        return HttpResponse(f"{pk} {request.POST['state']}", status=201)


class AsyncLamp(HttpConsumer):
    async def get(self, request, pk):
        assert request is self.request
        return JsonResponse({"pk": pk, "query": request.GET, "on": place()})

    async def post(self, request, pk):
        return HttpResponse(f"{pk} {request.POST['state']}", status=201)


class MixedLamp(Lamp):
    post = AsyncLamp.post


LAMPS = pytest.mark.parametrize("kind", [Lamp, AsyncLamp, MixedLamp], ids=lambda it: it.__name__)


def lamps(kind):
    return [route_class(kind, path=path("lamps/<int:pk>/"))]


@LAMPS
def test_verbs(work, peer, kind):
    """Each verb has a method, which gets the request and what the path captures."""
    work(lamps(kind))
    response = peer.ask("/lamps/7/", query=b"a=1")
    on = "loop" if kind is AsyncLamp else "thread"
    assert response.content == b'{"pk": 7, "query": {"a": "1"}, "on": "%s"}' % on.encode()
    assert response.header(b"content-type") == b"application/json"
    form = [(b"content-type", b"application/x-www-form-urlencoded")]
    response = peer.ask("/lamps/7/", "POST", form, b"state=on")
    assert (response.status, response.content) == (201, b"7 on")


@LAMPS
def test_verbs_without_a_method(work, peer, kind):
    """Any other verb is answered 405 and told which there are; OPTIONS tells them too."""
    work(lamps(kind))
    for verb in ("DELETE", "PATCH", "BREW", "DISPATCH"):
        response = peer.ask("/lamps/7/", verb)
        assert response.status == 405
        assert response.header(b"allow") == b"GET, POST, OPTIONS, HEAD"
    response = peer.ask("/lamps/7/", "OPTIONS")
    assert (response.status, response.content) == (200, b"")
    assert response.header(b"allow") == b"GET, POST, OPTIONS, HEAD"


@LAMPS
def test_head(work, peer, kind):
    """HEAD is answered as GET."""
    work(lamps(kind))
    assert peer.ask("/lamps/7/", "HEAD").status == 200


def test_what_is_not_of_the_class_goes_to_the_urls(work, peer):
    """A path that the route does not match is answered by Django's URLs."""
    work(lamps(Lamp))
    assert peer.ask("/lamps/x/").status == 404
    assert peer.ask("/").content == b"hello"


class Answers(HttpConsumer):
    def get(self, request, how):
        match how:
            case "reply":
                self.reply(status=202, headers=[], content=b"myself")
            case "text":
                self.reply("plain")
            case "later":
                Group("waiting").add(self.reply_channel)
                raise ResponseLater
            case "404":
                Group("g").send({"text": "never sent"})
                raise Http404
            case "reject":
                raise Reject(403)
            case "again":
                raise ConsumeLater(0) if self.message.attempt == 1 else Reject(409)
            case "stream":
                return StreamingHttpResponse([b"a", b"b"])
            case "dict":
                return {"not": "a response"}
            case "large":
                return HttpResponse(b"x" * 200_000)
        return None


class AsyncAnswers(HttpConsumer):
    async def get(self, request, how):
        return Answers.get(self, request, how)


ANSWERS = pytest.mark.parametrize("kind", [Answers, AsyncAnswers], ids=lambda it: it.__name__)


@ANSWERS
def test_answers(work, peer, kind):
    """A method may answer by a response or a reply, may leave it to others, or refuse."""
    work([route_class(kind, path=path("<slug:how>/"))])
    response = peer.ask("/reply/")
    assert (response.status, response.content) == (202, b"myself")
    assert peer.settled("http.request", peer.request("/text/")) == ([{"text": "plain"}], [OK])
    assert peer.ask("/404/").status == 404
    assert peer.ask("/stream/").content == b"ab"
    assert peer.ask("/large/").content == b"x" * 200_000
    assert peer.exchange(peer.request("/reject/")) == (None, Outcome("rejected", 403))
    assert peer.exchange(peer.request("/again/")) == (None, Outcome("rejected", 409))
    assert peer.settled("http.request", peer.request("/later/"))[1] == [OK]
    assert len(peer.layer.group_channels("waiting")) == 1


@ANSWERS
@pytest.mark.parametrize(
    ("how", "says"),
    [
        (
            "forgotten",
            "nothing; return an HttpResponse; or answer by self.reply(…), or raise ResponseLater",
        ),
        (
            "dict",
            (
                "a dict; return an HttpResponse: JsonResponse(…) holds a dict or a list, "
                "HttpResponse(…) a text or bytes"
            ),
        ),
    ],
)
def test_no_answer(work, peer, kind, caplog, how, says):
    """A method that returns no response and has not replied is answered 500 at once, and the log
    says what to return.
    """
    work([route_class(kind, path=path("<slug:how>/"))])
    assert peer.ask(f"/{how}/").status == 500
    assert f"{__name__}.{kind.__name__}.get returned {says}" in caplog.text


def middleware(get_response):
    """Note what Django tells of the view."""

    def around(request):
        response = get_response(request)
        match = request.resolver_match
        response["x-view"] = f"{match._func_path.rpartition('.')[2]} {match.kwargs}"
        return response

    return around


@LAMPS
def test_middleware(work, peer, settings_of, kind):
    """Requests pass Django's middleware, which is told the class as the view."""
    settings_of(MIDDLEWARE=[f"{__name__}.middleware"])
    work(lamps(kind))
    assert peer.ask("/lamps/7/").header(b"x-view") == f"{kind.__name__} {{'pk': 7}}".encode()


@pytest.fixture
def settings_of():
    """Override settings for the test."""
    from contextlib import ExitStack

    from django.test import override_settings

    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(override_settings(**more))


@LAMPS
def test_csrf(work, peer, settings_of, kind):
    """Django's CSRF protection holds, and is taken off as it is taken off a View."""
    settings_of(MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"])
    form = [(b"content-type", b"application/x-www-form-urlencoded")]
    exempt = method_decorator(csrf_exempt, name="dispatch")(type("Exempt", (kind,), {}))
    work(
        [
            route_class(kind, path=path("lamps/<int:pk>/")),
            route_class(exempt, path=path("exempt/<int:pk>/")),
        ]
    )
    assert peer.ask("/lamps/7/", "POST", form, b"state=on").status == 403
    assert peer.ask("/exempt/7/", "POST", form, b"state=on").status == 201


class Upload(HttpConsumer):
    def put(self, request):
        return HttpResponse(f"{len(request.body)} {place()}")

    async def post(self, request):
        return HttpResponse(f"{len(request.body)} {place()}")

    @stream_body
    def patch(self, request):
        size = 0
        while chunk := request.read(1000):
            size += len(chunk)
        return HttpResponse(f"{size} {place()}")


@pytest.mark.parametrize(("verb", "on"), [("PUT", "thread"), ("POST", "loop"), ("PATCH", "thread")])
def test_large_bodies(work, peer, verb, on):
    """A large body is collected before a method is called, or read by it as it comes."""
    work([route_class(Upload)])
    request = peer.request("/", verb, body=b"x" * 65536, body_channel="http.body?up")
    for offset, more in ((65536, True), (75536, False)):
        piece = {"offset": offset, "content": b"x" * 10000, "more_content": more}
        peer.layer.send("http.body?up", piece)
    response, outcome = peer.exchange(request)
    assert outcome == OK
    assert response.content == f"85536 {on}".encode()


def test_dispatch(work, peer):
    """What an overridden dispatch does is done for every verb, 405 included."""

    class Closed(Lamp):
        def dispatch(self, request, **kwargs):
            response = super().dispatch(request, **kwargs)
            response["x-lamp"] = str(kwargs["pk"])
            return response

    work(lamps(Closed))
    assert peer.ask("/lamps/7/").header(b"x-lamp") == b"7"
    assert peer.ask("/lamps/7/", "DELETE").header(b"x-lamp") == b"7"


def test_async_dispatch(work, peer):
    """So may an async def dispatch, of a class whose methods are."""

    class Closed(AsyncLamp):
        async def dispatch(self, request, **kwargs):
            response = await super().dispatch(request, **kwargs)
            response["x-lamp"] = place()
            return response

    work(lamps(Closed))
    assert peer.ask("/lamps/7/").header(b"x-lamp") == b"loop"
    response = peer.ask("/lamps/7/", "DELETE")
    assert (response.status, response.header(b"x-lamp")) == (405, b"loop")


def test_a_client_that_left(work, peer):
    """disconnect hears of a client that left before it was answered."""
    left = threading.Event()

    class Waiting(Lamp):
        def disconnect(self, message, pk):
            assert (message["path"], pk) == ("/lamps/7/", 7)
            left.set()

    work(lamps(Waiting))
    assert peer.outcome("http.disconnect", {"path": "/lamps/7/"}) == OK
    assert left.is_set()


@LAMPS
def test_signals(work, peer, kind):
    """Django's signals are sent as for a view."""
    heard = []

    def hear(sender, **kwargs):
        heard.append(kwargs["signal"])

    request_started.connect(hear)
    request_finished.connect(hear)
    try:
        work(lamps(kind))
        peer.ask("/lamps/7/")
    finally:
        request_started.disconnect(hear)
        request_finished.disconnect(hear)
    assert heard == [request_started, request_finished]
