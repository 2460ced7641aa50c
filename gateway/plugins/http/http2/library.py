"""The library h2, as far as it is used here, and what is kept from it.

It keeps the state of each stream, the windows and the settings, and writes frames. Whatever
reaches it was judged by `gateway.plugins.http.http2.guard`. What requests say it never sees:
it would end the connection for a Content-Length that is no number.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame

from gateway.core.web import Header
from gateway.plugins.http.config import HttpConfig
from gateway.plugins.http.http2.faults import Fault
from gateway.plugins.http.http2.fields import FieldDecoder, FieldEncoder
from gateway.plugins.http.http2.frames import DATA
from gateway.plugins.http.http2.guard import WINDOW
from gateway.plugins.http.port import PREFACE

CONNECTION_WINDOW: Final = 1024 * 1024
"""Bytes that a client may send ahead on all its streams together, unless one alone may more."""
_CONFIG: Final = H2Configuration(
    client_side=False,
    header_encoding=False,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    # Ours are well-formed already.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)
_GOAWAY_BYTES: Final = 17


@lru_cache(maxsize=16)
def _settings(streams: int, window: int, header_bytes: int) -> Settings:
    """Return our settings, one object for all connections: nothing changes it, and it is large."""
    return Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: streams,
            SettingCodes.INITIAL_WINDOW_SIZE: window,
            SettingCodes.MAX_HEADER_LIST_SIZE: header_bytes,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,  # RFC 8441 section 3
        },
    )


class Library(H2Connection):
    """One connection's h2: begun, with our settings to be sent."""

    def __init__(self, config: HttpConfig) -> None:
        super().__init__(_CONFIG)
        self.local_settings = _settings(
            config.http2_streams, config.http2_window, config.header_bytes
        )
        # Beyond what is answered 431; a block that unfolds further ends the connection.
        self.unpacker = FieldDecoder(2 * config.header_bytes)
        self.decoder: Any = self.unpacker
        self.encoder: Any = FieldEncoder()
        self._failed = False
        self.window = max(CONNECTION_WINDOW, config.http2_window)
        """Bytes that the client may send ahead on all streams together."""
        self.initiate_connection()
        self.increment_flow_control_window(self.window - WINDOW)
        self.receive_data(PREFACE)

    def read(self, frames: bytes) -> list[Event]:
        """Return what a frame, or a header block's frames, mean. Raises `Fault`."""
        try:
            return self.receive_data(frames)
        except ProtocolError as error:
            self._failed = True
            if error.error_code is not ErrorCodes.FLOW_CONTROL_ERROR:
                raise Fault("protocol") from error
            content = frames[3] == DATA
            raise Fault("window-exceeded" if content else "window-overflow") from error

    def output(self) -> bytes:
        """Return what is to send, but for a GOAWAY of the library's own: ours says more."""
        data = self.data_to_send()
        return data[:-_GOAWAY_BYTES] if self._failed else data

    @property
    def fields(self) -> Iterable[Header]:
        """The header fields that were unpacked last."""
        return self.unpacker.fields

    @property
    def open_inbound_streams(self) -> int:
        """How many streams are open: none as far as the library need know, the guard counts them.

        It would count anew for each request, and end the connection where they are too many.
        """
        return 0

    def forget(self, number: int) -> None:
        """Forget a closed stream. The library would remember 65536 of them."""
        self.streams.pop(number, None)

    def _receive_frame(self, frame: Frame) -> list[Event]:
        """Take a frame, without describing it to nobody: its content in hexadecimal and all."""
        events: list[Event]
        frames, events = self._frame_dispatch_table[frame.__class__](frame)
        self._prepare_for_sending(frames)
        return events

    def dissolve(self) -> None:
        """Let go of everything: the library's objects point at themselves."""
        vars(self).clear()
