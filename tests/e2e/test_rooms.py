"""Rooms: clients of IRC that people sit at, a page and an event stream in the same one."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests import npm
from tests.e2e.serving import Served
from tests.house.serving import free_port
from tests.plugins.irc.terminals import Irssi, Weechat, program

PROJECT = Path(__file__).parent / "rooms"


class Rooms:
    """The rooms that are served: where pages and where clients of IRC come."""

    def __init__(self, served: Served, irc: int) -> None:
        self.served = served
        self.irc = irc

    def page(self, room: str, nick: str) -> str:
        return self.served.url(f"/rooms/{room}/{nick}/", "ws")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    port = free_port()
    folder = tmp_path_factory.mktemp("rooms")
    options = ["--plugins", "http,websocket,sse,irc", "--set", f"irc.listen=127.0.0.1:{port}"]
    with Served(folder, *options, project=PROJECT) as served:
        yield Rooms(served, port)


def test_people_at_their_clients(rooms: Rooms, tmp_path: Path) -> None:
    """irssi, WeeChat and a page talk in one room, where each is seen as a nick; topic, names,
    whois, a command and a kick are what their people expect, and what is refused says why.
    """
    program("weechat")
    with Irssi(tmp_path / "ann", rooms.irc, "ann") as ann, contextlib.ExitStack() as later:
        ann.enters("#tea")
        ann.shows("ann", "has joined #tea")
        page = later.enter_context(connect(rooms.page("tea", "cleo")))
        ann.shows("cleo", "has joined #tea")
        ben = later.enter_context(Weechat(tmp_path / "ben", rooms.irc, "ben"))
        ben.enters("#tea")
        ann.shows("ben", "has joined #tea")
        ben.types("hello")
        ann.shows("ben> hello")
        assert page.recv(10) == "<ben> hello"
        ann.types("schöne Grüße 🍵")
        ben.shows("@ann\tschöne Grüße 🍵")
        assert page.recv(10) == "<ann> schöne Grüße 🍵"
        page.send("tea is ready")
        ann.shows("cleo> tea is ready")
        ben.shows("cleo\ttea is ready")
        ben.types("/me drinks")
        ann.shows("* ben drinks")
        assert page.recv(10) == "* ben drinks"
        ann.types("/topic biscuits")
        ben.shows("ann has changed topic for #tea", "biscuits")
        ben.types("/names")
        ben.shows("Nicks #tea:", "@ann", "ben", "cleo")
        ben.types("/whois cleo")
        ben.shows("[cleo]", "websocket@guest")
        ben.types("!roll 6")
        ann.shows("gateway> ben rolled 6")
        assert page.recv(10) == "<ben> !roll 6"
        assert page.recv(10) == "<gateway> ben rolled 6"
        ben.types("spam")
        ben.shows("not here")
        ben.types("/join #closed")
        ben.shows("come back tomorrow")
        with connect(rooms.page("tea", "dora")):
            ann.shows("dora", "has joined #tea")
        ann.shows("dora", "has left #tea")
        ann.types("/kick ben no biscuits for you")
        ben.shows("ann has kicked ben", "no biscuits for you")
        ann.shows("ben was kicked from #tea")


def test_a_page_hears_of_what_its_protocol_is_told(rooms: Rooms) -> None:
    """Of what a page says in a room an event stream gets its own event, and the page nothing."""
    request = urllib.request.Request(
        rooms.served.url("/rooms/hall/"), headers={"Accept": "text/event-stream"}
    )
    with (
        urllib.request.urlopen(request, timeout=10) as stream,
        connect(rooms.page("hall", "ann")) as ann,
        connect(rooms.page("hall", "ben")) as ben,
    ):
        ann.send("hi")
        assert ben.recv(10) == "<ann> hi"
        heard = b""
        while b"hi" not in heard:
            heard += stream.readline()
        assert heard.endswith(b"event: said\ndata: hi\n"), heard
        ben.send("you too")
        assert ann.recv(10) == "<ben> you too"


FRAMEWORK = """
const IRC = require("irc-framework");
const client = new IRC.Client();
const tell = (what) => console.log(JSON.stringify(what));
client.connect({ host: "127.0.0.1", port: +process.argv[2], nick: "node", username: "node",
                 auto_reconnect: false });
client.on("registered", () => client.join("#js"));
client.on("userlist", (e) => tell({ list: e.users.map((u) => u.nick).sort() }));
client.on("message", (e) => {
  tell({ type: e.type, nick: e.nick, target: e.target, message: e.message });
  if (e.type === "privmsg" && e.message === "ping") client.say("#js", "pong");
  if (e.message === "bye") client.quit("done");
});
client.on("irc error", (e) => tell({ error: e.error, reason: e.reason }));
client.on("socket close", () => process.exit(0));
"""


def test_a_library_of_node(rooms: Rooms, tmp_path: Path) -> None:
    """irc-framework, which web clients are made with, registers, joins, hears and answers."""
    if reason := npm.missing("irc-framework"):
        pytest.skip(reason)
    script = tmp_path / "client.cjs"
    script.write_text(FRAMEWORK)
    node = shutil.which("node")
    assert node is not None
    with connect(rooms.page("js", "page")) as page:
        process = subprocess.Popen(
            [node, str(script), str(rooms.irc)],
            stdout=subprocess.PIPE,
            text=True,
            env={"NODE_PATH": str(npm.HOME / "node_modules"), "PATH": "/usr/bin:/bin"},
        )
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == {"list": ["node", "page"]}
            page.send("ping")
            told = json.loads(process.stdout.readline())
            assert told == {"type": "privmsg", "nick": "page", "target": "#js", "message": "ping"}
            assert page.recv(10) == "<node> pong"
            page.send("bye")
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
