"""What the PT_LOADs of a kernel's ELF file are: which area of the memory map each lies in, and where its bytes are in
physical memory. Pure: headers and VMCOREINFO in, a Layout out.

Sources: fs/proc/kcore.c (kcore_list, elf_kcore_store_hdr) and kernel/crash_core.c, Linux 6.12. p_paddr in /proc/kcore
is 0 throughout before 4.11; since then -1 stands for what is no RAM. i386's lowmem and s390x's RAM do begin at 0."""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from memfs.arch import memory_map
from memfs.arch.memory_map import MemoryMap
from memfs.elf import names
from memfs.elf.vmcoreinfo import OWNER, SIZE_AT_MOST, Vmcoreinfo
from memfs.errors import MemfsError
from memfs.image import Area, Note, Segment, Space, Target
from memfs.io.paging import read_exactly

_NT_TASKSTRUCT = 4
_S390_PREFIX = ("LINUX", 0x305)
"""NT_S390_PREFIX, where a processor has its lowcore: in dumps of machines alone (arch/s390/kernel/crash_dump.c, QEMU's
target/s390x/arch_dump.c), never of a process, which has no such register."""
_PRPSINFO = 3
_WHOLE = 64 << 20
"""A PT_LOAD this large of memory that is no RAM is an area as a whole: no dump tool writes such."""
_LOADS_AT_MOST = 1 << 20


class Layout(NamedTuple):
    """`ram` are PT_LOADs with their true physical addresses: kernel text first, as crash dumps have them."""

    map: MemoryMap
    areas: tuple[Area, ...]
    ram: tuple[Segment, ...]
    physical_only: frozenset[int]  # numbers of the PT_LOADs whose p_vaddr says nothing: a virtual machine's
    direct_base: int | None  # virtual address of physical 0; may be below what has addresses at all
    is_complete: bool
    has_areas: bool  # whether there are PT_LOADs of what is no RAM


# -- kernel or process ---------------------------------------------------------------------------------------------


def is_kernel(
    read: Callable[[int, int], bytes], target: Target, loads: Sequence[Segment], notes: Sequence[Note]
) -> bool:
    """Whether an ELF core is of a kernel, by what is in it: VMCOREINFO, the notes of /proc/kcore or of a virtual
    machine or of s390x's dump tools, or nothing but memory in the kernel's half of the address space."""
    if any(note.owner == OWNER and b"OSRELEASE=" in read(note.offset, min(note.size, 256)) for note in notes):
        return True
    if any(note.owner == "QEMU" for note in notes):
        return True
    if target.machine == names.EM_S390 and any((note.owner, note.type) == _S390_PREFIX for note in notes):
        return True
    if {note.type for note in notes if note.owner == "CORE"} >= {_NT_TASKSTRUCT, _PRPSINFO}:
        psinfo = next(note for note in notes if note.owner == "CORE" and note.type == _PRPSINFO)
        if b"\0vmlinux\0" in read(psinfo.offset, min(psinfo.size, 256)):
            return True
    low = _KERNEL_HALF.get((target.machine, target.bits))
    if low is None or any(note.owner == "CORE" and note.type == _PRPSINFO for note in notes):
        return False
    found = [load for load in loads if load.type == names.PT_LOAD and load.memory_size]
    return (
        len(found) > 1
        and all(load.address >= low and load.address + load.memory_size <= 1 << target.bits for load in found)
        and len({load.address for load in found}) == len(found)
        and any(load.physical for load in found)
    )


_KERNEL_HALF = {
    (names.EM_X86_64, 64): memory_map.X86_64_5.low,
    (names.EM_386, 32): memory_map.I386.low,
    (names.EM_AARCH64, 64): (1 << 64) - (1 << 52),
}


def vmcoreinfo_of_s390x(physical: Space) -> bytes:
    """VMCOREINFO out of s390x's memory: the ELF note that the lowcore at absolute 0 points to, for dump tools outside
    the kernel. Source: arch/s390/include/asm/lowcore.h (vmcore_info), arch/s390/kernel/crash_dump.c
    (get_vmcoreinfo_old), Linux 6.1."""
    try:
        (at,) = struct.unpack(">Q", read_exactly(physical, _S390_VMCORE_INFO, 8))
        header = read_exactly(physical, at, _S390_NOTE.size) if at else b""
        name_size, size, _, owner = _S390_NOTE.unpack(header) if header else (0, 0, 0, b"")
        if name_size != len(OWNER) + 1 or owner.rstrip(b"\0") != OWNER.encode() or size > SIZE_AT_MOST:
            return b""
        return read_exactly(physical, at + _S390_NOTE.size, size)
    except MemfsError:
        return b""


