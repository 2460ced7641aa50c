"""Real servers of IRC, their services, and people on them; all on loopback."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, ClassVar, Self

import irc.client
import trustme

from gateway.testing.stage import wait_until
from tests.house.serving import free_port, wait_for_listener


class Server:
    """A process that may be killed, and started again."""

    program: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder / f"{self.program}-{self.port}"
        self.folder.mkdir()
        self.folder.chmod(0o777)  # some give root's rights up
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be had; empty: it can."""
        return "" if shutil.which(cls.program) else f"there is no {cls.program}"

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Write its settings; return how it is started."""
        raise NotImplementedError

    def start(self) -> None:
        command = self.command()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_for_listener(self.port, self._process, 10)  # type: ignore[arg-type] # of bytes
        except AssertionError:
            print((self.folder / "log").read_text(errors="replace")[-3000:])
            raise

    def stop(self, how: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def freeze(self, frozen: bool = True) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Ngircd(Server):
    """ngIRCd: small, with few capabilities, and a penalty for who is too fast."""

    program = "ngircd"

    def __init__(self, folder: Path, name: str = "one.test", **options: Any) -> None:
        super().__init__(folder)
        self.name = name
        self.options = options
        self.peers: list[tuple[Ngircd, bool]] = []

    def link(self, other: Ngircd) -> None:
        """Have the other one connect to this one."""
        self.peers.append((other, False))
        other.peers.append((self, True))

    def command(self) -> list[str]:
        options = self.options
        lines = [
            "[Global]",
            f"Name = {self.name}",
            "Info = test",
            "Listen = 127.0.0.1",
            f"Ports = {self.port}",
            "MotdPhrase = welcome",
            "AdminEMail = a@b.test",
            f"Password = {options.get('password', '')}",
            "[Limits]",
            "MaxNickLength = 20",
            "MaxConnectionsIP = 0",
            f"MaxPenaltyTime = {options.get('penalty', 0)}",
            "ConnectRetry = 5",
            "[Options]",
            "DNS = no",
            "Ident = no",
            "PAM = no",
            "OperCanUseMode = yes",
            "[Operator]",
            "Name = oper",
            "Password = oper",
        ]
        for peer, calls in self.peers:
            lines += [
                "[Server]",
                f"Name = {peer.name}",
                "MyPassword = link",
                "PeerPassword = link",
                *([f"Host = 127.0.0.1\nPort = {peer.port}"] if calls else ["Passive = yes"]),
            ]
        (self.folder / "ngircd.conf").write_text("\n".join([*lines, ""]))
        return ["ngircd", "-n", "-f", str(self.folder / "ngircd.conf")]


MODULES = (
    "botmode cap cloaking ircv3 ircv3_accounttag ircv3_batch ircv3_capnotify ircv3_chghost "
    "ircv3_ctctags ircv3_echomessage ircv3_labeledresponse ircv3_msgid ircv3_servertime monitor "
    "namesx sasl services_account setname sha256 spanningtree ssl_gnutls sslinfo"
)


class Inspircd(Server):
    """InspIRCd, with the capabilities of IRCv3; with Atheme's services if they are asked for."""

    program = "inspircd"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tls_port = free_port()
        self.link_port = free_port()
        self.authority = trustme.CA()
        self.ca = str(self.folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)
        own = self.authority.issue_cert("localhost")
        own.private_key_and_cert_chain_pem.write_to_path(self.folder / "tls.pem")

    def certificate(self, name: str) -> str:
        """A certificate of somebody's, and its key, in a file."""
        path = self.folder / f"{name}.pem"
        issued = self.authority.issue_cert(f"{name}@people.test")
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        return str(path)

    @property
    def where_tls(self) -> str:
        return f"tls:localhost:{self.tls_port}"

    def command(self) -> list[str]:
        folder = self.folder
        names = {
            "account_tag": "ircv3_accounttag",
            **{
                short: f"ircv3_{short}"
                for short in [
                    "batch",
                    "capnotify",
                    "chghost",
                    "ctctags",
                    "echomessage",
                    "labeledresponse",
                    "msgid",
                    "servertime",
                ]
            },
        }
        modules = sorted({names.get(one, one) for one in MODULES.split()})
        lines = [f'<module name="{one}">' for one in modules]
        lines += [
            '<server name="insp.test" description="test" network="Test">',
            '<admin name="a" nick="a" email="a@b.test">',
            f'<bind address="127.0.0.1" port="{self.port}" type="clients">',
            f'<bind address="127.0.0.1" port="{self.link_port}" type="servers">',
            '<connect name="main" allow="*" timeout="20" threshold="1000" commandrate="100000"',
            'fakelag="no" recvq="64K" localmax="1000" globalmax="1000" modes="+x">',
            '<cloak mode="half" key="0123456789012345678901234567890123456789">',
            '<class name="all" commands="*" privs="*" usermodes="*" chanmodes="*">',
            '<type name="oper" classes="all">',
            '<oper name="oper" password="oper" host="*@*" type="oper">',
            '<link name="services.test" ipaddr="127.0.0.1" allowmask="127.0.0.1"',
            f'port="{self.link_port}" sendpass="link" recvpass="link">',
            '<uline server="services.test" silent="yes">',
            '<sasl target="services.test">',
            '<performance nouserdns="yes">',
            '<options prefixquit="" exemptchanops="">',
            '<channels users="100" opers="100">',
            f'<pid file="{folder}/pid">',
            '<sslprofile name="tls" provider="gnutls" requestclientcert="yes" hash="sha256"',
            f'certfile="{folder}/tls.pem" keyfile="{folder}/tls.pem">',
            f'<bind address="127.0.0.1" port="{self.tls_port}" type="clients" sslprofile="tls">',
            f'<files motd="{folder}/motd">',
            f'<path configdir="{folder}" datadir="{folder}" logdir="{folder}"',
            f'runtimedir="{folder}" moduledir="/usr/lib/inspircd/modules">',
        ]
        (folder / "motd").write_text("welcome\n")
        (folder / "inspircd.conf").write_text("\n".join([*lines, ""]))
        config = str(folder / "inspircd.conf")
        return ["inspircd", "--nofork", "--runasroot", "--nopid", "--config", config]


