"""Swapping two names of a file system in one step, where it can: Linux's renameat2(2) with RENAME_EXCHANGE."""

import ctypes
import errno
import os
import tempfile
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(one: Path, other: Path) -> None:
    """Afterwards each name stands for what the other did; at no moment is either missing.

    :raises OSError: as renameat2 says; ENOSYS where there is no such call.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(one))
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    call.restype = ctypes.c_int
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


def exchange_fault(folder: Path) -> str:
    """Why names in this folder cannot be exchanged, found by trying; empty if they can."""
    try:
        with tempfile.TemporaryDirectory(prefix=".exchange.", dir=folder) as place:
            one, other = Path(place, "one"), Path(place, "other")
            one.mkdir()
            other.mkdir()
            exchange(one, other)
    except OSError as error:
        return error.strerror or str(error)
    return ""
