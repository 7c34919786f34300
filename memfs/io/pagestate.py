"""What a page of a live process is, by what the page table says of it and what is mapped there.

The states are image.py's; measured against every kind of page of tests/programs/pages.c on Linux 6.18."""

from __future__ import annotations

import functools
from enum import Enum, auto

from memfs.image import State
from memfs.io.maps import Area
from memfs.io.pagemap import FILE, GUARD, PFNZERO, PRESENT, SWAPPED

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


def is_special(area: Area) -> bool:
    """A mapping that the kernel made, of pages of its own: [vdso], [sigpage], [uprobes]."""
    return area.path.startswith("[") and not area.path.startswith(("[heap", "[stack", "[anon"))


def is_private(area: Area) -> bool:
    """Whether it is anonymous memory of the process alone."""
    return area.is_anonymous and not is_special(area)


def may_be_filled(area: Area) -> bool:
    """Whether a userfaultfd or a driver may fill it: anonymous memory, shmem, hugetlbfs. They have no device."""
    return area.device[0] == 0
