"""The codec of IRC: lines, cuts, comparisons."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import LocalProtocolError, RemoteProtocolError
from gateway.plugins.irc.lines import (
    Line,
    LineTooLong,
    encode,
    fold,
    matches,
    parse,
    split_mask,
    split_text,
    whole_mask,
)

READ = [
    (b"foo bar baz asdf", Line("FOO", ("bar", "baz", "asdf"))),
    (b"foo bar baz :asdf quux", Line("FOO", ("bar", "baz", "asdf quux"))),
    (b"foo bar baz :", Line("FOO", ("bar", "baz", ""))),
    (b"foo bar baz ::asdf", Line("FOO", ("bar", "baz", ":asdf"))),
    (b":coolguy foo bar baz :  asdf quux ", Line("FOO", ("bar", "baz", "  asdf quux "), "coolguy")),
    (b":coolguy PRIVMSG bar :lol :) ", Line("PRIVMSG", ("bar", "lol :) "), "coolguy")),
    (b":src JOIN #chan", Line("JOIN", ("#chan",), "src")),
    (b":src JOIN :#chan", Line("JOIN", ("#chan",), "src")),
    (b":src AWAY", Line("AWAY", (), "src")),
    (b":src AWAY ", Line("AWAY", (), "src")),
    (b":cool\tguy foo bar baz", Line("FOO", ("bar", "baz"), "cool\tguy")),
    (b"COMMAND  a   b  ", Line("COMMAND", ("a", "b"))),
    (
        b":gravel.mozilla.org 432  #momo :Erroneous Nickname: Illegal characters",
        Line("432", ("#momo", "Erroneous Nickname: Illegal characters"), "gravel.mozilla.org"),
    ),
    (
        b":coolguy!ag@net\x035w\x03ork.admin PRIVMSG foo :bar baz",
        Line("PRIVMSG", ("foo", "bar baz"), "coolguy!ag@net\x035w\x03ork.admin"),
    ),
    (
        b"@a=b;c=32;k;rt=ql7 foo",
        Line("FOO", tags={"a": "b", "c": "32", "k": "", "rt": "ql7"}),
    ),
    (
        b"@a=b\\\\and\\nk;c=72\\s45;d=gh\\:764 foo",
        Line("FOO", tags={"a": "b\\and\nk", "c": "72 45", "d": "gh;764"}),
    ),
    (b"@c;h=;a=b :quux ab cd", Line("AB", ("cd",), "quux", {"c": "", "h": "", "a": "b"})),
    (b"@tag1=value\\1 COMMAND", Line("COMMAND", tags={"tag1": "value1"})),
    (b"@tag1=value1\\ COMMAND", Line("COMMAND", tags={"tag1": "value1"})),
    (
        b"@tag1=1;tag2=3;tag1=5;vendor/tag2=8 COMMAND",
        Line("COMMAND", tags={"tag1": "5", "tag2": "3", "vendor/tag2": "8"}),
    ),
    ("é".encode() + b"", None),
    (b"PRIVMSG #a :caf\xe9 \x80", Line("PRIVMSG", ("#a", "café €"))),
    (b"PRIVMSG #a :\x81", Line("PRIVMSG", ("#a", "\x81"))),
    (b"PRIVMSG #a :hi\r\n", Line("PRIVMSG", ("#a", "hi"))),
    (b"  \r\n", Line("")),
    (b"", Line("")),
    (b":only", None),
    (b"@a=b ", None),
    (b"PRIVMSG #a :x\0y", None),
    (b"PRIVMSG #a :x\ry", None),
    (b"12 a", None),
]


@pytest.mark.parametrize(("data", "line"), READ, ids=range(len(READ)))
def test_read(data, line):
    """A line is read as the documents of IRC have it, and what is none is refused."""
    if line is None:
        with pytest.raises(RemoteProtocolError):
            parse(data)
    else:
        assert parse(data) == line


def test_too_many_parameters():
    """The fifteenth parameter takes what is left."""
    data = b"x " + b" ".join(b"%d" % n for n in range(1, 18)) + b" :and more"
    assert parse(data).params == (*map(str, range(1, 15)), "15 16 17 :and more")


def test_bounds():
    """Tags have 8191 bytes, the rest 512 with its ending; one more is too long."""
    assert parse(b"@" + b"a" * 8189 + b" X").command == "X"
    with pytest.raises(LineTooLong):
        parse(b"@" + b"a" * 8190 + b" X")
    assert parse(b"X " + b"a" * 508).command == "X"
    with pytest.raises(LineTooLong):
        parse(b"X " + b"a" * 509)
    with pytest.raises(LineTooLong):
        parse(b"@" + b"a" * 4095 + b" X", max_tags=4096)


def test_make():
    """A line is made as it is read, its text behind a colon."""
    made = encode("PRIVMSG", "#a", "hi", source="a!b@c", tags={"time": "x;y", "k": ""})
    assert made == b"@time=x\\:y;k :a!b@c PRIVMSG #a :hi\r\n"
    assert encode("MODE", "#a", "+o", "bob") == b"MODE #a +o bob\r\n"
    assert encode("USER", "a", "") == b"USER a :\r\n"


@pytest.mark.parametrize(
    ("command", "params"),
    [
        ("PRIVMSG", ("#a", "x\r\nQUIT")),
        ("PRIVMSG", ("#a", "x\nQUIT")),
        ("PRIVMSG", ("#a", "x\0")),
        ("PRIVMSG", ("#a\r", "x")),
        ("PRIVMSG", ("#a b", "x")),
        ("PRIVMSG", (":a", "x")),
        ("PRIVMSG", ("", "x")),
        ("PRIVMSG", ("#a", "\ud800")),
        ("PRIVMSG", ("#a", "x" * 600)),
        ("PRIV MSG", ()),
        ("A\r\n", ()),
        ("", ()),
    ],
)
def test_refused(command, params):
    """What no line can carry is refused, above all another line."""
    with pytest.raises(LocalProtocolError):
        encode(command, *params)


@pytest.mark.parametrize("source", ["a b", "a\r\nQUIT", ":a", "a\0"])
def test_refused_source(source):
    """Nor does a source carry another line."""
    with pytest.raises(LocalProtocolError):
        encode("PRIVMSG", "#a", "x", source=source)


@pytest.mark.parametrize("key", ["", "a b", "a=b", "a;b", "a\r", "é", "++a"])
def test_refused_tag(key):
    """A tag has a key of letters, digits, dashes, with its vendor before a slash."""
    with pytest.raises(LocalProtocolError):
        encode("X", tags={key: "x"})


WORD = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n\0 "),
    min_size=1,
    max_size=8,
).filter(lambda word: not word.startswith(":"))
TEXT = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n\0"), max_size=20
)
VALUE = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20)


@given(
    st.lists(WORD, max_size=13),
    TEXT,
    st.one_of(st.just(""), WORD),
    st.dictionaries(st.from_regex(r"\+?[a-z]{1,5}", fullmatch=True), VALUE, max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_round_trip(middles, last, source, tags):
    """Whatever is made is read back, tags with line endings in them too."""
    data = encode("COMMAND", *middles, last, source=source, tags=tags)
    assert data.count(b"\n") == data.count(b"\r") == 1
    assert parse(data) == Line("COMMAND", (*middles, last), source, tags)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes(data):
    """Any bytes are a line or are refused; and a line has no CR, LF or NUL."""
    try:
        line = parse(data)
    except RemoteProtocolError:
        return
    for text in (line.command, line.source, *line.params):
        assert not set(text) & set("\r\n\0")


@given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=120), st.integers(4, 40))
@settings(max_examples=200, deadline=None)
def test_split(text, budget):
    """Pieces fit, lose nothing but the space that they are cut at, and none is empty."""
    pieces = split_text(text, budget)
    assert all(len(piece.encode()) <= budget for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert text == "" or all(pieces)


@pytest.mark.parametrize(
    ("text", "budget", "pieces"),
    [
        ("hello world foo bar", 8, ["hello", "world", "foo bar"]),
        ("", 10, [""]),
        ("abcdefgh", 4, ["abcd", "efgh"]),
        ("éééé", 5, ["éé", "éé"]),
        ("aaae\u0301", 5, ["aaa", "e\u0301"]),
        ("a👩\u200d👧", 11, ["a", "👩\u200d👧"]),
        ("a🇩🇪🇫🇷", 13, ["a🇩🇪", "🇫🇷"]),
        ("👍🏽👍🏽", 12, ["👍🏽", "👍🏽"]),
        ("x\u0301\u0301\u0301", 4, ["x\u0301", "\u0301\u0301"]),
    ],
)
def test_split_where(text, budget, pieces):
    """A text is cut at a space, or between what is seen as one character."""
    assert split_text(text, budget) == pieces


def test_split_long():
    """A long text costs what its length says, and not its square."""

    def cost(words: int) -> float:
        text = "wörd " * words
        begun = time.process_time()
        split_text(text, 400)
        return time.process_time() - begun

    least = [min(cost(words) for _ in range(3)) for words in (5_000, 200_000)]
    assert least[1] < 160 * least[0]


def test_folding():
    """Names are compared as the mapping says: braces are small brackets in RFC 1459."""
    assert fold("Alice[\\]~É") == "alice{|}^É"
    assert fold("Alice[\\]~", "rfc1459-strict") == "alice{|}~"
    assert fold("Alice[\\]~", "ascii") == "alice[\\]~"


@pytest.mark.parametrize(
    ("pattern", "text", "yes"),
    [
        ("*", "", True),
        ("a*b?c", "axxbyc", True),
        ("*!*@*.org", "al!~u@x.org", True),
        ("*!*@*.org", "al!~u@x.com", False),
        ("a?c", "ac", False),
        ("*a*a*a*a*a*a*a*b", "a" * 400, False),
        ("[a-z]", "b", False),
    ],
)
def test_masks(pattern, text, yes):
    """Stars and question marks match, nothing else is special, and no pattern takes long."""
    assert matches(pattern, text) is yes


def test_parts_of_masks():
    """A mask has three parts; what is not said is any."""
    assert split_mask("a!b@c") == ("a", "b", "c")
    assert split_mask("irc.example.org") == ("irc.example.org", "", "")
    assert [whole_mask(m) for m in ("al", "*.org", "u@h", "n!u@h", "n!u")] == [
        "al!*@*",
        "*!*@*.org",
        "*!u@h",
        "n!u@h",
        "n!u@*",
    ]
