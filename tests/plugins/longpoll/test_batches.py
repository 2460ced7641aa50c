"""Batches: what a poll is given, by its cursor; and that nothing is lost or doubled."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plugins.longpoll.batches import Batches, Marked, Stray


def test_given():
    """A batch is an array of all that there is, and its cursor one more than the last."""
    batches = Batches(1000)
    assert not batches.ready
    assert batches.ask(None) is None
    batches.put(b"1")
    batches.put(b"[2]")
    assert batches.ready
    assert batches.give() == b"[1,[2]]"
    assert batches.number == 1
    assert not batches.ready


@pytest.mark.parametrize("first", [None, 0])
def test_again(first):
    """Who asks with the same cursor is given just the same, though there is more by now."""
    batches = Batches(1000)
    batches.put(b"1")
    assert batches.ask(first) is None
    given = batches.give()
    batches.put(b"2")
    for _ in range(3):
        assert batches.ask(first) == given
    assert batches.ask(1) is None
    assert batches.give() == b"[2]"
    assert batches.ask(1) == b"[2]"


def test_stray():
    """A cursor of nothing, or of what is not kept any more, is told so, with the last one."""
    batches = Batches(1000)
    for number in range(3):
        batches.put(b"1")
        batches.give()
        assert batches.ask(number + 1) is None
    for cursor in (0, 1, 2, 4, 99):
        with pytest.raises(Stray, match='"3"') as caught:
            batches.ask(cursor)
        assert caught.value.answer.status == 409
    with pytest.raises(Stray, match="If-None-Match") as caught:
        batches.ask(None)
    assert caught.value.answer.status == 428


def test_nothing_said_after_the_first():
    """Who has had the first batch, and says nothing of it any more, is asked to."""
    batches = Batches(1000)
    batches.put(b"1")
    batches.give()
    assert batches.ask(None) == b"[1]"
    assert batches.ask(1) is None
    with pytest.raises(Stray, match='If-None-Match what you have; the last was "1"') as caught:
        batches.ask(None)
    assert caught.value.answer.status == 428


def test_bounded():
    """A batch ends with the message that fills it; the rest is the next's."""
    batches = Batches(4)
    for element in (b"11", b"22", b"33", b"4444444", b"55"):
        batches.put(element)
    assert not batches.takes
    given = []
    for number in range(3):
        batches.ask(number)
        given.append(batches.give())
    assert given == [b"[11,22]", b"[33,4444444]", b"[55]"]
    assert batches.takes


def test_marks():
    """Whose message the client has is known once it brings the cursor, and told once."""
    batches = Batches(1000)
    batches.put(Marked(b"1", "a"))
    batches.put(b"2")
    batches.put(Marked(b"3", "b"))
    batches.ask(0)
    assert batches.had() == []
    assert batches.give() == b"[1,2,3]"
    batches.ask(0)
    assert batches.had() == []
    batches.ask(1)
    assert batches.had() == ["a", "b"]
    assert batches.had() == []


@given(st.lists(st.sampled_from(["put", "poll", "lose"])), st.integers(1, 30))
def test_nothing_lost_nothing_twice(steps, most):
    """Whatever responses are lost, a client that repeats its cursor has every message once."""
    batches = Batches(most)
    heard: list[int] = []
    cursor = sent = 0

    def poll(*, lost: bool) -> None:
        nonlocal cursor
        content = batches.ask(cursor)
        if content is None:
            if not batches.ready:
                return
            content = batches.give()
        if not lost:
            cursor = batches.number
            heard.extend(json.loads(content))

    for step in steps:
        if step == "put":
            batches.put(b"%d" % sent)
            sent += 1
        else:
            poll(lost=step == "lose")
    while heard != list(range(sent)):
        before = len(heard)
        poll(lost=False)
        assert len(heard) > before