_S390_VMCORE_INFO = 0xE0C
_S390_NOTE = struct.Struct(">III12s")  # n_namesz, n_descsz, n_type, the name and its padding


def target_of(target: Target, info: Vmcoreinfo) -> Target:
    """What a kernel's ELF file was made for. i386 stands in ELF64 where memory reaches beyond 4 GiB: kexec-tools writes
    it so (--elf64-core-headers), and QEMU always does, as the ROM ends there (target/i386/arch_dump.c, 7.2)."""
    target = target._replace(os="linux")
    if (target.machine, target.bits) != (names.EM_386, 64):
        return target
    told = (info.symbol(name) or 0 for name in ("_stext", "swapper_pg_dir", "init_uts_ns"))
    return target if max(told) >> 32 else target._replace(arch="i386", bits=32)


# -- the layout ----------------------------------------------------------------------------------------------------


def page_levels_of_x86(loads: Iterable[Segment], info: Vmcoreinfo) -> int:
    """4 or 5: as VMCOREINFO says, or because addresses are lower than 4 levels reach."""
    enabled = info.number("pgtable_l5_enabled")
    if enabled is not None:
        return 5 if enabled else 4
    half = memory_map.X86_64_5.low
    return 5 if any(half <= load.address < memory_map.X86_64_4.low for load in loads) else 4


def va_bits_of_arm64(loads: Iterable[Segment], info: Vmcoreinfo) -> int:
    """How many bits an address has: of TCR_EL1.T1SZ, VA_BITS, or what the PT_LOADs need."""
    size = info.number("TCR_EL1_T1SZ")
    if size is not None and 12 <= size <= 28:
        return 64 - size
    bits = info.number("VA_BITS")
    if bits is not None and 36 <= bits <= 52:
        return bits
    lowest = min((load.address for load in loads if load.address >> 52 == 0xFFF), default=(1 << 64) - (1 << 48))
    return next(bits for bits in (36, 39, 42, 47, 48, 52) if lowest >= (1 << 64) - (1 << bits) or bits == 52)


def layout(target: Target, headers: Sequence[Segment], info: Vmcoreinfo) -> Layout:
    """What the PT_LOADs are."""
    loads = [load for load in headers if load.type == names.PT_LOAD and load.memory_size][:_LOADS_AT_MOST]
    kinds = _MACHINES.get((target.machine, target.bits), _other)(loads, info)
    nothing = (1 << target.bits) - 1
    ram = []
    for load, name in zip(loads, kinds.names, strict=True):
        physical = load.physical if kinds.has_physical else None
        if name == "direct_map" and not kinds.has_physical and kinds.base is not None:
            physical = (load.address - kinds.base) & nothing
        if name in _RAM and physical is not None and physical != nothing:
            ram.append((name != "kernel_text", load._replace(physical=physical)))
    ram.sort(key=lambda item: item[0])
    virtual = [load for load, name in zip(loads, kinds.names, strict=True) if name not in _RAM]
    return Layout(
        kinds.map,
        tuple(_areas(target, loads, kinds, [load for _, load in ram])),
        tuple(load for _, load in ram),
        frozenset(load.number for load, name in zip(loads, kinds.names, strict=True) if name == _PHYSICAL),
        kinds.base,
        any(load.memory_size >= _WHOLE and load.physical in (0, nothing) for load in virtual),
        bool(virtual),
    )


_PHYSICAL = "physical"
"""RAM without a virtual address: what a virtual machine's dump has."""
_RAM = ("direct_map", "kernel_text", _PHYSICAL)


class _Kinds(NamedTuple):
    """An area for each load, and what all of them were found by."""

    map: MemoryMap
    names: list[str]
    base: int | None
    has_physical: bool


