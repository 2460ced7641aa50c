"""The routing table: what matches, and what is said of wrong usages."""

import functools
import re
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

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


# ---------------------------------------------------------------- wrong usages

WRONG = {
    "swapped": (
        lambda: route(consumer, "websocket.receive"),
        "route() takes the channel first: route('websocket.receive', {me}.consumer)",
    ),
    "no channel": (
        lambda: route([], consumer),
        "route() takes a channel's name, or a list of them, not []",
    ),
    "bytes channel": (
        lambda: route([b"a"], consumer),
        "route(): a channel name is a str, not bytes",
    ),
    "bad channel": (
        lambda: route("chat room", consumer),
        (
            "route(): channel name 'chat room' is not valid: ASCII letters, digits, '.', '-', '_', "
            "and one '?' or '!' that is not first"
        ),
    ),
    "somebody's channel": (
        lambda: route("websocket.send.p_abc!x", consumer),
        (
            "route(): 'websocket.send.p_abc!x' belongs to one reader; a route names a normal channel "
            "('websocket.receive') or a prefix that ends in '!'"
        ),
    ),
    "one address": (
        lambda: route("mail.in!info", consumer),
        "route(): receive from the prefix 'mail.in!', not from 'mail.in!info'",
    ),
    "no module": (
        lambda: route("a", "nowhere.consumers.chat"),
        "route('a', …): there is no module 'nowhere' (from 'nowhere.consumers.chat')",
    ),
    "no attribute": (
        lambda: route("a", "tests.django.test_routing.chat"),
        "route('a', …): the module 'tests.django.test_routing' has no 'chat'",
    ),
    "no dotted path": (
        lambda: route("a", "chat"),
        "route('a', …): 'chat' is not a dotted path, such as 'chat.consumers.receive'",
    ),
    "called": (
        lambda: route("a", consumer(None)),
        (
            "route('a', …): None is not a consumer; a consumer is a function of a message, or its "
            "dotted path; was it called? name it without parentheses"
        ),
    ),
    "called async": (
        lambda: route("a", later(None)),
        "route('a', …): the consumer was called; name it without parentheses",
    ),
    "a number": (
        lambda: route("a", 42),
        (
            "route('a', …): 42 is not a consumer; a consumer is a function of a message, or its "
            "dotted path"
        ),
    ),
    "a class": (
        lambda: route("a", Consumer),
        "route('a', …): {me}.Consumer is a class; a consumer is a function of a message",
    ),
    "a generator": (
        lambda: route("a", generator),
        (
            "route('a', …): {me}.generator has a yield in it, so calling it runs nothing; send with "
            "message.reply(…) instead"
        ),
    ),
    "an async generator": (
        lambda: route("a", async_generator),
        (
            "route('a', …): {me}.async_generator has a yield in it, so calling it runs nothing; send "
            "with message.reply(…) instead"
        ),
    ),
    "no regex": (
        lambda: route("a", consumer, path="("),
        (
            "route('a', …): the filter path='(' is not a regular expression: missing ), unterminated "
            "subpattern at position 0"
        ),
    ),
    "a filter's type": (
        lambda: route("a", consumer, order=1),
        (
            "route('a', …): the filter order=1 is not a regular expression; write it as a str: "
            "order=r'^…$'"
        ),
    ),
    "a pattern of bytes": (
        lambda: route("a", consumer, path=re.compile(b"x")),
        (
            "route('a', …): the filter path=re.compile(b'x') is not a regular expression; write it as "
            "a str: path=r'^…$'"
        ),
    ),
    "argument not taken": (
        lambda: Router([route("a", consumer, path="^/(?P<room>.*)")]),
        (
            "<route a to {me}.consumer>: consumer(message) cannot be called with what the route gives "
            "it; write def consumer(message, room)"
        ),
    ),
    "argument not given": (
        lambda: Router([route("a", room)]),
        (
            "<route a to {me}.room>: room(message, room) cannot be called with what the route gives "
            "it; write def room(message)"
        ),
    ),
    "captured twice": (
        lambda: Router([include([route("a", room, x="(?P<room>.)")], path="(?P<room>.)")]),
        "<route a to {me}.room>: its filters capture 'room' twice; rename one",
    ),
    "no message": (
        lambda: Router([route("a", nothing)]),
        (
            "<route a to {me}.nothing>: nothing() cannot be called with what the route gives it; "
            "write def nothing(message)"
        ),
    ),
    "a bare function in the table": (
        lambda: Router([consumer]),
        "ROUTING holds {consumer!r}: write route('channel', consumer) or include(…)",
    ),
    "a listed text": (
        lambda: Router("tests.django.test_routing.listed"),
        (
            "the routing 'tests.django.test_routing.listed' holds 'not a route': write "
            "route('channel', consumer) or include(…)"
        ),
    ),
    "one route": (
        lambda: Router(route("a", consumer)),
        "ROUTING is one route: put it in []",
    ),
    "a module": (
        lambda: Router("tests.django.test_routing"),
        (
            "the routing 'tests.django.test_routing' is a module: name the list in it, "
            "'tests.django.test_routing.routes'"
        ),
    ),
    "a set": (
        lambda: Router({1, 2}),
        (
            "ROUTING is a list of route(…) and include(…), a dict of channel and consumer, or the "
            "dotted path of one, not set"
        ),
    ),
    "include of nothing": (
        lambda: include(None),
        (
            "include(…) is a list of route(…) and include(…), a dict of channel and consumer, or the "
            "dotted path of one, not NoneType"
        ),
    ),
    "include's filter": (
        lambda: include([], path=None),
        (
            "include(…): the filter path=None is not a regular expression; write it as a str: "
            "path=r'^…$'"
        ),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(case):
    """A wrong usage is refused with a text that names the fix."""
    use, text = WRONG[case]
    with pytest.raises(ImproperlyConfigured) as caught:
        use()
    assert str(caught.value) == text.replace("{me}", __name__).replace(
        "{consumer!r}", repr(consumer)
    )


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
