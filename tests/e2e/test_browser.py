"""A real browser over TLS: pages over HTTP/2, WebSockets on the same connection."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.certificates import Authority
from tests.demo.browser import PROGRAM, Browser
from tests.e2e.serving import Served, wait_until
from tests.e2e.test_tls import port, secure

TALK = """new Promise((done, failed) => {
  const socket = new WebSocket(URL);
  socket.onopen = () => socket.send("over TLS");
  socket.onmessage = event => { socket.close(4001, "enough"); socket.heard = event.data; };
  socket.onclose = event => done([socket.heard, event.code, event.wasClean]);
  socket.onerror = () => failed("the WebSocket failed");
})"""
OBJECTS = """new Promise((done, failed) => {
  const socket = new WebSocket(URL, ["gateway.v1"]);
  const heard = [];
  let beats = 0;
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { socket.send("hello ".repeat(100)); socket.send(new Uint8Array([0, 255])); };
  socket.onmessage = event => {
    const binary = event.data instanceof ArrayBuffer;
    if (event.data === "{}") beats += 1;
    else heard.push(binary ? [...new Uint8Array(event.data)] : JSON.parse(event.data));
    if (heard.length === 3 && beats > 1) {
      socket.close();
      done([socket.protocol, socket.extensions.split(";")[0], heard]);
    }
  };
  socket.onerror = () => failed("the WebSocket failed");
})"""
SEND = """fetch("/echo", {method: "POST", body: new Uint8Array(2000000).fill(7)})
  .then(response => response.arrayBuffer())
  .then(body => [body.byteLength, new Uint8Array(body).every(byte => byte === 7)])"""
MANY = """Promise.all(Array.from({length: 60}, () => fetch("/pid").then(r => r.status)))
  .then(statuses => statuses.every(status => status === 200))"""
HOP = "performance.getEntriesByType('navigation')[0].nextHopProtocol"


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser that takes any certificate: the tests' own authority is not among its roots."""
    if PROGRAM is None:
        pytest.skip("no chromium here (Debian: apt install chromium)")
    browser = Browser(tmp_path_factory.mktemp("browser"), "--ignore-certificate-errors")
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    return Authority(tmp_path_factory.mktemp("authority")).issue("site", "127.0.0.1")


def websockets(site: Served) -> list[dict[str, object]]:
    """What the access log says of WebSockets."""
    records = map(json.loads, (site.seen.parent / "access").read_text().splitlines())
    return [record for record in records if record["protocol"] == "websocket"]


@pytest.mark.parametrize(
    ("http2", "hop", "version"), [("true", "h2", "2"), ("false", "http/1.1", "1.1")]
)
def test_page_and_websocket(trusting, certificate, tmp_path, http2, hop, version):
    """The browser chooses the best that is offered, for pages, uploads and WebSockets alike."""
    options = (f"log.access={tmp_path / 'access'}", "log.access_format=json", f"http.http2={http2}")
    settings = [word for option in options for word in ("--set", option)]
    with secure(tmp_path, certificate, *settings) as site:
        origin = f"https://127.0.0.1:{port(site)}"
        with trusting.open(f"{origin}/pid") as page:
            assert page.run(HOP) == hop
            assert page.run(MANY)
            assert page.run(SEND) == [2000000, True]
            url = json.dumps(origin.replace("https", "wss") + "/echo")
            assert page.run(TALK.replace("URL", url)) == ["over TLS", 4001, True]
        wait_until(lambda: websockets(site))
        [record] = websockets(site)
        assert record["http_version"] == version
        assert (record["code"], record["end"]) == (4001, "client")


@pytest.mark.parametrize("http2", ["true", "false"])
@pytest.mark.parametrize("compression", ["deflate", "off"])
def test_message_objects(trusting, certificate, tmp_path, http2, compression):
    """A page that offers gateway.v1 gets objects, bytes as they are, and sees heartbeats."""
    options = {
        "http.http2": http2,
        "websocket.compression": compression,
        "websocket.ping_interval": "0.5",
    }
    settings = [word for key in options for word in ("--set", f"{key}={options[key]}")]
    with secure(tmp_path, certificate, *settings) as site:
        origin = f"https://127.0.0.1:{port(site)}"
        with trusting.open(f"{origin}/pid") as page:
            url = json.dumps(origin.replace("https", "wss") + "/mirror")
            protocol, extension, heard = page.run(OBJECTS.replace("URL", url))
    assert protocol == "gateway.v1"
    assert extension == ("permessage-deflate" if compression == "deflate" else "")
    assert heard == [{"keep_alive": 0.5}, {"text": "hello " * 100}, [0, 255]]
