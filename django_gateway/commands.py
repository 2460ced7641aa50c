r"""`command`: a filter of what people write to a program, word by word.

Where a text is written ``!roll <int:dice> [<int:sides>]``, what is matched is::

    \s* (?i:!roll) \s+ (?P<dice>[0-9]+) (?:\s+ (?P<sides>[0-9]+))? \s* \Z
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured

from django_gateway.filters import Filter
from django_gateway.placeholders import BRACED, angled, expression_of

_ARGUMENT: Final = re.compile(r"<(?:(?P<converter>\w+):)?(?P<name>\w+)(?P<rest>\.\.\.)?>")
"""``<name>``, ``<int:name>``, ``<name...>``."""


def command(text: str) -> Filter:
    """Return the filter of a command: ``command("!roll <int:dice> [<int:sides>]")``.

    It is matched by the words, whatever the spaces between them and the case of those that stand
    there as they are. ``<name>`` is any word and an argument of the consumer; ``<int:name>`` one
    that a converter of Django's URLs takes (``int``, ``slug``, ``uuid``, and registered ones);
    ``<name...>``, at the end, all that follows. What is in brackets may be missing, which is None.
    Raises ImproperlyConfigured.
    """
    where = f"command({text!r})"
    if not isinstance(text, str) or not text.strip():
        raise ImproperlyConfigured(f"command() takes a text such as '!help <topic>', not {text!r}")
    converters: dict[str, Callable[[str], Any]] = {}
    expression = ""
    optional = False
    words = text.split()
    for index, word in enumerate(words):
        inner = word
        if word.startswith("[") and word.endswith("]"):
            inner = word[1:-1]
            optional = True
        elif optional:
            raise ImproperlyConfigured(
                f"{where}: {word!r} stands behind what may be missing; write [{word}], too"
            )
        found = _ARGUMENT.fullmatch(inner)
        if found is None:
            part = _plain(where, inner)
        elif found["rest"] is not None:
            if index < len(words) - 1:
                raise ImproperlyConfigured(f"{where}: <{found['name']}...> takes all that follows")
            part = f"(?P<{found['name']}>\\S.*)"
            converters[found["name"]] = str.rstrip
        else:
            part = expression_of(where, found["converter"], found["name"], r"\S+", converters)
        space = r"\s+" if index else r"\s*"
        expression += f"(?:{space}{part})?" if inner is not word else space + part
    try:
        return Filter(re.compile(expression + r"\s*\Z", re.DOTALL), converters, text)
    except re.error as error:  # a name twice, or one that is no name
        raise ImproperlyConfigured(f"{where}: {error}") from None


def _plain(where: str, word: str) -> str:
    if BRACED.search(word):
        raise ImproperlyConfigured(
            f"{where}: {word!r} would be matched as it stands there; an argument of a command is "
            f"written {angled(word)}"
        )
    if re.search(r"[<>\[\]]", word):
        raise ImproperlyConfigured(
            f"{where}: {word!r} is no word and no argument; an argument is a word of its own, "
            "written <name>, <int:name> or, at the end, <name...>; in [] it may be missing"
        )
    return f"(?i:{re.escape(word)})"
