"""Django's views behind ``http.request``."""

import json
import threading

import pytest
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection, connections
from django.test import override_settings
from django.urls import re_path

from django_gateway.database import RequestSignal, opened_for_loop
from tests.django.peer import Outcome, nothing_left, wait_until
from tests.django.project import settings_default, views


def multipart(*parts):
    """Return content type and body of a form with files."""
    lines = []
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
        lines += [b"--limit", f"Content-Disposition: {disposition}".encode(), b"", content]
    body = b"\r\n".join([*lines, b"--limit--", b""])
    return (b"content-type", b"multipart/form-data; boundary=limit"), body


def test_a_view_answers(work, peer):
    """A view's response is one reply, which precedes the outcome."""
    work()
    response = peer.ask("/")
    assert (response.status, response.content) == (200, b"hello")
    assert response.headers == [(b"content-type", b"text/html; charset=utf-8")]


def test_default_middleware(work, peer):
    """Django's default middleware runs, and a response has one Content-Length."""
    with override_settings(MIDDLEWARE=settings_default.MIDDLEWARE):
        work()
    response = peer.ask("/")
    assert response.header(b"content-length") == b"5"
    assert response.header(b"x-frame-options") == b"DENY"


def test_meta(work, peer):
    """META, headers and URLs are what a WSGI server would have given."""
    work()
    answer = json.loads(
        peer.ask(
            "/meta/",
            query=b"a=1&b=%C3%A9",
            headers=[
                (b"x-one", b"1"),
                (b"x-one", b"2"),
                (b"x_two", b"spoofed"),
                (b"cookie", b"a=b"),
                (b"cookie", b"c=\xc3\xa9"),
                (b"content-type", b"text/plain; charset=latin-1"),
            ],
            body=b"abc",
        ).content
    )
    meta = answer["meta"]
    assert meta["REQUEST_METHOD"] == "GET"
    assert meta["QUERY_STRING"] == "a=1&b=%C3%A9"
    assert (meta["REMOTE_ADDR"], meta["REMOTE_PORT"]) == ("192.0.2.7", "4321")
    assert (meta["SERVER_NAME"], meta["SERVER_PORT"]) == ("192.0.2.1", "8000")
    assert meta["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert meta["HTTP_HOST"] == "example.org"
    assert meta["HTTP_X_ONE"] == "1,2"
    assert "HTTP_X_TWO" not in meta
    assert meta["CONTENT_LENGTH"] == "3"
    assert answer["get"] == {"a": "1", "b": "Ã©"}  # decoded as the body's charset says
    assert answer["cookies"] == {"a": "b", "c": "é"}
    assert (answer["content_type"], answer["content_params"]) == (
        "text/plain",
        {"charset": "latin-1"},
    )
    assert answer["encoding"] == "latin-1"
    assert answer["url"] == "http://example.org/meta/?a=1&b=%C3%A9"
    assert answer["headers"]["X-One"] == "1,2"


def test_scheme(work, peer):
    """A request that came by TLS is https."""
    work()
    answer = json.loads(peer.ask("/meta/", scheme="https").content)
    assert (answer["scheme"], answer["url"]) == ("https", "https://example.org/meta/")


@pytest.mark.parametrize(
    ("root", "path", "path_info", "seen"),
    [
        ("", "/meta/", "/meta/", "/meta/"),
        ("/site", "/site/meta/", "/meta/", "/site/meta/"),
        ("/site/", "/site/meta/", "/meta/", "/site/meta/"),
        ("/site", "/meta/", "/meta/", "/site/meta/"),
    ],
)
def test_root_path(work, peer, root, path, path_info, seen):
    """The path below which the application is mounted is SCRIPT_NAME, whoever strips it."""
    work()
    answer = json.loads(peer.ask(path, root_path=root).content)
    assert answer["path_info"] == answer["meta"]["PATH_INFO"] == path_info
    assert answer["path"] == seen
    assert answer["meta"]["SCRIPT_NAME"] == root.rstrip("/")


@pytest.mark.parametrize(
    "path",
    [
        *("*", "//evil.example", "///evil.example/meta", "/a/../../meta", "/\\evil.example"),
        *("/meta\r\nSet-Cookie: a=b", "/\ufffd", "/%2e%2e/meta", "/a\tb\x7f", "/http://evil/"),
    ],
)
def test_odd_paths(work, peer, path, caplog):
    """Whatever path a client makes up, Django finds nothing there; no error, no way elsewhere."""
    with override_settings(MIDDLEWARE=settings_default.MIDDLEWARE):
        work()
    response = peer.ask(path, "OPTIONS" if path == "*" else "GET", raw_path=b"*")
    assert response.status == 404
    assert response.header(b"location") is None
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_redirect_stays_here(work, peer):
    """The slash that is missing is appended on this host, although the path begins with two."""
    with override_settings(MIDDLEWARE=settings_default.MIDDLEWARE, ROOT_URLCONF=__name__):
        work()
        response = peer.ask("//evil.example/meta")
    assert response.status == 301
    assert response.header(b"location") == b"/%2Fevil.example/meta/"


urlpatterns = [re_path("^.*/meta/$", views.hello)]
"""For `test_a_redirect_stays_here`."""


@override_settings(FORCE_SCRIPT_NAME="/forced")
def test_force_script_name(work, peer):
    """FORCE_SCRIPT_NAME wins over what the gateway says."""
    work()
    assert json.loads(peer.ask("/meta/", root_path="/site").content)["path"] == "/forced/meta/"


def test_form(work, peer):
    """A form's fields are POST; the body can be read after them."""
    work()
    response = peer.ask(
        "/form/",
        "POST",
        [(b"content-type", b"application/x-www-form-urlencoded")],
        b"a=1&a=2&b=%C3%A9",
    )
    assert json.loads(response.content) == {
        "post": {"a": ["1", "2"], "b": ["é"]},
        "body": "a=1&a=2&b=%C3%A9",
    }


def test_upload(work, peer, noted):
    """Uploaded files are FILES, beside the form's fields."""
    work()
    kind, body = multipart(("a", None, b"1"), ("file", "x.bin", bytes(range(200))))
    response = peer.ask("/upload/", "POST", [kind, (b"content-length", b"%d" % len(body))], body)
    assert json.loads(response.content) == {
        "post": {"a": "1"},
        "files": {"file": ["x.bin", 200, sum(range(200))]},
    }
    assert noted.pop() == "InMemoryUploadedFile"


def send_body(peer, channel, body, start, piece=64 * 1024, end=None):
    """Send the rest of a body in pieces, or no more than up to ``end``."""
    for offset in range(start, len(body) if end is None else end, piece):
        content = body[offset : offset + piece]
        more = offset + len(content) < len(body)
        peer.layer.send(channel, {"offset": offset, "content": content, "more_content": more})


@pytest.mark.parametrize("path", ["/upload/", "/streamed-upload/"])
@pytest.mark.parametrize("announced", [True, False])
def test_large_upload(work, peer, noted, announced, path):
    """A large upload comes to Django's upload handlers, its length announced or not."""
    work()
    kind, body = multipart(("a", None, b"1"), ("file", "x.bin", bytes(range(250)) * 4000))
    headers = [kind]
    if announced:
        headers.append((b"content-length", b"%d" % len(body)))
    request = peer.request(path, "POST", headers, body[:65536], body_channel="http.body?up")
    send_body(peer, "http.body?up", body, 65536)
    response, outcome = peer.exchange(request)
    assert outcome == Outcome("accepted")
    assert json.loads(response.content)["files"]["file"] == [
        "x.bin",
        1_000_000,
        sum(range(250)) * 4000,
    ]
    assert noted.pop() == "TemporaryUploadedFile"


@pytest.mark.parametrize("path", ["/quota-upload/", "/streamed-quota-upload/"])
@pytest.mark.parametrize("reset", [True, False])
def test_stop_upload(work, peer, noted, path, reset):
    """A handler that raises StopUpload ends the upload; the view answers without the file. The
    rest is read to its end or, where a view reads as it comes, not, as the handler asks.
    """
    work()
    kind, body = multipart(("a", None, b"1"), ("file", "x.bin", bytes(250) * 4000))
    headers = [kind, (b"content-length", b"%d" % len(body))]
    query = b"reset" if reset else b""
    request = peer.request(
        path, "POST", headers, body[:65536], query=query, body_channel="http.body?quota"
    )
    end = 131_072 if reset and path == "/streamed-quota-upload/" else None
    send_body(peer, "http.body?quota", body, 65536, end=end)
    response, outcome = peer.exchange(request)
    assert outcome == Outcome("accepted")
    assert json.loads(response.content) == {"post": {"a": "1"}, "files": []}
    assert noted[-1] < 100_000 <= noted[-1] + 65536, "it was given more"


@override_settings(FILE_UPLOAD_HANDLERS=["tests.django.project.views.Counting"])
@pytest.mark.parametrize("path", ["/upload/", "/streamed-upload/"])
def test_custom_upload_handlers(work, peer, noted, path):
    """The handlers of the settings get the pieces; their files are closed with the request."""
    work()
    kind, body = multipart(
        ("skipped", "skip.bin", bytes(100_000)), ("file", "x.bin", bytes(250) * 1000)
    )
    headers = [kind, (b"content-length", b"%d" % len(body))]
    request = peer.request(path, "POST", headers, body[:65536], body_channel="http.body?custom")
    send_body(peer, "http.body?custom", body, 65536)
    response, outcome = peer.exchange(request)
    assert outcome == Outcome("accepted")
    assert json.loads(response.content)["files"] == {"file": ["x.bin", 250_000, 0]}
    assert list(noted) == ["Counted", "file closed"]


@pytest.mark.parametrize("path", ["/body/", "/streamed-body/", "/async-body/"])
def test_large_body(work, peer, path):
    """A large body is whole, for a synchronous view and for an asynchronous one."""
    work()
    body = bytes(range(256)) * 2000
    request = peer.request(path, "POST", body=body[:65536], body_channel="http.body?large")
    send_body(peer, "http.body?large", body, 65536)
    response, _ = peer.exchange(request)
    assert response.content == b"%d %d" % (len(body), sum(body))
    assert nothing_left(peer)


@pytest.mark.parametrize(
    "piece",
    [{"closed": True}, {"offset": 7, "content": b"x", "more_content": True}],
    ids=["left", "gap"],
)
@pytest.mark.parametrize("path", ["/body/", "/streamed-body/", "/async-body/"])
def test_cut_off_body(work, peer, noted, caplog, piece, path):
    """A body that is cut off fails the request; that is no error to log with a traceback."""
    work()
    request = peer.request(path, "POST", body=b"start", body_channel="http.body?cut")
    peer.layer.send("http.body?cut", {"offset": 5, "content": b"more", "more_content": True})
    peer.layer.send("http.body?cut", piece)
    response, outcome = peer.exchange(request)
    assert response is None
    assert outcome == Outcome("failed", cause="RequestAborted")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert list(noted) == (["unreadable"] if path == "/streamed-body/" else [])


def test_body_limit(work, peer):
    """A body over DATA_UPLOAD_MAX_MEMORY_SIZE is refused with 400, by Django's rules."""
    work()
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10):
        response = peer.ask("/body/", "POST", body=b"x" * 11)
    assert response.status == 400


