"""The test's stand-in for a network of IRC that the gateway has joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from django_gateway.testing.conversation import ANY, Event, fits, wanted_as
from django_gateway.testing.irc import CHANNELS, IrcEvent, is_message, wanted_message
from django_gateway.testing.story import report
from gateway.core import names
from gateway.core.reply import InvalidReply, ReplyReader
from gateway.plugins.irc import messages
from gateway.plugins.irc.lines import Line as IrcLine
from gateway.plugins.irc.lines import fold, split_mask

if TYPE_CHECKING:
    from django_gateway.testing.client import GatewayClient

SAY: Final = "irc.say"


class IrcNetwork:
    """A network of a `GatewayClient`, as the gateway would have joined it: others speak, bots hear.

    ::

        libera = client.irc_network("libera")
        libera.says("alice", "!help", to="#django")
        libera.expect_message("#django", "alice: read the guide")

    What consumers say there are events, as an `IrcClient` has them: "text", "action", "notice",
    "join", "topic" and so on, whose ``name`` is the channel or nick. A reply that IRC does not
    allow is an AssertionError.
    """

    def __init__(self, client: GatewayClient, name: str, *, nick: str, host: str) -> None:
        if "irc" in client.site.gateway.server.plugins:
            raise RuntimeError(
                "client.irc_network() stands in for what the plugin irc joins: leave that out, as "
                "in GatewayClient(plugins=['http'])"
            )
        self._client = client
        self.name = name
        self.nick = nick
        """What the gateway is called there."""
        self._host = host
        self._reader = ReplyReader(
            messages.REPLY, "irc", client.site.gateway.server.engine.protocols
        )
        self._orders: dict[str, int] = {}
        self._expected = 0
        self.received: list[Event] = []
        """All that consumers said, from the beginning."""

    # ------------------------------------------------ others

    def says(
        self,
        nick: str,
        text: str,
        to: str = "",
        *,
        type: str = "message",  # noqa: A002 - the message's key
        **content: Any,
    ) -> None:
        """Have somebody say something: in a channel, or without ``to`` to the gateway alone.

        ``type`` is "message", "action" or "notice"; ``content`` are further keys of the message.
        """
        channel = to if to[:1] in tuple(CHANNELS) else None
        told = {"type": type, "channel": channel, "target": to or self.nick, "text": text}
        self._tell("receive", nick, channel or nick, {**told, "tags": {}, **content})

    async def asays(
        self,
        nick: str,
        text: str,
        to: str = "",
        *,
        type: str = "message",  # noqa: A002 - as above
        **content: Any,
    ) -> None:
        """Async twin of `says`."""
        channel = to if to[:1] in tuple(CHANNELS) else None
        told = {"type": type, "channel": channel, "target": to or self.nick, "text": text}
        await self._atell("receive", nick, channel or nick, {**told, "tags": {}, **content})

    def happens(self, kind: str, nick: str, channel: str | None = None, **content: Any) -> None:
        """Have something else happen: ``happens("join", "alice", "#django")``.

        ``kind`` is that of the message: "join", "part", "kick", "nick", "quit", "topic", "mode",
        "connect", "disconnect"; ``content`` are its further keys.
        """
        more = {} if channel is None else {"channel": channel}
        self._tell(kind, nick, channel or nick, {**more, **content})

    async def ahappens(
        self, kind: str, nick: str, channel: str | None = None, **content: Any
    ) -> None:
        """Async twin of `happens`."""
        more = {} if channel is None else {"channel": channel}
        await self._atell(kind, nick, channel or nick, {**more, **content})

    # ------------------------------------------------ expecting

    def receive(self) -> Event:
        """Return the next thing that a consumer said."""
        self._run("receive")
        return self._next("something")

    async def areceive(self) -> Event:
        """Async twin of `receive`."""
        await self._client.arun()
        self._hear()
        return self._next("something")

    def expect(self, kind: str, value: Any = ANY) -> Any:
        """Return the value of the next event, which is of ``kind`` and equals ``value``."""
        self._run("expect")
        wanted = kind if value is ANY else f"{kind} {wanted_as(value)}"
        event = self._next(wanted)
        if event.kind != kind or not fits(event.value, value):
            self._fail(f"expected {wanted}, got {event}")
        return event.value

    def expect_message(self, target: str, text: Any = ANY) -> Event:
        """Return what is said next: to ``target``, with this text."""
        self._run("expect_message")
        return self._message(target, text)

    async def aexpect_message(self, target: str, text: Any = ANY) -> Event:
        """Async twin of `expect_message`."""
        await self._client.arun()
        self._hear()
        return self._message(target, text)

    def expect_nothing(self) -> None:
        """Check that consumers said nothing more."""
        self._run("expect_nothing")
        if self._expected < len(self.received):
            self._fail(f"expected nothing more, got {self.received[self._expected]}")

    # ------------------------------------------------ own

    def _message(self, target: str, text: Any) -> Event:
        event = self._next(wanted_message(target, text, ANY))
        if not is_message(event, target, text, ANY):
            self._fail(f"expected {wanted_message(target, text, ANY)}, got {event}")
        return event

    def _tell(self, kind: str, nick: str, conversation: str, content: dict[str, Any]) -> None:
        self._client.send(f"irc.{kind}", self._message_of(nick, conversation, content))

    async def _atell(
        self, kind: str, nick: str, conversation: str, content: dict[str, Any]
    ) -> None:
        await self._client.asend(f"irc.{kind}", self._message_of(nick, conversation, content))

    def _message_of(self, nick: str, conversation: str, content: dict[str, Any]) -> dict[str, Any]:
        mask = nick if "!" in nick else f"{nick}!{nick}@{self._host}"
        conversation = fold(split_mask(conversation)[0])
        order = self._orders.get(conversation, 0)
        self._orders[conversation] = order + 1
        return {
            "network": self.name,
            "mask": mask,
            "nick": split_mask(nick)[0],
            **content,
            "reply_channel": names.address(SAY, self.name, conversation),
            "order": order,
            "client": None,
            "server": None,
        }

    def _run(self, verb: str) -> None:
        self._client.run(verb)
        self._hear()

    def _hear(self) -> None:
        """Take what consumers sent to addresses of the network."""
        while (found := self._client.site.taken(f"{SAY}!")) is not None:
            channel, payload = found
            network, target = names.parse_address(channel, 2)[1:]
            if network != self.name:
                self._fail(f"{channel} is of the network {network!r}, and this is {self.name!r}")
            try:
                reply = self._reader.read(payload)
            except InvalidReply as error:
                self._fail(f"{channel}: the gateway would drop this reply: {error}")
            if reply is not None:
                self.received.append(_event(self.nick, target, reply))

    def _next(self, wanted: str) -> Event:
        if self._expected == len(self.received):
            self._fail(f"expected {wanted}, and nothing was said: nothing is left to do")
        event = self.received[self._expected]
        self._expected += 1
        return event

    def _fail(self, sentence: str) -> NoReturn:
        site = self._client.site
        cause = site.forget_failures()
        said = ("it was told", [str(event) for event in self.received])
        text = report(f"irc_network({self.name!r}): {sentence}", [said, *site.parts()])
        raise AssertionError(text) from cause


def _event(nick: str, target: str, reply: dict[str, Any]) -> IrcEvent:
    """Return what a reply says there."""
    kind: str = reply.get("type", "message")
    name: str = reply.get("channel", target)
    text: str = reply.get("text", "")
    value = text
    if kind in {"join", "part"}:
        value = nick
    elif kind == "kick":
        value = reply.get("target", "")
    elif kind == "mode":
        value = " ".join([reply.get("modes", ""), *reply.get("params", ())])
    event = IrcEvent("text" if kind == "message" else kind, value, name=name)
    event.line = IrcLine(kind.upper(), (name, text), nick)
    return event
