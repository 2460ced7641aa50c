"""Uses that type checkers refuse: each line with ``# wrong``, and no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django_gateway import EmailConsumer, IrcConsumer, command, irc_channel, irc_room, mailbox
from gateway.core.plugin import (
    Action,
    Close,
    Context,
    Emit,
    LineSession,
    Message,
    Outcome,
    Peer,
    ProtocolPlugin,
    Refusal,
    Session,
    Timer,
    Write,
)
from gateway.core.stream import StreamPlugin
from gateway.core.web import Claim, Exchange, Head
from gateway.testing import PluginSuite, Rig, Turn

Emit(1, {})  # wrong
Emit("receive", ["text"])  # wrong
Emit("receive", {1: "text"})  # wrong
Emit("receive", {}, conversation=7)  # wrong
Emit("receive", {}, "token", "key", "channel", "more", "and more")  # wrong
Timer("silence", "soon")  # wrong
Close(abort="yes")  # wrong
Turn(b"bytes", answer="text")  # wrong
Turn("text")  # wrong
Peer(client="127.0.0.1")  # wrong


class Wrong(Session):
    def received(self, data: bytes) -> Action:  # wrong
        return Write(data)

    def ended(self) -> str:  # wrong
        return "over"

    def send(self, reply: Message) -> Iterable[Action]:  # wrong
        return ()

    def outcome(self, token: Any, outcome: Outcome) -> Iterable[bytes]:  # wrong
        return [b"OK"]

    def refused(self, token: Any, refusal: str) -> Iterable[Action]:  # wrong
        return ()


class Half(LineSession):
    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterable[Action]:
        return ()


class Whole(Half):
    def line(self, line: bytes) -> Iterable[Action]:
        yield b"OK"  # wrong


Half()  # wrong


class NoReply:
    KINDS: Mapping[str, Any] = {}


class WrongPlugin(StreamPlugin):
    name = 7  # wrong
    messages = NoReply()  # wrong

    def session(self, peer: Peer) -> Whole:
        return Whole()


def uses(context: Context, plugin: ProtocolPlugin, exchange: Exchange, head: Head) -> None:
    context.endpoints()[0].nowhere  # wrong
    context.claims()[0].rank  # wrong
    context.tls("h2").nothing  # wrong
    context.count("readings_total", "one")  # wrong
    context.drop("too slow")  # wrong
    context.spawn(plugin.health)  # wrong
    context.attach(Whole(), plugin, Peer())  # wrong
    exchange.respond("200")  # wrong
    Claim(head, exchange)  # wrong
    Rig(plugin)  # wrong


async def alone(context: Context) -> None:
    async with context.singleton(7) as held:  # wrong
        held.found  # wrong


class WrongSuite(PluginSuite):
    plugin = Whole  # wrong
    question = "text"  # wrong
    answers = {"accepted": 1}  # wrong


def known(refusal: Refusal) -> bool:
    return refusal is Refusal.NEVER  # wrong


class WrongBot(IrcConsumer):
    channels = 7  # wrong
    commands = ["!help"]  # wrong

    def receive(self, message: Message) -> None:
        self.say(7)  # wrong
        self.say("hi", to=7)  # wrong
        self.notice(b"hi")  # wrong


irc_channel(7)  # wrong
irc_room("#room").wants()  # wrong
command(7)  # wrong


class WrongMail(EmailConsumer):
    mailboxes = 7  # wrong

    def receive(self, message: Message) -> None:
        self.reply(7)  # wrong
        self.reply("hi", attachments=7)  # wrong
        self.reply("hi", headers=[7])  # wrong
        self.mail(7)  # wrong
        self.mail("ann@x.org", "hi", in_reply_to=7)  # wrong


mailbox(7)  # wrong
mailbox("a@x.org", case_sensitive="no")  # wrong
