"""Whatever the layer says and when: order, window, one answer each, nothing left."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core.layers.base import FAILED, OK, REJECTED, RELEASED, Outcome
from gateway.core.plugin import Emit, Refusal

from .toys import talking

KEYS = (None, "a", "b")
ROUTED = ("talk.connect", "talk.receive", "talk.disconnect")


class Conversations(RuleBasedStateMachine):
    """One accepted connection with three conversations, and a layer with moods."""

    @initialize(window=st.sampled_from([1, 1, 1, 0]), run=st.sampled_from([1, 3, 64]))
    def open(self, window, run):
        self.world = talking(run_messages=run, window=window, full_timeout=0.5)
        self.window = window
        self.emitted = dict.fromkeys(KEYS, 0)
        self.posts = []
        self.done = {}
        self.ran = {key: [] for key in KEYS}
        self.gone = False
        self.pin = None

    def look(self):
        """Notice what was posted since the last look: to where its connection is pinned."""
        posts = self.world.edge.take()
        assert all(post.pin == self.pin for post in posts)
        self.posts += posts

    def key_of(self, message):
        return message["text"].partition(":")[0] or None

    @precondition(lambda self: not self.gone)
    @rule(key=st.sampled_from(KEYS), count=st.integers(1, 5))
    def emit(self, key, count):
        emits = []
        for _ in range(count):
            text = f"{key or ''}:{self.emitted[key]}"
            self.emitted[key] += 1
            emits.append(Emit("receive", {"text": text}, text, key))
        self.world.connection.received(emits)
        self.look()

    @precondition(lambda self: self.posts)
    @rule(data=st.data())
    def settle(self, data):
        post = self.posts.pop(data.draw(st.integers(0, len(self.posts) - 1)))
        done = self.done.pop(post.receipt, 0)
        messages = post.messages[done:]
        count = len(messages)
        good = data.draw(st.integers(0, count))
        outcomes = [OK] * good
        if good < count:
            bad = data.draw(st.sampled_from([REJECTED, FAILED, RELEASED]))
            rest = Outcome(RELEASED) if bad == RELEASED else Outcome(FAILED, cause="skipped")
            outcomes += [Outcome(bad)] + [rest] * (count - good - 1)
            good += 1
        for message in messages[: count if outcomes[-1].kind == RELEASED else good]:
            self.ran[self.key_of(message)].append(int(message["text"].partition(":")[2]))
        self.world.edge.settle(post, *outcomes)
        self.look()

    def whole(self):
        """Return the posts of which nothing is settled."""
        return [post for post in self.posts if post.receipt not in self.done]

    @precondition(lambda self: any(len(post.messages) > 1 for post in self.whole()))
    @rule(data=st.data())
    def settle_some(self, data):
        post = data.draw(st.sampled_from([p for p in self.whole() if len(p.messages) > 1]))
        done = self.done[post.receipt] = data.draw(st.integers(1, len(post.messages) - 1))
        for message in post.messages[:done]:
            self.ran[self.key_of(message)].append(int(message["text"].partition(":")[2]))
        self.world.edge.settle(post, *[OK] * done)
        self.look()

    @precondition(lambda self: self.whole())
    @rule(data=st.data())
    def full(self, data):
        post = data.draw(st.sampled_from(self.whole()))
        self.posts.remove(post)
        self.world.edge.refuse(post)
        self.look()

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.3, 2.0]))
    def wait(self, seconds):
        # While time passes a full channel stays full: every probe is refused.
        self.world.clock.advance(seconds)
        self.look()

    @rule(workers=st.booleans())
    def announce(self, workers):
        self.world.edge.announce(ROUTED if workers else None)
        self.look()

    @precondition(lambda self: not self.gone or self.posts)
    @rule(worker=st.sampled_from(["pin.p_a", "pin.p_b"]))
    def pin_to(self, worker):
        self.world.edge.reply(self.world.connection.reply_channel, {"pin": worker})
        self.pin = worker
        self.look()

    @precondition(lambda self: not self.gone)
    @rule()
    def leave(self):
        self.world.connection.lost()
        self.gone = True
        self.look()

    @invariant()
    def one_unsettled_delivery(self):
        """A conversation has at most one unsettled delivery."""
        if getattr(self, "window", 0):
            keys = [self.key_of(post.messages[0]) for post in self.posts]
            assert len(keys) == len(set(keys))

    @invariant()
    def in_order_and_once(self):
        """What runs of a conversation runs in order, each message once."""
        if getattr(self, "window", 0):
            for ran in self.ran.values():
                assert ran == sorted(set(ran))

    def teardown(self):
        if not hasattr(self, "world"):
            return
        world = self.world
        world.edge.announce(ROUTED)
        self.look()
        for _ in range(1000):
            if not self.posts and world.clock.idle:
                break
            while self.posts:
                post = self.posts.pop()
                done = self.done.pop(post.receipt, 0)
                messages = post.messages[done:]
                for message in messages:
                    self.ran[self.key_of(message)].append(int(message["text"].partition(":")[2]))
                world.edge.settle(post, *[OK] * len(messages))
                self.look()
            world.clock.advance(0.05)
            self.look()
        self.one_unsettled_delivery()
        self.in_order_and_once()
        told = [token for token, _ in world.session.heard if token != "connect"]
        assert len(told) == len(set(told)), "a message has one answer"
        if not self.gone:
            assert len(told) == sum(self.emitted.values()), "each message has an answer"
            refused = sum(answer is Refusal.FULL for _, answer in world.session.heard)
            assert world.dropped.get("full", 0) == refused
            world.connection.lost()
        assert len(world.edge.called("end")) == 1
        pins = [call for call in world.edge.calls if call[0] in ("pin", "end")]
        assert [call[2] for call in pins if call[0] == "pin"][-1:] == [self.pin] * bool(self.pin)
        assert pins[-1][0] == "end"
        world.nothing_left()


TestConversations = Conversations.TestCase
TestConversations.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
