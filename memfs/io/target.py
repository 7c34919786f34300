"""One address space of a process, opened: its descriptors, and how its bytes are fetched.

/proc/PID/mem reads whatever is there, without regard to permissions, and never waits for a userfaultfd.
process_vm_readv(2) is faster for many pieces and for large ones, but goes by a number that may come to mean another
process or another program, and may wait for ever where a userfaultfd has to fill a page: the caller says when that
cannot be, which smaps tells, and that the process has none to register more with. Making smaps holds the lock of the
address space for 7 ms a GiB, so it is made for those who read much, and very large processes are read without."""

from __future__ import annotations

import errno
import os
import threading
import time
from array import array
from collections.abc import Sequence
from operator import itemgetter, sub

from memfs.errors import MemfsError
from memfs.io import maps, native, pagemap, vdso
from memfs.io.maps import Area, Areas
from memfs.io.pagemap import PAGE
from memfs.io.smaps import Flags
from memfs.io.userfault import Userfaultfd

_TRIES = 3
_SMALL = 4 << 30  # bytes that are resident
_FRESH = 0.01  # seconds
_PIECES_AT_MOST = 1024  # UIO_MAXIOV
_A_PIECE = 1 << 15  # a read of /proc/PID/mem more takes as long as the difference for so many bytes
_WORTH_SMAPS = 8  # whoever reads more than this part of what is resident has saved the time that smaps takes

Span = tuple[int, int]
_START, _END = itemgetter(0), itemgetter(1)


class Gone(Exception):
    """The address space is no more: the process ended, or called exec."""


