"""A regular file as the source of an image: read by pread, never written, and watched for change."""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Iterator
from typing import Protocol

from memfs.errors import MemfsError, SourceChanged, from_os_error
from memfs.image import Piece
from memfs.io.buffers import room

_EXTENTS_AT_MOST = 1 << 20
"""A file with more pieces than this counts as data behind them: sparseness is lost, never a byte."""


class Bytes(Protocol):
    """What an image's bytes are read from: a file, or /proc/kcore. Any thread may read."""

    path: str
    size: int
    mtime_ns: int
    is_sparse: bool

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`, fewer at the end. Raises SourceChanged, MemfsError (EIO)."""

    def readinto(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`; short only at the end."""

    def extents(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The pieces of [low, high) that are stored, in order."""

    def stored(self, low: int, high: int) -> int:
        """How many bytes of [low, high) are stored."""

    def view(self, offset: int, size: int) -> Piece | None:
        """[offset, offset + size) for a system call to take, or None."""

    def close(self) -> None: ...


class FileSource:
    """An open file, thread-safe, with the identity that it had when it was opened.

    Whoever changes the file under us (size or mtime) gets SourceChanged (EIO) for every later read: what was
    concluded from the old bytes must not be mixed with new ones."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        info = os.fstat(fd)
        self.size = info.st_size
        self.mtime_ns = info.st_mtime_ns
        self.is_sparse = info.st_blocks * 512 < info.st_size  # whether it may have holes at all
        self._extents: tuple[list[int], list[int], list[int]] | None = None

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def check(self) -> None:
        """Raises SourceChanged if the file is not what was opened."""
        info = os.fstat(self.fd)
        if info.st_size != self.size or info.st_mtime_ns != self.mtime_ns:
            cut = f"it had {self.size} bytes and has {info.st_size} now"
            why = cut if info.st_size != self.size else "its modification time is another"
            raise SourceChanged("the file changed while it was open", why, "open it again", subject=self.path)

    def readinto(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`; short only at the end of the file."""
        done = 0
        try:
            while done < len(buffer):
                got = os.preadv(self.fd, (buffer[done:],), offset + done)
                if not got:
                    break
                done += got
        except OSError as error:
            raise from_os_error(self.path, error, f"reading at {offset + done:#x} failed") from error
        self.check()
        return done

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`, fewer at the end: never more memory than the file deserves."""
        size = max(0, min(size, self.size - offset))
        buffer = room(size)
        got = self.readinto(offset, buffer) if size else 0
        return bytes(buffer[:got])

    # -- holes ---------------------------------------------------------------------------------------------------

    def extents(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The pieces of [low, high) that are stored, in order: what SEEK_DATA calls data. Raises SourceChanged."""
        if not self.is_sparse:
            yield low, high
            return
        starts, ends, _ = self._sparse_map()
        index = max(0, bisect_right(starts, low) - 1)
        while index < len(starts) and starts[index] < high:
            start, end = max(low, starts[index]), min(high, ends[index])
            if start < end:
                yield start, end
            index += 1

    def stored(self, low: int, high: int) -> int:
        """How many bytes of [low, high) are stored."""
        if not self.is_sparse:
            return high - low
        return self._stored_below(high) - self._stored_below(low)

    def _stored_below(self, offset: int) -> int:
        starts, ends, sums = self._sparse_map()
        index = bisect_right(starts, offset) - 1
        return sums[index] + min(offset, ends[index]) - starts[index] if index >= 0 else 0

    def _sparse_map(self) -> tuple[list[int], list[int], list[int]]:
        """Starts and ends of the stored pieces, and the bytes stored before each. Made once; lseek(2) with
        SEEK_DATA answers for any thread, as nothing here uses the file's position."""
        if self._extents is None:
            starts: list[int] = []
            ends: list[int] = []
            sums: list[int] = []
            position = total = 0
            try:
                while position < self.size:
                    start = os.lseek(self.fd, position, os.SEEK_DATA)
                    full = len(starts) >= _EXTENTS_AT_MOST
                    position = self.size if full else min(os.lseek(self.fd, start, os.SEEK_HOLE), self.size)
                    starts.append(start)
                    ends.append(position)
                    sums.append(total)
                    total += position - start
            except OSError:  # ENXIO: no more data. EINVAL, EOPNOTSUPP: the filesystem knows no holes.
                if not starts and not self._knows_holes():
                    starts, ends, sums = [0], [self.size], [0]
            self.check()  # what was cut off would count as a hole
            self._extents = starts, ends, sums
        return self._extents

    def _knows_holes(self) -> bool:
        try:
            os.lseek(self.fd, 0, os.SEEK_HOLE)
        except OSError:
            return False
        return True

    # -- pieces --------------------------------------------------------------------------------------------------

    def view(self, offset: int, size: int) -> Piece | None:
        """[offset, offset + size) for a system call to take. None for a sparse file, as holes may be allocated by
        that."""
        if self.is_sparse or offset + size > self.size:
            return None
        return Piece(self.fd, offset, size, self.check)


def open_file(path: str) -> FileSource:
    """Open a regular file for reading. Never waits for a FIFO's writer. Raises MemfsError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise from_os_error(path, error) from error
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return FileSource(path, fd)
    os.close(fd)
    what = next((word for test, word in _KINDS if test(mode)), "not a regular file")
    raise MemfsError(f"this is {what}", "not a memory image", "name a file: an ELF core", subject=path)


_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISSOCK, "a socket"),
)
