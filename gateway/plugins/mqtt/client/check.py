"""What the settings of brokers must be, beyond their types. Pure, but for reading certificates."""

from __future__ import annotations

import hashlib
import os
import ssl
from itertools import product

from gateway.core.errors import ConfigError
from gateway.core.project import VARIABLE, find_project
from gateway.core.target import Target, client_tls, target
from gateway.plugins.mqtt.client.config import Broker
from gateway.plugins.mqtt.client.subscriptions import overlap
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.topics import filter_fault, topic_fault


def check(config: MqttConfig) -> None:
    """Raise ConfigError that names the setting where something cannot be."""
    if config.default and config.default not in config.brokers:
        known = ", ".join(map(repr, config.brokers)) or "none"
        raise ConfigError(
            f"mqtt.default: there is no broker {config.default!r}; mqtt.brokers has {known}"
        )
    for name, broker in config.brokers.items():
        _check(f"mqtt.brokers.{name}", name, broker)


def _check(where: str, name: str, broker: Broker) -> None:
    to = target(broker.connect, f"{where}.connect", name)
    filters = {"subscribe": broker.subscribe, "publish": broker.publish}
    for setting, found in {**filters, "reply_topics": broker.reply_topics}.items():
        for one in found:
            if fault := filter_fault(one):
                raise ConfigError(f"{where}.{setting}: {one!r} is {fault}")
            if one.startswith("$share/"):
                raise ConfigError(
                    f"{where}.{setting}: {one!r} is a shared subscription; write the filter "
                    "alone, and set mode to 'shared'"
                )
    if broker.will is not None and (fault := topic_fault(broker.will.topic)):
        raise ConfigError(f"{where}.will.topic: {broker.will.topic!r} is {fault}")
    if broker.hears_itself and not broker.allow_loop:
        for one, other in product(broker.publish, broker.subscribe):
            if overlap(one, other):
                raise ConfigError(
                    f"{where}: {one!r} of 'publish' overlaps {other!r} of 'subscribe', and "
                    f"{'a shared subscription' if broker.version == '5' else 'MQTT 3.1.1'} has no "
                    "way to say that the broker should not send our publishes back; narrow one of "
                    "the two, or set allow_loop"
                )
    if broker.group.startswith("$") or any(c in broker.group for c in "/+#") or not broker.group:
        raise ConfigError(f"{where}.group: {broker.group!r} cannot name a share")
    if broker.key and not broker.certificate:
        raise ConfigError(f"{where}.key: there is no 'certificate' for it")
    if not to.tls:
        for setting in ("ca", "certificate", "key"):
            if getattr(broker, setting):
                raise ConfigError(
                    f"{where}.{setting}: the connection has no TLS; write "
                    f"connect = 'tls:{broker.connect}'"
                )


def tls_of(where: str, broker: Broker) -> ssl.SSLContext | None:
    """Return what TLS is spoken with, None for none. Raises ConfigError."""
    return client_tls(where, broker) if target(broker.connect).tls else None


def target_of(where: str, name: str, broker: Broker) -> Target:
    """Return where a broker is. Raises ConfigError."""
    return target(broker.connect, f"{where}.connect", name)


def client_id(name: str, broker: Broker, slot: int = 0) -> str:
    """Return the client id for a broker; ``slot`` tells gateway processes that share apart.

    At most 23 letters and digits where it is derived: what every broker takes (MQTT 3.1.1,
    section 3.1.3.1).
    """
    base = broker.client_id
    if not base:
        project = find_project(os.environ.get(VARIABLE))
        text = f"{project.directory}\n{project.settings}\n{name}"
        base = "gateway" + hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{base}{slot or ''}" if not broker.client_id else f"{base}{f'-{slot}' if slot else ''}"


def default_of(config: MqttConfig) -> str:
    """Return the broker that gets what says no broker; empty for the server role."""
    if not config.default and not config.listen and len(config.brokers) == 1:
        return next(iter(config.brokers))
    return config.default
