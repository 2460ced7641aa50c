"""IRC in Django: commands and channels as filters, a class with both, what a table wants."""

import re

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from django_gateway import IrcConsumer, Message, command, irc_channel, irc_room, route, route_class
from django_gateway.channel import Outbox, outbox
from django_gateway.filters import values_of
from django_gateway.routing import Router
from gateway.core.layers import codec
from gateway.core.names import wanted_of
from gateway.plugins.irc.lines import fold


def consume(message, **kwargs):
    """Take anything."""


def found(one, **content):
    """Return what the table of one route captures, or None where it does not match."""
    match = Router([one]).match(Message(content, "irc.receive"))
    return None if match is None else match[1]


# ------------------------------------------------ commands


@pytest.mark.parametrize(
    ("written", "text", "expected"),
    [
        ("!help", "!help", {}),
        ("!help", "  !HELP \t", {}),
        ("!help", "!helpful", None),
        ("!help", "!help me", None),
        ("!help", "say !help", None),
        ("!tell <str:who>", "!tell either/or", {"who": "either/or"}),
        ("!tell <str:who>", "!tell ann bob", None),
        ("!roll <int:dice>", "!roll 12", {"dice": 12}),
        ("!roll <int:dice>", "!roll twelve", None),
        ("!roll <int:dice> [<int:sides>]", "!roll 3", {"dice": 3, "sides": None}),
        ("!roll <int:dice> [<int:sides>]", "!roll 3   20", {"dice": 3, "sides": 20}),
        ("!roll <int:dice> [<int:sides>]", "!roll 3 20 1", None),
        ("!say <words...>", "!say  two  words ", {"words": "two  words"}),
        ("!say <words...>", "!say", None),
        ("!say [<words...>]", "!say", {"words": None}),
        ("!tell <who> <words...>", "!tell Alice hi\nthere", {"who": "Alice", "words": "hi\nthere"}),
        ("deploy [now]", "Deploy NOW", {}),
        ("a.b*", "a.b*", {}),
        ("a.b*", "aXbb", None),
    ],
)
def test_commands(written, text, expected):
    """A command is matched by its words; what stands in <> is an argument, converted."""
    assert found(route("irc.receive", consume, text=command(written)), text=text) == expected


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "takes a text such as"),
        (None, "takes a text such as"),
        ("!roll <dice", "no word and no argument"),
        ("!roll <nit:dice>", "there is no converter 'nit'; did you mean 'int'"),
        ("!roll <dice:six>", "there is no converter 'dice'; there are .*int, path, .*uuid"),
        ("!close {ticket}", "'{ticket}' would be matched as it stands .* written <ticket>"),
        ("!close [{ticket:int}]", "written <int:ticket>"),
        ("!say <words...> now", "takes all that follows"),
        ("!roll [<dice>] <sides>", "stands behind what may be missing"),
        ("!roll <a> <a>", "redefinition of group name"),
        ("!roll <1a>", "bad character in group name"),
    ],
)
def test_commands_that_are_wrong(written, reason):
    """What is no command is refused with what to write instead."""
    with pytest.raises(ImproperlyConfigured, match=reason):
        command(written)


@given(st.text(max_size=30))
def test_a_command_takes_any_text(text):
    """Whatever people write, a command matches it or not, and never fails."""
    one = route("irc.receive", consume, text=command("!x [<a>] [<int:b>] [<rest...>]"))
    got = found(one, text=text)
    assert (got is not None) <= text.strip().lower().startswith("!x")


# ------------------------------------------------ channels


@pytest.mark.parametrize(
    ("written", "channel", "expected"),
    [
        ("#django", "#Django", {}),
        ("#django", "#django-dev", None),
        ("#django", None, None),
        ("#a[1]", "#A{1}", {}),
        ("#a|^", "#a\\~", {}),
        ("#a.b", "#axb", None),
        ("#project-<name>", "#Project-x", {"name": "x"}),
        ("#project-<name>", "#project-", None),
        ("#ticket-<int:ticket>", "#Ticket-7", {"ticket": 7}),
        ("#ticket-<int:ticket>", "#ticket-seven", None),
        ("#ticket-<int:ticket>", "#ticket-7b", None),
        ("#<slug:team>.<str:topic>", "#a-b.c/d", {"team": "a-b", "topic": "c/d"}),
        ("#i<3", "#I<3", {}),
        ("#a{", "#a[", {}),
    ],
)
def test_rooms(written, channel, expected):
    """A channel is matched as networks compare names; what stands in <> is an argument."""
    one = route("irc.receive", consume, channel=irc_room(written))
    assert found(one, channel=channel) == expected


