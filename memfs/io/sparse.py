"""An address space made of extents of a file: what a core's PT_LOADs are.

Where extents overlap, the first that has data wins, then the first that has none. The cost follows the number of
extents (n log n), not its square: real files have 66,000 at one address."""

import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import accumulate, pairwise
from typing import NamedTuple

from memfs.errors import AbsentMemory, MemfsError
from memfs.image import Piece, Run, Space, State, Tally
from memfs.io.file import Bytes

_ABSENT = -1  # the origin of bytes that are not in the file


class Extent(NamedTuple):
    """[start, end) of the address space; `origin` is the offset in the file, -1 where the bytes are absent."""

    start: int
    end: int
    origin: int


def load_extents(address: int, file_size: int, memory_size: int, offset: int, available: int) -> Iterator[Extent]:
    """A PT_LOAD as extents: what the file (of `available` bytes) has of it, and the rest, which is absent."""
    stored = max(0, min(file_size, memory_size, available - offset))
    if stored:
        yield Extent(address, address + stored, offset)
    if memory_size > stored:
        yield Extent(address + stored, address + memory_size, _ABSENT)


def flatten(extents: Iterable[Extent], limit: int) -> list[Extent]:
    """The same address space without overlaps, sorted, cut at `limit`.

    Among extents with data, and among those without, the earlier in `extents` wins; data wins over none."""
    ranked = [
        (e.start, e.origin == _ABSENT, rank, min(e.end, limit), e.origin)
        for rank, e in enumerate(extents)
        if e.start < limit
    ]
    ranked.sort()
    if all(a[3] <= b[0] for a, b in pairwise(ranked)):
        return [Extent(start, end, origin) for start, _, _, end, origin in ranked]
    return _sweep(ranked)


def _sweep(ranked: Sequence[tuple[int, bool, int, int, int]]) -> list[Extent]:
    """Walk the sorted starts, with the extents that reach the position in a heap, the winner on top."""
    out: list[Extent] = []
    heap: list[tuple[bool, int, int, int, int]] = []  # absent, rank, start, end, origin
    last_rank = -1
    position = index = 0
    while index < len(ranked) or heap:
        if not heap:
            position = ranked[index][0]
        while index < len(ranked) and ranked[index][0] <= position:
            start, absent, rank, end, origin = ranked[index]
            heappush(heap, (absent, rank, start, end, origin))
            index += 1
        while heap and heap[0][3] <= position:
            heappop(heap)
        if not heap:
            continue
        _, rank, start, end, origin = heap[0]
        stop = min(end, ranked[index][0]) if index < len(ranked) else end
        if rank == last_rank and out[-1].end == position:
            out[-1] = Extent(out[-1].start, stop, out[-1].origin)
        else:
            out.append(Extent(position, stop, _ABSENT if origin == _ABSENT else origin + position - start))
            last_rank = rank
        position = stop
    return out


