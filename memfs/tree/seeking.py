"""Memory of which page tables say what there is: whoever seeks through it, from data to hole to data, is led by one
walk of the tables, and not by one for each step."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from memfs.errors import MemfsError
from memfs.image import Run, Space, State
from memfs.tree.node import Memory, MemoryReader, Reader

_FRESH = 1.0
"""Seconds for which a walk is gone on with. An open file never says what was so before it was opened."""


class _Place(NamedTuple):
    """Where a walk is: the run that was told of last, those behind it, and when the walk began."""

    run: Run
    rest: Iterator[Run]
    since: float


class SeekingMemory(Memory):
    """A file of such memory."""

    def open(self) -> Reader:
        return _SeekingReader(self.space, self.base, self.size)


class _SeekingReader(MemoryReader):
    def __init__(self, space: Space, base: int, size: int) -> None:
        super().__init__(space, base, size)
        self._lock = threading.Lock()
        self._place: _Place | None = None

    def next_data(self, offset: int) -> int:
        found = self._next(offset, data=True)
        if found is None:
            raise MemfsError("no data", "nothing but holes follows", errno=errno.ENXIO)
        return found

    def next_hole(self, offset: int) -> int:
        found = self._next(offset, data=False)
        return self.size if found is None else found

    def _next(self, offset: int, data: bool) -> int | None:
        """Where the next run of data, or of anything else, begins. A walk is of one thread at a time: another that
        seeks meanwhile begins its own."""
        address = self.base + self._inside(offset)
        with self._lock:
            place, self._place = self._place, None
        if place is None or not self._leads_on(place, address):
            rest = iter(self.space.runs(address, self.base + self.size))
            place = _Place(Run(address, address, State.GAP, None), rest, time.monotonic())
        run: Run | None = place.run
        while run is not None and (run.end <= address or (run.state is State.DATA) is not data):
            run = next(place.rest, None)
        if run is None:
            return None
        with self._lock:
            self._place = place._replace(run=run)
        return max(run.start, address) - self.base

    @staticmethod
    def _leads_on(place: _Place, address: int) -> bool:
        return place.run.start <= address <= place.run.end and time.monotonic() - place.since < _FRESH
