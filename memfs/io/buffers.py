"""Buffers that the kernel copies into fast."""

from __future__ import annotations

_LARGE = 1 << 16


def room(size: int) -> memoryview:
    """A writable buffer of `size` bytes, zeroed; a large one begins with a page (mmap is imported for it). Raises
    MemoryError.

    A large bytearray begins 16 bytes behind one, and the kernel's copies (rep movsb) into what is not at a multiple
    of 32 take three times as long on some processors: seen on an AMD EPYC of the third generation."""
    if size < _LARGE:
        return memoryview(bytearray(size))
    import mmap

    try:
        return memoryview(mmap.mmap(-1, size))
    except OSError as error:
        raise MemoryError(str(error)) from error
