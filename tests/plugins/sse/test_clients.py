"""Clients that people have: curl, npm's eventsource, Chromium's EventSource; nginx and haproxy."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import npm
from tests.demo.browser import PROGRAM, Browser
from tests.house.serving import free_port
from tests.plugins.sse.reader import Event, Reader
from tests.plugins.sse.serving import Serving, accept, on_loop, wait_until

WHERE = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
CURL = shutil.which("curl")
NGINX = shutil.which("nginx", path=WHERE)
HAPROXY = shutil.which("haproxy", path=WHERE)
SAID: list[dict[str, Any]] = [
    {"text": "plain"},
    {"text": "one\r\ntwo\rthree\nfour", "event": "lines", "id": "1"},
    {"text": "", "event": "empty"},
    {"text": "  spaces \u2028 \x85 \x0b \ufeff: colon", "id": "é 2"},
    {"bytes": b"\x00\xff", "comment": "nobody sees this"},
    {"id": "3"},
    {"text": "last"},
]
HEARD = [
    Event("message", "plain", ""),
    Event("lines", "one\ntwo\nthree\nfour", "1"),
    Event("empty", "", "1"),
    Event("message", "  spaces \u2028 \x85 \x0b \ufeff: colon", "é 2"),
    Event("bytes", "AP8=", "é 2"),
    Event("message", "last", "3"),
]
NAMES = ["message", "lines", "empty", "bytes", "close"]


def says(*replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return consumers whose connect says so."""
    return {"sse.connect": lambda _: replies, "sse.disconnect": accept, **more}


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program for as long as the block takes."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1 << 21,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()  # nginx ends its own processes then
        await process.communicate()


async def until(process: asyncio.subprocess.Process, end: bytes) -> bytes:
    """Return what a program prints up to ``end``."""
    assert process.stdout is not None
    async with asyncio.timeout(10):
        return await process.stdout.readuntil(end)


# ---------------------------------------------------------------- curl


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2-prior-knowledge"])
@on_loop
async def test_curl(version: str) -> None:
    """curl prints each event as it comes, over every version of HTTP, and hears the end."""
    async with Serving(says(*SAID)) as gateway:
        command = [str(CURL), "-sSN", version, "-H", "Accept: text/event-stream"]
        async with running(*command, f"http://127.0.0.1:{gateway.port}/news") as curl:
            heard = await until(curl, b"data: last\n\n")
            assert Reader().read(heard) == HEARD
            for number in range(3):
                await gateway.layer.asend(gateway.channel, {"text": f"live {number}"})
                assert await until(curl, b"\n\n") == b"data: live %d\n\n" % number
            await gateway.layer.asend(gateway.channel, {"text": "x" * 500_000, "close": True})
            rest = await until(curl, b'"reason": ""}\n\n')
            assert rest.startswith(b"data: " + b"x" * 500_000 + b"\n\nevent: close\n")
            async with asyncio.timeout(5):
                assert await curl.wait() == 0
        await wait_until(lambda: len(gateway.messages("disconnect")) == 1)
        assert not gateway.drops


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
@on_loop
async def test_curl_vanishes(version: str) -> None:
    """A client that is killed has its disconnect at once, over every version of HTTP."""
    async with Serving(says({"text": "hello"})) as gateway:
        command = [str(CURL), "-sSN", version, "-H", "Accept: text/event-stream"]
        async with running(*command, f"http://127.0.0.1:{gateway.port}/news") as curl:
            await until(curl, b"data: hello\n\n")
            curl.kill()
            await wait_until(lambda: len(gateway.messages("disconnect")) == 1)
        await wait_until(lambda: not gateway.engine.by_channel)


# ---------------------------------------------------------------- npm's eventsource

SCRIPT = """
const {EventSource} = require(%(module)s);
const source = new EventSource(%(url)s);
const say = word => console.log(JSON.stringify(word));
source.onopen = () => say(["open"]);
for (const name of %(names)s)
  source.addEventListener(name, event => {
    say([event.type, event.data, event.lastEventId]);
    if (event.type === "close") source.close();
  });
source.onerror = event => say(["error", source.readyState, event.code ?? null]);
"""


@asynccontextmanager
async def npm_client(gateway: Serving, path: str = "/news") -> AsyncIterator[Any]:
    """Run a program that listens by npm's eventsource; yields what returns what it says next."""
    module = npm.HOME / "node_modules" / "eventsource"
    url = f"http://127.0.0.1:{gateway.port}{path}"
    words = {"module": str(module), "url": url, "names": NAMES}
    script = SCRIPT % {name: json.dumps(word) for name, word in words.items()}
    async with running("node", "-e", script) as node:

        async def said() -> Any:
            return json.loads(await until(node, b"\n"))

        yield said


needs_npm = pytest.mark.skipif(
    bool(npm.missing("eventsource")), reason=npm.missing("eventsource") or "it is there"
)


