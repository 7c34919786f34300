"""What a page of a live process is, by what the page table says of it and what is mapped there.

The states are image.py's; measured against every kind of page of tests/programs/pages.c on Linux 6.18."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import Enum, auto

from memfs.image import State
from memfs.io.maps import Area
from memfs.io.pagemap import FILE, GUARD, PFNZERO, PRESENT, SWAPPED, Pages
from memfs.io.runs import JOINED

NEVER = ("[vvar]", "[vvar_vclock]", "[vsyscall]", "/secretmem (deleted)")
"""The clock's pages and memfd_secret(2) cannot be had of anybody, and vsyscall's page is the kernel's."""


class How(Enum):
    """Where the bytes of a page come from."""

    MEMORY = auto()  # it is in the page table, or swapped out
    ZERO = auto()  # nobody ever wrote there
    FILE = auto()  # the mapped file has it
    VDSO = auto()  # our own has it
    ABSENT = auto()


STATES = {How.MEMORY: State.DATA, How.ZERO: State.ZERO, How.VDSO: State.DATA, How.ABSENT: State.ABSENT}


@functools.cache
def table(swapin: bool, private: bool) -> list[How | None]:
    """What a page is, by its categories (a sum of PAGE_IS_*); None where the page table does not have it.

    A page of a file in private anonymous memory is of another mapping, which came there a moment ago."""
    return [
        How.ABSENT if private and categories & FILE else _there(categories, swapin) for categories in range(2 * GUARD)
    ]


def _there(categories: int, swapin: bool) -> How | None:
    """What a page is that the page table has, None if it does not. A guard has the bit of a swapped page too."""
    if categories & GUARD:
        return How.ABSENT
    if categories & PFNZERO:
        return How.ZERO
    if categories & PRESENT:
        return How.MEMORY
    if categories & SWAPPED:
        return How.MEMORY if swapin else How.ABSENT
    return None


def condensed(pages: Sequence[Pages], there: Sequence[How | None]) -> Sequence[Pages]:
    """Neighbours that `joined` (runs.py) will make one, as one, where pages that the page table does not have are zero:
    those in memory, and less than 1 MiB of missing ones between them. By a few passes, as there may be 100,000; so
    missing ones that the kernel tells of in two parts, which together may be more, are left as they are."""
    if not pages:
        return pages
    starts, ends, kinds = zip(*pages, strict=True)
    if starts[1:] != ends[:-1]:  # something is mapped no more
        return pages
    parting = [how is not How.MEMORY for how in there]
    breaks = [
        index
        for index, (start, end, kind) in enumerate(pages)
        if parting[kind] and (there[kind] is not None or end - start >= JOINED or parting[kinds[index - 1]])
    ]
    out: list[Pages] = []
    at = 0
    for stop in (*breaks, len(pages)):
        first, last = at, stop
        while first < last and parting[kinds[first]]:
            first += 1
        while first < last and parting[kinds[last - 1]]:
            last -= 1
        out += pages[at:first]
        if first < last:
            out.append((starts[first], ends[last - 1], kinds[first]))
        out += pages[last : stop + 1]
        at = stop + 1
    return out


def is_special(area: Area) -> bool:
    """A mapping that the kernel made, of pages of its own: [vdso], [sigpage], [uprobes]."""
    return area.path.startswith("[") and not area.path.startswith(("[heap", "[stack", "[anon"))


def is_private(area: Area) -> bool:
    """Whether it is anonymous memory of the process alone."""
    return area.is_anonymous and not is_special(area)


def may_be_filled(area: Area) -> bool:
    """Whether a userfaultfd or a driver may fill it: anonymous memory, shmem, hugetlbfs. They have no device."""
    return area.device[0] == 0
