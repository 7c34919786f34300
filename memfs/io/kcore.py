"""/proc/kcore as a source, by the rules that it has to be read by.

Source: fs/proc/kcore.c, Linux 4.19 to 6.12. One open file has one buffer for all who read through it, without a lock:
two reads at once get each other's bytes. The program headers are made anew when memory was hot-plugged and anybody
opens the file again; from then on every descriptor shows the new ones, and offsets may have moved under those who read
by the old. There is no end of file: what is nowhere reads as zeros.

Where a byte lies is its address less the lowest kernel address, plus the size of the headers and notes in whole pages.
Of these the number of program headers alone changes, so after a read the ELF header says whether it was right. Memory
that took another's place meanwhile, the number being the same, is found by who looks at all headers (is_current)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from memfs.elf import header
from memfs.errors import MemfsError, from_os_error
from memfs.image import Piece, Run, Space, Tally
from memfs.io.buffers import room

READ_AT_MOST = 1 << 20
"""The size of a read that is fastest; larger ones are slower again."""

_HEADERS_AT_MOST = 4 << 20
"""As many as 65,535 program headers take."""


class Replaced(MemfsError):
    """The program headers are not those that the offsets were worked out by."""

    def __init__(self, path: str) -> None:
        super().__init__("the memory of the machine changed", "some was hot-plugged", "look again", subject=path)


class Kcore:
    """/proc/kcore under one set of program headers, read through one descriptor for each reader at a time."""

    is_sparse = False

    def __init__(self, path: str) -> None:
        """Opens the file, which makes the kernel look at its memory again. Raises MemfsError."""
        self.path = path
        self._free: list[int] = []
        self._open = True
        fd = self._descriptor()
        info = os.fstat(fd)
        self.size = info.st_size
        self.mtime_ns = info.st_mtime_ns
        self._free.append(fd)
        self.headers = self._headers(fd)
        self._ehdr = self.headers[: header.EHDR_SIZE[64]]

    def _descriptor(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(self.path, error) from error

    def _headers(self, fd: int) -> bytes:
        """The ELF header and the program headers behind it: not the notes, one of which changes all the time."""
        raw = self._pread(fd, header.EHDR_SIZE[64], 0)
        ehdr = header.parse_ehdr(raw)
        end = ehdr.e_phoff + ehdr.e_phnum * ehdr.e_phentsize if ehdr else len(raw)
        return self._pread(fd, min(end, _HEADERS_AT_MOST), 0)

    def _pread(self, fd: int, size: int, offset: int) -> bytes:
        try:
            return os.pread(fd, size, offset)
        except OSError as error:
            raise from_os_error(self.path, error, f"reading at {offset:#x} failed") from error

    def is_current(self) -> bool:
        """Whether the kernel still has the same program headers, after it has looked at its memory again."""
        fd = self._descriptor()
        try:
            return self._pread(fd, len(self.headers), 0) == self.headers
        finally:
            os.close(fd)

    def readinto(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`. Raises Replaced if offsets moved, then or before."""
        try:
            fd = self._free.pop()  # nobody else reads through it until it is back; a list needs no lock
        except IndexError:
            fd = self._descriptor()
        done, size = 0, len(buffer)
        try:
            while done < size:
                got = os.preadv(fd, (buffer[done : done + READ_AT_MOST],), offset + done)
                if not got:
                    break
                done += got
            if os.pread(fd, len(self._ehdr), 0) != self._ehdr:
                raise Replaced(self.path)
        except OSError as error:
            raise from_os_error(self.path, error, f"reading at {offset + done:#x} failed") from error
        finally:
            self._free.append(fd)
            if not self._open:
                self.close()
        return done

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`, none behind the end that the file's size says."""
        buffer = room(max(0, min(size, self.size - offset)))
        got = self.readinto(offset, buffer) if len(buffer) else 0
        return bytes(buffer[:got])

    def extents(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        yield low, high

    def stored(self, low: int, high: int) -> int:
        return high - low

    def view(self, offset: int, size: int) -> Piece | None:
        return None

    def close(self) -> None:
        """Close all descriptors; those in use are closed when their readers are done."""
        self._open = False
        while self._free:
            with contextlib.suppress(IndexError):  # another thread closes them too
                os.close(self._free.pop())


_TRIES = 5


class Following:
    """A Space of a live kernel that goes on when its memory is hot-plugged: it is that of the present headers."""

    def __init__(self, now: Callable[[], Space], refresh: Callable[[], None]) -> None:
        """`now` gives the Space of the headers that are known, `refresh` reads them again."""
        self._now = now
        self._refresh = refresh

    def readinto(self, address: int, buffer: memoryview) -> int:
        for _ in range(_TRIES):
            try:
                return self._now().readinto(address, buffer)
            except Replaced:
                self._refresh()
        return self._now().readinto(address, buffer)

    def runs(self, low: int, high: int) -> Iterator[Run]:
        position = low
        for _ in range(_TRIES):
            try:
                for run in self._now().runs(position, high):
                    yield run
                    position = run.end
                return
            except Replaced:
                self._refresh()
        yield from self._now().runs(position, high)

    def tally(self, low: int, high: int) -> Tally | None:
        try:
            return self._now().tally(low, high)
        except Replaced:
            self._refresh()
            return self._now().tally(low, high)

    def view(self, address: int, size: int) -> Piece | None:
        return None
