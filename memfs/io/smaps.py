"""What the kernel says of a mapping besides its place: the VmFlags of /proc/PID/smaps.

Making that file costs the kernel a walk over the page tables, about 7 ms for each GiB that is resident, so it is read
no further than to the address that is asked about, and kept for a while. Source: fs/proc/task_mmu.c
(show_smap_vma_flags), Linux 6.18."""

from __future__ import annotations

import os
import re
import threading
import time
from bisect import bisect_right

_KEPT = 1.0  # seconds
_COST = 100  # ... and not read again before this many times the time that it took

_AREA = re.compile(
    rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) [-rwxsp]{4} [^\n]*\n(?:[A-Z][^\n]*\n)*?VmFlags:([^\n]*)\n", re.MULTILINE
)

_FILLED_BY_OTHERS = {b"um", b"ui", b"pf", b"io"}
"""Flags of mappings whose missing pages nobody can know: a userfaultfd's, or a device's memory."""


_RESIDENT = re.compile(rb"^(?:Rss|Swap|Shared_Hugetlb|Private_Hugetlb): *([0-9]+) kB", re.MULTILINE)


class Flags:
    """Which mappings are filled by somebody else than the kernel. Thread-safe."""

    def __init__(self, fd: int) -> None:
        """`fd` is an open smaps file, which stays the caller's and is used by nothing else."""
        self._fd = fd
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._known = 0  # everything below this address has been read
        self._rest = b""
        self._cost = 0.0
        self._old = time.monotonic() + _KEPT

    @property
    def busy(self) -> bool:
        """Whether a thread is reading them, or is about to be done."""
        return self._lock.locked()

    def at_hand(self, high: int) -> bool:
        """Whether it is known what is below an address, so that asking costs nothing."""
        return self._known >= high and not self._is_old(time.monotonic())

    def _is_old(self, now: float) -> bool:
        return now > self._old + _COST * self._cost

    def filled_by_others(self, low: int, high: int) -> bool:
        """Whether [low, high) touches such a mapping. Raises OSError."""
        with self._lock:
            now = time.monotonic()
            if self._is_old(now):
                os.lseek(self._fd, 0, os.SEEK_SET)
                self._begin()
            if self._known < high:
                self._read(high)
                self._cost += time.monotonic() - now
            index = bisect_right(self._ends, low)
            return index < len(self._starts) and self._starts[index] < high

    def is_empty(self, start: int) -> bool:
        """Whether nothing of the mapping that starts there is in memory or in swap. Raises OSError."""
        with self._lock:
            os.lseek(self._fd, 0, os.SEEK_SET)
            rest = b""
            try:
                while piece := os.read(self._fd, 1 << 16):
                    rest += piece
                    used = 0
                    for match in _AREA.finditer(rest):
                        if int(match[1], 16) == start:
                            return not any(int(size) for size in _RESIDENT.findall(match[0]))
                        used = match.end()
                    rest = rest[used:]
                return False
            finally:
                os.lseek(self._fd, 0, os.SEEK_SET)
                self._begin()

    def _read(self, high: int) -> None:
        while self._known < high:
            piece = os.read(self._fd, 1 << 16)
            if not piece:
                self._known = 1 << 64
                return
            text = self._rest + piece
            used = 0
            for match in _AREA.finditer(text):
                used = match.end()
                self._known = int(match[2], 16)
                if not _FILLED_BY_OTHERS.isdisjoint(match[3].split()):
                    self._starts.append(int(match[1], 16))
                    self._ends.append(self._known)
            self._rest = text[used:]
