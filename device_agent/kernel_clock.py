"""Asks the kernel whether its clock is kept right: by NTP, PTP or whatever else disciplines it."""

import ctypes
from datetime import UTC, datetime, timedelta

_ERROR = 5
"""TIME_ERROR of ntp_gettime(3): nothing keeps it right."""
_APART = timedelta(seconds=2)


class _KernelTime(ctypes.Structure):
    """struct ntptimeval of glibc's sys/timex.h."""

    _fields_ = (
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("max_error", ctypes.c_long),
        ("estimated_error", ctypes.c_long),
        ("tai", ctypes.c_long),
        ("reserved", ctypes.c_long * 4),
    )


def is_synchronised(system: datetime) -> bool:
    """Tell whether a system's time is the kernel's own, and that is kept right; in doubt it is not."""
    found = _KernelTime()
    try:
        state: int = ctypes.CDLL(None).ntp_gettimex(ctypes.byref(found))
    except (AttributeError, OSError):  # a C library without it
        return False
    kernel = datetime.fromtimestamp(found.seconds, UTC)
    # What this process is shown may be another clock, by a library in front of the C library.
    return 0 <= state < _ERROR and abs(kernel - system) < _APART
