"""What a class calls nearly as a consumer's attribute, which nobody would read."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

from django_gateway.routing import name_of

if TYPE_CHECKING:
    from django_gateway.generic.base import Consumer


def check_attributes(kind: type[Consumer]) -> None:
    """Refuse ``mailbox = […]`` in a class that has no ``mailboxes``, for one.

    Without what it says it would take everything. Methods and what is like them are let be, and
    so is a name beside the attribute that it is like. Raises ImproperlyConfigured.
    """
    theirs, ours = _attributes(kind, own=False), _attributes(kind, own=True)
    known = {name for name, value in ours.items() if _is_set(value)}
    missing = known - set(theirs)
    for name in sorted(name for name, value in theirs.items() if _is_set(value)):
        close = difflib.get_close_matches(name, missing, n=1, cutoff=0.8)
        meant = kind._synonyms.get(name, *close or ("",))  # noqa: SLF001 - for this alone
        if name not in ours and meant in missing:
            raise ImproperlyConfigured(
                f"{name_of(kind)}.{name} means nothing to a consumer; did you mean {meant}? If it "
                f"is your own, begin its name with an underscore: _{name}"
            )


def _attributes(kind: type[Consumer], *, own: bool) -> dict[str, object]:
    """Return what our own classes have, or what the project's do."""
    return {
        name: value
        for one in kind.__mro__[:-1]
        if own == one.__module__.startswith("django_gateway.generic.")
        for name, value in vars(one).items()
        if not name.startswith("_")
    }


def _is_set(value: object) -> bool:
    """Whether an attribute is neither a method, nor a property or a class in the class."""
    return not (
        inspect.isroutine(value) or inspect.isclass(value) or hasattr(type(value), "__get__")
    )