def _areas(target: Target, loads: Sequence[Segment], kinds: _Kinds, ram: Sequence[Segment]) -> list[Area]:
    ranges: dict[str, list[int]] = {}
    for load, name in zip(loads, kinds.names, strict=True):
        end = min(1 << target.bits, load.address + load.memory_size)
        known = ranges.setdefault(name, [load.address, end, 0])
        ranges[name] = [min(known[0], load.address), max(known[1], end), known[2] | load.flags]
    ranges.pop(_PHYSICAL, None)
    ranges.pop("", None)
    if "direct_map" in ranges and kinds.base is not None and kinds.base >= 0:
        _, high, flags = ranges["direct_map"]
        end = max((r.physical + r.memory_size for r in ram if r.address - r.physical == kinds.base), default=0)
        ranges["direct_map"] = [kinds.base, max(high, kinds.base + end), flags]
    areas = [
        Area(name, low, high, "".join(c if flags & bit else "-" for c, bit in zip("rwx", (4, 2, 1), strict=True)))
        for name, (low, high, flags) in ranges.items()
    ]
    return sorted(areas, key=lambda area: (area.start, -area.end))


def _base(loads: Sequence[Segment], candidates: Iterable[int], bits: int) -> int | None:
    """p_vaddr - p_paddr of most RAM: the direct map's."""
    counted: Counter[int] = Counter()
    for index in candidates:
        counted[loads[index].address - loads[index].physical] += loads[index].memory_size
    best = max(counted, key=lambda base: counted[base], default=-1)
    return best if best >= 0 else None


def _in_place(places: Sequence[memory_map.Place], address: int) -> str:
    return next((place.name for place in places if place.start <= address < place.end), "")


def _old(loads: Sequence[Segment]) -> bool:
    """Whether p_paddr is 0 throughout, and says nothing."""
    return len(loads) > 1 and not any(load.physical for load in loads)


def _x86_64(loads: Sequence[Segment], info: Vmcoreinfo) -> _Kinds:
    nothing = (1 << 64) - 1
    levels = page_levels_of_x86(loads, info)
    table = memory_map.X86_64_5 if levels == 5 else memory_map.X86_64_4
    old = _old(loads)
    if old and any(
        memory_map.X86_64_4_OLD.direct_map <= load.address < memory_map.X86_64_4.direct_map for load in loads
    ):
        table = memory_map.X86_64_4_OLD
    image_size = info.number("KERNEL_IMAGE_SIZE") or 512 << 20
    fixed = [place for place in table.places if place.start >= table.high]
    kinds: list[str] = []
    for load in loads:
        name = _in_place(fixed, load.address)
        if name in ("kernel_text", "modules"):
            name = "kernel_text" if load.address < memory_map.TEXT_MAP + image_size else "modules"
            if load.physical not in (0, nothing):
                name = "kernel_text"
        elif not name:
            name = _PHYSICAL if load.address < table.low else "direct_map"
            if load.physical == nothing or (old and name == "direct_map"):
                name = "virtual"
        kinds.append(name)
    _place_randomised(loads, kinds, table, info, old)
    direct = [index for index, name in enumerate(kinds) if name == "direct_map"]
    base = _base(loads, direct, 64)
    if old:
        lowest = min((loads[index].address for index in direct), default=None)
        base = lowest - lowest % table.direct_alignment if lowest is not None else None
    return _Kinds(table, kinds, base, not old)


