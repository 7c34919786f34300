"""headers/ of an ELF file: the ELF header and the program header table, as `readelf -hW` and `-lW` show them."""

from __future__ import annotations

from typing import Any

from memfs.elf import names
from memfs.elf.header import Elf
from memfs.facts import segments
from memfs.image import Image
from memfs.tree import render

_HEX = ("e_entry", "e_phoff", "e_shoff", "e_flags")


def elf(image: Image) -> Elf | None:
    """The ELF headers of a core; None for an image that has none."""
    return image.container if isinstance(image.container, Elf) else None


def record(image: Image) -> dict[str, Any]:
    """headers.json."""
    container = elf(image)
    if container is None:
        return {}
    fields = {k: hex(v) if k in _HEX else v for k, v in container.ehdr._asdict().items() if k != "raw"}
    phdrs = [
        {
            "index": segment.number,
            "p_type": names.pt_name(segment.type, image.target.machine),
            "p_flags": segment.flags,
            "p_offset": hex(segment.offset),
            "p_vaddr": hex(segment.address),
            "p_paddr": hex(segment.physical),
            "p_filesz": segment.file_size,
            "p_memsz": segment.memory_size,
            "p_align": segment.alignment,
        }
        for segment in container.headers
    ]
    return {"ehdr": fields, "phnum": container.phnum, "phdrs": phdrs}


def ehdr_text(image: Image) -> bytes:
    """The ELF header for people, numbers with their names."""
    container = elf(image)
    if container is None:
        return b""
    meanings = {
        "ei_class": {1: "ELFCLASS32", 2: "ELFCLASS64"},
        "ei_data": {1: "ELFDATA2LSB", 2: "ELFDATA2MSB"},
        "ei_osabi": names.OSABI,
        "e_type": names.ET,
        "e_machine": {machine: name for machine, (name, _) in names.MACHINES.items()},
    }
    lines = []
    for field, value in container.ehdr._asdict().items():
        if field == "raw":
            continue
        meaning = meanings.get(field, {}).get(value)
        shown = hex(value) if field in _HEX else str(value)
        lines.append(f"{field}: {shown}" + (f" ({meaning})" if meaning else "") + "\n")
    if container.phnum != container.ehdr.e_phnum:
        lines.append(f"program headers: {container.phnum} (through PN_XNUM)\n")
    return "".join(lines).encode()


def phdrs_text(image: Image) -> bytes:
    """A program header a line, in the columns of `readelf -lW`."""
    container = elf(image)
    rows = [("Index", "Type", "Offset", "VirtAddr", "PhysAddr", "FileSiz", "MemSiz", "Flg", "Align")]
    width = 16 if container and container.ehdr.bits == 64 else 8
    for s in container.headers if container else ():
        rows.append(
            (
                str(s.number),
                names.pt_name(s.type, image.target.machine).removeprefix("PT_"),
                f"0x{s.offset:06x}",
                f"0x{s.address:0{width}x}",
                f"0x{s.physical:0{width}x}",
                f"0x{s.file_size:06x}",
                f"0x{s.memory_size:06x}",
                segments.flags_text(s.flags, "RWE", " "),
                hex(s.alignment),
            )
        )
    return render.columns(rows).encode()


def table_bytes(image: Image) -> bytes:
    """The program header table as it stands in the file."""
    container = elf(image)
    return image.source.read(container.ehdr.e_phoff, container.table_size) if container else b""
