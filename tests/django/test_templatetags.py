"""The tags that bring the browser client into a page."""

import json
import re
from html.parser import HTMLParser

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.http import HttpRequest
from django.template import Context, Engine
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

ENGINE = Engine(libraries={"gateway": "django_gateway.templatetags.gateway"})
MANIFEST = {
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
}


def page(tag="{% gateway_client %}", **context):
    return ENGINE.from_string("{% load gateway %}" + tag).render(Context(context))


class Tags(HTMLParser):
    """The elements of a text: name, attributes, and what the last one holds."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(autouse=True)
def _static_url():
    with override_settings(STATIC_URL="/static/"):
        yield


def test_an_import_map_and_a_preload():
    """The page can import the client by its name, and begins to load it."""
    tags = Tags(page())
    assert tags.found == [
        ("script", {"type": "importmap"}),
        ("link", {"rel": "modulepreload", "href": "/static/gateway/client.js"}),
    ]
    assert json.loads(tags.text) == {"imports": {"gateway-client": "/static/gateway/client.js"}}
    assert page("{% gateway_client_url %}") == "/static/gateway/client.js"


def nonces(text):
    return [attributes.get("nonce") for _, attributes in Tags(text).found]


def test_a_nonce():
    """Given, of the context, or of the request: both elements have it, escaped."""
    request = HttpRequest()
    assert nonces(page(request=request)) == [None, None]
    request.csp_nonce = "of-the-request"
    assert nonces(page(request=request)) == ["of-the-request"] * 2
    lazy = SimpleLazyObject(lambda: "of-the-context")
    assert nonces(page(request=request, csp_nonce=lazy)) == ["of-the-context"] * 2
    assert nonces(page("{% gateway_client nonce=mine %}", mine='"<')) == ['"<'] * 2


def test_an_address_that_would_end_the_script():
    """It does not: nor does it begin an element or a comment."""
    address = "/a&b/</script><!--"
    with override_settings(STATIC_URL=address + "/"):
        text = page()
    assert text.count("</script>") == 1
    inner = re.search(r"<script[^>]*>(.*)</script>", text)[1]
    [found] = json.loads(inner)["imports"].values()
    assert found.endswith("gateway/client.js")
    assert found.startswith("/a&b/")


def test_static_files_of_a_manifest(tmp_path):
    """The app's own static files are found and collected; the address has the file's hash."""
    apps = [*settings.INSTALLED_APPS, "django.contrib.staticfiles"]
    with override_settings(STORAGES=MANIFEST, STATIC_ROOT=str(tmp_path), INSTALLED_APPS=apps):
        assert finders.find("gateway/client.js").endswith("client.js")
        call_command("collectstatic", interactive=False, verbosity=0)
        [found] = json.loads(Tags(page()).text)["imports"].values()
        assert re.fullmatch(r"/static/gateway/client\.[0-9a-f]{12}\.js", found)
        assert (tmp_path / found.removeprefix("/static/")).is_file()
