"""Clients that people use: nghttp, h2load, curl."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.core.layers.base import OK
from gateway.plugins.http.config import HttpConfig
from tests.plugins.http.http2.serving import CONSUMERS, faults, leftovers
from tests.plugins.http.serving import Served, wait_until
from tests.plugins.http.test_bodies import read_body

MIB = 1024 * 1024


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed, and say so."""
    missing = shutil.which(program) is None
    return pytest.mark.skipif(missing, reason=f"{program} is not installed")


class Site(Served):
    """A site that takes and gives large bodies, at the client's pace."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__({**CONSUMERS, "http.request": self.consume}, **kwargs)

    def consume(self, message: dict[str, Any]) -> Any:
        match message["path"]:
            case "/sum":
                return [{"text": str(len(read_body(self.layer, message)))}]
            case "/download":
                return self.download(message["reply_channel"], int(message["query_string"]))
        return CONSUMERS["http.request"](message)

    def download(self, reply: str, pieces: int) -> Any:
        """Send so many pieces of 512 KiB, each after the last one's ack."""
        acks = self.layer.new_channel("test.ack?")
        piece = b"x" * (MIB // 2)
        for number in range(pieces):
            message: dict[str, Any] = {"content": piece, "more_content": number < pieces - 1}
            message |= {"offset": number * len(piece)} if number else {"status": 200}
            self.layer.send(reply, {**message, "ack": number, "ack_channel": acks})
            _, ack = self.layer.receive([acks], block=10)
            if ack is None or ack["outcome"] != "accepted":
                break
        return OK


@pytest.fixture(scope="module", params=["http", "https"])
def site(request, authority):
    secure = {"listen": "tls:127.0.0.1:0", "tls": authority.tls()}
    with Site(**(secure if request.param == "https" else {})) as served:
        yield served
        wait_until(lambda: not leftovers(served))
        assert not faults(served, "control-frames")


@pytest.fixture
def url(site, authority, monkeypatch) -> str:
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, authority.path)
    return f"{'https' if site.tls else 'http'}://localhost:{site.address[1]}"


@pytest.fixture
def body(tmp_path) -> Path:
    path = tmp_path / "body"
    path.write_bytes(b"x" * (3 * MIB))
    return path


def run(*command: object, complains: bool = False) -> str:
    found = subprocess.run(
        [str(word) for word in command], capture_output=True, check=True, timeout=18, text=True
    )
    assert bool(found.stderr) is complains, found.stderr
    return found.stdout


@needs("nghttp")
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-w", "4", "-W", "4"],
        ["-w", "30", "-W", "30"],
        ["-b", "200"],
        ["-c", "0"],
        ["-c", "64", "-c", "65536"],
        ["--no-dep"],
        ["--no-content-length", "--no-dep"],
        ["--hexdump"],
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_nghttp(url, options):
    """It gets what it asks for, ten times on one connection, with windows and tables of any size."""
    said = run("nghttp", "-v", "-n", "-m", "10", *options, f"{url}/bytes?20000")
    assert said.count(":status: 200") == 10
    assert len(re.findall(r"recv DATA frame .*\n +; END_STREAM", said)) == 10
    assert not re.search("recv (RST_STREAM|GOAWAY)", said), said


@needs("nghttp")
def test_nghttp_sends(url, body):
    """A body with padding and trailers, after 100 Continue."""
    said = run(
        *("nghttp", "-v", "-d", body, "-b", "100", "--trailer", "x-sum: 1", "--expect-continue"),
        f"{url}/sum",
    )
    assert ":status: 100" in said
    assert str(3 * MIB) in said
    assert "RST_STREAM" not in said


@needs("nghttp")
def test_nghttp_is_told_what_is_wrong(url):
    """A malformed request is answered, and reset with PROTOCOL_ERROR."""
    said = run("nghttp", "-v", "-H", "connection: close", f"{url}/", complains=True)
    assert ":status: 400" in said
    assert "(connection-header)" in said
    assert "PROTOCOL_ERROR(0x01)" in said


