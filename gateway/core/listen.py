"""Endpoint strings: what a ``listen`` setting says, and the socket it becomes.

======================================  ====================================================
written                                 meaning
======================================  ====================================================
``8000``, ``:8000``                     TCP on the loopback interface
``127.0.0.1:8000``, ``[::1]:8000``      TCP on that address
``*:8000``, ``[::]:8000``               every IPv4 address; every IPv6 address, and those alone
``tcp:8000:interface=::1``              the same in Twisted's words, ``backlog=N`` too
``unix:/run/site.sock``                 a Unix socket, mode 0600; ``:mode=660`` opens it
``fd:3``                                a listening socket that was inherited
``systemd:``, ``systemd:web``           every socket that systemd passes, those of that name
``systemd:0``                           the first of them
``tls:`` before any of these            the same with TLS, as ``[tls]`` says: ``tls:*:443``
``udp:`` before all but ``unix:``       datagrams, for datagram plugins: ``udp:*:5140``
``ssl:…``, ``onion:…``, anything else   any other endpoint of Twisted's, for stream plugins
======================================  ====================================================

No interface means loopback: what faces the world says so. Port 0 lets the system choose.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from gateway.core.errors import ConfigError

BACKLOG = 1024
"""Connections that wait to be accepted: a second of a busy site while the process restarts."""
MAX_PATH = 107
"""Bytes of a Unix socket's path (``sun_path`` is 108 with its final NUL on Linux)."""
LOOPBACK = "127.0.0.1"
UNSENT = 128 * 1024
"""Bytes of a connection that the kernel holds before they can be sent. By itself it takes 4 MB
for a client that reads slowly, and what waits there neither `outbox_bytes` nor a worker knows of.
What is on its way is not counted, so that a fast line is as fast."""
EXPECTED = "expected a port, 'host:port', '[IPv6]:port', 'unix:/path', 'fd:N' or 'systemd:NAME'"

_ADDRESS = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<host>[^:\[\]]*))?:(?P<port>[^:]*)\Z")
_DESCRIPTION = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*:")

Wrong = Callable[[str], ConfigError]


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """One place to listen at."""

    kind: Literal["tcp", "udp", "unix", "fd", "systemd", "twisted"]
    text: str
    """As it was written."""
    setting: str = "listen"
    """The setting it comes from, for errors: ``http.listen``."""
    host: str = ""
    port: int = 0
    path: str = ""
    name: str = ""
    """The name or number of a socket that systemd passes; empty: of all of them."""
    mode: int = 0o600
    """Permissions of a Unix socket."""
    backlog: int = BACKLOG
    fd: int = -1
    """The descriptor of the socket where it is bound already, else -1."""
    spare: bool = False
    """Whether the socket is another gateway process's: what waits there long is taken over."""
    datagrams: bool = False
    """Whether the socket is one of UDP."""
    tls: bool = False
    """Whether connections begin with TLS: by ``[tls]``, or by a Twisted endpoint's own means."""

    def error(self, reason: str) -> ConfigError:
        """Return an error that names the setting and what was written."""
        return ConfigError(f"{self.setting}: {self.text!r}: {reason}")


def parse(text: str, setting: str = "listen", expected: str = EXPECTED) -> Listen:
    """Return what an endpoint string means. Touches nothing.

    Raises ConfigError that names ``setting``, the text and what it should be; ``expected`` where
    it is like nothing.
    """

    def wrong(reason: str) -> ConfigError:
        return ConfigError(f"{setting}: {text!r}: {reason}")

    if not isinstance(text, str):
        raise ConfigError(f"{setting}: an endpoint is text such as '127.0.0.1:8000', not {text!r}")
    words = text.strip()
    if words[:4].lower() == "tls:":
        return _tls(text, setting, words[4:].strip(), wrong)
    if words[:4].lower() == "udp:":
        return _udp(text, setting, words[4:].strip(), wrong)
    if not words:
        raise ConfigError(f"{setting}: an endpoint is empty; write a port such as '8000'")
    if words.isdecimal():
        return Listen(
            kind="tcp", text=text, setting=setting, host=LOOPBACK, port=_port(words, wrong)
        )
    scheme, _, rest = words.partition(":")
    match scheme.lower():
        case "tcp":
            return _tcp(text, setting, rest, wrong)
        case "unix":
            return _unix(text, setting, rest, wrong)
        case "fd":
            if not rest.isdecimal():
                raise wrong("after 'fd:' comes the number of a descriptor, as in 'fd:3'")
            return Listen(kind="fd", text=text, setting=setting, fd=int(rest))
        case "systemd":
            if ":" in rest or "=" in rest:
                raise wrong("after 'systemd:' comes a socket's name or number, as in 'systemd:0'")
            return Listen(kind="systemd", text=text, setting=setting, name=rest)
        case "http" | "https" | "ws" | "wss" if rest.startswith("//"):
            raise wrong("this is a URL; write host and port alone, as in '127.0.0.1:8000'")
    found = _ADDRESS.match(words)
    if found is not None and (found["six"] is not None or "=" not in words):
        six = found["six"]
        host = six if six is not None else found["host"]
        if six is not None and not _is_ipv6(six):
            raise wrong(f"{six!r} is not an IPv6 address")
        port = _port(found["port"], wrong)
        host = {"": LOOPBACK, "*": "0.0.0.0"}.get(host, host)  # noqa: S104 - asked for by "*"
        return Listen(kind="tcp", text=text, setting=setting, host=host, port=port)
    if _is_ipv6(words.rpartition(":")[0]):
        raise wrong("put an IPv6 address in brackets, as in '[::1]:8000'")
    if words.startswith("/"):
        raise wrong(f"write 'unix:{words}' for a Unix socket")
    if _DESCRIPTION.match(words):
        return Listen(kind="twisted", text=text, setting=setting, tls=scheme.lower() == "ssl")
    raise wrong(expected)


