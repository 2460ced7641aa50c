"""Exim as a smarthost: the server that Debian installs, in a directory of the test's."""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

from gateway.testing.stage import wait_until

EXIM = shutil.which("exim4") or shutil.which("exim")
MISSING = "" if EXIM else "exim4 is not installed (Debian: exim4-daemon-light)"

CONFIG = """\
primary_hostname = exim.example
domainlist local_domains = example.net
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/pid
exim_user = {user}
exim_group = {group}
never_users =
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
tls_advertise_hosts = *
tls_certificate = {folder}/server.pem
smtp_accept_max = 100
acl_smtp_rcpt = rcpt
acl_smtp_data = data
chunking_advertise_hosts =
smtputf8_advertise_hosts = *
message_size_limit = 10M
keep_environment =
begin acl
rcpt:
  deny message = unknown user
       local_parts = nobody
  accept authenticated = *
         domains = +local_domains
  deny message = who are you
data:
  accept
begin routers
local:
  driver = accept
  domains = +local_domains
  transport = mbox
begin transports
mbox:
  driver = appendfile
  file = {folder}/mbox
  create_directory
  user = {user}
  group = {group}
  mode = 0600
  mode_fail_narrower = false
  check_owner = false
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{us}}}}{{eq{{$auth3}}{{secret}}}}}}}}
  server_set_id = $auth2
"""


class Exim:
    """The server, which keeps what it takes for example.net in an mbox."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]

    def __enter__(self):
        import trustme

        authority = trustme.CA()
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
            self.folder / "server.pem"
        )
        self.ca = str(self.folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca)
        path = self.folder / "exim.conf"
        # As root Exim delivers as nobody but its own user.
        user = "Debian-exim" if os.getuid() == 0 else getpass.getuser()
        group = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
        if os.getuid() == 0:
            for one in (self.folder, *self.folder.iterdir()):
                shutil.chown(one, user, group)
        path.write_text(CONFIG.format(folder=self.folder, port=self.port, user=user, group=group))
        path.chmod(0o644)
        self.log = (self.folder / "out").open("wb")
        self._process = subprocess.Popen(
            [EXIM, "-C", str(path), "-bdf", "-q30m"], stdout=self.log, stderr=self.log
        )
        wait_until(self._answers, 10.0)
        return self

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError((self.folder / "out").read_text())
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(10)
        self.log.close()

    def mails(self) -> list:
        import mailbox

        path = self.folder / "mbox"
        if not path.exists():
            return []
        box = mailbox.mbox(path, create=False)
        try:
            return list(box)
        finally:
            box.close()
