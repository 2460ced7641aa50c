"""A room that remembers, for sockets and long polls; and requests that are answered by a group."""

import os
from pathlib import Path

from django.http import HttpResponse
from django.urls import path as url
from django.views.decorators.csrf import csrf_exempt

from django_gateway import Consumer, Group, route, route_class


class Room(Consumer):
    protocols = ("websocket", "longpoll")
    groups = ("room",)

    def receive(self, message):
        if message.text == "bye":
            self.reply(text="bye", close=4001, reason="as you wish")
        else:
            self.reply(text=f"{os.getpid()} {message.text}")

    def disconnect(self, message):
        with Path(os.environ["E2E_SEEN"]).open("a") as file:
            file.write(f"disconnect {message.content['code']} {message.content['reason']}\n")


def wait(message):
    """Raw long-polling: a request that a group's message answers, whenever that comes."""
    Group("waiting").add(message.reply_channel)


def left(message):
    with Path(os.environ["E2E_SEEN"]).open("a") as file:
        file.write(f"left {message.content['path']}\n")


@csrf_exempt
def say(request):
    """Tell the room, which keeps it."""
    Group("room").send({"text": request.POST["text"]}, history=100)
    return HttpResponse(status=204)


@csrf_exempt
def answer(request):
    """Answer all who wait."""
    Group("waiting").send({"text": request.POST["text"]})
    return HttpResponse(status=204)


def count(request):
    """Say how many wait."""
    return HttpResponse(str(Group("waiting").count()))


urlpatterns = [url("say/", say), url("answer/", answer), url("count/", count)]
routing = [
    route_class(Room),
    route("http.request", wait, path="^/wait/$"),
    route("http.disconnect", left, path="^/wait/$"),
]
