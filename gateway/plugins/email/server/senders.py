"""What DNS says of who a mail is from: SPF (RFC 7208), DKIM (RFC 6376) and DMARC (RFC 9989).

Blocking, for a thread: what asks DNS is handed in as a `Lookup`. Results are the words of RFC 8601.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import dkim
import spf

from gateway.plugins.email.headers import Head
from gateway.plugins.email.server.asked import Asked, domain_of

SIGNATURES: Final = 5
"""Signatures of one mail that are looked at: lists and forwarders leave two or three."""
WALK: Final = 8
"""Names asked on the way to an organizational domain (RFC 9989 section 4.10)."""
_SILENT: Final = logging.Logger("dkim", logging.CRITICAL + 1)  # noqa: LOG001 - of no tree
"""Where dkimpy tells of each signature that strangers get wrong."""
EACH: Final = 5.0
"""Seconds for one question at most."""

_ADDRESS: Final = re.compile(r"[^\s<>,;:\"()@]+@([^\s<>,;:\"()@]+)")
_QUOTED: Final = re.compile(r"\"(?:[^\"\\]|\\.)*\"|\((?:[^()\\]|\\.)*\)")
_TAG: Final = re.compile(r"\s*([a-z]+)\s*=\s*([^;]*?)\s*(?:;|\Z)")


class TemporaryFault(Exception):  # noqa: N818 - nobody's error
    """DNS does not answer now."""


class Lookup(Protocol):
    """Asks DNS."""

    def __call__(self, name: str, kind: str, seconds: float) -> list[Any]:
        """Return the answers: TXT as bytes, A, AAAA and PTR as text, MX as (preference, name).

        None: an empty list. Raises `TemporaryFault`.
        """


class Senders:
    """Checks mails, each with ``seconds`` for all its questions."""

    def __init__(self, lookup: Lookup, seconds: float) -> None:
        self._lookup = lookup
        self._seconds = seconds

    def check(self, asked: Asked, content: Callable[[], bytes]) -> dict[str, Any]:
        """Return the keys of ``authentication``. ``content`` is read where there is a signature."""
        questions = Questions(self._lookup, time.monotonic() + self._seconds)
        domain = domain_of(asked.mail_from) or asked.helo.lower()
        found: dict[str, Any] = {"spf": _spf(asked, questions), "spf_domain": domain}
        found["dkim"], found["dkim_domains"] = _dkim(asked.head, content, questions)
        spf_domain = domain if found["spf"] == "pass" else ""
        found.update(dmarc(asked.head, spf_domain, found["dkim_domains"], questions))
        return found


UNKNOWN: Final[dict[str, Any]] = {
    "spf": "temperror",
    "dkim": "temperror",
    "dkim_domains": [],
    "dmarc": "temperror",
}
"""What is said where it took too long."""


class Questions:
    """The questions of one mail, each asked once, all within one time."""

    def __init__(self, lookup: Lookup, until: float) -> None:
        self._lookup = lookup
        self._until = until
        self._known: dict[tuple[str, str], list[Any]] = {}

    def ask(self, name: str, kind: str) -> list[Any]:
        """Return the answers. Raises `TemporaryFault`."""
        key = (name.lower().rstrip("."), kind)
        if key not in self._known:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TemporaryFault("it took too long")
            self._known[key] = self._lookup(*key, min(left, EACH))
        return self._known[key]


# ---------------------------------------------------------------- SPF

_thread = threading.local()


def _spf_lookup(name: str, kind: str, _strict: Any = True, _timeout: float = 0.0) -> list[Any]:
    """Stand in for pyspf's questions, which has one way for all of a process."""
    try:
        answers = _thread.questions.ask(name, kind)
    except TemporaryFault as fault:
        raise spf.TempError(f"DNS {fault}") from None
    if kind == "TXT":
        answers = [(one,) for one in answers]
    return [((name, kind), one) for one in answers]


spf.DNSLookup = _spf_lookup


def _spf(asked: Asked, questions: Questions) -> str:
    _thread.questions = questions
    try:
        result: str = spf.query(
            i=asked.client, s=asked.mail_from or "", h=asked.helo, querytime=0
        ).check()[0]
    except Exception:  # noqa: BLE001 - what a stranger's record holds must not cost the mail
        return "permerror"
    finally:
        _thread.questions = None
    return result


# ---------------------------------------------------------------- DKIM


def _dkim(head: Head, content: Callable[[], bytes], questions: Questions) -> tuple[str, list[str]]:
    count = sum(name == "dkim-signature" for name, _ in head.fields)
    if not count:
        return "none", []
    signed = dkim.DKIM(content(), logger=_SILENT, minkey=1024)
    results, domains = [], []
    for index in range(min(count, SIGNATURES)):
        result = _signature(signed, index, questions)
        results.append(result)
        if result == "pass":
            domains.append(signed.domain.decode("ascii", "replace").lower())
    for best in ("pass", "temperror", "policy", "fail"):
        if best in results:
            return best, list(dict.fromkeys(domains))
    return "permerror", []


