"""Endpoint strings and the sockets they become."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from gateway.core.errors import ConfigError
from gateway.core.listen import answers, bind, bind_several, parse, place, remove_stale


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8000", "127.0.0.1", 8000),
        (":8000", "127.0.0.1", 8000),
        (" 8000 ", "127.0.0.1", 8000),
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("localhost:0", "localhost", 0),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("*:80", "0.0.0.0", 80),
        ("[::1]:8000", "::1", 8000),
        ("tcp:8000", "127.0.0.1", 8000),
        ("tcp:8000:interface=::1", "::1", 8000),
        (r"tcp:8000:interface=\:\:1", "::1", 8000),
        ("tcp:8000:interface=0.0.0.0", "0.0.0.0", 8000),
    ],
)
def test_tcp(text, host, port):
    """Every way to write a TCP endpoint gives host and port; no interface means loopback."""
    listen = parse(text)
    assert (listen.kind, listen.host, listen.port) == ("tcp", host, port)


def test_several_sockets_at_one_address():
    """The kernel spreads connections over them; each keeps its own queue."""
    sockets = bind_several(parse("127.0.0.1:0"), 3)
    clients = []
    try:
        port = sockets[0].getsockname()[1]
        assert {sock.getsockname() for sock in sockets} == {("127.0.0.1", port)}
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
        accepted = []
        for sock in sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    client, _ = sock.accept()
                    client.close()
                    accepted.append(sock)
        assert len(accepted) == 60
        assert set(accepted) == set(sockets)
    finally:
        for sock in (*sockets, *clients):
            sock.close()


def test_several_sockets_share_with_nobody_else():
    """A second server on the address is an error, although the system would let it share."""
    sockets = bind_several(parse("127.0.0.1:0"), 2)
    try:
        port = sockets[0].getsockname()[1]
        with pytest.raises(ConfigError, match="the address is in use"):
            bind_several(parse(f"127.0.0.1:{port}"), 2)
        with pytest.raises(ConfigError, match="the address is in use"):
            bind(parse(f"127.0.0.1:{port}"))
    finally:
        for sock in sockets:
            sock.close()


def test_backlog():
    """Twisted's backlog option is kept."""
    assert parse("tcp:8000:interface=::1:backlog=7").backlog == 7


def test_unix():
    """A Unix socket has a path and mode 0600 unless it says otherwise."""
    assert (parse("unix:/run/s").path, parse("unix:/run/s").mode) == ("/run/s", 0o600)
    assert parse("unix:///run/s:mode=660").mode == 0o660
    assert parse("unix:s").path == str(Path.cwd() / "s")


def test_fd():
    """An inherited descriptor is named by its number."""
    assert (parse("fd:3").kind, parse("fd:3").fd) == ("fd", 3)


def test_twisted():
    """Any other description is left to Twisted, for stream plugins."""
    assert parse("ssl:443:privateKey=k.pem").kind == "twisted"
    assert parse("ssl:443:privateKey=k.pem").tls
    assert not parse("onion:80").tls


@pytest.mark.parametrize(
    "text",
    [
        "8443",
        ":8443",
        "*:443",
        "127.0.0.1:443",
        "[::1]:443",
        "tcp:443:interface=::1:backlog=7",
        "unix:/run/site.sock:mode=660",
        "fd:3",
        "systemd:web",
    ],
)
@pytest.mark.parametrize("prefix", ["tls:", "TLS:", " tls: "])
def test_tls(text, prefix):
    """``tls:`` stands before any endpoint that http listens at, and changes nothing else."""
    found = parse(prefix + text)
    assert found.tls
    plain = parse(text)
    assert not plain.tls
    assert found == msgspec.structs.replace(plain, text=prefix + text, tls=True)


@pytest.mark.parametrize("text", ["5140", "*:53", "[::1]:53", "fd:3", "systemd:dns"])
def test_udp(text):
    """``udp:`` stands before an address or a passed socket, and makes it one of datagrams."""
    found = parse("udp:" + text)
    plain = parse(text)
    kind = "udp" if plain.kind == "tcp" else plain.kind
    assert found == msgspec.structs.replace(plain, text="udp:" + text, kind=kind, datagrams=True)
    assert not plain.datagrams


def test_udp_bound():
    """A UDP endpoint is bound to one address of its family; a port in use is refused by name."""
    with bind(parse("udp:127.0.0.1:0")) as sock:
        assert sock.type == socket.SOCK_DGRAM
        assert place(sock) == f"udp:127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"^echo\.listen: .*the address is in use"):
            bind(parse(place(sock), "echo.listen"))


