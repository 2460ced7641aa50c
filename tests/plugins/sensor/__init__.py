r"""A protocol as a stranger would write it: readings of sensors, a line each.

::

    S 7 20.5\n       the reading 20.5, number 7
    OK 7\n           taken; NO 7: not wanted; LATER 7: send it again

Text that the application sends is a line of its own, ``T text``.
"""

from gateway.core.plugin import Peer, Session, hookimpl
from gateway.core.stream import StreamPlugin

from . import messages
from .config import SensorConfig
from .translate import SensorSession


class Sensor(StreamPlugin):
    name = "sensor"
    Config = SensorConfig
    messages = messages

    def session(self, peer: Peer) -> Session:
        return SensorSession()

    def crowded(self) -> bytes:
        return b"BUSY\n"


@hookimpl
def gateway_plugin() -> type[Sensor]:
    return Sensor