@needs_npm
@on_loop
async def test_npm() -> None:
    """npm's eventsource hears each event as it was meant, and closes when it is told."""
    async with Serving(says(*SAID)) as gateway, npm_client(gateway) as said:
        assert await said() == ["open"]
        # It tells an event's own id alone, where the standard tells the last one.
        assert [(await said())[:2] for _ in HEARD] == [list(event[:2]) for event in HEARD]
        await gateway.layer.asend(gateway.channel, {"close": 4000, "reason": "done"})
        name, data, _ = await said()
        assert (name, json.loads(data)) == ("close", {"code": 4000, "reason": "done"})
        await wait_until(lambda: gateway.messages("disconnect"))
        assert len(gateway.messages("connect")) == 1


@needs_npm
@on_loop
async def test_npm_comes_back() -> None:
    """Cut off, it comes back after ``retry`` with the last id; 204 stops it for good."""
    answers = iter([[{"text": "hi", "id": "7", "retry": 1}], [{"status": 204}]])
    consumers = {"sse.connect": lambda _: next(answers), "sse.disconnect": accept}
    async with Serving(consumers) as gateway, npm_client(gateway) as said:
        assert await said() == ["open"]
        assert await said() == ["message", "hi", "7"]
        for connection in list(gateway.context.connections()):
            connection.cut_off()
        assert (await said())[:2] == ["error", 0]
        assert (await said())[1] == 2
        first, second = gateway.messages("connect")
        assert (first["last_event_id"], second["last_event_id"]) == ("", "7")


# ---------------------------------------------------------------- Chromium

PAGE = b"<!doctype html><title>events</title>"
LISTEN = """
window.heard = []; window.source = new EventSource(%s);
source.onopen = event => heard.push(event.data ? ["where", event.data] : ["open"]);
source.onerror = () => heard.push(["error", source.readyState]);
for (const name of %s)
  source.addEventListener(name, event => {
    heard.push([event.type, event.data, event.lastEventId]);
    if (event.type === "close") source.close();
  });
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, for all tests here."""
    if PROGRAM is None:
        pytest.skip("no chromium here (Debian: apt install chromium)")
    found = Browser(tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


def html(_: object) -> list[dict[str, Any]]:
    """Answer with a page."""
    return [{"status": 200, "headers": [(b"content-type", b"text/html")], "content": PAGE}]


class Tab:
    """A page of the browser's that listens."""

    def __init__(self, page: Any) -> None:
        self._page = page

    async def listen(self, url: str) -> None:
        """Listen to a stream."""
        script = LISTEN % (json.dumps(url), json.dumps(NAMES))
        await asyncio.to_thread(self._page.run, f"{{{script}}}; 1")

    async def evaluate(self, script: str) -> Any:
        """Return what a script says."""
        return await asyncio.to_thread(self._page.run, script)

    async def heard(self, count: int) -> list[Any]:
        """Return what was heard, once there is so much."""
        await asyncio.to_thread(self._page.wait, f"heard.length >= {count}")
        return list(await self.evaluate("heard"))


@asynccontextmanager
async def tab(browser: Browser, gateway: Serving, host: str = "127.0.0.1") -> AsyncIterator[Tab]:
    """Open a page that the gateway serves."""
    opened = browser.open(f"http://{host}:{gateway.port}/page")
    page = await asyncio.to_thread(opened.__enter__)
    try:
        yield Tab(page)
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)


@on_loop
async def chromium_hears(browser: Browser) -> None:
    consumers = says(*SAID, **{"http.request": html})
    async with Serving(consumers) as gateway, tab(browser, gateway) as page:
        await page.listen("/news")
        heard = await page.heard(1 + len(HEARD))
        assert heard == [["open"], *(list(event) for event in HEARD)]
        await gateway.layer.asend(gateway.channel, {"close": True})
        heard = await page.heard(2 + len(HEARD))
        assert heard[-1][0] == "close"
        await wait_until(lambda: gateway.messages("disconnect"))


def test_chromium(browser: Browser) -> None:
    """A page hears each event as it was meant, in order."""
    chromium_hears(browser)


@on_loop
async def chromium_comes_back(browser: Browser) -> None:
    answers = iter([[{"text": "hi", "id": "é-7", "retry": 1}], [{"status": 204}]])
    consumers = {
        "sse.connect": lambda _: next(answers),
        "sse.disconnect": accept,
        "http.request": html,
    }
    async with Serving(consumers) as gateway, tab(browser, gateway) as page:
        await page.listen("/news")
        await page.heard(2)
        for connection in list(gateway.context.connections()):
            if connection.session.__class__.__name__ == "SseSession":
                connection.cut_off()
        heard = await page.heard(4)
        assert heard == [["open"], ["message", "hi", "é-7"], ["error", 0], ["error", 2]]
        assert [one["last_event_id"] for one in gateway.messages("connect")] == ["", "é-7"]


