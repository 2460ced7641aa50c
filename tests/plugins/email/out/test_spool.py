"""The spool on disk: what crashes leave, what is damaged, who works on what; and the commands."""

from __future__ import annotations

import errno
import os
import time

import pytest

from gateway import cli
from gateway.core.errors import ConfigError
from gateway.plugins.email.client import postman
from gateway.plugins.email.client import spool as spools
from gateway.plugins.email.client.envelope import Entry, Recipient, new_id, packed, unpacked
from gateway.plugins.email.client.spool import Spool
from tests.plugins.email.out.peer import Peer, config, serving, until

MAIL = b"Subject: x\r\n\r\nhi\r\n"


def entry(name: str | None = None, **more) -> Entry:
    return Entry(
        **{
            "id": name or new_id(),
            "mail_from": "shop@example.org",
            "created": time.time(),
            "size": len(MAIL),
            "recipients": [Recipient(address="ann@example.net")],
            **more,
        }
    )


def put(spool: Spool, **more) -> Entry:
    found = entry(**more)
    draft = spool.draft(found.id)
    draft.write(MAIL)
    draft.commit(found)
    return found


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool")


def test_a_mail_is_there_once_it_is_committed(spool):
    """A mail is in the spool with its commit, whole, and not before."""
    found = entry()
    draft = spool.draft(found.id)
    draft.write(MAIL)
    assert spool.names() == set()
    draft.commit(found)
    assert spool.names() == {found.id}
    assert spool.read(found.id) == found
    claim = spool.claim(found.id)
    assert os.pread(claim.descriptor, 100, 0) == MAIL
    claim.close()
    assert spool.usage() == (1, len(MAIL))
    spool.remove(found)
    assert (spool.names(), spool.messages) == (set(), 0)


@pytest.mark.parametrize("step", ["fsync", "write", "rename mail", "rename envelope", "flush"])
def test_a_crash_at_any_step_leaves_a_whole_mail_or_none(spool, monkeypatch, step):
    """Wherever a commit is cut off, a mail is there whole or not at all, and what is left is cleared."""

    class Killed(BaseException):
        pass

    renames = []

    def rename(self, target, real=spools.Path.rename):
        renames.append(target)
        if step == f"rename {'mail' if len(renames) == 1 else 'envelope'}":
            raise Killed
        return real(self, target)

    def killed(*_):
        raise Killed

    put(spool)  # the directory is there
    before = spool.names()
    found = entry()
    draft = spool.draft(found.id)
    draft.write(MAIL)
    with monkeypatch.context() as patch:
        patch.setattr(spools.Path, "rename", rename)
        if step == "fsync":
            patch.setattr(spools.os, "fsync", killed)
        elif step in {"write", "flush"}:
            patch.setattr(spools, step, killed)
        with pytest.raises(Killed):
            draft.commit(found)
    os.close(draft._descriptor)  # as the system does it
    monkeypatch.setattr(spools, "STALE", -1.0)
    other = Spool(spool.directory)
    other.clear()
    there = step == "flush"
    assert other.names() == before | ({found.id} if there else set())
    assert not list((spool.directory / "tmp").iterdir())
    assert len(list((spool.directory / "queue").iterdir())) == (4 if there else 2)
    for name in other.names():
        assert other.read(name) is not None


def test_what_is_being_written_is_not_cleared(spool, monkeypatch):
    """Nothing of a mail is cleared away while its writer lives."""
    monkeypatch.setattr(spools, "STALE", -1.0)
    found = entry()
    draft = spool.draft(found.id)
    Spool(spool.directory).clear()
    draft.write(MAIL)
    draft.commit(found)
    assert spool.names() == {found.id}


