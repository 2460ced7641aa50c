"""SCRAM-SHA-256: against the vectors of RFC 7677, and against another implementation."""

from __future__ import annotations

import base64
import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scramp import ScramMechanism

from gateway.core.errors import RemoteProtocolError
from gateway.plugins.irc.client.config import Sasl
from gateway.plugins.irc.client.sasl import Exchange, Scram, pieces
from tests.plugins.irc.client.driven import Driven

FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram() -> Scram:
    return Scram("user", "pencil", nonce="rOprNGfwEbeRWgbNEkqO")


def test_the_vectors_of_the_rfc():
    """RFC 7677 section 3."""
    it = scram()
    assert it.respond(b"") == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert it.respond(FIRST) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert it.respond(FINAL) == b""
    it.check()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (FIRST.replace(b"r=rOpr", b"r=xOpr"), "does not go on with ours"),
        (b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "does not go on with ours"),
        (FIRST.replace(b"4096", b"1"), "asks for 1 iterations"),
        (FIRST.replace(b"4096", b"999999999"), "asks for 999999999 iterations"),
        (FIRST.replace(b"4096", b"x"), "is not SCRAM"),
        (b"m=x," + FIRST, "an extension"),
        (b"nonsense", "is not SCRAM"),
        (b"\xff", "is not SCRAM"),
        (b"", "is not SCRAM"),
    ],
)
def test_a_server_that_says_something_else(said, why):
    """Nothing is proved to it."""
    it = scram()
    it.respond(b"")
    with pytest.raises(RemoteProtocolError, match=why):
        it.respond(said)


@pytest.mark.parametrize(
    "final", [b"v=AAAA", b"v=" + b"A" * 43 + b"=", b"e=invalid-proof", b"", b"v=%"]
)
def test_a_server_that_does_not_know_the_password(final):
    """What it signs is verified, and it is not believed without."""
    it = scram()
    it.respond(b"")
    it.respond(FIRST)
    with pytest.raises(RemoteProtocolError):
        it.respond(final)
    with pytest.raises(RemoteProtocolError, match="impostor"):
        it.check()


def test_an_impostor_is_left():
    """A server that says 903 without having proved anything, whether a login is required or not."""
    it = Driven(sasl=Sasl(mechanism="SCRAM-SHA-256", password="pw", required=False))
    it.hear(":s CAP * LS :sasl", ":s CAP * ACK :sasl", "AUTHENTICATE +", ":s 903 * :welcome")
    assert it.closed is not None
    assert "impostor" in it.session.ended()["reason"]
    assert it.session.standing.unwelcome

    it = Driven(sasl=Sasl(mechanism="SCRAM-SHA-256", password="pw"))
    it.hear(":s CAP * LS :sasl", ":s CAP * ACK :sasl", "AUTHENTICATE +", "AUTHENTICATE !!")
    assert it.take()[-2:] == ["AUTHENTICATE *", "QUIT"]
    assert it.session.ended()["reason"] == "SASL: the server's challenge is not base64"


@functools.lru_cache
def known(password: str):
    """What a server keeps of a password."""
    return ScramMechanism("SCRAM-SHA-256").make_auth_info(password, iteration_count=4096)


@given(
    st.sampled_from(["secret", "pa,ss=word", "pencil\u00ad", "\u2168", "пароль", "x" * 300]),
    st.sampled_from(["user", "a=b,c", "jürgen"]),
)
@settings(max_examples=15, deadline=None)
def test_another_implementation_agrees(password, account):
    """A server of scramp lets it in over AUTHENTICATE, in pieces, and is believed."""
    asked = []

    def info(name: str):
        asked.append(name)
        return known(password)

    server = ScramMechanism("SCRAM-SHA-256").make_server(info)
    sasl = Sasl(mechanism="SCRAM-SHA-256", account=account, password=password)
    it = Driven(sasl=sasl)
    it.hear(":s CAP * LS :sasl=PLAIN,SCRAM-SHA-256", ":s CAP * ACK :sasl")
    it.take()
    it.hear("AUTHENTICATE +")
    server.set_client_first(_heard(it))
    _say(it, server.get_server_first())
    server.set_client_final(_heard(it))
    _say(it, server.get_server_final())
    assert it.take() == ["AUTHENTICATE +"]
    it.hear(":s 903 * :in")
    assert it.take() == ["CAP END"]
    assert asked == [account]


def _heard(it: Driven) -> str:
    words = [line.removeprefix("AUTHENTICATE ") for line in it.take()]
    return base64.b64decode("".join(word for word in words if word != "+")).decode()


def _say(it: Driven, text: str) -> None:
    for piece in pieces(text.encode()):
        it.hear(f"AUTHENTICATE {piece}")


@given(st.lists(st.text(alphabet="+=Aa0/!\x7f", max_size=500), max_size=4))
@settings(max_examples=50, deadline=None)
def test_any_challenge(challenges):
    """Whatever the server says: it is answered, or refused as what it is."""
    exchange = Exchange(scram())
    for challenge in challenges:
        try:
            exchange.challenge(challenge)
        except RemoteProtocolError:
            return
