"""Mail that is sent to the gateway, and what a server gets of it, through all its moods."""

from __future__ import annotations

import socket
import stat
import threading

import pytest

from gateway.plugins.email.client.config import Dkim, Smarthost
from gateway.plugins.email.client.dialogue import Dialogue
from tests.plugins.email.out.peer import Peer, config, contexts, serving, until


@pytest.fixture
def peer():
    with Peer() as made:
        yield made


def test_a_mail_comes_to_the_server(tmp_path, peer):
    """What is sent to email.send is acknowledged, comes to the smarthost, and is spooled no more."""
    with serving(config(tmp_path, peer)) as post:
        ack = post.mail(subject="Größe", html="<p>hi", attachments=[("a.txt", "text/plain", b"x")])
        assert ack["reply_channel"] == "email.send"
        post.empty()
        [mail] = peer.parsed()
        [envelope] = peer.mails
        assert (envelope.mail_from, envelope.rcpt_tos) == ("shop@example.org", ["ann@example.net"])
        assert mail["subject"] == "Größe"
        assert mail["from"] == "Shop <shop@example.org>"
        assert mail["to"] == "ann@example.net"
        assert mail["message-id"].endswith("@example.org>")
        assert post.count("recipients_total", result="delivered") == 1
        assert post.count("spooled_total") == 1


def test_an_address_is_a_mailbox(tmp_path, peer):
    """What is sent to email.send!MAILBOX is mailed there."""
    with serving(config(tmp_path, peer)) as post:
        ack = post.sent("email.send!bob_40example.net", text="hi")
        assert (ack["outcome"], ack["reply_channel"]) == (
            "accepted",
            "email.send!bob_40example.net",
        )
        post.empty()
        assert peer.mails[0].rcpt_tos == ["bob@example.net"]
        assert post.sent("email.send!bob", text="hi")["outcome"] == "rejected"