def test_cookies(work, peer):
    """Each cookie is a header of its own."""
    work()
    response = peer.ask("/cookies/")
    found = [value for name, value in response.headers if name == b"set-cookie"]
    assert found[0] == b"one=1; HttpOnly; Path=/"
    assert len(found) == 2
    assert found[1].startswith(b'two="\\351"; expires=')


def test_no_such_page(work, peer):
    """A page that is not there is Django's 404."""
    work()
    assert peer.ask("/nowhere/").status == 404


def test_error(work, peer, caplog):
    """A view that raises is answered by Django, and logged once, by Django."""
    work()
    assert peer.ask("/error/").status == 500
    assert [record.name for record in caplog.records if record.levelname == "ERROR"] == [
        "django.request"
    ]


def test_sends_of_a_failed_view_vanish(work, peer):
    """What a view sent before it raised is not sent; before a 404 it is."""
    worker = work()
    assert peer.ask("/send-and-fail/").status == 500
    assert peer.ask("/send-and-404/").status == 404
    assert peer.layer.receive(["elsewhere"]) == (
        "elsewhere",
        {"from": "a view that finds nothing"},
    )
    assert peer.layer.receive(["elsewhere"]) == (None, None)
    assert worker.metrics.dropped() == {"discarded": 1}


@pytest.mark.parametrize("path", ["/reject/", "/async-reject/"])
def test_reject(work, peer, path):
    """A view may raise Reject: the gateway answers in the protocol's words."""
    work()
    assert peer.exchange(peer.request(path)) == (None, Outcome("rejected", 429, "slow down"))


