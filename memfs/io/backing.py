"""The file behind a mapping of a live process: what a page that is not in its page table would be filled from.

Reading the file costs page cache and touches nothing of the process; a hole of shmem stays one. Only regular files
are ever opened: reading a device has effects."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence

from memfs.errors import from_os_error
from memfs.image import State
from memfs.io import mounts, native
from memfs.io.maps import Area, is_still, same_mapping
from memfs.io.pagemap import PAGE
from memfs.io.runs import Stretch

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_DEV_ZERO = os.makedev(1, 5)
_DELETED = " (deleted)"
_ASKED = 0.1  # seconds for the file of a mapping that is cut in pieces again and again: each time one in three is had


class Backing:
    """An open regular file, or (fd -1) what is known to be zero: /dev/zero, mapped privately. Thread-safe."""

    weight = 1

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def readinto(self, offset: int, view: memoryview, swapin: bool = True) -> int:
        """Fill `view` with what a mapping shows from `offset` on: zeros after the end of the file in its last page,
        nothing behind that page. Returns how many bytes. Raises MemfsError (EIO). Without `swapin` nothing is read
        that shmem has in swap."""
        if not swapin:
            view = view[: self._before_swap(offset, offset + len(view)) - offset]
        done = 0
        try:
            while self.fd >= 0 and done < len(view):
                got = os.preadv(self.fd, (view[done:],), offset + done)
                if not got:
                    break
                done += got
        except OSError as error:
            if error.errno == errno.EIO:
                raise from_os_error("", error, f"reading a mapped file at {offset + done:#x} failed") from error
            return done  # a file without reads (memfd_secret)
        if done < len(view):
            edge = len(view) if self.fd < 0 else min(len(view), _round_up(self._size()) - offset)
            if edge > done:
                view[done:edge] = bytes(edge - done)
                done = edge
        return done

    def _size(self) -> int:
        return os.fstat(self.fd).st_size if self.fd >= 0 else 0

    def runs(self, low: int, high: int, swapin: bool = True) -> Iterator[Stretch]:
        """The states of the mapped bytes [low, high) of the file: data, holes, and what lies behind its last page."""
        for start, end, state in self._stored(low, high):
            if state is not State.DATA or swapin or not self._is_shmem():
                yield start, end, state
            else:
                yield from self._in_memory(start, end)

    def _stored(self, low: int, high: int) -> Iterator[Stretch]:
        if self.fd < 0:
            yield low, high, State.ZERO
            return
        info = os.fstat(self.fd)
        edge = min(high, max(low, _round_up(info.st_size)))
        if info.st_blocks * 512 >= info.st_size:
            if edge > low:
                yield low, edge, State.DATA
        else:
            yield from self._sparse(low, edge)
        if edge < high:
            yield edge, high, State.ABSENT

    def _sparse(self, low: int, edge: int) -> Iterator[Stretch]:
        """SEEK_DATA and SEEK_HOLE, in whole pages; a filesystem that does not know them has data alone."""
        while low < edge:
            try:
                start = min(edge, os.lseek(self.fd, low, os.SEEK_DATA) & -PAGE)
                end = min(edge, _round_up(os.lseek(self.fd, max(low, start), os.SEEK_HOLE))) if start < edge else edge
            except OSError as error:
                start, end = (edge, edge) if error.errno == errno.ENXIO else (low, edge)
            start = max(low, start)
            if start > low:
                yield low, start, State.ZERO
            if end > start:
                yield start, end, State.DATA
            elif start < edge:  # the file changes under us
                yield start, edge, State.DATA
                return
            low = max(start, end)

    # -- shmem in swap: the page table of no process tells of it -------------------------------------------------------

    def _is_shmem(self) -> bool:
        return self.fd >= 0 and native.filesystem(self.fd) == native.TMPFS_MAGIC

    def _before_swap(self, low: int, high: int) -> int:
        """Where in [low, high) the first page in swap lies."""
        if not self._is_shmem():
            return high
        return next((start for start, _, state in self._in_memory(low, high) if state is State.ABSENT), high)

    def _in_memory(self, low: int, high: int) -> Iterator[Stretch]:
        """Pages of shmem by cachestat(2), halved until each part is all in memory or all in swap (absent)."""
        begin, end = low & -PAGE, _round_up(high)
        try:
            cached, evicted = native.cachestat(self.fd, begin, end - begin)
        except OSError:  # Linux before 6.5
            cached, evicted = (1, 0) if _nothing_is_swapped() else (0, 1)
        if not evicted:
            yield low, high, State.DATA
        elif not cached or end - begin == PAGE:
            yield low, high, State.ABSENT
        else:
            middle = begin + (end - begin) // PAGE // 2 * PAGE
            yield from self._in_memory(low, middle)
            yield from self._in_memory(middle, high)


def _nothing_is_swapped() -> bool:
    """Whether the machine has nothing in swap at all."""
    try:
        with open("/proc/meminfo", "rb") as file:
            rows = dict(line.split()[:2] for line in file)
        return rows[b"SwapTotal:"] == rows[b"SwapFree:"]
    except (OSError, KeyError, ValueError):
        return False


def _round_up(size: int) -> int:
    return (size + PAGE - 1) & -PAGE


class _Moved(Exception):
    """No mapping has these ends now."""


def open_mapped(directory: int, area: Area, between: Callable[[int, int], Sequence[Area]]) -> Backing | None:
    """The file of a mapping of /proc/PID (an open directory) that is still mapped when the file is open, so that it is
    the mapping's; None where it cannot be had. `between` gives what is mapped in a range now.

    It is found by the ends of a mapping. One that was cut in pieces meanwhile, or joined with its neighbour, has
    others, and the file is asked for again by these: each piece leads to it."""
    pieces: Sequence[Area] = (area,)
    until = time.monotonic() + _ASKED
    while True:
        moved = False
        for piece in pieces:
            try:
                backing = _open_backing(directory, piece)
            except _Moved:
                moved = True
                continue
            if backing:
                if is_still(piece, between(piece.start, piece.end), piece.start, piece.end):
                    return backing
                backing.close()
        if not moved or time.monotonic() > until:
            return None
        pieces = [piece for piece in between(area.start, area.end) if same_mapping(piece, area)]


def _open_backing(directory: int, area: Area) -> Backing | None:
    """The file of a mapping of /proc/PID (an open directory), or None where it cannot be had. Raises _Moved.

    map_files leads to it through any namespace, deleted or not, but asks for CAP_SYS_ADMIN or
    CAP_CHECKPOINT_RESTORE; without, the path below the root of the process, if that is still the same file. A file of
    a mount of memfs is never asked: it may wait for what it is asked for."""
    if mounts.is_memfs(area.device, directory):
        return None
    for node in _nodes(directory, area):
        try:
            backing = _readable(node, area)
        finally:
            os.close(node)
        if backing:
            return backing
    return None


def _nodes(directory: int, area: Area) -> Iterator[int]:
    """Descriptors (O_PATH: nothing is opened yet) of what may be the file. Raises _Moved where there is none, and no
    mapping with these ends: a link that is there, but not for us, is another refusal."""
    link = f"map_files/{area.start:x}-{area.end:x}"
    try:
        node = os.open(link, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        moved = _has_links(directory)
    except OSError:
        moved = False
    else:
        yield node
        return
    yield from _by_path(directory, area)
    if moved:
        raise _Moved


def _has_links(directory: int) -> bool:
    """Whether this kernel has map_files at all (CONFIG_CHECKPOINT_RESTORE before Linux 4.3)."""
    try:
        os.stat("map_files", dir_fd=directory)
    except OSError:
        return False
    return True


def _by_path(directory: int, area: Area) -> Iterator[int]:
    """The path below the root of the process, if that is still the same file."""
    if not area.path.startswith("/") or area.path.endswith(_DELETED):
        return
    for path in dict.fromkeys((area.path, area.path.replace("\\012", "\n"))):
        node = _path_only(directory, f"root{path}")
        if node is None:
            continue
        info = os.fstat(node)
        device = os.major(info.st_dev), os.minor(info.st_dev)
        if (device, info.st_ino) == (area.device, area.inode):
            yield node
        else:
            os.close(node)


def _path_only(directory: int, path: str) -> int | None:
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
    except (OSError, ValueError):
        return None


def _readable(node: int, area: Area) -> Backing | None:
    info = os.fstat(node)
    if stat.S_ISCHR(info.st_mode) and info.st_rdev == _DEV_ZERO and area.permissions.endswith("p"):
        return Backing(-1)
    if not stat.S_ISREG(info.st_mode) or area.path.startswith("anon_inode:"):
        return None
    for extra in (os.O_NOATIME, 0):  # the file's owner alone may ask for the first
        try:
            return Backing(os.open(f"/proc/self/fd/{node}", _FLAGS | extra))
        except PermissionError:
            continue
        except OSError:
            break
    return None
