"""The instances of stateful consumers: those of the connections that are pinned to this worker.

An instance is kept from its ``connect``, or from its ``reconnected``, until its ``disconnect`` was
run. Whether a connection that says nothing still lives its gateway knows: each is a member of the
worker's group as long as it does, so that what is not in there any more is let go. That holds for
a gateway and a hub that were killed together, too.
"""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from django_gateway.channel import outbox
from django_gateway.exceptions import ConsumeLater, Reject
from django_gateway.message import Message
from gateway.core import names
from gateway.core.errors import LayerError
from gateway.core.layers.base import Layer, Send, group_add, group_discard, send
from gateway.core.metrics import Metrics

if TYPE_CHECKING:
    from django_gateway.generic.base import BaseConsumer

log = logging.getLogger("gateway.worker")

SWEEP: Final = 30.0
"""Seconds between two looks for instances whose connection is gone: rare, since a disconnect ends
nearly all; three times as long as a gateway has to come back to a new hub (10 s)."""
TOGETHER: Final = 256
"""Partings in one write: a turn of the gateway's loop, and no more, for a worker of thousands."""
MOST_KEPT: Final = 4096
"""Characters or bytes of a latest message that its instance keeps: what clients send may be 1 MiB,
and there may be thousands of them."""
RESTART: Final = {"websocket": 1012}
"""The code of each protocol that has one for "the server is restarting"; IANA's registry of close
codes."""
REASON: Final = "the worker was replaced"

Key = tuple[type["BaseConsumer"], str]


class Held:
    """One instance, and whose turn it is."""

    __slots__ = ("absent", "busy", "key", "lost", "new", "one", "order", "word")

    def __init__(self, key: Key, one: BaseConsumer, message: Message, word: str) -> None:
        self.key = key
        self.one = one
        self.word = word
        """The kind of message that it has."""
        self.new = word != "disconnect"
        """Whether it is to be kept, if it gets through its first message."""
        self.lost = word not in ("connect", "disconnect")
        """Whether it begins in the midst of a connection."""
        self.order: int | None = message.content.get("order")
        self.busy = True
        self.absent = False
        """Whether its connection was not there at the last look."""

    def goes_on(self, content: dict[str, Any]) -> bool:
        """Return whether a message is the next of those that this instance has had.

        One that has lost its pin may have been elsewhere before, and then somebody else has had
        some of them. The disconnect of a lost gateway tells nothing of it.
        """
        if "unpinned" not in content:
            return True
        order = content.get("order")
        return order is None or self.order is None or order - self.order in (0, 1)


