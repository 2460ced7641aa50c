"""What changes when new code is deployed."""

import os
import time

from django.http import HttpResponse, JsonResponse

from django_gateway import route

VERSION = "first"

kept = []


def receive(message):
    """Say the version and the text; ``sleep SECONDS`` takes its time."""
    word, _, rest = message.text.partition(" ")
    if word == "sleep":
        time.sleep(float(rest))
    message.reply(f"{VERSION} {message.text}")


def version(request):
    return HttpResponse(VERSION)


def grow(request, megabytes):
    """Keep so much memory, and say in which process."""
    if megabytes:
        kept.append(b"x" * (megabytes << 20))
    return JsonResponse({"pid": os.getpid()})


routing = [route("websocket.receive", receive, path=r"^/deployed$")]
