"""What sensors say, and what they understand."""

from typing import Annotated, TypedDict

from msgspec import Meta


class Connect(TypedDict):
    pass


class Receive(TypedDict):
    seq: Annotated[int, Meta(description="The sensor's own number of the reading.")]
    value: Annotated[float, Meta(description="The reading.")]


class Disconnect(TypedDict):
    reason: Annotated[str, Meta(description="Who ended it: peer or gateway.")]


class Reply(TypedDict, total=False):
    text: str
    bytes: bytes
    accept: bool
    close: bool | int
    ack: int
    ack_channel: str


KINDS = {"connect": Connect, "receive": Receive, "disconnect": Disconnect}
REPLY = Reply
