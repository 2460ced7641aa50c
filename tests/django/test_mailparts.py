"""The parts of a mail: as Python's own parser finds them, and whatever else a mail may look like."""

import binascii
import email
import io
import tracemalloc
from email.message import EmailMessage

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_gateway import mailparts
from django_gateway.mailparts import file_name, split


def parts(raw):
    """Return each part with its content."""
    into = io.BytesIO()
    found = split(io.BytesIO(raw), into)
    whole = into.getvalue()
    return [(one, whole[one.start : one.start + one.size]) for one in found]


def contents(raw):
    return [(one.content_type, content) for one, content in parts(raw)]


def as_python_has_it(raw):
    """Return the same of Python's own parser, of which all is in memory."""
    found = []

    def walk(message):
        if message.get_content_type() == "message/rfc822":
            return
        if message.is_multipart():
            for one in message.get_payload():
                walk(one)
        else:
            found.append((message.get_content_type(), message.get_payload(decode=True)))

    walk(email.message_from_bytes(raw))
    return found


text_of = st.text(
    st.sampled_from("ab =\t.\n-é€\N{GRINNING FACE}"), max_size=200
)  # what quoting, line ends and boundaries are made of


encodings = st.sampled_from(["base64", "quoted-printable", "8bit"])
texts = st.tuples(text_of, encodings)


@given(
    text=texts,
    html=st.none() | texts,
    files=st.lists(st.binary(max_size=300), max_size=3),
    text_file=st.none() | texts,
    end=st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=60, deadline=None)
def test_as_python_has_it(text, html, files, text_file, end):
    """Whatever a mail is made of, its parts hold what Python's own parser finds in them."""
    mail = EmailMessage()
    mail["Subject"] = "s"
    mail.set_content(text[0], cte=text[1])
    if html is not None:
        mail.add_alternative(html[0], subtype="html", cte=html[1])
    for content in files:
        mail.add_attachment(content, maintype="application", subtype="x", filename="f")
    if text_file is not None:
        mail.add_attachment(text_file[0], filename="t.txt", cte=text_file[1])
    raw = mail.as_bytes(policy=mail.policy.clone(linesep=end))
    assert contents(raw) == as_python_has_it(raw)


@given(st.lists(st.sampled_from([
    b"--a\n", b"--a--\n", b"--b\n", b"--b--\n", b"\n", b"x: y\n", b"text\n", b"=\n", b"=4", b"1",
    b"Content-Type: multipart/mixed; boundary=a\n", b"Content-Type: multipart/digest; boundary=b\n",
    b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n",
    b"Content-Type: text/html\n", b"\xff\xfe: \n", b" folded\n", b"QUJD\n", b"QQ==QUI=\r\n", b"\r",
    b"Content-Disposition: attachment; filename*=x''%ff%\n", b"From me\n", b"Q",
]), max_size=30))  # fmt: skip
@example([b"Content-Type: multipart/mixed; boundary=a\n", b"--a\n"])
@settings(max_examples=200, deadline=None)
def test_never_raises(lines):
    """Nothing that a mail says is an error: it has parts, which lie within what was written."""
    raw = b"".join(lines)
    for part, content in parts(raw):
        assert part.size == len(content)


@pytest.mark.parametrize("size", [46, 47, 48, 49])
@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit"])
def test_long_lines(encoding, size, monkeypatch):
    """A line that is looked at in pieces is what it would be in one, wherever it is cut."""
    monkeypatch.setattr(mailparts, "LINE", size)
    monkeypatch.setattr(mailparts, "BLOCK", 8)
    content = bytes(range(256)) * 3
    if encoding == "base64":
        body = binascii.b2a_base64(content)
    elif encoding == "quoted-printable":
        body = b"".join(b"=%02X" % byte for byte in content) + b"\n  end =3D\n"
    else:
        body = content.replace(b"\n", b"") + b"\n--a\nend"
    raw = b"Content-Transfer-Encoding: %s\n\n%s" % (encoding.encode(), body)
    assert contents(raw) == as_python_has_it(raw)


