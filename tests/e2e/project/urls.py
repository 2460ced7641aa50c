import os
import signal
import time

import deployed
import keeping
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path, reverse

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


def where(request):
    """Say where the request came from and was sent to, as Django sees it."""
    return JsonResponse(
        {
            "address": request.META["REMOTE_ADDR"],
            "secure": request.is_secure(),
            "host": request.get_host(),
            "url": request.build_absolute_uri(),
            "script_name": request.META["SCRIPT_NAME"],
            "path_info": request.path_info,
            "reversed": reverse("where"),
            "forwarded": {key: value for key, value in request.META.items() if "FORWARD" in key},
        }
    )


urlpatterns = [
    path("kept", keeping.kept),
    path("pid", pid),
    path("slow/<int:milliseconds>", slow),
    path("die", die),
    path("fail", fail),
    path("echo", echo),
    path("stream/<int:pieces>", stream),
    path("shout/<group>", shout),
    path("where", where, name="where"),
    path("version", deployed.version),
    path("grow/<int:megabytes>", deployed.grow),
    path("transfers/", include("transfers")),
]
