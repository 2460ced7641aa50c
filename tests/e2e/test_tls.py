"""A whole gateway over TLS: Django over https, and certificates that change while it runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import urllib.request

import pytest

from tests.certificates import Authority
from tests.e2e.serving import Served, wait_until
from tests.house.serving import free_port, wait_for_listener


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def certificate(authority, tmp_path):
    """The path of a certificate and its key, to be written over."""
    path = tmp_path / "site.pem"
    shutil.copy(authority.issue("site", "127.0.0.1"), path)
    return path


def secure(folder, certificate, *options, **more):
    listen = ("--listen", "tls:127.0.0.1:0", "--set", f"tls.certificate={certificate}")
    return Served(folder, *listen, *options, **more)


def port(site):
    return int(re.search(r"https://127\.0\.0\.1:(\d+)", site.text())[1])


def serial(site, authority):
    """The serial number of the certificate that a new connection is shown."""
    with (
        ssl.create_connection(("127.0.0.1", port(site)), 5) as plain,
        authority.client().wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        return sock.getpeercert()["serialNumber"]


def test_django_over_https(tmp_path, certificate, authority):
    """A Django view answers over https; the same gateway serves http beside it."""
    with secure(tmp_path, certificate) as site:
        url = f"https://127.0.0.1:{port(site)}/pid"
        with urllib.request.urlopen(url, context=authority.client(), timeout=10) as response:
            assert response.read() == site.get("/pid")[1]


@pytest.mark.parametrize("how", ["SIGHUP", "watch"])
def test_new_certificate(tmp_path, certificate, authority, how):
    """A new certificate is shown after SIGHUP, or once the files have changed; a broken one not."""
    with secure(
        tmp_path, certificate, "--set", f"tls.watch={0.1 if how == 'watch' else 0}"
    ) as site:
        first = serial(site, authority)
        shutil.copy(authority.issue("fresh", "127.0.0.1"), certificate)
        if how == "SIGHUP":
            site._process.send_signal(signal.SIGHUP)
        wait_until(lambda: serial(site, authority) != first)
        second = serial(site, authority)
        certificate.write_text("no certificate at all")
        if how == "SIGHUP":
            site._process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the certificate in use stays" in site.text())
        assert serial(site, authority) == second
        assert site.numbers()['gateway_tls_reloads_total{result="done"}'] == 1
        assert site.numbers()['gateway_tls_reloads_total{result="failed"}'] >= 1
        assert site.stop() == 0


def test_hangup_of_everything(tmp_path, certificate, authority):
    """A SIGHUP to every process at once, as a terminal sends it, is a reload like any other."""
    with secure(tmp_path, certificate) as site:
        (gateway,), (worker,) = (site.processes()[role] for role in ("gateway", "worker"))
        for one in (site._process.pid, gateway, worker):
            os.kill(one, signal.SIGHUP)
        wait_until(lambda: "reloaded" in site.text())
        assert site.get("/pid")[0] == 200
        wait_until(lambda: len(found := site.processes()["worker"]) == 1 and found != [worker])
        assert site.processes()["gateway"] == [gateway]
        assert "killed" not in site.text()
        assert serial(site, authority)


HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
SENDS = {"v1": "send-proxy", "v2": "send-proxy-v2 proxy-v2-options crc32c,authority,unique-id"}
CONFIGURATION = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 10s
  timeout server 10s
"""
LISTENER = """
listen {name}
  bind 127.0.0.1:{port}
  unique-id-format %ci-%cp
  server gateway 127.0.0.1:{gateway} {sends} check inter 100ms
"""


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
def test_haproxy(tmp_path, certificate, authority):
    """Behind haproxy, which hands on TCP and TLS, Django sees the client that it speaks for."""
    options = ("--set", "http.trusted_proxies=127.0.0.1", "--set", "http.proxy_protocol=true")
    with secure(tmp_path, certificate, "--listen", "127.0.0.1:0", *options) as site:
        plain = int(re.findall(r"http://127\.0\.0\.1:(\d+)", site.text())[-1])
        ports = {}
        text = CONFIGURATION
        for version, sends in SENDS.items():
            for kind, gateway in (("plain", plain), ("tls", port(site))):
                ports[kind, version] = found = free_port()
                text += LISTENER.format(
                    name=f"{kind}-{version}", port=found, gateway=gateway, sends=sends
                )
        (tmp_path / "haproxy.cfg").write_text(text)
        command = [HAPROXY, "-db", "-f", str(tmp_path / "haproxy.cfg")]
        with (tmp_path / "haproxy.log").open("wb") as log:
            haproxy = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            for found in ports.values():
                wait_for_listener(found, None)
            for (kind, _), found in ports.items():
                source = ("127.0.0.2", 0)
                client = (
                    http.client.HTTPConnection("127.0.0.1", found, 10, source)
                    if kind == "plain"
                    else http.client.HTTPSConnection(
                        "127.0.0.1",
                        found,
                        timeout=10,
                        source_address=source,
                        context=authority.client(),
                    )
                )
                with contextlib.closing(client):
                    client.request("GET", "/where")
                    answer = json.load(client.getresponse())
                assert (answer["address"], answer["secure"]) == ("127.0.0.2", kind == "tls")
            # Its checks of health come with a header of their own, or leave at once.
            assert "gateway_http_proxy_errors_total" not in site.numbers()
        finally:
            haproxy.terminate()
            haproxy.wait(10)
        assert "is DOWN" not in (tmp_path / "haproxy.log").read_text()
