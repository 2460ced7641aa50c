"""A page for the client, one for the browser's own EventSource, and the module itself."""

from django.contrib.staticfiles.views import serve
from django.shortcuts import render
from django.urls import path

urlpatterns = [
    path("page/", lambda request: render(request, "page.html")),
    path("static/<path:path>", serve, {"insecure": True}),
]
