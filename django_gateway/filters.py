"""Filters: what the value of a message's key looks like where a route matches.

A filter is a regular expression, `path`, or any other `Filter`. It is matched at the start of
the value as text: bytes as UTF-8, numbers by ``str``, lists by element (any may match). A key
that is missing or None does not match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from django_gateway.placeholders import ANGLED, BRACED


class Filter:
    """A pattern and what its named groups become: ``Filter(re.compile(…), {"id": int})``.

    A converter is given the group's text, and raises ValueError where that is no match; groups
    without one are given to the consumer as they are. ``text`` is how tables show the filter.
    """

    __slots__ = ("converters", "match", "names", "pattern", "text")

    def __init__(
        self,
        pattern: re.Pattern[str],
        converters: Mapping[str, Callable[[str], Any]] | None = None,
        text: str = "",
    ) -> None:
        self.pattern = pattern
        self.match = pattern.match
        self.converters = tuple((converters or {}).items())
        self.names = tuple(pattern.groupindex)
        """The arguments that it gives the consumer."""
        self.text = text or pattern.pattern

    def prefix(self) -> Filter:
        """Return what an `include` strips: the same filter, if it may match a beginning alone."""
        return self

    def placed(self, key: str, before: Filter | None) -> Filter:
        """Return the filter as it is for ``key`` where ``before`` has been stripped."""
        return self

    def __str__(self) -> str:
        return self.text

    def wants(self, beside: Mapping[str, Chain]) -> tuple[str, ...]:
        """Return what the gateway has to ask for elsewhere so that this may match, if anything.

        ``beside`` are all filters of its route, by key.
        """
        return ()


Chain = tuple[Filter, ...]
"""Filters that match one after the other, each where the last one ended."""


class PathFilter(Filter):
    """What `path` makes. Alone it matches the whole value, in an `include` a beginning of it."""

    __slots__ = ("route", "whole")

    def __init__(self, route: str, *, whole: bool = True, slash: str = "") -> None:
        from django.urls.converters import StringConverter  # noqa: PLC0415 - costs 50 ms
        from django.urls.resolvers import _route_to_regex  # type: ignore[attr-defined]  # noqa: PLC0415 - what Django's own path() reads with

        regex, found = _route_to_regex(route, whole)
        self.route = route
        self.whole = whole
        super().__init__(
            re.compile(f"{slash}{regex[1:]}"),
            {
                name: converter.to_python
                for name, converter in found.items()
                if type(converter).to_python is not StringConverter.to_python  # leaves it as it is
            },
            route or "(empty)",
        )

    def prefix(self) -> Filter:
        """Return the filter of a beginning."""
        return PathFilter(self.route, whole=False)

    def placed(self, key: str, before: Filter | None) -> Filter:
        """Return the filter of a path, which begins with the slash that nobody writes."""
        slash = ""
        if before is None:
            slash = "/" if key in ("path", "raw_path") else ""
        elif not isinstance(before, PathFilter):
            slash = "/?"  # an expression may have left it
        return PathFilter(self.route, whole=self.whole, slash=slash)


class TopicFilter(Filter):
    """What `mqtt_topic` makes. Alone it matches the whole topic, in an `include` a beginning."""

    __slots__ = ("topic",)

    def __init__(self, topic: str, *, whole: bool = True) -> None:
        levels = topic.split("/")
        # Wildcards at the beginning do not match what begins with $ (MQTT 5, section 4.7.2).
        expression = r"(?!\$)" if levels[0][:1] in {"+", "#"} else ""
        plain: list[str] = []
        for index, level in enumerate(levels):
            slash = "/" if index else ""
            if level[:1] == "+":
                expression += f"{slash}{_group(level, '[^/]*')}"
                plain.append("+")
            elif level[:1] == "#":
                # It matches the level above it, too (section 4.7.1.2).
                rest = _group(level, ".*")
                expression += f"(?:{slash}{rest})?" if index else rest
                plain.append("#")
            else:
                expression += slash + re.escape(level)
                plain.append(level)
        super().__init__(re.compile(expression + (r"\Z" if whole else ""), re.DOTALL), text=topic)
        self.topic = "/".join(plain)
        """The topic filter as brokers know it."""

    def wants(self, beside: Mapping[str, Chain]) -> tuple[str, ...]:
        """Return the topic filter, to subscribe to."""
        return (self.topic,)

    def prefix(self) -> Filter:
        """Return the filter of a beginning. Raises ImproperlyConfigured for one that ends in #."""
        if self.topic.endswith("#"):
            raise ImproperlyConfigured(
                f"include() with mqtt_topic({self.text!r}): '#' takes all of a topic, and leaves "
                "nothing for the routes that are included"
            )
        return TopicFilter(self.text, whole=False)


