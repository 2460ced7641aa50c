"""The numerics of failure and what they say (https://modern.ircdocs.horse/#numerics)."""

from __future__ import annotations

from typing import Final

TEXTS: Final = {
    "401": "No such nick/channel",
    "402": "No such server",
    "403": "No such channel",
    "404": "Cannot send to channel",
    "405": "You have joined too many channels",
    "406": "There was no such nickname",
    "407": "Too many targets",
    "409": "No origin specified",
    "410": "Invalid CAP command",
    "411": "No recipient given",
    "412": "No text to send",
    "417": "Input line was too long",
    "421": "Unknown command",
    "422": "There is no message of the day",
    "431": "No nickname given",
    "432": "Erroneous nickname",
    "433": "Nickname is already in use",
    "437": "Nickname is temporarily unavailable",
    "441": "They aren't on that channel",
    "442": "You're not on that channel",
    "443": "is already on channel",
    "451": "You have not registered",
    "461": "Not enough parameters",
    "462": "You may not reregister",
    "464": "Password incorrect",
    "465": "You are not let in",
    "471": "Cannot join channel (+l)",
    "472": "is unknown mode char to me",
    "473": "Cannot join channel (+i)",
    "474": "Cannot join channel (+b)",
    "475": "Cannot join channel (+k)",
    "476": "Bad channel mask",
    "478": "Channel ban list is full",
    "481": "Permission Denied- You're not an IRC operator",
    "482": "You're not channel operator",
    "491": "No O-lines for your host",
    "501": "Unknown MODE flag",
    "502": "Can't change mode for other users",
    "524": "No help available on this topic",
    "525": "Key is not well-formed",
    "696": "Invalid mode parameter",
    "902": "You must use a nick assigned to you",
    "903": "SASL authentication successful",
    "904": "SASL authentication failed",
    "905": "SASL message too long",
    "906": "SASL authentication aborted",
    "907": "You have already authenticated using SASL",
}
"""By numeric; what is said where nothing better is known."""

OF_JOIN: Final = frozenset({403, 405, 407, 437, 471, 473, 474, 475, 476, 477, 489, 495, 520})
"""With which a JOIN may be refused."""
OF_CONNECT: Final = frozenset({432, 433, 437, 463, 464, 465, 466})
"""With which a client may be refused."""
OF_TALK: Final = frozenset({401, 403, 404, 407, 411, 412, 413, 414, 415, 477, 487, 488, 492, 531})
"""With which what somebody says may be refused."""