def _signature(signed: Any, index: int, questions: Questions) -> str:
    keys: list[bytes] = []

    def answer(name: bytes, **_: Any) -> bytes | None:
        keys.extend(questions.ask(name.decode("ascii", "replace"), "TXT")[:1])
        return keys[-1] if keys else None

    try:
        good = signed.verify(index, dnsfunc=answer)
    except TemporaryFault:
        return "temperror"
    except Exception as error:  # noqa: BLE001 - as above: anything may stand in a signature
        return "fail" if "body hash mismatch" in str(error) else "permerror"
    fields = signed.signature_fields
    signs = {one.strip().lower() for one in fields.get(b"h", b"").split(b":")}
    if b"from" not in signs or fields.get(b"a", b"").lower() == b"rsa-sha1" or b"l" in fields:
        # RFC 6376 section 5.4, RFC 8301 section 3; what follows a length is anybody's (8.2).
        return "policy"
    if good:
        return "pass"
    return "fail" if keys else "permerror"


# ---------------------------------------------------------------- DMARC


def dmarc(
    head: Head, spf_domain: str, dkim_domains: Iterable[str], questions: Questions
) -> dict[str, Any]:
    """Return ``dmarc`` and ``dmarc_policy``. The domains are those that are confirmed."""
    domain = author(head)
    if domain is None:
        return {"dmarc": "permerror"}
    try:
        records = walk(domain, questions)
        if not records:
            return {"dmarc": "none"}
        whole = organization(domain, records)
        record = records.get(domain) or records.get(whole) or list(records.values())[-1]
        policy = record.get("p", "none")
        if domain not in records:
            policy = record.get("sp", policy)
        aligned = (
            spf_domain and _aligned(domain, spf_domain, record.get("aspf"), questions)
        ) or any(_aligned(domain, one, record.get("adkim"), questions) for one in dkim_domains)
    except TemporaryFault:
        return {"dmarc": "temperror"}
    return {"dmarc": "pass" if aligned else "fail", "dmarc_policy": policy}


def author(head: Head) -> str | None:
    """Return the domain that ``From`` names; None where it names none, or several."""
    fields = [value for name, value in head.fields if name == "from"]
    if len(fields) != 1:
        return None
    bare = _QUOTED.sub(" ", fields[0])
    domains = {one.lower().rstrip(".") for one in _ADDRESS.findall(bare)}
    if len(domains) != 1:
        return None
    try:
        return str(domains.pop().encode("idna"), "ascii")
    except UnicodeError:
        return None


def walk(domain: str, questions: Questions) -> dict[str, dict[str, str]]:
    """Return the records on the way up from a domain, by name (RFC 9989 section 4.10)."""
    found: dict[str, dict[str, str]] = {}
    labels = domain.split(".")
    while labels:
        name = ".".join(labels)
        texts = [one for one in questions.ask(f"_dmarc.{name}", "TXT") if one[:8] == b"v=DMARC1"]
        if len(texts) == 1:
            found[name] = dict(_TAG.findall(texts[0].decode("ascii", "replace")))
            if found[name].get("psd") in {"n", "y"} and not (
                found[name]["psd"] == "y" and name == domain
            ):
                break
        labels = labels[1:] if len(labels) <= WALK else labels[-(WALK - 1) :]
    return found


def organization(domain: str, records: dict[str, dict[str, str]]) -> str:
    """Return the organizational domain of a domain, of what its `walk` has found."""
    if not records:
        return domain
    name = list(records)[-1]
    psd = records[name].get("psd")
    if psd == "y" and name != domain:
        return f"{domain.removesuffix(f'.{name}').rpartition('.')[2]}.{name}"
    return name


def _aligned(domain: str, other: str, mode: str | None, questions: Questions) -> bool:
    if domain == other:
        return True
    if mode == "s":
        return False
    mine = organization(domain, walk(domain, questions))
    return mine == organization(other, walk(other, questions))


# ---------------------------------------------------------------- asking DNS


class Resolver:
    """A `Lookup` by dnspython. ``servers`` are name servers, none: those of the system."""

    def __init__(self, servers: Iterable[str] = ()) -> None:
        import dns.resolver  # noqa: PLC0415 - what is not asked need not be imported

        named = list(servers)
        self._dns = dns.resolver
        self._resolver = dns.resolver.Resolver(configure=not named)
        if named:
            self._resolver.nameservers = [_bare(one) for one in named]
            ports = {_bare(one): int(one.rpartition(":")[2]) for one in named if _has_port(one)}
            self._resolver.nameserver_ports = ports
        self._resolver.cache = dns.resolver.LRUCache(4096)

    def __call__(self, name: str, kind: str, seconds: float) -> list[Any]:
        """Return the answers. Raises `TemporaryFault`."""
        import dns.exception  # noqa: PLC0415 - as above

        try:
            answers = self._resolver.resolve(name, kind, lifetime=seconds, search=False)
        except (self._dns.NXDOMAIN, self._dns.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise TemporaryFault(type(error).__name__) from None
        match kind:
            case "TXT":
                return [b"".join(one.strings) for one in answers]
            case "MX":
                return [(one.preference, str(one.exchange)) for one in answers]
            case "PTR":
                return [str(one.target).rstrip(".") for one in answers]
        return [one.address for one in answers]


def _bare(server: str) -> str:
    return server.rpartition(":")[0].strip("[]") if _has_port(server) else server


def _has_port(server: str) -> bool:
    try:
        ipaddress.ip_address(server)
    except ValueError:
        return True
    return False
