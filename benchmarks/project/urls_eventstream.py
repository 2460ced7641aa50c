"""The same views, and one that tells everybody who has opened a stream, by django-eventstream."""

import django_eventstream
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from urls import hello
from urls import urlpatterns as views

TEXT = "0123456789abcdef" * 4


async def tell(request: HttpRequest) -> HttpResponse:  # on the loop: cheaper than a thread
    django_eventstream.send_event("bench", "message", TEXT, json_encode=False)
    return hello(request)


urlpatterns = [
    *views,
    path("tell", tell),
    path("events/", include(django_eventstream.urls), {"channels": ["bench"]}),
]