@given(
    st.text(st.sampled_from("aB[]{}|\\^~#.é"), min_size=1, max_size=8).filter(
        lambda name: not re.search(r"{\w+}", name)
    ),
    st.data(),
)
def test_rooms_as_networks_compare(name, data):
    """A channel's filter matches just what is the same name by the casemapping of RFC 1459."""
    other = "".join(
        data.draw(st.sampled_from([one, one.upper(), one.lower(), *("{[" if one in "{[" else "")]))
        for one in name
    )
    one = route("irc.receive", consume, channel=irc_room(f"#{name}"))
    assert (found(one, channel=f"#{other}") is not None) == (fold(name) == fold(other))


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("django", r"write irc_room\('#django'\)"),
        ("#", "takes the name of a channel"),
        (5, "takes the name of a channel"),
        ("#a b", "a space or a comma"),
        ("#<a>-<a>", "redefinition of group name"),
        ("#t-{ticket}", r"written irc_room\('#t-<ticket>'\)"),
        ("#t-{ticket:int}", r"written irc_room\('#t-<int:ticket>'\)"),
        ("#t-<nit:ticket>", r"irc_room\('#t-<nit:ticket>'\): .* did you mean 'int'"),
        ("#t-<int:ticket", "'<' is no argument; one is written <name> or <int:name>"),
        ("#t-int:ticket>", "':ticket>' is no argument"),
        ("#t-<int-ticket>", "'<int-ticket>' is no argument"),
    ],
)
def test_rooms_that_are_wrong(written, reason):
    """What is no channel is refused with what to write instead."""
    with pytest.raises(ImproperlyConfigured, match=reason):
        irc_room(written)


def test_the_name_of_a_group_is_no_filter():
    """``irc_channel`` names a group; in the place of a filter it is told what is meant."""
    assert irc_channel("#Room") == irc_channel("#room") == "irc._23room"
    with pytest.raises(ValueError, match="such as '#room'"):
        irc_channel("room")
    with pytest.raises(ImproperlyConfigured, match="the filter of a channel is irc_room"):
        route("irc.receive", consume, channel=irc_channel("#room"))


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (None, {"#a"}),
        ("libera", {"libera #a"}),
        ("^libera$", {"libera #a"}),
        (r"^(libera|oftc\.net)\Z", {"libera #a", "oftc.net #a"}),
        ("^lib.*", set()),
    ],
)
def test_what_a_table_wants(network, expected):
    """A channel of one name is asked for on the networks that the route names, or on all."""
    filters = {} if network is None else {"network": network}
    table = Router([route("irc.receive", consume, channel=irc_room("#a"), **filters)]).table
    assert wanted_of("irc.receive", table) == expected


def test_what_a_table_does_not_want():
    """What matches several channels asks for none of them."""
    table = Router([route("irc.receive", consume, channel=irc_room("#a-<b>"))]).table
    assert wanted_of("irc.receive", table) == frozenset()


def test_values_of_other_filters():
    """Only an expression of plain names, alone, says which values it is for."""
    plain = route("a.b", consume, network="a(b|c)").filters["network"]
    assert values_of(plain) == ()
    assert values_of(plain * 2) == ()


# ------------------------------------------------ classes


class Helper(IrcConsumer):
    networks = ("libera", "oftc.net")
    channels = ("#django", "#dev")
    commands = {"!roll <int:sides>": "roll", "!help": "help"}

    def roll(self, message, sides):
        self.say(f"{message['nick']}: {sides}")

    def help(self, message):
        self.notice("there is no help", to=message["nick"])

    def private(self, message):
        self.action("listens")

    def receive(self, message):
        self.say("a word", to="#other")

    def join(self, message):
        self.notice("hello")


def said(name="irc.receive", where="irc.say!libera._23django", **content):
    """Run what the table leads to; return what was sent."""
    content = {"network": "libera", "nick": "alice", "reply_channel": where, **content}
    message = Message(content, name)
    match = Router([route_class(Helper)]).match(message)
    if match is None:
        return None
    box = Outbox(1 << 20)
    token = outbox.set(box)
    try:
        match[0].consumer(message, **match[1])
    finally:
        outbox.reset(token)
    return [(one[1], codec.decode(one[2])) for one in box.sends]