def _group(level: str, expression: str) -> str:
    name = level[1:]
    return f"(?P<{name}>{expression})" if name else f"(?:{expression})"


def mqtt_topic(topic: str) -> Filter:
    """Return the filter of an MQTT topic: ``mqtt_topic("sensors/+id/temp")``.

    It is a topic filter of MQTT whose wildcards may have a name, which is what the consumer
    gets: ``+id`` is one level, ``#rest``, at the end, all further ones. The gateway subscribes to
    it at its brokers while a worker has it. In an `include` it is a beginning of the topic.
    Raises ImproperlyConfigured.
    """
    if not isinstance(topic, str) or not topic or "\0" in topic:
        raise ImproperlyConfigured(
            f"mqtt_topic() takes a topic such as 'sensors/+id/temp', not {topic!r}"
        )
    levels = topic.split("/")
    names = []
    for index, level in enumerate(levels):
        mark, name = level[:1], level[1:]
        found = BRACED.search(level) or ANGLED.search(level)
        if found is not None:
            raise ImproperlyConfigured(
                f"mqtt_topic({topic!r}): {found[0]!r} would be matched as it stands there; "
                + (
                    f"a level that varies is written +{found['name']}"
                    if found[0] == level
                    else f"what varies is a whole level, +{found['name']}: a part of one cannot be "
                    "subscribed to"
                )
            )
        if mark not in {"+", "#"}:
            if "+" in level or "#" in level:
                raise ImproperlyConfigured(
                    f"mqtt_topic({topic!r}): in {level!r} a wildcard is not at the beginning of "
                    "its level; it stands for a whole one"
                )
            continue
        if mark == "#" and index < len(levels) - 1:
            raise ImproperlyConfigured(f"mqtt_topic({topic!r}): '#' is for the last level only")
        if name and not name.isidentifier():
            raise ImproperlyConfigured(
                f"mqtt_topic({topic!r}): {name!r} cannot name an argument of a consumer"
            )
        if name:
            names.append(name)
    if len(set(names)) < len(names):
        raise ImproperlyConfigured(f"mqtt_topic({topic!r}): a name stands there twice")
    return TopicFilter(topic)


def wanted_by(chain: Chain, beside: Mapping[str, Chain]) -> list[str]:
    """Return what a chain of filters wants from elsewhere; nothing where it cannot be said."""
    return ["".join(parts) for parts in product(*(one.wants(beside) for one in chain))]


_VALUES = re.compile(r"\^?(?:\((?:\?:)?(?P<several>[^()]*)\)|(?P<one>[^()|]*?))(?:\$|\\Z)?")


def values_of(chain: Chain) -> tuple[str, ...]:
    """Return the values that a filter is for, where it names them: ``a``, ``^a$``, ``^(a|b)$``."""
    found = _VALUES.fullmatch(chain[0].pattern.pattern) if len(chain) == 1 else None
    if found is None:
        return ()
    values = (found["several"] or found["one"] or "").split("|")
    if not all(re.fullmatch(r"(?:[\w-]|\\\W)+", value) for value in values):
        return ()
    return tuple(re.sub(r"\\(.)", r"\1", value) for value in values)


_EXPRESSION = re.compile(r"\(\?P<|^\^|\$$")


