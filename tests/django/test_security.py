"""Decorators that stand before a consumer."""

import inspect
import logging

import pytest
from django.test import override_settings

from django_gateway import Reject, route
from django_gateway.message import Message
from django_gateway.routing import Router
from django_gateway.security.websockets import allowed_hosts_only
from tests.django.peer import Outcome


@allowed_hosts_only
def connect(message, room="lobby"):
    """Take whoever may come."""
    message.reply(f"welcome to {room}")


@allowed_hosts_only
async def aconnect(message, room="lobby"):
    message.reply(f"welcome to {room}")


def asking(origin, peer=None):
    headers = [[b"host", b"example.org"]]
    if origin is not None:
        headers.append([b"origin", origin])
    name = peer.new_reply_channel() if peer else "websocket.send.p_x!1"
    return {"path": "/room/7", "headers": headers, "reply_channel": name}


def may(origin):
    """Return whether the consumer is run for that Origin."""
    seen, code = [], None
    try:
        allowed_hosts_only(seen.append)(Message(asking(origin), "websocket.connect"))
    except Reject as rejected:
        code = rejected.code
    assert (code, len(seen)) in {(403, 0), (None, 1)}
    return bool(seen)


HOSTS = ["example.org", ".shop.example", "[::1]"]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (b"https://example.org", True),
        (b"http://EXAMPLE.org:8000", True),
        (b"https://shop.example", True),
        (b"https://www.shop.example", True),
        (b"http://[::1]:8000", True),
        (b"https://www.example.org", False),
        (b"https://example.org.evil.example", False),
        (b"https://evilshop.example", False),
        (b"https://example.org@evil.example", False),
        (b"https://evil.example/https://example.org", False),
        (b"https://[", False),
        (b"https://ex\xe4mple.org", False),
        (b"example.org", False),
        (b"null", False),
        (b"", False),
        (None, False),
    ],
)
@override_settings(ALLOWED_HOSTS=HOSTS)
def test_allowed_hosts(origin, expected):
    """The Origin's host has to be one of ALLOWED_HOSTS; without an Origin nobody is let in."""
    assert may(origin) == expected


@pytest.mark.parametrize(
    ("debug", "hosts", "origin", "expected"),
    [
        (True, [], b"http://localhost:8000", True),
        (True, [], b"http://shop.localhost:8000", True),
        (True, [], b"http://127.0.0.1", True),
        (True, [], b"http://[::1]:8000", True),
        (True, [], b"http://example.org", False),
        (True, ["example.org"], b"http://localhost:8000", False),
        (False, [], b"http://localhost:8000", False),
        (False, ["*"], b"https://anything.example", True),
        (False, ["*"], b"null", False),
    ],
)
def test_debug(debug, hosts, origin, expected):
    """With DEBUG and no ALLOWED_HOSTS it is localhost's turn, as in Django."""
    with override_settings(DEBUG=debug, ALLOWED_HOSTS=hosts):
        assert may(origin) == expected


@pytest.mark.parametrize("consumer", [connect, aconnect])
def test_outcomes(work, peer, consumer):
    """Plain and async consumers alike: refused with 403 and never run, or run with arguments."""
    work([route("websocket.connect", consumer, path=r"^/room/(?P<room>\d+)$")])
    with override_settings(ALLOWED_HOSTS=HOSTS):
        message = asking(b"https://example.org", peer)
        assert peer.settled("websocket.connect", message) == (
            [{"text": "welcome to 7"}],
            [Outcome("accepted")],
        )
        message = asking(b"https://evil.example", peer)
        assert peer.settled("websocket.connect", message) == (
            [],
            [Outcome("rejected", 403, "not for pages of another site")],
        )


def test_the_consumer_keeps_its_name():
    """A decorated consumer is listed by its own name, and has its own docstring."""
    ((_, _, name),) = Router([route("websocket.connect", connect)]).rows()
    assert name == "tests.django.test_security.connect"
    assert inspect.getdoc(connect) == "Take whoever may come."


@override_settings(ALLOWED_HOSTS=HOSTS)
def test_what_is_logged(caplog):
    """The log says which host was refused and how it would be allowed."""
    with caplog.at_level(logging.WARNING):
        assert not may(b"https://www.example.org")
    (record,) = caplog.records
    assert record.name == "django.security.DisallowedHost"
    assert record.getMessage() == (
        "A WebSocket was refused to the origin b'https://www.example.org'. You may need to add "
        "'www.example.org' to ALLOWED_HOSTS."
    )
