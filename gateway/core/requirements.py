"""What a distribution needs, and what of it is missing or of another version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


def unmet(dist: Distribution, extra: str = "") -> Iterator[str]:
    """Iterate over what ``dist`` requires, with ``extra``, that is not there: a sentence each.

    An ``extra`` that it has not counts for nothing.
    """
    yield from _unmet(dist, {extra_of(dist, extra)}, set())


def _unmet(dist: Distribution, extras: set[str], seen: set[tuple[str, str]]) -> Iterator[str]:
    for text in dist.requires or ():
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            continue  # pip has installed it nevertheless, and knows what it meant
        marker = wanted.marker
        if marker is not None and not any(marker.evaluate({"extra": e}) for e in extras | {""}):
            continue
        key = (canonicalize_name(wanted.name), ",".join(sorted(wanted.extras)))
        if key in seen:
            continue
        seen.add(key)
        if key[0] == canonicalize_name(dist.name):
            yield from _unmet(dist, set(wanted.extras), seen)
            continue
        spelled = f"{wanted.name}{wanted.specifier}"
        try:
            version = distribution(wanted.name).version
        except PackageNotFoundError:
            yield f"{dist.name} requires {spelled}, which is not installed"
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            yield f"{dist.name} requires {spelled}, and {wanted.name} {version} is installed"


def extra_of(dist: Distribution, name: str) -> str:
    """Return the extra that a distribution has for the plugin ``name``; "" for none."""
    wanted = re.sub(r"[-_.]+", "-", name)
    extras = dist.metadata.get_all("Provides-Extra") or []
    return wanted if wanted in extras else ""
