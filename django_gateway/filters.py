"""Filters: what the value of a message's key looks like where a route matches.

A filter is a regular expression, `path`, or any other `Filter`. It is matched at the start of
the value as text: bytes as UTF-8, numbers by ``str``, lists by element (any may match). A key
that is missing or None does not match.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured


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

    @property
    def wants(self) -> str:
        """What the gateway has to ask for elsewhere so that this may match; empty: nothing."""
        return ""


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

    @property
    def wants(self) -> str:
        """The topic filter, to subscribe to."""
        return self.topic

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


class MailboxFilter(Filter):
    """What `mailbox` makes. It matches a whole mail address, in an `include` too."""

    __slots__ = ()

    def placed(self, key: str, before: Filter | None) -> Filter:
        """Return itself. Raises ImproperlyConfigured behind a filter that took the address."""
        if isinstance(before, MailboxFilter):
            raise ImproperlyConfigured(
                f"include({key}=mailbox({before.text!r})) takes all of an address, and leaves "
                f"nothing for the {key}=mailbox({self.text!r}) of its routes; leave one of them out"
            )
        return self


_FIELD = re.compile(r"\{([^{}]*)\}")


def mailbox(address: str, *, case_sensitive: bool = False) -> Filter:
    """Return the filter of a mail address: ``mailbox("support+{ticket:int}@example.com")``.

    What stands in braces has a name, which is what the consumer gets, and may have one of
    Django's path converters; ``{name}`` alone is any text, as it was written. Upper and lower
    case are the same: in a domain always, before the ``@`` unless ``case_sensitive``. It matches
    where any of several recipients does. Raises ImproperlyConfigured.
    """
    if not isinstance(address, str):
        raise ImproperlyConfigured(
            f"mailbox() takes an address such as 'support+{{ticket}}@example.com', not {address!r}"
        )
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain:
        raise ImproperlyConfigured(
            f"mailbox({address!r}) is not an address; it is written 'support@example.com', and "
            f"any of a domain's mailboxes '{{name}}@{domain or 'example.com'}'"
        )
    converters: dict[str, Callable[[str], Any]] = {}
    names: list[str] = []
    before = _address_part(address, local, ".+?", converters, names)
    behind = _address_part(address, domain, "[^@]+?", converters, names)
    if domain == _FIELD.sub("", domain) and not domain.isascii():
        # RFC 6531 section 3.2: a domain is written in either form
        behind = f"(?:{behind}|{re.escape(_ascii_domain(address, domain))})"
    if not case_sensitive:
        before = f"(?i:{before})"
    expression = re.compile(rf"{before}@(?i:{behind})\Z", re.DOTALL)
    return MailboxFilter(expression, converters, address)


def _address_part(
    address: str,
    part: str,
    anything: str,
    converters: dict[str, Callable[[str], Any]],
    names: list[str],
) -> str:
    """Return the expression of what stands before the @, or behind it."""
    from django.urls.converters import StringConverter, get_converters  # noqa: PLC0415 - 50 ms

    expression, end = "", 0
    for match in _FIELD.finditer(part):
        expression += _plain(address, part[end : match.start()])
        end = match.end()
        name, colon, kind = match[1].partition(":")
        if not name.isidentifier():
            raise ImproperlyConfigured(
                f"mailbox({address!r}): {name!r} cannot name an argument of a consumer"
            )
        if name in names:
            raise ImproperlyConfigured(f"mailbox({address!r}): a name stands there twice")
        names.append(name)
        inner = anything
        if colon:
            known = get_converters()
            if kind not in known:
                close = difflib.get_close_matches(kind, known, n=1)
                raise ImproperlyConfigured(
                    f"mailbox({address!r}): there is no converter {kind!r}; "
                    + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}")
                )
            converter = known[kind]
            if kind != "str":  # whose expression is that of a path's part
                inner = converter.regex
            if type(converter).to_python is not StringConverter.to_python:
                converters[name] = converter.to_python
        expression += f"(?P<{name}>{inner})"
    return expression + _plain(address, part[end:])


def _plain(address: str, text: str) -> str:
    if "{" in text or "}" in text:
        raise ImproperlyConfigured(
            f"mailbox({address!r}) has a brace too few or too many; a part is written '{{name}}'"
        )
    if "<" in text or ">" in text or any(letter.isspace() for letter in text):
        raise ImproperlyConfigured(
            f"mailbox({address!r}) is an address alone, without a name, spaces or <>; a part of "
            "it that varies is written '{name}'"
        )
    return re.escape(text)


def _ascii_domain(address: str, domain: str) -> str:
    try:
        return domain.encode("idna").decode()
    except UnicodeError as error:
        raise ImproperlyConfigured(f"mailbox({address!r}): no such domain: {error}") from None


def wanted_by(chain: Chain) -> str:
    """Return what a chain of filters wants from elsewhere; empty: nothing, or it cannot be said."""
    wants = [one.wants for one in chain]
    return "".join(wants) if all(wants) else ""


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
