"""Datagrams as messages, and messages as datagrams. Pure."""

from collections.abc import Iterator

from gateway.core.plugin import Action, Close, Emit, Message, Session, Write


class UdpSession(Session):
    """One peer address."""

    def received(self, data: bytes) -> Iterator[Action]:
        """Hand a datagram on."""
        yield Emit("receive", {"data": data})

    def send(self, conversation: str | None, reply: Message, token: object) -> Iterator[Action]:
        """Send what a reply holds, each of it as a datagram."""
        if "text" in reply:
            yield Write(reply["text"].encode())
        for key in sorted({"data", "bytes"} & set(reply)):
            yield Write(reply[key])
        if reply.get("close"):
            yield Close()
