"""The list of notes in a PT_NOTE segment or an SHT_NOTE section.

Source: gABI chapter 5, "Note Section"; what real files do: notes are aligned to 4 bytes whatever p_align says
(except GNU property notes in segments with 8), a name may lack its NUL, and zeros may lie between notes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from memfs.image import Note

NOTES_AT_MOST = 1 << 20
"""More notes than this are not a core: a list of them would cost more memory than the file deserves."""

_NAME_AT_MOST = 4096
GAP_AT_MOST = 1 << 16
"""More zeros than this between two notes are the end of them."""

_WINDOW = 1 << 16
_NT_GNU_PROPERTY_TYPE_0 = 5

Read = Callable[[int, int], bytes]


def iter_notes(
    read: Read, prefix: str, offset: int, size: int, alignment: int, warn: Callable[[str], None]
) -> Iterator[Note]:
    """The notes in [offset, offset + size) of a file, indexes from 0 on.

    `read(offset, size)` gives the file's bytes, fewer at its end; `prefix` is struct's byte order; `warn` is told
    what is odd. A note that reaches beyond the end is given with the bytes that there are, and is the last."""
    header = struct.Struct(prefix + "III")
    window = _Window(read, offset + size)
    end = offset + size
    position, index, gap = offset, 0, 0
    while position + header.size <= end:
        raw = window.at(position, header.size)
        if len(raw) < header.size:
            break
        name_size, desc_size, type_ = header.unpack(raw)
        if not name_size:
            position, gap = position + 4, gap + 4
            if gap > GAP_AT_MOST:
                warn(f"more than {GAP_AT_MOST:,} bytes without a note at {position:#x}: what follows is not looked at")
                return
            continue
        name_end = position + header.size + name_size
        if name_size > _NAME_AT_MOST or name_end > end:
            warn(f"the note at {position:#x} claims a name of {name_size:,} bytes: notes end here")
            return
        if index >= NOTES_AT_MOST:
            warn(f"more than {NOTES_AT_MOST:,} notes: the rest is not shown")
            return
        owner = window.at(position + header.size, name_size).split(b"\0")[0].decode("utf-8", "surrogateescape")
        wide = alignment == 8 and owner == "GNU" and type_ == _NT_GNU_PROPERTY_TYPE_0
        step = 8 if wide else 4
        desc = position + -(-(name_end - position) // step) * step
        there = max(0, min(desc_size, end - desc))
        yield Note(index, owner, type_, desc, there)
        if there < desc_size:
            warn(f"note {index} ({owner}) claims {desc_size:,} bytes, {there:,} are there")
            return
        index, gap = index + 1, 0
        position = desc + -(-desc_size // step) * step


class _Window:
    """Small reads out of a larger one."""

    def __init__(self, read: Read, end: int) -> None:
        self._read = read
        self._end = end
        self._start = 0
        self._bytes = b""

    def at(self, offset: int, size: int) -> bytes:
        inside = offset - self._start
        if not 0 <= inside <= len(self._bytes) - size:
            self._start, inside = offset, 0
            self._bytes = self._read(offset, min(max(size, _WINDOW), self._end - offset))
        return self._bytes[inside : inside + size]
