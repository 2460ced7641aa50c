"""The same views, and two that tell a group."""

from django.http import HttpRequest, HttpResponse
from django.urls import path
from urls import hello
from urls import urlpatterns as views

from django_gateway import Group

TEXT = "0123456789abcdef" * 4


def tell(request: HttpRequest) -> HttpResponse:
    Group("bench").send({"text": TEXT})
    return hello(request)


def keep(request: HttpRequest) -> HttpResponse:
    Group("bench").send({"text": TEXT}, history=100)
    return hello(request)


urlpatterns = [*views, path("tell", tell), path("keep", keep)]
