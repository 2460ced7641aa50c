"""A stream is a conversation: what the application sees, and what the client does to it."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

import pytest

from gateway.core.layers.base import FAILED, Outcome
from gateway.plugins.http.http2.connection import Http2Protocol
from tests.plugins.http.http2.peer import Http2Client
from tests.plugins.http.http2.serving import later, leftovers
from tests.plugins.http.http2.wire import (
    CANCEL,
    DATA,
    INTERNAL_ERROR,
    PROTOCOL_ERROR,
    RST_STREAM,
    Wire,
    data,
    headers,
    post,
    request,
    reset,
    window,
)
from tests.plugins.http.serving import Served, get, wait_until
from tests.plugins.http.test_bodies import read_body

NO_ERROR = 0


# ---------------------------------------------------------------- messages and responses


def test_a_request(site):
    """A request becomes the same message as over HTTP/1.1, but for its version."""
    before = len(site.messages("http.request"))
    with Http2Client(site) as client:
        fields = [(b"cookie", b"a=b"), (b"x-b", b""), (b"cookie", b"c=d"), (b"x-b", b"\xe4")]
        response = client.ask(request("/a%20b?c=d", *fields))
        assert (response.status, response.content) == (200, b"/a b")
        assert response.header(b"content-length") == b"4"
        assert response.header(b"date")
        assert response.header(b"server") == b"gateway"
        (message,) = later(site, before)
        assert {key: message[key] for key in ("http_version", "method", "scheme", "path")} == {
            "http_version": "2",
            "method": "GET",
            "scheme": "https" if site.tls else "http",
            "path": "/a b",
        }
        assert (message["raw_path"], message["query_string"]) == (b"/a%20b", b"c=d")
        assert [(*field,) for field in message["headers"]] == [
            (b"host", b"localhost"),
            (b"x-b", b""),
            (b"x-b", b"\xe4"),
            (b"cookie", b"a=b; c=d"),
        ]
        assert (message["body"], message["body_channel"], message["order"]) == (b"", None, 0)
        assert message["client"] == list(client.sock.getsockname())
        assert message["server"] == list(client.sock.getpeername())
        assert message["reply_channel"].startswith(f"http.send.{site.engine.process}!")


@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("/reject", 409, b"not now\n"),
        ("/fail", 500, b"500 Internal Server Error\n"),
        ("/inject", 500, b"500 Internal Server Error\n"),
    ],
)
def test_answers_for_the_application(site, path, status, content):
    """What the consumer did not answer, or not validly, the gateway does; the client stays."""
    with Http2Client(site) as client:
        response = client.ask(request(path))
        assert (response.status, response.content) == (status, content)
        assert client.ask(request("/next")).content == b"/next"


@pytest.mark.parametrize(
    ("status", "length", "content"),
    [(200, b"7", b"content"), (204, None, b""), (205, b"0", b""), (304, None, b"")],
)
def test_responses_without_content(site, status, length, content):
    """204, 205 and 304 have none, whatever the application says; nor has the answer to HEAD."""
    with Http2Client(site) as client:
        response = client.ask(request(f"/status?{status}"))
        assert (response.status, response.content) == (status, content)
        assert response.header(b"content-length") == length
        assert response.header(b"x-a") == b"b"
        head = client.ask(request(f"/status?{status}", method=b"HEAD"))
        assert (head.status, head.content, head.header(b"content-length")) == (status, b"", length)


def test_headers_of_a_response(site):
    """8.2: names are lower-case, and nothing is said of a connection that is not there."""
    with Http2Client(site) as client:
        response = client.ask(request("/hop"))
        assert dict(response.headers) == {
            b"x-own": b"Yes",
            b"date": b"today",
            b"server": b"gateway",
            b"content-length": b"0",
        }


def test_many_at_once(site):
    """A hundred requests run side by side, and are answered in whatever order."""
    before = len(site.messages("http.request"))
    with Http2Client(site) as client:
        numbers = [client.send(request("/silence")) for _ in range(100)]
        messages = wait_until(lambda: len(later(site, before)) == 100 and later(site, before))
        for place, message in reversed([*enumerate(messages)]):
            site.layer.send(message["reply_channel"], {"text": str(place)})
        contents = {client.answer(number).content for number in numbers}
        assert contents == {str(place).encode() for place in range(100)}


def test_answers_of_one_turn_leave_together(site, monkeypatch):
    """Responses that are made in one turn of the loop are one write."""
    before = len(site.messages("http.request"))
    with Wire(site) as wire:
        numbers = range(1, 40, 2)
        wire.send(*[headers(number, request("/silence")) for number in numbers])
        messages = wait_until(lambda: len(later(site, before)) == 20 and later(site, before))
        for message in messages:
            site.layer.group_add("turn", message["reply_channel"])
        writes: list[int] = []
        flush = Http2Protocol._flush

        def counted(protocol: Http2Protocol) -> None:
            writes.append(protocol.outflow.total)
            flush(protocol)

        monkeypatch.setattr(Http2Protocol, "_flush", counted)
        site.layer.send_group("turn", {"text": "hi"})
        for number in numbers:
            wire.ended(number)
        assert 40 in writes
        assert not {total for total in writes if 0 < total < 40}


def test_a_group_over_both_versions(site):
    """One group message answers requests that wait, over HTTP/1.1 and over HTTP/2."""
    before = len(site.messages("http.request"))
    with site.connect() as one, Http2Client(site) as two:
        one.send(get("/silence"))
        numbers = [two.send(request("/silence")), two.send(request("/silence"))]
        wait_until(lambda: len(later(site, before)) == 3)
        for message in later(site, before):
            site.layer.group_add("both", message["reply_channel"])
        site.layer.send_group("both", {"text": "news"})
        assert one.response().content == b"news"
        assert [two.answer(number).content for number in numbers] == [b"news"] * 2


def test_a_response_that_breaks(site):
    """A gap, or a consumer that fails after the head, resets the stream: nobody thinks it whole."""
    with Wire(site) as wire:
        wire.send(headers(1, request("/break")))
        last = wire.ended(1)
        assert (last.kind, last.code) == (RST_STREAM, INTERNAL_ERROR)
        assert wire.content(1) == b"half"
        wire.alive()


def test_a_fault_behind_the_answer(site):
    """A request that turns out to be malformed once it is answered is reset, not answered twice."""
    with Wire(site, (4, 1)) as wire:
        wire.send(window(0, 1 << 20), post(1, "/bytes?100"), *[data(1, b"x" * 16384)] * 5)
        wire.until(lambda found: found.kind == DATA)
        wire.send(headers(1, [(b"Not-Lower-Case", b"1")]))
        last = wire.ended(1)
        assert (last.kind, last.code) == (RST_STREAM, PROTOCOL_ERROR)
        assert [wire.status(1), len(wire.fields[1])] == [200, 1]
        wire.alive()


# ---------------------------------------------------------------- who leaves


def test_reset_before_the_answer(site):
    """The application hears ``http.disconnect`` once; its answer is dropped, and counted."""
    before = len(site.messages("http.request")), len(site.messages("http.disconnect"))
    gone = site.drops.get("gone", 0)
    with Wire(site) as wire:
        wire.send(headers(1, request("/silence")))
        (message,) = wait_until(lambda: later(site, before[0]))
        wire.send(reset(1))
        (disconnect,) = wait_until(lambda: later(site, before[1], "disconnect"))
        assert (disconnect["path"], disconnect["order"]) == ("/silence", 1)
        assert disconnect["reply_channel"] == message["reply_channel"]
        site.layer.send(message["reply_channel"], {"text": "too late"})
        wait_until(lambda: site.drops.get("gone", 0) > gone)
        wire.alive()
        assert len(later(site, before[1], "disconnect")) == 1
        assert not [found for found in wire.seen if found.stream == 1]


def test_reset_while_the_body_comes(site):
    """Whoever reads the body hears that the rest will not come, and of the disconnect."""
    before = len(site.messages("http.request")), len(site.messages("http.disconnect"))
    with Wire(site) as wire:
        wire.send(post(1, "/silence"), *[data(1, b"x" * 16000)] * 6)
        (message,) = wait_until(lambda: later(site, before[0]))
        wire.send(reset(1))
        wait_until(lambda: later(site, before[1], "disconnect"))
        with pytest.raises(ConnectionError):
            read_body(site.layer, message)
        wire.send(headers(3)).ended(3)
    assert len(later(site, before[1], "disconnect")) == 1


def test_reset_before_the_request_is_whole(site):
    """Of a request whose body was on its way the application has not heard, and hears nothing."""
    before = len(site.messages("http.request")), len(site.messages("http.disconnect"))
    with Wire(site) as wire:
        wire.send(post(1, "/silence"), data(1, b"x" * 100)).alive()
        wire.send(reset(1)).alive()
        wire.send(headers(3)).ended(3)
    assert [message["path"] for message in later(site, before[0])] == ["/"]
    assert not later(site, before[1], "disconnect")


def test_reset_while_the_response_goes(site):
    """What waited for the client's window is dropped; the next piece finds nobody."""
    before = len(site.messages("http.request")), len(site.messages("http.disconnect"))
    gone = site.drops.get("gone", 0)
    with Wire(site, (4, 2)) as wire:
        wire.send(headers(1, request("/begin"))).until(lambda found: found.kind == DATA)
        (message,) = wait_until(lambda: later(site, before[0]))
        wire.send(reset(1))
        wait_until(lambda: later(site, before[1], "disconnect"))
        site.layer.send(message["reply_channel"], {"offset": 4, "content": b"x"})
        wait_until(lambda: site.drops.get("gone", 0) > gone)
        wire.send(window(1, 100)).alive()
        assert wire.content(1) == b"ha"
    assert len(later(site, before[1], "disconnect")) == 1


