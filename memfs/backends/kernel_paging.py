"""Which page tables a kernel has, and where: the format by architecture and VMCOREINFO, the top table by its symbol.

Source: Documentation/admin-guide/kdump/vmcoreinfo.rst, Linux 6.12: swapper_pg_dir lies in kernel text or data."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from memfs.arch import memory_map, paging
from memfs.backends import kernel_layout
from memfs.backends.kernel_layout import Layout
from memfs.elf import names
from memfs.elf.vmcoreinfo import Vmcoreinfo
from memfs.errors import AbsentMemory
from memfs.image import Segment, Space, Target
from memfs.io.paging import PageTables, read_exactly


def tables(target: Target, layout: Layout, info: Vmcoreinfo, virtual: Space, physical: Space) -> PageTables | None:
    """The kernel's own page tables; None where it is not known where they begin, or what they look like."""
    root = info.symbol("swapper_pg_dir")
    if root is None:
        return None

    def read_top(size: int) -> bytes:
        try:
            return read_exactly(virtual, root, size)
        except AbsentMemory:
            at = physical_of(root, target, layout, info)
            if at is None:
                raise
            return read_exactly(physical, at, size)

    geometry = _geometry(target, layout.ram, info, read_top)
    return PageTables(geometry, target.order, physical, read_top) if geometry else None


def physical_of(address: int, target: Target, layout: Layout, info: Vmcoreinfo) -> int | None:
    """Where kernel text and data lie in physical memory, without page tables."""
    if target.machine == names.EM_X86_64:
        base = info.number("phys_base")
        return address - memory_map.TEXT_MAP + base if base is not None and address >= memory_map.TEXT_MAP else None
    if target.machine == names.EM_AARCH64:
        offset = info.number("kimage_voffset")
        return (address - offset) % (1 << 64) if offset is not None else None
    if layout.map.text_in_direct_map:
        return address - layout.map.direct_map
    return None


def _geometry(
    target: Target, loads: Sequence[Segment], info: Vmcoreinfo, read_top: Callable[[int], bytes]
) -> paging.Geometry | None:
    page = info.page_size() or 4096
    if target.machine == names.EM_X86_64:
        return paging.x86_64(kernel_layout.page_levels_of_x86(loads, info), info.number("sme_mask") or 0)
    if target.machine == names.EM_386:
        return paging.I386_PAE if info.text("CONFIG_X86_PAE") == "y" else paging.I386
    if target.machine == names.EM_AARCH64:
        return paging.arm64(kernel_layout.va_bits_of_arm64(loads, info), page)
    if target.machine == names.EM_S390 and target.bits == 64:
        return _s390x(read_top)
    return None


def _s390x(read_top: Callable[[int], bytes]) -> paging.Geometry | None:
    """The kind of the top table stands in its entries; where it lies in the address space is in no symbol."""
    try:
        entries = struct.unpack(">2048Q", read_top(paging.S390X_TABLE_BYTES))
    except AbsentMemory:
        return None
    valid = next((entry for entry in entries if not entry & paging.S390X_INVALID), None)
    return None if valid is None else paging.s390x((valid & paging.S390X_TYPE) >> 2)


def levels(target: Target, headers: Sequence[Segment], info: Vmcoreinfo, found: PageTables | None) -> int | None:
    """Depth of the page tables, also where they themselves are not to be had."""
    if found is not None:
        return len(found.geometry.levels)
    if target.machine == names.EM_X86_64:
        return kernel_layout.page_levels_of_x86(headers, info)
    return None
