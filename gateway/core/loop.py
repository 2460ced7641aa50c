"""The event loop: Twisted's reactor on asyncio on uvloop. No other file names a reactor.

The reactor is installed before anything imports one, and drives the loop by
``reactor.run()``: the reverse, asyncio owning the run, breaks at shutdown. asyncio owns the
signals (``loop.add_signal_handler``); the reactor installs no handlers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from gateway.core.errors import ConfigError

if TYPE_CHECKING:
    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment] # the loop of asyncio does the same, slower

HAS_UVLOOP = uvloop is not None


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop, of uvloop where it is installed."""
    return asyncio.new_event_loop() if uvloop is None else uvloop.new_event_loop()


def install() -> asyncio.AbstractEventLoop:
    """Install the reactor on a new loop and return the loop; set as the thread's own.

    Raises ConfigError if something imported Twisted's default reactor before.
    """
    if "twisted.internet.reactor" in sys.modules:
        raise ConfigError(
            "twisted.internet.reactor was imported before the gateway's loop was installed; "
            "import it inside functions"
        )
    from twisted.internet import asyncioreactor  # noqa: PLC0415 - imports no reactor, costs 60 ms

    loop = new_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)  # type: ignore[no-untyped-call] # Twisted's
    return loop


def run(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run ``main`` on the gateway's loop; return its result once the loop has come to rest.

    Once in a process. An exception of ``main`` is raised here.
    """
    loop = install()
    from twisted.internet import reactor as installed  # noqa: PLC0415 - only now is it ours

    reactor = cast("AsyncioSelectorReactor", installed)
    result: asyncio.Future[int] = loop.create_future()

    async def body() -> None:
        try:
            result.set_result(await main())
        except BaseException as error:  # noqa: BLE001 - raised below, outside the reactor
            result.set_exception(error)
        finally:
            reactor.stop()  # type: ignore[no-untyped-call] # Twisted's

    tasks = []
    reactor.callWhenRunning(lambda: tasks.append(loop.create_task(body())))
    reactor.run(installSignalHandlers=False)  # type: ignore[no-untyped-call] # as above
    _settle(loop)
    return result.result()


def _settle(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what still runs, let it end, close the loop."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