def test_chromium_comes_back(browser: Browser) -> None:
    """Cut off, a page comes back after ``retry`` with the last id; 204 stops it for good."""
    chromium_comes_back(browser)


FROM = "fetch(%s, {method: 'POST', headers: {'content-type': 'application/json'}, body: '1'})"

BLINDLY = """fetch(%s, {mode: "no-cors", headers: {accept: "text/event-stream"}})
  .then(answer => answer.type)"""


@on_loop
async def chromium_of_another_site(browser: Browser) -> None:
    consumers = says({"text": "hello"}, **{"sse.receive": accept, "http.request": html})
    pages = Serving({"http.request": html})
    async with pages, Serving(consumers, origins=(f"http://localhost:{pages.port}",)) as gateway:
        url = f"http://127.0.0.1:{gateway.port}/news?gateway_connection=new"
        async with tab(browser, pages, "localhost") as mine:
            await mine.listen(url)
            opened, where, hello = await mine.heard(3)
            assert (opened, where[0], hello[:2]) == (["open"], "where", ["message", "hello"])
            location = f"http://127.0.0.1:{gateway.port}" + json.loads(where[1])["location"]
            asks = FROM % json.dumps(location) + ".then(answer => answer.status)"
            assert await mine.evaluate(asks) == 204  # once its preflight was answered
            assert gateway.messages("receive")[0]["text"] == "1"
        async with tab(browser, pages, "127.0.0.1") as other:
            await other.listen(url.replace("127.0.0.1", "localhost"))
            assert await other.heard(1) == [["error", 2]]
            foreign = "gateway_sse_foreign_origins_total"
            assert gateway.metrics.snapshot()[foreign] == 1
            blind = BLINDLY % json.dumps(url.replace("127.0.0.1", "localhost"))
            assert await other.evaluate(blind) == "opaque"
            assert gateway.metrics.snapshot()[foreign] == 2
        assert len(gateway.messages("connect")) == 1


def test_chromium_of_another_site(browser: Browser) -> None:
    """A page of a site that is listed may listen, and post; one that is not may do neither."""
    chromium_of_another_site(browser)


# ---------------------------------------------------------------- proxies

NGINX_CONFIGURATION = """
user {user} {group}; daemon off; pid {folder}/pid; error_log {folder}/error; worker_processes 1;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  gzip on; gzip_min_length 1;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{gateway};
      proxy_http_version {version};
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
    }}
  }}
}}
"""
HAPROXY_CONFIGURATION = """
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
listen events
  bind 127.0.0.1:{port}
  compression algo gzip
  server gateway 127.0.0.1:{gateway}
"""


@asynccontextmanager
async def proxied(command: list[str], port: int) -> AsyncIterator[None]:
    """Run a proxy."""
    async with running(*command) as proxy:
        for _ in range(500):
            assert proxy.returncode is None, await until(proxy, b"\n")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                break
        yield


async def hears_through(gateway: Serving, port: int) -> None:
    """Check that events pass a proxy one by one, and so does the client's leaving."""
    gateway.port = port
    stream = await gateway.open("/news", "Accept-Encoding: gzip")
    assert "content-encoding" not in dict(stream.headers)
    await stream.until(b":\n\n")
    for number in range(3):
        await gateway.layer.asend(gateway.channel, {"text": f"{number}"})
        while b"data: %d\n\n" % number not in stream.body:
            await stream.piece()
    await stream.leave()
    await wait_until(lambda: gateway.messages("disconnect"))


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_nginx(tmp_path: Path, version: str) -> None:
    """Through nginx as it is, with compression on, head and events come at once."""
    through_nginx(tmp_path, version, {"user": tmp_path.owner(), "group": tmp_path.group()})


@on_loop
async def through_nginx(tmp_path: Path, version: str, owner: dict[str, str]) -> None:
    async with Serving(says()) as gateway:
        port = free_port()
        text = NGINX_CONFIGURATION.format(
            folder=tmp_path, port=port, gateway=gateway.port, version=version, **owner
        )
        (tmp_path / "nginx.conf").write_text(text)
        command = [str(NGINX), "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]
        async with proxied(command, port):
            await hears_through(gateway, port)


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
@on_loop
async def test_haproxy(tmp_path: Path) -> None:
    """Through haproxy with compression on, head and events come at once.

    It looks at a client that left only when something is sent: the keep-alive tells.
    """
    async with Serving(says(), keep_alive=0.2) as gateway:
        port = free_port()
        text = HAPROXY_CONFIGURATION.format(port=port, gateway=gateway.port)
        (tmp_path / "haproxy.cfg").write_text(text)
        async with proxied([str(HAPROXY), "-db", "-f", str(tmp_path / "haproxy.cfg")], port):
            await hears_through(gateway, port)
