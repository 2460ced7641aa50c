"""Throw what clients may send, and what none should, at the inward side: ``make fuzz``.

Conversations of SMTP and LMTP are made by chance from a seed and a number, some of their bytes
damaged, cut into pieces, and sent by several clients at once, some of which leave in the middle.
Wrong is: a session that raised, a mail for a domain that is not ours or with a lone CR or LF in it,
a ``250`` to a mail that no consumer accepted, answers that are not SMTP, a neighbour that is not
served, a connection or a byte of a temporary file that is left.

Run as ``python -m tests.plugins.email.fuzz --seconds 60``; ``--seed`` and ``--only`` repeat one.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from random import Random

from gateway.core.layers.base import FAILED, OK, REJECTED, Outcome
from gateway.testing.rig import Heard
from tests.plugins.email.mx import MAIL, Site, site
from tests.plugins.email.test_lines import SMUGGLED

CLIENTS = 5
OUTCOMES = [OK] * 6 + [Outcome(REJECTED), Outcome(REJECTED, 421, "go"), Outcome(FAILED)]
ANSWERS = re.compile(rb"(?:[2-5][0-9]{2}[ -][\x20-\x7e]{0,510}\r\n)*")
TAKEN = re.compile(rb"taken as ([0-9a-f]{16})")
HELLO = ["EHLO a", "LHLO a", "HELO a", "EHLO", "EHLO \xe9"]
LINES = [
    "NOOP", "RSET", "VRFY x", "HELP", "EXPN x", "STARTTLS", "AUTH PLAIN", "AUTH PLAIN AGEAYg==", "AUTH LOGIN", "*",
    "YWFh", "BDAT 3", "QUIT", "X" * 700, "", "MAIL FROM:<>", "RCPT TO:<b@foreign.example>", "DATA", ".", "\x00",
]  # fmt: skip


class Finding(AssertionError):  # noqa: N818 - a result, told to whoever asked
    """Something is wrong: what, and the bytes that led to it."""


def body(random: Random) -> bytes:
    """Return the data of a mail, with its end."""
    size = random.choice([0, 1, 3, 40])
    lines = random.choices(
        [b"hello\r\n", b"..dot\r\n", b"x" * 900 + b"\r\n", b"\xff\xe4\r\n"], k=size
    )
    mail = random.choice([MAIL, b"", b"Subject: =?utf-8?q?=0A?=\r\n\r\n"]) + b"".join(lines)
    if random.random() < 0.2:
        mail += random.choice(SMUGGLED) + b"MAIL FROM:<evil@example.org>\r\n"
    return mail + b".\r\n"


def conversation(random: Random, lmtp: bool) -> list[bytes]:
    """Return what a client says, in the pieces between which it waits."""
    said = [f"{HELLO[lmtp] if random.random() < 0.9 else random.choice(HELLO)}\r\n".encode()]
    for _ in range(random.randrange(5)):
        if random.random() < 0.4:
            said.append(f"{random.choice(LINES)}\r\n".encode("latin-1"))
            continue
        begin = b"MAIL FROM:<ann@example.org>\r\n"
        begin += b"".join(b"RCPT TO:<%d@localhost>\r\n" % n for n in range(random.randrange(1, 4)))
        said += [begin + b"DATA\r\n", body(random)]
    if random.random() < 0.3:
        place = random.randrange(len(said))
        wire = bytearray(said[place])
        for _ in range(random.randrange(1, 4)):
            wire[random.randrange(len(wire))] ^= 1 << random.randrange(8)
        said[place] = bytes(wire)
    return said


def look(served: Site, heard: Heard) -> None:
    """Check a message that the application got."""
    message = heard.message
    if heard.kind != "receive":
        return
    if not all(one.endswith("@localhost") for one in message["rcpt_to"]):
        raise Finding(f"a mail for {message['rcpt_to']!r} is taken")
    raw = message.get("raw", b"")
    if re.search(rb"\r(?!\n)|(?<!\r)\n|\x00", raw):
        raise Finding(f"a mail has a lone line break in it: {raw!r}")


def round_of(served: Site, random: Random, lmtp: bool) -> None:
    """Have some clients say what they have to say, mixed; then look whether all is well."""
    accepted: set[bytes] = set()

    def decide(heard: Heard) -> Outcome:
        look(served, heard)
        outcome = random.choice(OUTCOMES)
        if outcome is OK and heard.kind == "receive":
            found = re.search(rb" id ([0-9a-f]{16})", heard.message.get("raw", b""))
            accepted.add(found[1] if found else b"in pieces")
        return outcome

    served.decide = decide
    said = [conversation(random, lmtp) for _ in range(CLIENTS)]
    clients = [served.rig.connect() for _ in said]
    rest = [list(parts) for parts in said]
    heard = [b"" for _ in said]
    while any(rest):
        number = random.choice([n for n, parts in enumerate(rest) if parts])
        part = rest[number].pop(0)
        size = random.choice([1000, 1000, 7]) if len(part) < 3000 else 1000
        clients[number].send(part[:size])
        if part[size:]:
            rest[number].insert(0, part[size:])
        else:
            served.serve()
        if random.random() < 0.03:
            random.choice([clients[number].cut, clients[number].leave])()
            rest[number] = []
        if random.random() < 0.2:
            served.serve(random.choice([0, 0, 0.1]))
    served.serve(3)
    for number, client in enumerate(clients):
        heard[number] += client.take()
        if ANSWERS.fullmatch(heard[number].replace(b"334 ", b"354 ")) is None:
            raise Finding(f"what is answered is no SMTP: {heard[number]!r} to {said[number]!r}")
    texts = served.rig.gateway.complaints
    if any("raised" in text or "failed" in text for text in texts):
        raise Finding(f"a session raised: {texts[-1]!r}; {said!r}")
    taken = set(TAKEN.findall(b"".join(heard)))
    if b"in pieces" not in accepted and not taken <= accepted:
        raise Finding(f"a mail is answered 250 that nobody accepted: {said!r}")
    served.decide = lambda _: OK
    neighbour = served.client("LHLO n" if lmtp else "EHLO n")
    if not (answer := neighbour.mail()).startswith("250"):
        raise Finding(f"a neighbour is not served: {answer!r}; {said!r}")
    for client in (*clients, neighbour.line):
        client.cut()
    served.serve(4)
    if left := list(served.rig.engine.by_channel):
        raise Finding(f"left are {left!r}; {said!r}")
    if served.server.room.used or served.server.places.open:
        raise Finding(f"left are {served.server.health()!r}; {said!r}")
    served.heard.clear()


def run(seconds: float, seed: int, only: int | None = None) -> int:
    """Return how many rounds were run."""
    number = only or 0
    end = time.monotonic() + seconds
    kinds = ("receive", "recipient", "authenticate")
    settings = {
        "inline_bytes": 20_000,
        "plain_auth": True,
        "max_size": 65536,
        "reply_lifetime": 1.0,
    }
    with (
        site(kinds, **settings) as smtp,
        site(kinds, listen=(), lmtp="2424", **settings) as lmtp,
    ):
        while time.monotonic() < end or number == (only or 0):
            random = Random(f"{seed}-{number}")
            try:
                round_of(lmtp if number % 2 else smtp, random, bool(number % 2))
            except Finding as finding:
                raise Finding(f"--seed {seed} --only {number}: {finding}") from None
            number += 1
            if only is not None:
                break
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    done = run(options.seconds, options.seed, options.only)
    print(f"{done} rounds of {CLIENTS} clients: nothing found (seed {options.seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
