"""On real networks: ngIRCd, InspIRCd with Atheme's services, and the server of the package irc."""

from __future__ import annotations

import contextlib
import threading

import irc.server
import msgspec
import pytest

from gateway.core.layers.base import OK
from gateway.core.names import address, wanted
from gateway.plugins.irc.client import membership
from gateway.plugins.irc.client.config import Network, NickServ, Sasl
from gateway.plugins.irc.config import IrcConfig
from gateway.plugins.irc.plugin import IrcPlugin
from gateway.testing.stage import Staged, wait_until
from tests.house.serving import free_port
from tests.plugins.irc.client.conftest import fresh, joined, said
from tests.plugins.irc.client.servers import Ngircd, Person


def test_a_conversation(ngircd):
    """What somebody says in a channel is handed in, and answered there; all of it, in order."""
    room = fresh("#room")
    with joined(ngircd.where, channels=(room,)) as on, Person(ngircd.port, fresh("al")) as alice:
        alice.join(room)
        assert on.until("join", nick=alice.nick)["channel"] == room
        alice.say(room, "hello \x02you\x02 é")
        heard = said(on, nick=alice.nick)
        assert (heard["text"], heard["type"]) == ("hello \x02you\x02 é", "message")
        assert heard["reply_channel"] == address("irc.say", "net", room)
        on.say(heard["reply_channel"], "one\ntwo")
        on.say(address("irc.say", "net", alice.nick), "psst", type="notice")
        on.say("irc.say", "waves", type="action", network="net", channel=room)
        alice.wait("pubmsg", on.nick, "one")
        alice.wait("pubmsg", on.nick, "two")
        assert alice.wait("privnotice", on.nick) == ["psst"]
        assert alice.wait("action", on.nick) == ["waves"]
        text = "ö" * 700
        on.say(heard["reply_channel"], text)
        pieces = []
        while len("".join(pieces)) < len(text):
            pieces += alice.wait("pubmsg", on.nick)
        assert "".join(pieces) == text
        alice.raw(f"PRIVMSG {on.nick} :\x01VERSION\x01")
        assert alice.wait("ctcpreply", on.nick) == ["VERSION", "gateway"]


def test_acks(ngircd):
    """An ack says whether the network took a line, and if not, in its words, why not."""
    room = fresh("#room")
    with joined(ngircd.where, channels=(room,)) as on, Person(ngircd.port, fresh("al")) as alice:
        here = address("irc.say", "net", room)
        assert on.ask(here, "hi")["outcome"] == "accepted"
        nobody = on.ask(address("irc.say", "net", "nobody"), "hi")
        assert (nobody["outcome"], nobody["code"]) == ("rejected", 401)
        other = fresh("#other")
        alice.join(other)
        alice.raw(f"MODE {other} +n")
        alice.wait("mode")
        outside = on.ask(address("irc.say", "net", other), "hi")
        assert (outside["code"], outside["reply_channel"]) == (
            404,
            address("irc.say", "net", other),
        )
        joins = on.ask(address("irc.say", "net"), type="join", channel=other)
        assert joins["outcome"] == "accepted"
        topic = on.ask(address("irc.say", "net", other), "t", type="topic")
        assert topic["outcome"] == "accepted"
        assert alice.wait("topic", on.nick) == ["t"]
        invalid = on.ask(here, "a\0b")
        assert (invalid["outcome"], invalid["reason"]) == ("failed", "the reply is not valid")
        nowhere = on.ask(address("irc.say", "else", "x"), "hi")
        assert (nowhere["outcome"], nowhere["reason"]) == ("failed", "the connection is gone")


