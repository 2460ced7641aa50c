"""Processes are killed at each step of a DATA: what was answered 250 is handled, and nothing else is."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import Served, wait_until

PROJECT = Path(__file__).parent / "project"
FINAL = ".\r\n"


class Mx(Served):
    """A served project that takes mail."""

    @property
    def smtp(self) -> int:
        """The port that clients connect to, which outlives every gateway process."""
        found = re.search(r"email\D+127\.0\.0\.1:(\d+)", self.text())
        assert found is not None, self.text()
        return int(found[1])

    def kill(self, role: str) -> None:
        before = self.processes()[role]
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: set(self.processes()[role]) - set(before))

    def handled(self) -> list[str]:
        return self.seen.read_text().splitlines() if self.seen.exists() else []


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mx]:
    folder = tmp_path_factory.mktemp("kills")
    with Mx(
        folder, "--plugins", "http,email", "--set", "email.listen='127.0.0.1:0'",
        "--set", f"email.spool='{folder}/spool'", "--set", "email.delivery={enabled=false}",
        "--set", "email.trusted=127.0.0.1", "--set", "email.inline_bytes=10000",
        "--set", "workers.threads=2", project=PROJECT,
    ) as running:  # fmt: skip
        yield running


def mail(subject: str, size: int = 0) -> str:
    return f"From: ann@example.org\r\nSubject: {subject}\r\n\r\n" + "0123456789\r\n" * (size // 12)


def begin(served: Mx) -> smtplib.SMTP:
    """Return a client that has been told to go ahead with its mail."""
    client = smtplib.SMTP("127.0.0.1", served.smtp, timeout=10)
    client.ehlo()
    client.mail("ann@example.org")
    client.rcpt("x@localhost")
    assert client.docmd("DATA")[0] == 354
    return client


def deliver(served: Mx, subject: str, size: int = 0) -> None:
    """Send a mail as a mail server does: again, until it is taken."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        with contextlib.suppress(OSError, smtplib.SMTPException):
            client = begin(served)
            client.send(mail(subject, size) + FINAL)
            if client.getreply()[0] == 250:
                client.close()
                return
            client.close()
        time.sleep(0.05)
    raise AssertionError(f"{subject} was not taken: {served.text()[-2000:]}")


def answer(client: smtplib.SMTP) -> int:
    """Return the code that a client hears, 0 where the connection is gone."""
    try:
        return client.getreply()[0]
    except (OSError, smtplib.SMTPException):
        return 0
    finally:
        client.close()


def test_the_worker_dies_with_a_mail_in_hand(served: Mx) -> None:
    """A mail whose worker is killed is 451 at once; the sender comes again, and it is handled."""
    go = Path(f"{served.seen}.go")
    go.unlink(missing_ok=True)
    client = begin(served)
    client.send(mail("wait one") + FINAL)
    wait_until(lambda: "began wait one" in served.handled())
    served.kill("worker")
    assert answer(client) == 451
    assert "wait one" not in served.handled()
    go.touch()
    deliver(served, "wait one")
    assert served.handled()[-1] == "wait one"


def test_the_gateway_dies(served: Mx) -> None:
    """Who is connected to a gateway that is killed hears no 250, however far the mail was; it comes
    again at the same place.
    """
    go = Path(f"{served.seen}.go")
    go.unlink(missing_ok=True)
    steps = ("greeting", "data", "consumer")
    clients = [smtplib.SMTP("127.0.0.1", served.smtp, timeout=10), begin(served), begin(served)]
    clients[1].send(mail("wait data"))
    clients[2].send(mail("wait consumer") + FINAL)
    wait_until(lambda: "began wait consumer" in served.handled())
    served.kill("gateway")
    assert [answer(client) for client in clients] == [0, 0, 0]
    go.touch()
    for step in steps:
        deliver(served, f"wait {step}")
    assert [served.handled().count(f"wait {step}") for step in steps] == [1, 1, 2]


def test_a_reply_is_in_the_spool_before_the_answer(served: Mx) -> None:
    """A gateway that is killed right after its 250 has the reply on the disk."""
    client = begin(served)
    client.send(mail("thanks for this") + FINAL)
    assert answer(client) == 250
    os.kill(served.processes()["gateway"][0], signal.SIGKILL)
    [found] = (served.seen.parent / "spool").rglob("*.eml")
    assert b"Re: thanks for this" in found.read_bytes()
    deliver(served, "after the reply")


def test_a_worker_leaves_a_large_mail(served: Mx) -> None:
    """A large mail, read in pieces, is handled whole although workers die under it."""
    sender = threading.Thread(target=deliver, args=(served, "large", 3_000_000))
    sender.start()
    served.kill("worker")
    sender.join(20)
    found = [line for line in served.handled() if line.startswith("large")]
    assert found
    assert all(int(line.split()[1]) > 3_000_000 for line in found)


def test_at_random(served: Mx) -> None:
    """Under load, with processes killed on the way, every mail that was taken is handled."""
    taken: list[str] = []
    over = threading.Event()

    def send(number: int) -> None:
        count = 0
        while not over.is_set():
            deliver(served, f"mail {number}-{count}")
            taken.append(f"mail {number}-{count}")
            count += 1

    senders = [threading.Thread(target=send, args=(number,)) for number in range(2)]
    for sender in senders:
        sender.start()
    for role in ("worker", "gateway"):
        count = len(taken)
        wait_until(lambda count=count: len(taken) > count + 20)  # type: ignore[misc]
        served.kill(role)
    count = len(taken)
    wait_until(lambda: len(taken) > count + 20)
    over.set()
    for sender in senders:
        sender.join(20)
    assert set(taken) <= set(served.handled())


def test_large_mail_in_constant_memory(served: Mx) -> None:
    """A mail of many megabytes takes no process more memory than a few."""
    deliver(served, "large first", 100_000)
    with served.rise(6_000_000):
        deliver(served, "large last", 15_000_000)
    assert int(served.handled()[-1].split()[2]) > 15_000_000


def test_nothing_is_left(served: Mx) -> None:
    """After all that no descriptor of a temporary file is held, and the port still answers."""
    with socket.create_connection(("127.0.0.1", served.smtp), 5) as client:
        assert client.recv(3) == b"220"
    gateway = served.processes()["gateway"][0]
    wait_until(lambda: not [one for one in served.files(gateway) if "(deleted)" in one])
