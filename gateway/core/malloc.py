"""The habits of the memory allocator, where it is glibc's, and of the garbage collector.

By default glibc gives blocks of 128 KiB and more, and whatever is free at the end of its heap,
back to the system at once. Who moves pieces of 256 KiB then has the system map and clear the
same pages for each: a third of the CPU of a large download, twice as much until glibc has
learned.

A process that has loaded its code has tens of thousands of objects that live until its end. Every
full collection would look at each, and the interpreter does several of them when it ends: of a
worker that does nothing that is a quarter of all its CPU.
"""

from __future__ import annotations

import ctypes
import gc
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


def keep_objects() -> None:
    """Have no collection look again at what lives now: that lives until the process ends."""
    gc.collect()
    gc.freeze()
