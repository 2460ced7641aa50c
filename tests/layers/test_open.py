"""``open_layer`` and the options of a layer."""

import pytest

import gateway
from gateway.core.errors import ConfigError
from gateway.core.layers.base import Layer
from gateway.core.layers.options import LayerOptions


@pytest.mark.parametrize("url", ["memory://", "memory://name", "unix:///nowhere/hub.sock"])
def test_open(url):
    """A layer is opened by its URL, without any I/O, and closed again."""
    layer = gateway.open_layer(url, expiry=5)
    assert isinstance(layer, Layer)
    layer.close()


@pytest.mark.parametrize("url", ["", "memory", "memory:", "carrier-pigeon://x", "://x"])
def test_unknown_schemes(url):
    """A URL of an unknown scheme is a ConfigError that names the known ones."""
    with pytest.raises(ConfigError, match=r"memory://.*unix://"):
        gateway.open_layer(url)


def test_a_relative_path():
    """A unix layer wants an absolute path."""
    with pytest.raises(ConfigError, match="absolute"):
        gateway.open_layer("unix://hub.sock")


def test_unknown_options():
    """An unknown option is a ConfigError that names it."""
    with pytest.raises(ConfigError, match="expirey"):
        gateway.open_layer("memory://", expirey=5)


def test_bad_options():
    """So is one of the wrong type."""
    with pytest.raises(ConfigError, match="capacity"):
        gateway.open_layer("memory://", capacity="many")


def test_capacity_of():
    """The capacity of a channel is that of its longest pattern; ``*`` stands for anything."""
    options = LayerOptions(capacity=1, capacities={"a*": 2, "a.b*": 3, "*z": 4, "a+b": 5})
    names = ("x", "a", "ax", "a.b", "a.bc", "xz", "a+b", "aab", "a-b")
    assert [options.capacity_of(name) for name in names] == [1, 2, 2, 3, 3, 4, 5, 2, 2]


def test_default_capacities():
    """``http.request`` and every ``connect`` have room for 1000, all else for 100."""
    options = LayerOptions()
    names = ("http.request", "websocket.connect", "sensor.connect", "websocket.receive", "x")
    assert [options.capacity_of(name) for name in names] == [1000, 1000, 1000, 100, 100]


@pytest.mark.parametrize("size", [1024, 1024 * 1024 - 1, 65 * 1024 * 1024])
def test_message_bytes(size):
    """A message has 1 MiB at least, which everything relies on, and 64 MiB at most."""
    with pytest.raises(ConfigError, match=f"message_bytes is 1048576 to 67108864, not {size}"):
        gateway.open_layer("memory://", message_bytes=size)


@pytest.mark.parametrize("name", ["channel_bytes", "process_bytes"])
def test_room_for_large_messages(name):
    """Larger messages than a channel or an inbox ever has room for are a ConfigError."""
    size = 16 * 1024 * 1024
    room = {"channel_bytes": 4 * size, "process_bytes": 4 * size} | {name: size}
    with pytest.raises(ConfigError, match=f"{name} is 16777216: .* never find room; set {name} to"):
        gateway.open_layer("memory://", message_bytes=size, **room)
    gateway.open_layer("memory://", message_bytes=size, **room | {name: size + 1024}).close()