def test_a_message_for_all_protocols(tmp_path, peer):
    """An address that is a member of a group gets what is for all, and the keys of its own."""
    with serving(config(tmp_path, peer)) as post:
        everybody = {"text": "open", "email": {"subject": "Door"}}
        worker = post.staged.worker
        worker.group_add("door", "email.send!bob_40example.net")
        worker.send_group("door", everybody)
        until(lambda: peer.mails)
        [mail] = peer.parsed()
        assert (mail["subject"], mail["to"]) == ("Door", "bob@example.net")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"text": "hi"}, "no recipient"),
        ({"text": "hi", "rcpt_to": []}, "no recipient"),
        ({"text": "hi", "rcpt_to": ["ann"]}, "user@domain"),
        ({"text": "hi", "rcpt_to": "ann@example.net"}, r"not allowed.*rcpt_to"),
        ({"text": "hi", "rcpt_to": ["a@b.c\r\nRCPT TO:<d@e.f>"]}, "line break"),
        ({"text": "hi", "raw": b"Subject: x\r\n\r\n"}, "both 'raw' and 'text'"),
        ({"raw": b"Subject: x\r\n\r\n", "raw_channel": "a?b"}, "both 'raw' and 'raw_channel'"),
        ({"raw": b"Subject: x\r\n\r\n", "headers": [["X", "y"]]}, "both 'raw' and 'headers'"),
        ({"raw": b"no header"}, "begin with a header"),
        ({"raw": b"A: b\r\n\r\n\0"}, "NUL"),
        ({"raw": b"Received: x\r\n" * 101 + b"\r\n"}, "in a circle"),
        ({"raw": b"A: " + b"x" * 4000}, "over 3000 bytes"),
        ({"text": "hi", "subject": "a\r\nBcc: x@y.z"}, "subject has a line break"),
        ({"text": "hi", "headers": [["X-A", "b\nc"]]}, "X-A has a line break"),
        ({"text": "hi", "mail_from": "nobody"}, "mail_from"),
        ({"subject": "x"}, "nothing to send"),
        ({"text": "hi", "wrong": 1}, "unknown key 'wrong'"),
        ({"text": "hi", "bytes": b"x"}, "both 'text' and 'bytes'"),
        ({"raw_channel": "email.raw"}, "single-reader"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_the_ack(refusing, message, words):
    """The ack of a mail that cannot be says why, and it is counted."""
    import re

    before = sum(refusing.dropped().values())
    if "rcpt_to" not in message and words != "no recipient":
        message = {"rcpt_to": ["ann@example.net"], **message}
    ack = refusing.sent(**message)
    assert ack["outcome"] == "rejected"
    assert re.search(words, ack["reason"])
    assert 500 <= ack["code"] < 600
    assert sum(refusing.dropped().values()) == before + 1
    assert not refusing.names


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    settings = config(
        tmp_path_factory.mktemp("refusing"), delivery={"max_size": 3000, "enabled": False}
    )
    with serving(settings) as post:
        yield post


def test_a_full_spool_refuses(tmp_path):
    """A mail that the spool has no room for is refused with 452, counted as full."""
    with serving(config(tmp_path, spool_messages=1, delivery={"enabled": False})) as post:
        post.mail()
        ack = post.sent(rcpt_to=["ann@example.net"], text="hi")
        assert (ack["outcome"], ack["code"]) == ("failed", 452)
        assert "email.spool_messages" in ack["reason"]
        assert post.dropped() == {"full": 1}
        assert len(post.names) == 1


def test_the_spool_is_private(tmp_path):
    """Nobody else may look into the spool."""
    with serving(config(tmp_path, delivery={"enabled": False})) as post:
        post.mail()
        found = [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]
        modes = {stat.S_IMODE(one.stat().st_mode) for one in found if one.is_file()}
        assert modes == {0o600}
        assert {stat.S_IMODE(one.stat().st_mode) for one in found if one.is_dir()} == {0o700}


@pytest.mark.parametrize("step", ["EHLO", "MAIL", "RCPT", "DATA", "END"])
@pytest.mark.parametrize("fault", ["451 4.3.0 later", "421 4.3.2 not now", "cut"])
def test_what_passes_is_tried_again(tmp_path, peer, step, fault):
    """After a fault that may pass, at whatever step, the mail comes again: the same mail, once."""
    peer.script[step] = [fault]
    with serving(config(tmp_path, peer)) as post:
        post.mail()
        post.empty()
        assert len(peer.mails) == 1
        assert peer.asked.count("END") == (2 if step == "END" else 1)
        assert post.count("recipients_total", result="deferred") == 1


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "END"])
def test_what_does_not_pass_is_reported(tmp_path, peer, step):
    """A mail that is refused for good comes back to its sender as a report, with the reason."""
    peer.script[step] = ["550 5.1.1 no such thing", None]
    with serving(config(tmp_path, peer)) as post:
        post.mail(subject="Order", mail_from="boss@example.org")
        post.empty()
        [envelope] = peer.mails
        [report] = peer.parsed()
        assert (envelope.mail_from, envelope.rcpt_tos) == ("<>", ["boss@example.org"])
        assert report["subject"] == "Undelivered: Order"
        assert report["auto-submitted"] == "auto-replied"
        assert report.get_content_type() == "multipart/report"
        words, status, headers = report.iter_parts()
        assert "550 5.1.1 no such thing" in words.get_content()
        about, recipient = status.get_payload()
        assert about["reporting-mta"] == "dns; gateway.example"
        assert recipient["final-recipient"] == "rfc822; ann@example.net"
        assert (recipient["action"], recipient["status"]) == ("failed", "5.1.1")
        assert recipient["diagnostic-code"] == "smtp; 550 5.1.1 no such thing"
        assert "Subject: Order" in headers.get_payload()
        assert post.count("reports_total") == 1


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
def test_a_refusal_counts_though_the_server_is_gone(tmp_path, peer, step):
    """Who refuses a mail for good and hangs up is not asked again; the sender is told."""
    peer.script = {step: ["550 5.1.1 no such thing"], "RSET": ["cut"]}
    with serving(config(tmp_path, peer)) as post:
        post.mail()
        post.empty()
        assert [one["subject"] for one in peer.parsed()] == ["Undelivered mail"]
        assert post.count("unreached_total") == 0


