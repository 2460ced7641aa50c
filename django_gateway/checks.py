"""System checks (``manage.py check``) of the settings, the routing table and its middleware."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands, load_command_class

from django_gateway import asgi, auth_settings
from django_gateway.filters import Filter, values_of
from django_gateway.generic.protocols import keys_of, meant_by
from django_gateway.mailboxes import MailboxFilter
from django_gateway.middleware import middleware_of
from django_gateway.placeholders import ANGLED, BRACED
from django_gateway.routing import Route, Router
from gateway.core.errors import GatewayError

BY_KEY: Final = {
    "path": "path",
    "topic": "mqtt_topic",
    "channel": "irc_room",
    "rcpt_to": "mailbox",
    "mail_from": "mailbox",
}
"""What reads the placeholders in a filter of a key."""
_LEVEL: Final = re.compile(r"(?<![^/])\+[^\W\d]\w*(?![^/])|/#\Z")
"""A level of a topic that is a wildcard."""
EMAIL_BACKEND: Final = "django_gateway.mail.EmailBackend"


@register("gateway")
def check_settings(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.E001``: GATEWAY or CHANNEL_LAYERS is wrong."""
    try:
        asgi.read_settings()
        asgi.effective()
    except (ImproperlyConfigured, GatewayError) as error:
        return [Error(str(error), id="gateway.E001")]
    return []