def test_a_server_that_is_killed(tmp_path):
    """It is there again when the server is, in its channels, and says so; then it leaves politely."""
    if why := Ngircd.missing():
        pytest.skip(why)
    server = Ngircd(tmp_path, password="letmein")
    with server, joined(server.where, channels=("#room",), password="letmein") as on:
        server.stop()
        gone = on.until("disconnect")
        assert gone["network"] == "net"
        assert gone["reason"] in {"the network closed it", "the connection is lost"}
        wait_until(lambda: on.facts["state"] != "connected")
        assert on.ask(address("irc.say", "net", "#room"), "hi")["outcome"] == "failed"
        server.start()
        on.until("connect")
        on.until("join", channel="#room")
        with Person(server.port, "alice", "#room", password="letmein") as alice:
            assert on.ask(address("irc.say", "net", "#room"), "back")["outcome"] == "accepted"
            assert alice.wait("pubmsg", on.nick) == ["back"]
            server.freeze()  # what is not answered is not acknowledged; nor is it an end yet
            server.freeze(False)
            on.staged.drain()
            assert "restarting" in alice.wait("quit", on.nick)[0]


def test_a_server_that_says_nothing_more(tmp_path):
    """A frozen server is left, and joined again when it lives."""
    if why := Ngircd.missing():
        pytest.skip(why)
    with (
        Ngircd(tmp_path) as server,
        joined(server.where, keepalive=0.2, ping_timeout=0.3) as on,
    ):
        wait_until(lambda: "lag" in on.facts)
        server.freeze()
        assert on.until("disconnect")["reason"] == "no sign of life in 0.3 s"
        server.freeze(False)
        on.until("connect")


def test_a_nick_that_is_taken(ngircd):
    """Another one meanwhile, and its own as soon as that is free."""
    nick = fresh("wanted")
    with (
        Person(ngircd.port, nick) as holder,
        joined(
            ngircd.where, wait=False, nick=nick, alternatives=(f"{nick}b",), regain_wait=0.2
        ) as on,
    ):
        assert on.until("connect")["nick"] == f"{nick}b"
        on.wait_for(nick=f"{nick}b")
        holder.close()
        assert on.until("nick")["text"] == nick
        on.wait_for(nick=nick)


def test_kicks_and_keys(ngircd):
    """It comes back after a kick; a channel with a key it cannot enter is tried again, with health."""
    room = fresh("#room")
    with Person(ngircd.port, fresh("op")) as op:
        op.join(room)
        op.raw(f"MODE {room} +k sesame")
        op.wait("mode")
        with joined(ngircd.where, channels=(room,), keys={room: "sesame"}) as on:
            op.raw(f"KICK {room} {on.nick} :out")
            assert on.until("kick", target=on.nick)["reason"] == "out"
            on.until("join", nick=on.nick)
            op.raw(f"MODE {room} -k+i sesame")
            op.raw(f"KICK {room} {on.nick} :out again")
            on.until("kick", target=on.nick)
            wait_until(lambda: "473" in on.facts.get("refused", {}).get(room, ""), 10)
            op.raw(f"INVITE {on.nick} {room}")
            on.until("join", nick=on.nick)


def test_too_fast_for_the_server(tmp_path):
    """A server that punishes haste still hears every line, in order."""
    if why := Ngircd.missing():
        pytest.skip(why)
    with (
        Ngircd(tmp_path, penalty=-1) as server,
        Person(server.port, "alice", "#room") as alice,
        joined(server.where, channels=("#room",), rate=20.0, burst=3) as on,
    ):
        for number in range(9):
            on.say(address("irc.say", "net", "#room"), str(number))
        heard = [alice.wait("pubmsg", on.nick)[0] for _ in range(9)]
        assert heard == [str(number) for number in range(9)]


def test_a_netsplit(tmp_path):
    """Who is on the other side of a split has quit, and joins again when it has healed."""
    if why := Ngircd.missing():
        pytest.skip(why)
    one, two = Ngircd(tmp_path), Ngircd(tmp_path, "two.test")
    one.link(two)
    with one, two, joined(one.where, channels=("#room",)) as on, Person(two.port, "bob") as bob:
        bob.join("#room")
        on.until("join", nick="bob")
        two.stop()
        gone = on.until("quit", nick="bob")
        assert "two.test" in gone["reason"]
        assert gone["reply_channel"] == address("irc.say", "net", "bob")


