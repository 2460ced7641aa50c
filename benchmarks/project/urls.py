"""A view that does nothing, one that waits as a database query would, and large transfers."""

import time

from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

SLEEP_SECONDS = 0.02
LARGE = 64 * 1024 * 1024


class Zeros:
    """A large file of nothing."""

    def __init__(self) -> None:
        self._left = LARGE

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return bytes(size)

    def close(self) -> None:
        self._left = 0


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"Hello, world!", content_type="text/plain")


def sleepy(request: HttpRequest) -> HttpResponse:
    time.sleep(SLEEP_SECONDS)
    return hello(request)


def file(request: HttpRequest) -> FileResponse:
    response = FileResponse(Zeros())
    response["Content-Length"] = str(LARGE)
    return response


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(bytes(65536) for _ in range(LARGE // 65536))


def body(request: HttpRequest) -> HttpResponse:
    while request.read(65536):
        pass
    return hello(request)


urlpatterns = [
    path("", hello),
    path("sleepy", sleepy),
    path("file", file),
    path("stream", stream),
    path("body", body),
]