class ExtentSpace:
    """A Space over sorted, disjoint extents of one file. Immutable."""

    def __init__(self, source: Bytes, extents: Sequence[Extent]) -> None:
        self.source = source
        self._starts = array("Q", (e.start for e in extents))
        self._sizes = array("Q", (e.end - e.start for e in extents))
        self._origins = array("q", (e.origin for e in extents))
        self._sums: tuple[list[int], list[int]] | None = None

    def _at(self, address: int) -> int:
        """The index of the last extent that starts at or below the address, -1 for none."""
        return bisect_right(self._starts, address) - 1

    def readinto(self, address: int, buffer: memoryview) -> int:
        index = bisect_right(self._starts, address) - 1  # _at, without a call: every read comes by here
        done = 0
        while done < len(buffer):
            here = address + done
            if index < 0 or index >= len(self._starts):
                break
            inside = here - self._starts[index]
            room = self._sizes[index] - inside
            origin = self._origins[index]
            if inside < 0 or room <= 0 or origin == _ABSENT:
                break
            want = min(room, len(buffer) - done)
            got = self.source.readinto(origin + inside, buffer[done : done + want])
            if got < want:
                raise MemfsError(f"short read at {origin + inside + got:#x}", subject=self.source.path)
            done += got
            index += 1
        if not done and len(buffer):
            inside = address - self._starts[index] if index >= 0 else -1
            raise AbsentMemory(address, gap=not 0 <= inside < self._sizes[index])
        return done

    def view(self, address: int, size: int) -> Piece | None:
        index = self._at(address)
        if index < 0 or self._origins[index] == _ABSENT:
            return None
        inside = address - self._starts[index]
        if inside + size > self._sizes[index]:
            return None
        return self.source.view(self._origins[index] + inside, size)

    def runs(self, low: int, high: int) -> Iterator[Run]:
        position = low
        index = max(0, self._at(low))
        while position < high and index < len(self._starts):
            start = self._starts[index]
            end = min(high, start + self._sizes[index])
            if end > position and start < high:
                if start > position:
                    yield Run(position, start, State.GAP, None)
                    position = start
                yield from self._extent_runs(position, end, self._origins[index], start)
                position = end
            elif start >= high:
                break
            index += 1
        if position < high:
            yield Run(position, high, State.GAP, None)

    def _extent_runs(self, low: int, high: int, origin: int, start: int) -> Iterator[Run]:
        """One extent, split at the holes of the source."""
        if origin == _ABSENT:
            yield Run(low, high, State.ABSENT, None)
            return
        shift = origin - start
        position = low
        for begin, end in self.source.extents(low + shift, high + shift):
            if begin - shift > position:
                yield Run(position, begin - shift, State.ZERO, None)
            yield Run(begin - shift, end - shift, State.DATA, begin)
            position = end - shift
        if position < high:
            yield Run(position, high, State.ZERO, None)

    def tally(self, low: int, high: int) -> Tally:
        data_high, absent_high = self._below(high)
        data_low, absent_low = self._below(low)
        absent = absent_high - absent_low
        there = data_high - data_low
        if not self.source.is_sparse or not there:
            return Tally(there, 0, absent)
        stored = self._stored(low, high)
        return Tally(stored, there - stored, absent)

    def _stored(self, low: int, high: int) -> int:
        stored = 0
        index = max(0, self._at(low))
        while index < len(self._starts) and self._starts[index] < high:
            start, origin = self._starts[index], self._origins[index]
            begin, end = max(low, start), min(high, start + self._sizes[index])
            if origin != _ABSENT and begin < end:
                stored += self.source.stored(origin + begin - start, origin + end - start)
            index += 1
        return stored

    def _below(self, address: int) -> tuple[int, int]:
        """Bytes that are in the file and bytes that are absent below an address."""
        if self._sums is None:
            there = (s if o != _ABSENT else 0 for s, o in zip(self._sizes, self._origins, strict=True))
            absent = (s if o == _ABSENT else 0 for s, o in zip(self._sizes, self._origins, strict=True))
            self._sums = list(accumulate(there, initial=0)), list(accumulate(absent, initial=0))
        index = self._at(address)
        if index < 0:
            return 0, 0
        inside = min(address - self._starts[index], self._sizes[index])
        sums = self._sums[0][index], self._sums[1][index]
        return (sums[0], sums[1] + inside) if self._origins[index] == _ABSENT else (sums[0] + inside, sums[1])


class LazySpace:
    """A Space that is built when it is first used: listing a directory must not sort 131,070 extents."""

    def __init__(self, build: Callable[[], ExtentSpace]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._space: ExtentSpace | None = None

    @property
    def space(self) -> ExtentSpace:
        if self._space is None:
            with self._lock:
                self._space = self._space or self._build()
        return self._space

    def readinto(self, address: int, buffer: memoryview) -> int:
        return self.space.readinto(address, buffer)

    def runs(self, low: int, high: int) -> Iterator[Run]:
        return self.space.runs(low, high)

    def tally(self, low: int, high: int) -> Tally:
        return self.space.tally(low, high)

    def view(self, address: int, size: int) -> Piece | None:
        return self.space.view(address, size)


def read_filled(space: Space, address: int, buffer: memoryview, gaps: bool | None) -> int:
    """Space.readinto, again until the buffer is full, with zeros for what is missing: for gaps, for absent bytes if
    `gaps` is False, for nothing if it is None. Raises as readinto does."""
    done = 0
    while done < len(buffer):
        try:
            done += space.readinto(address + done, buffer[done:])
        except AbsentMemory as missing:
            if missing.gap is not gaps:
                if done:
                    break
                raise
            end = next(iter(space.runs(address + done, address + len(buffer)))).end
            count = end - address - done
            buffer[done : done + count] = bytes(count)
            done += count
    return done


class ZeroFilled:
    """Another Space whose absent bytes (never its gaps) read as zeros: `-o absent=zero`."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def readinto(self, address: int, buffer: memoryview) -> int:
        return read_filled(self._space, address, buffer, gaps=False)

    def runs(self, low: int, high: int) -> Iterator[Run]:
        for run in self._space.runs(low, high):
            yield run._replace(state=State.ZERO) if run.state == State.ABSENT else run

    def tally(self, low: int, high: int) -> Tally | None:
        tally = self._space.tally(low, high)
        return tally and Tally(tally.data, tally.zero + tally.absent, 0)

    def view(self, address: int, size: int) -> Piece | None:
        return self._space.view(address, size)