def test_capabilities_and_acks_by_labels(inspircd):
    """On a network of today: identity by account, answers by labels, nothing of one's own back."""
    room = fresh("#room")
    with (
        Person(inspircd.port, fresh("al"), room) as alice,
        joined(inspircd.where, channels=(room,)) as on,
    ):
        alice.say("NickServ", f"IDENTIFY {inspircd.account} secret")
        alice.wait("loggedin")
        alice.say(room, "hi")
        heard = said(on, channel=room)
        assert heard["identity"] == inspircd.account
        assert "time" in heard["tags"]
        here = heard["reply_channel"]
        assert on.ask(here, "a\nb")["outcome"] == "accepted"
        assert on.ask(address("irc.say", "net", "nobody"), "hi")["code"] == 401
        alice.raw(f"MODE {room} +m")
        on.until("mode", modes="+m")
        refused = on.ask(here, "hush")
        assert (refused["outcome"], refused["code"]) == ("rejected", 404)
        alice.raw(f"MODE {room} -m")
        alice.say(room, "end")
        said(on, text="end")
        assert not [m for kind, m in on.passed if kind == "receive" and m["nick"] == on.nick]


@pytest.mark.parametrize("mechanism", ["PLAIN", "EXTERNAL"])
def test_tls_and_sasl(inspircd, mechanism):
    """Over TLS, verified, it logs in by password or by certificate, and a refusal is said loudly."""
    tls = {"ca": inspircd.ca, "certificate": inspircd.certificate("bot")}
    sasl = Sasl(account=inspircd.account, password="secret")
    if mechanism == "EXTERNAL":
        with joined(inspircd.where_tls, **tls, sasl=sasl) as on:
            on.say("irc.say", "CERT ADD", network="net", channel="NickServ")
            while "Added fingerprint" not in said(on, nick="NickServ")["text"]:
                pass
        sasl = Sasl(mechanism="EXTERNAL")
    with joined(inspircd.where_tls, **tls, sasl=sasl) as on:
        on.wait_for(account=inspircd.account)
    sasl = msgspec.structs.replace(sasl, account="nobody")
    with joined(inspircd.where_tls, wait=False, **tls, sasl=sasl) as on:
        wait_until(lambda: on.facts.get("error") == "SASL: SASL authentication failed", 10)
        assert on.staged.hear_any(0.2) is None


def test_a_certificate_that_is_not_good(inspircd):
    """Nobody is talked to whose certificate nobody vouches for."""
    with joined(inspircd.where_tls, wait=False) as on:
        wait_until(lambda: "certificate is not good" in on.facts.get("error", ""), 10)


def test_nickserv(inspircd):
    """It identifies, has whoever has its nick put out, and takes it."""
    nick = inspircd.account
    with (
        Person(inspircd.port, nick) as squatter,
        joined(
            inspircd.where,
            nick=nick,
            nickserv=NickServ(account=nick, password="secret", regain="GHOST"),
            regain_wait=0.3,
        ) as on,
    ):
        assert on.until("nick")["text"] == nick
        on.wait_for(nick=nick, account=nick)
        squatter.wait("disconnect")


def test_another_holder(ngircd):
    """Of two gateways one is on the network; when that one leaves the other is there in seconds."""
    room = fresh("#room")
    more = {"nick": fresh("gw"), "channels": (room,)}
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(joined(ngircd.where, **more))
        with joined(ngircd.where, wait=False, beside=first.staged, **more) as second:
            wait_until(lambda: second.staged.plugin.health()["client"]["standby"])
            assert second.facts["state"] == "idle"
            stack.close()
            here = address("irc.say", "net", room)
            with Person(ngircd.port, fresh("al"), room) as alice:
                second.say(here, "to whoever is there")
                alice.wait("pubmsg", more["nick"], "to whoever is there")
            wait_until(lambda: second.facts["channels"] == [room])