def test_reset_of_a_response_that_is_made(site):
    """A whole response that waits for the window is dropped; the application was done with it."""
    before = len(site.messages("http.disconnect"))
    with Wire(site, (4, 10)) as wire:
        wire.send(headers(1, request("/large"))).until(lambda found: found.kind == DATA)
        wait_until(lambda: not site.engine.flow.flights)
        wire.send(reset(1)).alive()
        wait_until(lambda: not leftovers(site))
    assert not later(site, before, "disconnect")


def leave(client: Http2Client, *, hard: bool) -> None:
    if hard:
        linger = struct.pack("ii", 1, 0)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.sock.close()


@pytest.mark.parametrize("hard", [False, True], ids=["closed", "reset"])
def test_a_client_that_leaves(site, hard):
    """All requests of its connection hear that it left, once each."""
    before = len(site.messages("http.request")), len(site.messages("http.disconnect"))
    client = Http2Client(site)
    for _ in range(10):
        client.send(request("/silence"))
    wait_until(lambda: len(later(site, before[0])) == 10)
    leave(client, hard=hard)
    wait_until(lambda: len(later(site, before[1], "disconnect")) == 10)
    channels = {message["reply_channel"] for message in later(site, before[0])}
    assert {
        message["reply_channel"] for message in later(site, before[1], "disconnect")
    } == channels
    wait_until(lambda: not site.connections)


