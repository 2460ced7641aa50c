"""Posts by their Idempotency-Keys: once each, whatever is repeated."""

from __future__ import annotations

import pytest

from gateway.core.opening import Refuse
from gateway.plugins.longpoll.posts import Posts


def test_without_a_key():
    """What has no key is new each time, and answered to who posted it."""
    posts = Posts(8)
    first, second = posts.take("a", "", b"x"), posts.take("b", "", b"x")
    assert first != second
    assert posts.settle(second, Refuse(204)) == ["b"]
    assert posts.settle(first, Refuse(204)) == ["a"]
    assert posts.settle(first, Refuse(204)) == []


@pytest.mark.parametrize("status", [204, 403, 500])
def test_repeated(status):
    """A repeated post is answered as the first was, and is nothing new."""
    posts = Posts(8)
    number = posts.take("a", "7", b"x")
    answer = Refuse(status)
    posts.settle(number, answer)
    assert posts.knows("7")
    for _ in range(2):
        assert posts.take("b", "7", b"x") is answer


def test_repeated_meanwhile():
    """One that is repeated before its answer is answered with it."""
    posts = Posts(8)
    number = posts.take("a", "7", b"x")
    assert posts.take("b", "7", b"x") is None
    assert posts.settle(number, Refuse(204)) == ["a", "b"]


def test_another_message():
    """Another message with a known key is refused: what became of it nobody could tell."""
    posts = Posts(8)
    posts.take("a", "7", b"x")
    answer = posts.take("b", "7", b"y")
    assert isinstance(answer, Refuse)
    assert answer.status == 422


@pytest.mark.parametrize("status", [503, 413])
def test_not_done(status):
    """What was not done at all may be posted again."""
    posts = Posts(8)
    posts.settle(posts.take("a", "7", b"x"), Refuse(status))
    assert not posts.knows("7")
    assert isinstance(posts.take("b", "7", b"x"), int)


def test_bounded():
    """The latest keys are remembered, so many of them."""
    posts = Posts(2)
    for key in "abc":
        posts.settle(posts.take(key, key, b"x"), Refuse(204))
    assert [posts.knows(key) for key in "abc"] == [False, True, True]
    none = Posts(0)
    none.take("a", "7", b"x")
    assert not none.knows("7")


def test_end():
    """At the end who has no answer is known."""
    posts = Posts(8)
    posts.settle(posts.take("a", "1", b"x"), Refuse(204))
    posts.take("b", "2", b"x")
    posts.take("c", "2", b"x")
    posts.take("d", "", b"x")
    assert posts.end() == ["b", "c", "d"]
    assert posts.end() == []
