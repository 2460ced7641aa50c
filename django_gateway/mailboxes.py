"""`mailbox`: the filter of a mail address."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from django_gateway.filters import Filter
from django_gateway.placeholders import expression_of


class MailboxFilter(Filter):
    """What `mailbox` makes. It matches a whole mail address, in an `include` too."""

    __slots__ = ()

    @property
    def domain(self) -> str:
        """Its domain; empty where that varies."""
        domain = self.text.rpartition("@")[2]
        return "" if "{" in domain else domain

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
        where = f"mailbox({address!r})"
        expression += expression_of(where, kind if colon else None, name, anything, converters)
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
