"""`Nicks`: each nick is one client's among all gateway processes: its key is held on the layer."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from gateway.core.errors import PluginError
from gateway.core.plugin import Context, Held
from gateway.plugins.irc.lines import fold

if TYPE_CHECKING:
    from gateway.plugins.irc.server.session import IrcSession

Holds = AbstractAsyncContextManager[Held]


class Nicks:
    """The nicks of the clients of this process."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._held: dict[str, tuple[IrcSession, Holds | None, Held | None]] = {}
        """By nick, folded: whose it is, or may become."""
        self._leaving: dict[str, asyncio.Task[None]] = {}

    def claim(self, session: IrcSession, nick: str) -> None:
        """Ask for a nick; ``session.claimed`` is called once that is known."""
        key = fold(nick)
        if key in self._held:
            self._context.loop.call_soon(self._tell, session, nick, False)
            return
        self._held[key] = (session, None, None)
        self._context.spawn(self._hold(session, nick, key))

    async def _hold(self, session: IrcSession, nick: str, key: str) -> None:
        if (leaving := self._leaving.get(key)) is not None:
            await asyncio.wait({leaving})  # else what is ours again would be let go
        holds = self._context.singleton(f"nick.{key}", tries=1)
        entered = False
        try:
            held = await holds.__aenter__()
            entered = True
        except TimeoutError:
            pass
        except PluginError:
            entered = True  # a layer without such a thing serves one process
            holds = held = None  # type: ignore[assignment]
        mine = self._held.get(key)
        if mine is None or mine[0] is not session:  # it has left
            if entered and holds is not None:
                self._let_go(key, holds)
            return
        if not entered:
            del self._held[key]
        else:
            self._held[key] = (session, holds, held)
        self._tell(session, nick, entered)

    @staticmethod
    def _tell(session: IrcSession, nick: str, yes: bool) -> None:
        if session.connection is not None:
            session.connection.run(session.claimed(nick, yes=yes))

    def release(self, session: IrcSession, nick: str) -> None:
        """Let go of a nick, where that client has it, or asked for it."""
        key = fold(nick)
        found = self._held.get(key)
        if found is not None and found[0] is session:
            del self._held[key]
            if found[1] is not None:
                self._let_go(key, found[1])

    def _let_go(self, key: str, holds: Holds) -> None:
        leaving = self._context.spawn(_exit(holds))
        self._leaving[key] = leaving
        leaving.add_done_callback(lambda _: self._leaving.pop(key, None))

    def lost(self) -> list[IrcSession]:
        """Return those whose nick another process may have by now."""
        return [session for session, _, held in self._held.values() if held and held.lost.is_set()]

    async def close(self) -> None:
        """Return once all are let go of."""
        if self._leaving:
            await asyncio.wait(set(self._leaving.values()))


async def _exit(holds: Holds) -> None:
    await holds.__aexit__(None, None, None)
