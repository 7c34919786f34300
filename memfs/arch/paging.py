"""Formats of page tables as data: how deep, how wide, which bits mean what.

Sources: x86: Intel SDM 3A chapter 4 and arch/x86/include/asm/pgtable_types.h; arm64: Arm ARM D8.3 (VMSAv8-64, with
LPA2) and arch/arm64/include/asm/pgtable-hwdef.h; s390x: z/Architecture Principles of Operation, "Dynamic Address
Translation", and arch/s390/include/asm/pgtable.h. Linux 6.12."""

from typing import NamedTuple


class Match(NamedTuple):
    """Holds for an entry where `entry & mask == value`."""

    mask: int
    value: int


class Level(NamedTuple):
    """The tables of one level: each entry stands for 1 << shift bytes."""

    shift: int
    entries: int
    present: Match
    leaf: Match | None  # which present entries map memory; None: all of them point to tables
    table: int  # the bits of a pointer that are the physical address of the next table
    page: int  # the bits of a leaf that are the physical address of what it maps


class Geometry(NamedTuple):
    """A format; levels from the top down. `base` is the address that the first entry of the top table stands for."""

    name: str
    entry_size: int
    base: int
    levels: tuple[Level, ...]
    clear: int = 0  # bits of a physical address that mean something else (encryption)
    spread: tuple[int, int, int] | None = None  # (shift, mask, to): address bits that lie elsewhere in the entry


_EVERY = Match(0, 0)
_ADDRESS_52 = 0x000FFFFFFFFFF000


def _x86_level(shift: int, entries: int, large: bool, mask: int, large_mask: int) -> Level:
    present = Match(1, 1)
    if shift == 12:
        return Level(shift, entries, present, _EVERY, 0, mask)
    return Level(shift, entries, present, Match(0x80, 0x80) if large else None, mask, large_mask)


def x86_64(levels: int, encryption: int = 0) -> Geometry:
    """4 or 5 levels of 512 entries; bit 7 makes 1 GiB and 2 MiB pages. `encryption` is NUMBER(sme_mask)."""
    shifts = [48, 39, 30, 21, 12][5 - levels :]
    table = tuple(
        _x86_level(shift, 512, shift in (30, 21), _ADDRESS_52, _ADDRESS_52 & ~((1 << shift) - 1)) for shift in shifts
    )
    return Geometry(f"x86_64, {levels} levels", 8, (1 << 64) - (1 << (shifts[0] + 9)), table, encryption)


I386 = Geometry(
    "i386, 2 levels",
    4,
    0,
    (
        _x86_level(22, 1024, True, 0xFFFFF000, 0xFFC00000),  # PSE-36's higher bits: no kernel of Linux uses them
        _x86_level(12, 1024, False, 0xFFFFF000, 0xFFFFF000),
    ),
)

I386_PAE = Geometry(
    "i386, PAE",
    8,
    0,
    (
        _x86_level(30, 4, False, _ADDRESS_52, 0),
        _x86_level(21, 512, True, _ADDRESS_52, _ADDRESS_52 & ~((1 << 21) - 1)),
        _x86_level(12, 512, False, _ADDRESS_52, _ADDRESS_52),
    ),
)


def arm64(va_bits: int, page_size: int) -> Geometry:
    """36 to 52 bits of address with pages of 4, 16 or 64 KiB; more than 48 bits with small pages mean LPA2."""
    page_shift = page_size.bit_length() - 1
    step = page_shift - 3
    shifts = [page_shift]
    while shifts[0] + step < va_bits:
        shifts.insert(0, shifts[0] + step)
    wide = va_bits > 48 and page_size < 1 << 16
    spread = (8, 3, 50) if wide else (12, 15, 48) if page_size == 1 << 16 else None
    address = (1 << (50 if wide else 48)) - page_size
    blocks = {30, 21, 25, 29} | ({39, 36} if wide else set()) | ({42} if va_bits > 48 else set())
    levels = []
    for index, shift in enumerate(shifts):
        entries = 1 << (va_bits - shift) if index == 0 else 1 << step
        if shift == page_shift:
            levels.append(Level(shift, entries, Match(3, 3), _EVERY, 0, address))
        else:
            leaf = Match(2, 0) if shift in blocks else None
            levels.append(Level(shift, entries, Match(1, 1), leaf, address, address & ~((1 << shift) - 1)))
    name = f"arm64, {va_bits} bits, {page_size >> 10} KiB" + (", LPA2" if wide else "")
    return Geometry(name, 8, (1 << 64) - (1 << va_bits), tuple(levels), 0, spread)


S390X_TYPE = 0xC
"""The bits of an entry of a region or segment table that say which kind of table it is in: 3 the topmost."""
S390X_INVALID = 0x20
S390X_TABLE_BYTES = 16384


def s390x(kind: int) -> Geometry:
    """A segment table (kind 0) under `kind` region tables, 2048 entries each; page tables have 256."""
    levels = [
        Level(
            shift,
            2048,
            Match(S390X_INVALID, 0),
            Match(0x400, 0x400) if shift in (31, 20) else None,
            ~0x7FF & (1 << 64) - 1 if shift == 20 else ~0xFFF & (1 << 64) - 1,
            ~((1 << shift) - 1) & (1 << 64) - 1,
        )
        for shift in (53, 42, 31, 20)[3 - kind :]
    ]
    levels.append(Level(12, 256, Match(0x400, 0), _EVERY, 0, ~0xFFF & (1 << 64) - 1))
    return Geometry(f"s390x, {len(levels)} levels", 8, 0, tuple(levels))
