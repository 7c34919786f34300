"""The one exception that users see.

Every layer raises `MemfsError`, or a subclass where a caller must tell the case apart. The fronts alone
turn it into a line on stderr or an errno for the kernel."""

from __future__ import annotations

import errno as _errno
import os


class MemfsError(Exception):
    """What went wrong, why, and what to do about it: one line, never a traceback.

    `errno` is what a system call on a mounted tree gives for the same failure; `subject` is the file that it is
    about, if the message does not say."""

    def __init__(self, what: str, why: str = "", hint: str = "", errno: int = _errno.EIO, subject: str = "") -> None:
        super().__init__(what, why, hint, errno, subject)
        self.what = what
        self.why = why
        self.hint = hint
        self.errno = errno
        self.subject = subject

    def __str__(self) -> str:
        text = "; ".join(part for part in (self.what, self.why, self.hint) if part)
        return printable(f"{self.subject}: {text}" if self.subject else text)


class AbsentMemory(MemfsError):
    """The first byte asked for is not in the image: `absent` or a `gap` (ENODATA).

    `gap` is true where nothing is mapped at the address at all."""

    def __init__(self, address: int, gap: bool) -> None:
        why = "nothing is mapped there" if gap else "it belongs to the image but was not saved in it"
        super().__init__(f"no bytes at {address:#x}", why, errno=_errno.ENODATA)
        self.address = address
        self.gap = gap


class SourceChanged(MemfsError):
    """The file behind an image is not what was opened any more (EIO)."""


def not_found(name: str) -> MemfsError:
    """No such path in the tree (ENOENT)."""
    return MemfsError("no such file or directory in this image", errno=_errno.ENOENT, subject=name)


def from_os_error(subject: str, error: OSError, what: str = "", hint: str = "") -> MemfsError:
    """A system call's failure in the words of strerror(3), keeping its errno."""
    number = error.errno or _errno.EIO
    reason = os.strerror(number)
    return MemfsError(what or reason, reason if what else "", hint, number, subject)


def printable(text: str) -> str:
    """Text of an attacker (names, paths, notes) made fit for one line of a terminal."""
    return "".join(c if c.isprintable() else f"\\x{_code(c):02x}" for c in text)


def _code(char: str) -> int:
    """A character's number; a surrogate stands for a byte."""
    return ord(char) & 0xFF if "\udc80" <= char <= "\udcff" else ord(char)