def _place_randomised(
    loads: Sequence[Segment], kinds: list[str], table: MemoryMap, info: Vmcoreinfo, old: bool
) -> None:
    """Name the loads that are vmalloc, vmemmap, or RAM of which p_paddr says nothing: these three follow each other."""
    waiting = [index for index, name in enumerate(kinds) if name == "virtual"]
    if not waiting:
        return
    start = info.number("VMALLOC_START")
    whole = [i for i in waiting if loads[i].memory_size >= table.vmalloc_size // 2]
    if not start and whole:
        start = loads[whole[0]].address
    if not start and old:
        start = next(place.start for place in table.places if place.name == "vmalloc")
    if not start:
        lowest = min(loads[index].address for index in waiting)
        start = lowest - lowest % table.direct_alignment
    end = start + table.vmalloc_size
    for index in waiting:
        address = loads[index].address
        below = "direct_map" if old else _in_place(table.places, address)
        kinds[index] = "vmalloc" if start <= address < end else "vmemmap" if address >= end else below


def _i386(loads: Sequence[Segment], info: Vmcoreinfo) -> _Kinds:
    nothing = ((1 << 32) - 1, (1 << 64) - 1)
    old = _old(loads)
    table = memory_map.I386
    lowest = min((load.address for load in loads if 1 << 30 <= load.address < nothing[0]), default=0)
    kinds = []
    for load in loads:
        if load.physical in nothing:
            kinds.append("vmalloc")
        elif load.address == load.physical or not 1 << 30 <= load.address < nothing[0]:
            kinds.append(_PHYSICAL)  # a virtual machine's, its ROM right below 4 GiB; kexec's highmem: p_vaddr -1
        elif not load.physical and load.address != lowest:
            kinds.append("vmalloc")
        else:
            kinds.append("direct_map" if load.address > load.physical else _PHYSICAL)
    base = _base(loads, [i for i, name in enumerate(kinds) if name == "direct_map"], 32)
    if base is None and _PHYSICAL in kinds and (info.symbol("swapper_pg_dir") or 0) >= table.direct_map:
        base = table.direct_map
    if base is not None and base > 0:
        table = table._replace(low=base, direct_map=base)
    return _Kinds(table, kinds, base, not old or base is not None)


def _arm64(loads: Sequence[Segment], info: Vmcoreinfo) -> _Kinds:
    nothing = (1 << 64) - 1
    table = memory_map.arm64(va_bits_of_arm64(loads, info))
    places = told_places(info)
    told = {place.name for place in places}
    places += [place for place in table.places if place.name not in told]
    direct = next(place for place in table.places if place.name == "direct_map")
    old = _old(loads)
    kinds = []
    for load in loads:
        if load.address < table.low:
            kinds.append(_PHYSICAL)
        elif load.physical == nothing or old:
            kinds.append(_in_place(places, load.address))
        else:
            kinds.append("direct_map" if direct.start <= load.address < direct.end else "kernel_text")
    base = _base(loads, [i for i, name in enumerate(kinds) if name == "direct_map"], 64) if not old else None
    offset = info.number("PHYS_OFFSET")  # memstart_addr, signed: what lies at the beginning of the direct map
    if base is None and _PHYSICAL in kinds and offset is not None:
        base = table.direct_map - (offset if offset < 1 << 63 else offset - (1 << 64))
    return _Kinds(table, kinds, base, not old)


def told_places(info: Vmcoreinfo) -> list[memory_map.Place]:
    """Areas of which VMCOREINFO says where they lie."""
    out = []
    for name, first, second in memory_map.TOLD:
        start, end = info.number(first), info.number(second)
        if start is not None and end is not None and 0 < start < end:
            out.append(memory_map.Place(name, start, end))
    return out


def _s390x(loads: Sequence[Segment], info: Vmcoreinfo) -> _Kinds:
    nothing = (1 << 64) - 1
    virtual = sorted((load for load in loads if load.physical == nothing), key=lambda load: load.address)
    end = max((load.address + load.memory_size for load in virtual), default=0)
    modules = end - memory_map.S390X_MODULES_SIZE
    below = [load for load in virtual if load.address < modules]
    vmalloc = below[-1].address if below else 0
    largest = max(below, key=lambda load: load.memory_size, default=None)
    if largest is not None and largest.memory_size >= _WHOLE:
        vmalloc = largest.address
    kinds = []
    for load in loads:
        if load.physical != nothing:
            kinds.append("direct_map")
        elif load.address >= modules:
            kinds.append("modules")
        else:
            kinds.append("vmalloc" if load.address >= vmalloc else "vmemmap")
    return _Kinds(
        memory_map.S390X, kinds, _base(loads, [i for i, n in enumerate(kinds) if n == "direct_map"], 64), True
    )


def _other(loads: Sequence[Segment], info: Vmcoreinfo) -> _Kinds:
    """A machine whose memory map is not known: p_paddr alone speaks."""
    low = min((load.address for load in loads), default=0)
    table = MemoryMap(low, 1 << 64, 0, 1, 0, ())
    nothing = ((1 << 64) - 1, (1 << 32) - 1)
    kinds = ["" if load.physical in nothing or _old(loads) else "direct_map" for load in loads]
    return _Kinds(table, kinds, _base(loads, [i for i, n in enumerate(kinds) if n], 64), not _old(loads))


_MACHINES: dict[tuple[int, int], Callable[[Sequence[Segment], Vmcoreinfo], _Kinds]] = {
    (names.EM_X86_64, 64): _x86_64,
    (names.EM_386, 32): _i386,
    (names.EM_AARCH64, 64): _arm64,
    (names.EM_S390, 64): _s390x,
}
