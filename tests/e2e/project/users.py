"""Views that log in and out, and consumers that ask who is there."""

import os

from django.contrib import auth
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.urls import path
from routing import seen

from django_gateway import Reject, route
from django_gateway.auth import disconnect_user


def log_in(request):
    if request.method == "GET":
        return HttpResponse(get_token(request))
    user = auth.authenticate(
        request, username=request.POST["username"], password=request.POST["password"]
    )
    if user is None:
        return HttpResponse("who?", status=403)
    auth.login(request, user)
    return HttpResponse("welcome")


def log_out(request):
    auth.logout(request)
    return HttpResponse("bye")


def throw_out(request, name):
    disconnect_user(auth.get_user_model().objects.get(username=name))
    return HttpResponse("gone")


def connect(message):
    if message.user.is_anonymous:
        raise Reject(401, "log in first")


def receive(message):
    message.reply(f"{message.user.username} {os.getpid()}")


async def areceive(message):
    user = await message.auser()
    message.reply(f"{user.username} {os.getpid()}")


def disconnect(message):
    seen(f"{message.user.username} left with {message['code']}")


routing = [
    route("websocket.connect", connect),
    route("websocket.receive", areceive, path="^/async"),
    route("websocket.receive", receive),
    route("websocket.disconnect", disconnect),
]

urlpatterns = [
    path("log-in", log_in),
    path("log-out", log_out),
    path("throw-out/<name>", throw_out),
]
