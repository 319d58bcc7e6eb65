"""What the C library does with memory that a training step has freed."""

from __future__ import annotations

import ctypes

# mallopt's names in glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let the process keep what it frees instead of handing it back to the system.

    By default glibc returns large blocks at once, so that every training step on a CPU gets its
    temporaries as fresh pages, which the system has to clear: 5,000 to 60,000 page faults, 5 to
    30 % of the step. What the process needs at most does not change; it just stays its own. The
    command line calls this before it trains on a CPU. It concerns the whole process, so a program
    that uses this library decides for itself, by this call or by starting with the environment
    variables ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1``.

    Returns:
        Whether the C library has such a setting and took it; only glibc does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