def test_a_mail_is_claimed_by_one(spool):
    """Nobody can work on a mail that somebody works on; whoever dies lets it go."""
    found = put(spool)
    claim = spool.claim(found.id)
    assert Spool(spool.directory).claim(found.id) is None
    claim.close()
    again = spool.claim(found.id)
    assert again is not None
    again.close()
    assert spool.claim("../../etc/passwd") is None


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}\n", b"not json\n", b'{"id": 1}\n', lambda data: data[:-1], lambda data: data.replace(b"shop", b"\xff")],
    ids=["empty", "nothing", "junk", "types", "cut", "bytes"],
)  # fmt: skip
def test_what_is_damaged_is_set_aside(spool, caplog, damage):
    """An envelope that cannot be read is set aside with its mail, and told; the rest goes on."""
    good, bad = put(spool), put(spool)
    path = spool.queue / f"{bad.id}.json"
    path.write_bytes(damage(path.read_bytes()) if callable(damage) else damage)
    assert spool.read(bad.id) is None
    assert bad.id in caplog.text
    assert "set aside" in caplog.text
    assert spool.names() == {good.id}
    aside = {one.name for one in (spool.directory / "corrupt").iterdir()}
    assert aside == {f"{bad.id}.json", f"{bad.id}.eml"}


def test_what_cannot_be_read_just_now_stays(spool, monkeypatch):
    """An envelope is not set aside because the system has no file left to open it with."""

    def fails(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    found = put(spool)
    with monkeypatch.context() as patch:
        patch.setattr(spools.Path, "open", fails)
        with pytest.raises(OSError, match="Too many"):
            spool.read(found.id)
    assert spool.read(found.id) == found


def test_what_is_not_a_file_is_set_aside(spool):
    """What stands in the place of an envelope and is none of ours is set aside."""
    found = put(spool)
    path = spool.queue / f"{found.id}.json"
    path.unlink()
    path.mkdir()
    assert spool.read(found.id) is None
    assert spool.names() == set()


def test_a_mail_that_is_cut_off_is_set_aside(spool, caplog):
    """A mail that is not as long as it was is sent to nobody."""
    found = put(spool)
    os.truncate(spool.queue / f"{found.id}.eml", 4)
    assert spool.claim(found.id) is None
    assert "cut off" in caplog.text
    assert spool.names() == set()


def test_a_commit_that_fails_at_last_leaves_nothing(spool, monkeypatch):
    """Where the disk says only at the end that it did not take a mail, nothing of it is left."""

    def fails(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    found = entry()
    draft = spool.draft(found.id)
    draft.write(MAIL)
    with monkeypatch.context() as patch:
        patch.setattr(spools, "flush", fails)
        with pytest.raises(OSError, match="No space"):
            draft.commit(found)
    draft.discard()
    assert not list(spool.queue.iterdir())


def test_an_envelope_without_its_mail_is_set_aside(spool):
    """An envelope beside which there is no mail is set aside."""
    found = put(spool)
    (spool.queue / f"{found.id}.eml").unlink()
    assert spool.read(found.id) is None
    assert spool.names() == set()


def test_envelopes_are_read_again():
    """What is written down of a mail is read again."""
    found = entry(
        subject="ä",
        before="X: 1\r\n",
        recipients=[Recipient(address="a@b", tries=3, code=451, reason="x")],
    )
    assert unpacked(packed(found), found.id) == found


@pytest.mark.parametrize("what", ["open", "file", "parent"])
def test_a_spool_that_cannot_be(tmp_path, what, monkeypatch):
    """A directory that cannot be the spool stops the start with the setting's name."""
    directory = tmp_path / "spool"
    if what == "open":
        directory.mkdir(mode=0o755)
    elif what == "file":
        directory.write_text("")
    else:
        (tmp_path / "file").write_text("")
        directory = tmp_path / "file" / "spool"
    with pytest.raises(ConfigError, match=r"email\.spool: "):
        Spool(directory)


# ------------------------------------------------ beside a running gateway


def mail(capsys, *words: str) -> tuple[int, str, str]:
    status = cli.main(["mail", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_queue_is_listed(tmp_path, capsys):
    """gateway mail list shows what waits and why, and whether somebody delivers."""
    with Peer() as peer:
        peer.script["RCPT"] = ["451 4.7.1 \x1b[2Jgreylisted"] * 50
        settings = config(tmp_path, peer, delivery={"retry_first": 1000.0, "retry_longest": 1000.0})
        where = ("--spool", settings.spool)
        with serving(settings) as post:
            post.mail(subject="Order 7")
            until(lambda: post.count("recipients_total", result="deferred"))
            [name] = post.names
            status, out, _ = mail(capsys, "list", *where)
            assert status == 0
            assert out.splitlines()[0].startswith(f"{name}  0 s old  ")
            assert "from shop@example.org  'Order 7'" in out
            assert "ann@example.net: tried once, again in 1" in out
            assert "451 4.7.1" in out
            assert "greylisted" in out
            assert "\x1b" not in out
            assert "1 mail, " in out
            assert "no gateway runs" not in out
        status, out, _ = mail(capsys, "list", *where)
        assert "no gateway runs that delivers from there" in out
        assert mail(capsys, "list", "1a2182b157c-aaaaaaaa", *where)[0] == 1


def test_a_mail_is_tried_at_once(tmp_path, capsys):
    """gateway mail retry has a running gateway try a mail now, of a destination that waits, too."""
    with Peer() as peer:
        peer.close()
        settings = config(tmp_path, peer, delivery={"retry_first": 1000.0, "retry_longest": 1000.0})
        with serving(settings) as post:
            post.mail()
            until(lambda: post.count("recipients_total", result="deferred"))
            peer.open_again()
            status, out, _ = mail(capsys, "retry", "--spool", settings.spool)
            assert (status, out) == (0, "1 mail is to be tried now\n")
            post.empty()
            assert len(peer.mails) == 1


def test_a_mail_is_removed(tmp_path, capsys):
    """gateway mail drop removes what is named, and a running gateway forgets it."""
    settings = config(tmp_path, delivery={"enabled": False})
    with serving(settings) as post:
        post.mail()
        post.mail()
        one, other = sorted(post.names)
        where = ("--spool", settings.spool)
        assert mail(capsys, "drop", one, "1a2182b157c-aaaaaaaa", *where)[:2] == (
            1,
            "1 mail is removed\n",
        )
        assert post.names == {other}
        until(lambda: one not in post.role._postman._queue)
        assert mail(capsys, "drop", "--all", *where)[0] == 0
        assert post.names == set()
        status, _, err = mail(capsys, "drop", *where)
        assert status == 2
        assert "or say --all" in err


def test_what_is_being_delivered_is_left(spool, capsys):
    """A mail that is being delivered is neither removed nor changed, and that is said."""
    found = put(spool)
    claim = spool.claim(found.id)
    for word in ("drop", "retry"):
        status, _, err = mail(capsys, word, found.id, "--spool", str(spool.directory))
        assert status == 1
        assert "being delivered right now" in err
    claim.close()


def test_what_is_delivered_meanwhile_is_no_error(spool, capsys, monkeypatch):
    """Of all mails those that are gone by then are passed over in silence; who is named is told of."""
    found = put(spool)
    gone = "1a2182b157c-aaaaaaaa"
    monkeypatch.setattr(Spool, "names", lambda _: {found.id, gone})
    where = ("--spool", str(spool.directory))
    for words in (["list"], ["retry"], ["drop", "--all"]):
        status, _, err = mail(capsys, *words, *where)
        assert (status, err) == (0, "")
    status, _, err = mail(capsys, "list", gone, *where)
    assert status == 1
    assert "no such mail" in err


def test_two_gateways_share_a_spool(tmp_path):
    """Of two gateways one delivers what both spool, each mail once; the other takes over from it."""
    with Peer() as peer:
        settings = config(tmp_path, peer)
        with serving(settings) as one:
            one.mail(subject="1")
            one.empty()
            with serving(settings) as two:
                two.mail(subject="2")
                until(lambda: len(peer.mails) == 2)
                assert not two.role._postman.delivers
                one.staged._stage.run(one.role.stop())
                until(lambda: two.role._postman.delivers)
                two.mail(subject="3")
                two.empty()
        assert sorted(one["subject"] for one in peer.parsed()) == ["1", "2", "3"]


def test_what_waited_is_delivered_by_the_next(tmp_path):
    """What one gateway could not deliver, the next one does; a report that lacked is made."""
    settings = config(tmp_path, delivery={"enabled": False})
    with serving(settings) as post:
        post.mail(subject="waits")
    spool = Spool(tmp_path / "spool")
    put(
        spool,
        subject="failed",
        recipients=[Recipient(address="bob@example.net", state="failed", code=550, reason="who")],
    )
    with Peer() as peer, serving(config(tmp_path, peer)) as post:
        post.empty()
        assert sorted(one["subject"] for one in peer.parsed()) == ["Undelivered: failed", "waits"]


def test_a_clock_that_ran_ahead(tmp_path):
    """What was to be tried in years, by a clock that is right again, is tried within the hour."""
    spool = Spool(tmp_path / "spool")
    put(spool, recipients=[Recipient(address="bob@example.net", due=time.time() + 1e8, tries=1)])
    with Peer() as peer, serving(config(tmp_path, peer)) as post:
        post.empty()
        assert len(peer.mails) == 1


def test_a_spool_that_cannot_be_locked_at_first(tmp_path, monkeypatch, caplog):
    """Who cannot begin to deliver says why, once, and begins as soon as it can."""
    monkeypatch.setattr(postman, "LOOK", 0.02)
    opened = os.open
    troubles = [OSError(errno.ENOSPC, "No space left on device")] * 3

    def fails(path, *args):
        if troubles and os.fspath(path).endswith("deliverer"):
            raise troubles.pop()
        return opened(path, *args)

    monkeypatch.setattr(spools.os, "open", fails)
    with Peer() as peer, serving(config(tmp_path, peer)) as post:
        post.mail()
        post.empty()
        assert len(peer.mails) == 1
    assert caplog.text.count("nothing is delivered") == 1


def test_a_report_is_made_later(tmp_path, monkeypatch):
    """A report that lacks is made once whoever looks at the mail has done so."""
    monkeypatch.setattr(postman, "AGAIN", 0.05)
    spool = Spool(tmp_path / "spool")
    found = put(spool, recipients=[Recipient(address="bob@example.net", state="failed", code=550)])
    claim = spool.claim(found.id)
    with Peer() as peer, serving(config(tmp_path, peer)) as post:
        until(lambda: post.role._postman._unreported.get(found.id))
        claim.close()
        post.empty()
        assert [one["subject"] for one in peer.parsed()] == ["Undelivered mail"]


def test_an_envelope_that_cannot_be_written(tmp_path, monkeypatch, caplog):
    """Where the disk takes no envelope, what a server has taken is not sent again."""
    update = Spool.update
    broken = [True]

    def fails(self, name, envelope):
        if broken:
            raise OSError(28, "No space left on device")
        return update(self, name, envelope)

    monkeypatch.setattr(Spool, "update", fails)
    with Peer() as peer:
        peer.script["RCPT bob@example.net"] = ["451 busy"] * 3
        with serving(config(tmp_path, peer)) as post:
            post.mail(rcpt_to=["ann@example.net", "bob@example.net"])
            until(lambda: len(peer.mails) == 2)
            broken.clear()
            post.empty()
            assert [one.rcpt_tos for one in peer.mails] == [
                ["ann@example.net"],
                ["bob@example.net"],
            ]
    assert "envelope cannot be written" in caplog.text


def test_a_mistake_of_the_gateways_own(tmp_path, monkeypatch, caplog):
    """An exception that nobody expects is logged and counted, ends nothing, and the mail goes out."""
    monkeypatch.setattr(postman, "LOOK", 0.02)
    monkeypatch.setattr(postman, "AGAIN", 0.02)
    mistakes = {"changed": [KeyError("a")], "_still_there": [KeyError("b")]}

    def once(where, name):
        original = getattr(where, name)

        def fails(*args):
            if mistakes[name]:
                raise mistakes[name].pop()
            return original(*args)

        monkeypatch.setattr(where, name, fails)

    once(spools.Spool, "changed")
    once(postman.Postman, "_still_there")
    with Peer() as peer, serving(config(tmp_path, peer)) as post:
        post.mail()
        post.empty()
        assert len(peer.mails) == 1
        assert post.count("delivery_errors_total") == 2
    assert "in reading the spool" in caplog.text
    assert "delivery failed in the gateway" in caplog.text
