"""The simple face: send, receive, order, expiry, capacity, names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.errors import ChannelFull, MessageTooLarge
from gateway.core.layers import codec
from gateway.core.layers.base import OK, RELEASED, Layer, Message, Outcome
from gateway.testing.layer_suite.harness import Harness, numbers, own

BAD_CHANNELS = ["", "?x", "!x", "a b", "a/b", "ä", "a\n", "a!b!c", "a?b!c", "a" * 201]
BAD_VALUES: list[Any] = [{1: 2}, {"a": object()}, {"a": 2**64}, {"a": "\ud800"}, []]


class SimpleFace(Harness):
    """``send``, ``receive``, ``new_channel``, ``flush``."""

    def test_a_message_arrives(self) -> None:
        """A message sent by one process is received by another, with its channel's name."""
        self.join().send("x", {"text": "hello"})
        assert self.join().receive(["x"]) == ("x", {"text": "hello"})

    def test_all_values_arrive_as_they_are(self) -> None:
        """``bytes`` and ``str`` stay distinct, tuples arrive as lists, all else as it was sent."""
        layer = self.join()
        message: Message = {
            "bytes": b"\x00\xff",
            "str": "äöü \U0001f600",
            "int": [0, -1, 2**63 - 1, -(2**63)],
            "float": [0.5, -1e300],
            "bool": [True, False],
            "none": None,
            "dict": {"a": {"b": []}},
        }
        layer.send("x", {**message, "tuple": (1, b"2", "3")})
        assert self.received(layer, "x") == {**message, "tuple": [1, b"2", "3"]}

    def test_nothing_waits(self) -> None:
        """A receive that does not block returns (None, None) where nothing waits."""
        assert self.join().receive(["x", "y"]) == (None, None)

    def test_block_ends(self) -> None:
        """A receive that blocks returns (None, None) when its seconds are over."""
        assert self.join().receive(["x"], block=0.02) == (None, None)

    def test_block_is_woken(self) -> None:
        """A receive that blocks returns as soon as a message is sent."""
        reader, writer = self.join(), self.join()
        found: list[Any] = []
        thread = threading.Thread(
            target=lambda: found.append(reader.receive(["y", "x"], block=self.patience))
        )
        thread.start()
        writer.send("x", {"n": 1})
        thread.join()
        assert found == [("x", {"n": 1})]

    def test_a_reader_that_gave_up(self) -> None:
        """A receive whose seconds are over takes nothing any more."""
        reader, writer = self.join(), self.join()
        for _ in range(3):
            assert reader.receive(["x", own(reader)], block=0.01) == (None, None)
        writer.send("x", {"n": 1})
        writer.send(own(reader), {"n": 2})
        assert writer.receive(["x"]) == ("x", {"n": 1})
        assert self.inbox(reader, 1) == [(own(reader), {"n": 2})]

    def test_fifo(self) -> None:
        """What one writer sends to a channel one reader receives in order."""
        writer, reader = self.join(), self.join()
        for message in numbers(50):
            writer.send("x", message)
        assert self.drained(reader, "x") == numbers(50)

    def test_fifo_in_several_channels(self) -> None:
        """A reader of several channels receives each of them in order."""
        writer, reader = self.join(), self.join()
        for message in numbers(20):
            writer.send("x", message)
            writer.send("y", message)
        found: dict[str, list[Message | None]] = {"x": [], "y": []}
        for _ in range(40):
            channel, received = reader.receive(["x", "y"], block=self.patience)
            assert channel is not None
            found[channel].append(received)
        assert found == {"x": numbers(20), "y": numbers(20)}

    def test_one_reader(self) -> None:
        """A message is delivered to one reader, at most once."""
        writer, first, second = self.join(), self.join(), self.join()
        for message in numbers(10):
            writer.send("x", message)
        found = []
        for _ in range(5):
            found += [self.received(first, "x"), self.received(second, "x")]
        assert found == numbers(10)
        assert first.receive(["x"]) == second.receive(["x"]) == (None, None)

    def test_no_channel_starves(self) -> None:
        """A receive from several channels starves none of them."""
        layer = self.join()
        channels = ["a", "b", "c"]
        for message in numbers(30):
            for channel in channels:
                layer.send(channel, message)
        seen = {layer.receive(channels)[0] for _ in range(30)}
        assert seen == set(channels)

    def test_only_the_asked_channels(self) -> None:
        """A receive returns messages of the channels it names and of no other."""
        layer = self.join()
        layer.send("x", {})
        layer.send("xy", {})
        assert layer.receive(["y", "x.y", "xyz"]) == (None, None)

    def test_the_sender_may_change_its_dict(self) -> None:
        """The sender may change its dict after sending."""
        layer = self.join()
        message: Message = {"list": [1], "dict": {"a": 1}}
        layer.send("x", message)
        layer.send_many("x", [message])
        message["list"].append(2)
        message["dict"]["a"] = 2
        assert self.drained(layer, "x") == [{"list": [1], "dict": {"a": 1}}] * 2

    def test_messages_sent_together_come_one_by_one(self) -> None:
        """``receive`` hands out several messages that were sent together one by one."""
        layer = self.join()
        layer.send("x", {"n": 0})
        layer.send_many("x", numbers(3, 1))
        layer.send("x", {"n": 4})
        assert self.drained(layer, "x") == numbers(5)

    def test_messages_sent_together_keep_their_place(self) -> None:
        """The rest of what was sent together comes ahead of newer messages, whoever reads."""
        first, second = self.join(), self.join()
        first.send_many("x", numbers(3))
        first.send("x", {"n": 3})
        readers = [first, second, first, second]
        assert [self.received(reader, "x") for reader in readers] == numbers(4)

    def test_receive_settles(self) -> None:
        """``receive`` settles each message ``accepted`` as it returns."""
        sender, reader = self.join(), self.join()
        sender.send_many("x", numbers(2), receipt=7)
        self.received(reader, "x")
        assert self.outcomes(sender, 1) == [(7, 0, "accepted", "")]
        self.silence(sender)
        self.received(reader, "x")
        assert self.outcomes(sender, 1) == [(7, 1, "accepted", "")]
        assert sender.global_statistics().in_hand == 0

    def test_new_channel(self) -> None:
        """``new_channel`` fills a pattern that ends in ``?`` with a name that nobody else has."""
        layer = self.join()
        names = {layer.new_channel("http.request.body?") for _ in range(100)}
        assert len(names) == 100
        name = names.pop()
        assert name.startswith("http.request.body?")
        layer.send(name, {"n": 1})
        assert layer.receive([name]) == (name, {"n": 1})

    @pytest.mark.parametrize("pattern", ["x", "x!", "x?y", "", "?"])
    def test_new_channel_wants_a_pattern(self, pattern: str) -> None:
        """Anything but a pattern that ends in ``?`` is a ValueError."""
        with pytest.raises(ValueError, match=r"."):
            self.join().new_channel(pattern)

    def test_flush(self) -> None:
        """``flush`` forgets every waiting message, delayed or not, and every group."""
        layer, other = self.join(), self.join()
        layer.send("x", {})
        self.settled(layer, self.taken(layer, "x"), Outcome(RELEASED, delay=10.0))
        layer.send("x", {})
        layer.send("y!a", {})
        layer.send(own(other), {})
        layer.group_add("g", "x")
        other.flush()
        assert layer.receive(["x", "y!"]) == (None, None)
        self.silence(other)
        assert layer.group_channels("g") == []
        assert layer.global_statistics().pending == 0
        self.advance(11)
        assert layer.receive(["x"]) == (None, None)

    def test_close_twice(self) -> None:
        """``close`` is idempotent."""
        layer = self.join()
        layer.send("x", {})
        layer.close()
        layer.close()

    def test_open_does_not_wait_for_a_verb(self) -> None:
        """A layer that was opened and never used can be closed."""
        self.open().close()

    def test_process_names_differ(self) -> None:
        """Each process has a name of its own that begins with ``p_``."""
        found = {self.join().process for _ in range(5)}
        assert len(found) == 5
        assert all(name.startswith("p_") for name in found)

    def test_extensions(self) -> None:
        """A layer says what it can do, and how long a member stays."""
        layer = self.join(group_expiry=77.0)
        assert {"groups", "statistics", "flush", "deliveries"} <= layer.extensions
        assert layer.group_expiry == 77.0