def load(*options: object) -> str:
    said = run("h2load", *options)
    total = re.search(r"requests: (\d+) total", said)
    done = re.search(r"(\d+) succeeded, 0 failed, 0 errored, 0 timeout", said)
    assert total
    assert done, said
    assert total[1] == done[1]
    assert f"status codes: {total[1]} 2xx, 0 3xx, 0 4xx, 0 5xx" in said, said
    return said


@needs("h2load")
@pytest.mark.parametrize("streams", [1, 10, 100])
def test_h2load(url, streams):
    """Thousands of requests on a few connections, a hundred at a time, and all are answered."""
    load("-n", 2000, "-c", 4, "-m", streams, f"{url}/")


@needs("h2load")
def test_h2load_sends(url, body):
    """Uploads of 3 MB side by side."""
    load("-n", 10, "-c", 2, "-m", 5, "-d", body, f"{url}/sum")


@needs("h2load")
def test_h2load_with_small_windows(url):
    """Responses of 100 KB through windows of 1 KiB."""
    load("-n", 40, "-c", 2, "-m", 10, "-w", 10, "-W", 12, f"{url}/bytes?100000")


def curl(*options: object) -> str:
    secure = any(str(option).startswith("https:") for option in options)
    version = "--http2" if secure else "--http2-prior-knowledge"
    return run("curl", "-sS", version, "--max-time", 15, *options)


@needs("curl")
def test_curl(url):
    """It speaks HTTP/2 from the first byte, and says so."""
    assert curl(f"{url}/a", "-w", " %{http_code} %{http_version}") == "/a 200 2"
    assert "HTTP/2 200" in curl("-I", f"{url}/a")


@needs("curl")
def test_curl_sends(url, body):
    """A file, its length known or not."""
    assert curl("-T", body, "-X", "POST", f"{url}/sum") == str(3 * MIB)
    chunked = ("-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue")
    assert curl(*chunked, "-T", body, "-X", "POST", f"{url}/sum") == str(3 * MIB)


@needs("curl")
@pytest.mark.parametrize(
    ("status", "consumers", "config"),
    [
        (404, {"http.disconnect": lambda _: None}, HttpConfig()),
        (401, {"http.request": lambda _: [{"status": 401, "headers": []}]}, HttpConfig()),
        (413, {"http.request": lambda _: [{"text": "never"}]}, HttpConfig(max_body=MIB)),
    ],
)
def test_curl_hears_an_early_answer(body, status, consumers, config):
    """Who is answered before its body was read sees that answer, and no error."""
    with Served(consumers, config=config) as own:
        found = curl(
            *("-T", body, "-X", "POST", f"http://127.0.0.1:{own.address[1]}/"),
            *("-o", "/dev/null", "-w", "%{http_code} %{http_version}"),
        )
        assert found == f"{status} 2"


@needs("curl")
def test_curl_downloads(url, tmp_path):
    """200 MB, while the gateway's memory stays where it is."""
    curl(f"{url}/download?8", "-o", tmp_path / "warm")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = curl(f"{url}/download?400", "-o", "/dev/null", "-w", "%{size_download} %{http_version}")
    assert said == f"{200 * MIB} 2"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


@needs("curl")
def test_curl_in_parallel(url):
    """Thirty at once."""
    # At once, on a connection each: to share one, curl 7.88 has to have spoken over it before.
    parallel = ("-Z", "--parallel-immediate", "--parallel-max", 30, "--no-progress-meter")
    said = curl(*parallel, f"{url}/bytes?[1000-1029]", "-o", "/dev/null", "-w", "%{size_download} ")
    assert sorted(map(int, said.split())) == [*range(1000, 1030)]


@needs("curl")
def test_curl_upgrade_is_not_offered(url):
    """Upgrade: h2c is gone from RFC 9113; who asks for it is served over HTTP/1.1."""
    said = run("curl", "-sS", "--http2", f"{url}/a", "-w", " %{http_code} %{http_version}")
    assert said == f"/a 200 {'2' if url.startswith('https') else '1.1'}"
