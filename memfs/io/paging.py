"""Page tables: which virtual addresses are mapped, and where to. The format comes as data (arch/paging.py)."""

from array import array
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, Protocol

from memfs.errors import AbsentMemory, MemfsError
from memfs.image import Piece, Run, Space, State, Tally

TABLES_AT_MOST = 1 << 15
"""Tables that one walk looks at, which is 64 GiB of small pages: damaged ones may lead into each other for ever."""


class Match(Protocol):
    """arch/paging.py's Match."""

    @property
    def mask(self) -> int: ...
    @property
    def value(self) -> int: ...


class Level(Protocol):
    """arch/paging.py's Level."""

    @property
    def shift(self) -> int: ...
    @property
    def entries(self) -> int: ...
    @property
    def present(self) -> Match: ...
    @property
    def leaf(self) -> Match | None: ...
    @property
    def table(self) -> int: ...
    @property
    def page(self) -> int: ...


class Geometry(Protocol):
    """arch/paging.py's Geometry."""

    @property
    def entry_size(self) -> int: ...
    @property
    def base(self) -> int: ...
    @property
    def levels(self) -> tuple[Level, ...]: ...
    @property
    def clear(self) -> int: ...
    @property
    def spread(self) -> tuple[int, int, int] | None: ...


class Mapped(NamedTuple):
    """[start, end) is mapped to physical memory from `physical` on; None where the table that says so is not there."""

    start: int
    end: int
    physical: int | None


class Endless(MemfsError):
    """Page tables that do not come to an end (EIO)."""


