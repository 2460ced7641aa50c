"""``{% load gateway %}``: the browser client in a page.

::

    {% gateway_client %}
    <script type="module">
      import { connect } from "gateway-client";
      connect("/chat/").onmessage = event => …;
    </script>

The tag stands before the first module of the page, usually in its ``<head>``.
"""

from __future__ import annotations

import json
from typing import Any, Final

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

CLIENT: Final = "gateway/client.js"
NAME: Final = "gateway-client"
"""What a page imports it by; its name at npm, too, so that code moves between the two."""

# In a script these would end it, or begin a comment. JSON has another spelling for them.
_ESCAPES: Final = {ord("<"): "\\u003C", ord(">"): "\\u003E", ord("&"): "\\u0026"}


@register.simple_tag(takes_context=True)
def gateway_client(context: Any, nonce: str | None = None) -> SafeString:
    """Let the page import ``gateway-client``, and begin to load it.

    An import map, which has to stand before the page's first module, and a preload. The address
    is that of ``{% static %}``: with a manifest storage it has a hash, and is cached for long.
    ``nonce`` is for a Content-Security-Policy with one; without it the context's ``csp_nonce``
    (Django 6) or the request's (django-csp) is taken, where there is one.
    """
    if nonce is None:
        nonce = context.get("csp_nonce")  # lazy, and false until it is written
    if nonce is None:
        nonce = getattr(context.get("request"), "csp_nonce", None)
    attribute = "" if nonce is None else format_html(' nonce="{}"', nonce)
    address = static(CLIENT)
    imports = json.dumps({"imports": {NAME: address}}).translate(_ESCAPES)
    return format_html(
        '<script type="importmap"{}>{}</script>\n<link rel="modulepreload" href="{}"{}>',
        attribute,
        mark_safe(imports),  # noqa: S308 - escaped above, as a script needs it
        address,
        attribute,
    )


@register.simple_tag
def gateway_client_url() -> str:
    """Return the address of the client, for pages that have an import map of their own."""
    return static(CLIENT)
