"""One behaviour of an application each, for test clients and for a real gateway.

What the application noted is read by the view ``/noted/``.
"""

from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_gateway import Channel, ConsumeLater, Group, Reject, ResponseLater, route

noted = []


def echo(message):
    message.reply(message.text)


async def aecho(message):
    message.reply(message.text)


def accept(message):
    message.accept(subprotocol="v2", headers=[(b"x-made", b"here")])


def early(message):
    """Data before acceptance accepts."""
    message.reply("welcome")


def refuse(message):
    message.reply(accept=False)


def refuse_with_status(message):
    message.reply(status=429, content=b"slowly", headers=[(b"retry-after", b"7")])


def reject(message):
    raise Reject(404, "no such room")


def reject_strangely(message):
    raise Reject(4001, "a close code before there is anything to close")


def fail(message):
    raise ZeroDivisionError


async def afail(message):
    message.reply("never sent")
    raise ZeroDivisionError


def reject_message(message):
    raise Reject(4001, "say something else")


def reject_plainly(message):
    raise Reject


def close(message):
    message.reply("bye", close=int(message.text), reason="go")


def invalid(message):
    if message.text == "bad":
        message.reply(text="a", bytes=b"b")
        message.reply(colour="red")
        message.reply(close="soon")
    message.reply("good")


def again(message):
    """Twice put back, then answered; what comes behind waits for it."""
    if message.text == "again" and message.attempt < 3:
        raise ConsumeLater(0.1)
    message.reply(f"{message.text} {message.attempt}")


def join(message):
    message.accept()
    Group("room").add(message.reply_channel)


def tell(message):
    Group("room").send({"text": message.text}, exclude=[message.reply_channel])
    message.reply("told")


def leave(message):
    noted.append(["left", message["path"], message["code"], message["order"]])


def page(message):
    message.reply(status=201, headers=[(b"x-made", b"by hand")], content=b"<p>")


def bad_page(message):
    message.reply(status=200, headers=[(b"x", b"a\r\nb")], content=b"")


def answer_later(message):
    Channel(message["answer"]).send({"text": "at last"})


def routes_of(name, *consumers):
    """Routes of a path: consumers of connect and of receive."""
    kinds = ("websocket.connect", "websocket.receive")
    return [
        route(kind, consumer, path=f"^/{name}/")
        for kind, consumer in zip(kinds, consumers, strict=False)
        if consumer is not None
    ]


routing = [
    *routes_of("echo", lambda message: None, echo),
    *routes_of("aecho", lambda message: None, aecho),
    *routes_of("accept", accept, echo),
    *routes_of("early", early, echo),
    *routes_of("refuse", refuse),
    *routes_of("refuse-with-status", refuse_with_status),
    *routes_of("reject", reject),
    *routes_of("reject-strangely", reject_strangely),
    *routes_of("fail-connect", fail),
    *routes_of("fail", lambda message: None, fail),
    *routes_of("afail", lambda message: None, afail),
    *routes_of("reject-message", lambda message: None, reject_message),
    *routes_of("reject-plainly", lambda message: None, reject_plainly),
    *routes_of("close", lambda message: None, close),
    *routes_of("invalid", lambda message: None, invalid),
    *routes_of("again", lambda message: None, again),
    *routes_of("room", join, tell),
    *routes_of("deaf", lambda message: None),
    route("websocket.disconnect", leave),
    route("http.request", page, path="^/page/"),
    route("http.request", bad_page, path="^/bad-page/"),
    route("http.request", fail, path="^/fail-page/"),
    route("later", answer_later),
]


def view(request):
    return HttpResponse("hello", headers={"X-Made": "by a view"})


async def aview(request):
    return JsonResponse({"method": request.method})


def look(request):
    return JsonResponse({"noted": noted})


def clear(request):
    noted.clear()
    return HttpResponse(status=204)


def raising(request):
    raise ZeroDivisionError


def rejecting(request):
    raise Reject(451, "not here")


def trying(request):
    if request.message.attempt < 3:
        raise ConsumeLater(0.1)
    return HttpResponse(f"attempt {request.message.attempt}")


def later(request):
    Channel("later").send({"answer": request.reply_channel.name})
    raise ResponseLater


@csrf_exempt
def size(request):
    return HttpResponse(str(len(request.body)))


def stream(request):
    return StreamingHttpResponse(f"{number}," for number in range(100))


def broken_stream(request):
    def pieces():
        yield "some"
        yield "more"
        raise ZeroDivisionError

    return StreamingHttpResponse(pieces())


urlpatterns = [
    path("view/", view),
    path("aview/", aview),
    path("noted/", look),
    path("clear/", clear),
    path("raising/", raising),
    path("rejecting/", rejecting),
    path("trying/", trying),
    path("later/", later),
    path("size/", size),
    path("stream/", stream),
    path("broken-stream/", broken_stream),
]
