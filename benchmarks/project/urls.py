"""One view that does nothing, and one that waits as a database query would."""

import time

from django.http import HttpRequest, HttpResponse
from django.urls import path

SLEEP_SECONDS = 0.02


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"Hello, world!", content_type="text/plain")


def sleepy(request: HttpRequest) -> HttpResponse:
    time.sleep(SLEEP_SECONDS)
    return hello(request)


urlpatterns = [path("", hello), path("sleepy", sleepy)]
