"""The same views, and two by which a project without a gateway does long-polling: within a process.

A request waits on the loop for what comes after the ETag that it names.
"""

import asyncio

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from urls import hello
from urls import urlpatterns as views

TEXT = "0123456789abcdef" * 4
WAIT_SECONDS = 25


class News:
    def __init__(self) -> None:
        self.number = 0
        self.waiting: set[asyncio.Future[None]] = set()


news = News()


async def tell(request: HttpRequest) -> HttpResponse:
    news.number += 1
    waiting, news.waiting = news.waiting, set()
    for one in waiting:
        one.set_result(None)
    return hello(request)


async def poll(request: HttpRequest) -> HttpResponse:
    seen = int(request.headers["If-None-Match"].strip('"'))
    if seen == news.number:
        due: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        news.waiting.add(due)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await due
        except TimeoutError:
            return HttpResponse(status=204, headers={"ETag": f'"{seen}"'})
        finally:
            news.waiting.discard(due)
    response = JsonResponse([{"text": TEXT}], safe=False, headers={"ETag": f'"{news.number}"'})
    response["Content-Length"] = str(len(response.content))  # as CommonMiddleware does
    return response


urlpatterns = [*views, path("tell", tell), path("polls/", poll)]