def test_the_words_of_a_server_are_a_line(tmp_path, peer, caplog):
    """What a server says stands in one line of the log, without what a terminal would obey."""
    peer.script["RCPT"] = ["421-4.3.2 one\x1b[2J\r\n421 4.3.2 two"]
    caplog.set_level("INFO", "gateway")
    with serving(config(tmp_path, peer)) as post:
        post.mail()
        post.empty()
    [said] = {one.getMessage() for one in caplog.records if "deferred" in one.getMessage()}
    assert "\x1b" not in said
    assert len(said.splitlines()) == 1


def test_from_the_null_sender_is_signed_all_the_same(tmp_path, peer):
    """What is from the null sender, answers and reports, is signed by the key of whom its From names."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = tmp_path / "key.pem"
    key.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    keys = {
        domain: Dkim(selector="s", key=str(key)) for domain in ("example.org", "gateway.example")
    }
    peer.script["RCPT boss@example.net"] = ["550 5.1.1 no"]
    with serving(config(tmp_path, peer, dkim=keys)) as post:
        post.mail(mail_from="")
        post.mail(rcpt_to=["boss@example.net"])
        post.empty()
        found = {one["from"]: one["dkim-signature"] or "" for one in peer.parsed()}
        assert len(found) == 2
        for author, signature in found.items():
            assert f"d={author.rpartition('@')[2].rstrip('>')};" in signature, author


def test_a_report_is_not_reported_on(tmp_path, peer):
    """A report that cannot be delivered is dropped, counted: it leads to no other."""
    peer.script["RCPT"] = ["550 no", "550 no"]
    with serving(config(tmp_path, peer)) as post:
        post.mail()
        post.empty()
        assert not peer.mails
        assert post.count("recipients_total", result="undeliverable") == 2
        assert post.dropped() == {"failed": 1}


def test_recipients_are_told_apart(tmp_path, peer):
    """Of several recipients each is delivered, tried again or reported as the server says of it."""
    peer.script["RCPT bob@example.net"] = ["450 4.2.1 busy", None]
    peer.script["RCPT cid@example.net"] = ["550 5.1.1 who"]
    with serving(config(tmp_path, peer)) as post:
        post.mail(rcpt_to=["ann@example.net", "bob@example.net", "cid@example.net"])
        post.empty()
        got = sorted((one.mail_from, tuple(one.rcpt_tos)) for one in peer.mails)
        assert got == [
            ("<>", ("shop@example.org",)),
            ("shop@example.org", ("ann@example.net",)),
            ("shop@example.org", ("bob@example.net",)),
        ]
        own = [mail["message-id"] for mail in peer.parsed() if mail["subject"] == ""]
        assert len(own) == 2
        assert len(set(own)) == 1


def test_what_is_tried_for_too_long_is_given_up(tmp_path):
    """A mail that no server takes for max_age is given up, and its report says why it was."""
    with Peer() as peer:
        peer.close()
        settings = config(tmp_path, peer, delivery={"max_age": 0.2})
        with serving(settings) as post:
            post.mail()
            until(lambda: post.count("recipients_total", result="undeliverable") == 1)
            assert post.dropped() == {"expired": 1}
            peer.open_again()
            post.empty()
            [report] = peer.parsed()
            assert "tried for too long" in report.get_body(("plain",)).get_content()


def test_a_delay_is_told_once(tmp_path, peer):
    """With delay_warning the sender is told once that a mail takes long."""
    peer.script["RCPT ann@example.net"] = ["450 busy"] * 4
    with serving(config(tmp_path, peer, delivery={"delay_warning": 0.05})) as post:
        post.mail(subject="Order")
        post.empty()
        subjects = sorted(mail["subject"] for mail in peer.parsed())
        assert subjects == ["Delayed: Order", "Order"]
        [warning] = [mail for mail in peer.parsed() if mail["subject"] != "Order"]
        _, status, _ = warning.iter_parts()
        assert status.get_payload()[1]["action"] == "delayed"


def test_mails_share_a_connection(tmp_path, peer):
    """Mails that wait for one server go over as few connections as may be."""
    peer.close()
    with serving(config(tmp_path, peer, delivery={"connections_per_destination": 1})) as post:
        for number in range(10):
            post.mail(subject=str(number))
        before = peer.connections
        peer.open_again()
        post.empty()
        assert len(peer.mails) == 10
        assert peer.connections - before <= 2


def test_dots_and_line_ends_survive(tmp_path, peer):
    """Dots at a line's beginning come out as they went in; bare CR and LF become CRLF."""
    raw = b"Subject: x\nMessage-ID: <1@x>\nDate: x\n\n.\n..\r\n.a\rb\r\n.\r\nend"
    with serving(config(tmp_path, peer)) as post:
        post.sent(rcpt_to=["ann@example.net"], raw=raw)
        post.empty()
        expected = (
            b"Subject: x\r\nMessage-ID: <1@x>\r\nDate: x\r\n\r\n.\r\n..\r\n.a\r\nb\r\n.\r\nend\r\n"
        )
        assert peer.mails[0].original_content == expected


