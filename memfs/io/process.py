"""The memory of a live process, read without touching it.

The page table says which pages are there (io/pagemap.py), and those are read (io/target.py); what was never touched
is zero, what a mapped file would fill in comes from the file (io/backing.py). So no page fault ever happens in the
target: its RSS, its page tables and its swap stay as they are, but for swapped pages, which come back.

Nothing stops the target, so every window is looked at three times: what is mapped, the bytes, and what is mapped
now. What is not the same mapping before and after is not given. All descriptors are opened below a descriptor of
/proc/PID, so that a pid that is used again is never another process."""

from __future__ import annotations

import errno
import itertools
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from operator import itemgetter
from typing import TypeVar

from memfs.errors import AbsentMemory, MemfsError, from_os_error
from memfs.image import Piece, Run, Space, State, Tally
from memfs.io import maps, pagemap, pagestate, vdso
from memfs.io.backing import Backing, open_mapped
from memfs.io.maps import Area, Areas
from memfs.io.pagemap import PAGE
from memfs.io.pagestate import How, is_private, is_special, may_be_filled
from memfs.io.recent import Recent
from memfs.io.runs import Stretch, count, joined
from memfs.io.target import Gone, Span, Target

WINDOW = 1 << 22
"""Of so many bytes at once it is looked whether what is mapped there stayed the same."""

_PIECE = 1 << 20
"""So many are read after one look at the page table: the fastest, and the race between the two stays short."""

_MANY, _MUCH = 8, 1 << 18
"""So many pieces of one window, or bytes, are had sooner by one process_vm_readv(2) than through /proc/PID/mem."""

_AT_ONCE = 1 << 16
"""Stretches of memory that are kept while a range is surveyed."""

_VAST = 1 << 26
"""Smaller mappings are surveyed together with their neighbours; larger ones bit by bit. Where the page map must be
read, they are worth the question whether they are empty."""

_FIRST_LOOK = 1 << 24
"""Of a larger one so many bytes are looked at first, then four times as many, and ever more where nothing is: whoever
copies it can begin, and who asks for its first data alone does not wait for a walk over all of it (26 ms a GiB)."""

_DESCRIPTORS = 192  # of all processes together: the usual limit is 1024 for one of us
_TRIES = 3
_ZEROS = memoryview(bytes(_PIECE))  # a part of it is no copy

T = TypeVar("T")


class _NoFile(Exception):
    """The mapped file cannot be had."""


