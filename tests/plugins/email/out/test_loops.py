"""What is not to be answered automatically."""

from __future__ import annotations

import pytest

from gateway.plugins.email.loops import Answered, hops, unanswerable

PERSON = "ann@example.net"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Auto-Submitted", "no")],
        [("auto-submitted", "No (I typed it)")],
        [("Precedence", "first-class")],
        [("X-Auto-Response-Suppress", "DR, RN")],
        [("Content-Type", "text/plain")],
        [("Return-Path", "<ann@example.net>")],
    ],
)
def test_people_are_answered(headers):
    """A mail that a person wrote may be answered."""
    assert unanswerable(PERSON, headers, ["shop@example.org"]) is None


@pytest.mark.parametrize(
    ("mail_from", "headers"),
    [
        (None, []),
        ("", []),
        ("<>", []),
        ("MAILER-DAEMON@example.net", []),
        ("postmaster@example.net", []),
        ("owner-list@example.net", []),
        ("list-request@example.net", []),
        ("list-bounces@example.net", []),
        ("bounce+1=2@example.net", []),
        ("no-reply@example.net", []),
        ("noreply+7@example.net", []),
        ("do_not_reply@example.net", []),
        ("Shop+7@example.org", []),
        (PERSON, [("Auto-Submitted", "auto-replied")]),
        (PERSON, [("AUTO-SUBMITTED", "auto-generated; x=1")]),
        (PERSON, [("Auto-Submitted", "")]),
        (PERSON, [("Precedence", "bulk")]),
        (PERSON, [("Precedence", " List ")]),
        (PERSON, [("precedence", "junk")]),
        (PERSON, [("List-Id", "<x.example>")]),
        (PERSON, [("List-Unsubscribe", "<mailto:x@y>")]),
        (PERSON, [("X-Auto-Response-Suppress", "All")]),
        (PERSON, [("X-Auto-Response-Suppress", "DR, OOF, AutoReply")]),
        (PERSON, [("X-Autoreply", "yes")]),
        (PERSON, [("Return-Path", "<>")]),
        (PERSON, [("Content-Type", 'multipart/report; report-type="delivery-status"')]),
        (PERSON, [("Feedback-ID", "1:2")]),
    ],
)  # fmt: skip
def test_robots_lists_and_bounces_are_not_answered(mail_from, headers):
    """Bounces, robots, lists and ourselves are not answered, and the reason is said."""
    assert unanswerable(mail_from, [("Subject", "x"), *headers], ["shop@example.org"])


def test_hops_are_counted():
    """Each server that a mail has passed counts, however it writes its field."""
    assert hops([("Received", "a"), ("received", "b"), ("X-Received", "c")]) == 2


def test_a_mail_is_answered_once():
    """A Message-ID is new once; the oldest is forgotten first; what has none is always new."""
    answered = Answered(2)
    assert answered.add("<1>")
    assert answered.add("<2>")
    assert not answered.add("<1>")
    assert answered.add("<3>")  # <2> gives way: <1> was seen after it
    assert "<2>" not in answered
    assert "<1>" in answered
    assert answered.add("")
    assert answered.add("")
