"""The routing table: what matches, and what is said of wrong usages."""

import functools
import re
import sys

import pytest

from django_gateway import Message, include, route
from django_gateway.routing import Router


def consumer(message):
    """Do nothing."""


def other(message):
    """Do nothing."""


def room(message, room):
    """Do nothing."""


def nothing():
    """Take nothing."""


async def later(message):
    """Do nothing."""


class Consumer:
    def __call__(self, message):
        """Do nothing."""


class AsyncConsumer:
    async def __call__(self, message):
        """Do nothing."""


def generator(message):
    yield message


async def async_generator(message):
    yield message


routes = [route("included", consumer)]
listed = ["not a route"]
ME = "tests.django.test_routing"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Make this module importable by its dotted path, whatever way it was loaded."""
    monkeypatch.setitem(sys.modules, ME, sys.modules[__name__])


def matched(router, channel, **content):
    """Return the consumer and its arguments, or None."""
    found = router.match(Message(content, channel))
    return None if found is None else (found[0].consumer, found[1])


# ---------------------------------------------------------------- matching


def test_first_match_wins():
    """The first route of a channel whose filters match is taken."""
    router = Router(
        [route("a", consumer, path="^/x"), route("a", other), route("a", later), route("b", later)]
    )
    assert matched(router, "a", path="/x/y") == (consumer, {})
    assert matched(router, "a", path="/y") == (other, {})
    assert matched(router, "b") == (later, {})
    assert matched(router, "c") is None


@pytest.mark.parametrize(
    ("pattern", "value", "found"),
    [
        ("^/chat", "/chat/1", True),
        ("chat", "/chat", False),
        ("/chat$", "/chat/1", False),
        ("^é", "é".encode(), True),
        (".", b"\xff", False),
        ("^42$", 42, True),
        ("^1.5$", 1.5, True),
        ("^True$", True, True),
        ("b", ["a", "b"], True),
        ("b", [b"a", b"b"], True),
        ("2", [1, 2], True),
        ("c", ["a", "b"], False),
        (".", [], False),
        (".*", None, False),
        (".*", {"a": 1}, False),
        (".*", [["nested"]], False),
    ],
)
def test_filters(pattern, value, found):
    """A filter is matched at the start of a value as text: bytes, numbers, lists by element."""
    router = Router([route("a", consumer, key=pattern)])
    assert (matched(router, "a", key=value) is not None) is found


def test_a_missing_key_does_not_match():
    """A filter whose key the message does not have does not match."""
    assert matched(Router([route("a", consumer, key=".*")]), "a") is None


def test_named_groups():
    """Named groups become the consumer's arguments; one that took no part is None."""
    router = Router([route("a", room, path="^/(?P<room>[a-z]+)?")])
    assert matched(router, "a", path="/hall/") == (room, {"room": "hall"})
    assert matched(router, "a", path="/1/") == (room, {"room": None})


def test_compiled_patterns():
    """A filter may be compiled already, with its own flags."""
    router = Router([route("a", consumer, path=re.compile("^/X", re.IGNORECASE))])
    assert matched(router, "a", path="/x")


def test_include_strips():
    """What an include's filter matches is stripped for the routes' filters of that key."""
    inner = [
        route("a", room, path=r"^/(?P<room>\w+)/$"),
        route("a", consumer, path="^/$"),
        route("a", other),
    ]
    router = Router([include(inner, path="^/chat")])
    assert matched(router, "a", path="/chat/hall/") == (room, {"room": "hall"})
    assert matched(router, "a", path="/chat/") == (consumer, {})
    assert matched(router, "a", path="/chat") == (other, {})
    assert matched(router, "a", path="/hall/") is None


def test_include_in_include():
    """Includes nest; their named groups add up; other keys of theirs have to match too."""

    def both(message, site, room):
        """Do nothing."""

    inner = include([route("a", both, path="^/(?P<room>[a-z]+)$")], method="^GET$")
    router = Router([include([inner], path="^/(?P<site>[0-9]+)")])
    assert matched(router, "a", path="/1/hall", method="GET") == (
        both,
        {"site": "1", "room": "hall"},
    )
    assert matched(router, "a", path="/1/hall", method="POST") is None


def test_the_message_is_not_changed():
    """A consumer behind an include gets the message whole."""
    message = Message({"path": "/chat/hall"}, "a")
    Router([include([route("a", consumer, path="^/hall")], path="^/chat")]).match(message)
    assert message["path"] == "/chat/hall"


def test_dict_routing():
    """A dict of channels and consumers is a routing table."""
    router = Router({"a": consumer, "b": f"{ME}.other"})
    assert matched(router, "a") == (consumer, {})
    assert matched(router, "b") == (other, {})


def test_dotted_paths():
    """Tables, included routes and consumers may be named by dotted paths."""
    assert matched(Router(f"{ME}.routes"), "included") == (consumer, {})
    assert matched(Router([include(f"{ME}.routes")]), "included") == (consumer, {})
    assert matched(Router([route("a", f"{ME}.consumer")]), "a") == (consumer, {})


def test_several_channels():
    """A route may name several channels."""
    router = Router([route(["a", "b"], consumer)])
    assert router.channels() == ["a", "b"]
    assert matched(router, "b") == (consumer, {})


def test_address_prefixes():
    """A route may name a prefix of addresses: it gets every address below it."""
    router = Router([route("mail.in!", consumer)])
    assert matched(router, "mail.in!info") == (consumer, {})
    assert matched(router, "mail.out!info") is None


def test_default_routes():
    """Default routes stand behind the table's own."""
    router = Router([route("a", consumer, path="^/x")], [route("a", other)])
    assert matched(router, "a", path="/x") == (consumer, {})
    assert matched(router, "a", path="/y") == (other, {})


def test_rows():
    """The rows tell channel, filters and consumer, in matching order."""
    router = Router(
        [
            include([route("b", consumer, path="^/x", method="GET")], path="^/chat"),
            route(["a", "b"], other),
        ]
    )
    assert router.rows() == [
        ("a", "", f"{__name__}.other"),
        ("b", "path=^/chat ^/x, method=GET", f"{__name__}.consumer"),
        ("b", "", f"{__name__}.other"),
    ]


@pytest.mark.parametrize(
    ("consumer", "expected"),
    [
        (consumer, False),
        (later, True),
        (Consumer(), False),
        (AsyncConsumer(), True),
        (functools.partial(room, room="x"), False),
        (functools.partial(later), True),
    ],
)
def test_kinds_of_consumers(consumer, expected):
    """Functions, callables and partials are consumers; it is known which are to be awaited."""
    assert route("a", consumer).is_async is expected


def test_an_import_error_within_a_module_is_not_hidden(monkeypatch, tmp_path):
    """A module that exists and fails to import something else says so itself."""
    (tmp_path / "breaks.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        route("a", "breaks.consumer")


def test_importing_needs_no_settings():
    """The package can be imported where no settings are configured."""
    import subprocess

    code = "import django_gateway; from django.conf import settings; print(settings.configured)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout == "False\n"
