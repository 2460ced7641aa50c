"""On a network: what others say and do, what the application says, and what becomes of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.layers.base import OK
from gateway.plugins.irc.client.config import Sasl
from gateway.plugins.irc.client.terms import Dropped, NoEntry, Remark, Skipped
from gateway.plugins.irc.lines import parse
from tests.plugins.irc.client.driven import MASK, Driven, entered

ALICE = "alice!al@wonder.land"


def received(it: Driven) -> list[dict]:
    return [message for kind, message in it.messages() if kind == "receive"]


# ---------------------------------------------------------------- what others say


def test_what_is_said_in_a_channel():
    """It is of the conversation with that channel, and says who, where and what."""
    it = entered()
    it.hear(f"@time=2026-01-01T00:00:00.000Z;account=Al :{ALICE} PRIVMSG #Room :hi \x02there\x02")
    assert it.messages() == [
        (
            "receive",
            {
                "network": "net",
                "type": "message",
                "mask": ALICE,
                "nick": "alice",
                "channel": "#Room",
                "target": "#Room",
                "text": "hi \x02there\x02",
                "tags": {"time": "2026-01-01T00:00:00.000Z", "account": "Al"},
                "identity": "Al",
            },
        )
    ]
    assert it.conversations[-1] == "#room"


def test_what_is_said_in_private():
    """It is of the conversation with the nick, folded as the network does it."""
    it = entered()
    it.hear(":Alice[x]!a@h PRIVMSG gw :psst")
    [message] = received(it)
    assert (message["channel"], message["nick"], message["target"]) == (None, "Alice[x]", "gw")
    assert it.conversations[-1] == "alice{x}"


def test_what_is_said_to_some_of_a_channel():
    """What operators alone hear is answered to operators alone."""
    it = entered("STATUSMSG=@+", "CHANTYPES=#")
    it.hear(f":{ALICE} PRIVMSG @#room :secret")
    [message] = received(it)
    assert (message["channel"], message["target"]) == ("#room", "@#room")
    it.say({"text": "answer"}, it.conversations[-1])
    assert it.take() == ["PRIVMSG @#room :answer"]


def test_actions_and_notices():
    """They have a type; a notice of the server itself is not handed in."""
    it = entered()
    it.hear(f":{ALICE} PRIVMSG #room :\x01ACTION waves\x01", f":{ALICE} NOTICE #room :psst")
    it.hear(":irc.example NOTICE gw :*** be nice")
    assert [(m["type"], m["text"]) for m in received(it)] == [
        ("action", "waves"),
        ("notice", "psst"),
    ]


def test_what_is_not_utf_8_is_read_all_the_same():
    """As the setting says; nothing ends the connection."""
    it = entered()
    it.hear(f":{ALICE} PRIVMSG #room :".encode() + b"caf\xe9")
    it.hear(f":{ALICE} PRIVMSG #room :café")
    it.hear(b"\x00\xff :\x00 nonsense", b":only.source", b"@" + b"x" * 9000 + b" PRIVMSG a b")
    assert [message["text"] for message in received(it)] == ["café", "café"]
    assert it.counted == [Skipped("malformed")] * 3
    russian = entered(encoding="koi8-r")
    russian.hear(f":{ALICE} PRIVMSG #room :".encode() + "привет".encode("koi8-r"))
    assert received(russian)[0]["text"] == "привет"


def test_own_words_never_come_back():
    """What the network echoes is not handed in, nor our topics and modes."""
    it = entered(caps="echo-message")
    it.hear(
        f":{MASK} PRIVMSG #room :said",
        f":{MASK} NOTICE #room :said",
        f":{MASK} TOPIC #room :set",
        f":{MASK} MODE #room +t",
    )
    assert it.messages() == []


def test_bots_and_whom_the_settings_ignore():
    """Nobody answers a bot, or one of the masks: two that do so never end."""
    it = entered(ignore=("*!*@other.gateway", "spammer"))
    it.hear(
        "@bot :robot!r@h PRIVMSG #room :beep",
        ":gw2!g@Other.Gateway PRIVMSG #room :hi",
        ":Spammer!s@h NOTICE #room :buy",
        f":{ALICE} PRIVMSG #room :hi",
    )
    assert [message["nick"] for message in received(it)] == ["alice"]
    assert [one.why for one in it.counted] == ["bot", "ignored", "ignored"]
    bots = entered(ignore_bots=False)
    bots.hear("@bot :robot!r@h PRIVMSG #room :beep")
    assert len(received(bots)) == 1


def test_old_messages():
    """What is played back at a join is not handed in, unless that is wanted; what ends, ends."""
    lines = (
        ":s BATCH +outer x",
        "@batch=outer :s BATCH +1 chathistory #room",
        f"@batch=1 :{ALICE} PRIVMSG #room :!help",
        ":s BATCH -1",
        ":s BATCH -outer",
        f"@batch=1 :{ALICE} PRIVMSG #room :now",
    )
    it = entered()
    it.hear(*lines)
    assert [message["text"] for message in received(it)] == ["now"]
    assert [one.why for one in it.counted] == ["playback"]
    all_of_it = entered(playback=True)
    all_of_it.hear(*lines)
    assert [message["text"] for message in received(all_of_it)] == ["!help", "now"]


def test_ctcp_is_answered_and_not_handed_in():
    """Within a rate, to who asks in private; by notices, which nobody answers."""
    it = entered(version="gateway 1", rate=0)
    for question in ("VERSION", "PING 12 34", "TIME", "CLIENTINFO", "DCC SEND x"):
        it.hear(f":{ALICE} PRIVMSG gw :\x01{question}\x01")
        it.advance(5)
    answers = [line for line in it.take() if line.startswith("NOTICE")]
    assert answers == [
        "NOTICE alice :\x01VERSION gateway 1\x01",
        "NOTICE alice :\x01PING 12 34\x01",
        "NOTICE alice :\x01TIME noon\x01",
        "NOTICE alice :\x01CLIENTINFO ACTION CLIENTINFO PING TIME VERSION\x01",
    ]
    it.hear(f":{ALICE} PRIVMSG #room :\x01VERSION\x01", f":{ALICE} NOTICE gw :\x01VERSION\x01")
    assert it.take() == []
    for _ in range(50):
        it.hear(f":{ALICE} PRIVMSG gw :\x01VERSION\x01")
    assert len(it.take()) == 3
    assert it.messages() == []
    assert {one.why for one in it.counted} == {"ctcp"}


def test_what_others_do():
    """Joins, parts, kicks, nicks, quits, topics and modes are told, each of its conversation."""
    it = entered(caps="extended-join")
    it.hear(
        f":{ALICE} JOIN #room Al :Alice",
        f":{ALICE} TOPIC #room :new",
        f":{ALICE} MODE #room +ov bob carl",
        f":{ALICE} KICK #room bob :no",
        f":{ALICE} PART #room :bye",
        f":{ALICE} NICK al",
        ":al!al@wonder.land QUIT :gone",
        f":{ALICE} JOIN #other * :Alice",
    )
    of = {"network": "net", "mask": ALICE, "nick": "alice"}
    assert it.messages() == [
        ("join", {**of, "channel": "#room", "account": "Al"}),
        ("topic", {**of, "channel": "#room", "text": "new"}),
        ("mode", {**of, "channel": "#room", "modes": "+ov", "params": ["bob", "carl"]}),
        ("kick", {**of, "channel": "#room", "target": "bob", "reason": "no"}),
        ("part", {**of, "channel": "#room", "reason": "bye"}),
        ("nick", {**of, "text": "al"}),
        ("quit", {**of, "mask": "al!al@wonder.land", "nick": "al", "reason": "gone"}),
        ("join", {**of, "channel": "#other", "account": None}),
    ]
    assert it.conversations[-8:] == ["#room"] * 5 + ["alice", "al", "#other"]


def test_a_netsplit():
    """Who is split off has quit, in a batch or not; the network's PING goes before all."""
    it = entered(caps="batch")
    it.hear(
        ":s BATCH +n netsplit a.net b.net",
        "@batch=n :alice!a@h QUIT :a.net b.net",
        "@batch=n :bob!b@h QUIT :a.net b.net",
        ":s BATCH -n",
        "PING :s",
    )
    assert [message["nick"] for kind, message in it.messages() if kind == "quit"] == [
        "alice",
        "bob",
    ]
    assert it.take() == ["PONG s"]


