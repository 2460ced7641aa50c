"""Pins: what is posted for one process alone, until that takes no more.

A pinned delivery waits on the channel ``pin.PROCESS`` by the name of its own channel, to which
it returns when the pins to that process are lifted.
"""

from __future__ import annotations

from gateway.core import names
from gateway.core.layers import codec
from gateway.core.layers.queues import Queues
from gateway.core.layers.records import Entry, Process, Reader


class Pins(Queues):
    """When pins end."""

    def close_intake(self, reader: Reader) -> None:
        """Withdraw a wish for good; if it was for what is pinned to its process, lift the pins."""
        process = reader.link.process
        pinned = any(one.name == names.PIN + process.name for one in reader.channels)
        self.unread(reader)
        if pinned:
            self.lift(process)

    def lift(self, process: Process) -> None:
        """End every pin to a process: what is not settled belongs to its own channel again.

        What waits is offered there, in the order in which it was sent, exempt from capacity.
        What is in hand stays there, but if it is released it is offered to anybody.
        """
        process.lifted = True
        lane = self.channels.get(names.PIN + process.name)
        if lane is None:
            return
        for other in (process, *self.processes.values()):
            for hand in (other.reserved or {}, *(link.hand for link in other.links)):
                for entry in hand.values():
                    if entry.channel is lane:
                        lane.in_hand -= len(entry.payloads) - entry.done
                        self._to_own(entry)
                        entry.channel.in_hand += len(entry.payloads) - entry.done
        for _, _, entry in self._delayed:
            if entry.channel is lane and not entry.withdrawn:
                self._wait_no_more(entry)
                self._to_own(entry)
                entry.channel.pending += len(entry.payloads) - entry.done
                entry.channel.bytes += entry.size
        for entry in list(lane.queue):
            self._unqueue(lane, entry)
            self._to_own(entry)
            self._requeue(entry)
        self._forget(lane)

    def _to_own(self, entry: Entry) -> None:
        """Give a delivery back to the channel that it was sent to."""
        done = entry.done
        left = [codec.unpinned(payload) for payload in entry.payloads[done:]]
        entry.payloads = [*entry.payloads[:done], *left]
        entry.size = sum(map(len, left))
        entry.channel = self._channel(entry.name)
