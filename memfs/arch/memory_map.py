"""Where the areas of a kernel's address space lie, per architecture and paging depth: tables, and where they come from.

Addresses are those that the documents give. With CONFIG_RANDOMIZE_MEMORY three areas of x86_64 begin elsewhere (the
direct map, vmalloc, vmemmap, in this order); the program headers say where. All ranges are half open."""

from typing import NamedTuple

from memfs.elf import names


class Place(NamedTuple):
    """An area whose place is fixed: [start, end)."""

    name: str
    start: int
    end: int


class MemoryMap(NamedTuple):
    """The kernel's half of the address space of an architecture."""

    low: int  # the lowest kernel address
    high: int  # where the randomised areas end at most
    direct_map: int  # where the direct map begins, without randomisation
    direct_alignment: int  # of its beginning
    vmalloc_size: int  # 0 where it depends on the machine
    places: tuple[Place, ...]
    text_in_direct_map: bool = False  # kernel text is mapped there and nowhere else
    document: str = ""


_TOP = 1 << 64
_GIB, _TIB, _PIB = 1 << 30, 1 << 40, 1 << 50

TEXT_MAP = 0xFFFFFFFF80000000
"""__START_KERNEL_map of x86_64: physical 0 plus phys_base, as kernel text sees it."""

MODULES_END = 0xFFFFFFFFFF000000
"""Of x86_64: where modules end; they begin where kernel text must end (KERNEL_IMAGE_SIZE)."""

TEXT_START = {names.EM_X86_64: 0xFFFFFFFF81000000, names.EM_386: 0xC1000000}
"""_stext without KASLR: __START_KERNEL of arch/x86/include/asm/page_types.h with CONFIG_PHYSICAL_START=0x1000000."""

_X86_64_HIGH = (
    Place("cpu_entry_area", 0xFFFFFE0000000000, 0xFFFFFE8000000000),
    Place("espfix", 0xFFFFFF0000000000, 0xFFFFFF8000000000),
    Place("efi", 0xFFFFFFEF00000000, 0xFFFFFFFF00000000),
    Place("kernel_text", TEXT_MAP, 0xFFFFFFFFA0000000),
    Place("modules", 0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000),
    Place("fixmap", 0xFFFFFFFFFF000000, 0xFFFFFFFFFF600000),
    Place("vsyscall", 0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000),
)
_X86_64_DOCUMENT = "Documentation/arch/x86/x86_64/mm.rst, Linux 6.12"

X86_64_4 = MemoryMap(
    low=0xFFFF800000000000,
    high=0xFFFFFE0000000000,
    direct_map=0xFFFF888000000000,
    direct_alignment=_GIB,
    vmalloc_size=32 * _TIB,
    places=(
        Place("ldt_remap", 0xFFFF880000000000, 0xFFFF888000000000),
        Place("direct_map", 0xFFFF888000000000, 0xFFFFC88000000000),
        Place("vmalloc", 0xFFFFC90000000000, 0xFFFFE90000000000),
        Place("vmemmap", 0xFFFFEA0000000000, 0xFFFFEB0000000000),
        Place("kasan_shadow", 0xFFFFEC0000000000, 0xFFFFFC0000000000),
        *_X86_64_HIGH,
    ),
    document=_X86_64_DOCUMENT,
)

X86_64_4_OLD = X86_64_4._replace(
    direct_map=0xFFFF880000000000,
    places=(
        Place("direct_map", 0xFFFF880000000000, 0xFFFFC80000000000),
        Place("vmalloc", 0xFFFFC90000000000, 0xFFFFE90000000000),
        Place("vmemmap", 0xFFFFEA0000000000, 0xFFFFEB0000000000),
        Place("kasan_shadow", 0xFFFFEC0000000000, 0xFFFFFC0000000000),
        *_X86_64_HIGH,
    ),
    document="Documentation/x86/x86_64/mm.txt, Linux 4.9: the direct map moved up by 512 GiB in 4.20",
)

