"""segments/: the PT_LOADs, and the other program headers that have bytes in the file."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from memfs.elf import names
from memfs.elf.header import ProgramHeaders
from memfs.image import Image, Segment, fact

OFFSET_END = (1 << 63) - 4096
"""Where a file ends in any case: no offset is larger."""


def is_load(segment: Segment) -> bool:
    """Whether it is memory."""
    return segment.type == names.PT_LOAD


@fact
def listed(image: Image) -> Sequence[Segment]:
    """What segments/ lists, by index: all of them where all have bytes or are memory, as columns then."""
    segments = image.segments
    if isinstance(segments, ProgramHeaders) and all(map(_has_file, segments.types, segments.file_sizes)):
        return segments
    return [s for s in segments if _has_file(s.type, s.file_size)]


def _has_file(type_: int, file_size: int) -> bool:
    return type_ == names.PT_LOAD or file_size > 0


def _tuples(image: Image) -> Iterable[tuple[int, ...]]:
    """The fields of what is listed, in the order of Segment: there may be 150,000, and names cost."""
    segments = listed(image)
    return segments.tuples() if isinstance(segments, ProgramHeaders) else segments


@fact
def file_names(image: Image) -> list[str]:
    """The names of segments/, in the order of `listed`."""
    width = image.target.bits // 4
    flags = [flags_text(f, "rwx", "-") for f in range(8)]
    load = f"%03d-%0{width}x-%s"
    return [
        load % (number, address, flags[f & 7])
        if type_ == names.PT_LOAD
        else f"{number:03d}-{type_name(image, type_).lower()}"
        for number, type_, f, _, address, _, _, _, _ in _tuples(image)
    ]


def type_name(image: Image, type_: int) -> str:
    """LOAD, NOTE, ..., or the number in hex."""
    return names.pt_name(type_, image.target.machine).removeprefix("PT_")


def flags_text(flags: int, letters: str, empty: str) -> str:
    """p_flags with the letters for read, write, execute."""
    return "".join(letter if flags & bit else empty for letter, bit in zip(letters, (4, 2, 1), strict=True))


def physical(image: Image, segment: Segment) -> int | None:
    """p_paddr, where it means something: the core of a process has 0 there, a kernel's memory that is no RAM has -1."""
    if image.kernel is not None and segment.physical in _NOWHERE[image.target.bits]:
        return None
    return segment.physical if segment.physical or image.kind not in ("process-core", "process") else None


_NOWHERE = {32: ((1 << 32) - 1, (1 << 64) - 1), 64: ((1 << 64) - 1,)}
"""-1 by the bits of an address; a machine of 32 bits may stand in ELF64."""


def size(segment: Segment) -> int:
    """Bytes of its file: p_memsz of memory, p_filesz of the rest."""
    return segment.memory_size if is_load(segment) else segment.file_size


@fact
def sizes(image: Image) -> tuple[array[int], array[int]] | None:
    """The size and the bytes of data of each file, without a Space for each; None where the source itself has holes."""
    if image.source.is_sparse or image.kernel is not None:
        return None
    total, high = image.source.size, 1 << image.target.bits
    lengths, data = array("Q"), array("Q")
    for _, type_, _, offset, address, _, file_size, memory_size, _ in _tuples(image):
        load = type_ == names.PT_LOAD
        length = min(memory_size if load else file_size, OFFSET_END)
        stored = min(file_size, length, total - offset, high - address if load else length)
        lengths.append(length)
        data.append(stored if stored > 0 else 0)
    return lengths, data


def records(image: Image) -> list[dict[str, Any]]:
    """segments.json."""
    return [
        {
            "name": name,
            "index": s.number,
            "type": type_name(image, s.type),
            "address": hex(s.address),
            "physical": hex(at) if (at := physical(image, s)) is not None else None,
            "offset": hex(s.offset) if image.live is None else None,
            "file_size": s.file_size,
            "memory_size": s.memory_size,
            "permissions": flags_text(s.flags, "rwx", "-"),
            "alignment": s.alignment,
        }
        for name, s in zip(file_names(image), listed(image), strict=True)
    ]
