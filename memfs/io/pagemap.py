"""Which pages of a live process are there, asked of its page table: nothing is read, nothing is touched.

Sources: Documentation/admin-guide/mm/pagemap.rst, fs/proc/task_mmu.c (do_pagemap_scan), include/uapi/linux/fs.h
(struct pm_scan_arg, struct page_region), Linux 6.18. The ioctl is there since 6.7, GUARD since 6.15."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
import sys
from array import array
from collections.abc import Iterator

PAGE = os.sysconf("SC_PAGESIZE")

FILE, PRESENT, SWAPPED, PFNZERO, HUGE, GUARD = 4, 8, 16, 32, 64, 256  # PAGE_IS_*


Pages = tuple[int, int, int]
"""[start, end) are pages of one category: a sum of PAGE_IS_*, 0 for pages that the page table does not have."""


# -- PAGEMAP_SCAN ----------------------------------------------------------------------------------------------------

_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_ARGUMENT = struct.Struct("=12Q")  # size flags start end walk_end vec vec_len max_pages inverted mask anyof return
_REGIONS_AT_MOST = 4096
_ASKED = PRESENT | SWAPPED | FILE | PFNZERO | HUGE


def scan(fd: int, low: int, high: int) -> Iterator[Pages]:
    """The pages of [low, high) that are mapped at this moment, in order. Lazy.

    What is not mapped is not reported, and neither are mappings of device memory (VM_PFNMAP). A guard is SWAPPED
    too. `fd` is an open pagemap file, the range is of whole pages below the end of user space. Raises OSError:
    ENOTTY where the kernel is older than the ioctl."""
    count = min(_REGIONS_AT_MOST, (high - low) // PAGE)
    vector = array("Q", bytes(24 * count))
    address = vector.buffer_info()[0]
    returned = _ASKED | GUARD
    argument = bytearray(_ARGUMENT.size)
    while low < high:
        _ARGUMENT.pack_into(argument, 0, _ARGUMENT.size, 0, low, high, 0, address, count, 0, 0, 0, 0, returned)
        try:
            found = fcntl.ioctl(fd, _PAGEMAP_SCAN, argument)
        except OSError as error:
            if error.errno != errno.EINVAL or returned == _ASKED:
                raise
            returned = _ASKED
            continue
        numbers = vector[: 3 * found].tolist()
        yield from zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
        # walk_end is too low where the kernel needed more than one of its own buffers of 512 regions (Linux 6.18)
        walked = max(_ARGUMENT.unpack(argument)[4], numbers[-2] if found else 0)
        if walked <= low:
            break
        low = walked


# -- pagemap itself --------------------------------------------------------------------------------------------------

_ENTRY = 8  # bytes a page: bit 63 present, 62 swapped, 61 file or shared, 58 guard
_CHUNK = 1 << 20
_HIGHEST = 7 if sys.byteorder == "little" else 0  # the byte of an entry that has bits 56 to 63
_KINDS = {0: 0, 1: PRESENT, 2: SWAPPED, 3: GUARD | SWAPPED}
_TABLE = bytes(1 if bits & 0x80 else 3 if bits & 0x44 == 0x44 else 2 if bits & 0x40 else 0 for bits in range(256))
_ALIKE = re.compile(rb"([\0-\3])\1*", re.DOTALL)


def entries(fd: int, low: int, high: int) -> Iterator[Pages]:
    """The same by reading the entries of the page table, 8 bytes for every page. Lazy.

    The zero page is not told apart, it counts as PRESENT; and what is not mapped looks like what is not there."""
    while low < high:
        want = min(_CHUNK, (high - low) // PAGE * _ENTRY)
        raw = os.pread(fd, want, low // PAGE * _ENTRY)
        if not raw:
            break
        kinds = raw[_HIGHEST::_ENTRY].translate(_TABLE)
        for match in _ALIKE.finditer(kinds):
            yield low + match.start() * PAGE, low + match.end() * PAGE, _KINDS[kinds[match.start()]]
        low += len(raw) // _ENTRY * PAGE