def test_udp_shared():
    """Of several sockets at one UDP address each peer has one, always the same."""
    socks = bind_several(parse("udp:127.0.0.1:0"), 3)
    with contextlib.ExitStack() as opened:
        for sock in socks:
            opened.enter_context(sock)
        seen = set()
        for _ in range(40):
            client = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.connect(socks[0].getsockname())
            for _ in range(3):
                client.send(b"x")
            counts = [_drained(sock) for sock in socks]
            assert sorted(counts) == [0, 0, 3]
            seen.add(counts.index(3))
        assert seen == {0, 1, 2}


def _drained(sock):
    count = 0
    with contextlib.suppress(BlockingIOError):
        while sock.recv(100):
            count += 1
    return count


def test_systemd():
    """Sockets that systemd passes: all, by name, by number."""
    for word in ("", "web", "web.socket", "0", "12"):
        listen = parse(f"systemd:{word}")
        assert (listen.kind, listen.name, listen.fd) == ("systemd", word, -1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("foo", "expected a port"),
        ("127.0.0.1:", "not a port"),
        ("127.0.0.1:http", "'http' is not a port"),
        ("127.0.0.1:99999", "over 65535"),
        ("70000", "over 65535"),
        ("::1:8000", r"brackets, as in '\[::1\]:8000'"),
        ("[zz]:80", "not an IPv6 address"),
        ("/run/site.sock", "write 'unix:/run/site.sock'"),
        ("http://127.0.0.1:8000", "this is a URL"),
        ("tcp:", "not a port"),
        ("tcp:80:foo", "after the port come options"),
        ("tcp:80:foo=1", "unknown option 'foo'"),
        ("tcp:80:backlog=many", "backlog is a number"),
        ("unix:", "comes a path"),
        ("unix:/x:mode=999", "only 'mode=660' is"),
        ("unix:/x:owner=me", "only 'mode=660' is"),
        ("fd:three", "number of a descriptor"),
        ("systemd:domain=INET:index=0", "name or number, as in 'systemd:0'"),
        ("systemd:a:b", "name or number"),
        ("tls:", r"where to listen, as in 'tls:\*:443'"),
        ("tls:tls:443", "stands there twice"),
        ("tls:70000", "'tls:70000': port 70000 is over 65535"),
        ("tls:onion:443:x=y", "after 'tls:' comes a port"),
        ("tls://0.0.0.0:443", "comes where to listen"),
        ("tls:udp:53", "no TLS over datagrams; leave out 'tls:'"),
        ("udp:", "after 'udp:' comes a port"),
        ("udp:unix:/run/log", "after 'udp:' comes a port"),
        ("udp:tls:53", "after 'udp:' comes a port"),
        ("udp:udp:53", "after 'udp:' comes a port"),
        ("udp:127.0.0.1:snmp", "as in 'udp:127.0.0.1:5140'"),
    ],
)
def test_slips(text, says):
    """Every slip is a ConfigError that names the setting, the text and what to write."""
    with pytest.raises(ConfigError, match=says) as caught:
        parse(text, "http.listen")
    assert str(caught.value).startswith("http.listen: ")


def test_what_is_no_text():
    """A number where an endpoint belongs is refused by name."""
    with pytest.raises(ConfigError, match=r"http\.listen.*not 8000"):
        parse(8000, "http.listen")


def test_bind_tcp():
    """A bound socket listens at a port that the system chose; `place` names it."""
    with bind(parse("127.0.0.1:0")) as sock, socket.create_connection(sock.getsockname()):
        assert place(sock) == f"127.0.0.1:{sock.getsockname()[1]}"


def unread(listening):
    """Return how much a connection takes whose other end does not read."""
    with socket.create_connection(listening.getsockname()) as client, listening.accept()[0] as ours:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += ours.send(bytes(65536))
        return sent


def test_what_the_kernel_holds():
    """The kernel holds little for a client that does not read, on our sockets and inherited ones."""
    with bind(parse("0")) as sock:
        sock.setblocking(True)
        assert unread(sock) < 512 * 1024
    theirs = socket.create_server(("127.0.0.1", 0))
    with theirs, bind(parse(f"fd:{theirs.fileno()}")) as sock:
        sock.setblocking(True)
        assert unread(sock) < 512 * 1024


