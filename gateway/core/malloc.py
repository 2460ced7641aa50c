"""The memory allocator's habits, where it is glibc's.

By default glibc gives blocks of 128 KiB and more, and whatever is free at the end of its heap,
back to the system at once. Who moves pieces of 256 KiB then has the system map and clear the
same pages for each: a third of the CPU of a large download, twice as much until glibc has
learned.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Final

MMAP_THRESHOLD: Final = -3
TRIM_THRESHOLD: Final = -1
"""Numbers of `mallopt(3)`."""
HEAP_BLOCK: Final = 2 * 1024 * 1024
"""Bytes of a block from which on it is mapped: twice the largest message."""
KEEP: Final = 8 * 1024 * 1024
"""Free bytes that a heap keeps at its end: some such blocks at once."""


def keep_pages(environ: Mapping[str, str] = os.environ) -> bool:
    """Have pages used again; return whether that could be said.

    Who set glibc's own variables has decided for himself.
    """
    if "GLIBC_TUNABLES" in environ or any(name.startswith("MALLOC_") for name in environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, HEAP_BLOCK) and mallopt(TRIM_THRESHOLD, KEEP))
