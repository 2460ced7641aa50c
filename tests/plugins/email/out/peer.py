"""A server that takes mail as the test tells it to, and one way to serve the plugin."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import itertools
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult

from gateway.plugins.email.client.config import Delivery, Smarthost
from gateway.plugins.email.config import EmailConfig
from gateway.plugins.email.plugin import EmailPlugin
from gateway.testing.stage import Stage, Staged, wait_until

QUICK = {
    "retry_first": 0.05,
    "retry_longest": 0.1,
    "timeout": 5.0,
    "data_timeout": 5.0,
    "connect_timeout": 5.0,
}
_acks = itertools.count(1)


class Server(SMTP):
    """aiosmtpd's, which asks its peer before each step."""

    def __init__(self, peer: Peer, **options: Any) -> None:
        self.peer = peer
        super().__init__(
            peer, hostname="peer.example", ident="peer", loop=peer.stage.loop, **options
        )

    def connection_made(self, transport):
        self.peer.connections += 1
        super().connection_made(transport)

    async def smtp_STARTTLS(self, arg):
        if (answer := await self.peer.step("STARTTLS", self)) is not None:
            await self.push(answer)
        else:
            await super().smtp_STARTTLS(arg)

    async def smtp_DATA(self, arg):
        if (answer := await self.peer.step("DATA", self)) is not None:
            await self.push(answer)
        else:
            await super().smtp_DATA(arg)

    async def smtp_MAIL(self, arg):
        self.peer.mail_arguments.append(arg)
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg):
        await super().smtp_RCPT(arg)


class Peer:
    """The server. ``script`` maps a step to what is answered there, in turn; None: as usual.

    ``"cut"`` ends the connection, ``"hang"`` says nothing more. Steps are EHLO, STARTTLS, MAIL,
    RCPT (also ``RCPT address``), RSET, DATA and END.
    """

    def __init__(self, *, hide: tuple[str, ...] = (), **options: Any) -> None:
        self.stage = Stage.of_this_process()
        self.script: dict[str, list[str | None]] = {}
        self.mails: list[Any] = []
        """What came: envelopes of aiosmtpd."""
        self.connections = 0
        self.mail_arguments: list[str] = []
        self.logins: list[tuple[bytes, bytes, str]] = []
        self.asked: list[str] = []
        self._hide = hide
        self._options = options
        self._made: list[Server] = []

    def __enter__(self):
        self.server = self.stage.run(self._listen())
        self.port = self.server.sockets[0].getsockname()[1]
        self.where = f"127.0.0.1:{self.port}"
        return self

    async def _listen(self, port: int = 0):
        loop = asyncio.get_running_loop()

        def made():
            self._made.append(Server(self, **self._options))
            return self._made[-1]

        return await loop.create_server(made, "127.0.0.1", port)

    def close(self) -> None:
        def close():
            self.server.close()
            for one in self._made:
                if one.transport is not None:
                    one.transport.abort()

        self.stage.call(close)

    def open_again(self) -> None:
        self.server = self.stage.run(self._listen(self.port))

    def __exit__(self, *_):
        self.close()

    # ------------------------------------------------ aiosmtpd's hooks

    async def step(self, name: str, server: SMTP) -> str | None:
        self.asked.append(name)
        answers = self.script.get(name)
        answer = answers.pop(0) if answers else None
        if answer == "cut":
            server.transport.abort()
            await asyncio.sleep(0)
        elif answer == "hang":
            await asyncio.Event().wait()
        return answer

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        answer = await self.step("EHLO", server)
        if answer is not None:
            return [answer]
        return [one for one in responses if not any(word in one for word in self._hide)]

    async def handle_MAIL(self, server, session, envelope, address, options):
        answer = await self.step("MAIL", server)
        if answer is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return answer or "250 2.1.0 sender"

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = await self.step(f"RCPT {address}", server) or await self.step("RCPT", server)
        if answer is None:
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(options)
        return answer or "250 2.1.5 recipient"

    async def handle_RSET(self, server, session, envelope):
        return await self.step("RSET", server) or "250 2.0.0 dropped"

    async def handle_DATA(self, server, session, envelope):
        answer = await self.step("END", server)
        if answer is None or answer.startswith("late"):
            self.mails.append(envelope)
        if answer is not None and answer.startswith("late "):
            return (await self.step(answer[5:], server)) or answer[5:]
        return answer or "250 2.0.0 taken"

    def authenticate(self, server, session, envelope, mechanism, data):
        self.logins.append((data.login, data.password, mechanism))
        return AuthResult(success=data.password == b"secret", handled=False)

    # ------------------------------------------------ what came

    def parsed(self) -> list[Any]:
        return [
            email.message_from_bytes(one.original_content, policy=email.policy.default)
            for one in self.mails
        ]


