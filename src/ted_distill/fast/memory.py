"""Memory that a step frees is reused by the next one, instead of being returned to the system in between."""

from __future__ import annotations

import ctypes

# Names and values of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER, _STEP_BYTES = -1, 1 << 28


def keep_freed_memory() -> bool:
    """Make this process keep the memory it frees: for everything that runs in it, until it ends.

    A training step on a CPU frees hundreds of megabytes and asks for as many again. glibc gives large pieces back at
    once, and the system fills each page with zeros when it is touched again.

    Returns:
        Whether this system's malloc took the settings (glibc does; others do not need them or do not have them).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _STEP_BYTES))
    understood = [bool(mallopt(name, value)) for name, value in settings]
    return all(understood)
