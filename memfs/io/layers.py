"""Spaces over other Spaces: what a kernel's areas show of what lies below."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from memfs.errors import AbsentMemory
from memfs.image import Piece, Run, Space, State, Tally
from memfs.io import paging
from memfs.io.sparse import read_filled


class GapsAs:
    """Another Space whose gaps are of another state: zero, as /proc/kcore shows them, or absent."""

    def __init__(self, space: Space, state: State) -> None:
        self._space = space
        self._state = state
        self._filled = True if state is State.ZERO else None

    def readinto(self, address: int, buffer: memoryview) -> int:
        try:
            return read_filled(self._space, address, buffer, gaps=self._filled)
        except AbsentMemory as missing:
            if self._filled:
                raise
            raise AbsentMemory(address, gap=False) from missing

    def runs(self, low: int, high: int) -> Iterator[Run]:
        for run in self._space.runs(low, high):
            yield run._replace(state=self._state) if run.state == State.GAP else run

    def tally(self, low: int, high: int) -> Tally | None:
        tally = self._space.tally(low, high)
        if tally is None:
            return None
        gaps = high - low - sum(tally)
        zero = self._state is State.ZERO
        return Tally(tally.data, tally.zero + (gaps if zero else 0), tally.absent + (0 if zero else gaps))

    def view(self, address: int, size: int) -> Piece | None:
        return self._space.view(address, size)


class BytesOf:
    """The bytes of one Space and the states of another: where reading is cheaper than to find out what is there, and
    gives what is not there as files show it."""

    def __init__(self, source: Space, states: Space) -> None:
        self.readinto = source.readinto
        self.view = source.view
        self.runs = states.runs
        self.tally = states.tally


class Behind:
    """A Space, and another one that shows through its gaps."""

    def __init__(self, front: Space, back: Space) -> None:
        self._front = front
        self._back = back

    def readinto(self, address: int, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            try:
                got = self._front.readinto(address + done, buffer[done:])
            except AbsentMemory as absent:
                if not absent.gap:
                    if done:
                        break
                    raise
                end = next(iter(self._front.runs(address + done, address + len(buffer)))).end
                try:
                    got = self._back.readinto(address + done, buffer[done : end - address])
                except AbsentMemory:
                    if done:
                        break
                    raise
            done += got
        return done

    def runs(self, low: int, high: int) -> Iterator[Run]:
        for run in self._front.runs(low, high):
            if run.state is State.GAP:
                yield from self._back.runs(run.start, run.end)
            else:
                yield run

    def tally(self, low: int, high: int) -> Tally | None:
        return paging.count(self, low, high)

    def view(self, address: int, size: int) -> Piece | None:
        return self._front.view(address, size)


class Unmapped:
    """A Space of which some ranges are data only where page tables map something: the areas of a live kernel that are
    far larger than what is in them. The tables are walked at each look, and what they say is kept for nothing else."""

    def __init__(
        self, space: Space, ranges: Sequence[tuple[int, int]], tables: Callable[[], paging.PageTables]
    ) -> None:
        """`ranges` are sorted and disjoint."""
        self._space = space
        self._ranges = ranges
        self._tables = tables

    def readinto(self, address: int, buffer: memoryview) -> int:
        end = address + len(buffer)
        if any(low < end and address < high for low, high in self._ranges):
            first = next(self.runs(address, end), None)
            if first is not None:
                if first.state is not State.DATA:
                    raise AbsentMemory(address, gap=True)
                end = first.end
        return self._space.readinto(address, buffer[: end - address])

    def runs(self, low: int, high: int) -> Iterator[Run]:
        last: Run | None = None
        for run in self._split(low, high):
            if last is not None and last.state is run.state and _follows(last, run):
                last = last._replace(end=run.end)
                continue
            if last is not None:
                yield last
            last = run
        if last is not None:
            yield last

    def _split(self, low: int, high: int) -> Iterator[Run]:
        position = low
        for start, end in self._ranges:
            start, end = max(start, low), min(end, high)
            if start >= end:
                continue
            yield from self._space.runs(position, start)
            yield from self._mapped(start, end)
            position = end
        if position < high:
            yield from self._space.runs(position, high)

    def _mapped(self, low: int, high: int) -> Iterator[Run]:
        position = low
        for start, end in self._tables().mapped(low, high):
            if start > position:
                yield Run(position, start, State.GAP, None)
            yield from self._space.runs(start, end)
            position = end
        if position < high:
            yield Run(position, high, State.GAP, None)

    def tally(self, low: int, high: int) -> Tally | None:
        if not any(start < high and low < end for start, end in self._ranges):
            return self._space.tally(low, high)
        return paging.count(self, low, high)

    def view(self, address: int, size: int) -> Piece | None:
        return None


def _follows(last: Run, run: Run) -> bool:
    """Whether a run goes on in the source where the last one ended."""
    if last.origin is None or run.origin is None:
        return last.origin is run.origin
    return last.origin + last.end - last.start == run.origin
