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
_PIECE = 2 << 20  # larger ones do not stay in the processor's cache, smaller ones take more Python


class Pieces:
    """The data of one file on their way into a copy."""

    def __init__(
        self, reader: Reader, runs: Iterable[Run], base: int, copy: SparseFile, progress: Callable[[int], None]
    ) -> None:
        """`runs` say what the file has, from its beginning, which is at `base`: they are asked for as they are needed,
        by any thread. `progress` is told bytes as they are written."""
        self.absent = 0  # bytes that the image does not have
        self._reader = reader
        self._base = base
        self._copy = copy
        self._progress = progress
        self._lock = threading.Lock()
        self._planned = 0  # all before it is a hole, or has been handed out
        self._begun: set[int] = set()  # where the pieces begin that have been handed out and are not written
        self._left = self._plan(runs)
        self._helpers: list[threading.Thread] = []
        self._error: BaseException | None = None  # of a helper

    @property
    def whole(self) -> int:
        """All before this offset is in the copy as it will be."""
        planned = self._planned
        return min(tuple(self._begun), default=planned)  # without the lock: who is stuck may hold it

    @property
    def at_work(self) -> bool:
        """Whether a thread may still write: one that was stuck when run() was interrupted a second time."""
        return any(helper.is_alive() for helper in self._helpers)

    def run(self, size: int) -> None:
        """Copy all of it, of a file of `size` bytes. Pages of a live process that vanish meanwhile are absent. Raises
        MemfsError, OSError, MemoryError. Nobody is at work when it is done, however it ends; but whoever interrupts it
        again does not wait for that."""
        count = min(_THREADS, len(os.sched_getaffinity(0))) if size >= _WORTH_THREADS else 1
        buffer = room(_PIECE)
        try:
            self._start(count - 1)
            self._work(buffer)
        finally:
            self._left = iter(())
            for helper in self._helpers:
                if helper.is_alive():  # not one that never started
                    helper.join()
        if self._error is not None:
            raise self._error

    def _start(self, count: int) -> None:
        """As many helpers as may be had of `count`, which may be none (RLIMIT_NPROC, a cgroup's pids.max)."""
        with contextlib.suppress(RuntimeError, MemoryError):
            for _ in range(count):
                helper = threading.Thread(target=self._help, daemon=True)
                self._helpers.append(helper)  # before: start() may be interrupted, with the thread at work
                helper.start()

    def _help(self) -> None:
        """What another thread does; without memory for it, nothing."""
        try:
            buffer = room(_PIECE)
        except MemoryError:
            return
        try:
            self._work(buffer)
        except BaseException as error:  # raised again by run()
            self._error = error

    def _plan(self, runs: Iterable[Run]) -> Iterator[tuple[int, int]]:
        """The pieces [start, end) of data, in order; all else becomes holes on the way."""
        for run in runs:
            start, end = run.start - self._base, run.end - self._base
            if run.state is State.DATA:
                while start < end:
                    self._begun.add(start)
                    self._planned = min(start + _PIECE, end)
                    yield start, self._planned
                    start = self._planned
            else:
                self._copy.leave(start, end)
                self._planned = end
                self.absent += end - start if run.state is State.ABSENT else 0

    def _work(self, buffer: memoryview) -> None:
        """Copy pieces until none is left, or until another thread has failed."""
        while (piece := self._take()) is not None:
            start, end = piece
            self._one(start, end, buffer)
            with self._lock:
                self._begun.remove(start)
                self._progress(end - start)

    def _take(self) -> tuple[int, int] | None:
        with self._lock:
            return None if self._error else next(self._left, None)

    def _one(self, start: int, end: int, buffer: memoryview) -> None:
        while start < end:
            got = self._read(start, buffer[: end - start])
            if got:
                self._copy.put(start, buffer[:got])
                start += got
            else:
                behind = min(end, start + _PAGE - (self._base + start) % _PAGE)  # of an address, not of an offset
                self._copy.leave(start, behind)
                with self._lock:
                    self.absent += behind - start
                start = behind

    def _read(self, start: int, buffer: memoryview) -> int:
        try:
            return self._reader.readinto(start, buffer)
        except AbsentMemory:
            return 0
