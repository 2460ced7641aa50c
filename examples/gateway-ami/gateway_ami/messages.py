"""The messages of ami, both directions."""

from typing import Annotated, Any, Final, TypedDict

from gateway.core.plugin import UniformReply
from msgspec import Meta


class Connect(TypedDict):
    """``ami.connect``: a manager logs in."""

    username: Annotated[str, Meta(description="Who it says it is.")]
    secret: Annotated[str, Meta(description="Its password.")]


class Action(TypedDict):
    """``ami.action``: a manager wants something done."""

    action: Annotated[str, Meta(description="What, as it wrote it.")]
    headers: Annotated[dict[str, str], Meta(description="How: values by lower-case names.")]


class Disconnect(TypedDict):
    """``ami.disconnect``: a manager that was let in is gone."""

    username: Annotated[str, Meta(description="Who it was.")]


class Reply(UniformReply, total=False):
    """An event; ``text`` is its name."""

    headers: Annotated[dict[str, str], Meta(description="What the event says, by name.")]


KINDS: Final[dict[str, Any]] = {"connect": Connect, "action": Action, "disconnect": Disconnect}
REPLY: Final = Reply