_MIXED = b"Content-Type: multipart/mixed; boundary=%s\n\n"
ODD = {
    "nothing": (b"", []),
    "no headers": (b"just text\n", [("text/plain", b"just text\n")]),
    "headers alone": (b"Subject: x\n", [("text/plain", b"")]),
    "no empty line": (b"Subject: x\nhello there\n", [("text/plain", b"hello there\n")]),
    "a line of an mbox": (b"From a@b Thu\nSubject: x\n\ny\n", [("text/plain", b"y\n")]),
    "no boundary": (b"Content-Type: multipart/mixed\n\nx\n", [("text/plain", b"x\n")]),
    "never begun": (b"Content-Type: multipart/mixed; boundary=a\n\nx\n", []),
    "never ended": (
        b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n",
        [("text/plain", b"x")],
    ),
    "ended by the one around": (
        _MIXED % b"a" + b"--a\n" + _MIXED % b"b" + b"--b\n\nx\n--a\n\ny\n--a--\nz\n",
        [("text/plain", b"x"), ("text/plain", b"y")],
    ),
    "boundaries that begin alike": (
        b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\nx\n--ab\n--a--\n",
        [("text/plain", b"x\n--ab")],
    ),
    "a digest": (
        b"Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: in\n\nx\n--a--\n",
        [("message/rfc822", b"Subject: in\n\nx")],
    ),
    "broken base64": (
        b"Content-Transfer-Encoding: base64\n\nQU*J\nD\nQQ==\nQUI\n",
        [("text/plain", b"ABCAAB")],
    ),
    "an odd rest": (b"Content-Transfer-Encoding: base64\n\nQUJDR\n", [("text/plain", b"ABC")]),
    "broken quoting": (
        b"Content-Transfer-Encoding: quoted-printable\n\na=ZZ=\n=41= \nb=",
        [("text/plain", b"a=ZZAb")],
    ),
    "of no known encoding": (
        b"Content-Transfer-Encoding: x-own\n\n\xff\n",
        [("text/plain", b"\xff\n")],
    ),
    "a boundary of bytes": (
        b'Content-Type: multipart/mixed; boundary="\xe9"\n\n--\xe9\n\nx\n--\xe9--\n',
        [("text/plain", b"x")],
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_shapes(name):
    """What a mail should not look like is taken as it stands."""
    raw, expected = ODD[name]
    assert contents(raw) == expected


def test_deep_and_many():
    """Multiparts in multiparts end somewhere, and so do parts."""
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(200)
    )
    assert [one for one, _ in contents(deep + b"\nx\n")] == ["multipart/mixed"]
    many = b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * 1500 + b"--a--\n"
    assert len(parts(many)) == mailparts.PARTS
    headers = b"X: " + b"y" * 200_000 + b"\nContent-Type: text/html\n\nz"
    assert contents(headers) == [("text/plain", b"z")]  # past what is read of headers


def test_bounded_memory(tmp_path):
    """A mail of megabytes is cut with less than one of them in memory."""
    mail = EmailMessage()
    mail.set_content("x")
    mail.add_attachment(bytes(6_000_000), maintype="a", subtype="b", filename="f")
    path = tmp_path / "mail"
    path.write_bytes(mail.as_bytes())
    del mail
    with path.open("rb") as source, (tmp_path / "parts").open("w+b") as into:
        tracemalloc.start()
        try:
            found = split(source, into)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert found[1].size == 6_000_000
    assert peak < 1_000_000


def test_what_a_part_is():
    """A part has its file's name, however that is encoded, its charset and its identifier."""
    heads = (
        b'Content-Type: application/pdf; name="=?utf-8?q?b=C3=A4ll.pdf?="',
        b"Content-Disposition: attachment; filename*=utf-8''b%C3%A4ll.pdf",
        b'Content-Disposition: attachment; filename="b\xc3\xa4ll.pdf"',
        b'Content-Disposition: attachment; filename="b\xe4ll.pdf"',
        b'Content-Disposition: attachment; filename*0="b\xc3\xa4"; filename*1=ll.pdf',
    )
    for head in heads:
        [(part, _)] = parts(head + b"\n\nx")
        assert part.name == "bäll.pdf", head
    [(part, _)] = parts(b"Content-Type: text/HTML; charset=X\nContent-ID: <a@b>\n\nx")
    assert (part.content_type, part.charset, part.content_id) == ("text/html", "x", "a@b")
    assert part.is_body
    for head in (b"Content-Disposition: attachment", b"Content-Type: text/plain; name=x"):
        [(part, _)] = parts(head + b"\n\nx")
        assert not part.is_body


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.pdf", "a.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a b.txt", "a b.txt"),
        ("/", "attachment-7.pdf"),
        ("..", "attachment-7.pdf"),
        (".bashrc", "bashrc"),
        ("", "attachment-7.pdf"),
        ("a\0b\r\n.txt", "ab.txt"),
        ("exe\N{RIGHT-TO-LEFT OVERRIDE}fdp.txt", "exefdp.txt"),
        ("x" * 500 + ".pdf", "x" * 196 + ".pdf"),
        ("x" * 500, "x" * 200),
        ("Rechnung Nr. 7 ä.pdf", "Rechnung Nr. 7 ä.pdf"),
    ],
)
def test_file_names(given, name):
    """A file's name has no path in it, nothing that is unseen, and is never empty."""
    assert file_name(given, "application/pdf", 7) == name