class Refusals(Harness):
    """What is refused before anything is sent."""

    @pytest.mark.parametrize("name", BAD_CHANNELS)
    def test_bad_channel_names(self, name: str) -> None:
        """A verb raises ValueError for a bad channel name."""
        layer = self.join()
        verbs: list[Callable[[], Any]] = [
            lambda: layer.send(name, {}),
            lambda: layer.send_many(name, [{}]),
            lambda: layer.receive([name]),
            lambda: layer.take([name]),
            lambda: layer.intake([name]),
            lambda: layer.group_add("g", name),
            lambda: layer.group_discard("g", name),
            lambda: layer.watch(name, layer.process),
        ]
        for verb in verbs:
            with pytest.raises(ValueError, match=r"."):
                verb()

    @pytest.mark.parametrize("name", ["", "a b", "g!", "g?", "ä", "g" * 201])
    def test_bad_group_names(self, name: str) -> None:
        """A verb raises ValueError for a bad group name."""
        layer = self.join()
        verbs: list[Callable[[], Any]] = [
            lambda: layer.group_add(name, "x"),
            lambda: layer.group_discard(name, "x"),
            lambda: layer.group_channels(name),
            lambda: layer.group_members(name),
            lambda: layer.group_count(name),
            lambda: layer.send_group(name, {}),
        ]
        for verb in verbs:
            with pytest.raises(ValueError, match=r"."):
                verb()

    @pytest.mark.parametrize("name", [None, 1, b"x"])
    def test_names_are_str(self, name: Any) -> None:
        """A verb raises TypeError for a name that is no str."""
        layer = self.join()
        verbs: list[Callable[[], Any]] = [
            lambda: layer.send(name, {}),
            lambda: layer.receive([name]),
            lambda: layer.group_add(name, "x"),
            lambda: layer.group_add("g", name),
        ]
        for verb in verbs:
            with pytest.raises(TypeError):
                verb()

    @pytest.mark.parametrize("value", BAD_VALUES, ids=repr)
    def test_bad_values(self, value: Any) -> None:
        """A verb raises TypeError for a value that messages cannot hold, and sends nothing."""
        layer = self.join()
        layer.group_add("g", "x")
        verbs: list[Callable[[], Any]] = [
            lambda: layer.send("x", value),
            lambda: layer.send_many("x", [{}, value]),
            lambda: layer.send_group("g", value),
        ]
        for verb in verbs:
            with pytest.raises(TypeError):
                verb()
        assert layer.receive(["x"]) == (None, None)

    @pytest.mark.parametrize("name", ["x!c", "mqtt.publish!sensors_2fa", "x.p_somebodyelse!y"])
    def test_one_address_cannot_be_received_from(self, name: str) -> None:
        """A receive from one address, or from another process's name, is a ValueError."""
        layer = self.join()
        verbs: list[Callable[[], Any]] = [
            lambda: layer.receive([name]),
            lambda: layer.take([name]),
            lambda: layer.intake([name]),
        ]
        for verb in verbs:
            with pytest.raises(ValueError, match=r"."):
                verb()

    @pytest.mark.parametrize("channels", ["x", b"x"])
    def test_a_list_of_channels(self, channels: Any) -> None:
        """``receive`` and ``take`` want a list of names: a single str is a TypeError."""
        layer = self.join()
        for verb in (layer.receive, layer.take):
            with pytest.raises(TypeError):
                verb(channels)

    def test_too_large(self) -> None:
        """A message over one MiB encoded raises MessageTooLarge; nothing is sent."""
        layer = self.join()
        layer.group_add("g", "x")
        big = {"data": b"x" * codec.MAX_MESSAGE}
        verbs: list[Callable[[], Any]] = [
            lambda: layer.send("x", big),
            lambda: layer.send_many("x", [{}, big]),
            lambda: layer.send_group("g", big),
        ]
        for verb in verbs:
            with pytest.raises(MessageTooLarge):
                verb()
        assert layer.receive(["x"]) == (None, None)

    def test_just_not_too_large(self) -> None:
        """A message of exactly one MiB encoded arrives."""
        layer = self.join()
        spare = codec.MAX_MESSAGE - len(codec.encode({"data": b"x" * 70_000})) + 70_000
        layer.send("x", {"data": b"x" * spare})
        assert len(self.received(layer, "x")["data"]) == spare