HERE = {"channel": "#Django", "target": "#Django", "type": "message"}


def test_a_class():
    """A class has its commands, what is private and what is said in its channels, by network."""
    assert said(text="!roll 6", **HERE) == [("irc.say!libera._23django", {"text": "alice: 6"})]
    assert said(text="!help", **HERE) == [
        (
            "irc.say!libera._23django",
            {"text": "there is no help", "type": "notice", "channel": "alice"},
        )
    ]
    for text, kind in (("!roll six", "message"), ("!roll 6", "notice"), ("hi", "action")):
        assert said(text=text, **{**HERE, "type": kind}) == [
            ("irc.say!libera._23django", {"text": "a word", "channel": "#other"})
        ]
    private = {"channel": None, "target": "bot", "type": "message", "text": "!roll 6"}
    assert said(where="irc.say!libera.alice", **private) == [
        ("irc.say!libera.alice", {"text": "listens", "type": "action"})
    ]
    assert said("irc.join", channel="#dev") == [
        ("irc.say!libera._23django", {"text": "hello", "type": "notice"})
    ]
    assert said(text="!roll 6", **{**HERE, "network": "other"}) is None
    assert said(text="!roll 6", **{**HERE, "channel": "#other"}) is None
    assert said("irc.join", channel="#other") is None
    assert said("irc.connect") is None


def test_what_a_class_wants():
    """The channels of a class are asked for on its networks."""
    wanted = wanted_of("irc.receive", Router([route_class(Helper)]).table)
    assert wanted == {f"{n} {c}" for n in Helper.networks for c in Helper.channels}


class Dispatching(Helper):
    stateful = False

    def dispatch(self, message, **kwargs):
        return super().dispatch(message, **kwargs)


def test_rooms_of_a_class_convert():
    """The channels of a class may have arguments that are converted, and none else is let by."""
    more = {"channels": ["#ticket-<int:ticket>"], "join": lambda self, message, ticket: None}
    table = Router([route_class(type("Tickets", (IrcConsumer,), more))])
    asked = [
        table.match(Message({"channel": channel}, "irc.join"))
        for channel in ("#ticket-12", "#ticket-x")
    ]
    assert [None if one is None else one[1] for one in asked] == [{"ticket": 12}, None]


def test_dispatch_finds_the_method(monkeypatch):
    """A class with a dispatch of its own has the same methods called."""
    monkeypatch.setitem(globals(), "Helper", Dispatching)
    test_a_class()


def test_commands_alone():
    """A class may have commands and nothing else."""
    kind = type("Alone", (IrcConsumer,), {"commands": {"!x": "topics"}, "topics": consume})
    [one] = route_class(kind).routes
    assert one.channels == ("irc.receive",)


def test_everything_of_everybody():
    """A class without channels takes what is said anywhere, in private, too."""
    kind = type("All", (IrcConsumer,), {"receive": consume})
    [one] = route_class(kind).routes
    assert one.filters == {}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"channels": "#a"}, r"channels is a list of names: \['#a'\]"),
        ({"networks": "libera"}, r"networks is a list of names: \['libera'\]"),
        ({"commands": ["!x"]}, "commands is a dict of command and method's name"),
        ({"commands": {"!x": "y"}}, "has no method 'y', which the command '!x' leads to"),
        ({"channels": ["django"]}, "write irc_room"),
        ({"joins": consume}, "did you mean join"),
    ],
)
def test_classes_that_are_wrong(more, reason):
    """What a class says wrongly stops the start with what to write instead."""
    with pytest.raises(ImproperlyConfigured, match=reason):
        route_class(type("Wrong", (IrcConsumer,), {"receive": consume, **more}))


def test_a_class_without_methods():
    """A class that takes nothing is told which methods there are."""
    with pytest.raises(ImproperlyConfigured, match="has no method for a message of 'irc'"):
        route_class(type("Empty", (IrcConsumer,), {}))


def test_arguments_of_commands_are_checked():
    """A command whose method cannot take its arguments stops the start."""
    more = {"commands": {"!x <a>": "x"}, "x": lambda self, message: None}
    with pytest.raises(ImproperlyConfigured, match=r"write def .*\(self, message, a\)"):
        Router([route_class(type("Wrong", (IrcConsumer,), more))])
