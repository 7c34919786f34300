"""Bytes of a file on their way to the kernel without a copy here: splice(2) by a pipe.

A writev(2) from a mapping of the file is slower: it costs a page fault for every 16 pages, and a walk of the page table
for every one. So is libfuse's own splice, which asks for pages to be moved: those of a core leave the page cache."""

from __future__ import annotations

import contextlib
import fcntl
import os

from memfs.fuse.filesystem import READ_AT_MOST
from memfs.image import Piece

F_SETPIPE_SZ, F_GETPIPE_SZ = 1031, 1032  # include/uapi/linux/fcntl.h; in Python's fcntl from 3.10 on Linux alone
CAPACITIES = 2 << 20, 1 << 20
"""What is wanted, for 256 pages and a header (that takes CAP_SYS_RESOURCE); and what everybody may have
(/proc/sys/fs/pipe-max-size)."""

WORTH_A_PIPE = 64 << 10
"""Fewer bytes are copied in the time that the system calls take."""

_PAGE = 4096


class Pipe:
    """A pipe for one thread."""

    def __init__(self) -> None:
        self._open()

    def _open(self) -> None:
        """Where there can be none (no descriptor is left, or this user has too many pipes: pipe-user-pages-hard), no
        piece fits into it."""
        self._read = self._write = -1
        self.pages = 0
        try:
            self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return
        for capacity in CAPACITIES:
            with contextlib.suppress(OSError):  # not allowed, or this user has too many pipes (pipe-user-pages-soft)
                fcntl.fcntl(self._write, F_SETPIPE_SZ, capacity)
                break
        self.pages = fcntl.fcntl(self._write, F_GETPIPE_SZ) // _PAGE

    def close(self) -> None:
        """Nothing more is sent."""
        if self.pages:
            os.close(self._read)
            os.close(self._write)
            self.pages = 0

    def takes(self, piece: Piece) -> bool:
        """Whether a piece fits, behind a header."""
        return 1 + (piece.offset % _PAGE + piece.size + _PAGE - 1) // _PAGE <= self.pages

    def fill(self, header: bytes, piece: Piece) -> bool:
        """Take a header and a piece; returns whether all of it was there. Raises OSError, and what the piece's check
        raises. If not all is well, nothing is left in the pipe."""
        whole = False
        try:
            os.write(self._write, header)
            done = 0
            while done < piece.size:
                got = os.splice(piece.fd, self._write, piece.size - done, offset_src=piece.offset + done)
                if not got:
                    return False
                done += got
            piece.check()
            whole = True
        finally:
            if not whole:
                self._renew()
        return True

    def empty(self, fd: int, size: int) -> None:
        """Write what was taken, which is so many bytes, to `fd` as one message. Raises OSError; nothing is left in the
        pipe."""
        try:
            os.splice(self._read, fd, size)
        except OSError:
            self._renew()
            raise

    def _renew(self) -> None:
        self.close()
        self._open()


def largest() -> int:
    """The size in bytes of the largest reads that pipes here can take: 256 pages, or four less than a pipe of 256."""
    pipe = Pipe()
    pages = pipe.pages
    pipe.close()
    return READ_AT_MOST if pages > READ_AT_MOST // _PAGE else READ_AT_MOST - 4 * _PAGE
