"""One consumer, one routing table, one group: whatever the protocol."""

from django.http import HttpResponse
from django.urls import path as url
from django.views.decorators.csrf import csrf_exempt

from django_gateway import Group, route
from gateway import address

together = Group("together")


def everything(message):
    """Join, and answer, in the words that every protocol understands."""
    together.add(message.reply_channel)
    protocol = message.channel_name.partition(".")[0]
    message.reply(f"{protocol}: {(message.text or 'welcome').strip()}")


@csrf_exempt
def invite(request):
    """Have an address be a member: of a topic, a room of a network, a mailbox."""
    together.add(address(*request.POST.getlist("address")))
    return HttpResponse(status=204)


@csrf_exempt
def shout(request):
    """Tell everybody, once."""
    together.send({"text": request.POST["text"], "email": {"subject": "To all"}})
    return HttpResponse(str(together.count()))


urlpatterns = [url("invite/", invite), url("shout/", shout)]
routing = [
    route(
        [
            "websocket.receive",
            "sse.connect",
            "longpoll.receive",
            "mqtt.receive",
            "irc.receive",
            "email.receive",
        ],
        everything,
    ),
]