class PageTables:
    """The page tables of one address space. Reads nothing before it is asked; any thread may ask."""

    def __init__(
        self,
        geometry: Geometry,
        order: str,
        physical: Space,
        read_top: Callable[[int], bytes],
        limit: int = TABLES_AT_MOST,
    ) -> None:
        """`read_top(size)` gives the top table's bytes, wherever it lies; the others are read from `physical`, `limit`
        of them for one question.

        Either may raise AbsentMemory."""
        self.geometry = geometry
        self._physical = physical
        self._read_top = read_top
        self._limit = limit
        self._swap = order != _native()
        self._order: Literal["little", "big"] = "big" if order == "big" else "little"
        self._flags = [_flags(level.present, geometry.entry_size, self._order) for level in geometry.levels]

    def ranges(self, low: int, high: int) -> Iterator[Mapped]:
        """What is mapped of [low, high), by address, lazily; pieces that adjoin at both ends are one.

        Raises MemfsError (EIO) where reading failed, or the tables do not come to an end."""
        last: Mapped | None = None
        for piece in self._walk(low, high):
            if last is not None and last.end == piece.start and _adjoins(last, piece):
                last = Mapped(last.start, piece.end, last.physical)
                continue
            if last is not None:
                yield last
            last = piece
        if last is not None:
            yield last

    def mapped(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """What is mapped of [low, high), wherever to, by address, lazily; pieces that adjoin are one. Raises as ranges.

        Much cheaper than ranges: neighbours in vmalloc are none in physical memory, and no page is looked at alone."""
        start = end = low
        for piece in self._walk(low, high, apart=False):
            if piece.start == end:
                end = piece.end
                continue
            if end > start:
                yield start, end
            start, end = piece.start, piece.end
        if end > start:
            yield start, end

    def _walk(self, low: int, high: int, apart: bool = True) -> Iterator[Mapped]:
        """What is mapped, each page by itself, or (`apart` false, and then `physical` is that of the first) together
        with those that follow it in its table."""
        top = self.geometry.levels[0]
        base = self.geometry.base
        low, high = max(low, base), min(high, base + (top.entries << top.shift))
        if low >= high:
            return
        try:
            raw = self._read_top(top.entries * self.geometry.entry_size)
        except AbsentMemory:
            yield Mapped(low, high, None)
            return
        yield from self._table(raw, 0, base, low, high, [self._limit], apart)

    def _table(
        self, raw: bytes, depth: int, base: int, low: int, high: int, budget: list[int], apart: bool
    ) -> Iterator[Mapped]:
        """The entries of one table that reach into [low, high). `base` is the address of its first."""
        budget[0] -= 1
        if budget[0] < 0:
            raise Endless("the page tables do not come to an end", f"more than {self._limit:,} of them")
        level = self.geometry.levels[depth]
        size = 1 << level.shift
        first = max(0, low - base) >> level.shift
        end = min(level.entries, (high - base + size - 1) >> level.shift)
        present = self._present(raw, depth)
        index = present.find(1, first, end)
        while index >= 0:
            entry = self._entry(raw, index)
            start = base + (index << level.shift)
            if level.leaf is not None and entry & level.leaf.mask == level.leaf.value:
                after = index + 1
                if depth == len(self.geometry.levels) - 1 and not apart:
                    after = present.find(0, index, end)
                    after = end if after < 0 else after
                begin, stop = max(low, start), min(high, base + (after << level.shift))
                yield Mapped(begin, stop, self._address(entry, level.page) + begin - start)
                index = present.find(1, after, end)
                continue
            try:
                below = self._below(self._address(entry, level.table), depth + 1)
            except AbsentMemory:
                yield Mapped(max(low, start), min(high, start + size), None)
            else:
                yield from self._table(below, depth + 1, start, low, high, budget, apart)
            index = present.find(1, index + 1, end)

    def _present(self, raw: bytes, depth: int) -> bytes:
        """1 for each entry of a table that is present, 0 for the others: tables are mostly empty, and bytes.find is
        faster over them than a loop."""
        flags = self._flags[depth]
        if flags is not None:
            at, table = flags
            return raw[at :: self.geometry.entry_size].translate(table)
        present = self.geometry.levels[depth].present
        return bytes(entry != 0 and entry & present.mask == present.value for entry in self._entries(raw))

    def _entry(self, raw: bytes, index: int) -> int:
        size = self.geometry.entry_size
        return int.from_bytes(raw[index * size : (index + 1) * size], self._order)

    def _address(self, entry: int, mask: int) -> int:
        address = entry & mask & ~self.geometry.clear
        if self.geometry.spread:
            shift, bits, to = self.geometry.spread
            address |= (entry >> shift & bits) << to
        return address

    def _entries(self, raw: bytes) -> "array[int]":
        entries = array("Q" if self.geometry.entry_size == 8 else "I")
        entries.frombytes(raw)
        if self._swap:
            entries.byteswap()
        return entries

    def _below(self, address: int, depth: int) -> bytes:
        size = self.geometry.levels[depth].entries * self.geometry.entry_size
        return read_exactly(self._physical, address, size)


def _flags(present: Match, entry_size: int, order: str) -> tuple[int, bytes] | None:
    """Which byte of an entry says whether it is present, and what each of its values says; None where it takes more
    than one: an entry of zeros is never present."""
    byte = (present.mask.bit_length() - 1) // 8
    if not present.value or present.mask & ~(0xFF << 8 * byte):
        return None
    mask, value = present.mask >> 8 * byte, present.value >> 8 * byte
    at = byte if order == "little" else entry_size - 1 - byte
    return at, bytes(number & mask == value for number in range(256))


def _adjoins(last: Mapped, piece: Mapped) -> bool:
    if last.physical is None or piece.physical is None:
        return last.physical is piece.physical
    return last.physical + last.end - last.start == piece.physical


def _native() -> str:
    import sys

    return sys.byteorder


def read_exactly(space: Space, address: int, size: int) -> bytes:
    """Small things out of a Space. Raises AbsentMemory where a part is not there, MemfsError (EIO)."""
    buffer = bytearray(size)
    view = memoryview(buffer)
    done = 0
    while done < size:
        done += space.readinto(address + done, view[done:])
    return bytes(buffer)


class PagedSpace:
    """Virtual memory read through page tables."""

    def __init__(self, tables: PageTables, physical: Space) -> None:
        self._tables = tables
        self._physical = physical

    def readinto(self, address: int, buffer: memoryview) -> int:
        done = 0
        for piece in self._tables.ranges(address, address + len(buffer)):
            if piece.start != address + done or piece.physical is None:
                break
            try:
                done += self._physical.readinto(piece.physical, buffer[done : done + piece.end - piece.start])
            except AbsentMemory as absent:
                if done:
                    return done
                raise AbsentMemory(address, gap=False) from absent
            if done < piece.end - address:
                return done
        if not done and len(buffer):
            first = next(self._tables.ranges(address, address + 1), None)
            raise AbsentMemory(address, gap=first is None or first.physical is None)
        return done

    def runs(self, low: int, high: int) -> Iterator[Run]:
        position = low
        for piece in self._tables.ranges(low, high):
            if piece.start > position:
                yield Run(position, piece.start, State.GAP, None)
            if piece.physical is None:  # nobody knows what is mapped there
                yield Run(piece.start, piece.end, State.GAP, None)
            else:
                yield from self._behind(piece, piece.physical)
            position = piece.end
        if position < high:
            yield Run(position, high, State.GAP, None)

    def _behind(self, piece: Mapped, physical: int) -> Iterator[Run]:
        """A mapped piece in the states of the physical memory behind it: what is mapped is no gap."""
        shift = piece.start - physical
        for run in self._physical.runs(physical, physical + piece.end - piece.start):
            state = State.ABSENT if run.state is State.GAP else run.state
            yield Run(run.start + shift, run.end + shift, state, run.origin)

    def tally(self, low: int, high: int) -> Tally | None:
        return count(self, low, high)

    def view(self, address: int, size: int) -> Piece | None:
        return None


def count(space: Space, low: int, high: int) -> Tally | None:
    """A tally by the states of a range; None where the tables are damaged."""
    sums = [0, 0, 0, 0]
    try:
        for run in space.runs(low, high):
            sums[run.state] += run.end - run.start
    except Endless:
        return None
    return Tally(sums[State.DATA], sums[State.ZERO], sums[State.ABSENT])