def incarnation(directory: int) -> bytes:
    """What tells one program of a process from the next that it executes: the auxiliary vector with its random
    addresses, as the kernel saved it (mm->saved_auxv); nothing of the process is read. Raises OSError."""
    fd = os.open("auxv", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


class Target:
    """The descriptors belong to the address space that the process had when they were opened, for ever.

    `directory` is an open descriptor of /proc/PID. Raises OSError. Thread-safe."""

    weight = 4

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._fds: list[int] = []
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        self.maps, self.pagemap, self.mem, smaps = self._fds
        self.flags = Flags(smaps)
        self._userfaultfd = Userfaultfd(directory)
        self._resident = _resident(directory)
        self._given = 0  # bytes that would have come faster with smaps
        self.pid = own_number(directory) if self._resident < _SMALL else 0  # 0: not by its number
        self._text = threading.Lock()
        self._vdso: bool | None = None

    def _open(self) -> None:
        for _ in range(_TRIES):
            self.incarnation = incarnation(self._directory)
            for name in ("maps", "pagemap", "mem", "smaps"):
                self._fds.append(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory))
            if self.is_current():
                return
            self.close()
        raise MemfsError("the process keeps executing other programs", errno=errno.EAGAIN)

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def is_current(self) -> bool:
        """Whether it is still what the process runs in."""
        self._checked = time.monotonic()
        return self.incarnation == incarnation(self._directory)

    def seems_current(self) -> bool:
        """The same, asked again only after 10 ms: an address space that has ended says so itself, so this is about
        one that a vfork(2)'s child shared with its parent until it executed something else."""
        return time.monotonic() < self._checked + _FRESH or self.is_current()

    # -- what is mapped ----------------------------------------------------------------------------------------------

    def areas(self) -> Areas:
        """All mappings, from the text. One reader at a time: the file goes on where the last read ended. Raises Gone:
        an address space that has ended has none."""
        with self._text:
            areas = Areas(maps.parse(maps.read_all(self.maps)))
        if not areas:
            raise Gone
        areas.incarnation = self.incarnation
        return areas

    def between(self, low: int, high: int, queries: bool = True) -> Sequence[Area]:
        """What is mapped in [low, high) now. Raises Gone."""
        try:
            areas = maps.query(self.maps, low, high) if queries else None
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise Gone from error
            raise
        if areas is not None:
            return areas
        return self.areas().within(low, high)

    def has_our_vdso(self, area: Area) -> bool:
        """Whether the [vdso] is the same as our own, so that pages that it never touched can be taken from there."""
        if self._vdso is None:
            self._vdso = vdso.is_ours(area.end - area.start, self._first_page(area))
        return self._vdso

    def _first_page(self, area: Area) -> bytes:
        """Of a mapping, if it is there; else nothing."""
        first = next(iter(pagemap.entries(self.pagemap, area.start, area.start + PAGE)), None)
        page = bytearray(PAGE)
        got = self._by_mem(area.start, memoryview(page)) if first and first[2] & pagemap.PRESENT else 0
        return bytes(page[:got])

    def may_wait(self, low: int, high: int, spans: Sequence[Span]) -> bool:
        """Whether process_vm_readv(2) of these pieces of [low, high) might wait for somebody who has to fill a page;
        also if nobody knows yet, and to find out is not worth it or another thread is about to. Raises OSError."""
        if self._userfaultfd.is_held():
            return True
        if not self.flags.at_hand(high):
            self._given += sum(end - start for start, end in spans) + len(spans) * _A_PIECE
            if self.flags.busy or self._given * _WORTH_SMAPS < self._resident:
                return True
        return self.flags.filled_by_others(low, high)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def read(self, spans: Sequence[Span], base: int, view: memoryview, by_pid: bool) -> int:
        """Read pieces of memory, in order, each to its distance from `base` in the view.

        Returns the address of the first byte that could not be had, or the end of the last piece. Raises Gone."""
        index = 0
        by_pid = by_pid and self.pid > 0
        reached = spans[-1][1] if spans else base
        while index < len(spans):
            if by_pid:
                index = self._by_pid(spans, index, base, view)
                if index == len(spans):
                    break
            start, end = spans[index]
            got = self._by_mem(start, view[start - base : end - base])
            if got < end - start:
                reached = start + got
                break
            index += 1
        if by_pid and not self.is_current():  # those were bytes of what the number means now
            raise Gone
        return reached

    def _by_mem(self, address: int, view: memoryview) -> int:
        """How many bytes come before the first page that the kernel does not give."""
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self.mem, (view[done:],), address + done)
            except OSError as error:
                if error.errno in (errno.EIO, errno.EFAULT):
                    break
                raise
            if not got:
                raise Gone
            done += got
        return done

    def _by_pid(self, spans: Sequence[Span], index: int, base: int, view: memoryview) -> int:
        """process_vm_readv for as many pieces as come in whole; the index of the first that did not."""
        here = native.address_of(view) - base
        call = native.process_vm_readv()
        while index < len(spans):
            remote, local = _vectors(spans[index : index + _PIECES_AT_MOST], here)
            count = len(remote) // 2
            got = call(self.pid, local.buffer_info()[0], count, remote.buffer_info()[0], count, 0)
            if got == sum(remote[1::2]):
                index += count
                continue
            for size in remote[1::2]:
                got -= size
                if got < 0:
                    return index
                index += 1
        return index


def _vectors(spans: Sequence[Span], distance: int) -> tuple[array[int], array[int]]:
    """Two arrays of struct iovec: the spans, and as many bytes each at a distance from there."""
    starts = array("L", map(_START, spans))
    remote = array("L", bytes(16 * len(spans)))
    remote[0::2] = starts
    remote[1::2] = array("L", map(sub, map(_END, spans), starts))
    local = remote[:]
    local[0::2] = array("L", map(distance.__add__, starts))
    return remote, local


def own_number(directory: int) -> int:
    """The process's id where it means the same process to us as to the /proc that the directory is in, or 0.

    A /proc of another pid namespace has other numbers: there we are several numbers, or none. Raises OSError."""
    try:
        status = _read(directory, "../self/status")
        numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith(b"NSpid:")), [])
        return int(_read(directory, "stat").split(b" ", 1)[0]) if len(numbers) == 1 else 0
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return 0


def _resident(directory: int) -> int:
    """Bytes of the process that are in memory, as statm has it. Raises OSError."""
    return int(_read(directory, "statm").split()[1]) * PAGE


def _read(directory: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(fd, 1 << 16)
    finally:
        os.close(fd)
