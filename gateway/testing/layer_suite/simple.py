"""The simple face: send, receive, order, expiry, capacity, names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.errors import MessageTooLarge
from gateway.core.layers import codec
from gateway.core.layers.base import RELEASED, Message, Outcome
from gateway.core.layers.base import send as sending
from gateway.testing.layer_suite.harness import Harness, numbers, own

BAD_CHANNELS = ["", "?x", "!x", "a b", "a/b", "ä", "a\n", "a!b!c", "a?b!c", "a" * 201]
BAD_VALUES: list[Any] = [{1: 2}, {"a": ...}, {"a": 2**64}, {"a": "\ud800"}, []]


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
        """A message over ``message_bytes`` encoded, one MiB unless the layer is told otherwise,
        raises MessageTooLarge; nothing is sent.
        """  # noqa: D205 - one sentence
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

    def test_larger_messages(self) -> None:
        """With ``message_bytes`` raised, messages of that size go every way that there is."""
        size = 3 * 1024 * 1024
        layer = self.join(message_bytes=size, channel_bytes=6 * size)
        other = self.join()
        large = {"data": bytes(size - 16)}
        name = own(other)
        layer.group_add("g", name)
        layer.send("x", large)
        layer.send_many("x", [large, {}])
        layer.send(name, large)
        layer.send_group("g", large)
        layer.apply([sending("x", large, size)])
        found = [self.received(other, "x").get("data", b"") for _ in range(4)]
        assert [len(data) for data in found] == [size - 16, size - 16, 0, size - 16]
        for _ in range(2):
            assert len(self.received(other, name)["data"]) == size - 16
        with pytest.raises(MessageTooLarge, match="message_bytes"):
            layer.send("x", {"data": bytes(size)})