SERVICES = (
    "protocol/inspircd backend/opensex crypto/pbkdf2v2 nickserv/main nickserv/register "
    "nickserv/identify nickserv/ghost nickserv/cert nickserv/regain saslserv/main saslserv/plain "
    "saslserv/external"
)


class Atheme(Server):
    """The services of a network: NickServ, and who knows the accounts for SASL."""

    program = "atheme-services"

    def __init__(self, folder: Path, network: Inspircd) -> None:
        super().__init__(folder)
        self._network = network
        folder.chmod(0o755)  # it refuses root's rights

    def command(self) -> list[str]:
        lines = [f'loadmodule "modules/{one}";' for one in SERVICES.split()]
        lines += [
            'serverinfo { name = "services.test"; desc = "services"; numeric = "00A"; recontime = 1;',
            'netname = "Test"; adminname = "a"; adminemail = "a@b.test"; registeremail = "a@b.test";',
            "auth = none; casemapping = rfc1459; maxlogins = 50; maxusers = 0; };",
            f'uplink "insp.test" {{ host = "127.0.0.1"; port = {self._network.link_port};',
            'send_password = "link"; receive_password = "link"; };',
            'nickserv { nick = "NickServ"; user = "services"; host = "services.test"; real = "n"; };',
            'saslserv { nick = "SaslServ"; user = "services"; host = "services.test"; real = "s"; };',
        ]
        (self.folder / "atheme.conf").write_text("\n".join([*lines, ""]))
        folder = str(self.folder)
        return [
            "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
            "atheme-services", "-n", "-c", f"{folder}/atheme.conf", "-D", folder,
            "-l", f"{folder}/atheme.log", "-p", f"{folder}/pid",
        ]  # fmt: skip

    def start(self) -> None:
        command = self.command()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        with Person(self._network.port, "starter") as somebody:
            wait_until(lambda: self._knows(somebody), 15)

    def _knows(self, somebody: Person) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        somebody.raw("ISON NickServ")
        return "NickServ" in somebody.wait("ison")[0]


class Person:
    """Somebody on a network, by the client of the package irc."""

    def __init__(self, port: int, nick: str, *channels: str, password: str | None = None) -> None:
        self._reactor = irc.client.Reactor()
        self.nick = nick
        self.heard: list[tuple[str, str, str, list[str]]] = []
        """(command, nick or server, target, arguments)"""
        self._reactor.add_global_handler("all_events", self._event, -10)
        self._over = threading.Event()
        self.connection = self._reactor.server()
        self.connection.buffer_class.errors = "replace"
        self.connection.connect("127.0.0.1", port, nick, password=password)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.wait("welcome")
        for channel in channels:
            self.join(channel)

    def _run(self) -> None:
        while not self._over.is_set():
            self._reactor.process_once(0.02)

    def _event(self, connection: Any, event: Any) -> None:
        source = "" if event.source is None else str(event.source).partition("!")[0]
        self.heard.append((event.type, source, str(event.target), list(event.arguments)))

    def wait(self, kind: str, source: str | None = None, text: str | None = None) -> list[str]:
        """Wait for an event, and forget all up to it; return its arguments."""

        def found() -> list[str] | None:
            for place, (what, who, _, words) in enumerate(self.heard):
                if what == kind and source in {None, who} and text in {None, *words[-1:]}:
                    del self.heard[: place + 1]
                    return [*words, ""]
            return None

        try:
            return wait_until(found, 10)[:-1]
        except AssertionError:
            raise AssertionError(f"{self.nick} heard no {kind}; but {self.heard[-20:]}") from None

    def join(self, channel: str, key: str = "") -> None:
        self.connection.join(channel, key)
        self.wait("endofnames")

    def say(self, target: str, text: str) -> None:
        self.connection.privmsg(target, text)

    def raw(self, line: str) -> None:
        self.connection.send_raw(line)

    def oper(self) -> None:
        self.raw("OPER oper oper")
        self.wait("youreoper")

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)
        self.connection.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
