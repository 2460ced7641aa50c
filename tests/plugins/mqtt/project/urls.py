"""A page, and a button that publishes."""

from django.http import HttpResponse
from django.urls import path

from django_gateway import Channel


def page(request):
    return HttpResponse("<!doctype html><title>devices</title>")


def publish(request):
    Channel("mqtt.publish!jobs_2fnew").send({"text": request.GET["text"], "qos": 1})
    return HttpResponse("sent")


urlpatterns = [path("", page), path("publish", publish)]
