"""Clients that speak SMTP and LMTP to a started plugin without sockets, and an application."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message
from typing import Any

from gateway.core.layers.base import OK, Outcome
from gateway.plugins.email.client.envelope import Envelope
from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.plugin import EmailPlugin
from gateway.testing.rig import Heard, Rig

MAIL = b"From: ann@example.org\r\nSubject: hi\r\nMessage-ID: <1@example.org>\r\n\r\nhello\r\n"


class Box:
    """Where replies go instead of the spool."""

    def __init__(self) -> None:
        self.sent: list[tuple[Envelope, Message]] = []
        self.fails: Exception | None = None

    async def submit(self, envelope: Envelope, content: bytes) -> str:
        if self.fails is not None:
            raise self.fails
        self.sent.append((envelope, message_from_bytes(content)))
        return str(len(self.sent))


class Site:
    """A gateway and an application that accepts all, unless ``decide`` says otherwise."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.heard: list[Heard] = []
        self.decide: Callable[[Heard], Outcome | None] = lambda _: OK
        self.replies: Callable[[Heard], tuple[dict[str, Any], ...]] = lambda _: ()
        self.box = Box()
        assert isinstance(rig.plugin, EmailPlugin)
        assert rig.plugin.server is not None
        self.server = rig.plugin.server
        self.server.threads.postbox = self.box

    def client(self, hello: str = "EHLO c.example") -> Client:
        client = Client(self)
        client.greeting = client.hear()
        if hello:
            client.hello = client.ask(hello)
        return client

    def serve(self, seconds: float = 0.0) -> None:
        """Let the application take what there is, for so many virtual seconds."""
        self.rig.run(seconds)
        while (heard := self.rig.hear_any()) is not None:
            self.heard.append(heard)
            outcome = self.decide(heard)
            if outcome is not None:
                heard.settle(outcome, *(self.replies(heard) if outcome.kind == OK.kind else ()))
            self.rig.run()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [heard.message for heard in self.heard if heard.kind == kind]

    @property
    def mails(self) -> list[dict[str, Any]]:
        return self.of("receive")

    def dropped(self) -> dict[str, int]:
        return dict(self.rig.metrics.dropped())

    def counted(self, name: str) -> float:
        found = self.rig.metrics.snapshot()
        return sum(v for k, v in found.items() if k.partition("{")[0] == f"gateway_email_{name}")


class Client:
    """A client."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.line = site.rig.connect()
        self.greeting = ""
        self.hello = ""

    def say(self, data: bytes | str) -> None:
        raw = data if isinstance(data, bytes) else f"{data}\r\n".encode()
        self.line.send(raw)

    def hear(self, seconds: float = 0.0) -> str:
        """Return what it hears, once the application has done its part."""
        self.site.serve(seconds)
        return self.line.take().decode().replace("\r\n", "\n").rstrip("\n")

    def ask(self, *lines: bytes | str, seconds: float = 0.0) -> str:
        """Say lines, one after the other; return the answer to the last."""
        answer = ""
        for line in lines:
            self.say(line)
            answer = self.hear(seconds)
        return answer

    def begin(self, *to: str, sender: str = "ann@example.org") -> str:
        """Go as far as the 354."""
        recipients = to or ("x@localhost",)
        return self.ask(
            f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA"
        )

    def mail(self, content: bytes = MAIL, *to: str, sender: str = "ann@example.org") -> str:
        """Send a mail; return the answer to it."""
        assert self.begin(*to, sender=sender).startswith("354")
        return self.ask(content + b".\r\n")

    @property
    def ended(self) -> bool:
        return self.line.ended


@contextlib.contextmanager
def site(
    announced: tuple[str, ...] = ("receive",),
    layer: dict[str, Any] | None = None,
    gateway: dict[str, Any] | None = None,
    **config: Any,
) -> Iterator[Site]:
    settings = EmailConfig(**{"hostname": "mx.example", "spool": "", **config})
    with Rig(EmailPlugin, settings, announced=announced, layer=layer, **gateway or {}) as rig:
        yield Site(rig)