def test_what_a_mail_lacks_is_added(tmp_path, peer):
    """A raw mail without a Date or a Message-ID gets them, the same over all tries."""
    peer.script["END"] = ["late 451 again"]
    with serving(config(tmp_path, peer)) as post:
        post.sent(rcpt_to=["ann@example.net"], raw=b"Subject: x\r\n\r\nhi\r\n")
        post.empty()
        one, other = (mail.original_content for mail in peer.mails)
        assert one == other
        assert b"Message-ID: <" in one
        assert b"Date: " in one


def test_a_large_mail_comes_in_pieces(tmp_path, peer):
    """A mail on a raw_channel comes out whole; each piece is acknowledged once it is written."""
    body = b"".join(b".%07d" % n + b"x" * 70 + b"\r\n" for n in range(40_000))
    raw = b"Subject: big\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\n" + body
    with serving(config(tmp_path, peer)) as post:
        worker = post.staged.worker
        channel = worker.new_channel("mails.raw?")
        number = post.send(rcpt_to=["ann@example.net"], raw_channel=channel)
        acks = worker.new_channel("acks?")
        for offset in range(0, len(raw), 200_000):
            piece = raw[offset : offset + 200_000]
            more = offset + len(piece) < len(raw)
            worker.send(
                channel,
                {
                    "offset": offset,
                    "content": piece,
                    "more_content": more,
                    "ack": offset,
                    "ack_channel": acks,
                },
            )
            _, ack = worker.receive([acks], block=5.0)
            assert ack["ack"] == offset
        assert post.ack() | {"ack": number, "outcome": "accepted"} == post_ack(number)
        post.empty()
        assert peer.mails[0].original_content == raw


def post_ack(number):
    return {
        "ack": number,
        "outcome": "accepted",
        "code": None,
        "reason": "",
        "reply_channel": "email.send",
    }


