"""Close codes of RFC 6455 section 7.4, by which WebSockets end, and whatever stands in for one.

Pure.
"""

from __future__ import annotations


def may_be_sent(code: int) -> bool:
    """Return whether a peer may be told ``code``.

    1004 is reserved, 1005, 1006 and 1015 are never sent, 1012 to 1014 are registered with
    IANA, 3000 to 3999 are registered by libraries, 4000 to 4999 are private.
    """
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))
