"""XMPP as messages, and messages as XMPP. Pure: no socket, no clock, no layer.

A component is a server's extension with a domain of its own (XEP-0114)::

    gateway                                          server
    <stream:stream to='bot.example.org' …>    ──►
                                              ◄──    <stream:stream id='3BF96D32' …>
    <handshake>SHA-1 of id and secret</…>     ──►
                                              ◄──    <handshake/>
                                              ◄──    <message from='alice@example.org/phone' …>
    <message to='alice@example.org' …>        ──►

Who asks for a receipt (XEP-0184) has it once a consumer has accepted the message; otherwise the
sender is told what is wrong by an error (RFC 6120 section 8.3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from xml.etree.ElementTree import Element

from gateway.core.plugin import (
    ACCEPTED,
    FAILED,
    REJECTED,
    UNROUTED,
    Action,
    Close,
    Emit,
    LocalProtocolError,
    Message,
    Outcome,
    Peer,
    RemoteProtocolError,
    Session,
    Timer,
    Write,
)

from gateway_xmpp.config import XmppConfig
from gateway_xmpp.stanzas import END, STREAM, Stanzas, quoted

SPACE: Final = "{jabber:component:accept}"
STANZAS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
RECEIPTS: Final = "urn:xmpp:receipts"
PATIENCE: Final = 10.0
"""Seconds for the handshake: some round trips."""
EARLY: Final = 100
"""Messages that wait for the handshake, which takes a round trip."""
ERRORS: Final = {
    REJECTED: ("cancel", "not-allowed"),
    FAILED: ("wait", "internal-server-error"),
    UNROUTED: ("cancel", "service-unavailable"),
}
"""The error for an outcome: its type, its condition."""
LATER: Final = ("wait", "resource-constraint")


class Token(NamedTuple):
    """What is to be known of a message when its outcome comes."""

    sender: str
    id: str
    receipt: bool


class XmppSession(Session):
    """One connection to a server."""

    def __init__(self, config: XmppConfig) -> None:
        self._config = config
        self._me = quoted(f"{config.user}@{config.domain}")
        self._stanzas = Stanzas(config.max_stanza)
        self._ready = False
        self._early: list[Write] = []

    def opened(self, peer: Peer) -> Iterator[Action]:
        """Begin our stream."""
        yield Timer("handshake", PATIENCE)
        yield Write(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "
            "xmlns:stream='http://etherx.jabber.org/streams' "
            f"to='{quoted(self._config.domain)}'>".encode()
        )

    # what the server says

    def received(self, data: bytes) -> Iterator[Action]:
        """Take what the server sends, stanza by stanza."""
        for element in self._stanzas.feed(data):
            yield from self._taken(element)
        if self._stanzas.ended:
            yield Close(END)

    def _taken(self, element: Element) -> Iterator[Action]:
        match element.tag.removeprefix(SPACE):
            case tag if tag == STREAM:
                secret = f"{element.get('id', '')}{self._config.secret}"
                digest = hashlib.sha1(secret.encode()).hexdigest()
                yield Write(f"<handshake>{digest}</handshake>".encode())
            case "handshake":
                self._ready = True
                yield Timer("handshake", None)
                yield from self._early
                self._early = []
            case "message" if element.get("type") not in {"error", "groupchat"}:
                yield from self._message(element)
            case "iq" if element.get("type") in {"get", "set"}:
                yield error(element, "cancel", "service-unavailable")
            case "presence" if element.get("type") == "subscribe":
                yield Write(f"<presence{turned(element)} type='subscribed'/>".encode())
                yield Write(f"<presence{turned(element)}/>".encode())
            case "{http://etherx.jabber.org/streams}error":
                condition = next(iter(element), element).tag.rpartition("}")[2]
                raise RemoteProtocolError(f"the server says {condition}", END)

    def _message(self, element: Element) -> Iterator[Action]:
        sender, to = element.get("from", ""), element.get("to", "")
        text = element.findtext(f"{SPACE}body")
        if text is None:
            return  # somebody is typing, has read it, …
        if to.partition("/")[0].lower() != f"{self._config.user}@{self._config.domain}".lower():
            yield error(element, "cancel", "item-not-found")
            return
        bare, _, resource = sender.partition("/")
        wanted = element.find(f"{{{RECEIPTS}}}request") is not None
        id_ = element.get("id", "")
        message = {"sender": bare, "resource": resource, "id": id_, "text": text}
        yield Emit("receive", message, Token(sender, id_, wanted and bool(id_)), bare)

    # what became of it

    def outcome(self, token: Token, outcome: Outcome) -> Iterator[Action]:
        """Confirm a message to whom asked for that, or tell what is wrong with it."""
        begin = f"<message to='{quoted(token.sender)}' from='{self._me}' "
        if outcome.kind != ACCEPTED:
            kind, condition = ERRORS.get(outcome.kind, LATER)
            reason = "".join(char for char in outcome.reason if char.isprintable())
            why = f"<text xmlns='{STANZAS}'>{quoted(reason)}</text>" if reason else ""
            yield Write(
                f"{begin}id='{quoted(token.id)}' type='error'><error type='{kind}'>"
                f"<{condition} xmlns='{STANZAS}'/>{why}</error></message>".encode()
            )
        elif token.receipt:
            yield Write(
                f"{begin}id='r-{quoted(token.id)}'>"
                f"<received xmlns='{RECEIPTS}' id='{quoted(token.id)}'/></message>".encode()
            )

    def timeout(self, name: str) -> Iterator[Action]:
        """Give up: the server does not take the handshake."""
        raise RemoteProtocolError(f"no handshake within {PATIENCE:g} s", END)

    def eof(self) -> Iterator[Action]:
        """End our side, too."""
        yield Close(END)

    def draining(self, retry_after: float) -> Iterator[Action]:
        """End it: the server keeps what is for us, or tells its sender."""
        yield Close(END)

    # what the application says

    def send(self, conversation: str | None, reply: Message, token: Any) -> Iterator[Action]:
        """Write a text to whom the conversation is with."""
        if "bytes" in reply:
            raise LocalProtocolError("chat is text")
        if not conversation or any(char.isspace() for char in conversation):
            raise LocalProtocolError("nobody can be called that")
        if "text" not in reply:
            return
        message = Write(
            f"<message to='{quoted(conversation)}' from='{self._me}' type='chat'>"
            f"<body>{quoted(reply['text'])}</body></message>".encode()
        )
        if self._ready:
            yield message
        elif len(self._early) < EARLY:
            self._early.append(message)
        else:
            raise LocalProtocolError("the server has not let us in yet")


def turned(element: Element) -> str:
    """Return the attributes of what answers a stanza: from and to change places, its id stays."""
    names = {"from": "to", "to": "from", "id": "id"}
    found = {names[key]: value for key, value in element.items() if key in names}
    return "".join(f" {key}='{quoted(value)}'" for key, value in found.items())


def error(element: Element, kind: str, condition: str) -> Write:
    """Return the error that answers a stanza."""
    tag = element.tag.removeprefix(SPACE)
    return Write(
        f"<{tag}{turned(element)} type='error'><error type='{kind}'>"
        f"<{condition} xmlns='{STANZAS}'/></error></{tag}>".encode()
    )