def config(tmp_path, peer: Peer | None = None, **more: Any) -> EmailConfig:
    """Settings that deliver to a peer as smarthost, and try again soon."""
    delivery = Delivery(**{**QUICK, **more.pop("delivery", {})})
    smarthosts = {}
    if peer is not None:
        smarthost = {"connect": peer.where, "tls": "none", **more.pop("smarthost", {})}
        smarthosts = {"peer": Smarthost(**smarthost)}
    return EmailConfig(
        **{
            "listen": (),
            "hostname": "gateway.example",
            "sender": "Shop <shop@example.org>",
            "spool": str(tmp_path / "spool"),
            "smarthosts": smarthosts,
            "delivery": delivery,
            **more,
        }
    )


@contextlib.contextmanager
def serving(settings: EmailConfig, **options: Any) -> Iterator[Post]:
    """The plugin, started, and what a worker does with it."""
    with Staged(EmailPlugin, settings, bound=False, **options) as staged:
        yield Post(staged)


class Post:
    """Sends mail as a worker does."""

    def __init__(self, staged: Staged) -> None:
        self.staged = staged
        self.role = staged.plugin._roles["client"]
        self.acks = "email.acks?test"

    def send(self, channel: str = "email.send", **message: Any) -> int:
        """Send a message, with an ack; return its number."""
        number = next(_acks)
        message = {"ack": number, "ack_channel": self.acks, **message}
        self.staged.worker.send(channel, message)
        return number

    def ack(self) -> dict[str, Any]:
        """Return the next ack."""
        _, message = self.staged.worker.receive([self.acks], block=5.0)
        assert message is not None, "no ack came"
        return message

    def sent(self, channel: str = "email.send", **message: Any) -> dict[str, Any]:
        """Send a message and return its ack."""
        number = self.send(channel, **message)
        ack = self.ack()
        assert ack["ack"] == number
        return ack

    def mail(self, **message: Any) -> dict[str, Any]:
        """Send a mail that must be taken."""
        ack = self.sent(**{"rcpt_to": ["ann@example.net"], "text": "hi", **message})
        assert ack["outcome"] == "accepted", ack
        return ack

    @property
    def names(self) -> set[str]:
        """The mails that are spooled."""
        return self.role._postman._spool.names()

    def empty(self) -> None:
        """Wait until nothing is spooled."""
        wait_until(lambda: not self.names)

    def count(self, name: str, **labels: str) -> float:
        """Return one of the plugin's counters."""
        found = self.staged.metrics.snapshot()
        inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
        return found.get(f"gateway_email_{name}" + (f"{{{inner}}}" if inner else ""), 0)

    def dropped(self) -> dict[str, int]:
        return self.staged.metrics.dropped()


def until(condition: Callable[[], Any]) -> Any:
    return wait_until(condition)


def contexts(tmp_path) -> tuple[ssl.SSLContext, str]:
    """A server's TLS for localhost, and the file of whom to trust for it."""
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return context, str(path)