class Instances:
    """Those of one worker."""

    def __init__(self, layer: Layer, metrics: Metrics) -> None:
        self._layer = layer
        self._process = layer.process
        self._held: dict[Key, Held] = {}
        self._over = False
        self._metrics = metrics
        metrics.gauge("gateway_stateful_instances", lambda: len(self._held))

    # ---------------------------------------------------------------- a message

    def begin(self, kind: type[BaseConsumer], message: Message, kwargs: dict[str, Any]) -> Held:
        """Return the instance whose turn it is, made where there is none.

        Raises `Reject` where its class does not bear that it is not there any more.
        """
        if self._layer.process != self._process:  # fenced: its pins went to others
            self._process = self._layer.process
            self._held.clear()
        content = message.content
        key = (kind, content.get("reply_channel") or str(message.reply_channel))
        protocol, _, word = message.channel_name.rpartition(".")
        held = self._held.get(key)
        if held is not None and word != "connect" and held.goes_on(content):
            held.busy = True
            held.order = content.get("order")
            held.word = word
            one = held.one
            one.message = message
            one.kwargs = kwargs
            return held
        if held is not None:
            self._held.pop(key, None)
        if word not in ("connect", "disconnect") and not hasattr(kind, "reconnected"):
            raise Reject(RESTART.get(protocol), REASON)
        one = kind(message, **kwargs)
        held = Held(key, one, message, word)
        if held.new:
            self._pin(key[1])
        else:
            one.state_lost = True
        return held

    def done(self, held: Held) -> None:
        """Keep an instance that has got through its message, or let go of one that has ended."""
        if held.word == "disconnect":
            self._held.pop(held.key, None)
        elif held.new:
            held.new = held.lost = False
            self._held[held.key] = held
        _rest(held)
        if self._over and self._held.pop(held.key, None) is not None:
            _box().sends.append(self._parting(held))

    def failed(self, held: Held, error: BaseException) -> None:
        """Take note that a method raised: the instance stays, unless this was to be its first
        message, or was its last.
        """  # noqa: D205 - one sentence
        _rest(held)
        if held.word == "disconnect" and not isinstance(error, ConsumeLater):
            self._held.pop(held.key, None)

    def _pin(self, name: str) -> None:
        """Have the connection's messages come here, and know whether it lives."""
        box = _box()
        box.sends.append(send(name, {"pin": names.PIN + self._process}))
        box.sends.append(group_add(self._group, name))

    # ---------------------------------------------------------------- their ends

    def partings(self) -> list[Send]:
        """End, and return what is to be sent for it: connections whose class does not bear it are
        closed at once, so that none waits for its next message to learn of it.

        What runs just now says so itself when it is done.
        """  # noqa: D205 - one sentence
        self._over = True
        idle = [one for one in list(self._held.values()) if not one.busy]
        return [self._parting(one) for one in idle if self._held.pop(one.key, None) is not None]

    def part(self) -> None:
        """End, and send what `partings` says."""
        sends = self.partings()
        try:
            for start in range(0, len(sends), TOGETHER):
                self._layer.apply(sends[start : start + TOGETHER])
        except LayerError as error:
            log.warning("connections hear of the worker's end at their next message: %s", error)

    def _parting(self, held: Held) -> Send:
        kind, name = held.key
        if hasattr(kind, "reconnected"):
            return group_discard(self._group, name)
        protocol = held.one.message.channel_name.rpartition(".")[0]
        return send(name, {"close": RESTART.get(protocol, True), "reason": REASON})

    def sweep(self) -> None:
        """Let go of those whose connections are gone, and were at the last look, too.

        At the first an instance may be older than its membership, or a gateway may be telling a
        new hub of its members. Raises `LayerError`.
        """
        kept = list(self._held.values())
        if not kept:
            return
        alive = set(self._layer.group_channels(self._group))
        for held in kept:
            gone = held.key[1] not in alive and not held.busy
            if gone and held.absent:
                self._held.pop(held.key, None)
            held.absent = gone

    def keep_swept(self, over: threading.Event) -> None:
        """Sweep until it is over."""
        while not over.wait(SWEEP):
            try:
                self.sweep()
            except LayerError:
                continue  # nobody can tell now
            except Exception:
                self._metrics.count("gateway_errors_total")
                log.exception("a look for connections that are gone failed; the next may not")

    @property
    def _group(self) -> str:
        return f"gateway.stateful.{self._process}"


current: ContextVar[Instances | None] = ContextVar("django_gateway.instances", default=None)
"""Those of the worker that runs this."""


def here() -> Instances:
    """Return the instances of this worker."""
    found = current.get()
    if found is None or outbox.get() is None:
        raise RuntimeError(
            "a stateful consumer is run by a worker, which keeps its instances: test it through "
            "GatewayClient(routing=[route_class(…)])"
        )
    return found


def _rest(held: Held) -> None:
    """Let others look after an instance until its next message, and keep little of the last one."""
    message = held.one.message
    content = message.content
    data = content.get("text") or content.get("bytes")
    if data is not None and len(data) > MOST_KEPT:
        less = {key: value for key, value in content.items() if key not in ("text", "bytes")}
        held.one.message = Message(less, message.channel_name, message.attempt)
        held.one.message.__dict__.update(message.__dict__)
    held.busy = False


def _box() -> Any:
    return outbox.get()
