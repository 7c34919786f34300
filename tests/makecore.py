"""ELF cores for tests, byte by byte: any class, byte order, machine, headers and notes, sound or not."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

PT_LOAD, PT_NOTE = 1, 4
EM_386, EM_ARM, EM_X86_64, EM_AARCH64 = 3, 40, 62, 183


class Header(NamedTuple):
    """A program header; `data` is put into the file behind the headers unless `offset` is given."""

    type: int = PT_LOAD
    flags: int = 6
    address: int = 0x1000
    data: bytes = b""
    memory_size: int | None = None
    file_size: int | None = None
    offset: int | None = None
    physical: int = 0
    alignment: int = 1


def note(owner: bytes, type_: int, desc: bytes, order: str = "<", align: int = 4, nul: bool = True) -> bytes:
    """One note, padded."""
    name = owner + b"\0" if nul else owner
    out = struct.pack(order + "III", len(name), len(desc), type_) + name
    out += bytes(-len(out) % align) + desc
    return out + bytes(-len(out) % align)


def ehdr(bits: int = 64, order: str = "<", machine: int = EM_X86_64, **fields: int) -> bytes:
    """An ELF header; fields by name: e_type, e_phoff, e_phnum, e_phentsize, e_shoff, e_shnum, e_flags, ..."""
    f = {
        "e_type": 4, "e_version": 1, "e_entry": 0, "e_phoff": 64 if bits == 64 else 52, "e_shoff": 0, "e_flags": 0,
        "e_ehsize": 64 if bits == 64 else 52, "e_phentsize": 56 if bits == 64 else 32, "e_phnum": 0,
        "e_shentsize": 0, "e_shnum": 0, "e_shstrndx": 0, **fields,
    }  # fmt: skip
    ident = b"\x7fELF" + bytes((bits // 32, 1 if order == "<" else 2, 1)) + bytes(9)
    code = "HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"
    return ident + struct.pack(
        order + code, f["e_type"], machine, f["e_version"], f["e_entry"], f["e_phoff"], f["e_shoff"], f["e_flags"],
        f["e_ehsize"], f["e_phentsize"], f["e_phnum"], f["e_shentsize"], f["e_shnum"], f["e_shstrndx"],
    )  # fmt: skip


def phdr(bits: int, order: str, header: Header, offset: int) -> bytes:
    """One program header."""
    file_size = len(header.data) if header.file_size is None else header.file_size
    memory_size = file_size if header.memory_size is None else header.memory_size
    if header.type == PT_NOTE and header.memory_size is None:
        memory_size = 0
    if bits == 64:
        return struct.pack(
            order + "IIQQQQQQ", header.type, header.flags, offset, header.address, header.physical, file_size,
            memory_size, header.alignment,
        )  # fmt: skip
    return struct.pack(
        order + "IIIIIIII", header.type, offset, header.address, header.physical, file_size, memory_size,
        header.flags, header.alignment,
    )  # fmt: skip


def core(
    headers: Sequence[Header] = (),
    notes: bytes = b"",
    bits: int = 64,
    order: str = "<",
    machine: int = EM_X86_64,
    **fields: int,
) -> bytes:
    """A whole core: ELF header, program headers (the notes first, if there are any), their bytes."""
    every = [Header(PT_NOTE, 0, 0, notes, alignment=4)] * bool(notes) + list(headers)
    size = 56 if bits == 64 else 32
    position = (64 if bits == 64 else 52) + size * len(every)
    table, body = b"", b""
    for header in every:
        offset = position + len(body) if header.offset is None else header.offset
        table += phdr(bits, order, header, offset)
        body += header.data if header.offset is None else b""
    return ehdr(bits, order, machine, **{"e_phnum": len(every), **fields}) + table + body


_PRSTATUS = {
    # (machine, bits): what stands before pr_reg, its registers, their code, the slots of pc and sp, pr_fpvalid
    (EM_X86_64, 64): ("3ih2x2Q4i8q", 27, "Q", 16, 19, "i4x"),
    (EM_X86_64, 32): ("3ih2x2I4i8i", 27, "Q", 16, 19, "i4x"),
    (EM_386, 32): ("3ih2x2I4i8i", 17, "I", 12, 15, "i"),
    (EM_ARM, 32): ("3ih2x2I4i8i", 18, "I", 15, 13, "i"),
    (EM_AARCH64, 64): ("3ih2x2Q4i8q", 34, "Q", 32, 31, "i4x"),
}
MACHINES = tuple(_PRSTATUS)


def prstatus(
    tid: int, sp: int = 0, pc: int = 0, signal: int = 0, machine: int = EM_X86_64, bits: int = 64, order: str = "<"
) -> bytes:
    """A PRSTATUS. The registers that are not pc and sp hold 0x1000 and their slot."""
    head, count, code, pc_slot, sp_slot, tail = _PRSTATUS[machine, bits]
    registers = [0x1000 + slot for slot in range(count)]
    registers[pc_slot], registers[sp_slot] = pc, sp
    out = struct.pack(order + head, signal, 0, 0, signal, 0, 0, tid, 1, tid, tid, *([0] * 8))
    return out + struct.pack(f"{order}{count}{code}{tail}", *registers, 1)


def prstatus_x86_64(tid: int, sp: int = 0, pc: int = 0, signal: int = 0) -> bytes:
    """A PRSTATUS of x86_64 (336 bytes)."""
    return prstatus(tid, sp, pc, signal)


def prpsinfo_64(pid: int, name: bytes = b"made", arguments: bytes = b"made up") -> bytes:
    """A PRPSINFO of a 64-bit machine (136 bytes)."""
    return struct.pack("<BcBb4xQ2I4i16s80s", 0, b"R", 0, 0, 0, 1000, 1000, pid, 1, pid, pid, name, arguments)


def auxv_64(**values: int) -> bytes:
    """An auxiliary vector: AT_ENTRY=..., ended by AT_NULL."""
    types = {"AT_PHDR": 3, "AT_BASE": 7, "AT_ENTRY": 9, "AT_RANDOM": 25, "AT_EXECFN": 31, "AT_SYSINFO_EHDR": 33}
    return b"".join(struct.pack("<QQ", types[name], value) for name, value in values.items()) + bytes(16)


def file_note_64(*files: tuple[int, int, int, bytes], page: int = 4096) -> bytes:
    """NT_FILE: (start, end, offset in pages, path)."""
    out = struct.pack("<QQ", len(files), page)
    for start, end, offset, _ in files:
        out += struct.pack("<QQQ", start, end, offset)
    return out + b"".join(path + b"\0" for *_, path in files)


def small_core(bits: int = 64, order: str = "<") -> bytes:
    """A core of 0x1000 to 0x2000 (its first 80 bytes are there) and of a stack, with every note that is decoded.

    Of other classes and orders than 64 and little: with notes that mean nothing."""
    if (bits, order) == (64, "<"):
        notes = note(b"CORE", 1, prstatus(5, 0x7010, 0x1000, 11)) + note(b"CORE", 3, prpsinfo_64(5))
        notes += note(b"CORE", 0x53494749, struct.pack("<3i4xQ104x", 11, 0, 1, 0x10))
        notes += note(b"CORE", 6, auxv_64(AT_ENTRY=0x1000, AT_RANDOM=0x7020))
        notes += note(b"CORE", 0x46494C45, file_note_64((0x1000, 0x2000, 0, b"/bin/a"), (0x2000, 0x3000, 1, b"/l/b")))
        notes += note(b"CORE", 2, bytes(512))
    else:
        notes = note(b"XYZ", 7, b"desc", order) + note(b"CORE", 99, b"12345678", order)
    return core([Header(1, 5, 0x1000, b"code" * 20, 4096), Header(1, 6, 0x7000, b"stack" * 20)], notes, bits, order)