def path(route: str) -> Filter:
    """Return the filter of a path as Django's URLs have it: ``path("chat/<slug:room>/")``.

    Its converters (``int``, ``slug``, ``str``, ``path``, ``uuid``, and those registered with
    Django) give the consumer Python values. It matches the whole path, which it names without
    the leading slash. In an `include` it is a beginning: ``include(shop, path=path("shop/"))``.
    Keys that hold no path have no leading slash. Raises ImproperlyConfigured.
    """
    if not isinstance(route, str):
        raise ImproperlyConfigured(
            f"path() takes a route such as 'chat/<slug:room>/', not {route!r}"
            + ("; a compiled expression is a filter as it is" if _is_pattern(route) else "")
        )
    if route.startswith("/"):
        raise ImproperlyConfigured(
            f"path({route!r}) begins with a slash, as every path does; write "
            f"path({route.lstrip('/')!r})"
        )
    if _EXPRESSION.search(route):
        raise ImproperlyConfigured(
            f"path({route!r}) has a regular expression in it; give that as it is, without path(), "
            "or write the parts of the path as '<slug:name>'"
        )
    rest = re.sub(r"<[^<>]*>", "", route)
    if "<" in rest or ">" in rest:
        raise ImproperlyConfigured(
            f"path({route!r}) has a bracket too few or too many; a part is written '<slug:name>'"
        )
    return PathFilter(route)


def read(where: str, key: str, value: Any) -> Filter:
    """Return the filter that somebody wrote. Raises ImproperlyConfigured."""
    if isinstance(value, Filter):
        return value
    if _is_pattern(value):
        return Filter(value)
    if type(value).__name__ in ("URLPattern", "URLResolver"):
        raise ImproperlyConfigured(
            f"{where}: the filter {key}={value!r} is made by Django's path(); import the one of "
            "django_gateway, and give it the route alone"
        )
    if not isinstance(value, str):
        raise ImproperlyConfigured(
            f"{where}: the filter {key}={value!r} is not a regular expression; write it as a "
            f"str: {key}=r'^…$'"
        )
    if key == "channel" and value.startswith("irc._"):
        raise ImproperlyConfigured(
            f"{where}: the filter channel={value!r} is the name of a group, as irc_channel() says "
            "it; the filter of a channel is irc_room('#room')"
        )
    if key == "path" and re.search(r"(?<!\?P)<\w+:\w+>", value):
        raise ImproperlyConfigured(
            f"{where}: the filter {key}={value!r} is a route of Django's in the place of a regular "
            f"expression; write {key}=path({value.lstrip('^/').rstrip('$')!r})"
        )
    try:
        return Filter(re.compile(value))
    except re.error as error:
        raise ImproperlyConfigured(
            f"{where}: the filter {key}={value!r} is not a regular expression: {error}"
        ) from None


def matched(chain: Chain, value: Any) -> dict[str, Any] | None:
    """Return what a chain captures of a value, or None where it does not match."""
    if value.__class__ is str:
        return _follow(chain, value)
    if value.__class__ is list:
        return next((got for item in value if (got := _one(chain, item)) is not None), None)
    return _one(chain, value)


def _one(chain: Chain, value: Any) -> dict[str, Any] | None:
    if value.__class__ is bytes:
        try:
            return _follow(chain, value.decode())
        except UnicodeDecodeError:
            return None
    if value.__class__ is str:
        return _follow(chain, value)
    if isinstance(value, int | float):
        return _follow(chain, str(value))
    return None


def _follow(chain: Chain, text: str) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for one in chain:
        match = one.match(text)
        if match is None:
            return None
        if one.names:
            groups = match.groupdict()
            if one.converters and not _convert(one, groups):
                return None
            found = {**found, **groups} if found else groups
        if len(chain) > 1:
            text = text[match.end() :]
    return found


def _convert(one: Filter, groups: dict[str, Any]) -> bool:
    """Convert what was captured; return whether that could be done."""
    for name, convert in one.converters:
        if groups[name] is not None:
            try:
                groups[name] = convert(groups[name])
            except ValueError:
                return False
    return True


def _is_pattern(value: Any) -> bool:
    return isinstance(value, re.Pattern) and isinstance(value.pattern, str)