@pytest.mark.parametrize("how", ["gap", "closed", "silence"])
def test_a_large_mail_that_is_not_whole_is_refused(tmp_path, how):
    """A mail of which a piece is missing is not sent: the ack says what is wrong."""
    with serving(config(tmp_path, delivery={"enabled": False, "chunk_timeout": 0.1})) as post:
        worker = post.staged.worker
        channel = worker.new_channel("mails.raw?")
        worker.send(channel, {"offset": 0, "content": b"Subject: x\r\n\r\n", "more_content": True})
        if how == "gap":
            worker.send(channel, {"offset": 99, "content": b"x", "more_content": False})
        elif how == "closed":
            worker.send(channel, {"closed": True})
        ack = post.sent(rcpt_to=["ann@example.net"], raw_channel=channel)
        words = {"gap": "missing: at 14", "closed": "given it up", "silence": "no piece"}
        assert (ack["outcome"], ack["code"]) == ("failed", 451)
        assert words[how] in ack["reason"]
        assert not post.names
        assert not list((tmp_path / "spool" / "tmp").iterdir())


def test_eight_bits_and_utf8_need_a_server_for_them(tmp_path):
    """What a server cannot take unmangled comes back to its sender; it is never changed."""
    with (
        Peer(hide=("8BITMIME",), enable_SMTPUTF8=False) as peer,
        serving(config(tmp_path, peer)) as post,
    ):
        post.sent(rcpt_to=["ann@example.net"], raw="Subject: x\r\n\r\nä\r\n".encode())
        until(lambda: len(peer.mails) == 1)
        post.mail(rcpt_to=["jörg@example.net"])
        post.empty()
        texts = sorted(mail.as_string() for mail in peer.parsed())
        assert "5.6.3" in texts[0] + texts[1]
        assert "5.6.7" in texts[0] + texts[1]


def test_eight_bits_and_utf8_are_said(tmp_path):
    """A server that can is told what comes, and gets it as it is."""
    with Peer(enable_SMTPUTF8=True) as peer, serving(config(tmp_path, peer)) as post:
        post.sent(rcpt_to=["jörg@example.net"], raw="Subject: ä\r\n\r\nä\r\n".encode())
        post.empty()
        assert peer.mails[0].rcpt_tos == ["jörg@example.net"]
        assert "BODY=8BITMIME" in peer.mail_arguments[0]
        assert "SMTPUTF8" in peer.mail_arguments[0]
        assert peer.mails[0].original_content.endswith("Subject: ä\r\n\r\nä\r\n".encode())


def test_a_mail_that_is_too_large_for_the_server(tmp_path):
    """A mail over the server's SIZE is not sent at all, and reported."""
    with Peer(data_size_limit=3000) as peer, serving(config(tmp_path, peer)) as post:
        post.mail(text="x" * 500 + "\n" * 3000)
        post.empty()
        [report] = peer.parsed()
        assert "5.3.4" in report.get_body(("plain",)).get_content()


def test_an_answer_that_comes_at_once_is_heard(tmp_path, monkeypatch):
    """A server's answer counts though it is there before anybody waits for it."""
    answered = threading.Event()
    real = Dialogue._content

    async def content(self, *arguments):
        whole = await real(self, *arguments)
        assert answered.wait(5.0)  # the loop stands still until it is there
        return whole

    def speak(listener):
        client, _ = listener.accept()
        with client, client.makefile("rwb", buffering=0) as lines:
            lines.write(b"220 quick.example\r\n")
            for line in lines:
                lines.write(b"354 go\r\n" if line == b"DATA\r\n" else b"250 fine\r\n")
                if line == b"DATA\r\n":
                    while lines.readline() != b".\r\n":
                        pass
                    lines.write(b"250 taken\r\n")
                    answered.set()

    monkeypatch.setattr(Dialogue, "_content", content)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak, args=(listener,))
        thread.start()
        host = Smarthost(connect=f"127.0.0.1:{listener.getsockname()[1]}", tls="none")
        settings = config(tmp_path, smarthosts={"quick": host}, delivery={"data_timeout": 1.0})
        with serving(settings) as post:
            post.mail()
            until(lambda: post.count("recipients_total", result="delivered"))
            assert not post.count("recipients_total", result="deferred")
        thread.join(5.0)