def test_an_answer_before_the_body(site):
    """8.1: who is answered without being read is told to stop, not that anything went wrong."""
    with Served({"http.disconnect": lambda _: None}) as empty, Wire(empty) as wire:
        wire.send(post(1), data(1, b"x" * 1000)).alive()
        wire.send(data(1, b"x" * 16000) * 5)  # beyond what travels with the request
        wire.ended(1)
        assert wire.status(1) == 404
        found = wire.until(lambda found: found.kind == RST_STREAM)[-1]
        assert (found.stream, found.code) == (1, NO_ERROR)
        wire.send(data(1, b"x" * 10_000) * 100, headers(3)).ended(3)
        wire.alive()
        # What nobody reads does not close the connection's window.
        assert 65535 + wire.opened(0) - 1_081_000 > 500_000
        assert len([f for f in wire.seen if f.kind == RST_STREAM]) == 1


@pytest.mark.parametrize("kind", [CANCEL, 0, 0xDEAD])
def test_the_code_of_a_reset_does_not_matter(site, kind):
    """Whatever the client says why, it has left."""
    before = len(site.messages("http.request")), len(site.messages("http.disconnect"))
    with Wire(site) as wire:
        wire.send(headers(1, request("/silence")))
        wait_until(lambda: later(site, before[0]))
        wire.send(reset(1, kind))
        wait_until(lambda: later(site, before[1], "disconnect"))


def test_outcome_failed_after_the_head(site):
    """A consumer that fails after the head resets the stream too."""
    go = threading.Event()

    def consume(message: dict[str, Any]) -> Any:
        begun = {"status": 200, "headers": [], "content": b"half", "more_content": True}
        own.layer.send(message["reply_channel"], begun)
        assert go.wait(5)
        return Outcome(FAILED)

    with Served({"http.request": consume}) as own, Wire(own) as wire:
        wire.send(headers(1)).until(lambda found: found.kind == DATA)
        go.set()
        last = wire.ended(1)
        assert (last.kind, last.code) == (RST_STREAM, INTERNAL_ERROR)
        wire.alive()
