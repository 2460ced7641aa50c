"""Throw what clients may send, and what none should, at the server role: ``make fuzz``.

Conversations are made by chance from a seed and a number, some of their bytes damaged, cut into
pieces, and sent by several clients at once, some of which leave in the middle, while the
application accepts, refuses and fails, and says things itself, allowed or not. Wrong is: a session
that raised, bytes that are no lines, a neighbour that is not served, anything that is left.

Run as ``python -m tests.plugins.irc.fuzz --seconds 60``; ``--seed`` and ``--only`` repeat one.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random
from typing import Any

from gateway.core.errors import RemoteProtocolError
from gateway.core.plugin import FAILED, OK, REJECTED, Outcome
from gateway.plugins.irc.lines import MAX_REST, parse
from gateway.plugins.irc.messages import channel_group
from gateway.plugins.irc.server.commands import COMMANDS
from tests.plugins.irc.net import Net

CLIENTS = 5
OUTCOMES = [OK] * 6 + [Outcome(REJECTED), Outcome(REJECTED, 477, "a\r\nb\0"), Outcome(FAILED)]
KINDS = ("connect", "authenticate", "join", "part", "receive", "mode", "topic", "kick", "nick")
NAMES = ["alice", "bob", "al[]", "gateway", "1x", "", "x" * 40, ":a", "é", "a b", "*"]
CHANNELS = ["#a", "#b", "#A", "#" + "é" * 25, "#", "&x", "#a,#b", "0", "#a,bob", "#x\x07"]
WORDS = [
    "+o", "-o+v", "+b", "b", "+klmnst", "x", "5", "-1", "99999999999", "+i", "*!*@*", "%tcuih,7",
    "LS", "302", "REQ", "END", "LIST", "PLAIN", "EXTERNAL", "AGFsAHg=", "+", "*", "!!!", ">1",
    "LATEST", "BETWEEN", "AROUND", "msgid=x", "timestamp=2026-01-01T00:00:00.000Z",
    "echo-message batch labeled-response message-tags server-time draft/chathistory sasl",
    "multi-prefix extended-join away-notify account-tag invite-notify userhost-in-names setname",
    "\x01ACTION x\x01", "\x01VERSION\x01", "text " * 60, "x" * 450, "\x02bold\x0f", "🇩🇪" * 60,
]  # fmt: skip
TAGS = ["", "", "", "@label=x ", "@+typing=active ", "@a\\:=b;+x;label= ", "@" + "y" * 4000 + " "]
REPLIES: list[dict[str, Any]] = [
    {"text": "hi"},
    {"text": "a\r\nQUIT"},
    {"text": "x" * 3000, "type": "action"},
    {"text": "x", "nick": "a b"},
    {"text": "x", "mask": "n!u@h", "tags": {"+a": "b\nc"}},
    {"type": "join", "channel": "#b"},
    {"type": "part"},
    {"type": "nick", "text": "carol"},
    {"type": "topic", "text": "t" * 600},
    {"type": "kick", "target": "alice"},
    {"type": "mode", "modes": "+ob-k", "params": ["alice", "x"]},
    {"accept": True},
    {"accept": False, "reason": "no\0"},
    {"close": True},
    {"close": 7, "reason": "é" * 300},
    {"irc": {"text": "\x00"}},
]


class Finding(AssertionError):  # noqa: N818 - a result, told to whoever asked
    """Something is wrong: what, and the bytes that led to it."""


def line(random: Random) -> bytes:
    """Return a line such as a client sends, or such as none should."""
    command = random.choice([*COMMANDS, "PRIVMSG", "PRIVMSG", "JOIN", "JOIN", "MODE", "FROB"])
    if command == "QUIT" and random.random() < 0.8:
        command = "PING"
    words = [
        random.choice(random.choice([NAMES, CHANNELS, CHANNELS, WORDS]))
        for _ in range(random.randrange(5))
    ]
    if words and random.random() < 0.5:
        words[-1] = f":{words[-1]}"
    text = f"{random.choice(TAGS)}{' '.join([command, *words])}"
    return text.encode() + random.choice([b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n"])


def conversation(random: Random) -> bytes:
    """Return all that a client says."""
    wire = bytearray()
    if random.random() < 0.9:
        nick = random.choice(["alice", "bob", "carol", "dave", "eve"])
        wire += f"CAP LS 302\r\nNICK {nick}\r\nUSER u 0 * :R\r\n".encode()
        wire += f"CAP REQ :{random.choice(WORDS[29:31])}\r\nCAP END\r\nJOIN #a\r\n".encode()
    for _ in range(random.randrange(15)):
        wire += line(random)
    for _ in range(random.choice([0, 0, 1, 3]) if wire else 0):
        wire[random.randrange(len(wire))] ^= 1 << random.randrange(8)
    if random.random() < 0.1:
        wire += random.randbytes(random.randrange(60))
    return bytes(wire)


def check(heard: bytes, said: Any) -> None:
    """Raise Finding unless bytes are whole lines within their bounds."""
    if heard and not heard.endswith(b"\r\n"):
        raise Finding(f"half a line: {heard[-80:]!r} to {said!r}")
    for one in heard.split(b"\r\n")[:-1]:
        try:
            found = parse(one, max_rest=MAX_REST)
        except RemoteProtocolError as error:
            raise Finding(f"no line ({error}): {one!r} to {said!r}") from None
        if not found.command:
            raise Finding(f"an empty line, to {said!r}")


def serve(net: Net, random: Random, channels: list[str]) -> None:
    """Have the application decide on what there is, and say something."""
    while (heard := net.rig.hear_any()) is not None:
        channels.append(heard.message["reply_channel"])
        replies = [random.choice(REPLIES)] if random.random() < 0.3 else []
        heard.settle(random.choice(OUTCOMES), *replies)
    if channels and random.random() < 0.3:
        net.rig.send(random.choice(channels), random.choice(REPLIES))
    if random.random() < 0.2:
        net.rig.group_send(channel_group("#a"), random.choice(REPLIES))


def round_of(net: Net, random: Random) -> None:
    """Have some clients say what they have to say, mixed; then look whether all is well."""
    said = [conversation(random) for _ in range(CLIENTS)]
    clients = [net.rig.connect() for _ in said]
    rest = list(said)
    channels: list[str] = []
    while any(rest):
        number = random.choice([n for n, wire in enumerate(rest) if wire])
        size = random.choice([1, 7, 60, 2000])
        clients[number].send(rest[number][:size])
        rest[number] = rest[number][size:]
        if random.random() < 0.02:
            clients[number].cut()
            rest[number] = b""
        if random.random() < 0.3:
            serve(net, random, channels)
    serve(net, random, channels)
    net.rig.run(1)
    serve(net, random, channels)
    for client in clients:
        check(client.take(), said)
    for text in net.rig.gateway.complaints:
        if "raised" in text or "Traceback" in text or "could not be" in text:
            raise Finding(f"something raised: {text!r}; {said!r}")
    for client in clients:
        client.cut()
    net.settle()
    net.rig.run(12)
    net.settle()
    neighbour = net.client().say("NICK neighbour", "USER n 0 * :N")
    net.settle()
    neighbour.say("JOIN #new")
    net.settle()
    if "JOIN" not in [one.command for one in neighbour.lines()]:
        raise Finding(f"a neighbour is not served; {said!r}")
    neighbour.wire.cut()
    net.settle()
    net.rig.run(1)
    net.settle()
    network = net.network
    left = {
        "channels": list(network.channels),
        "users": list(network.users)[1:],
        "nicks": list(network.nicks)[1:],
        "connections": list(net.rig.engine.by_channel),
        "waiting": list(net.rig.plugin._server.pending),
        "held": list(net.rig.plugin._server._nicks._held),
    }
    if any(left.values()):
        raise Finding(f"left are {left!r}; {said!r}")


def run(seconds: float, seed: int, only: int | None = None) -> int:
    """Go on for so long; return how many rounds there were."""
    end = time.monotonic() + seconds
    number = 0
    with Net(*KINDS, history=20, max_queue=8192, decision_timeout=5) as net:
        while only is None and time.monotonic() < end:
            number += 1
            try:
                round_of(net, Random(f"{seed}/{number}"))
            except BaseException:
                sys.stderr.write(f"round {number} of seed {seed}\n")
                raise
        if only is not None:
            round_of(net, Random(f"{seed}/{only}"))
    return number


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--only", type=int, help="the number of one round")
    options = parser.parse_args()
    rounds = run(options.seconds, options.seed, options.only)
    sys.stdout.write(f"irc: {rounds} rounds of seed {options.seed}: nothing found\n")


if __name__ == "__main__":
    main()
