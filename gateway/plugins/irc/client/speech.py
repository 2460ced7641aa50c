"""What goes out to a network, in its turn, and what becomes of it. Pure, but for the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from gateway.core.errors import LocalProtocolError
from gateway.core.layers.base import FAILED, REJECTED, Outcome
from gateway.core.metrics import Drop
from gateway.core.plugin import Action, Close, Done, Timer, Write
from gateway.plugins.irc.client.sent import Judged, Sent
from gateway.plugins.irc.client.standing import Standing
from gateway.plugins.irc.client.terms import Dropped
from gateway.plugins.irc.client.throttle import Bucket, Throttle
from gateway.plugins.irc.client.throttle import Line as Saying
from gateway.plugins.irc.lines import Line, encode

SLOW: Final = Outcome(FAILED, reason="too many lines wait for their turn", cause="slow")


class Speech:
    """One connection's."""

    def __init__(self, standing: Standing, clock: Callable[[], float]) -> None:
        network = standing.network
        # A timer rings every tenth of a second or two, and then all of those are to be had.
        bucket = Bucket(network.rate, max(network.burst, network.rate / 5), clock())
        self.throttle = Throttle(bucket, network.max_queued, network.max_queued_bytes)
        self.lag: float | None = None
        """Seconds of the last round trip."""
        self.heard = False
        """Whether anything has come since the network was asked for a sign of life."""
        self._standing = standing
        self._clock = clock
        self._sent = Sent()
        self._pinged: dict[str, float] = {}

    def own(self, command: str, *params: str) -> bool:
        """Have something of our own sent in its turn, which comes before the application's.

        False where no line can carry it.
        """
        try:
            self.throttle.own(encode(command, *params))
        except LocalProtocolError:
            return False
        return True

    def say(self, lines: list[Saying], token: Any) -> Iterator[Action]:
        """Have what the application says sent in its turn, if there is room for it to wait."""
        if not self.throttle.say(lines):
            yield Write(Dropped(Drop.SLOW))
            if token is not None:
                yield Done(token, SLOW)
        elif token is not None:
            self._sent.expect(token, len(lines))

    def flush(self) -> Iterator[Action]:
        """Send what may be sent now."""
        throttle = self.throttle
        if not len(throttle):
            return
        now = self._clock()
        labels = "labeled-response" in self._standing.capabilities.enabled
        data = [self._sent.written(line, labels=labels) for line in throttle.due(now)]
        if (word := self._sent.mark()) is not None:
            data.append(self._pinging(word))
        if data:
            yield Write(b"".join(data))
            yield from _done(self._sent.bound())
        if (wait := throttle.wait(now)) is not None:
            yield Timer("queue", wait)

    # ------------------------------------------------ whether the network is there

    def _pinging(self, word: str) -> bytes:
        self._pinged[word] = self._clock()
        return encode("PING", word)

    def ask(self) -> Iterator[Action]:
        """Ask the network for a sign of life."""
        self.heard = False
        yield Write(self._pinging(self._sent.ping()))
        yield Timer("pong", self._standing.network.ping_timeout)

    def pong(self, line: Line) -> Iterator[Action]:
        """Hear the answer: what was sent before it was judged."""
        word = line.params[-1] if line.params else ""
        sent = self._pinged.get(word)
        if sent is None:
            return
        self.lag = self._clock() - sent
        for earlier in list(self._pinged):  # those before it are not answered any more
            del self._pinged[earlier]
            if earlier == word:
                break
        yield from _done(self._sent.ponged(word))
        if (after := self._sent.mark()) is not None:
            yield Write(self._pinging(after))
        yield Timer("pong", None)
        yield Timer("keepalive", self._standing.network.keepalive)

    def silence(self) -> Iterator[Action]:
        """End it, where nothing at all has come since the network was asked."""
        network = self._standing.network
        if self.heard:
            yield Timer("keepalive", network.keepalive)
        else:
            self._standing.reason = f"no sign of life in {network.ping_timeout:g} s"
            yield Close(abort=True)

    # ------------------------------------------------ what it makes of a line

    def taken(self, label: str) -> Iterator[Action]:
        """Hear that the line of a label was answered, and not refused."""
        return _done(self._sent.taken(label))

    def refused(self, line: Line) -> Iterator[Action]:
        """Hear that a line was refused, by number, and whom or what it was about."""
        why = line.params[-1] if line.params else ""
        return self._judge(line, line.params[1:2], Outcome(REJECTED, int(line.command), why))

    def failed(self, line: Line) -> Iterator[Action]:
        """Hear the same in words (IRCv3 standard replies): FAIL command code context :why."""
        if len(line.params) < 3:
            return iter(())
        reason = f"{line.params[1]}: {line.params[-1]}"
        return self._judge(line, line.params[2:-1], Outcome(REJECTED, reason=reason))

    def _judge(self, line: Line, targets: tuple[str, ...], outcome: Outcome) -> Iterator[Action]:
        batches = self._standing.batches
        label = line.tags.get("label") or batches.label(line.tags.get("batch", ""))
        named = tuple(map(self._standing.fold, targets))
        return _done(self._sent.refused(label, named, outcome))


def _done(judged: Iterable[Judged]) -> Iterator[Action]:
    return (Done(token, outcome) for token, outcome in judged)
