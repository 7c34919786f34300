"""The descriptors of Linux's notes that look the same on every machine: NT_FILE and the auxiliary vector.

Sources: fs/binfmt_elf.c (fill_files_note, fill_auxv_note), Linux 6.12; gdb's gcore, which writes NT_FILE offsets
in bytes and says so with a page size of 1."""

import struct
from typing import NamedTuple

AT_NULL = 0


class MappedFile(NamedTuple):
    """A line of NT_FILE: [start, end) maps `path` from `offset` bytes on."""

    start: int
    end: int
    offset: int
    path: str


def parse_file_note(desc: bytes, prefix: str, word: int) -> list[MappedFile] | None:
    """NT_FILE, or None if it is damaged. `word` is the size of the target's long in bytes.

    Cores that a 64-bit MIPS kernel writes of 32-bit processes have words of 8 bytes all the same: the reading
    under which as many names follow the table as it has lines is the right one."""
    for size in (word, 8):
        files = _file_note(desc, prefix + ("Q" if size == 8 else "I"), size)
        if files is not None:
            return files
    return None


def _file_note(desc: bytes, code: str, size: int) -> list[MappedFile] | None:
    if len(desc) < 2 * size:
        return None
    count, page = struct.unpack_from(code[0] + 2 * code[1], desc)
    table_end = 2 * size + 3 * size * count
    if table_end > len(desc):
        return None
    names = desc[table_end:].split(b"\0")
    if len(names) < count or any(not name for name in names[:count]):
        return None
    table = struct.unpack_from(f"{code[0]}{3 * count}{code[1]}", desc, 2 * size)
    rows = zip(table[0::3], table[1::3], table[2::3], names, strict=False)
    return [
        MappedFile(start, end, offset * page, name.decode("utf-8", "surrogateescape"))
        for start, end, offset, name in rows
    ]


def parse_auxv(raw: bytes, prefix: str, word: int) -> list[tuple[int, int]]:
    """(type, value) pairs up to and with AT_NULL; what follows it is garbage."""
    out: list[tuple[int, int]] = []
    usable = len(raw) - len(raw) % (2 * word)
    for type_, value in struct.iter_unpack(prefix + ("QQ" if word == 8 else "II"), raw[:usable]):
        out.append((type_, value))
        if type_ == AT_NULL:
            break
    return out
