"""From options to all that a process needs; and its listening sockets."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.core.boot import Boot, Options, boot
from gateway.core.config import LayerSettings, Settings, WorkerSettings
from gateway.core.errors import ConfigError
from gateway.core.listen import answers, parse
from gateway.core.listeners import Listeners, bind_hub
from gateway.core.project import Project
from gateway.core.registry import Registry
from gateway.core.sources import Sources


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A directory without a project, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    monkeypatch.setattr("sys.path", list(sys.path))
    return tmp_path


def made(url="", workers=None):
    return Boot(
        project=Project(Path("/srv/shop")),
        registry=Registry([]),
        application=None,
        plugins=(),
        sources=Sources(),
        settings=Settings(layer=LayerSettings(url=url)),
        workers=workers,
    )


@pytest.mark.parametrize("workers", [None, 1])
def test_memory_becomes_the_hub(workers):
    """An absent or memory:// layer is the project's own hub where there are other processes."""
    assert made("", workers).layer_url == made("memory://", workers).layer_url
    assert made("", workers).layer_url.startswith("unix:///")


def test_memory_in_one_process():
    """In one process an absent layer is a memory layer, by name, so that its parts share it."""
    assert made("", 0).layer_url == made("memory://", 0).layer_url == "memory://gateway"
    assert made("memory://mine", 0).layer_url == "memory://mine"


@pytest.mark.parametrize("workers", [None, 0, 1])
def test_other_layers_are_kept(workers):
    """Any other layer is used as it is given."""
    assert made("unix:///run/x.sock", workers).layer_url == "unix:///run/x.sock"


def test_options(empty):
    """Options become settings, with the option as their origin."""
    started = boot(
        Options(
            listen=("127.0.0.1:0", "unix:/a,b"),
            workers="3",
            layer="unix:///x",
            log_level="debug",
            log_format="json",
            plugins="http",
            assignments=("workers.threads=9",),
        ),
        {},
    )
    settings = started.settings
    assert settings.workers == WorkerSettings(count=3, threads=9)
    assert (settings.log.level, settings.log.format) == ("debug", "json")
    assert settings.layer.url == "unix:///x"
    assert started.workers == 3
    assert [(e.kind, e.setting) for e in started.endpoints()["http"]] == [
        ("tcp", "http.listen"),
        ("unix", "http.listen"),
    ]
    origins = [row.origin for row in started.sources.rows("http", settings.tables["http"])]
    assert "--listen" in origins


def test_workers_none(empty):
    """--workers none means no workers here, whatever the settings say."""
    started = boot(Options(workers="none", plugins="http"), {"GATEWAY_WORKERS_COUNT": "2"})
    assert started.workers is None


def test_file_is_found(empty):
    """gateway.toml in the current directory is read; --config names another."""
    (empty / "gateway.toml").write_text("[workers]\nthreads = 2\n")
    (empty / "other.toml").write_text("[workers]\nthreads = 3\n")
    assert boot(Options(), {}, load_plugins=False).settings.workers.threads == 2
    options = Options(config="other.toml")
    assert boot(options, {}, load_plugins=False).settings.workers.threads == 3


def test_a_worker_reads_no_plugin(empty):
    """Without plugins their tables are left unread, right or wrong."""
    started = boot(Options(), {"GATEWAY_HTTP_NONSENSE": "1"}, load_plugins=False)
    assert started.plugins == ()


@pytest.mark.parametrize(
    "options",
    [
        Options(plugins="http", assignments=("websocket.max_frame=9",)),
        Options(plugins="", listen=("8000",)),
    ],
)
def test_options_for_absent_plugins(empty, options):
    """An option for a plugin that was not asked for is refused; a worker takes no notice."""
    with pytest.raises(ConfigError, match=r"^--.* is not among the plugins \(.*add it to"):
        boot(options, {})
    boot(options, {}, load_plugins=False)
    boot(Options(plugins="http"), {"GATEWAY_WEBSOCKET_MAX_FRAME": "9"})


def test_datagrams_for_a_plugin_of_connections(empty):
    """An endpoint of UDP where a plugin has connections is refused, and the reverse."""
    with pytest.raises(
        ConfigError, match=r"^http\.listen: 'udp:53': 'http' has .*leave out 'udp:'"
    ):
        boot(Options(plugins="http", listen=("udp:53",)), {}).endpoints()
    started = boot(Options(plugins="http", listen=("53",)), {})
    (http,) = started.plugins
    kind = type("Datagrams", (http.kind,), {"datagrams": True})
    plugins = (msgspec.structs.replace(http, kind=kind),)
    started = msgspec.structs.replace(started, plugins=plugins)
    with pytest.raises(ConfigError, match=r"^http\.listen: '53': .*write 'udp:' before it"):
        started.endpoints()


def test_warnings(empty, monkeypatch):
    """What stops nothing is told: foreign variables, a missing uvloop, what plugins say."""
    monkeypatch.setattr("gateway.core.boot.HAS_UVLOOP", False)
    started = boot(Options(plugins="http"), {"GATEWAY_INTERFACE": "CGI/1.1"})
    said = " ".join(started.warnings())
    assert "GATEWAY_INTERFACE" in said
    assert "uvloop" in said


def test_failed_bind_leaves_nothing_bound(tmp_path):
    """If one endpoint cannot be bound, those bound before it are closed and removed."""
    path = tmp_path / "s"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = parse(f"127.0.0.1:{taken.getsockname()[1]}", "b.listen")
        listeners = Listeners({"a": [parse(f"unix:{path}")], "b": [busy]})
        with pytest.raises(ConfigError, match=r"b\.listen"):
            listeners.bind()
    assert not path.exists()


def test_adopted_sockets_are_not_removed(tmp_path):
    """Who adopts a Unix socket closes it, and leaves its file to who bound it."""
    path = tmp_path / "s"
    endpoints = {"a": [parse(f"unix:{path}"), parse("ssl:443:privateKey=k")]}
    first, second = Listeners(endpoints), Listeners(endpoints)
    first.bind()
    numbers = first.descriptors()
    ((number,), none) = numbers["a"]
    assert none == []
    second.adopt({"a": [[os.dup(number)], []]})
    assert second.places("a") == [f"unix:{path}", "ssl:443:privateKey=k"]
    second.close()
    assert answers(str(path))
    first.close()
    first.close()
    assert not path.exists()


def test_inherited_descriptor_is_closed_at_the_drain():
    """A listening socket that was inherited as fd:N is closed with the others."""
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        given.listen()
        address = given.getsockname()
        number = os.dup(given.fileno())
    listeners = Listeners({"a": [parse(f"fd:{number}")]})
    listeners.bind()
    socket.create_connection(address).close()
    listeners.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_hub_socket(tmp_path):
    """The hub's socket needs an absolute path, and refuses one where a hub answers."""
    url = f"unix://{tmp_path}/hub.sock"
    serves = pytest.raises(ConfigError, match="another gateway or hub serves it")
    with bind_hub(LayerSettings(url=url), url), serves:
        bind_hub(LayerSettings(url=url), url)
    with pytest.raises(ConfigError, match="absolute path"):
        bind_hub(LayerSettings(url="unix://x"), "unix://x")
    with pytest.raises(ConfigError, match="absolute path"):
        bind_hub(LayerSettings(url="redis://h"), "redis://h")
