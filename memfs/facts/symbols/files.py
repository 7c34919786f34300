"""Symbols out of a file, whichever kind it is: a list of symbols, or a kernel with a symbol table.

The kind is found out by content. Files of /proc have no size, so they are read to their end."""

from __future__ import annotations

import os
import stat

from memfs.errors import MemfsError, from_os_error
from memfs.facts.symbols import listing
from memfs.facts.symbols.columns import Symbols

_AT_MOST = 512 << 20
"""A list of symbols or a vmlinux that is larger than this is none: a vmlinux with all of DWARF has 400 MB."""

_PIECE = 1 << 20
_ET_CORE = b"\x04"


def load(path: str) -> Symbols:
    """The symbols of a System.map, of (a copy of) /proc/kallsyms, or of a vmlinux. Raises MemfsError."""
    try:
        symbols = _parse(path)
    except MemfsError as error:
        error.subject = error.subject or path
        raise
    return symbols


def build_id(path: str) -> str | None:
    """NT_GNU_BUILD_ID of a vmlinux, in hex; None for a list, and where there is none. Raises MemfsError."""
    fd = _open(path)
    try:
        if os.pread(fd, 4, 0) != b"\x7fELF":
            return None
        from memfs.facts.symbols import symtab

        return symtab.build_id(lambda offset, size: os.pread(fd, size, offset), os.fstat(fd).st_size)
    except OSError as error:
        raise from_os_error(path, error) from error
    finally:
        os.close(fd)


def check(path: str) -> None:
    """Raises MemfsError for what cannot be opened: a mount says so at once, and reads it when somebody looks."""
    os.close(_open(path))


def is_map(path: str) -> bool:
    """Whether a file is a map by its beginning: a list of symbols, or an ELF file that is no core.

    What cannot be opened, or read, is none."""
    try:
        fd = _open(path)
    except MemfsError:
        return False
    try:
        head = os.read(fd, 256)
    except OSError:
        return False
    finally:
        os.close(fd)
    return listing.looks_like(head) or (head[:4] == b"\x7fELF" and _ET_CORE not in (head[16:17], head[17:18]))


def _parse(path: str) -> Symbols:
    fd = _open(path)
    try:
        head = os.pread(fd, 64, 0)
        if head.startswith(b"\x7fELF"):
            from memfs.facts.symbols import symtab

            return symtab.read(lambda offset, size: os.pread(fd, size, offset), os.fstat(fd).st_size)
        return listing.parse(_read_all(fd, path))
    except OSError as error:
        raise from_os_error(path, error) from error
    finally:
        os.close(fd)


def _open(path: str) -> int:
    """A regular file, never waiting for a FIFO's writer."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError):
            raise MemfsError("this is no path", subject=repr(path)) from error
        raise from_os_error(path, error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise MemfsError(
            "not a regular file", "no list of symbols", "name a System.map or /proc/kallsyms", subject=path
        )
    return fd


def _read_all(fd: int, path: str) -> bytes:
    pieces, total = [], 0
    while piece := os.read(fd, _PIECE):
        pieces.append(piece)
        total += len(piece)
        if total == len(piece) and not listing.looks_like(piece):
            break  # what does not begin like a list need not be read to its end to be refused
        if total > _AT_MOST:
            raise MemfsError("this is no list of symbols", f"it has more than {_AT_MOST} bytes", subject=path)
    return b"".join(pieces)
