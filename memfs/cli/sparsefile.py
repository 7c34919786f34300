"""The copy that memfs cp writes: data at its offsets, holes everywhere else."""

from __future__ import annotations

import os
import stat

from memfs.io import native

_WORTH_KEEPING = 8 << 20
"""A file of this size is written over: to free its pages and to get new ones takes as long as to fill them."""


class SparseFile:
    """An open file that is filled by any number of threads. What is no regular file is written to as it is."""

    def __init__(self, fd: int) -> None:
        """`fd` is closed by close()."""
        self._fd = fd
        self._old = 0  # up to here there may be bytes of before

    def resize(self, size: int) -> None:
        """The file becomes `size` bytes long. Raises OSError."""
        fd = self._fd
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            return
        if info.st_size >= _WORTH_KEEPING and self._can_punch():
            self._old = min(info.st_size, size)
        else:
            os.ftruncate(fd, 0)
        os.ftruncate(fd, size)

    def _can_punch(self) -> bool:
        try:
            native.punch_hole(self._fd, 0, 1)
        except OSError:
            return False
        return True

    def put(self, start: int, data: memoryview) -> None:
        """Write data. Raises OSError."""
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], start + done)

    def leave(self, start: int, end: int) -> None:
        """[start, end) becomes a hole: nothing is left of what was in it. Raises OSError."""
        end = min(end, self._old)
        if start < end:
            native.punch_hole(self._fd, start, end - start)

    def close(self, whole: int | None = None, at_work: bool = False) -> None:
        """A copy that did not come to its end must not go on with bytes of before: it is cut at `whole`.

        While a thread may still write it stays open: its number would come to mean another file."""
        try:
            if whole is not None and self._old:
                os.ftruncate(self._fd, whole)
        finally:
            if not at_work:
                os.close(self._fd)