def test_conversations_are_forgotten():
    """Of the one that was silent longest nothing is kept, so that strangers cannot fill memory."""
    it = entered(max_targets=3)
    for number in range(5):
        it.hear(f":n{number}!a@h PRIVMSG gw :hi")
        it.hear(f":{ALICE} PRIVMSG #room :hi")
    assert it.forgotten == ["n0", "n1", "n2"]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_cutting_of_any_bytes(data):
    """However the bytes are cut, the same is heard; and nothing that they are breaks anything."""
    known = st.sampled_from(
        [
            f":{ALICE} PRIVMSG #room :hi\r\n".encode(),
            f"@batch=1;label=g1 :{MASK} JOIN #room\n".encode(),
            b":s BATCH +1 chathistory\r\n",
            b":s CAP * LS * :sasl\r\n:s CAP gw NEW :batch\r\n",
            b":s 001\r\n:s 005 gw CASEMAPPING=\r\n:s 433\r\n",
            b":gw!a@b NICK other\r\n:x KICK #room gw\r\n",
            b":x PRIVMSG gw :\x01VERSION\x01\r\n",
            b":s 396 gw host\r\n:s 302 gw :gw=+a@b\r\n:s 303\r\n:s 731\r\n:s 900\r\n",
            b"FAIL * *\r\nPONG\r\nPING\r\nBATCH\r\nMODE\r\nINVITE gw #room\r\nAUTHENTICATE\r\n",
            b":s 473 gw #room :no\r\n:s 404 gw #room\r\n:s 401\r\n:gw!a@b PART\r\n",
        ]
    )
    stream = b"".join(data.draw(st.lists(st.one_of(known, st.binary(max_size=40)), max_size=12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    whole, cut = entered(), entered()
    whole.run(whole.session.received(stream))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if cut.closed is None:
            cut.run(cut.session.received(stream[start:end]))
    assert cut.emitted == whole.emitted
    assert (cut.closed is None) == (whole.closed is None)
    lines = [line for it in (whole, cut) for line in it.take()]
    assert all(parse(line.encode()).command for line in lines)


# ---------------------------------------------------------------- what the application says


def test_what_it_says():
    """Every type is its own command; a reply is about its conversation, or the channel it names."""
    it = entered(rate=0, allow_raw=True)
    for reply in (
        {"text": "hi"},
        {"bytes": "hé".encode()},
        {"text": "waves", "type": "action"},
        {"text": "psst", "type": "notice"},
        {"text": "there", "channel": "#other"},
        {"text": "new topic", "type": "topic"},
        {"text": "", "type": "topic"},
        {"type": "kick", "target": "bob", "text": "no"},
        {"type": "mode", "modes": "+ov", "params": ["a", "b"]},
        {"text": "gw9", "type": "nick"},
        {"text": "WHOIS alice", "type": "raw"},
    ):
        it.say(reply)
    assert it.take() == [
        "PRIVMSG #room :hi",
        "PRIVMSG #room :hé",
        "PRIVMSG #room :\x01ACTION waves\x01",
        "NOTICE #room :psst",
        "PRIVMSG #other :there",
        "TOPIC #room :new topic",
        "TOPIC #room :",
        "KICK #room bob :no",
        "MODE #room +ov a b",
        "NICK gw9",
        "WHOIS alice",
    ]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ({"text": "a\0b"}, "CR, LF or NUL"),
        ({"text": " \r\n "}, "nothing but space"),
        ({"text": ""}, "not empty"),
        ({"text": "hi", "channel": "#a,#b"}, "is not one target"),
        ({"text": "hi", "channel": "#a\r\nQUIT"}, "CR, LF or NUL"),
        ({"text": "hi", "channel": "a b"}, "is not one target"),
        ({"text": "hi", "channel": ":a"}, "cannot stand in the middle"),
        ({"text": "\x01DCC SEND x\x01"}, "asks other clients"),
        ({"text": "a\nQUIT", "type": "topic"}, "CR, LF or NUL"),
        ({"text": "x\r\nQUIT", "type": "nick"}, "CR, LF or NUL"),
        ({"type": "kick", "target": "x y"}, "is not one target"),
        ({"type": "kick"}, "'target'"),
        ({"type": "mode"}, "'modes'"),
        ({"type": "topic"}, "a topic needs a 'text'"),
        ({"type": "join", "channel": "0"}, "is no channel"),
        ({"type": "join", "channel": "#a", "key": "k\nQUIT"}, "CR, LF or NUL"),
        ({"text": "QUIT", "type": "raw"}, "set irc.networks.net.allow_raw"),
        ({"text": "\n".join("abcdefgh")}, "irc.networks.net.max_lines is 5"),
        ({"text": "hi", "tags": {"+a b": "c"}}, "is no key of a tag"),
    ],
)
def test_what_it_cannot_say(reply, why):
    """Such a reply is invalid, with a reason, and nothing of it is sent."""
    it = entered(max_lines=5, caps="message-tags")
    assert why in it.refuses(reply)
    it.advance(30)
    assert [line for line in it.take() if not line.startswith("PING")] == []


def test_a_reply_to_the_network_names_its_channel():
    """The address of a network alone has nobody to say something to."""
    it = entered()
    assert "needs a 'channel'" in it.refuses({"text": "hi"}, None)
    it.say({"text": "hi", "channel": "alice"}, None)
    assert it.take() == ["PRIVMSG alice :hi"]


def test_keys_that_mean_nothing_here():
    """There is nobody to be let in or closed: such keys are counted, and the rest is said."""
    it = entered()
    it.say({"accept": True, "close": True, "text": "hi"}, token=1)
    it.say({"accept": True}, token=2)
    assert it.take()[0] == "PRIVMSG #room :hi"
    assert [one.key for one in it.counted] == ["accept", "close", "accept"]
    assert it.done == {2: OK}


def test_what_somebody_else_says():
    """With a nick, as messages of the server role have one, it stands before the text."""
    it = entered(rate=0)
    for kind in ("message", "action", "notice"):
        it.say({"text": "hi", "type": kind, "nick": "alice", "mask": "alice!a@h", "id": "x"})
    assert it.take() == [
        "PRIVMSG #room :<alice> hi",
        "PRIVMSG #room :* alice hi",
        "NOTICE #room :-alice- hi",
    ]


def test_what_an_operator_is_to_know():
    """Another nick, a channel that lets nobody in, and no login are said to the log."""
    it = Driven(channels=("#a",), sasl=Sasl(password="x", required=False))
    it.hear(":s 433 * gw :Nickname is already in use")
    it.welcome(nick="gw_")
    it.hear(":s 473 gw_ #a :Cannot join channel (+i)")
    assert it.counted == [
        Remark("we are called gw_, not gw"),
        Remark("we are not logged in: SASL: the network let us in without"),
        NoEntry("473", "#a", "Cannot join channel (+i)"),
    ]
    it.run(it.session.eof())
    assert it.session.ended()["reason"] == "the network closed it"


def test_tags_of_clients():
    """Those with a + are sent where the network knows tags."""
    it = entered(caps="message-tags")
    it.say({"text": "hi", "tags": {"+draft/reply": "a;b", "time": "x"}})
    assert it.take() == ["@+draft/reply=a\\:b PRIVMSG #room :hi"]
    it = entered()
    it.say({"text": "hi", "tags": {"+draft/reply": "a"}})
    assert it.take() == ["PRIVMSG #room :hi"]


@given(
    st.text(alphabet="aé\u0301 \U0001f600\u200d\n", max_size=1500), st.sampled_from(["#room", "al"])
)
@settings(max_examples=60, deadline=None)
def test_long_texts_are_cut(text, to):
    """No line is over 512 bytes with our mask before it; no character is cut, no word is lost."""
    it = entered(rate=0, max_lines=2000, channels=("#room",))
    if not text.strip():
        it.refuses({"text": text}, to)
        return
    it.say({"text": text}, to)
    lines = it.take()
    assert all(len(f":{MASK} {line}\r\n".encode()) <= 512 for line in lines)
    said = "".join(parse(line.encode()).params[1] for line in lines)
    assert said.replace(" ", "") == text.replace("\n", "").replace(" ", "")


def test_our_mask_is_what_the_network_says():
    """By its welcome, its answer to USERHOST, our own JOIN, a cloak or CHGHOST; else the longest."""
    it = Driven(rate=0)
    it.hear(":s 001 gw :Welcome to the network", ":s 422 gw :no motd")
    longest = it.session.standing.room_for("PRIVMSG", "#r")
    assert "USERHOST gw" in it.take()
    it.hear(":s 302 gw :gw=+~u@a.host")
    assert it.session.standing.user_host == "~u@a.host"
    assert it.session.standing.room_for("PRIVMSG", "#r") > longest
    it.hear(":s 396 gw cloak.example :is now your displayed host")
    assert it.session.standing.user_host == "~u@cloak.example"
    it.hear(":gw!~u@cloak.example CHGHOST user new.host")
    assert it.session.standing.user_host == "user@new.host"
    it.hear(":gw!x@y JOIN #r")
    assert it.session.standing.user_host == "x@y"


# ---------------------------------------------------------------- its turn


def test_lines_wait_for_their_turn():
    """After the first few, so many a second, in order; PONG does not wait."""
    it = entered(rate=2.0, burst=3)
    for number in range(8):
        it.say({"text": str(number)})
    assert len(it.take()) == 3
    it.hear("PING :s")
    assert it.take() == ["PONG s"]
    it.advance(1.05)
    assert it.take() == ["PRIVMSG #room :3", "PRIVMSG #room :4"]
    it.advance(2)
    assert it.take() == [f"PRIVMSG #room :{number}" for number in (5, 6, 7)]
    assert it.session.facts()["unsent"] == 0


def test_a_full_queue():
    """What has no room is dropped whole, counted, and its ack says so."""
    it = entered(rate=1.0, burst=1, max_queued=3)
    it.say({"text": "a\nb\nc"})
    it.say({"text": "d\ne"}, token=7)
    it.say({"text": "f"}, token=8)
    assert [type(one) for one in it.counted] == [Dropped]
    assert it.done[7].cause == "slow"
    it.advance(10)
    said = [line[-1] for line in it.take() if line.startswith("PRIVMSG")]
    assert said == ["a", "b", "c", "f"]


def test_what_is_said_before_it_is_there_waits():
    """An address may be told something while the connection begins: it is said after the joins."""
    it = Driven(channels=("#room",), rate=0)
    it.say({"text": "early"})
    assert "PRIVMSG #room :early" not in it.take()
    it.welcome()
    lines = it.take()
    assert lines.index("JOIN #room") < lines.index("PRIVMSG #room :early")


# ---------------------------------------------------------------- what becomes of it


def test_labels():
    """With labeled-response each line is judged by its own answer, in whatever order."""
    it = entered(caps="batch echo-message labeled-response message-tags", rate=0)
    it.say({"text": "one"}, token=1)
    it.say({"text": "two"}, "nobody", token=2)
    it.say({"type": "join", "channel": "#new"}, token=3)
    it.say({"text": "unasked"})
    sent = [parse(line.encode()) for line in it.take()]
    labels = [line.tags.get("label") for line in sent if line.command != "PING"]
    assert labels[3] is None
    assert not [line for line in sent if line.command == "PING"]
    it.hear(f"@label={labels[1]} :s 401 gw nobody :No such nick")
    it.hear(f"@label={labels[2]} :s BATCH +1 labeled-response", f"@batch=1 :{MASK} JOIN #new")
    assert 3 not in it.done
    it.hear(":s BATCH -1", f"@label={labels[0]} :{MASK} PRIVMSG #room :one")
    assert it.done[1] == it.done[3] == OK
    assert (it.done[2].kind, it.done[2].code, it.done[2].reason) == (
        "rejected",
        401,
        "No such nick",
    )


def test_a_refusal_within_a_batch():
    """What lies in the batch that answers a label is of that label."""
    it = entered(caps="batch labeled-response message-tags", rate=0)
    it.say({"text": "hi"}, token=1)
    label = parse(it.take()[0].encode()).tags["label"]
    it.hear(f"@label={label} :s BATCH +1 labeled-response", "@batch=1 :s 404 gw #other :No")
    assert it.done[1].code == 404
    it.hear(":s BATCH -1")
    assert len(it.done) == 1


def test_standard_replies():
    """FAIL says in words what numerics say by number."""
    it = entered(rate=0)
    it.say({"text": "hi"}, token=1)
    it.hear(":s FAIL PRIVMSG INVALID_TARGET #room :You cannot")
    assert it.done[1].reason == "INVALID_TARGET: You cannot"


def test_without_labels_a_ping_follows():
    """What is not refused before its answer was taken; one PING is on its way at a time."""
    it = entered(rate=0)
    it.say({"text": "one"}, token=1)
    it.say({"text": "two"}, "nobody", token=2)
    it.say({"text": "a\nb"}, token=3)
    lines = it.take()
    [ping] = [line for line in lines if line.startswith("PING")]
    assert lines.index("PRIVMSG #room :one") < lines.index(ping)
    it.hear(":s 401 gw Nobody :No such nick")
    assert it.done[2].code == 401
    it.hear(f":s PONG s {ping[5:]}")
    assert it.done[1] == OK
    assert 3 not in it.done
    [second] = it.take()
    it.hear(":s 404 gw #room :Cannot send to channel")
    assert (it.done[3].kind, it.done[3].code) == ("rejected", 404)
    it.hear(f":s PONG s {second[5:]}", f":s PONG s {second[5:]}", ":s PONG s gateway-999")
    assert len(it.done) == 3


def test_a_reply_that_is_still_in_part_unsent():
    """Its ack waits for its last line."""
    it = entered(rate=1.0, burst=1)
    it.say({"text": "a\nb"}, token=1)
    [_, ping] = it.take()
    it.hear(f":s PONG s {ping[5:]}")
    assert it.done == {}
    it.advance(1.2)
    [_, ping] = it.take()
    it.hear(f":s PONG s {ping[5:]}")
    assert it.done == {1: OK}


def test_a_join_that_is_refused():
    """The ack of a join says why; and it is tried again."""
    it = entered(rate=0, keepalive=10_000.0)
    it.say({"type": "join", "channel": "#secret"}, token=1)
    it.take()
    it.hear(":s 473 gw #secret :Cannot join channel (+i)")
    assert it.done[1].code == 473
    it.advance(11)
    assert "JOIN #secret" in it.take()