def _tls(text: str, setting: str, rest: str, wrong: Wrong) -> Listen:
    if not rest or rest.startswith("//"):
        raise wrong("after 'tls:' comes where to listen, as in 'tls:*:443'")
    try:
        found = parse(rest, setting)
    except ConfigError as error:
        raise wrong(str(error).removeprefix(f"{setting}: {rest!r}: ")) from None
    if found.datagrams:
        raise wrong("there is no TLS over datagrams; leave out 'tls:'")
    if found.kind == "twisted":
        raise wrong("after 'tls:' comes a port, 'host:port', 'unix:/path', 'fd:N' or 'systemd:'")
    if found.tls:
        raise wrong("'tls:' stands there twice")
    return msgspec.structs.replace(found, text=text, tls=True)


def _udp(text: str, setting: str, rest: str, wrong: Wrong) -> Listen:
    try:
        found = parse(rest, setting)
    except ConfigError:
        found = None
    if found is None or found.tls or found.datagrams or found.kind not in {"tcp", "fd", "systemd"}:
        raise wrong(
            "after 'udp:' comes a port, 'host:port', '[IPv6]:port', 'fd:N' or 'systemd:NAME', as "
            "in 'udp:127.0.0.1:5140'"
        )
    kind = "udp" if found.kind == "tcp" else found.kind
    return msgspec.structs.replace(found, kind=kind, text=text, datagrams=True)


def _port(text: str, wrong: Wrong) -> int:
    if not text.isdecimal() or not text.isascii():
        raise wrong(f"{text!r} is not a port; a port is a number from 0 to 65535")
    if int(text) > 65535:
        raise wrong(f"port {text} is over 65535")
    return int(text)


def _tcp(text: str, setting: str, rest: str, wrong: Wrong) -> Listen:
    # Twisted escapes the colons of an IPv6 address; here a piece without "=" after a keyword
    # belongs to the keyword's value, so both ways of writing it work.
    pieces = rest.replace("\\:", ":").split(":")
    port = _port(pieces[0], wrong)
    options: dict[str, str] = {}
    last = ""
    for piece in pieces[1:]:
        key, mark, value = piece.partition("=")
        if mark:
            last = key
            options[key] = value
        elif last:
            options[last] += ":" + piece
        else:
            raise wrong("after the port come options such as 'interface=127.0.0.1'")
    unknown = set(options) - {"interface", "backlog"}
    if unknown:
        raise wrong(f"unknown option {min(unknown)!r}; known are 'interface' and 'backlog'")
    backlog = options.get("backlog", str(BACKLOG))
    if not backlog.isdecimal() or int(backlog) < 1:
        raise wrong(f"backlog is a number of connections, not {backlog!r}")
    host = options.get("interface", "") or LOOPBACK
    return Listen(
        kind="tcp", text=text, setting=setting, host=host, port=port, backlog=int(backlog)
    )


def _unix(text: str, setting: str, rest: str, wrong: Wrong) -> Listen:
    path, *options = rest.split(":")
    mode = "600"
    for option in options:
        key, _, value = option.partition("=")
        if key != "mode" or not re.fullmatch("0?[0-7]{3}", value):
            raise wrong(f"{option!r} is no option of a Unix socket; only 'mode=660' is")
        mode = value
    path = path.removeprefix("//")
    if not path:
        raise wrong("after 'unix:' comes a path, as in 'unix:/run/site.sock'")
    path = str(Path(path).absolute())
    return Listen(kind="unix", text=text, setting=setting, path=path, mode=int(mode, 8))


def _is_ipv6(text: str) -> bool:
    with contextlib.suppress(OSError):
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
        return True
    return False


