"""A file copied in pieces, by several threads if it is large.

Each thread reads a piece and writes it: the bytes are in its processor's cache in between, where one thread that
reads for another that writes would move them from cache to cache. System calls do not hold the interpreter."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator

from memfs.cli.sparsefile import SparseFile
from memfs.errors import AbsentMemory
from memfs.image import Run, State
from memfs.io.buffers import room
from memfs.tree.node import Reader

_WORTH_THREADS = 8 << 20
_THREADS = 4  # more would only wait for memory
_PAGE = 4096
_PIECE = 4 << 20  # as much as LiveSpace looks at and reads at once


class Pieces:
    """The data of one file on their way into a copy."""

    def __init__(
        self, reader: Reader, runs: Iterable[Run], base: int, copy: SparseFile, progress: Callable[[int], None]
    ) -> None:
        """`runs` say what the file has, from its beginning, which is at `base`: they are asked for as they are needed,
        by any thread. `progress` is told bytes as they are written."""
        self.absent = 0  # bytes that the image does not have
        self._reader = reader
        self._copy = copy
        self._progress = progress
        self._lock = threading.Lock()
        self._planned = 0  # all before it is a hole, or has been handed out
        self._begun: set[int] = set()  # where the pieces begin that have been handed out and are not written
        self._left = self._plan(runs, base)
        self._error: BaseException | None = None

    @property
    def whole(self) -> int:
        """All before this offset is in the copy as it will be."""
        return min(self._begun, default=self._planned)

    def run(self, size: int) -> None:
        """Copy all of it, of a file of `size` bytes. Pages of a live process that vanish meanwhile are absent. Raises
        MemfsError, OSError."""
        count = min(_THREADS, len(os.sched_getaffinity(0))) if size >= _WORTH_THREADS else 1
        helpers = _started(count - 1, self._work)
        self._work()
        for helper in helpers:
            helper.join()
        if self._error is not None:
            raise self._error

    def _plan(self, runs: Iterable[Run], base: int) -> Iterator[tuple[int, int]]:
        """The pieces [start, end) of data, in order; all else becomes holes on the way."""
        for run in runs:
            start, end = run.start - base, run.end - base
            if run.state is State.DATA:
                while start < end:
                    self._planned = min(start + _PIECE, end)
                    yield start, self._planned
                    start = self._planned
            else:
                self._copy.leave(start, end)
                self._planned = end
                self.absent += end - start if run.state is State.ABSENT else 0

    def _work(self) -> None:
        """Copy pieces until none is left, or until another thread has failed."""
        buffer = room(_PIECE)
        try:
            while (piece := self._take()) is not None:
                start, end = piece
                self._one(start, end, buffer)
                with self._lock:
                    self._begun.remove(start)
                    self._progress(end - start)
        except BaseException as error:  # raised again by run()
            with self._lock:
                self._error = self._error or error

    def _take(self) -> tuple[int, int] | None:
        with self._lock:
            piece = None if self._error else next(self._left, None)
            if piece is not None:
                self._begun.add(piece[0])
            return piece

    def _one(self, start: int, end: int, buffer: memoryview) -> None:
        while start < end:
            got = self._read(start, buffer[: end - start])
            if got:
                self._copy.put(start, buffer[:got])
                start += got
            else:
                behind = min(end, start - start % _PAGE + _PAGE)
                self._copy.leave(start, behind)
                with self._lock:
                    self.absent += behind - start
                start = behind

    def _read(self, start: int, buffer: memoryview) -> int:
        try:
            return self._reader.readinto(start, buffer)
        except AbsentMemory:
            return 0


def _started(count: int, work: Callable[[], None]) -> list[threading.Thread]:
    """Threads at work: as many as may be had of `count`, which may be none (RLIMIT_NPROC, a cgroup's pids.max)."""
    threads: list[threading.Thread] = []
    with contextlib.suppress(RuntimeError):
        for _ in range(count):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            threads.append(thread)
    return threads