def test_response_later(work, peer):
    """A view that raises ResponseLater leaves the answer to somebody else; its sends leave."""
    work()
    request = peer.request("/later/")
    assert peer.exchange(request) == (None, Outcome("accepted"))
    assert peer.layer.receive(["jobs"]) == ("jobs", {"answer": request["reply_channel"]})


def test_consume_later(work, peer):
    """A view may raise ConsumeLater: the request is offered again."""
    work()
    assert peer.ask("/again/").content == b"at attempt 3"


def test_a_broken_urlconf(work, peer):
    """A URLconf that cannot be imported fails the request; once it is mended it is served."""
    work()
    with override_settings(ROOT_URLCONF="tests.django.project.nowhere"):
        assert peer.exchange(peer.request("/")) == (
            None,
            Outcome("failed", cause="ModuleNotFoundError"),
        )
    assert peer.ask("/").status == 200


@pytest.mark.parametrize(
    ("path", "kept"), [("/insert/", 1), ("/insert/?later", 1), ("/insert/?reject", 0)]
)
def test_atomic_requests(work, peer, path, kept):
    """With ATOMIC_REQUESTS a rejection rolls back, a postponed answer does not."""
    path, _, query = path.partition("?")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept (word TEXT)")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
            work()
            peer.exchange(peer.request(path, query=query.encode()))
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM kept")
            assert cursor.fetchone() == (kept,)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE kept")
        connection.close()


