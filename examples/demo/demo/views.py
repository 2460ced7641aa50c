"""Ordinary Django views, served by the same workers that run the consumers."""

import os

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from demo.consumers import say


def page(request: HttpRequest) -> HttpResponse:
    """The page with the chat on it."""
    return render(request, "page.html", {"worker": os.getpid(), "host": request.get_host()})


@require_POST
def bell(request: HttpRequest) -> HttpResponse:
    """A view may send into a group like anybody else."""
    say("* somebody rings the bell *")
    return HttpResponse("ding\n", content_type="text/plain")