@register("gateway")
def check_auth(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.E003``: GATEWAY_AUTH is wrong."""
    try:
        auth_settings.check()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="gateway.E003")]
    return []


@register("gateway")
def check_routing(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.E002``: the routing table cannot be imported or compiled."""
    try:
        Router(asgi.layer_settings().get("ROUTING"))
    except ImproperlyConfigured as error:
        return [Error(str(error), id="gateway.E002")]
    except Exception as error:  # noqa: BLE001 - whatever the project's modules raise
        return [
            Error(
                f"importing ROUTING failed: {type(error).__name__}: {error}",
                hint="The traceback: python -c 'import the.module.that.ROUTING.names'",
                id="gateway.E002",
            )
        ]
    return []


def _routes() -> Sequence[Route]:
    """Return the routes of the project; none where its table is wrong, as another check says."""
    try:
        return Router(asgi.layer_settings().get("ROUTING")).routes
    except Exception:  # noqa: BLE001 - whatever the project's modules raise: gateway.E002
        return ()


@register("gateway")
def check_protocols(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.W002``: a route's channel looks like that of a protocol, misspelt."""
    return [
        Warning(
            f"{one!r}: there is no protocol {channel.partition('.')[0]!r} here; did you mean "
            f"{meant!r}?",
            hint="One that only the gateway has installed is all right.",
            id="gateway.W002",
        )
        for one in _routes()
        for channel in one.channels
        if (meant := meant_by(channel)) is not None
    ]


@register("gateway")
def check_keys(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.W005``: a route has a filter by a key that none of its messages has."""
    return [
        Warning(
            f"{one!r}: the filter {key}={one.filters[key][0]!s} never matches, since no such "
            f"message has a {key!r}",
            hint=f"There are {', '.join(sorted(known))}.",
            id="gateway.W005",
        )
        for one in _routes()
        if (known := keys_of(one.channels))
        for key in one.filters
        if key not in known
    ]


@register("gateway")
def check_placeholders(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.W006``: a regular expression has placeholders, which are another filter's."""
    return [
        Warning(
            f"{one!r}: the filter {key}={written!r} is a regular expression, in which "
            f"{found[0]!r} is matched as it stands there",
            hint=f"Write {key}={BY_KEY[key]}(…), imported from django_gateway.",
            id="gateway.W006",
        )
        for one in _routes()
        for key in one.filters.keys() & BY_KEY.keys()
        for each in one.filters[key]
        if type(each) is Filter
        for written in (each.pattern.pattern,)
        if (found := _placeholder(key, written)) is not None
    ]


def _placeholder(key: str, written: str) -> re.Match[str] | None:
    """Return the first placeholder in an expression; in one of topics that is ``+door``, too."""
    return (
        BRACED.search(written)
        or ANGLED.search(written)
        or (_LEVEL.search(written) if key == "topic" else None)
    )


@register("gateway")
def check_networks(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.W003``: a route is for a network of IRC that the settings do not have."""
    try:
        routes = [one for one in _routes() if any(c.startswith("irc.") for c in one.channels)]
        named = {one: values_of(one.filters.get("network", ())) for one in routes}
        if not any(named.values()):
            return []
        known = _networks()
    except Exception:  # noqa: BLE001 - the other checks say so
        return []
    return [
        Warning(
            f"{one!r}: there is no network {network!r} in the settings, so nothing comes from it; "
            f"there are {', '.join(sorted(known))}",
            hint=f"Write [irc.networks.{network}], as the gateway reads it, or the name of one.",
            id="gateway.W003",
        )
        for one, networks in named.items()
        for network in networks
        if network not in known
    ]


def _networks() -> set[str]:
    """Return the names of all networks of IRC: those to join, and the gateway's own."""
    config: Any = _table("irc")
    return {*config.networks, config.network}


def _table(plugin: str) -> Any:
    """Return the settings of a plugin, served here or not."""
    from gateway.core.boot import Options, boot  # noqa: PLC0415 - only then

    return boot(Options(plugins=plugin)).settings.tables[plugin]


@register("gateway")
def check_middleware(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.E004``: a middleware of the consumers cannot be imported or made."""
    try:
        layer = asgi.layer_settings()
        router = Router(layer.get("ROUTING"))
    except Exception:  # noqa: BLE001 - the other checks say so
        return []
    try:
        middleware_of(layer, router)
    except ImproperlyConfigured as error:
        return [Error(str(error), id="gateway.E004")]
    except Exception as error:  # noqa: BLE001 - whatever the project's modules raise
        return [
            Error(
                f"making the consumers' MIDDLEWARE failed: {type(error).__name__}: {error}",
                id="gateway.E004",
            )
        ]
    return []


@register("gateway")
def check_mail(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.W004``: Django's mail goes to the gateway, which takes none."""
    if getattr(settings, "EMAIL_BACKEND", "") != EMAIL_BACKEND:
        return []
    try:
        served, _origin = asgi.effective().sources.plugins()
    except (ImproperlyConfigured, GatewayError):  # the other checks say so
        return []
    if "email" in served:
        return []
    return [
        Warning(
            f"EMAIL_BACKEND hands mail to the gateway, whose plugins here are {', '.join(served)}",
            hint="Add 'email' to GATEWAY['plugins']; one that runs with other settings than these "
            "may have it.",
            id="gateway.W004",
        )
    ]


@register("gateway")
def check_domains(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.W007``: a route is for a mailbox of a domain that no mail is taken for."""
    try:
        boxes = {
            one.text: one
            for each in _routes()
            if any(channel.startswith("email.") for channel in each.channels)
            for one in each.filters.get("rcpt_to", ())
            if isinstance(one, MailboxFilter)
        }
        named = {text: domain for text, one in boxes.items() if (domain := one.domain)}
        if not named:
            return []
        config: Any = _table("email")
        from gateway.plugins.email.server.commands import Domains  # noqa: PLC0415 - only then

        taken = Domains(config.domains)
    except Exception:  # noqa: BLE001 - the other checks say so
        return []
    said = ", ".join(config.domains) or "none"
    return [
        Warning(
            f"mailbox({text!r}) is routed, and its mail is refused: email.domains has no "
            f"{domain!r}; there is {said}",
            hint=f"Add {domain!r} to email.domains, as the gateway reads it.",
            id="gateway.W007",
        )
        for text, domain in named.items()
        if domain not in taken
    ]


@register("gateway")
def check_runserver(**_: Any) -> Sequence[CheckMessage]:
    """``gateway.W001``: ``manage.py runserver`` is another app's."""
    from django_gateway.management.commands.runserver import (  # noqa: PLC0415 - Django is set up now
        Command,
    )

    owner = get_commands()["runserver"]
    command = load_command_class(owner, "runserver") if isinstance(owner, str) else owner
    if isinstance(command, Command):
        return []
    app = type(command).__module__.partition(".management")[0]
    return [
        Warning(
            f"manage.py runserver is that of {app}, which serves HTTP alone and runs no consumers",
            hint="Put 'django_gateway' before it in INSTALLED_APPS.",
            id="gateway.W001",
        )
    ]
