"""What a consumer or a view raises to say more than "done"."""

from __future__ import annotations


class Reject(Exception):  # noqa: N818 - a decision, not an error
    """Refuse what the message asks for: a decision, not a fault. Nothing is logged.

    ``code`` is the protocol's own (an HTTP status, a WebSocket close code, an MQTT reason
    code); None, or one that is foreign to the protocol, becomes the protocol's default.
    ``reason`` is a text for the peer. Buffered sends are dropped.
    """

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        if code is not None and (isinstance(code, bool) or not isinstance(code, int)):
            raise TypeError(
                f"Reject(code, reason): the code is an int or None, not {type(code).__name__}; "
                "write Reject(reason=…) for a reason alone"
            )
        if not isinstance(reason, str):
            raise TypeError(f"Reject(code, reason): the reason is a str, not {reason!r}")
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class ConsumeLater(Exception):  # noqa: N818 - a decision, not an error
    """Put the message back: it is offered again, ahead of newer ones. Buffered sends are dropped.

    ``delay`` is in seconds; without one it doubles with each attempt, from 0.1 s to 30 s.
    After 10 tries, or when the message's lifetime is over, its sender is told.
    """

    def __init__(self, delay: float | None = None) -> None:
        if delay is not None and (
            isinstance(delay, bool) or not isinstance(delay, int | float) or delay < 0
        ):
            raise TypeError(f"ConsumeLater(delay): seconds, zero or more, not {delay!r}")
        super().__init__(delay)
        self.delay = delay


class ResponseLater(Exception):  # noqa: N818 - a decision, not an error
    """Raised by a view: it, or somebody it told ``request.reply_channel``, will answer later."""

    def __str__(self) -> str:
        return (
            "a consumer that answers later just returns; ResponseLater is for views and the "
            "methods of an HttpConsumer"
        )


class RequestAborted(OSError):  # noqa: N818 - Django's name for it
    """The client left, or its body was cut off, before the view was done.

    Reading ``request.body`` or ``request.read()`` then raises Django's
    ``UnreadablePostError`` from it.
    """


class SendNotAvailableOnDemultiplexer(Exception):  # noqa: N818 - the name that Channels 1 gave it
    """Something was sent on a connection of streams that belongs to none: the text says how."""
