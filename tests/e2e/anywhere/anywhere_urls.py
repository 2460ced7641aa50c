"""Views and consumers that are told, and that let others answer."""

import multiprocessing
import os
import threading

from django.http import HttpResponse
from django.urls import path

from django_gateway import Channel, Group, ResponseLater, route


def shout(request, how):
    """Send from a view, in one of the ways that there are."""
    text = f"{how} {os.getpid()}"
    if how == "view":
        Group("all").send({"text": text})
    elif how == "thread":
        sending = threading.Thread(target=Group("all").send, args=({"text": text},))
        sending.start()
        sending.join()
    elif how == "fork":
        context = multiprocessing.get_context("fork")
        sending = context.Process(target=Group("all").send, args=({"text": text},))
        sending.start()
        sending.join(10)
        return HttpResponse(f"{text} {sending.exitcode}")
    return HttpResponse(text)


async def ashout(request, how):
    """Send from an async view; what is plain is buffered, so it waits for nobody."""
    text = f"{how} {os.getpid()}"
    if how == "awaited":
        await Group("all").asend({"text": text})
    elif how == "at once":
        await Group("all").asend({"text": text}, immediately=True)
    else:
        Group("all").send({"text": text})
    return HttpResponse(text)


def later(request):
    """Let whoever knows ``Channel("jobs")`` answer."""
    Channel("jobs").send({"answer": request.reply_channel.name})
    raise ResponseLater


async def alater(request):
    Group("waiting").add(request.reply_channel)
    raise ResponseLater


def connect(message):
    Group("all").add(message.reply_channel)


urlpatterns = [
    path("shout/<how>", shout),
    path("ashout/<how>", ashout),
    path("later", later),
    path("alater", alater),
]
routing = [route("websocket.connect", connect)]
