"""The copy that memfs cp writes: data at its offsets, holes everywhere else."""

from __future__ import annotations

import os
import stat

from memfs.io import native

_WORTH_KEEPING = 8 << 20
"""A file of this size is written over: to free its pages and to get new ones takes as long as to fill them."""


class SparseFile:
    """An open file that is filled from the front. What is no regular file is written to as it is."""

    def __init__(self, fd: int) -> None:
        """`fd` is closed by close()."""
        self._fd = fd
        self._reached = 0  # all before it is as it will be
        self._old = 0  # up to here there may be bytes of before

    def resize(self, size: int) -> None:
        """The file becomes `size` bytes long, and nothing of what was in it will be left. Raises OSError."""
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
        """Write data behind what was written. Raises OSError."""
        self._clear(start)
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], start + done)
        self._reached = start + done

    def _clear(self, end: int) -> None:
        """Nothing is left of what was in the file between what was last written and `end`."""
        end = min(end, self._old)
        if end > self._reached:
            native.punch_hole(self._fd, self._reached, end - self._reached)

    def close(self, complete: bool) -> None:
        """A copy that did not come to its end must not go on with bytes of before: it is cut there."""
        try:
            if complete:
                self._clear(self._old)
            elif self._old:
                os.ftruncate(self._fd, self._reached)
        finally:
            os.close(self._fd)
