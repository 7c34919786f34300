"""ELF headers and program headers, of both classes and byte orders, trusting nothing.

Source: System V ABI, chapters 4 and 5 (gABI 4.1 and the 2013 drafts for PN_XNUM); glibc's elf.h for the layouts.
A program header table is kept as columns of machine integers: 131,070 headers cost 9 MB and 40 ms, not 200 MB."""

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from memfs.image import Segment

IDENT_SIZE = 16
EHDR_SIZE = {32: 52, 64: 64}
PHDR_SIZE = {32: 32, 64: 56}
SHDR_SIZE = {32: 40, 64: 64}
_EHDR = {32: "HHIIIIIHHHHHH", 64: "HHIQQQIHHHHHH"}
_SHDR = {32: "IIIIIIIIII", 64: "IIQQQQIIQQ"}


class Ehdr(NamedTuple):
    """The ELF header, field by field, and its bytes."""

    ei_class: int
    ei_data: int
    ei_osabi: int
    e_type: int
    e_machine: int
    e_version: int
    e_entry: int
    e_phoff: int
    e_shoff: int
    e_flags: int
    e_ehsize: int
    e_phentsize: int
    e_phnum: int
    e_shentsize: int
    e_shnum: int
    e_shstrndx: int
    raw: bytes

    @property
    def bits(self) -> int:
        return 64 if self.ei_class == 2 else 32

    @property
    def order(self) -> str:
        return "big" if self.ei_data == 2 else "little"

    @property
    def prefix(self) -> str:
        return ">" if self.ei_data == 2 else "<"


class Section(NamedTuple):
    """What is used of a section header."""

    type: int
    offset: int
    size: int
    info: int
    alignment: int


def parse_ehdr(raw: bytes) -> Ehdr | None:
    """The ELF header at the start of a file; None if `raw` does not hold a whole one of a known class and order."""
    if len(raw) < IDENT_SIZE or raw[:4] != b"\x7fELF" or raw[4] not in (1, 2) or raw[5] not in (1, 2):
        return None
    bits = 64 if raw[4] == 2 else 32
    if len(raw) < EHDR_SIZE[bits]:
        return None
    fields = struct.unpack_from((">" if raw[5] == 2 else "<") + _EHDR[bits], raw, IDENT_SIZE)
    return Ehdr._make((raw[4], raw[5], raw[7], *fields, raw[: EHDR_SIZE[bits]]))


def parse_section(raw: bytes, ehdr: Ehdr) -> Section | None:
    """One section header, or None if `raw` is too short."""
    if len(raw) < SHDR_SIZE[ehdr.bits]:
        return None
    _, type_, _, _, offset, size, _, info, alignment, _ = struct.unpack_from(ehdr.prefix + _SHDR[ehdr.bits], raw)
    return Section(type_, offset, size, info, alignment)


class ProgramHeaders(Sequence[Segment]):
    """The program header table as columns; a Segment is made when it is looked at."""

    def __init__(self, table: bytes, ehdr: Ehdr) -> None:
        """`table` holds whole entries, e_phentsize apart; the last may be cut off behind its own fields."""
        size, stride = PHDR_SIZE[ehdr.bits], ehdr.e_phentsize
        count = (len(table) - size) // stride + 1 if stride >= size and len(table) >= size else 0
        if stride != size:
            table = b"".join(table[i * stride : i * stride + size] for i in range(count))
        words = array("Q" if ehdr.bits == 64 else "I")
        words.frombytes(table[: count * size])
        if ehdr.order != sys.byteorder:
            words.byteswap()
        self._count = count
        if ehdr.bits == 64:
            low, high = array("I"), array("I")
            both = words[0::7]
            low.extend([word & 0xFFFFFFFF for word in both])
            high.extend([word >> 32 for word in both])
            self.types, self.flags = (low, high) if ehdr.order == "little" else (high, low)
            columns = [words[i::7] for i in range(1, 7)]
        else:
            self.types, self.flags = words[0::8], words[6::8]
            columns = [words[i::8] for i in (1, 2, 3, 4, 5, 7)]
        self.offsets, self.addresses, self.physicals, self.file_sizes, self.memory_sizes, self.alignments = columns

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> list[Segment]: ...
    def __getitem__(self, index: int | slice) -> Segment | list[Segment]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        index = range(self._count)[index]
        return Segment(
            index,
            self.types[index],
            self.flags[index],
            self.offsets[index],
            self.addresses[index],
            self.physicals[index],
            self.file_sizes[index],
            self.memory_sizes[index],
            self.alignments[index],
        )

    def __iter__(self) -> Iterator[Segment]:
        return map(Segment._make, self.tuples())

    def tuples(self) -> Iterator[tuple[int, ...]]:
        """The fields of every Segment, in their order, without its names."""
        return zip(
            range(self._count),
            self.types,
            self.flags,
            self.offsets,
            self.addresses,
            self.physicals,
            self.file_sizes,
            self.memory_sizes,
            self.alignments,
            strict=True,
        )


class Elf(NamedTuple):
    """What the ELF backend keeps of a file for headers/ and headers.json."""

    ehdr: Ehdr
    phnum: int | None  # what the header claims, through PN_XNUM; None where that cannot be found out
    headers: ProgramHeaders
    table_size: int  # bytes of the program header table that the file has
