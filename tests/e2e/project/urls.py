import os
import signal
import time

from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

from django_gateway import Group


def pid(request):
    return HttpResponse(str(os.getpid()))


def slow(request, milliseconds):
    time.sleep(milliseconds / 1000)
    return HttpResponse("slept")


def die(request):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(request):
    raise RuntimeError("the secret word is xyzzy")


def echo(request):
    return HttpResponse(request.body, content_type="application/octet-stream")


def stream(request, pieces):
    return StreamingHttpResponse(b"%04d" % n * 4096 for n in range(pieces))


def shout(request, group):
    Group(group).send({"text": request.GET["text"]})
    return HttpResponse("sent")


urlpatterns = [
    path("pid", pid),
    path("slow/<int:milliseconds>", slow),
    path("die", die),
    path("fail", fail),
    path("echo", echo),
    path("stream/<int:pieces>", stream),
    path("shout/<group>", shout),
]
