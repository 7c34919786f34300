"""Kernel images made by hand: page tables of every format, and ELF files with the program headers of a kernel.

The formats are written down here once more, from the manuals, so that the tests do not ask the code what it expects."""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

PT_LOAD, PT_NOTE, ET_CORE = 1, 4, 4
NOWHERE = (1 << 64) - 1


class Format(NamedTuple):
    """How entries are made: of a table (physical address, level), and of a page (physical address, size)."""

    order: str
    entry: int
    shifts: tuple[int, ...]  # of the levels, from the top down
    bits: tuple[int, ...]  # of the index of each
    pointer: Callable[[int, int], int]
    page: Callable[[int, int], int]
    empty: int = 0  # an entry that maps nothing
    unit: int = 4096  # alignment of tables


def _x86_page(address: int, size: int) -> int:
    return address | 0x63 | (0x80 if size > 4096 else 0)


def _lpa2(address: int) -> int:
    return address & ((1 << 50) - 4096) | address >> 50 << 8


def _arm64_page(address: int, size: int) -> int:
    return address | (0x703 if size in (4096, 65536) else 0x701)  # inner shareable, accessed; a page, or a block


FORMATS = {
    "x86_64 4": Format("<", 8, (39, 30, 21, 12), (9,) * 4, lambda a, _: a | 0x67, _x86_page),
    "x86_64 5": Format("<", 8, (48, 39, 30, 21, 12), (9,) * 5, lambda a, _: a | 0x67, _x86_page),
    "i386": Format("<", 4, (22, 12), (10, 10), lambda a, _: a | 0x67, _x86_page),
    "i386 PAE": Format("<", 8, (30, 21, 12), (2, 9, 9), lambda a, level: a | (0x67 if level else 1), _x86_page),
    "arm64 39": Format("<", 8, (30, 21, 12), (9,) * 3, lambda a, _: a | 3, _arm64_page),
    "arm64 48": Format("<", 8, (39, 30, 21, 12), (9,) * 4, lambda a, _: a | 3, _arm64_page),
    "arm64 52": Format(
        "<", 8, (48, 39, 30, 21, 12), (4, 9, 9, 9, 9), lambda a, _: _lpa2(a) | 3,
        lambda a, size: _lpa2(a) | (0x403 if size == 4096 else 0x401),
    ),
    "arm64 64K": Format("<", 8, (42, 29, 16), (6, 13, 13), lambda a, _: a | 3, _arm64_page, unit=65536),
    "s390x 3": Format(
        ">", 8, (31, 20, 12), (11, 11, 8), lambda a, level: a | (0x07, 0x00)[level],
        lambda a, size: a | (0x400 if size > 4096 else 0), empty=0x20, unit=16384,
    ),
    "s390x 4": Format(
        ">", 8, (42, 31, 20, 12), (11, 11, 11, 8), lambda a, level: a | (0x0B, 0x07, 0x00)[level],
        lambda a, size: a | (0x400 if size > 4096 else 0), empty=0x20, unit=16384,
    ),
}  # fmt: skip


class Tables:
    """Page tables in physical memory that begins at `at`: the top table lies there."""

    def __init__(self, form: Format, at: int) -> None:
        self.form = form
        self.at = at
        self.memory = bytearray()
        self._known: dict[tuple[int, ...], int] = {}
        self.top = self._table(0)

    def _table(self, level: int) -> int:
        form = self.form
        address = self.at + len(self.memory)
        code = form.order + ("Q" if form.entry == 8 else "I")
        last = level == len(form.shifts) - 1
        empty = struct.pack(code, 0x400 if form.empty and last else form.empty)
        raw = empty * (1 << form.bits[level])
        self.memory += raw + bytes(-len(raw) % form.unit)
        return address

    def map(self, virtual: int, physical: int, size: int) -> None:
        """Map one page of a size that a level has."""
        form, table, path = self.form, self.top, ()
        for level, shift in enumerate(form.shifts):
            index = virtual >> shift & (1 << form.bits[level]) - 1
            path = (*path, index)
            if 1 << shift == size:
                self._put(table, index, form.page(physical, size))
                return
            if path not in self._known:
                self._known[path] = self._table(level + 1)
                self._put(table, index, form.pointer(self._known[path], level))
            table = self._known[path]
        raise AssertionError("no level has such pages")

    def _put(self, table: int, index: int, entry: int) -> None:
        code = self.form.order + ("Q" if self.form.entry == 8 else "I")
        struct.pack_into(code, self.memory, table - self.at + index * self.form.entry, entry)


class Load(NamedTuple):
    """A PT_LOAD with its bytes; `size` is p_memsz where it is not their number."""

    vaddr: int
    paddr: int
    data: bytes
    size: int | None = None


class Note(NamedTuple):
    owner: bytes
    type: int
    desc: bytes


def vmcoreinfo(*lines: str) -> Note:
    return Note(b"VMCOREINFO", 0, "".join(line + "\n" for line in ("OSRELEASE=9.9.9-test", *lines)).encode())


def core(machine: int, bits: int, order: str, loads: Sequence[Load], notes: Sequence[Note] = ()) -> bytes:
    """An ELF core."""
    raw = b"".join(
        struct.pack(order + "III", len(n.owner) + 1, len(n.desc), n.type)
        + (n.owner + b"\0").ljust(-(-(len(n.owner) + 1) // 4) * 4, b"\0")
        + n.desc.ljust(-(-len(n.desc) // 4) * 4, b"\0")
        for n in notes
    )
    header, entry = (64, 56) if bits == 64 else (52, 32)
    at = header + entry * (len(loads) + bool(notes))
    rows = [(PT_NOTE, 4, at, 0, 0, len(raw), 0, 4)] if notes else []
    at = -(-(at + len(raw)) // 4096) * 4096
    for load in loads:
        rows.append(
            (PT_LOAD, 7, at, load.vaddr, load.paddr, load.size or len(load.data), load.size or len(load.data), 4096)
        )
        at += -(-len(load.data) // 4096) * 4096
    ident = b"\x7fELF" + bytes([bits // 32, 2 if order == ">" else 1, 1]) + bytes(9)
    code = "HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"
    out = ident + struct.pack(order + code, ET_CORE, machine, 1, 0, header, 0, 0, header, entry, len(rows), 0, 0, 0)
    for type_, flags, offset, vaddr, paddr, filesz, memsz, align in rows:
        if bits == 64:
            out += struct.pack(order + "IIQQQQQQ", type_, flags, offset, vaddr, paddr, filesz, memsz, align)
        else:
            fields = (type_, offset, vaddr, paddr & 0xFFFFFFFF, filesz, memsz, flags, align)
            out += struct.pack(order + "8I", *fields)
    whole = bytearray(out + raw)
    for load in loads:
        whole += bytes(-len(whole) % 4096) + load.data
    return bytes(whole)
