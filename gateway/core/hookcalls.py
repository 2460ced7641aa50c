"""What hooks there are and how their calls went, for ``log.hooks``: who, which, what, how long.

Hooks are called at the start alone, so every call is kept; it is told once the settings, which
some of the calls are needed for, say so.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

log = logging.getLogger("gateway.hooks")

LONGEST: Final = 200
"""Characters of what a hook returned: it is told in a line of the log."""


class HookCalls:
    """The hooks of one registry and their calls, in order."""

    def __init__(self) -> None:
        self._told = False
        self._lines: list[str] = []

    def watch(self, label: str, found: dict[str, FunctionType]) -> dict[str, Callable[..., Any]]:
        """Return hooks that are told of when they are called. ``label`` says whose they are."""
        self._say(f"{label} implements {', '.join(sorted(found)) or 'no hook'}")
        return {name: self._watched(label, hook) for name, hook in found.items()}

    def _watched(self, label: str, hook: FunctionType) -> Callable[..., Any]:
        @functools.wraps(hook)
        def watched(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                result = hook(*args, **kwargs)
            except BaseException as error:
                what = f"raised {type(error).__name__}: {error}"
                raise
            else:
                what = f"returned {_shortened(repr(result))}"
                return result
            finally:
                spent = (time.perf_counter() - begun) * 1000
                self._say(f"{label}: {hook.__name__} {what} after {spent:.1f} ms")

        return watched

    def _say(self, line: str) -> None:
        if self._told:
            log.info("%s", line)
        else:
            self._lines.append(line)

    def tell(self) -> None:
        """Log what was called so far, and from now on each call as it is made."""
        self._told = True
        lines, self._lines = self._lines, []
        for line in lines:
            log.info("%s", line)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