class Expiry(Harness):
    """Messages that nobody takes."""

    def test_expiry(self) -> None:
        """A message that nobody took expires after ``expiry`` seconds, counted."""
        layer = self.join(expiry=60.0)
        layer.send("x", {"n": 1})
        self.advance(59)
        layer.send("x", {"n": 2})
        self.advance(2)
        assert self.drained(layer, "x") == [{"n": 2}]
        self.dropped(layer, expired=1)

    def test_not_before(self) -> None:
        """Before its time is over it is delivered."""
        layer = self.join(expiry=60.0)
        layer.send("x", {"n": 1})
        self.advance(59)
        assert self.drained(layer, "x") == [{"n": 1}]

    def test_room_comes_back_by_itself(self) -> None:
        """What expires gives its room back then, without anybody receiving."""
        layer = self.join(expiry=60.0, capacity=3)
        for message in numbers(3):
            layer.send("x", message)
        self.advance(61)
        statistics = layer.channel_statistics("x")
        assert (statistics.pending, statistics.pending_bytes) == (0, 0)
        for message in numbers(3):
            layer.send("x", message)
        assert self.drained(layer, "x") == numbers(3)

    def test_own_expiry(self) -> None:
        """``send_many`` may give its messages an expiry of their own, shorter or longer."""
        layer = self.join(expiry=60.0)
        layer.send_many("x", [{"n": 0}], expiry=100.0)
        layer.send_many("x", [{"n": 1}], expiry=5.0)
        self.advance(6)
        layer.send("x", {"n": 2})
        assert layer.channel_statistics("x").pending == 2
        self.advance(90)
        assert self.drained(layer, "x") == [{"n": 0}]
        self.advance(10)
        self.dropped(layer, expired=2)

    def test_in_hand_nothing_expires(self) -> None:
        """Expiry ends when a delivery is taken: in hand there is no time limit."""
        sender, taker = self.join(expiry=60.0), self.join()
        sender.send_many("x", [{}], receipt=1)
        delivery = self.taken(taker, "x")
        self.advance(1000)
        self.settled(taker, delivery, OK)
        assert self.outcomes(sender, 1) == [(1, 0, "accepted", "")]

    def test_the_sender_hears_of_expiry(self) -> None:
        """The sender of an expired message hears ``released`` with the cause ``expired``."""
        layer = self.join(expiry=60.0)
        layer.send_many("x", numbers(2), receipt=3)
        self.advance(61)
        assert self.outcomes(layer, 2) == [
            (3, 0, "released", "expired"),
            (3, 1, "released", "expired"),
        ]

    def test_everywhere(self) -> None:
        """Messages to addresses and single readers expire as all others do."""
        layer = self.join(expiry=60.0)
        reader = layer.new_channel("x?")
        for channel in (reader, "y!a", "y!b"):
            layer.send(channel, {})
        self.advance(61)
        assert layer.global_statistics().pending == 0
        assert layer.receive([reader, "y!"]) == (None, None)
        self.dropped(layer, expired=3)


