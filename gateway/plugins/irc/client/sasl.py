"""Logging in by SASL (RFC 4422, IRCv3 sasl): PLAIN, EXTERNAL and SCRAM-SHA-256. Pure.

::

    AUTHENTICATE SCRAM-SHA-256   ──►
                                 ◄──  AUTHENTICATE +
    AUTHENTICATE <client-first>  ──►
                                 ◄──  AUTHENTICATE <server-first>
    AUTHENTICATE <client-final>  ──►
                                 ◄──  AUTHENTICATE <server-final>     proves that it knows, too
    AUTHENTICATE +               ──►
                                 ◄──  903

What is said is in base64, in pieces of 400 bytes: a shorter one is the last, ``+`` an empty one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from abc import ABC, abstractmethod
from typing import Final

from gateway.core.errors import RemoteProtocolError
from gateway.plugins.irc.client.config import Sasl

PIECE: Final = 400
"""Bytes of one AUTHENTICATE (IRCv3 sasl-3.1)."""
MOST: Final = 16_384
"""Bytes of a challenge: far above what any mechanism says."""
FEWEST_ROUNDS: Final = 4096
"""Iterations that a server must ask for at least (RFC 7677 section 4): fewer are cheap to guess."""
MOST_ROUNDS: Final = 300_000
"""Iterations at most: a tenth of a second of this process, which does nothing else meanwhile."""


class Mechanism(ABC):
    """One login."""

    name: str

    @abstractmethod
    def respond(self, challenge: bytes) -> bytes:
        """Return what is to be said to a challenge. Raises RemoteProtocolError."""

    def check(self) -> None:  # noqa: B027 - two of three have nothing to check
        """Hear that the server says it is done. Raises RemoteProtocolError if it cannot be."""


class Plain(Mechanism):
    """PLAIN (RFC 4616)."""

    name = "PLAIN"

    def __init__(self, account: str, password: str) -> None:
        # Acting for oneself may be left out; most clients say it, and so servers are used to it.
        self._response = f"{account}\0{account}\0{password}".encode()

    def respond(self, challenge: bytes) -> bytes:
        """Return account and password."""
        return self._response


class External(Mechanism):
    """EXTERNAL (RFC 4422, appendix A): the certificate says who it is."""

    name = "EXTERNAL"

    def __init__(self, account: str) -> None:
        self._response = account.encode()

    def respond(self, challenge: bytes) -> bytes:
        """Return as whom to be let in, which may be empty."""
        return self._response


class Scram(Mechanism):
    """SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding.

    ``nonce`` is for tests; it must never be said twice.
    """

    name = "SCRAM-SHA-256"

    def __init__(self, account: str, password: str, nonce: str = "") -> None:
        self._nonce = nonce or secrets.token_urlsafe(24)
        # "=" and "," are the syntax's own (RFC 5802 section 5.1).
        name = prepared(account).replace("=", "=3D").replace(",", "=2C")
        self._first = f"n={name},r={self._nonce}"
        self._password = prepared(password).encode()
        self._signature = b""
        """What the server has to say at last."""
        self._step = 0

    def respond(self, challenge: bytes) -> bytes:
        """Return the next step."""
        self._step += 1
        if self._step == 1:
            return f"n,,{self._first}".encode()
        if self._step == 2:
            return self._final(challenge)
        if self._step == 3:
            self._verify(challenge)
        return b""

    def _final(self, challenge: bytes) -> bytes:
        said = _attributes(challenge)
        try:
            nonce, salt = said["r"], base64.b64decode(said["s"], validate=True)
            rounds = int(said["i"])
        except (KeyError, ValueError):
            raise RemoteProtocolError("SASL: the server's first message is not SCRAM") from None
        if "m" in said:
            raise RemoteProtocolError("SASL: the server wants an extension that nobody knows")
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise RemoteProtocolError("SASL: the server's nonce does not go on with ours")
        if not FEWEST_ROUNDS <= rounds <= MOST_ROUNDS:
            raise RemoteProtocolError(
                f"SASL: the server asks for {rounds} iterations; {FEWEST_ROUNDS} to {MOST_ROUNDS} "
                "are done"
            )
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, rounds)
        without_proof = f"c=biws,r={nonce}"
        all_said = f"{self._first},{challenge.decode()},{without_proof}".encode()
        key = _mac(salted, b"Client Key")
        signature = _mac(hashlib.sha256(key).digest(), all_said)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._signature = _mac(_mac(salted, b"Server Key"), all_said)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def _verify(self, challenge: bytes) -> None:
        said = _attributes(challenge)
        if "e" in said:
            raise RemoteProtocolError(f"SASL: the server says {said['e']!r}")
        try:
            signature = base64.b64decode(said.get("v", ""), validate=True)
        except binascii.Error:
            signature = b""
        if not hmac.compare_digest(signature, self._signature):
            raise RemoteProtocolError(
                "SASL: the server has not proved that it knows the password: it may be an impostor"
            )
        self._signature = b""

    def check(self) -> None:
        """Raise RemoteProtocolError where the server has not proved that it knows the password."""
        if self._step < 3 or self._signature:
            raise RemoteProtocolError(
                "SASL: the server says that we are logged in without having proved that it knows "
                "the password: it may be an impostor"
            )


def mechanism(sasl: Sasl, nick: str) -> Mechanism:
    """Return a login as the settings want it."""
    if sasl.mechanism == "EXTERNAL":
        return External(sasl.account)
    account = sasl.account or nick
    if sasl.mechanism == "PLAIN":
        return Plain(account, sasl.password)
    return Scram(account, sasl.password)


class Exchange:
    """Challenges and responses, in pieces."""

    def __init__(self, mechanism: Mechanism) -> None:
        self.mechanism = mechanism
        self._pieces: list[str] = []

    def challenge(self, piece: str) -> list[str]:
        """Take a piece of a challenge; return what to answer, [] while it is not whole.

        Raises RemoteProtocolError.
        """
        if piece != "+":
            self._pieces.append(piece)
            if len(piece) == PIECE and len(self._pieces) * PIECE < MOST:
                return []
        whole = "".join(self._pieces)
        self._pieces.clear()
        try:
            challenge = base64.b64decode(whole, validate=True)
        except (binascii.Error, ValueError):
            raise RemoteProtocolError("SASL: the server's challenge is not base64") from None
        return pieces(self.mechanism.respond(challenge))


def pieces(response: bytes) -> list[str]:
    """Return a response as the pieces that are said.

    >>> pieces(b""), pieces(b"hi")
    (['+'], ['aGk='])
    """
    text = base64.b64encode(response).decode()
    found = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    if not found or len(found[-1]) == PIECE:
        found.append("+")
    return found


def prepared(text: str) -> str:
    r"""Return text by SASLprep (RFC 4013); as it is where that forbids it, as servers do.

    >>> prepared("I\u00adX"), prepared("\u2168")
    ('IX', 'IX')
    """
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c)
    )
    found = unicodedata.normalize("NFKC", mapped)
    return text if any(_forbidden(c) for c in found) else found


def _forbidden(char: str) -> bool:
    return stringprep.in_table_c21_c22(char) or any(
        table(char)
        for table in (
            stringprep.in_table_c3,
            stringprep.in_table_c4,
            stringprep.in_table_c5,
            stringprep.in_table_c6,
            stringprep.in_table_c7,
            stringprep.in_table_c8,
            stringprep.in_table_c9,
        )
    )


def _attributes(message: bytes) -> dict[str, str]:
    try:
        return dict(one.split("=", 1) for one in message.decode().split(","))
    except ValueError:
        raise RemoteProtocolError("SASL: what the server says is not SCRAM") from None


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")
