"""Consumers and a view that write down what they handle before they answer.

A line of the ledger is ``KIND SUBJECT NUMBER PID``, written by one system call: it is there
whatever becomes of the process the moment after.
"""

import os

from django.http import HttpResponse
from django.urls import path

from django_gateway import Group, route

_ledger = os.open(os.environ["CHAOS_LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def write(kind, subject, number=0):
    os.write(_ledger, f"{kind} {subject} {number} {os.getpid()}\n".encode())


def connect(message):
    name = message.reply_channel.name
    write("connect", name)
    Group("all").add(name)
    message.reply(f"name {name}", accept=True)


def receive(message):
    write("receive", message.reply_channel.name, message.text)
    message.reply(message.text)
    if message.text.endswith("00"):
        Group("all").send({"text": "news"})


def disconnect(message):
    write("disconnect", message.reply_channel.name)


def view(request, number):
    write("request", number)
    return HttpResponse(str(number))


urlpatterns = [path("<int:number>", view)]
routing = [
    route("websocket.connect", connect),
    route("websocket.receive", receive),
    route("websocket.disconnect", disconnect),
]
