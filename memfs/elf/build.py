"""An ELF core's head made anew: ELF header, program headers, notes. What follows are the bytes of the PT_LOADs.

Source: gABI chapters 4 and 5; PN_XNUM as in fs/binfmt_elf.c (fill_extnum_info), Linux 6.12."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from memfs.elf import names
from memfs.elf.header import EHDR_SIZE, IDENT_SIZE, PHDR_SIZE, SHDR_SIZE
from memfs.image import Segment, Target

PAGE = 4096


class Note(NamedTuple):
    """A note to be written."""

    owner: bytes  # without its NUL
    type: int
    desc: bytes


class Head(NamedTuple):
    """The bytes before the first PT_LOAD, and the offset of each PT_LOAD in the file."""

    raw: bytes
    offsets: list[int]
    end: int  # of the file


def notes(entries: Sequence[Note], prefix: str) -> bytes:
    """A PT_NOTE's bytes: each part aligned to 4."""
    out = bytearray()
    for note in entries:
        owner = note.owner + b"\0"
        out += struct.pack(prefix + "III", len(owner), len(note.desc), note.type)
        out += owner + bytes(-len(owner) % 4) + note.desc + bytes(-len(note.desc) % 4)
    return bytes(out)


def core(target: Target, loads: Sequence[Segment], note_bytes: bytes) -> Head:
    """An ET_CORE with a PT_NOTE and a PT_LOAD for each of `loads`, of which address, physical, flags and memory_size
    are taken: p_filesz is p_memsz. Offsets are like addresses within a page. Of ELF64, as kexec-tools does it, where
    the memory of a machine of 32 bits does not fit ELF32."""
    last = max((max(load.address, load.physical) + load.memory_size for load in loads), default=0)
    whole = sum(load.memory_size + PAGE + PHDR_SIZE[64] for load in loads) + len(note_bytes)
    if max(last, whole) >> 32:
        target = target._replace(bits=64)
    bits, many = target.bits, len(loads) + 1 >= names.PN_XNUM
    table = EHDR_SIZE[bits]
    after = table + (len(loads) + 1) * PHDR_SIZE[bits]
    notes_at = after + (SHDR_SIZE[bits] if many else 0)
    position = notes_at + len(note_bytes)
    rows = [_phdr(target, Segment(0, names.PT_NOTE, 0, notes_at, 0, 0, len(note_bytes), 0, 4))]
    offsets = []
    for load in loads:
        position += (load.address - position) % PAGE
        offsets.append(position)
        made = load._replace(type=names.PT_LOAD, offset=position, file_size=load.memory_size, alignment=PAGE)
        rows.append(_phdr(target, made))
        position += load.memory_size
    raw = _ehdr(target, len(rows), after if many else 0) + b"".join(rows)
    if many:
        raw += _section_zero(target, len(rows))
    return Head(raw + note_bytes, offsets, position)


def _ehdr(target: Target, count: int, sections: int) -> bytes:
    bits = target.bits
    ident = b"\x7fELF" + bytes((2 if bits == 64 else 1, 2 if target.order == "big" else 1, 1))
    return ident.ljust(IDENT_SIZE, b"\0") + struct.pack(
        target.prefix + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"),
        names.ET_CORE,
        target.machine,
        1,
        0,
        EHDR_SIZE[bits],
        sections,
        0,
        EHDR_SIZE[bits],
        PHDR_SIZE[bits],
        min(count, names.PN_XNUM),
        SHDR_SIZE[bits] if sections else 0,
        1 if sections else 0,
        0,
    )


def _phdr(target: Target, s: Segment) -> bytes:
    if target.bits == 64:
        fields = (s.type, s.flags, s.offset, s.address, s.physical, s.file_size, s.memory_size, s.alignment)
        return struct.pack(target.prefix + "IIQQQQQQ", *fields)
    fields = (s.type, s.offset, s.address, s.physical, s.file_size, s.memory_size, s.flags, s.alignment)
    return struct.pack(target.prefix + "IIIIIIII", *fields)


def _section_zero(target: Target, count: int) -> bytes:
    """Section header 0, whose sh_info is the number of program headers."""
    code = "IIQQQQIIQQ" if target.bits == 64 else "IIIIIIIIII"
    return struct.pack(target.prefix + code, 0, 0, 0, 0, 0, 0, 0, count, 0, 0)
