"""segments/: the PT_LOADs, and the other program headers that have bytes in the file."""

from __future__ import annotations

from typing import Any

from memfs.elf import names
from memfs.image import Image, Segment, fact


def is_load(segment: Segment) -> bool:
    """Whether it is memory."""
    return segment.type == names.PT_LOAD


@fact
def listed(image: Image) -> list[Segment]:
    """What segments/ lists, by index."""
    return [s for s in image.segments if is_load(s) or s.file_size]


@fact
def file_names(image: Image) -> list[str]:
    """The names of segments/, in the order of `listed`."""
    width = image.target.bits // 4
    flags = [flags_text(f, "rwx", "-") for f in range(8)]
    return [
        f"{s.number:03d}-{s.address:0{width}x}-{flags[s.flags & 7]}"
        if s.type == names.PT_LOAD
        else f"{s.number:03d}-{type_name(image, s).lower()}"
        for s in listed(image)
    ]


def type_name(image: Image, segment: Segment) -> str:
    """LOAD, NOTE, ..., or the number in hex."""
    return names.pt_name(segment.type, image.target.machine).removeprefix("PT_")


def flags_text(flags: int, letters: str, empty: str) -> str:
    """p_flags with the letters for read, write, execute."""
    return "".join(letter if flags & bit else empty for letter, bit in zip(letters, (4, 2, 1), strict=True))


def physical(image: Image, segment: Segment) -> int | None:
    """p_paddr, where it means something: the core of a process has 0 there."""
    return segment.physical if segment.physical or image.kind != "process-core" else None


def size(segment: Segment) -> int:
    """Bytes of its file: p_memsz of memory, p_filesz of the rest."""
    return segment.memory_size if is_load(segment) else segment.file_size


def records(image: Image) -> list[dict[str, Any]]:
    """segments.json."""
    return [
        {
            "name": name,
            "index": s.number,
            "type": type_name(image, s),
            "address": hex(s.address),
            "physical": hex(at) if (at := physical(image, s)) is not None else None,
            "offset": hex(s.offset),
            "file_size": s.file_size,
            "memory_size": s.memory_size,
            "permissions": flags_text(s.flags, "rwx", "-"),
            "alignment": s.alignment,
        }
        for name, s in zip(file_names(image), listed(image), strict=True)
    ]