def test_async_view(work, peer):
    """An async view runs on the worker's one loop."""
    work()
    assert peer.ask("/async/").content == b"hello from loop"


def test_async_view_with_middleware(work, peer):
    """An async view runs behind the default middleware too."""
    with override_settings(MIDDLEWARE=settings_default.MIDDLEWARE):
        work()
        response = peer.ask("/async/")
    assert response.content == b"hello from loop"
    assert response.header(b"x-frame-options") == b"DENY"


def test_sync_views_make_no_loop(work, peer, monkeypatch):
    """Synchronous views and consumers make no event loop and no executor."""
    import asyncio
    import concurrent.futures

    work({"test.sync": lambda message: message.reply("x")})

    def fail(*args, **kwargs):
        raise AssertionError("made")

    monkeypatch.setattr(asyncio, "new_event_loop", fail)
    monkeypatch.setattr(concurrent.futures.ThreadPoolExecutor, "submit", fail)
    before = threading.active_count()
    assert peer.ask("/").status == 200
    assert peer.outcome("test.sync", {"reply_channel": peer.new_reply_channel()}).kind == "accepted"
    assert threading.active_count() <= before


def test_signals_of_a_newer_django():
    """How much Django knows of a receiver beside its function and its kind is its own affair."""

    class Newer:
        receivers = [(("id", "sender"), close_old_connections, None, False)]

    signal = RequestSignal(Newer())
    assert not signal.due_on_loop() or opened_for_loop()
    Newer.receivers = [*Newer.receivers, (("id", "sender"), print, None, False)]
    assert signal.due()


def test_signals(work, peer):
    """request_started and request_finished are sent around each request."""
    heard = []

    def started(sender, message, **kwargs):
        heard.append(("started", message["path"]))

    def finished(sender, **kwargs):
        heard.append(("finished", sender.__name__))

    work()
    request_started.connect(started)
    request_finished.connect(finished)
    try:
        peer.ask("/")
        peer.ask("/async/")
    finally:
        request_started.disconnect(started)
        request_finished.disconnect(finished)
    peer.ask("/")
    assert heard == [
        ("started", "/"),
        ("finished", "Views"),
        ("started", "/async/"),
        ("finished", "Views"),
    ]


@pytest.mark.parametrize("path", ["/database/", "/async-database/"])
def test_connections_are_closed(work, peer, noted, path):
    """A database connection that a view opened is closed after it (CONN_MAX_AGE is 0)."""
    work()
    for _ in range(3):
        assert peer.ask(path).content == b"42"
        opened = noted.pop()
        wait_until(lambda: opened.connection is None)  # noqa: B023 - of this round


def test_connections_are_closed_before_a_file_is_sent(work, peer, noted):
    """They are closed although another thread finishes the response."""
    work()
    assert len(peer.ask("/database-file/").content) == 1_024_000
    opened, _ = noted
    wait_until(lambda: opened.connection is None)


def test_persistent_connections(work, peer, noted):
    """With persistent connections there are no more of them than threads."""
    work(threads=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)
        for _ in range(20):
            peer.ask("/database/")
    assert len({id(opened) for opened in noted}) <= 2
