"""A page for the client, one for the browser's own EventSource, and the module itself."""

from django.contrib.staticfiles.views import serve
from django.shortcuts import render
from django.urls import path

POLICY = "default-src 'none'; img-src data:; connect-src 'self'; script-src 'nonce-once'"


def strict(request):
    """The page, under a policy that lets nothing in but what has the nonce."""
    request.csp_nonce = "once"
    response = render(request, "page.html", {"request": request})
    response["Content-Security-Policy"] = POLICY
    return response


urlpatterns = [
    path("strict/", strict),
    path("page/", lambda request: render(request, "page.html")),
    path("static/<path:path>", serve, {"insecure": True}),
]