class Capacity(Harness):
    """Room is counted in messages and in bytes; nobody waits for it."""

    def fill(self, layer: Layer, channel: str) -> int:
        """Send until the channel is full; return how many it took."""
        for n in range(10_000):
            try:
                layer.send(channel, {"n": n})
            except ChannelFull:
                return n
        raise AssertionError(f"{channel} is never full")

    def test_in_messages(self) -> None:
        """``send`` never waits for room: it raises ChannelFull, nothing is sent, and it is
        counted.
        """  # noqa: D205 - one sentence
        layer = self.join(capacity=5)
        assert self.fill(layer, "x") == 5
        with pytest.raises(ChannelFull) as caught:
            layer.send_many("x", [{}])
        assert caught.value.channel == "x"
        assert layer.channel_statistics("x").full == 2
        assert layer.global_statistics().full == 2
        assert self.drained(layer, "x") == numbers(5)

    def test_default_is_100(self) -> None:
        """The default capacity is 100 messages, for single-reader channels too."""
        layer = self.join()
        assert self.fill(layer, "x") == 100
        assert self.fill(layer, "y?abc") == 100

    def test_each_channel_has_its_own(self) -> None:
        """A full channel does not touch others."""
        layer = self.join(capacity=5)
        self.fill(layer, "x")
        layer.send("y", {})
        assert layer.receive(["y"]) == ("y", {})

    def test_taking_gives_room(self) -> None:
        """What is taken gives its room to the next."""
        layer = self.join(capacity=2)
        self.fill(layer, "x")
        delivery = self.taken(layer, "x")
        layer.send("x", {"n": 2})
        with pytest.raises(ChannelFull):
            layer.send("x", {})
        self.settled(layer, delivery, OK)
        with pytest.raises(ChannelFull):
            layer.send("x", {})
        assert self.drained(layer, "x") == numbers(2, 1)

    def test_patterns(self) -> None:
        """Capacities by pattern: the longest match wins."""
        layer = self.join(capacity=3, capacities={"a.*": 4, "a.b.*": 5, "*.c": 6, "a.b.cc": 7})
        found = {name: self.fill(layer, name) for name in ("x", "a.x", "a.b.x", "x.c", "a.b.cc")}
        assert found == {"x": 3, "a.x": 4, "a.b.x": 5, "x.c": 6, "a.b.cc": 7}

    def test_in_bytes(self) -> None:
        """A channel holds at most ``channel_bytes`` bytes of messages, all encoded."""
        layer = self.join(channel_bytes=1000)
        message = {"data": b"x" * 300}
        for _ in range(3):
            layer.send("x", message)
        with pytest.raises(ChannelFull):
            layer.send("x", message)
        assert layer.channel_statistics("x").pending_bytes == 3 * len(codec.encode(message))
        self.received(layer, "x")
        layer.send("x", message)

    def test_all_or_nothing(self) -> None:
        """What is sent together is refused together."""
        layer = self.join(capacity=5)
        layer.send_many("x", numbers(3))
        with pytest.raises(ChannelFull):
            layer.send_many("x", numbers(3, 3))
        assert layer.channel_statistics("x").pending == 3
        layer.send_many("x", numbers(2, 3))
        assert self.drained(layer, "x") == numbers(5)

    def test_an_inbox_in_messages(self) -> None:
        """A process inbox holds ``process_capacity`` messages over all names of the process."""
        layer = self.join(process_capacity=4, capacity=1)
        other = self.join()
        for n in range(4):
            other.send(f"x{n}.{layer.process}!c", {"n": n})
        with pytest.raises(ChannelFull):
            other.send(f"y.{layer.process}!d", {})
        assert [message for _, message in self.inbox(layer, 4)] == numbers(4)
        other.send(f"y.{layer.process}!d", {})

    def test_an_inbox_in_bytes(self) -> None:
        """A process inbox holds ``process_bytes`` bytes; each message may count for a little
        more than its own.
        """  # noqa: D205 - one sentence
        layer = self.join(process_bytes=3900)
        message = {"data": b"x" * 1000}
        for n in range(3):
            layer.send(f"x{n}.{layer.process}!c", message)
        with pytest.raises(ChannelFull):
            layer.send(f"y.{layer.process}!d", message)

    def test_an_address(self) -> None:
        """An address has the room of a channel."""
        assert self.fill(self.join(capacity=3), "x!a") == 3
