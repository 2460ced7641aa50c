"""Which channels a worker takes."""

import pytest

from gateway.core.config import WorkerSettings
from gateway.core.errors import ConfigError
from gateway.core.selection import select

TABLE = ["http.request", "thumbnails.make", "vault.keys!", "vault.sign", "websocket.receive"]

TAKEN = [
    ((), (), TABLE),
    (("vault.*",), (), ["vault.keys!", "vault.sign"]),
    (("vault.sign", "http.request"), (), ["http.request", "vault.sign"]),
    (("*.re*",), (), ["http.request", "websocket.receive"]),
    ((), ("vault.*", "thumb*"), ["http.request", "websocket.receive"]),
    (("vault.*",), ("*!",), ["vault.sign"]),
    (("*",), (), TABLE),
]


@pytest.mark.parametrize(("only", "exclude", "taken"), TAKEN)
def test_select(only, exclude, taken):
    """``*`` stands for any characters; what is excluded goes before what is asked for."""
    settings = WorkerSettings(only_channels=only, exclude_channels=exclude)
    assert select(TABLE, settings) == taken


WRONG = [
    (("valt.sign",), (), "only_channels: 'valt.sign' fits no channel.*the nearest is 'vault.sign'"),
    ((), ("http.*", "vault"), "exclude_channels: 'vault' fits no channel.*nearest is 'vault.sign'"),
    ((), ("vault.?ign",), "exclude_channels: 'vault.?ign' fits no channel"),
    ((), ("*",), "leave this worker no channel of the routing table, which has http.request, th"),
    (("vault.*",), ("vault.*",), "leave this worker no channel"),
]


@pytest.mark.parametrize(("only", "exclude", "says"), WRONG)
def test_wrong(only, exclude, says):
    """A pattern that fits nothing is refused with the nearest name; so is taking nothing."""
    settings = WorkerSettings(only_channels=only, exclude_channels=exclude)
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        select(TABLE, settings)
