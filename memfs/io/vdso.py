"""The vdso: one image of the kernel, mapped into every process of a kind, so that our own tells what another has in
pages of it that it never touched."""

from __future__ import annotations

import functools
import os

from memfs.io import maps
from memfs.io.pagemap import PAGE

_BUILD_ID = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"  # the head of an NT_GNU_BUILD_ID of 20 bytes, little endian


@functools.cache
def own() -> bytes:
    """Our own vdso; nothing where it cannot be read, or has no build-id in its first page to know it by."""
    try:
        fd = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
        try:
            area = next((area for area in maps.parse(maps.read_all(fd)) if area.path == "[vdso]"), None)
        finally:
            os.close(fd)
        if not area:
            return b""
        fd = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = os.pread(fd, area.end - area.start, area.start)
        finally:
            os.close(fd)
    except OSError:
        return b""
    return raw if _BUILD_ID in raw[:PAGE] and len(raw) == area.end - area.start else b""


def is_ours(size: int, first_page: bytes) -> bool:
    """Whether a vdso of this size with this first page (headers, build-id, symbols) is the same as our own."""
    mine = own()
    return len(mine) == size > 0 and mine[:PAGE] == first_page