def bind(listen: Listen, *, shared: bool = False) -> socket.socket:
    """Return the listening socket, non-blocking; the caller closes it.

    ``shared``: others of this user may be bound to the same address (SO_REUSEPORT).
    Of one that is bound already (``fd``) it is a duplicate: who bound it closes its own.
    Raises ConfigError that names the setting for an address in use, one that is not this
    machine's, missing permission, a path that is too long or taken; ValueError for kinds
    ``twisted``, which has no socket of its own, and ``systemd``, which may have several
    (`gateway.core.listeners`).
    """
    if listen.fd >= 0:
        return _adopt(listen)
    if listen.kind == "unix":
        return _bind_unix(listen)
    if listen.kind not in {"tcp", "udp"}:
        raise ValueError(f"{listen.text!r} is no socket of its own: a {listen.kind} endpoint")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            listen.host,
            listen.port,
            type=socket.SOCK_DGRAM if listen.datagrams else socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
    except (OSError, UnicodeError) as error:
        raise listen.error(f"{listen.host!r} is no address of this machine ({error})") from None
    sock = socket.socket(family, kind, proto)
    try:
        if not listen.datagrams:  # there it would let another socket take what is for this one
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _bound_unsent(sock)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # An address means itself: [::] does not take the IPv4 port along.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        if not listen.datagrams:
            sock.listen(listen.backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise listen.error(_reason(error, listen)) from None
    return sock


def bind_several(listen: Listen, count: int) -> list[socket.socket]:
    """Return ``count`` sockets of one address, over which the kernel spreads connections.

    Of UDP it spreads the peers: the datagrams of one all come to the same socket.
    Raises ConfigError as `bind` does.
    """
    # Alone first: another server of this user that shares its port, too, would share ours.
    with bind(listen) as alone:
        listen = msgspec.structs.replace(listen, port=alone.getsockname()[1])
    with contextlib.ExitStack() as opened:
        found = [opened.enter_context(bind(listen, shared=True)) for _ in range(count)]
        opened.pop_all()
    return found


def _adopt(listen: Listen) -> socket.socket:
    try:
        sock = socket.socket(fileno=os.dup(listen.fd))
    except OSError:
        raise listen.error(
            f"descriptor {listen.fd} is not a socket; the process that starts the gateway passes it"
        ) from None
    if listen.datagrams:
        if sock.type == socket.SOCK_DGRAM and sock.family in {socket.AF_INET, socket.AF_INET6}:
            sock.setblocking(False)
            return sock
        sock.close()
        unit = "; its .socket unit needs ListenDatagram=" if listen.kind == "systemd" else ""
        raise listen.error(f"descriptor {listen.fd} is not a UDP socket{unit}")
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        sock.close()
        unit = "; its .socket unit needs ListenStream= and Accept=no"
        raise listen.error(
            f"descriptor {listen.fd} is not a listening stream socket"
            + (unit if listen.kind == "systemd" else "")
        )
    sock.setblocking(False)
    _bound_unsent(sock)
    return sock


def _bound_unsent(sock: socket.socket) -> None:
    """Have the connections of a listening TCP socket keep to `UNSENT`, where the system can."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT)


def _bind_unix(listen: Listen) -> socket.socket:
    path = listen.path
    if len(os.fsencode(path)) > MAX_PATH:
        raise listen.error(f"the path is over {MAX_PATH} bytes, the limit for Unix sockets")
    if not remove_stale(path):
        raise listen.error("another process listens there; stop it or choose another path")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before bind, so that the file never has a wider mode (Linux makes it with the
        # socket's own); after it, because the umask may have narrowed that.
        os.fchmod(sock.fileno(), listen.mode)
        sock.bind(path)
        Path(path).chmod(listen.mode)
        sock.listen(listen.backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise listen.error(_reason(error, listen)) from None
    return sock


def remove_stale(path: str) -> bool:
    """Remove the socket file at ``path`` if nobody answers there; say whether it is free now.

    A file that is no socket is left alone, and not free.
    """
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            return False
    except OSError:
        return True
    if answers(path):
        return False
    Path(path).unlink(missing_ok=True)
    return True


def answers(path: str) -> bool:
    """Return whether somebody accepts connections on the Unix socket at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its backlog is full: alive and busy
        except OSError as error:
            # Only a refused or missing socket is dead; one we may not open is not ours.
            return error.errno not in {errno.ECONNREFUSED, errno.ENOENT}
    return True


def place(sock: socket.socket) -> str:
    """Return where a bound socket listens: ``127.0.0.1:8000``, ``udp:[::1]:53``, ``unix:/path``."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{'udp:' if sock.type == socket.SOCK_DGRAM else ''}{host}:{name[1]}"


def _reason(error: OSError, listen: Listen) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the address is in use; stop what listens there or choose another port"
        case errno.EACCES | errno.EPERM if listen.kind in {"tcp", "udp"}:
            return (
                "permission denied: ports under 1024 need privileges; choose a higher port, or "
                "grant CAP_NET_BIND_SERVICE"
            )
        case errno.EADDRNOTAVAIL:
            return f"{listen.host} is no address of this machine"
        case errno.ENOENT | errno.ENOTDIR:
            return f"the directory {Path(listen.path).parent} does not exist"
    return error.strerror or str(error)
