"""Posts by their Idempotency-Keys: once each, whatever is repeated."""

from __future__ import annotations

import gc
import weakref

import pytest

from gateway.core.opening import Refuse
from gateway.core.plugin import Drop
from gateway.core.posts import Posts


class Asked:
    """One request of a client, and what it was answered."""

    def __init__(self, key="", **message):
        self.message = {"key": key, "message": message or {"text": "x"}}
        self.statuses = []
        self.leave = None

    def on_gone(self, callback):
        self.leave = callback

    def answer(self, message):
        self.statuses.append(message["status"])


class Taking:
    """The posts of one connection, and all that was asked."""

    def __init__(self, most=8):
        self.drops = []
        self.posts = Posts(most, self.drops.append)

    def take(self, key="", *, full=False, **message):
        """Return what is to be worked on, if it is, and who asked."""
        ask = Asked(key, **message)
        return self.posts.take(ask, full=full), ask


def test_without_a_key():
    """What has no key is new each time, and answered to who posted it."""
    taking = Taking()
    (first, one), (second, two) = taking.take(), taking.take()
    assert first is not second
    assert (first.message, first.size) == ({"text": "x"}, 1)
    second.answer(Refuse(403))
    first.answer(Refuse(204))
    first.answer(Refuse(500))
    assert (one.statuses, two.statuses) == ([204], [403])


@pytest.mark.parametrize("status", [204, 403, 500])
def test_repeated(status):
    """A repeated post is answered as the first was, and is nothing new."""
    taking = Taking()
    post, _ = taking.take("7")
    post.answer(Refuse(status))
    for full in (False, True):
        again, ask = taking.take("7", full=full)
        assert (again, ask.statuses) == (None, [status])


def test_who_left():
    """Of who leaves before the answer nothing is held, however often a post is repeated so."""
    taking = Taking()
    post, first = taking.take("7")
    left = [weakref.ref(first)]
    first.leave()
    for _ in range(3):
        _, ask = taking.take("7")
        left.append(weakref.ref(ask))
        ask.leave()
    _, stays = taking.take("7")
    first = ask = None
    gc.collect()
    assert [ref() for ref in left] == [None] * 4
    post.answer(Refuse(204))
    assert stays.statuses == [204]


def test_repeated_meanwhile():
    """One that is repeated before its answer is answered with it."""
    taking = Taking()
    post, one = taking.take("7", text="é")
    again, two = taking.take("7", text="é")
    assert (again, two.statuses) == (None, [])
    post.answer(Refuse(204))
    assert (one.statuses, two.statuses) == ([204], [204])


@pytest.mark.parametrize("message", [{"text": "y"}, {"bytes": b"x"}])
def test_another_message(message):
    """Another message with a known key is refused: what became of it nobody could tell."""
    taking = Taking()
    taking.take("7")
    again, ask = taking.take("7", **message)
    assert (again, ask.statuses) == (None, [422])


@pytest.mark.parametrize("status", [503, 413])
def test_not_done(status):
    """What was not done at all may be posted again."""
    taking = Taking()
    post, _ = taking.take("7")
    post.answer(Refuse(status))
    again, _ = taking.take("7")
    assert again is not None


def test_full():
    """While nothing more is worked on what is new is answered so, counted, and may come again."""
    taking = Taking()
    refused, ask = taking.take("7", full=True)
    assert (refused, ask.statuses) == (None, [503])
    assert taking.drops == [Drop.LIMITED]
    again, _ = taking.take("7")
    assert again is not None


@pytest.mark.parametrize(("most", "known"), [(2, "bc"), (0, "")])
def test_bounded(most, known):
    """The latest keys are remembered, so many of them."""
    taking = Taking(most)
    for key in "abc":
        post, _ = taking.take(key)
        post.answer(Refuse(204))
    # Those that are known first: what is new would take their place.
    assert [taking.take(key)[0] is None for key in known] == [True] * len(known)
    assert taking.take("a")[0] is not None


def test_end():
    """At the end who has no answer hears that nobody knows what became of it."""
    taking = Taking()
    post, one = taking.take("1")
    post.answer(Refuse(204))
    late, two = taking.take("2")
    _, three = taking.take("2")
    _, four = taking.take()
    taking.posts.end()
    late.answer(Refuse(204))
    assert [ask.statuses for ask in (one, two, three, four)] == [[204], [504], [504], [504]]