# ------------------------------------------------ TLS and AUTH


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    return contexts(tmp_path_factory.mktemp("tls"))


def host(peer, **more):
    return {"connect": f"localhost:{peer.port}", **more}


@pytest.mark.parametrize(
    ("policy", "trusted", "offered", "arrives", "tls"),
    [
        ("verify", True, True, True, True),
        ("verify", False, True, False, False),
        ("verify", True, False, False, False),
        ("require", False, True, True, True),
        ("require", False, False, False, False),
        ("opportunistic", False, True, True, True),
        ("opportunistic", False, False, True, False),
        ("none", True, True, True, False),
    ],
)
def test_the_tls_policy(tmp_path, secure, policy, trusted, offered, arrives, tls):
    """Mail goes over TLS as the policy says, or waits, and the reason is said."""
    context, ca = secure
    with Peer(tls_context=context if offered else None) as peer:
        smarthost = host(peer, tls=policy, **({"ca": ca} if trusted else {}))
        with serving(config(tmp_path, peer, smarthost=smarthost)) as post:
            post.mail()
            if arrives:
                post.empty()
                assert len(peer.mails) == 1
                assert ("STARTTLS" in peer.asked) is tls
            else:
                until(lambda: post.count("recipients_total", result="deferred"))
                health = post.staged.call(post.role.health)
                assert not health["ok"]
                words = "STARTTLS" if not offered else "certificate is not good"
                assert words in health["troubles"]["smarthost peer"]
                assert not peer.mails


def test_tls_that_is_broken(tmp_path, secure):
    """A server whose STARTTLS is broken gets mail without it where that may be."""
    context, _ = secure
    for policy, arrives in (("opportunistic", True), ("require", False)):
        with Peer(tls_context=context) as peer:
            peer.script["STARTTLS"] = ["454 4.7.0 no"] * 1000
            folder = tmp_path / policy
            smarthost = host(peer, tls=policy)
            with serving(config(folder, peer, smarthost=smarthost)) as post:
                post.mail()
                if arrives:
                    post.empty()
                else:
                    until(lambda: post.count("recipients_total", result="deferred"))
                    assert not peer.mails


@pytest.mark.parametrize("mechanism", ["auto", "plain", "login"])
def test_the_gateway_says_who_it_is(tmp_path, secure, mechanism):
    """The gateway proves who it is to a smarthost, over TLS."""
    context, ca = secure
    with Peer(tls_context=context, auth_required=True) as peer:
        smarthost = host(
            peer, tls="verify", ca=ca, username="us", password="secret", auth=mechanism
        )
        peer._options["authenticator"] = peer.authenticate
        with serving(config(tmp_path, peer, smarthost=smarthost)) as post:
            post.mail()
            post.empty()
            assert peer.logins == [
                (b"us", b"secret", "PLAIN" if mechanism == "auto" else mechanism.upper())
            ]


def test_a_wrong_password_is_an_illness(tmp_path, secure):
    """A smarthost that refuses the password makes the gateway unhealthy; the mail waits."""
    context, ca = secure
    with Peer(tls_context=context, auth_required=True) as peer:
        smarthost = host(peer, tls="verify", ca=ca, username="us", password="wrong")
        peer._options["authenticator"] = peer.authenticate
        with serving(config(tmp_path, peer, smarthost=smarthost)) as post:
            post.mail()
            until(lambda: not post.staged.call(post.role.health)["ok"])
            assert len(post.names) == 1


def test_no_password_without_tls(tmp_path):
    """A password is not shown to a server without TLS, unless that is said."""
    with Peer(auth_require_tls=False) as peer:
        peer._options["authenticator"] = peer.authenticate
        smarthost = host(peer, tls="opportunistic", username="us", password="secret")
        with serving(config(tmp_path, peer, smarthost=smarthost)) as post:
            post.mail()
            until(lambda: post.count("recipients_total", result="deferred"))
            assert not peer.logins
