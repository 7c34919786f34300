"""What is mapped where in a live process: /proc/PID/maps as text, and one address of it by PROCMAP_QUERY.

Sources: fs/proc/task_mmu.c (show_map_vma, do_procmap_query) and include/uapi/linux/fs.h (struct procmap_query),
Linux 6.18; the ioctl is there since 6.11."""

import errno
import fcntl
import itertools
import os
import re
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Area(NamedTuple):
    """A mapping of a live process: [start, end), in bytes."""

    start: int
    end: int
    permissions: str  # "r-xp"
    offset: int  # in the mapped file, in bytes
    device: tuple[int, int]  # major, minor
    inode: int
    path: str  # as maps prints it, undecodable bytes as surrogates; "" for none

    @property
    def is_anonymous(self) -> bool:
        """Whether no file is mapped. Shared anonymous memory, memfds and SysV segments have one, in shmem."""
        return not self.inode and self.device == (0, 0)


class Areas(tuple[Area, ...]):
    """What was mapped in one program of a process, in order of address; `incarnation` says in which (io/target.py)."""

    incarnation: bytes = b""

    def within(self, low: int, high: int) -> "Areas":
        """Those that have bytes in [low, high)."""
        found = Areas(overlapping(self, low, high))
        found.incarnation = self.incarnation
        return found


_LINE = re.compile(
    rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([-r][-w][-x][sp]) ([0-9a-f]{1,16}) ([0-9a-f]+:[0-9a-f]+) (\d{1,20}) *(.*)$",
    re.MULTILINE,
)

_UNSEEN = 1 << 63
"""From here on (vsyscall) only the text tells: the query knows a process's own mappings alone."""


def parse(raw: bytes) -> list[Area]:
    """The lines of a maps file, in its order; lines that are none are left out."""
    devices: dict[bytes, tuple[int, int]] = {}
    texts: dict[bytes, str] = {}

    def device(text: bytes) -> tuple[int, int]:
        major, _, minor = text.partition(b":")
        return devices.setdefault(text, (int(major, 16), int(minor, 16)))

    def decoded(text: bytes) -> str:
        return texts.setdefault(text, os.fsdecode(text))

    make = tuple.__new__  # half the time of Area(...), which counts at 60,000 lines
    return [
        make(
            Area,
            (
                int(start, 16),
                int(end, 16),
                texts.get(permissions) or decoded(permissions),
                int(offset, 16),
                devices.get(numbers) or device(numbers),
                int(inode),
                texts.get(path) or decoded(path),
            ),
        )
        for start, end, permissions, offset, numbers, inode, path in _LINE.findall(raw)
    ]


def read_all(fd: int) -> bytes:
    """A file of /proc from its beginning: it gives some 4 KiB a call, whatever it is asked for."""
    pieces = []
    os.lseek(fd, 0, os.SEEK_SET)
    while piece := os.read(fd, 1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


# -- one address -----------------------------------------------------------------------------------------------------

_PROCMAP_QUERY = 0xC0686611  # _IOWR('f', 17, struct procmap_query)
_COVERING_OR_NEXT = 0x10
_QUERY = struct.Struct("=9Q4I2Q")  # struct procmap_query: 104 bytes
_NAME_SIZE = 4096  # PATH_MAX


def _permissions(flags: int) -> str:
    return "".join(
        (
            "r" if flags & 1 else "-",
            "w" if flags & 2 else "-",
            "x" if flags & 4 else "-",
            "s" if flags & 8 else "p",
        )
    )


_PERMISSIONS = [_permissions(flags) for flags in range(16)]


def query(fd: int, low: int, high: int) -> list[Area] | None:
    """The areas that touch [low, high), by a question for each; None where the kernel cannot be asked that way.

    Even 60,000 are had as soon as from the text. `fd` is an open maps file. Raises OSError (ESRCH: the address space
    is no more)."""
    if high > _UNSEEN:
        return None
    areas: list[Area] = []
    name = array("B", bytes(_NAME_SIZE))
    where = name.buffer_info()[0]
    argument = bytearray(_QUERY.size)
    while low < high:
        _QUERY.pack_into(
            argument, 0, _QUERY.size, _COVERING_OR_NEXT, low, 0, 0, 0, 0, 0, 0, 0, 0, _NAME_SIZE, 0, where, 0
        )
        try:
            fcntl.ioctl(fd, _PROCMAP_QUERY, argument)
        except OSError as error:
            if error.errno == errno.ENOENT:  # nothing from here on
                break
            if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ENAMETOOLONG, errno.EPERM):
                return None
            raise
        _, _, _, start, end, flags, _, offset, inode, major, minor, size, _, _, _ = _QUERY.unpack(argument)
        if start >= high or end <= low:
            break
        path = os.fsdecode(name[: max(0, size - 1)].tobytes()).replace("\n", "\\012") if size else ""
        areas.append(Area(start, end, _PERMISSIONS[flags & 15], offset, (major, minor), inode, path))
        low = end
    return areas


