"""System calls that Python does not have. ctypes is imported when the first is made."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from typing import Any

_CACHESTAT = 451  # the same on every machine (include/uapi/asm-generic/unistd.h); since Linux 6.5
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # include/uapi/linux/falloc.h
TMPFS_MAGIC, PROC_SUPER_MAGIC = 0x01021994, 0x9FA0  # include/uapi/linux/magic.h


@functools.cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def process_vm_readv() -> Callable[[int, int, int, int, int, int], int]:
    """(pid, local iovecs, their number, remote iovecs, their number, 0) -> bytes, or -1. Addresses are numbers."""
    import ctypes

    call = _libc().process_vm_readv
    call.restype = ctypes.c_ssize_t
    call.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong,
    ]  # fmt: skip
    found: Callable[[int, int, int, int, int, int], int] = call
    return found


def address_of(view: memoryview) -> int:
    """Where a writable buffer lies."""
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def filesystem(fd: int) -> int:
    """The magic number of the filesystem of an open file (fstatfs(2): the first word). Raises OSError."""
    import ctypes

    buffer = (ctypes.c_ulong * 64)()
    if _libc().fstatfs(fd, buffer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(buffer[0]) & 0xFFFFFFFF


def cachestat(fd: int, offset: int, size: int) -> tuple[int, int]:
    """Pages of [offset, offset + size) of a file that are in the page cache, and that were put out of it: for shmem,
    those are in swap. Raises OSError (ENOSYS before Linux 6.5)."""
    import ctypes

    span = (ctypes.c_uint64 * 2)(offset, size)
    found = (ctypes.c_uint64 * 5)()  # nr_cache nr_dirty nr_writeback nr_evicted nr_recently_evicted
    call = _libc().syscall
    call.restype = ctypes.c_long
    if call(ctypes.c_long(_CACHESTAT), ctypes.c_uint(fd), span, found, ctypes.c_uint(0)):
        number = ctypes.get_errno() or errno.EIO
        raise OSError(number, os.strerror(number))
    return found[0], found[3]


def punch_hole(fd: int, offset: int, size: int) -> None:
    """Make [offset, offset + size) of an open file a hole, which reads as zeros. Raises OSError (EOPNOTSUPP)."""
    import ctypes

    call = getattr(_libc(), "fallocate64", None) or _libc().fallocate
    if call(fd, ctypes.c_int(_KEEP_SIZE | _PUNCH_HOLE), ctypes.c_int64(offset), ctypes.c_int64(size)):
        number = ctypes.get_errno() or errno.EIO
        raise OSError(number, os.strerror(number))
