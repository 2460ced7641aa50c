"""Enhanced authentication (MQTT 5, section 4.12): who a device is, proven step by step. Pure.

::

    CONNECT, AUTH 0x19 ──mqtt.auth──► a consumer ──{"auth": data}──► AUTH 0x18 ─► the device
                           ▲             │                                            │
                           └─────────────┼────────────────── AUTH 0x18 ◄──────────────┘
                                         ├──returns, or {"accept": True, "auth": data}──► proven
                                         └──rejects──► CONNACK, or DISCONNECT

What is proven by a CONNECT is said by its CONNACK, once ``mqtt.connect`` has decided, too.
"""

from __future__ import annotations

import enum
from typing import Any, Final

from gateway.core.errors import LocalProtocolError
from gateway.core.plugin import (
    ACCEPTED,
    REJECTED,
    Action,
    Done,
    Drop,
    Emit,
    Message,
    Outcome,
    Timer,
    Write,
)
from gateway.plugins.mqtt import codec, reasons
from gateway.plugins.mqtt.config import MqttConfig
from gateway.plugins.mqtt.packets import V5, Auth, Connect, Packet, Properties
from gateway.plugins.mqtt.server import hello
from gateway.plugins.mqtt.server.house import House

PROVING: Final = "proving"
"""The timer of a device that proves anew who it is."""
METHOD: Final = "authentication_method"
DATA: Final = "authentication_data"


class Turn(enum.Enum):
    """Whose turn it is."""

    APPLICATION = "application"
    DEVICE = "device"
    NOBODY = "nobody"


class Unproven(Exception):  # noqa: N818 - a decision
    """The device has not proven who it is: the code and the words that it is told."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class Step:
    """One message of an authentication; the token of its Emit."""

    __slots__ = ()


class Proof:
    """The authentication of one connection."""

    __slots__ = ("_client_id", "_config", "_house", "_number", "_said", "_step", "_turn", "method")

    def __init__(self, packet: Connect, client_id: str, config: MqttConfig, house: House) -> None:
        self.method: str = packet.properties[METHOD]
        self._client_id = client_id
        self._config = config
        self._house = house
        self._turn = Turn.NOBODY
        self._number = 0
        """Of the step, or of the last one."""
        self._step: Step | None = None
        self._said: bytes | None = None
        """What the CONNACK says to it."""

    @property
    def underway(self) -> bool:
        """Whether the device has something to prove."""
        return self._turn is not Turn.NOBODY

    @property
    def terms(self) -> Properties:
        """What a CONNACK says of it (section 4.12-5); once."""
        said, self._said = self._said, None
        return {METHOD: self.method} if said is None else {METHOD: self.method, DATA: said}

    # ------------------------------------------------ the device

    def begin(self, properties: Properties, *, again: bool = False) -> Emit:
        """Begin, with what a CONNECT says, or an AUTH that begins ``again``."""
        self._number = 0
        return self._ask(properties, again=again)

    def heard(self, packet: Packet, *, known: bool) -> list[Action]:
        """Take an AUTH. ``known``: the device was let in, and proves anew who it is."""
        if not isinstance(packet, Auth):
            # section 3.1.2-30
            raise Unproven(reasons.PROTOCOL_ERROR, "something else before it is authenticated")
        if packet.properties.get(METHOD) != self.method:
            # section 4.12.1-1
            raise Unproven(reasons.PROTOCOL_ERROR, "AUTH with another method than CONNECT")
        if known and packet.code == reasons.REAUTHENTICATE and not self.underway:
            if not self._house.routed("auth"):
                raise Unproven(reasons.NOT_AUTHORIZED, "nobody is there to authenticate")
            due = Timer(PROVING, self._config.decision_timeout)
            return [due, self.begin(packet.properties, again=True)]
        if packet.code != reasons.CONTINUE_AUTHENTICATION or self._turn is not Turn.DEVICE:
            raise Unproven(reasons.PROTOCOL_ERROR, "AUTH out of turn")
        return [self._ask(packet.properties, again=known)]

    def _ask(self, properties: Properties, *, again: bool) -> Emit:
        self._turn = Turn.APPLICATION
        self._number += 1
        self._step = Step()
        message = {
            "client_id": self._client_id,
            "method": self.method,
            "data": properties.get(DATA),
            "step": self._number,
            "again": again,
        }
        return Emit("auth", message, self._step)

    # ------------------------------------------------ the application

    def said(self, reply: Message, token: Any, *, known: bool) -> list[Action]:
        """Take a reply of the application. Raises `LocalProtocolError` where it makes no sense."""
        data = reply.get("auth")
        if self._turn is not Turn.APPLICATION:
            raise LocalProtocolError("no device waits for what mqtt.auth says")
        done: list[Action] = [] if token is None else [Done(token)]
        if reply.get("accept"):
            return [*done, *self._proven(data, known=known)]
        if data is None:
            raise LocalProtocolError("the device has not proven yet who it is")
        self._turn = Turn.DEVICE
        return [*done, Write(self._packet(reasons.CONTINUE_AUTHENTICATION, data))]

    def outcome(self, step: Step, outcome: Outcome, *, known: bool) -> list[Action]:
        """Hear what became of a step."""
        if step is not self._step or not self.underway:
            return []
        kind = outcome.kind
        if kind == ACCEPTED:
            challenged = self._turn is Turn.DEVICE
            return [] if challenged or not self._implicit else self._proven(None, known=known)
        if kind == REJECTED:
            raise Unproven(self._code(outcome.code, known=known), outcome.reason)
        if kind == "unrouted":
            code = reasons.NOT_AUTHORIZED if known else reasons.BAD_AUTHENTICATION_METHOD
            raise Unproven(code, "there is no such authentication method")
        code, words = hello.undecided(outcome)
        raise Unproven(code if code in reasons.OF_DISCONNECT or not known else 0x83, words)

    @property
    def _implicit(self) -> bool:
        return self._config.implicit_accept

    def _code(self, said: Any, *, known: bool) -> int:
        if said is None or isinstance(said, bool):
            return reasons.NOT_AUTHORIZED
        if said in (reasons.OF_DISCONNECT if known else reasons.OF_CONNACK):
            return int(said)
        self._house.drop(Drop.FOREIGN_CODE)
        return reasons.NOT_AUTHORIZED

    def _proven(self, data: bytes | None, *, known: bool) -> list[Action]:
        self._turn = Turn.NOBODY
        self._step = None
        if known:
            return [Timer(PROVING, None), Write(self._packet(reasons.SUCCESS, data))]
        self._said = data
        return []

    def _packet(self, code: int, data: bytes | None) -> bytes:
        properties: Properties = {METHOD: self.method}
        if data is not None:
            properties[DATA] = data
        return codec.encode(Auth(code, properties), V5)