def overlapping(areas: Sequence[Area], low: int, high: int) -> list[Area]:
    """Those of sorted areas that have bytes in [low, high)."""
    first = bisect_right(areas, low, key=lambda area: area.end)
    return list(itertools.takewhile(lambda area: area.start < high, itertools.islice(areas, first, None)))


# -- comparing -------------------------------------------------------------------------------------------------------


def same_mapping(one: Area, other: Area) -> bool:
    """Whether two sights of one address may be one mapping, moved ends, split or protected otherwise in between.

    A file, which shared anonymous memory has, too: the same, at the same distance from the address. Other anonymous
    memory: as executable and as shared as it was, with a label of the same kind."""
    if (one.device, one.inode) != (other.device, other.inode):
        return False
    if one.is_anonymous:
        return one.permissions[2:] == other.permissions[2:] and _label(one.path) == _label(other.path)
    same_path = one.path == other.path or _is_named_file(one.path) or _is_named_file(other.path)
    return one.offset - one.start == other.offset - other.start and same_path


def _label(path: str) -> str:
    """[anon:NAME] is given and taken while the memory stays what it is."""
    return "" if path.startswith("[anon") else path


def _is_named_file(path: str) -> bool:
    """[anon_shmem:NAME] is given and taken as well, in place of /dev/zero, /memfd:NAME or another file of shmem that
    had been deleted when it was mapped (shmem_mmap)."""
    return path.startswith("[anon_shmem:")


def agree(before: Sequence[Area], after: Sequence[Area], low: int, high: int) -> int:
    """Up to which address of [low, high) two sights show the same mappings (and the same gaps)."""
    if before == after:
        return high
    first = second = 0
    while low < high:
        while first < len(before) and before[first].end <= low:
            first += 1
        while second < len(after) and after[second].end <= low:
            second += 1
        one = before[first] if first < len(before) else None
        other = after[second] if second < len(after) else None
        covers = one is not None and one.start <= low, other is not None and other.start <= low
        if covers[0] != covers[1] or (all(covers) and one and other and not same_mapping(one, other)):
            break
        edges = [edge for area in (one, other) if area for edge in (area.start, area.end) if edge > low]
        low = min([high, *edges])
    return low


def is_still(area: Area, now: Sequence[Area], low: int, high: int) -> bool:
    """Whether an area is what `now` shows in all of [low, high)."""
    return agree((area,), now, low, high) == high


Part = tuple[int, int, Area | None]
"""[start, end), and the area that is mapped there; None for a gap."""


def confine(areas: Sequence[Area], pins: Sequence[Area] | None, low: int, high: int) -> Iterator[Part]:
    """[low, high) in order, cut at the edges of what is mapped (and of the pins): the area, or None where nothing is
    mapped, or not what the pin there was."""
    if pins is None:
        for area in overlapping(areas, low, high) if low < high else ():
            if low < area.start:
                yield low, area.start, None
            yield max(low, area.start), min(high, area.end), area
            low = area.end
        if low < high:
            yield low, high, None
        return
    index = bisect_right(pins, low, key=lambda pin: pin.end)
    while low < high:
        pin = pins[index] if index < len(pins) else None
        if pin is None or low < pin.start:
            edge = min(high, pin.start) if pin else high
            yield low, edge, None
        else:
            edge = min(high, pin.end)
            for start, end, found in confine(overlapping(areas, low, edge), None, low, edge):
                yield start, end, found if found and same_mapping(found, pin) else None
            index += 1
        low = edge


def batches(parts: Iterator[Part], size: int) -> Iterator[list[Part]]:
    """Neighbours in groups that span at most so many bytes; larger ones alone."""
    batch: list[Part] = []
    for part in parts:
        if batch and part[1] - batch[0][0] > size:
            yield batch
            batch = []
        batch.append(part)
    if batch:
        yield batch
