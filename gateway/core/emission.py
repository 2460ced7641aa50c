"""What a session emits, made a message of the application's: common keys, order, bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.core.conversation import Branch, Conversation
from gateway.core.layers import codec
from gateway.core.metrics import Drop
from gateway.core.plugin import Again, Emit, Forget, Message, Refusal

if TYPE_CHECKING:
    from gateway.core.attached import Connection

HARD: Final = 4
"""Times its bounds that an inbox may hold at most: one read may carry many messages."""

_encode = msgspec.msgpack.Encoder().encode


def emit(connection: Connection, action: Emit) -> None:
    """Send a message of a session on its way, or tell the session why not."""
    context = connection.context
    message: Message = action.message  # type: ignore[assignment] # a dict, as told
    token = action.token
    if connection.abandoned:
        context.drop(Drop.CLOSED)
        return
    if action.channel is not None:
        if not action.channel.startswith(context.prefix) or "?" not in action.channel:
            context.log.error(
                "%s: a plugin emits on single-reader channels of its own, '%s…?…', not on %r",
                connection.reply_channel,
                context.prefix,
                action.channel,
            )
            connection.refuse(token, Refusal.BROKEN, Drop.INVALID)
            return
        payload = _encoded(connection, message, token)
        if payload is not None:
            context.engine.flow.post_loose(connection, action.channel, payload, token)
        return
    kind = context.kinds.get(action.kind)
    if kind is None:
        context.log.error(
            "%s: there is no kind %r; what a plugin emits is in the KINDS of its messages: %s",
            connection.reply_channel,
            action.kind,
            ", ".join(context.kinds),
        )
        connection.refuse(token, Refusal.BROKEN, Drop.INVALID)
        return
    conversation: Conversation = connection
    if action.conversation is not None or connection.names is not None:
        conversation = branch(connection, action.conversation)
    order = conversation.order
    peer = connection.peer
    message["reply_channel"] = action.reply_channel or conversation.reply_channel
    message["order"] = order
    message["client"] = peer.client
    message["server"] = peer.server
    if peer.identity is not None:
        message["identity"] = peer.identity
    try:
        payload = _encode(message)
    except (TypeError, ValueError, OverflowError) as error:
        _broken(connection, token, error)
        return
    if len(payload) > codec.MAX_MESSAGE and _is_too_big(connection, payload, token):
        return
    if order == 0 and context.draining:
        connection.refuse(token, Refusal.DRAINING, Drop.DRAINED)
        return
    if connection.late and connection.is_over(HARD):
        connection.refuse(token, Refusal.TOO_SLOW, Drop.SLOW)
        return
    conversation.order = order + 1
    if connection.leaving is not None or (
        # Of the connection itself nothing overtakes its connect; of a conversation it might.
        conversation is not connection and not connection.accepted and not kind.opening
    ):
        context.engine.flow.hold(conversation, (kind, payload, token))
        return
    if not context.window:
        # Without a window every message stands alone: nothing waits for its outcome.
        conversation = Branch(connection, conversation.key, conversation.reply_channel)
    context.engine.flow.push(conversation, (kind, payload, token))


def seldom(connection: Connection, action: Any) -> None:
    """Run an action of a session that few have."""
    if action.__class__ is Again:
        _again(connection, action)
    elif action.__class__ is Forget:
        _forget(connection, action.conversation)
    else:
        raise TypeError(f"not an action: {action!r}")


def _again(connection: Connection, action: Again) -> None:
    """Have a message of a session that failed handed in once more."""
    context = connection.context
    if connection.abandoned:
        return  # it counts as what it failed of
    conversation: Conversation = connection
    if action.conversation is not None or connection.names is not None:
        conversation = branch(connection, action.conversation)
    if not context.window:
        conversation = Branch(connection, conversation.key, conversation.reply_channel)
    payload = _encoded(connection, action.message, action.token)
    if payload is not None:
        entry = (context.kinds[action.kind], payload, action.token)
        context.engine.flow.again(conversation, entry, action.seconds)


def _encoded(connection: Connection, message: Mapping[str, Any], token: Any) -> bytes | None:
    """Return the payload of a message; None where it has none, which the session has heard."""
    try:
        payload = _encode(message)
    except (TypeError, ValueError, OverflowError) as error:
        _broken(connection, token, error)
        return None
    if len(payload) > codec.MAX_MESSAGE and _is_too_big(connection, payload, token):
        return None
    return payload


def _broken(connection: Connection, token: Any, error: Exception) -> None:
    """Tell a session, and the log, that what it emits cannot be encoded."""
    connection.context.log.error(
        "%s: what the plugin emits is no message", connection.reply_channel, exc_info=error
    )
    connection.refuse(token, Refusal.BROKEN, Drop.INVALID)


def _is_too_big(connection: Connection, payload: bytes, token: Any) -> bool:
    """Return whether the layer does not take a payload, which the session hears then."""
    if len(payload) <= connection.context.message_bytes:
        return False
    connection.refuse(token, Refusal.TOO_BIG, Drop.TOO_BIG)
    return True


def branch(connection: Connection, key: str | None) -> Conversation:
    """Return a conversation of a connection by its key: one that is new, where need be."""
    name = None if connection.names is None else connection.names(key)
    if key is None and name is None:
        return connection
    branches = connection.branches
    if branches is None:
        branches = connection.branches = {}
    found = branches.get(key)
    if found is None:
        engine = connection.context.engine
        engine.branches = number = engine.branches + 1
        channel = name or f"{connection.reply_channel}.{number:x}"
        found = branches[key] = Branch(connection, key, channel)
        engine.by_channel[channel] = found
    return found


def _forget(connection: Connection, key: str) -> None:
    """Forget a conversation of a connection, if nothing of it is unsettled or in a group."""
    found = (connection.branches or {}).get(key)
    if found is None or found.flight is not None or found.queue or found.place is not None:
        return
    if found in (connection.context.engine.flow.gathered or ()):
        return
    if any(member is found for _, member in connection.groups or ()):
        return
    assert connection.branches is not None  # noqa: S101 - for the type checker; it was in there
    del connection.branches[key]
    connection.context.engine.by_channel.pop(found.reply_channel, None)


def last_words(connection: Connection) -> Message:
    """Return the message that says that a connection has ended, without its order."""
    peer = connection.peer
    message = dict(connection.session.ended())
    message["reply_channel"] = branch(connection, None).reply_channel
    message["client"] = peer.client
    message["server"] = peer.server
    if peer.identity is not None:
        message["identity"] = peer.identity
    return message


def break_off(connection: Connection) -> None:
    """Have no reply reach the conversations of a lost connection; drop what was held of them."""
    engine = connection.context.engine
    for one in (connection.branches or {}).values():
        del engine.by_channel[one.reply_channel]
        if not connection.accepted:
            engine.flow.discard(one)
