"""Filters of MQTT topics: what they match, what they capture, what they have the gateway ask for."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from django_gateway import Message, include, mqtt_topic, path, route
from django_gateway.routing import Router
from gateway.core.names import wanted_of
from gateway.plugins.mqtt.topics import matches


def consume(message, **kwargs):
    """Take anything."""


def found(one, topic):
    """Return what the table of one route captures, or None where it does not match."""
    match = Router([one]).match(Message({"topic": topic}, "mqtt.receive"))
    return None if match is None else match[1]


@pytest.mark.parametrize(
    ("written", "topic", "expected"),
    [
        ("sensors/+id/temp", "sensors/7/temp", {"id": "7"}),
        ("sensors/+id/temp", "sensors//temp", {"id": ""}),
        ("sensors/+id/temp", "sensors/7/8/temp", None),
        ("sensors/+id/temp", "sensors/7/temp/x", None),
        ("sensors/+id/temp", "sensors/7/temp\n", None),
        ("sensors/+/temp", "sensors/7/temp", {}),
        ("sensors/#rest", "sensors/7/temp", {"rest": "7/temp"}),
        ("sensors/#rest", "sensors/", {"rest": ""}),
        ("sensors/#rest", "sensors", {"rest": None}),
        ("sensors/#rest", "sensorsX", None),
        ("sensors/#", "sensors/a\nb", {}),
        ("#all", "a/b", {"all": "a/b"}),
        ("#all", "$SYS/uptime", None),
        ("+/uptime", "$SYS/uptime", None),
        ("$SYS/#", "$SYS/uptime", {}),
        ("a.b/c", "aXb/c", None),
        ("/+a//", "/x//", {"a": "x"}),
    ],
)
def test_topics(written, topic, expected):
    """A filter matches as brokers match it; a wildcard with a name is an argument."""
    assert found(route("mqtt.receive", consume, topic=mqtt_topic(written)), topic) == expected


LEVEL = st.sampled_from(["a", "b", "", "$x", "a.b"])


@given(
    levels=st.lists(LEVEL | st.just("+"), min_size=1, max_size=4).filter(lambda x: any(x) or x[1:]),
    last=st.sampled_from(["", "#"]),
    topic=st.lists(LEVEL, min_size=1, max_size=5).map("/".join),
)
def test_as_brokers_match(levels, last, topic):
    """What an unnamed filter matches is just what brokers, and the server role, match."""
    written = "/".join([*levels, last] if last else levels)
    is_found = found(route("mqtt.receive", consume, topic=mqtt_topic(written)), topic) is not None
    assert is_found == matches(written, topic)


def test_what_is_wanted():
    """The table has the gateway ask for the topics that its filters name, those of includes too."""
    inner = [
        route("mqtt.receive", consume, topic=mqtt_topic("temp")),
        route("mqtt.receive", consume, topic=r"^expression$"),
        route("mqtt.receive", consume, topic=mqtt_topic("#rest")),
    ]
    table = Router(
        [
            route("mqtt.receive", consume, topic=mqtt_topic("a/+id")),
            include(inner, topic=mqtt_topic("sensors/+id/")),
            include(inner, topic=r"^no/topic/"),
            route("websocket.receive", consume, path=path("a/")),
        ]
    )
    assert wanted_of("mqtt.receive", table.table) == {"a/+", "sensors/+/temp", "sensors/+/#"}
    assert table.channels() == ["mqtt.receive", "websocket.receive"]
    assert wanted_of("mqtt.receive", table.only(["websocket.receive"]).table) == {
        "a/+",
        "sensors/+/temp",
        "sensors/+/#",
    }


def test_includes():
    """In an include a topic is a beginning; the rest is for the routes that are included."""
    inner = [route("mqtt.receive", consume, topic=mqtt_topic("temp/+unit"))]
    table = include(inner, topic=mqtt_topic("sensors/+id/"))
    assert found(table, "sensors/7/temp/c") == {"id": "7", "unit": "c"}
    assert found(table, "sensors/7/8/temp/c") is None


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "takes a topic such as"),
        (None, "takes a topic such as"),
        (b"a", "takes a topic such as"),
        ("a\0", "takes a topic such as"),
        ("a+/b", "a wildcard is not at the beginning"),
        ("a/b#", "a wildcard is not at the beginning"),
        ("a/#/b", "'#' is for the last level only"),
        ("a/+1", "'1' cannot name an argument"),
        ("a/+x y", "'x y' cannot name an argument"),
        ("+a/+a", "a name stands there twice"),
        ("doors/{door}/open", r"'{door}' would be matched as it stands there; .* written \+door"),
        ("doors/{door:int}/open", r"written \+door"),
        ("doors/<door>/open", r"written \+door"),
        ("doors/<int:door>", r"written \+door"),
        ("doors/door-<int:door>", r"is a whole level, \+door: a part of one cannot"),
    ],
)
def test_what_is_no_topic(written, said):
    """What is no topic filter is refused, with what is wrong."""
    with pytest.raises(ImproperlyConfigured, match=said):
        mqtt_topic(written)


def test_what_is_too_long():
    """A topic that is too long to be asked for, and an include of all, name the way out."""
    with pytest.raises(ImproperlyConfigured, match=r"mqtt\.brokers\.NAME\.subscribe"):
        Router([route("mqtt.receive", consume, topic=mqtt_topic("ü" * 100))])
    with pytest.raises(ImproperlyConfigured, match="leaves nothing"):
        include([route("mqtt.receive", consume)], topic=mqtt_topic("a/#"))
