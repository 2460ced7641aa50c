"""Mails that are composed: what the standard library reads in them is what went in."""

from __future__ import annotations

import email
import re
from email.message import EmailMessage
from email.policy import default
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import LocalProtocolError
from gateway.plugins.email.addresses import Mailbox, literal, mailbox
from gateway.plugins.email.client.envelope import Entry
from gateway.plugins.email.client.reports import report
from gateway.plugins.email.compose import (
    LONGEST_LINE,
    Thread,
    answered,
    compose,
    new_message_id,
    split,
)

SHOP = mailbox("Shop <shop@example.org>")
ANN = mailbox("ann@example.net")
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=60
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=120)


def composed(sender: Mailbox = SHOP, to: tuple[Mailbox, ...] = (ANN,), thread=None, **keys):
    raw = compose(
        {"text": "hi"} | keys,
        sender=sender,
        recipients=to,
        message_id="<1@example.org>",
        now=1_800_000_000,
        thread=thread,
    )
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= LONGEST_LINE
    return raw, email.message_from_bytes(raw, _class=EmailMessage, policy=default)


def lined(text: str) -> str:
    text = re.sub("\r\n?", "\n", text)
    return text if text.endswith("\n") else text + "\n"


@given(
    subject=WORDS,
    text=TEXTS,
    html=st.none() | TEXTS,
    name=WORDS.filter(lambda x: "<" not in x and ">" not in x),
)
@settings(max_examples=40, deadline=None)
def test_what_is_composed_is_read_again(subject, text, html, name):
    """Subject, text, HTML and names come out of the standard library's parser as they went in."""
    sender = Mailbox(name.strip(), "shop", "example.org")
    keys = {"subject": subject, "text": text} | ({} if html is None else {"html": html})
    raw, mail = composed(sender, **keys)
    raw.decode("ascii")
    assert mail["subject"].replace("\n", "") == subject
    assert mail["from"].addresses[0].addr_spec == "shop@example.org"
    if '"' not in name and "\\" not in name:
        # The parser reads quoted pairs its own way, and puts spaces between encoded words.
        shown = mail["from"].addresses[0].display_name
        assert "".join(shown.split()) == "".join(sender.name.split())
    assert lined(mail.get_body(("plain",)).get_content()) == lined(text)
    if html is not None:
        assert mail.get_content_type() == "multipart/alternative"
        assert lined(mail.get_body(("html",)).get_content()) == lined(html)
    assert [name for name, _ in mail.items()][:6] == [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "Auto-Submitted",
    ]


@given(
    files=st.lists(
        st.tuples(
            WORDS.filter(lambda x: x.strip() == x and x),
            st.sampled_from(["text/plain; charset=utf-8", "image/png", "", "application/x-thing"]),
            st.binary(max_size=200),
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=30, deadline=None)
def test_attachments_are_read_again(files):
    """Attachments come out with their names, types and bytes, whatever is in them."""
    _, mail = composed(attachments=files)
    found = list(mail.iter_attachments())
    assert [part.get_payload(decode=True) for part in found] == [data for _, _, data in files]
    assert [part.get_filename() for part in found] == [name for name, _, _ in files]
    kinds = [(kind or "application/octet-stream").partition(";")[0] for _, kind, _ in files]
    assert [part.get_content_type() for part in found] == kinds
    assert mail.get_body(("plain",)).get_content() == "hi\r\n"


@given(name=st.from_regex(r"X-[A-Za-z-]{1,20}", fullmatch=True), value=st.text(max_size=80))
@settings(max_examples=40, deadline=None)
def test_no_value_begins_a_header(name, value):
    """A header's value is read again as it was, or refused: it never becomes two, or a body."""
    try:
        _, mail = composed(headers=[(name, value)])
    except LocalProtocolError:
        assert re.search("[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff]", value)
        return
    assert mail[name].replace("\n", "") == value
    assert len(mail.items()) == 10
    assert mail.get_content() == "hi\r\n"


@pytest.mark.parametrize("bad", ["a\r\nBcc: all@example.org", "a\nb", "a\rb", "a\0b", "a\x0bb"])
@pytest.mark.parametrize("where", ["subject", "header", "name", "file", "type", "to"])
def test_line_breaks_are_refused_by_name(bad, where):
    """A line break in a subject, header, address or file name is refused with words for it."""
    keys = {
        "subject": {"subject": bad},
        "header": {"headers": [("X-One", bad)]},
        "name": {"headers": [(bad, "one")]},
        "to": {"headers": [("To", f"{bad} <ann@example.org>")]},
        "file": {"attachments": [(bad, "text/plain", b"")]},
        "type": {"attachments": [("a", f"text/plain; x={bad}", b"")]},
    }
    with pytest.raises(LocalProtocolError, match=r"line break|cannot be one"):
        composed(**keys[where])


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"headers": [("Content-Type", "text/html")]}, "what the mail consists of"),
        ({"headers": [("Bcc", "a@example.org")]}, "rcpt_to"),
        ({"headers": [("To", "nobody")]}, "user@domain"),
        ({"headers": [("X:Y", "1")]}, "cannot be one"),
        ({"headers": [("X-Y", "1", "2")]}, "list of"),
        ({"headers": [("References", "<a@b>" * 400)]}, "over 998"),
        ({"attachments": [("a", "text", b"")]}, "is none"),
        ({"attachments": [("a", "multipart/mixed", b"")]}, "one by one"),
        ({"attachments": [("a", "text/plain", "str")]}, "bytes"),
        ({"text": None}, "nothing to send"),
        ({"text": "\ud800"}, "no text"),
    ],
)
def test_what_cannot_be_is_said(keys, words):
    """What cannot stand in a mail is refused with what to do instead."""
    with pytest.raises(LocalProtocolError, match=words):
        composed(**keys)