X86_64_5 = MemoryMap(
    low=0xFF00000000000000,
    high=0xFFFFFE0000000000,
    direct_map=0xFF11000000000000,
    direct_alignment=_GIB,
    vmalloc_size=12800 * _TIB,
    places=(
        Place("ldt_remap", 0xFF10000000000000, 0xFF11000000000000),
        Place("direct_map", 0xFF11000000000000, 0xFF91000000000000),
        Place("vmalloc", 0xFFA0000000000000, 0xFFD2000000000000),
        Place("vmemmap", 0xFFD4000000000000, 0xFFD6000000000000),
        Place("kasan_shadow", 0xFFDF000000000000, 0xFFFFFC0000000000),
        *_X86_64_HIGH,
    ),
    document=_X86_64_DOCUMENT,
)

I386 = MemoryMap(
    low=0xC0000000,
    high=1 << 32,
    direct_map=0xC0000000,
    direct_alignment=1 << 22,
    vmalloc_size=0,  # what lowmem leaves, to below pkmap and fixmap
    places=(),
    text_in_direct_map=True,
    document="arch/x86/include/asm/pgtable_32_areas.h and page_32_types.h (CONFIG_PAGE_OFFSET), Linux 6.12",
)

S390X = MemoryMap(
    low=0,
    high=_TOP,
    direct_map=0,
    direct_alignment=1 << 12,
    vmalloc_size=0,  # vmalloc= or VMALLOC_DEFAULT_SIZE
    places=(),
    text_in_direct_map=True,
    document="arch/s390/boot/startup.c (setup_kernel_memory_layout), Linux 6.1: vmemmap, vmalloc, modules, upwards",
)
S390X_MODULES_SIZE = 2 * _GIB
"""MODULES_LEN of arch/s390/include/asm/pgtable.h: the modules end the address space."""
S390X_VMALLOC_SIZE = 512 * _GIB - S390X_MODULES_SIZE
"""VMALLOC_DEFAULT_SIZE; vmalloc= on the kernel's command line makes it another."""
S390X_LOWCORES = 64 << 20
"""At most so far below the end the lowcores of the processors are mapped, 8 KiB each; modules begin 2 GiB below it."""


def s390x_places(end: int, lowest_of_last: int | None) -> tuple[Place, ...]:
    """Areas by the end of the address space, which is what its page tables reach, and the address of the first memory
    that is mapped in the last S390X_LOWCORES of it. Modules end at the MiB below, vmalloc where they begin."""
    modules_end = end if lowest_of_last is None else lowest_of_last & -(1 << 20)
    modules = modules_end - S390X_MODULES_SIZE
    vmalloc = modules - S390X_VMALLOC_SIZE
    return (
        Place("vmemmap", 0, vmalloc),
        Place("vmalloc", vmalloc, modules),
        Place("modules", modules, modules_end),
    )


TOLD = (
    ("modules", "MODULES_VADDR", "MODULES_END"),
    ("vmalloc", "VMALLOC_START", "VMALLOC_END"),
    ("vmemmap", "VMEMMAP_START", "VMEMMAP_END"),
)
"""Areas of which VMCOREINFO of some architectures says where they lie: name, and two keys of NUMBER."""


def arm64(va_bits: int) -> MemoryMap:
    """The kernel half with addresses of `va_bits` bits: the linear map is its lower half (from 5.4 on)."""
    low = _TOP - (1 << va_bits)
    middle = _TOP - (1 << (min(va_bits, 48) - 1))
    return MemoryMap(
        low=low,
        high=_TOP,
        direct_map=low,
        direct_alignment=1 << 12,
        vmalloc_size=0,
        places=(
            Place("direct_map", low, middle),
            Place("modules", middle, middle + (128 << 20)),
            Place("vmalloc", middle + (128 << 20), _TOP - (1 << (min(va_bits, 48) - 6)) - (2 << 30)),
            Place("vmemmap", _TOP - (1 << (min(va_bits, 48) - 6)), _TOP - (2 << 30)),
        ),
        document="Documentation/arch/arm64/memory.rst, Linux 6.12, arch/arm64/include/asm/memory.h, Linux 6.1",
    )