def test_the_server_of_the_package_irc():
    """A server that is hardly one: no capabilities, no ISUPPORT, no MOTD."""
    irc.server.IRCServer.allow_reuse_address = True
    server = irc.server.IRCServer(("127.0.0.1", 0), irc.server.IRCClient)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        where = f"127.0.0.1:{server.server_address[1]}"
        with (
            joined(where, channels=("#room",)) as on,
            Person(server.server_address[1], "alice") as alice,
        ):
            alice.connection.join("#room")
            on.until("join", nick="alice")
            alice.say("#room", "hi")
            here = said(on, nick="alice")["reply_channel"]
            on.say(here, "hello")
            assert alice.wait("pubmsg", on.nick) == ["hello"]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def test_the_gateway_on_its_own_network():
    """Both roles in one process: it joins what it serves, and both end together."""
    port = free_port()
    config = IrcConfig(
        listen=f"127.0.0.1:{port}",
        networks={
            "own": Network(connect=f"127.0.0.1:{port}", nick="bot", channels=("#room",), rate=0)
        },
    )
    with (
        Staged(IrcPlugin, config, listen=f"127.0.0.1:{port}", announced=("receive",)) as staged,
        Person(port, "alice", "#room") as alice,
    ):
        wait_until(lambda: staged.plugin.health()["client"]["networks"]["own"].get("channels"))
        staged.worker.send(address("irc.say", "own", "#room"), {"text": "hello"})
        seen = {}
        while "own" not in seen or "Gateway" not in seen:
            heard = staged.hear()
            heard.settle(OK)
            seen[heard.message["network"]] = heard.message
            if heard.message["nick"] == "bot":
                alice.wait("pubmsg", "bot", "hello")
                alice.say("#room", "hi")
        assert (seen["own"]["nick"], seen["own"]["text"]) == ("alice", "hi")


def test_channels_that_workers_want(ngircd):
    """What a routing table names is joined, on all networks or on the one that it names."""
    with joined(ngircd.where) as on:
        room, other = fresh("#Wanted"), fresh("#other")
        worker = on.staged.worker
        names = [f"irc.{kind}" for kind in on.staged.kinds]
        elsewhere = wanted("irc.receive", f"else {fresh('#no')}")
        worker.announce([*names, wanted("irc.receive", room), wanted("irc.join", f"net {other}")])
        assert {on.until("join")["channel"] for _ in range(2)} == {room, other}
        worker.announce([*names, elsewhere])
        on.wait_for(channels=sorted([room, other]))


def test_consumers_that_are_behind(ngircd, monkeypatch):
    """The network is read on after a while, so that it hears us; what has no room is counted."""
    monkeypatch.setattr(membership, "STALL", 0.2)
    room = fresh("#room")
    with joined(ngircd.where, channels=(room,)) as on, Person(ngircd.port, fresh("al"), room) as al:
        on.until("join", nick=al.nick)
        for number in range(600):
            al.say(room, str(number))
        dropped = on.staged.metrics.dropped
        wait_until(lambda: sum(n for where, n in dropped().items() if "slow" in where), 15)
        assert on.ask(address("irc.say", "net", al.nick), "still here")["outcome"] == "accepted"
        heard = [int(said(on, nick=al.nick)["text"]) for _ in range(60)]
        assert heard == list(range(60))


def test_a_server_that_does_not_want_us(tmp_path, caplog):
    """After a wrong password it is not tried again soon."""
    if why := Ngircd.missing():
        pytest.skip(why)
    with (
        Ngircd(tmp_path, password="letmein") as server,
        joined(server.where, wait=False, password="wrong", retry_longest=50.0) as on,
    ):
        wait_until(lambda: on.facts["state"] == "waiting", 10)
        assert on.facts["error"] == "Access denied: Bad password?"
        wait_until(lambda: "again in 50.0 s" in caplog.text)
