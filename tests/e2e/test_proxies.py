"""Behind a proxy: what Django sees of the client, the host and where it is mounted."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect, unix_connect

from tests.e2e.serving import Served
from tests.house.serving import free_port, wait_for_listener

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that believes proxies on loopback in everything."""
    options = ("--set", "http.trusted_proxies=127.0.0.1,10.0.0.0/8")
    options += ("--set", "http.proxy_parts=for,proto,host,prefix")
    with Served(tmp_path_factory.mktemp("trusting"), *options) as served:
        yield served


def ask(url: str, **headers: str) -> dict[str, Any]:
    """Return what the view ``where`` says."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with urllib.request.urlopen(urllib.request.Request(url, headers=named), timeout=10) as found:
        return json.load(found)


def test_django_sees_the_client(trusting: Served) -> None:
    """REMOTE_ADDR, is_secure() and get_host() are the client's, not the proxy's."""
    found = ask(
        trusting.url("/where"),
        X_Forwarded_For="6.6.6.6, 203.0.113.7, 10.0.0.2",
        X_Forwarded_Proto="https",
        X_Forwarded_Host="shop.example",
        X_Forwarded_Prefix="/shop",
        Forwarded="for=6.6.6.6",
    )
    assert found == {
        "address": "203.0.113.7",
        "secure": True,
        "host": "shop.example",
        "url": "https://shop.example/shop/where",
        "script_name": "/shop",
        "path_info": "/where",
        "reversed": "/shop/where",
        "forwarded": {
            "HTTP_X_FORWARDED_FOR": "203.0.113.7, 10.0.0.2",
            "HTTP_X_FORWARDED_PROTO": "https",
            "HTTP_X_FORWARDED_HOST": "shop.example",
            "HTTP_X_FORWARDED_PREFIX": "/shop",
        },
    }


def test_without_a_proxy(trusting: Served) -> None:
    """A request that no proxy speaks for is its own client's; the one before leaves no trace."""
    ask(trusting.url("/where"), X_Forwarded_Prefix="/shop")
    found = ask(trusting.url("/where"))
    assert found["address"] == "127.0.0.1"
    assert not found["secure"]
    assert found["host"] == f"127.0.0.1:{trusting.port}"
    assert (found["script_name"], found["reversed"]) == ("", "/where")


def test_an_unknown_client(trusting: Served) -> None:
    """Where a proxy's word cannot be read Django sees no address, rather than the proxy's."""
    assert ask(trusting.url("/where"), X_Forwarded_For="6.6.6.6, what")["address"] == ""


def test_strangers_are_not_believed(served: Served, tmp_path: Path) -> None:
    """With no trusted proxy the headers are just headers; with another one they are gone."""
    spoofed = {
        "X_Forwarded_For": "6.6.6.6",
        "X_Forwarded_Proto": "https",
        "Forwarded": "for=6.6.6.6",
    }
    found = ask(served.url("/where"), **spoofed)
    assert (found["address"], found["secure"]) == ("127.0.0.1", False)
    assert len(found["forwarded"]) == 3
    with Served(tmp_path, "--set", "http.trusted_proxies=unix") as other:
        found = ask(other.url("/where"), **spoofed)
    assert (found["address"], found["secure"], found["forwarded"]) == ("127.0.0.1", False, {})


def test_websockets_see_the_client(trusting: Served) -> None:
    """websocket.connect has the client, the scheme and the mount that the proxy names."""

    async def run() -> str | bytes:
        headers = {
            "X-Forwarded-For": "203.0.113.7",
            "X-Forwarded-Proto": "wss",
            "X-Forwarded-Prefix": "/shop",
        }
        async with connect(trusting.url("/where", "ws"), additional_headers=headers) as socket:
            return await socket.recv()

    assert asyncio.run(run()) == "['203.0.113.7', 0] wss /shop"


@pytest.mark.parametrize("path", ["/shop/where", "/where"], ids=["kept", "stripped"])
def test_root_path(tmp_path: Path, path: str) -> None:
    """Mounted by setting, Django makes the same URLs whether the proxy strips the prefix or not."""
    with Served(tmp_path, "--set", "http.root_path=/shop") as served:
        found = ask(served.url(path))
    assert (found["script_name"], found["path_info"]) == ("/shop", "/where")
    assert found["reversed"] == "/shop/where"
    assert found["url"] == served.url("/shop/where")


CONFIGURATION = """
user {user} {group}; daemon off; pid {folder}/pid; error_log {folder}/error; worker_processes 1;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  server {{
    listen 127.0.0.1:{port};
    location /shop/ {{
      proxy_pass http://unix:{socket}:/;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Prefix /shop;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
"""


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx(tmp_path: Path) -> None:
    """Behind nginx, over a Unix socket, as the guide says: HTTP, WebSocket, a body in chunks."""
    socket = tmp_path / "http.sock"
    options = ("--listen", f"unix:{socket}", "--set", "http.trusted_proxies=unix")
    options += ("--set", "http.proxy_parts=for,proto,prefix")
    port = free_port()
    (tmp_path / "nginx.conf").write_text(
        CONFIGURATION.format(
            folder=tmp_path,
            port=port,
            socket=socket,
            user=tmp_path.owner(),
            group=tmp_path.group(),
        )
    )
    with Served(tmp_path, *options):
        command = [str(NGINX), "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]
        nginx = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_listener(port, None)
            url = f"http://127.0.0.1:{port}/shop/where"
            found = ask(url, X_Forwarded_For="6.6.6.6", X_Forwarded_Host="evil.example")
            assert found["address"] == "127.0.0.1"
            assert found["url"] == url
            assert (found["script_name"], found["reversed"]) == ("/shop", "/shop/where")
            assert found["forwarded"]["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
            assert "HTTP_X_FORWARDED_HOST" not in found["forwarded"]

            async def run() -> list[str | bytes]:
                heard = []
                where = f"ws://127.0.0.1:{port}/shop/where"
                async with connect(where) as one:
                    heard.append(await one.recv())
                async with unix_connect(str(socket), "ws://x/where") as other:
                    heard.append(await other.recv())
                return heard

            assert asyncio.run(run()) == ["['127.0.0.1', 0] ws /shop", "None ws "]
        finally:
            nginx.terminate()
            nginx.wait(10)
