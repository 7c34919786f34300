"""Waiting for requests: awake for a moment, while one comes after the other.

Who reads stands still until a thread here has been woken for its next request. To wake one on another processor takes
20 to 50 µs where processors are virtual, and a read of 1 MiB is two requests of 100 µs altogether."""

from __future__ import annotations

import os
import select
import time

_MOMENT = 100e-6  # seconds


class Waiting:
    """How one thread waits for requests on a descriptor of /dev/fuse."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        self._ready = poll.poll
        self._can = len(os.sched_getaffinity(0)) > 1  # on a processor of its own, a caller would wait for us
        self._soon = False

    def read(self, buffer: memoryview, alone: bool) -> int:
        """Read a request; returns its size in bytes. If the last one came within a moment, and no other thread waits,
        the next one is looked for that long before this sleeps. Raises OSError as readv(2) does."""
        clock = time.perf_counter
        begin = clock()
        if self._soon and alone and self._can:
            end = begin + _MOMENT
            while not self._ready(0) and clock() < end:
                pass
        got = os.readv(self._fd, (buffer,))
        self._soon = clock() - begin < _MOMENT
        return got
