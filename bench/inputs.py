"""The cores that are measured: written here, or taken from a corpus."""

import importlib.util
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PAGE = 4096
PN_XNUM = 0xFFFF
MIB = 1 << 20
GIB = 1 << 30

DENSE = 0x7F0000000000  # address of the dense segment of dense_core(): page-cached
TAIL = 0x7F8000000000  # address of the same bytes with an absent page behind them: direct I/O

LARGE_OF_CORPUS = ("r2-core65k", "elfutils-testfile-phdrs.elf")


class Load(NamedTuple):
    """A PT_LOAD; offset counts from where the data of the file begins."""

    address: int
    offset: int
    file_size: int
    memory_size: int
    flags: int = 6  # PF_R | PF_W


def note(kind: int, desc: bytes) -> bytes:
    return struct.pack("<III8s", 5, len(desc), kind, b"CORE") + desc + bytes(-len(desc) % 4)


def notes(loads: list[Load]) -> bytes:
    """What a kernel writes at least: NT_PRSTATUS, NT_PRPSINFO, NT_AUXV, NT_FILE of an x86-64 process (elfcore.h)."""
    pid = 4242
    prstatus = struct.pack("<iiihxxQQ4i", 11, 0, 0, 11, 0, 0, pid, 1, pid, pid).ljust(336, b"\0")
    prpsinfo = struct.pack("<bcbbxxxxQII4i16s80s", 0, b"R", 0, 0, 0, 0, 0, pid, 1, pid, pid, b"bench", b"./bench")
    auxv = struct.pack("<4Q", 6, PAGE, 0, 0)  # AT_PAGESZ, AT_NULL
    files = [load for load in loads if load.flags == 5][:4]
    mapped = struct.pack("<2Q", len(files), PAGE)
    mapped += b"".join(struct.pack("<3Q", load.address, load.address + load.memory_size, 0) for load in files)
    mapped += b"".join(b"/usr/lib/libbench%d.so\0" % number for number in range(len(files)))
    return note(1, prstatus) + note(3, prpsinfo) + note(6, auxv) + note(0x46494C45, mapped)


def write_headers(path: Path, loads: list[Load]) -> int:
    """Write everything of an x86-64 core but its data; returns the page-aligned offset where that begins."""
    notes_at = 64 + 56 * (1 + len(loads))
    blob = notes(loads)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    phnum = min(1 + len(loads), PN_XNUM)
    section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 1 + len(loads), 0, 0) if phnum == PN_XNUM else b""
    shoff = notes_at + len(blob) if section else 0
    sections = (64, 1, 0) if section else (0, 0, 0)
    data_at = -(-(notes_at + len(blob) + len(section)) // PAGE) * PAGE
    ehdr = struct.pack("<16sHHIQQQIHHHHHH", ident, 4, 62, 1, 0, 64, shoff, 0, 64, 56, phnum, *sections)
    phdrs = [struct.pack("<IIQQQQQQ", 4, 4, notes_at, 0, 0, len(blob), 0, 4)]
    for load in loads:
        sizes = load.file_size, load.memory_size
        phdrs.append(struct.pack("<IIQQQQQQ", 1, load.flags, data_at + load.offset, load.address, 0, *sizes, PAGE))
    path.write_bytes(ehdr + b"".join(phdrs) + blob + section)
    return data_at


def filled(size: int) -> Iterator[bytes]:
    """`size` bytes, none of them zero, no two pages of a MiB alike, nor two MiB."""
    pattern = os.urandom(2 * MIB).translate(bytes([1, *range(1, 256)]))
    for number, start in enumerate(range(0, size, MIB)):
        shift = number * 4099 % MIB
        yield pattern[shift : shift + min(MIB, size - start)]


def dense_core(path: Path, size: int) -> int:
    """One run of `size` bytes that two segments show: DENSE as it is, TAIL with an absent page at its end.

    Returns the offset of the bytes in the file.
    """
    data_at = write_headers(path, [Load(DENSE, 0, size, size), Load(TAIL, 0, size, size + PAGE)])
    with open(path, "r+b") as file:
        file.seek(data_at)
        file.writelines(filled(size))
    return data_at


def small_core(path: Path) -> None:
    """8 MB in 32 segments, as a small process leaves."""
    each = 8 * MIB // 32
    loads = [Load(0x400000 + i * 2 * each, i * each, each, each, 5 if i % 4 == 0 else 6) for i in range(32)]
    data_at = write_headers(path, loads)
    with open(path, "r+b") as file:
        file.seek(data_at)
        file.writelines(filled(8 * MIB))


def many_core(path: Path, count: int) -> None:
    """So many segments of a page each, all of them over the same page of the file."""
    data_at = write_headers(path, [Load(0x100000000000 + i * 2 * PAGE, 0, PAGE, PAGE) for i in range(count)])
    with open(path, "r+b") as file:
        file.seek(data_at)
        file.write(bytes([1]) * PAGE)


def sparse_core(path: Path) -> None:
    """1 TiB in 32 segments, of which 2 MiB are there and the rest are holes."""
    each = 32 * GIB
    loads = [Load(0x100000000000 + i * 2 * each, i * each, each, each, 5 if i % 4 == 0 else 6) for i in range(32)]
    data_at = write_headers(path, loads)
    with open(path, "r+b") as file:
        for i in range(32):
            file.seek(data_at + i * each + i * 16 * MIB)
            file.writelines(filled(64 << 10))
        file.truncate(data_at + 32 * each)


def unpack_corpus(corpus: Path, directory: Path) -> dict[str, Path]:
    """The cores of LARGE_OF_CORPUS that the corpus has, unpacked by its own loader."""
    spec = importlib.util.spec_from_file_location("corpus_loader", corpus / "loader.py")
    if spec is None or spec.loader is None or not (corpus / "loader.py").is_file():
        return {}
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    found = {}
    for name in LARGE_OF_CORPUS:
        if (corpus / f"{name}.core.xz").is_file():
            found[name] = directory / f"{name}.core"
            loader.unpack(str(corpus), name, str(found[name]))
    return found
