r"""Placeholders: what stands in a filter for a part that varies, ``<int:ticket>`` for one.

Each filter writes them as what it matches does: a path, a command and a channel of IRC as Django's
URLs, ``<int:x>``; a mail address ``{x:int}``; a topic of MQTT ``+x``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Final

from django.core.exceptions import ImproperlyConfigured

_NAME: Final = r"[^\W\d]\w*"
BRACED: Final = re.compile(rf"\{{(?P<name>{_NAME})(?::(?P<kind>\w+))?\}}")
"""``{x}``, ``{x:int}``."""
ANGLED: Final = re.compile(rf"(?<!\?P)<(?:(?P<kind>\w+):)?(?P<name>{_NAME})>")
"""``<x>``, ``<int:x>``; not the name of a regular expression's group."""


def angled(text: str) -> str:
    """Return ``text`` with ``<int:x>`` for ``{x:int}``."""
    return BRACED.sub(lambda found: f"<{':'.join(filter(None, found.group(2, 1)))}>", text)


def expression_of(
    where: str,
    kind: str | None,
    name: str,
    anything: str,
    converters: dict[str, Callable[[str], object]],
) -> str:
    """Return the group that a placeholder is in an expression; add its converter, if it has one.

    ``kind`` is one of Django's path converters; without one, and of ``str``, whose own expression
    is that of a path's part, it is ``anything``. Raises ImproperlyConfigured.
    """
    if kind is None:
        return f"(?P<{name}>{anything})"
    from django.urls.converters import (  # noqa: PLC0415 - costs 50 ms
        StringConverter,
        get_converters,
    )

    known = get_converters()
    if kind not in known:
        close = difflib.get_close_matches(kind, known, n=1)
        raise ImproperlyConfigured(
            f"{where}: there is no converter {kind!r}; "
            + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}")
        )
    converter = known[kind]
    if type(converter).to_python is not StringConverter.to_python:
        converters[name] = converter.to_python
    return f"(?P<{name}>{anything if kind == 'str' else converter.regex})"
