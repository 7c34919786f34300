"""Bytes of a file on their way to the kernel without a copy here: splice(2) by a pipe.

A writev(2) from a mapping of the file is slower: it costs a page fault for every 16 pages, and a walk of the page table
for every one. So is libfuse's own splice, which asks for pages to be moved: those of a core leave the page cache."""

from __future__ import annotations

import contextlib
import fcntl
import os

from memfs.image import Piece

F_SETPIPE_SZ, F_GETPIPE_SZ = 1031, 1032  # include/uapi/linux/fcntl.h; in Python's fcntl from 3.10 on Linux alone
CAPACITY = 1 << 20
"""What everybody may have (/proc/sys/fs/pipe-max-size): 256 pages, of which the header takes one."""
_PAGE = 4096


class Pipe:
    """A pipe for one thread."""

    def __init__(self) -> None:
        self._open()

    def _open(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with contextlib.suppress(OSError):  # this user has too many pipes (pipe-user-pages-soft)
            fcntl.fcntl(self._write, F_SETPIPE_SZ, CAPACITY)
        self._pages: int = fcntl.fcntl(self._write, F_GETPIPE_SZ) // _PAGE

    def close(self) -> None:
        """Nothing more is sent."""
        os.close(self._read)
        os.close(self._write)

    def takes(self, piece: Piece) -> bool:
        """Whether a piece fits, behind a header."""
        return 1 + (piece.offset % _PAGE + piece.size + _PAGE - 1) // _PAGE <= self._pages

    def send(self, fd: int, header: bytes, piece: Piece) -> int:
        """Write a header and a piece to `fd` as one message; returns how many bytes of the piece there were.

        If these are fewer than it should have, nothing is sent. Raises OSError; nothing is left in the pipe."""
        done = 0
        try:
            os.write(self._write, header)
            while done < piece.size:
                got = os.splice(piece.fd, self._write, piece.size - done, offset_src=piece.offset + done)
                if not got:
                    break
                done += got
            if done == piece.size:
                os.splice(self._read, fd, len(header) + done)
                return done
        except OSError:
            self._renew()
            raise
        self._renew()
        return done

    def _renew(self) -> None:
        self.close()
        self._open()
