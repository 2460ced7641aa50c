"""The rooms, a small application written from the manual: its own tests, and two people in a browser."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.demo.browser import Browser, Page
from tests.e2e.serving import Served, wait_until

PROJECT = Path(__file__).resolve().parents[2] / "examples" / "rooms"
LARGE = bytes(range(256)) * 20_000
pytestmark = pytest.mark.timeout(120)  # processes that import Django, and a browser


def manage(data: Path, *words: str, **environ: str) -> str:
    """What a command of the project says; everything that it writes is in ``data``."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", *words],
        cwd=PROJECT,
        env=os.environ | {"ROOMS_DATA": str(data)} | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_its_own_tests(tmp_path: Path) -> None:
    """They pass, by `manage.py test`; the checks find nothing, and no migration is missing."""
    assert "OK" in manage(tmp_path, "test")
    assert "no issues" in manage(tmp_path, "check")
    assert "No changes" in manage(tmp_path, "makemigrations", "--check", "--dry-run")


class Rooms:
    """The application behind a real gateway with two workers."""

    def __init__(self, data: Path) -> None:
        self.data = data
        manage(data, "migrate")
        self.served = Served(
            data, project=PROJECT, default_layer=True, workers=2, ROOMS_DATA=str(data)
        )

    def manage(self, *words: str) -> str:
        """What a command says that finds the gateway as every program of the project does."""
        return manage(self.data, *words, XDG_RUNTIME_DIR=str(self.data))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    found = Rooms(tmp_path_factory.mktemp("rooms"))
    with found.served:
        yield found


def sign_up(page: Page, name: str) -> None:
    """Fill in the form as somebody does."""
    page.run(
        f"for (const [key, value] of Object.entries({{username: '{name}', "
        "password1: 'a-long-secret', password2: 'a-long-secret'}))"
        "document.querySelector(`form.fields [name=${key}]`).value = value;"
        "document.querySelector('form.fields').requestSubmit()"
    )
    page.wait(f"document.querySelector('nav')?.innerText.includes('{name}')")


def go(page: Page, url: str) -> None:
    page.call("Page.navigate", url=url)
    page.wait(f"location.href === '{url}' && document.readyState === 'complete'")


def enter(page: Page, url: str) -> None:
    go(page, url)
    page.wait("document.querySelector('#state')?.textContent === 'connected'")


def says(text: str) -> str:
    return f"document.querySelector('#posts').innerText.includes('{text}')"


def test_two_people_in_a_room(rooms: Rooms, browser: Browser, tmp_path: Path) -> None:
    """One opens a room, both talk, one uploads, a command speaks, the admin ends one of them."""
    served = rooms.served
    address = served.url("/rooms/hall/")
    # one browser at two names has two jars of cookies
    with (
        browser.open(served.url("/accounts/signup/")) as ann,
        browser.open(served.url("/accounts/signup/").replace("127.0.0.1", "localhost")) as bob,
    ):
        sign_up(ann, "ann")
        sign_up(bob, "bob")
        go(ann, served.url("/new/"))
        ann.run(
            "document.querySelector('[name=title]').value = 'The hall';"
            "document.querySelector('[name=slug]').value = 'hall';"
            "document.querySelector('form.fields').requestSubmit()"
        )
        ann.wait(f"location.href === '{address}'")
        enter(ann, address)
        enter(bob, address.replace("127.0.0.1", "localhost"))
        for page in (ann, bob):
            page.wait("document.querySelector('#here').textContent === 'ann, bob'")

        ann.run("say.text.value = 'hello, bob'; say.requestSubmit()")
        for page in (ann, bob):
            page.wait(says("hello, bob"))

        bob.run(
            "{ const file = new File([new Uint8Array(5120000).map((_, i) => i % 256)], 'noise.bin');"
            "const files = new DataTransfer(); files.items.add(file);"
            "upload.file.files = files.files; upload.requestSubmit() }"
        )
        digest = hashlib.sha256(LARGE).hexdigest()
        ann.wait(says("noise.bin"))
        ann.wait(says(digest[:16]))
        heard = ann.run(
            "fetch(document.querySelector('#posts a').href).then(answer => answer.arrayBuffer())"
            ".then(data => crypto.subtle.digest('SHA-256', data))"
            ".then(found => Array.from(new Uint8Array(found), n => n.toString(16).padStart(2, '0'))"
            ".join(''))"
        )
        assert heard == digest

        rooms.manage("broadcast", "we close at ten")
        for page in (ann, bob):
            page.wait(says("we close at ten"))
        picture = ann.call("Page.captureScreenshot", format="png")["data"]
        (tmp_path / "rooms.png").write_bytes(base64.b64decode(picture))

        bob.run("document.querySelector('#logout').requestSubmit()")
        ann.wait("document.querySelector('#here').textContent === 'ann'")

        rooms.manage("shell", "-v", "0", "-c", DEACTIVATE)
        ann.wait("location.pathname === '/accounts/login/'")
    assert "Traceback" not in served.text()


def test_what_django_logs_is_logged_once(rooms: Rooms) -> None:
    """With DEBUG on Django has a handler of its own, which is not wanted beside the gateway's."""
    with pytest.raises(HTTPError, match="404"):
        urlopen(rooms.served.url("/nothing/"))
    wait_until(lambda: "Not Found: /nothing/" in rooms.served.text())
    assert rooms.served.text().count("Not Found: /nothing/") == 1


DEACTIVATE = """
from django.contrib.auth.models import User
ann = User.objects.get(username="ann")
ann.is_active = False
ann.save()
"""