def test_an_answer_is_in_the_thread():
    """An answer names the mail that it answers, and those before it, the first one always."""
    before = " ".join(f"<{n}@example.net>" for n in range(50))
    _, mail = composed(thread=Thread("<q@example.net>", before, "Größe?"))
    assert mail["subject"] == "Re: Größe?"
    assert mail["in-reply-to"] == "<q@example.net>"
    named = mail["references"].split()
    assert (named[0], named[-1], len(named)) == ("<0@example.net>", "<q@example.net>", 22)


def test_a_thread_that_is_none_is_left_out():
    """A Message-ID that is none, as robots write them, does not come into the answer."""
    _, mail = composed(thread=Thread("<a b\r\nX: 1>", "junk", "x\r\nBcc: y"))
    assert mail["in-reply-to"] is None
    assert mail["references"] is None
    assert mail["subject"] == "Re: x  Bcc: y"


def test_headers_take_the_place_of_ours():
    """A header of the application's stands instead of the one that would be there."""
    _, mail = composed(
        headers=[("to", "All <all@example.org>, b@example.org"), ("Auto-Submitted", "no")]
    )
    assert mail.get_all("to") == ["All <all@example.org>, b@example.org"]
    assert mail["auto-submitted"] == "no"
    assert len(mail.get_all("auto-submitted")) == 1


def test_the_date_is_that_of_the_clock():
    """The date is the time that it was composed at."""
    assert parsedate_to_datetime(composed()[1]["date"]).timestamp() == 1_800_000_000


def test_bytes_are_a_text_or_a_file():
    """Bytes that are UTF-8 are the text of the mail; others are a file in it."""
    _, mail = composed(text=None, bytes="grüß dich".encode())
    assert mail.get_content() == "grüß dich\r\n"
    _, mail = composed(text=None, bytes=b"\xff\xfe")
    [part] = mail.iter_attachments()
    assert part.get_payload(decode=True) == b"\xff\xfe"


def test_a_mail_within_a_mail_is_not_encoded():
    """message/rfc822 stands in it as it is; one that is not of ASCII becomes a file."""
    _, mail = composed(attachments=[("m", "message/rfc822", b"Subject: x\n\nhi\n")])
    [part] = mail.iter_attachments()
    assert part.get_content()["subject"] == "x"
    _, mail = composed(attachments=[("m", "message/rfc822", "Subject: ä\n\nhi\n".encode())])
    [part] = mail.iter_attachments()
    assert part.get_content_type() == "application/octet-stream"


def test_an_address_beyond_ascii_stands_as_it_is():
    """A local part that is not of ASCII is written in UTF-8: it takes SMTPUTF8 anyway."""
    raw, _ = composed(to=(mailbox("jörg@müller.example"),))
    assert "To: jörg@xn--mller-kva.example\r\n".encode() in raw


@pytest.mark.parametrize(
    "text",
    ["", "a", "a@", "@b", "a b@c.d", "a@b c", "a@-b", "a@b..c", "a<b@c", "<a@b>x", "a@[1.2.3]", "a@1.2.3", "a@1.2.3.4", "a..b@c", f"{'a' * 65}@b.c", f"a@{'b.' * 126}c", "a@b>", 'a"b@c'],
)  # fmt: skip
def test_what_is_no_address(text):
    """What is no address is refused."""
    with pytest.raises(LocalProtocolError):
        mailbox(text)


@pytest.mark.parametrize(
    "text",
    ["a@b", "a+b@c.example", '"a b"@c', "a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", "o'x/=?@c", '"Doe, A" <a@b>'],
)  # fmt: skip
def test_what_is_an_address(text):
    """What is an address is taken."""
    assert mailbox(text).domain


def test_address_literals():
    """An address literal is read; anything else in brackets is none."""
    assert literal("[192.0.2.1]") == "192.0.2.1"
    assert literal("[ipv6:::1]") == "::1"
    assert literal("[::1]") is None
    assert literal("a.b") is None


def test_message_ids_differ():
    """No two Message-IDs are the same."""
    assert len({new_message_id("a.b") for _ in range(100)}) == 100


def test_answers_and_lists():
    """A subject is answered once; a list of mailboxes is parted where its commas do that."""
    assert answered("re: x") == "re: x"
    assert answered("Re[2]: x") == "Re[2]: x"
    assert answered("") == "Re:"
    assert split('"A, B" <a@b>,c@d') == ['"A, B" <a@b>', "c@d"]


@pytest.mark.parametrize("size", [978, 979, 998])
def test_long_message_ids(size):
    """A Message-ID that does not fit into a line with others is left out, and stops no answer and no report."""
    long = f"<{'a' * (size - 14)}@example.org>"
    raw, _ = composed(thread=Thread(long, f"<0@example.org> {long}", "hi"))
    assert (f"In-Reply-To: {long}\r\n".encode() in raw) is (size == 978)
    entry = Entry(
        id="1", mail_from="a@example.org", created=0.0, size=1, recipients=[], message_id=long
    )
    told = report(entry, [], b"", hostname="h.example", now=0.0, message_id="<r@h.example>")
    assert (b"In-Reply-To" in told) is (size == 978)
