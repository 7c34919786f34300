"""Symbols out of a vmlinux: SHT_SYMTAB of an ELF file, as nm prints it.

Nothing of the file is trusted: no table is longer than the file."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable
from typing import NamedTuple

from memfs.elf.notes import iter_notes
from memfs.errors import MemfsError
from memfs.facts.symbols.columns import Symbols

Read = Callable[[int, int], bytes]
"""(offset, size) -> bytes of the file; fewer at its end."""

_SHT_SYMTAB, _SHT_NOBITS = 2, 8
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_SHN_UNDEF, _SHN_ABS, _SHN_LORESERVE = 0, 0xFFF1, 0xFF00
_STT_SECTION, _STT_FILE = 3, 4
_STB_LOCAL, _STB_WEAK = 0, 2
_SECTIONS_AT_MOST = 1 << 16


_SHT_NOTE, _NT_GNU_BUILD_ID = 7, 3
_NOTES_AT_MOST = 1 << 20


class _Section(NamedTuple):
    type: int
    flags: int
    offset: int
    size: int
    link: int


def read(source: Read, size: int) -> Symbols:
    """The symbols of an ELF file of `size` bytes, sorted by address. Raises MemfsError if it has none."""
    head = source(0, 64)
    wide, order = head[4:5] == b"\2", "<" if head[5:6] == b"\1" else ">"
    sections = _sections(source, size, head, wide, order)
    table = next((s for s in sections if s.type == _SHT_SYMTAB), None)
    if table is None or table.link >= len(sections):
        raise MemfsError(
            "this ELF file has no symbol table", "it was stripped, or is no vmlinux", "name its System.map instead"
        )
    strings = sections[table.link]
    if max(strings.offset + strings.size, table.offset + table.size) > size:
        raise MemfsError("the file ends inside its symbol table", "it was cut off", "copy it again")
    text, raw = source(strings.offset, strings.size), source(table.offset, table.size)
    columns = _wide(raw, order) if wide else _narrow(raw, order)
    symbols = _symbols(columns, text, [_letter(section) for section in sections])
    if symbols.value(b"_stext") is None:
        raise MemfsError("this ELF file is no vmlinux", "it has no symbol _stext", "name a vmlinux or a System.map")
    return symbols


def build_id(source: Read, size: int) -> str | None:
    """NT_GNU_BUILD_ID of an ELF file of `size` bytes, in hex; None if it has none. Raises MemfsError."""
    head = source(0, 64)
    wide, order = head[4:5] == b"\2", "<" if head[5:6] == b"\1" else ">"
    for section in _sections(source, size, head, wide, order):
        if section.type != _SHT_NOTE or section.size > _NOTES_AT_MOST or section.offset + section.size > size:
            continue
        for note in iter_notes(source, order, section.offset, section.size, 4, lambda warning: None):
            if note.owner == "GNU" and note.type == _NT_GNU_BUILD_ID:
                return source(note.offset, min(note.size, 64)).hex()
    return None


def _sections(source: Read, size: int, head: bytes, wide: bool, order: str) -> list[_Section]:
    """The section header table (ELF64: e_shoff at 40, e_shentsize at 58; ELF32: at 32, at 46)."""
    try:
        (offset,) = struct.Struct(order + ("Q" if wide else "I")).unpack_from(head, 40 if wide else 32)
        entry, count = struct.Struct(order + "HH").unpack_from(head, 58 if wide else 46)
    except struct.error as error:
        raise MemfsError("the file ends inside its ELF header", "it was cut off", "copy it again") from error
    record = struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"))
    if entry != record.size:
        return []
    if count == 0 and 0 < offset < size:  # more than 65,279: the number is sh_size of the first
        first = source(offset, record.size)
        count = record.unpack(first)[5] if len(first) == record.size else 0
    raw = source(offset, min(count, _SECTIONS_AT_MOST) * record.size) if offset < size else b""
    raw = raw[: len(raw) // record.size * record.size]
    return [
        _Section(type_, flags, at, length, link) for _, type_, flags, _, at, length, link, *_ in record.iter_unpack(raw)
    ]


def _letter(section: _Section) -> str:
    """nm's letter of a global symbol of a section."""
    if section.flags & _SHF_EXECINSTR:
        return "T"
    if section.type == _SHT_NOBITS:
        return "B"
    return "D" if section.flags & _SHF_WRITE else "R" if section.flags & _SHF_ALLOC else "N"


class _Columns(NamedTuple):
    names: array[int]
    infos: bytes
    sections: array[int]
    values: array[int]


def _wide(raw: bytes, order: str) -> _Columns:
    """Elf64_Sym: u32 name, u8 info, u8 other, u16 section, u64 value, u64 size."""
    raw = raw[: len(raw) // 24 * 24]
    return _Columns(
        _array("I", raw, order)[0::6], raw[4::24], _array("H", raw, order)[3::12], _array("Q", raw, order)[1::3]
    )


def _narrow(raw: bytes, order: str) -> _Columns:
    """Elf32_Sym: u32 name, u32 value, u32 size, u8 info, u8 other, u16 section."""
    raw = raw[: len(raw) // 16 * 16]
    words = _array("I", raw, order)
    return _Columns(words[0::4], raw[12::16], _array("H", raw, order)[7::8], array("Q", words[1::4]))


def _array(code: str, raw: bytes, order: str) -> array[int]:
    out = array(code, raw)
    if (order == "<") != (sys.byteorder == "little"):
        out.byteswap()
    return out


def _symbols(columns: _Columns, text: bytes, letters: list[str]) -> Symbols:
    """What has a name and a value, by address."""
    rows = []
    for name, info, section, value in zip(*columns, strict=True):
        if section == _SHN_UNDEF or info & 15 in (_STT_SECTION, _STT_FILE) or not 0 < name < len(text):
            continue
        if section >= _SHN_LORESERVE or section >= len(letters):
            letter = "A"
        else:
            letter = letters[section]
        bind = info >> 4
        letter = "W" if bind == _STB_WEAK else letter.lower() if bind == _STB_LOCAL else letter
        label = text[name : text.find(b"\0", name)]
        if label and letter not in "Nn" and b"\n" not in label:
            rows.append((value, label, letter))
    rows.sort(key=lambda row: row[0])
    if not rows:
        raise MemfsError("this ELF file has an empty symbol table", "", "name its System.map instead")
    return Symbols(
        b"".join(label + b"\n" for _, label, _ in rows),
        array("Q", (value for value, _, _ in rows)),
        "".join(letter for _, _, letter in rows).encode(),
    )