def test_bind_ipv6():
    """An IPv6 address is bound and named in brackets."""
    with bind(parse("[::1]:0")) as sock, socket.create_connection(sock.getsockname()[:2]):
        assert place(sock).startswith("[::1]:")


def test_both_families_are_two_endpoints():
    """``[::]`` is IPv6 alone, so that it and ``*`` share a port; together they are everybody."""
    with bind(parse("[::]:0")) as six:
        port = six.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with bind(parse(f"*:{port}")) as four:
            assert (place(four), place(six)) == (f"0.0.0.0:{port}", f"[::]:{port}")
            socket.create_connection(("127.0.0.1", port)).close()
            socket.create_connection(("::1", port)).close()
            for sock, host in ((four, "127.0.0.1"), (six, "::1")):
                accepted, peer = sock.accept()
                accepted.close()
                assert peer[0] == host


def test_address_in_use():
    """A taken port is a ConfigError that names setting and remedy."""
    with bind(parse("127.0.0.1:0")) as sock:
        taken = place(sock)
        with pytest.raises(ConfigError, match=r"mqtt\.listen: .* in use; stop what listens"):
            bind(parse(taken, "mqtt.listen"))


def test_foreign_address():
    """An address of another machine is refused by name."""
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1 is no address of this machine"):
        bind(parse("192.0.2.1:0"))


def test_unknown_host():
    """A host name that cannot be one is refused by name."""
    with pytest.raises(ConfigError, match="no address of this machine"):
        bind(parse("no..host:0"))


def test_unix_mode(tmp_path):
    """A Unix socket has exactly the mode that was asked for, whatever the umask."""
    before = os.umask(0o077)
    try:
        for mode in ("600", "666"):
            path = tmp_path / mode
            with bind(parse(f"unix:{path}:mode={mode}")) as sock:
                assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
                assert place(sock) == f"unix:{path}"
    finally:
        os.umask(before)


def test_stale_unix_socket_is_replaced(tmp_path):
    """A socket file that nobody serves is removed and bound anew."""
    listen = parse(f"unix:{tmp_path}/s")
    bind(listen).close()
    with bind(listen):
        assert answers(listen.path)


def test_live_unix_socket_is_left_alone(tmp_path):
    """A socket that somebody serves is never taken over."""
    listen = parse(f"unix:{tmp_path}/s", "http.listen")
    with bind(listen):
        with pytest.raises(ConfigError, match="another process listens there"):
            bind(listen)
        assert answers(listen.path)


def test_other_files_are_left_alone(tmp_path):
    """A file that is no socket is not removed."""
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ConfigError):
        bind(parse(f"unix:{path}"))
    assert path.read_text() == "precious"
    assert not remove_stale(str(path))


def test_missing_directory(tmp_path):
    """A Unix socket in no directory is refused by the directory's name."""
    with pytest.raises(ConfigError, match="nowhere does not exist"):
        bind(parse(f"unix:{tmp_path}/nowhere/s"))


def test_long_path(tmp_path):
    """A path over the limit of Unix sockets is refused with the limit."""
    with pytest.raises(ConfigError, match="over 107 bytes"):
        bind(parse(f"unix:/{'x' * 200}"))


def test_inherited_descriptor_is_duplicated():
    """A descriptor that another holds is used through a duplicate, which outlives it."""
    with bind(parse("127.0.0.1:0")) as sock:
        copy = bind(parse(f"fd:{sock.fileno()}"))
        address = sock.getsockname()
    with copy, socket.create_connection(address):
        pass


@pytest.mark.parametrize("what", ["closed", "not listening", "a file"])
def test_bad_descriptor(what, tmp_path):
    """A descriptor that is no listening socket is refused by its number."""
    with socket.socket() as sock, (tmp_path / "f").open("w") as file:
        number = {"closed": 9999, "not listening": sock.fileno(), "a file": file.fileno()}[what]
        with pytest.raises(ConfigError, match=f"descriptor {number} is not a"):
            bind(parse(f"fd:{number}"))
        if what == "not listening":
            assert sock.fileno() == number  # still open


@pytest.mark.parametrize("text", ["ssl:443:privateKey=k.pem", "systemd:"])
def test_endpoints_without_a_socket_of_their_own(text):
    """Binding a Twisted endpoint, or what systemd passes, is the caller's mistake."""
    with pytest.raises(ValueError, match="no socket of its own"):
        bind(parse(text))