_targets: Recent[Target] = Recent(_DESCRIPTORS // 2)
_files: Recent[Backing] = Recent(_DESCRIPTORS // 2)
_serial = itertools.count()


class LiveSpace:
    """The address space of a live process: a Space (image.py) that changes while it is read. Thread-safe.

    `directory` is an open descriptor of /proc/PID, which the caller owns and keeps open. `swapin` False leaves out
    what is swapped out, `backing` False what only a mapped file could tell: absent both. Every method but view
    raises MemfsError: ESRCH when the process is gone, EACCES or EPERM when the kernel does not let us look."""

    def __init__(self, directory: int, *, swapin: bool = True, backing: bool = True) -> None:
        self._directory = directory
        self._swapin = swapin
        self._backing = backing
        self._key = next(_serial)
        self._scans = True  # whether the kernel has PAGEMAP_SCAN
        self._queries = True  # whether it has PROCMAP_QUERY
        weakref.finalize(self, _discard, self._key)

    def close(self) -> None:
        """Close what is open for this process, but not `directory`."""
        _targets.forget(self._key)
        _files.forget_all(_of(self._key))

    def areas(self) -> Areas:
        """What is mapped now, in order of address: /proc/PID/maps."""
        return self._with(lambda target: target.areas())

    def pinned(self, areas: Areas) -> Space:
        """The memory of these areas (adjoining or not: areas().within(start, end)) and of no other mapping.

        Where something else is mapped by the time of a read, or nothing, or the process runs another program,
        bytes are absent. See io.maps.same_mapping for what counts as the same."""
        return _Pinned(self, areas)

    def readinto(self, address: int, buffer: memoryview) -> int:
        return self.read_pinned(address, buffer, None)

    def runs(self, low: int, high: int) -> Iterator[Run]:
        """Short zeros between data come as data; absent bytes and gaps never do."""
        return joined(self.stretches(low, high, None, exact=False))

    def tally(self, low: int, high: int) -> Tally | None:
        return count(self.stretches(low, high, None))

    def view(self, address: int, size: int) -> Piece | None:
        return None

    # -- descriptors -------------------------------------------------------------------------------------------------

    def _with(self, work: Callable[[Target], T]) -> T:
        """Run `work` on the address space that the process has now; again if that ends meanwhile."""
        try:
            for _ in range(_TRIES):
                with _targets.use(self._key, lambda: Target(self._directory)) as target:
                    try:
                        if target.seems_current():
                            return work(target)
                    except (Gone, ProcessLookupError):  # if the process itself has ended, opening it again says so
                        pass
                    _targets.forget(self._key, target)
        except OSError as error:
            raise _refused(error) from error
        raise MemfsError("the process keeps executing other programs", errno=errno.EAGAIN)

    def _between(self, target: Target, low: int, high: int) -> Sequence[Area]:
        return target.between(low, high, self._queries)

    def _pages(self, target: Target, low: int, high: int) -> Iterator[pagemap.Pages]:
        """Entries of the page table in whole pages."""
        low, high = low & -PAGE, (high + PAGE - 1) & -PAGE
        if self._scans:
            try:
                yield from pagemap.scan(target.pagemap, low, high)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTTY, errno.EINVAL):
                    raise
            self._scans = False  # the first call fails before it gives anything
        yield from pagemap.entries(target.pagemap, low, high)

    def _listed(self, target: Target, areas: Sequence[Area], low: int, high: int) -> list[pagemap.Pages]:
        """Those of [low, high), no further than the areas go: beyond user space the kernel answers nothing."""
        if not areas or areas[-1].end >> 63:
            return []
        low, high = max(low, areas[0].start), min(high, areas[-1].end)
        return list(self._pages(target, low, high)) if low < high else []

    # -- states ------------------------------------------------------------------------------------------------------

    def _pieces(
        self, target: Target, area: Area, low: int, high: int, pages: Iterable[pagemap.Pages]
    ) -> Iterator[tuple[int, int, How]]:
        """The decision for every page of [low, high), which lies in the area; `pages` begin there or before.

        What they do not tell of is mapped no more, or the memory of a device."""
        if area.path in pagestate.NEVER:
            pages = ()
        there = pagestate.table(self._swapin, is_private(area))
        missing: How | None = None
        for start, end, categories in pages:
            if start >= high:
                break
            if start > low:
                yield low, start, How.ABSENT
            else:
                start = low
            if end > high:
                end = high
            how = there[categories]
            if how is None:
                how = missing = missing or self._missing(target, area, start, high)
            yield start, end, how
            low = end
        if low < high:
            yield low, high, How.ABSENT

    def _missing(self, target: Target, area: Area, low: int, high: int) -> How:
        """What a page is that the page table does not have."""
        if is_special(area):
            ours = area.path == "[vdso]" and target.has_our_vdso(area)
            return How.VDSO if ours else How.ABSENT
        if may_be_filled(area) and target.flags.filled_by_others(low, high):
            return How.ABSENT
        if area.is_anonymous:
            return How.ZERO
        return How.FILE if self._backing else How.ABSENT

    def stretches(self, low: int, high: int, pinned: _Pinned | None, exact: bool = True) -> Iterator[Stretch]:
        """The states of [low, high) as they come; if not `exact`, short zeros may count as the data around them.
        What is mapped is looked up once, and again where that is mapped no more; the page table bit by bit."""
        while low < high:
            for found in self._looks(low, high, pinned, exact):
                yield from found
                low = found[-1][1]

    def _looks(self, low: int, high: int, pinned: _Pinned | None, exact: bool) -> Iterator[list[Stretch]]:
        """The states of [low, high), look by look: whoever copies what one found takes seconds until the next. So it
        ends, not with the first, where something else than at the beginning is mapped by then."""
        areas = self._with(lambda target: self._between(target, low, high) if _fits(pinned, target) else ())
        other = State.ABSENT if pinned else State.GAP
        parts = maps.confine(areas, pinned.areas if pinned else None, low, high)
        for batch in maps.batches(parts, _VAST):
            start, end, area = batch[0]
            if end - start <= _VAST:
                found = self._with(
                    partial(self._survey, parts=batch, other=other, pinned=pinned if start > low else None)
                )
                if not found:
                    return
                yield found
            elif area is None:
                yield [(start, end, other)]
            else:
                reach = _FIRST_LOOK
                while start < end:
                    stop = min(end, start + reach) if self._scans else end
                    again = start > low
                    found = self._with(
                        partial(self._begin, area=area, low=start, high=stop, exact=exact, again=again, pinned=pinned)
                    )
                    if not found:
                        return
                    yield found
                    start = found[-1][1]
                    if reach < _VAST or all(state is not State.DATA for _, _, state in found):
                        reach *= 4

    def _survey(
        self, target: Target, parts: Sequence[maps.Part], other: State, pinned: _Pinned | None
    ) -> list[Stretch]:
        """The states of some parts that lie together; none if what is pinned is of another program by now."""
        if not _fits(pinned, target):
            return []
        pages = self._listed(target, [area for _, _, area in parts if area], parts[0][0], parts[-1][1])
        out: list[Stretch] = []
        for start, end, area in parts:
            if area is None:
                out.append((start, end, other))
            else:
                out += self._states(target, area, self._pieces(target, area, start, end, _from(pages, start)))
        return out

    def _begin(
        self, target: Target, area: Area, low: int, high: int, exact: bool, again: bool, pinned: _Pinned | None
    ) -> list[Stretch]:
        """The states of the first part of [low, high) of a vast area; none if it is looked at `again` and something
        else is mapped there by now."""
        if again and not (_fits(pinned, target) and maps.is_still(area, self._between(target, low, high), low, high)):
            return []
        pages: Sequence[pagemap.Pages]
        if not self._scans and target.flags.is_empty(area.start):
            pages = ((low, high, 0),)
        else:
            pages = list(itertools.islice(self._pages(target, low, high), _AT_ONCE))
            if len(pages) == _AT_ONCE:
                high = min(high, pages[-1][1])
        if not exact and is_private(area):
            there = pagestate.table(self._swapin, private=True)
            # what a missing page is costs a look at smaps: not where none is missing
            if any(there[kind] is None for _, _, kind in pages) and self._missing(target, area, low, high) is How.ZERO:
                pages = pagestate.condensed(pages, there)
        return list(self._states(target, area, self._pieces(target, area, low, high, pages)))

    def _states(self, target: Target, area: Area, pieces: Iterable[tuple[int, int, How]]) -> Iterator[Stretch]:
        for start, end, how in pieces:
            if how is How.FILE:
                yield from self._file_stretches(target, area, start, end)
            else:
                yield start, end, pagestate.STATES[how]

    def _file_stretches(self, target: Target, area: Area, low: int, high: int) -> Iterator[Stretch]:
        shift = area.offset - area.start
        try:
            with self._file(target, area) as backing:
                for start, end, state in backing.runs(low + shift, high + shift, self._swapin):
                    yield start - shift, end - shift, state
        except _NoFile:
            yield low, high, State.ABSENT

    # -- bytes -------------------------------------------------------------------------------------------------------

    def read_pinned(self, address: int, buffer: memoryview, pinned: _Pinned | None) -> int:
        """readinto, of everything or of what is pinned."""
        done = 0
        while done < len(buffer):
            here = address + done
            size = min(WINDOW - here % WINDOW, len(buffer) - done)
            view = buffer[done : done + size]
            got = self._with(partial(self._window, address=here, view=view, pinned=pinned))
            done += got
            if got < size:
                break
        if not done and len(buffer):
            gap = not pinned and not self._with(lambda target: self._between(target, address, address + 1))
            raise AbsentMemory(address, gap)
        return done

    def _window(self, target: Target, address: int, view: memoryview, pinned: _Pinned | None) -> int:
        """Fill the view with what was mapped the same before and after; how many bytes from its start that is."""
        end = address + len(view)
        if not _fits(pinned, target) or end >> 63:
            return 0
        for _ in range(_TRIES):
            before = self._between(target, address, end)
            got = self._fill(target, before, address, view, pinned)
            if not got:
                return 0
            after = self._between(target, address, end)
            stop = maps.agree(before, after, address, address + got)
            if stop > address:
                return stop - address
        return 0

    def _fill(
        self, target: Target, areas: Sequence[Area], address: int, view: memoryview, pinned: _Pinned | None
    ) -> int:
        """Fill the view from the front, piece by piece; how many bytes."""
        done = 0
        while done < len(view):
            piece = view[done : done + _PIECE]
            got = self._fill_piece(target, areas, address + done, piece, pinned)
            done += got
            if got < len(piece):
                break
        return done

    def _fill_piece(
        self, target: Target, areas: Sequence[Area], address: int, view: memoryview, pinned: _Pinned | None
    ) -> int:
        end = address + len(view)
        pages = self._listed(target, areas, address, end)
        position = address
        for start, stop, area in maps.confine(areas, pinned.areas if pinned else None, address, end):
            if area is None:
                break
            position = self._fill_area(target, area, start, stop, address, view, _from(pages, start))
            if position < stop:
                break
        return position - address

    def _fill_area(
        self,
        target: Target,
        area: Area,
        low: int,
        high: int,
        base: int,
        view: memoryview,
        pages: Iterable[pagemap.Pages],
    ) -> int:
        """Fill [low, high) of one area, at its distance from `base` in the view; the address that it came to."""
        spans: list[Span] = []
        zeroed = False
        reached = high
        for start, end, how in self._pieces(target, area, low, high, pages):
            if how is How.MEMORY:
                spans.append((start, end))
            elif how is How.ZERO:
                if not zeroed:  # all that follows: what is not zero is put over it
                    view[start - base : high - base] = _ZEROS[: high - start]
                    zeroed = True
            else:
                got = self._elsewhere(target, area, start, how, view[start - base : end - base])
                if got < end - start:
                    reached = start + got
                    break
        if not spans:
            return reached
        by_pid = area.permissions[0] == "r" and (len(spans) >= _MANY or spans[-1][1] - spans[0][0] >= _MUCH)
        if by_pid and target.pid and may_be_filled(area):
            by_pid = not target.may_wait(low, high, spans)
        came_to = target.read(spans, base, view, by_pid)
        return min(reached, came_to) if came_to < spans[-1][1] else reached

    def _elsewhere(self, target: Target, area: Area, address: int, how: How, view: memoryview) -> int:
        """Bytes that are not in the process; how many."""
        if how is How.VDSO:
            offset = address - area.start
            view[:] = vdso.own()[offset : offset + len(view)]
            return len(view)
        if how is How.FILE:
            try:
                with self._file(target, area) as backing:
                    return backing.readinto(address + area.offset - area.start, view, self._swapin)
            except _NoFile:
                pass
        return 0

    def _file(self, target: Target, area: Area) -> AbstractContextManager[Backing]:
        return _files.use((self._key, *area), lambda: self._open_file(target, area))

    def _open_file(self, target: Target, area: Area) -> Backing:
        backing = open_mapped(self._directory, area, lambda low, high: self._between(target, low, high))
        if not backing:
            raise _NoFile
        return backing


class _Pinned:
    """Some areas of a LiveSpace, as they were: see LiveSpace.pinned."""

    def __init__(self, space: LiveSpace, areas: Areas) -> None:
        self.areas = areas
        self._space = space

    def readinto(self, address: int, buffer: memoryview) -> int:
        return self._space.read_pinned(address, buffer, self)

    def runs(self, low: int, high: int) -> Iterator[Run]:
        return joined(self._space.stretches(low, high, self, exact=False))

    def tally(self, low: int, high: int) -> Tally | None:
        return count(self._space.stretches(low, high, self))

    def view(self, address: int, size: int) -> Piece | None:
        return None


def _fits(pinned: _Pinned | None, target: Target) -> bool:
    """Whether what is pinned is of this address space."""
    return not pinned or pinned.areas.incarnation == target.incarnation


def _from(pages: Sequence[pagemap.Pages], address: int) -> Iterator[pagemap.Pages]:
    """Those that end behind an address."""
    return itertools.islice(pages, bisect_right(pages, address, key=itemgetter(1)), None)


def _discard(key: int) -> None:
    """For the finalizer of a space."""
    _targets.discard(lambda other: other == key)
    _files.discard(_of(key))


def _of(key: int) -> Callable[[object], bool]:
    """Which files are those of a space."""
    return lambda other: isinstance(other, tuple) and other[0] == key


def _refused(error: OSError) -> MemfsError:
    if error.errno in (errno.ESRCH, errno.ENOENT):
        return MemfsError("the process is gone", "it has ended, or has no memory", errno=errno.ESRCH)
    if error.errno in (errno.EACCES, errno.EPERM):
        why = "the kernel lets only root and those who may trace the process look into it"
        return MemfsError("not allowed to read the memory of this process", why, "run as root", error.errno)
    return from_os_error("", error, "looking into the process failed")
