"""Areas of which a dump has no PT_LOAD, but page tables: a crash dump has RAM alone, all else is mapped to it."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from memfs.arch import memory_map
from memfs.backends.kernel_layout import Layout, told_places
from memfs.elf import names
from memfs.elf.vmcoreinfo import Vmcoreinfo
from memfs.image import Area, Target
from memfs.io.paging import Endless, Mapped, PageTables

_PIECES_AT_MOST = 1 << 17
_PERMISSIONS = "rwx"
"""As /proc/kcore says of everything: what the tables allow is not looked at."""


class Found(NamedTuple):
    """What the page tables say."""

    areas: tuple[Area, ...]
    direct_base: int | None  # as Layout's


def find(target: Target, layout: Layout, info: Vmcoreinfo, tables: PageTables) -> Found:
    """The areas of a layout, and those in which the page tables map something: from its first page to its last."""
    found = {area.name: area for area in layout.areas}
    name_of = _Names(target, layout, info, _places(target, layout, info, tables))
    for piece in islice(_outside(target, layout, tables), _PIECES_AT_MOST):
        if piece.physical is None:
            continue
        name = "direct_map" if name_of.is_direct(piece.start, piece.physical) else name_of(piece.start)
        if not name:
            continue
        known = found.get(name)
        start = min(known.start, piece.start) if known else piece.start
        end = max(known.end, piece.end) if known else piece.end
        if name == "direct_map" and name_of.base is not None:
            start = max(0, name_of.base)  # of physical 0, whether that is mapped or not
        found[name] = Area(name, start, end, known.permissions if known else _PERMISSIONS)
    return Found(tuple(sorted(found.values(), key=lambda area: (area.start, -area.end))), name_of.base)


def _outside(target: Target, layout: Layout, tables: PageTables) -> Iterator[Mapped]:
    """What is mapped elsewhere than in the direct map, which may be large and says nothing new."""
    top = 1 << target.bits
    direct = next(((area.start, area.end) for area in layout.areas if area.name == "direct_map"), (top, top))
    try:
        yield from tables.ranges(layout.map.low, min(top, max(direct[0], layout.map.low)))
        yield from tables.ranges(min(top, direct[1]), top)
    except Endless:
        return


def _places(target: Target, layout: Layout, info: Vmcoreinfo, tables: PageTables) -> Sequence[memory_map.Place]:
    """Areas with a place: as VMCOREINFO says, or the architecture."""
    if (target.machine, target.bits) != (names.EM_S390, 64):
        return (*told_places(info), *layout.map.places)
    top = tables.geometry.levels[0]
    end = min(tables.geometry.base + (top.entries << top.shift), 1 << 64)
    stext = info.symbol("_stext")
    ram = next((area.end for area in layout.areas if area.name == "direct_map"), 0)
    if stext is None or stext >= ram or end < memory_map.S390X_MODULES_SIZE + memory_map.S390X_VMALLOC_SIZE:
        return ()  # a kernel that is not where its memory is (6.10 on) has its areas elsewhere
    try:
        last = next(tables.ranges(end - memory_map.S390X_LOWCORES, end), None)
    except Endless:
        return ()
    return memory_map.s390x_places(end, last.start if last else None)


class _Names:
    """Which area an address is in. Called with rising addresses, as the first above the direct map begins vmalloc where
    the place of that was randomised."""

    def __init__(self, target: Target, layout: Layout, info: Vmcoreinfo, places: Sequence[memory_map.Place]) -> None:
        self._map = layout.map
        self._is_x86_64 = target.machine == names.EM_X86_64 and target.bits == 64
        self._is_i386 = target.machine == names.EM_386 and target.bits == 32
        self._text_end = memory_map.TEXT_MAP + (info.number("KERNEL_IMAGE_SIZE") or 512 << 20)
        self._vmalloc = info.number("VMALLOC_START")
        self._direct = next(((area.start, area.end) for area in layout.areas if area.name == "direct_map"), None)
        self.base = layout.direct_base
        self._above = False
        self._places = places

    def is_direct(self, address: int, physical: int) -> bool:
        """Whether it is the direct map's: where no PT_LOAD says where that is, the first memory of x86_64 is that is
        mapped to its own address plus whole GiB. That of i386 ends where the first other memory is mapped: highmem that
        is mapped above may be so by chance."""
        base = address - physical
        if self._is_i386:
            self._above |= base != self.base
            return not self._above
        first = self._is_x86_64 and self.base is None and self._map.direct_map <= base < self._map.high
        if first and base % self._map.direct_alignment == 0:
            self.base = base
            self._direct = (base, address)
        return base == self.base

    def __call__(self, address: int) -> str:
        if self._direct is not None and self._direct[0] <= address < self._direct[1]:
            return "direct_map"
        if self._is_x86_64:
            return self._x86_64(address)
        for place in self._places:
            if place.start <= address < place.end:
                return place.name
        return "vmalloc" if self._is_i386 else ""

    def _x86_64(self, address: int) -> str:
        if memory_map.TEXT_MAP <= address < memory_map.MODULES_END:
            return "kernel_text" if address < self._text_end else "modules"
        fixed = [place for place in self._places if place.start >= self._map.high or place.name == "ldt_remap"]
        name = next((place.name for place in fixed if place.start <= address < place.end), "")
        if name or address >= self._map.high or self._direct is None or address < self._direct[1]:
            return name
        if self._vmalloc is None:
            self._vmalloc = address - address % self._map.direct_alignment
        return "vmalloc" if address < self._vmalloc + self._map.vmalloc_size else "vmemmap"
