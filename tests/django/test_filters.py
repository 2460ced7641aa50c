"""Filters that read well: paths with converters, and filters of others."""

import re
import uuid

import pytest
from django.urls import register_converter

from django_gateway import Message, include, path, route
from django_gateway.filters import Filter
from django_gateway.routing import Router

ID = "12345678-1234-5678-1234-567812345678"


class Hex:
    """Take four digits, and no others of them than valid ones."""

    regex = "[0-9a-z]{4}"

    def to_python(self, value):
        return int(value, 16)

    def to_url(self, value):
        return f"{value:04x}"


register_converter(Hex, "gateway_hex")


def captures(**filters):
    """Return a route to whoever takes anything."""
    return route("a", lambda message, **kwargs: None, **filters)


def found(one, **content):
    """Return what the table of one route captures, or None where it does not match."""
    match = Router([one]).match(Message(content, "a"))
    return None if match is None else match[1]


@pytest.mark.parametrize(
    ("written", "value", "expected"),
    [
        ("chat/", "/chat/", {}),
        ("chat/", "/chat/x", None),
        ("chat/", "/chat", None),
        ("chat/", "chat/", None),
        ("chat/", "//chat/", None),
        ("", "/", {}),
        ("", "/x", None),
        ("a.b/", "/a.b/", {}),
        ("a.b/", "/aXb/", None),
        ("<name>/", "/hall/", {"name": "hall"}),
        ("<name>/", "/hall/2/", None),
        ("<slug:room>/", "/the-hall_1/", {"room": "the-hall_1"}),
        ("<slug:room>/", "/the hall/", None),
        ("<slug:room>/", "/hall/\n", None),
        ("<int:pk>/", "/42/", {"pk": 42}),
        ("<int:pk>/", "/x/", None),
        ("<int:pk>/", f"/{'9' * 5000}/", None),
        ("<path:rest>", "/a/b/c", {"rest": "a/b/c"}),
        ("<uuid:pk>/", f"/{ID}/", {"pk": uuid.UUID(ID)}),
        ("<gateway_hex:n>/", "/00ff/", {"n": 255}),
        ("<gateway_hex:n>/", "/zzzz/", None),
        ("<int:a>/<slug:b>/", "/1/x/", {"a": 1, "b": "x"}),
        ("é/<name>/", "/é/ü/", {"name": "ü"}),
    ],
)
def test_paths(written, value, expected):
    """A path is matched whole, behind its slash, and gives what Django's converters make of it."""
    got = found(captures(path=path(written)), path=value)
    assert got == expected
    if got:
        assert {key: type(value) for key, value in got.items()} == {
            key: type(value) for key, value in expected.items()
        }


@pytest.mark.parametrize(
    ("outer", "inner", "value", "expected"),
    [
        (path("shop/"), path("cart/"), "/shop/cart/", {}),
        (path("shop/"), path(""), "/shop/", {}),
        (path("shop/"), path("cart/"), "/shop//cart/", None),
        (path("shop/"), path("cart/"), "/cart/", None),
        (path("shop/"), path("cart/"), "/shop/cart/x", None),
        (path("<int:shop>/"), path("<slug:item>/"), "/7/tea/", {"shop": 7, "item": "tea"}),
        (path("shop/"), "^(?P<rest>.*)$", "/shop/cart/", {"rest": "cart/"}),
        ("^/shop", path("cart/"), "/shop/cart/", {}),
        ("^/shop/", path("cart/"), "/shop/cart/", {}),
        (path(""), path("cart/"), "/cart/", {}),
    ],
)
def test_includes(outer, inner, value, expected):
    """In an include a path is a beginning; what is left is matched by the routes' own."""
    assert found(include([captures(path=inner)], path=outer), path=value) == expected


def test_an_included_route_without_a_path():
    """A route without a filter of its own gets whatever begins with the include's path."""
    one = include([captures()], path=path("shop/<int:pk>/"))
    assert found(one, path="/shop/1/and/more") == {"pk": 1}
    assert found(one, path="/shop/x/") is None


def test_includes_in_includes():
    """Paths of several includes follow one another, each without a leading slash."""
    inner = include([captures(path=path("<slug:item>/"))], path=path("<int:shop>/"))
    assert found(include([inner], path=path("shops/")), path="/shops/7/tea/") == {
        "shop": 7,
        "item": "tea",
    }


def test_a_filter_serves_several_routes():
    """One filter object may stand in an include and in a route at once."""
    shop = path("shop/")
    assert found(captures(path=shop), path="/shop/") == {}
    assert found(captures(path=shop), path="/shop/cart/") is None
    assert found(include([captures(path=shop)], path=shop), path="/shop/shop/") == {}


def test_other_keys():
    """For any other key than the path there is no slash in front."""
    one = captures(topic=path("sensors/<int:pk>/temp"))
    assert found(one, topic="sensors/7/temp") == {"pk": 7}
    assert found(one, topic=b"sensors/7/temp") == {"pk": 7}
    assert found(one, topic="/sensors/7/temp") is None


def test_lists():
    """A key that is a list matches if any element does; the first one that does is captured."""
    one = captures(rcpt_to=path("<slug:user>+<int:pk>"))
    assert found(one, rcpt_to=["x", "ann+x", "ann+1", "bob+2"]) == {"user": "ann", "pk": 1}
    assert found(one, rcpt_to=["x", "y"]) is None
    assert found(one, rcpt_to=[]) is None


def test_filters_of_others():
    """A filter is a pattern and its groups' converters: whoever has those has one."""
    level = Filter(re.compile(r"level=(?P<level>\d)?(?P<rest>.*)"), {"level": int}, "a level")
    one = captures(text=level)
    assert found(one, text="level=3!") == {"level": 3, "rest": "!"}
    assert found(one, text="level=!") == {"level": None, "rest": "!"}
    assert Router([one]).rows()[0][1] == "text=a level"


def test_rows_show_paths_as_written():
    """The table of routes shows paths as they were written."""
    one = include([captures(path=path("<slug:item>/"))], path=path("shop/"))
    assert Router([one]).rows()[0][1] == "path=shop/ <slug:item>/"
